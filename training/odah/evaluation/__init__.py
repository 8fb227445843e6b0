"""Measuring checkpoints and other programs' results against a truth."""
