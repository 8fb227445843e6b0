"""Parametric bodies driven by the skeleton."""
