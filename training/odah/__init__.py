"""Training of pose2sim_biokin: synthetic people whose bones follow an OpenSim model (ODAH)."""
