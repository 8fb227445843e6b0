"""Rendering of synthetic people."""
