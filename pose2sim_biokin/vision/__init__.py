"""Cameras, person masks, virtual crop cameras and points inside both masks."""
