"""From runs to a checkpoint for the package: ``python -m odah.export --run DIR --output
pose2sim_biokin/data/fast.pt``.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import torch

from odah.settings import read_settings
from pose2sim_biokin.network.biokin import BiokinNetwork
from pose2sim_biokin.network.checkpoint import save_checkpoint
from pose2sim_biokin.skeleton import load_skeleton


def export_run(
    run: Path, output: Path, config: str | None, notes: dict, measured: dict | None, half: bool = True
) -> str:
    """Write the averaged weights of a run, with the refinement if there is one; returns the SHA-256."""
    settings = read_settings(config)
    state = torch.load(run / "checkpoint.pt", map_location="cpu", weights_only=True)
    refiner = run / "refiner.pt"
    refinement = torch.load(refiner, weights_only=True) if refiner.is_file() else {}
    preset = settings.preset if refinement else replace(settings.preset, refinement=None)
    network = BiokinNetwork(preset, load_skeleton())
    network.encoder.load_state_dict(state["average"])
    if refinement:
        network.refiner.load_state_dict(refinement)
    record = {
        "training": {
            "steps": state["place"][0],
            "pairs": state["place"][3],
            "hours": round(state["elapsed_s"] / 3600, 3),
            "batch_size": settings.batch_size,
            "learning_rate": settings.learning_rate,
            "seed": settings.seed,
            **notes,
        },
        "refinement": json.loads((run / "refinement.json").read_text("utf-8")) if refinement else None,
        "measured": measured,
    }
    return save_checkpoint(network, output, record, half=half)


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m odah.export", description=__doc__.splitlines()[0])
    parser.add_argument("--config", help="experiment file (TOML)")
    parser.add_argument("--run", required=True, type=Path, help="folder of the run")
    parser.add_argument("--output", required=True, type=Path, help="the .pt file to write")
    parser.add_argument("--notes", type=Path, help="JSON added to the record: data, commit, machine")
    parser.add_argument("--measured", type=Path, help="evaluation.json of `odah.evaluate`")
    options = parser.parse_args(arguments)
    notes, measured = (
        json.loads(path.read_text(encoding="utf-8")) if path else None
        for path in (options.notes, options.measured)
    )
    digest = export_run(options.run, options.output, options.config, notes or {}, measured)
    print(f"{options.output}: {options.output.stat().st_size / 1e6:.1f} MB, SHA-256 {digest}")


if __name__ == "__main__":
    main()
