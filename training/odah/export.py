"""From runs to a checkpoint for the package: ``python -m odah.export --run DIR --output
pose2sim_biokin/data/fast.pt``, or ``--weights FILE --refinement DIR`` to put a refinement behind exported
weights.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import torch

from odah.frozen import read_fit, read_refinement
from odah.loop import BEST, CHECKPOINT
from odah.settings import read_settings
from pose2sim_biokin.errors import BiokinError
from pose2sim_biokin.network.biokin import BiokinNetwork
from pose2sim_biokin.network.checkpoint import load_checkpoint, save_checkpoint
from pose2sim_biokin.skeleton import load_skeleton


def export_run(
    run: Path,
    output: Path,
    config: str | None,
    notes: dict,
    measured: dict | None,
    half: bool = True,
    best: bool = False,
) -> str:
    """Write the averaged weights of a run, with the refinement if there is one; returns the SHA-256.

    Args:
        run: of the encoder, or of encoder and refinement together.
        best: those of the best validation instead of the last ones.
    """
    settings = read_settings(config)
    state = torch.load(run / (BEST if best else CHECKPOINT), map_location="cpu", weights_only=True)
    refinement, fit = read_refinement(run), read_fit(run)
    joint = any(name.startswith("encoder.") for name in state["average"])
    size = settings.preset.refinement if joint else refinement and refinement[0]
    network = BiokinNetwork(replace(settings.preset, refinement=size, fit=fit and fit[0]), load_skeleton())
    if joint:
        network.load_state_dict(state["average"], strict=False)  # the fit, where there is one, follows
        refinement = None
    else:
        network.encoder.load_state_dict(state["average"])
    if fit:
        network.fit.load_state_dict(fit[1])
    if refinement:
        network.refiner.load_state_dict(refinement[1])
    record = {
        "training": {
            "steps": state["place"][0],
            "pairs": state["place"][3],
            "hours": round(state["elapsed_s"] / 3600, 3),
            "batch_size": state.get("batch_size", settings.batch_size),
            "learning_rate": settings.joint_learning_rate if joint else settings.learning_rate,
            "seed": settings.seed,
            "stage": "encoder and refinement together" if joint else "encoder",
            "initial": state.get("initial"),
            **({"blend": state["blend"]} if "blend" in state else {}),
            **notes,
        },
        "fit": fit and fit[2],
        "refinement": refinement and refinement[2],
        "measured": measured,
    }
    return save_checkpoint(network, output, record, half=half)


def export_refined(
    weights: str | Path, folder: Path, output: Path, notes: dict, measured: dict | None, half: bool = True
) -> str:
    """Write exported weights again, with the refinement of `folder` behind them; returns the SHA-256.

    Args:
        weights: checkpoint or "default"; its training record is kept.
        folder: where `odah.refine` wrote.
        notes: added to the refinement's record.
        measured: replaces what was measured of the weights.

    Raises:
        BiokinError: there is no refinement in the folder, or it was no better than the encoder alone.
    """
    loaded = load_checkpoint(weights)
    refinement = read_refinement(folder)
    if refinement is None:
        raise BiokinError(
            f"{folder}: no refinement that was kept (refiner.pt): run `odah.refine --weights {weights} "
            f"--output {folder}`, and see its refinement.json."
        )
    size, state, record = refinement
    network = BiokinNetwork(replace(loaded.network.preset, refinement=size), loaded.network.skeleton)
    network.encoder.load_state_dict(loaded.network.encoder.state_dict())
    if network.fit is not None:
        network.fit.load_state_dict(loaded.network.fit.state_dict())
    network.refiner.load_state_dict(state)
    whole = {**loaded.record, "refinement": {**record, **notes}, "measured": measured}
    return save_checkpoint(network, output, whole, half=half)


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m odah.export", description=__doc__.splitlines()[0])
    parser.add_argument("--config", help="experiment file (TOML)")
    parser.add_argument("--best", action="store_true", help="a run's weights of its best validation")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--run", type=Path, help="folder of the run")
    source.add_argument("--weights", help='exported weights ("default": the package\'s), with --refinement')
    parser.add_argument("--refinement", type=Path, help="folder that `odah.refine --weights` wrote to")
    parser.add_argument("--output", required=True, type=Path, help="the .pt file to write")
    parser.add_argument(
        "--notes", type=Path, help="JSON added to the record (with --weights: the refinement's): data, commit"
    )
    parser.add_argument("--measured", type=Path, help="evaluation.json of `odah.evaluate`")
    options = parser.parse_args(arguments)
    if (options.weights is None) != (options.refinement is None):
        parser.error("--weights and --refinement go together")
    notes, measured = (
        json.loads(path.read_text(encoding="utf-8")) if path else None
        for path in (options.notes, options.measured)
    )
    if options.run is not None:
        digest = export_run(
            options.run, options.output, options.config, notes or {}, measured, best=options.best
        )
    else:
        digest = export_refined(options.weights, options.refinement, options.output, notes or {}, measured)
    print(f"{options.output}: {options.output.stat().st_size / 1e6:.1f} MB, SHA-256 {digest}")


if __name__ == "__main__":
    main()
