"""Sources of motion: joint-coordinate clips, recorded and procedural."""
