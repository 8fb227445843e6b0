"""Training of pose2sim_biokin: synthetic people whose bones follow an OpenSim model (ODAH)."""

INTERRUPTED = 130  # exit code of its commands after Ctrl+C, as shells have it
