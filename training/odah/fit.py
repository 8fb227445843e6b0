"""Measure what the skeleton's fit to the keypoints trusts: ``python -m odah.fit --run DIR --validation DIR``.

On half of the validation subjects the errors of keypoints and of the head's pose are measured; on the other
half the strength of the fit is chosen, and the errors with and without it are printed. Writes fit.pt and
fit.json; the fit is left out if it is no better. `odah.refine` and `odah.export` find it in the run's folder.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from odah.dataset import FrameMaker, ShardSet, find_shards, ordered_batches
from odah.frozen import encoder_parser, frozen_encoder, read_options
from odah.metrics import Errors, hand_degrees
from odah.settings import read_settings
from pose2sim_biokin.errors import BiokinError
from pose2sim_biokin.io.atomic import OutputSet
from pose2sim_biokin.network.biokin import FrameEncoder, keypoint_count
from pose2sim_biokin.network.ensemble import PLAIN, VARIANTS, Variant, ask
from pose2sim_biokin.network.fit import PoseFit
from pose2sim_biokin.network.hands import HandDirections, across, wrist_sides
from pose2sim_biokin.network.heads import AngleLayout, Pose
from pose2sim_biokin.network.presets import FitSize

_MEDIAN = 0.6745  # of a normal error's absolute value, in standard deviations
STRENGTHS = (1.0, 3.0, 10.0, 30.0, 100.0)


class Answers(NamedTuple):
    """What an encoder said of n pairs, and the truth: poses (n,), keypoints (n, K, 3), m, subjects (n,).

    The true `sides` (n, 2, 3) of the wrists, see `wrist_sides`, belong to `hands`, `doubt` (n, K), m, to the
    keypoints.
    """

    pose: Pose
    keypoints: Tensor
    hands: HandDirections | None
    doubt: Tensor | None
    truth: Pose
    wanted: Tensor
    sides: Tensor
    subject: np.ndarray

    def select(self, rows: np.ndarray) -> Answers:
        """Some pairs."""
        rows = torch.from_numpy(np.flatnonzero(rows))
        pose, truth = (Pose(*(value[rows] for value in pose)) for pose in (self.pose, self.truth))
        hands = self.hands and HandDirections(*(value[rows] for value in self.hands))
        doubt = None if self.doubt is None else self.doubt[rows]
        wanted, sides = self.wanted[rows], self.sides[rows]
        return Answers(
            pose, self.keypoints[rows], hands, doubt, truth, wanted, sides, self.subject[rows.numpy()]
        )


@torch.no_grad()
def answers(encoder: FrameEncoder, shards: ShardSet, variants: Sequence[Variant] = VARIANTS) -> Answers:
    """The encoder's answers to all pairs; by default asked as in use."""
    encoder.eval()
    maker = FrameMaker(encoder.layout, encoder.preset.points.in_use)
    parts = []
    for batch, truth in ordered_batches(shards, maker, 32):
        out = ask(encoder, batch, variants)
        if out.keypoints is None or out.pose.pelvis is None:
            raise BiokinError(
                f"preset {encoder.preset.name!r} predicts no keypoints or no pelvis: nothing to fit to."
            )
        wanted = truth.keypoints[:, : out.keypoints.shape[1]]
        sides = wrist_sides(truth.keypoints, encoder.layout.skeleton)
        parts.append((out.pose, out.keypoints, out.hands, out.doubt, truth.pose, wanted, sides))
    pose, keypoints, hands, doubt, truth, wanted, sides = zip(*parts, strict=True)
    pose, truth = (Pose(*map(torch.cat, zip(*part, strict=True))) for part in (pose, truth))
    hands = hands[0] and HandDirections(*map(torch.cat, zip(*hands, strict=True)))
    doubt = None if doubt[0] is None else torch.cat(doubt)
    keypoints, wanted, sides = (torch.cat(part) for part in (keypoints, wanted, sides))
    return Answers(pose, keypoints, hands, doubt, truth, wanted, sides, shards.column("subject"))


def calibrated(fit: PoseFit, seen: Answers) -> PoseFit:
    """The fit with standard deviations, and what is usual, as measured."""
    error = seen.keypoints - seen.wanted
    if seen.doubt is not None:
        error = error / seen.doubt[..., None]
    fit.keypoint_sigma.copy_(error.square().mean((0, 2)).sqrt())
    usual = fit.disagreement(seen.pose, seen.keypoints, seen.doubt).median()
    fit.size = replace(fit.size, usual=float(usual))
    fit.pose_sigma.copy_(fit.difference(seen.pose, seen.truth).square().mean(0).sqrt())
    if seen.hands is not None:
        away = seen.hands.direction - across(seen.sides, seen.hands.axis)
        # by the median: hidden hands are often quite wrong, which Huber's loss takes care of
        fit.hand_sigma.copy_((seen.hands.concentration.sqrt() * away.norm(dim=-1)).median() / _MEDIAN)
    return fit


def errors_of(layout: AngleLayout, fit: PoseFit | None, seen: Answers) -> dict[str, float]:
    """Mean errors of the head's poses, or of the fitted ones."""
    errors = Errors(layout)
    errors.add(
        seen.pose if fit is None else fit(seen.pose, seen.keypoints, seen.hands, seen.doubt), seen.truth
    )
    summary = errors.summary()
    found = {name: summary[name] for name in ("constrained_mae_deg", "pa_mpjpe_mm", "pelvis_mm")}
    found["pronation_deg"] = float(np.mean([summary["constrained_deg"][f"pro_sup_{side}"] for side in "rl"]))
    return found


def measure_fit(encoder: FrameEncoder, shards: ShardSet) -> tuple[PoseFit, dict]:
    """The calibrated fit of the best strength, and the record of how it was found.

    Raises:
        BiokinError: the network predicts no keypoints, or the data have fewer than two subjects.
    """
    seen = answers(encoder, shards)
    subjects = np.unique(seen.subject)
    if len(subjects) < 2:
        raise BiokinError(f"Validation data of {len(subjects)} subject(s); expected at least two, to split.")
    first = np.isin(seen.subject, subjects[::2])
    known, other = seen.select(first), seen.select(~first)
    count = keypoint_count(encoder.preset, encoder.layout.skeleton)
    hands = seen.hands is not None
    found = {}
    for strength in STRENGTHS:
        fit = calibrated(PoseFit(FitSize(strength=strength), encoder.layout, count, hands), known)
        found[strength] = errors_of(encoder.layout, fit, other)
    best = min(found, key=lambda strength: found[strength]["constrained_mae_deg"])
    head = errors_of(encoder.layout, None, other)
    once = answers(encoder, shards, [PLAIN])
    fit = calibrated(PoseFit(FitSize(strength=best), encoder.layout, count, hands), once.select(first))
    looked = {"asked_once": errors_of(encoder.layout, fit, once.select(~first))}
    told = {part for part in ("hands", "doubt") if getattr(seen, part) is not None}
    for name, parts in (("keypoints_alone", {"hands", "doubt"}), ("without_doubt", {"doubt"})):
        what = dict.fromkeys(parts & told)
        if what and (name == "keypoints_alone" or what.keys() < told):
            blind, unseen = (part._replace(**what) for part in (known, other))
            fit = PoseFit(FitSize(strength=best), encoder.layout, count, unseen.hands is not None)
            looked[name] = errors_of(encoder.layout, calibrated(fit, blind), unseen)
    if hands:
        looked["hands_deg"] = hand_degrees(other.hands, other.sides).mean().item()
    record = {
        **looked,
        "pairs": len(first),
        "measured_on_pairs": int(first.sum()),
        "head": head,
        "strengths": {f"{strength:g}": errors for strength, errors in found.items()},
        "chosen": best,
        "kept": found[best]["constrained_mae_deg"] < head["constrained_mae_deg"],
    }
    return calibrated(PoseFit(FitSize(strength=best), encoder.layout, count, hands), seen), record


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    options = read_options(encoder_parser("odah.fit", __doc__, "the fit"), arguments)
    network = frozen_encoder(options.run, options.weights, read_settings(options.config).preset)
    fit, record = measure_fit(network.encoder, ShardSet(find_shards(options.validation)))
    folder = options.output
    folder.mkdir(parents=True, exist_ok=True)
    with OutputSet() as outputs:
        outputs.stage(folder / "fit.json").write_text(json.dumps(record, indent=1), encoding="utf-8")
        state = fit.state_dict() if record["kept"] else {}
        torch.save({"size": asdict(fit.size), "state": state}, outputs.stage(folder / "fit.pt"))
        outputs.commit()
    print(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
