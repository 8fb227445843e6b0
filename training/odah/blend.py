"""Weights between those of a run and those it started from.

    python -m odah.blend --run runs/fast --weights default --share 0.7 --output runs/blend

A run that goes on from trained weights on other data learns something and forgets something; the straight
line between both often passes through better weights than either (Wortsman et al. 2022, "Robust fine-tuning
of zero-shot models"). Writes a run's folder that `odah.fit`, `odah.refine` and `odah.export` take.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor

from odah.loop import CHECKPOINT, save_atomically
from pose2sim_biokin.errors import BiokinError
from pose2sim_biokin.network.checkpoint import load_checkpoint
from pose2sim_biokin.network.presets import Preset, encoder_alone


def blended(first: dict[str, Tensor], second: dict[str, Tensor], share: float) -> dict[str, Tensor]:
    """share first + (1 - share) second, of states with the same names; counters are those of the first."""
    return {
        name: share * value + (1 - share) * second[name] if second[name].is_floating_point() else value
        for name, value in first.items()
    }


def blend_run(run: Path, weights: str, share: float, output: Path) -> None:
    """Write checkpoint.pt to `output`: the run's averaged encoder, blended with that of exported weights.

    Args:
        share: of the run, 0 to 1.

    Raises:
        BiokinError: the share is not between 0 and 1, the run is not an encoder's or has another preset than
            the weights, or there is a run in `output`.
    """
    if not 0 <= share <= 1:
        raise BiokinError(f"--share is {share:g}: expected 0 (the weights) to 1 (the run).")
    path = output / CHECKPOINT
    if path.exists():
        raise BiokinError(f"{path}: there is a run already; give another --output.")
    state = torch.load(run / CHECKPOINT, map_location="cpu", weights_only=True)
    loaded = load_checkpoint(weights)
    own = Preset.from_dict(state["preset"])
    found, wanted = (encoder_alone(preset) for preset in (own, loaded.network.preset))
    if "encoder" not in state or found != wanted:
        what = f"of preset {own.name!r}, of other sizes" if "encoder" in state else "of another stage"
        raise BiokinError(
            f"{run / CHECKPOINT}: expected a run of the encoder of {loaded.path} (preset {wanted.name!r}), "
            f"found one {what}. Weights can be blended with those of a run that started from them (odah "
            "train --initial)."
        )
    other = loaded.network.encoder.state_dict()
    blend = {"weights_sha256": loaded.sha256, "share_of_the_run": share}
    about = ("place", "elapsed_s", "preset", "batch_size", "initial")
    kept = {name: state[name] for name in about if name in state}
    output.mkdir(parents=True, exist_ok=True)
    save_atomically(kept | {"average": blended(state["average"], other, share), "blend": blend}, path)


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m odah.blend", description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, required=True, help="folder of the encoder's run")
    parser.add_argument("--weights", default="default", help="exported weights (default: the package's)")
    parser.add_argument("--share", type=float, required=True, help="of the run, 0 to 1")
    parser.add_argument("--output", type=Path, required=True, help="folder of the new run")
    options = parser.parse_args(arguments)
    blend_run(options.run, options.weights, options.share, options.output)
    print(f"{options.output / CHECKPOINT}: {options.share:g} of {options.run}, the rest {options.weights}")


if __name__ == "__main__":
    main()
