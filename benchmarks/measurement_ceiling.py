"""What limits the angles: what single frames would gain if a part of what the network measures were true.

The fit of the skeleton (`pose2sim_biokin.network.fit`) weighs the head's pose, keypoints and turns of hands.
Here some of them are replaced by the truth of validation pairs, with little doubt, and the fit is made again.
All frames count alike (FitSize.usual): keypoints that are known must not be mistrusted because the head errs.

    python benchmarks/measurement_ceiling.py CACHE --weights default
"""

from __future__ import annotations

import argparse
from dataclasses import replace

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from odah.dataset import ShardSet, find_shards
from odah.fit import Answers, answers
from odah.metrics import Errors
from pose2sim_biokin.errors import BiokinError
from pose2sim_biokin.network.checkpoint import load_checkpoint
from pose2sim_biokin.network.hands import across

DOUBT_M = 0.002  # of a keypoint that is known
SURE = 150.0  # concentration of a hand's turn that is known: 5 degrees
ARM, LEG = ("ulna", "radius", "hand"), ("tibia", "patella", "talus", "calcn", "toes")
GROUPS = {"elbows": "elbow_flex", "forearms": "pro_sup", "hip rotation": "hip_rotation"}


def with_bodies(seen: Answers, names: list[str], bodies: tuple[str, ...]) -> Answers:
    """Joint and mass centres of both sides' `bodies` are known."""
    index = [names.index(f"{body}_{side}") for body in bodies for side in "rl"]
    index += [len(names) + i for i in index]
    return known_keypoints(seen, index)


def known_keypoints(seen: Answers, index: list[int]) -> Answers:
    """The keypoints of these indices are known."""
    keypoints, doubt = seen.keypoints.clone(), seen.doubt.clone()
    keypoints[:, index], doubt[:, index] = seen.wanted[:, index], DOUBT_M
    return seen._replace(keypoints=keypoints, doubt=doubt)


def with_hands(seen: Answers, chosen: torch.Tensor) -> Answers:
    """The turns of the hands `chosen` (n, 2) are known."""
    hands, true = seen.hands, across(seen.sides, seen.hands.axis)
    direction = torch.where(chosen[..., None], true, hands.direction)
    concentration = torch.where(chosen, SURE, hands.concentration)
    return seen._replace(hands=hands._replace(direction=direction, concentration=concentration))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cache", nargs="+", help="folders of validation shards (odah crops)")
    parser.add_argument("--weights", default="default", help="(default: the package's)")
    args = parser.parse_args()
    loaded = load_checkpoint(args.weights)
    network = loaded.network
    if network.fit is None or network.preset.hands.channels == 0 or network.preset.look.width == 0:
        raise BiokinError(f"{loaded.path}: without the fit, hands or doubts there is nothing to replace.")
    network.fit.size = replace(network.fit.size, usual=0.0)
    seen = answers(network.encoder, ShardSet(find_shards(args.cache)))
    names = list(network.skeleton.body_names)
    hidden = seen.hands.concentration < seen.hands.concentration.quantile(0.25)
    every = torch.ones_like(hidden)
    arms = with_bodies(seen, names, ARM)
    cases = {
        "as it is": seen,
        "knees and feet known": with_bodies(seen, names, LEG),
        "turns of the hands known": with_hands(seen, every),
        "only of the quarter of them that are least sure": with_hands(seen, hidden),
        "elbows and wrists known": arms,
        "elbows, wrists and turns of the hands known": with_hands(arms, every),
        "all keypoints known": known_keypoints(seen, list(range(seen.keypoints.shape[1]))),
    }
    table = Table(title=f"{len(seen.keypoints)} pairs, single frames, degrees and mm")
    for column in ("", "17 angles", *GROUPS, "PA-MPJPE"):
        table.add_column(column)
    for name, case in cases.items():
        errors = Errors(network.layout)
        errors.add(network.fit(case.pose, case.keypoints, case.hands, case.doubt), case.truth)
        summary = errors.summary()
        found = summary["constrained_deg"]
        groups = [np.mean([found[f"{angle}_{side}"] for side in "rl"]) for angle in GROUPS.values()]
        row = [f"{value:.1f}" for value in (*groups, summary["pa_mpjpe_mm"])]
        table.add_row(name, f"{summary['constrained_mae_deg']:.2f}", *row)
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
