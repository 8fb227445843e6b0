"""Files in and out: projects, calibrations, videos, OpenSim and motion-capture formats."""
