"""Clothes, lights and cameras of a synthetic scene."""
