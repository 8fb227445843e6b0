"""Train the temporal refinement behind a frozen encoder: ``python -m odah.refine --run DIR --train DIR
--output DIR``.

The encoder's poses over dense windows are worked out once, with the encoder's augmentation, and kept; the
refinement then trains on them alone. It is kept only if it lowers the validation error.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from odah.augment import Augmentation
from odah.dataset import FrameMaker, ShardSet, find_shards
from odah.losses import (
    LossWeights,
    constrained_loss,
    position_loss,
    range_loss,
    rotation_loss,
    scale_loss,
)
from odah.metrics import rotation_degrees, wrapped_degrees
from odah.settings import TrainSettings, read_settings
from odah.train import WeightAverage, save_atomically
from pose2sim_biokin.errors import BiokinError
from pose2sim_biokin.network.biokin import BiokinNetwork, FrameEncoder, Refiner
from pose2sim_biokin.network.heads import AngleLayout, Pose
from pose2sim_biokin.network.sequence import refine_windows, turn_pose
from pose2sim_biokin.skeleton import load_skeleton
from pose2sim_biokin.skeleton.angles import angles_to_coordinates, rotations_to_free_angles
from pose2sim_biokin.skeleton.kinematics import ForwardKinematics
from pose2sim_biokin.vision.canonical import ground_from_canonical_ground


class Windows(NamedTuple):
    """Windows of T frames: what the encoder said, and the truth; poses (W, T, ...) in the world's ground."""

    pose: Pose
    local: Tensor | None
    headings: Tensor
    truth: Pose

    def select(self, index) -> Windows:
        """Some windows."""
        return _map(lambda tensor: tensor[index], self)


def window_rows(shards: ShardSet, window: int) -> np.ndarray:
    """(W, window) rows of consecutive frames of one clip; clips that are longer give several windows."""
    clip, frame = shards.column("clip"), shards.column("frame")
    shard = np.repeat(np.arange(len(shards.counts)), shards.counts)
    rows, first = [], 0
    for i in range(1, len(clip) + 1):
        going = (
            i < len(clip)
            and (clip[i], shard[i]) == (clip[i - 1], shard[i - 1])
            and frame[i] == frame[i - 1] + 1
        )
        if not going:
            rows += [np.arange(s, s + window) for s in range(first, i - window + 1, window)]
            first = i
    if not rows:
        raise BiokinError(f"No clip has {window} consecutive frames: run `odah crops --dense`.")
    return np.stack(rows)


@torch.no_grad()
def encode_windows(
    encoder: FrameEncoder,
    shards: ShardSet,
    rows: np.ndarray,
    augmentation: Augmentation | None,
    seed: int,
    mixed: bool = False,
) -> Windows:
    """The encoder's poses of windows (W, T); sides and views are exchanged for whole windows, the rest
    by frame.
    """
    rng = np.random.default_rng(seed)
    encoder.eval()
    results = []
    for window in rows:
        variation = augmentation
        if augmentation is not None:
            mirror, swap = (rng.random(2) < (augmentation.mirror, augmentation.swap)).astype(float)
            variation = replace(augmentation, mirror=mirror, swap=swap)
        maker = FrameMaker(encoder.layout, encoder.preset.points.count, variation)
        batch, truth = maker(shards.rows(window), rng)
        with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
            out = encoder(batch)
        turn, origin = ground_from_canonical_ground(truth.frame)
        local = None if out.local is None else out.local[:, : 2 * encoder.layout.bodies]
        results.append(
            Windows(turn_pose(out.pose, turn, origin), local, turn, turn_pose(truth.pose, turn, origin))
        )
    return _stack(results)


def turned(windows: Windows, rng: torch.Generator) -> Windows:
    """The windows with random headings of the frame they are refined in, as if filmed from elsewhere."""
    angle = torch.rand(len(windows.headings), 1, generator=rng) * 2 * math.pi
    c, s, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
    turn = torch.stack([c, zero, s, zero, zero + 1, zero, -s, zero, c], -1).unflatten(-1, (3, 3))
    return windows._replace(headings=turn @ windows.headings)


def sequence_loss(
    refined: Pose,
    truth: Pose,
    layout: AngleLayout,
    kinematics: ForwardKinematics,
    weights: LossWeights,
    speed: float = 0.2,
) -> Tensor:
    """The frames' losses on refined windows, plus that of the change from frame to frame (per 1/60 s)."""
    scales = refined.scales.expand_as(truth.scales)
    loss = max(weights.constrained, weights.angle) * constrained_loss(refined.constrained, truth.constrained)
    loss = loss + weights.scale * scale_loss(scales, truth.scales)
    loss = loss + weights.range * range_loss(refined.constrained, layout.low, layout.high)
    loss = loss + max(weights.rotation, 1.0) * rotation_loss(refined.rotations, truth.rotations)
    if weights.position:
        with torch.no_grad():
            free = rotations_to_free_angles(truth.rotations, layout.skeleton)
        wanted, found = (
            kinematics.keypoints(
                kinematics(angles_to_coordinates(layout.join(free, a), layout.skeleton), s), s
            )
            for a, s in ((truth.constrained, truth.scales), (refined.constrained, scales))
        )
        loss = loss + weights.position * position_loss(found, wanted)
    if refined.pelvis is not None:
        loss = loss + weights.pelvis * (refined.pelvis - truth.pelvis).abs().mean()
        loss = (
            loss + weights.pelvis * speed * (_steps(refined.pelvis) - _steps(truth.pelvis)).abs().mean() * 10
        )
    change = (_steps(refined.constrained) - _steps(truth.constrained)).abs().mean()
    turning = (_steps(refined.rotations) - _steps(truth.rotations)).abs().mean()
    return loss + speed * 10 * (weights.constrained * change + weights.rotation * turning)


def sequence_errors(pose: Pose, truth: Pose) -> dict[str, float]:
    """Means over windows: degrees of the 17 angles and of the free joints, mm of the pelvis, jitter of
    the angles.
    """
    errors = {
        "constrained_deg": wrapped_degrees(pose.constrained, truth.constrained).mean().item(),
        "rotation_deg": rotation_degrees(pose.rotations, truth.rotations).mean().item(),
        "scale": (pose.scales - truth.scales).abs().mean().item(),
        "angle_speed_error_deg_s": (
            wrapped_degrees(_steps(pose.constrained), _steps(truth.constrained)).mean().item() * 60
        ),
    }
    if pose.pelvis is not None:
        errors["pelvis_mm"] = 1000 * (pose.pelvis - truth.pelvis).norm(dim=-1).mean().item()
    return errors


def train_refiner(
    refiner: Refiner,
    train: Sequence[Windows],
    validation: Windows,
    settings: TrainSettings,
    minutes: float,
    log=print,
) -> tuple[dict[str, Tensor], dict, dict]:
    """Train on several encodings of the same windows; returns the best state, its errors, and the
    encoder's.
    """
    kinematics = ForwardKinematics(refiner.layout.skeleton)
    optimizer = torch.optim.AdamW(
        refiner.parameters(), lr=settings.refine_learning_rate, betas=settings.betas, weight_decay=0.05
    )
    average = WeightAverage(refiner, 0.99)
    rng = torch.Generator().manual_seed(settings.seed)
    before = sequence_errors(validation.pose, validation.truth)
    log(f"[refine] encoder alone: {before}")
    best, best_state, best_errors = math.inf, None, {}
    began, step, checked = time.monotonic(), 0, 0.0
    while True:
        progress = (time.monotonic() - began) / (60 * minutes)
        if progress - checked > 0.1 or progress >= 1:
            checked = progress
            errors = validate_refiner(refiner, average.state, validation)
            log(f"[refine] step {step}, {100 * progress:.0f} %: {errors}")
            score = errors["constrained_deg"] + 0.5 * errors["rotation_deg"]
            if score < best:
                best, best_errors = score, errors
                best_state = {name: value.clone() for name, value in average.state.items()}
        if progress >= 1:
            return best_state, best_errors, before
        rate = settings.refine_learning_rate * min(1, (step + 1) / 50)
        for group in optimizer.param_groups:
            group["lr"] = rate * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * progress)))
        source = train[int(torch.randint(len(train), (1,), generator=rng))]
        index = torch.randint(len(source.headings), (settings.refine_batch,), generator=rng)
        batch = turned(source.select(index), rng)
        refiner.train()
        refined = refine_windows(refiner, batch.pose, batch.local, batch.headings)
        loss = sequence_loss(refined, batch.truth, refiner.layout, kinematics, settings.weights)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(refiner.parameters(), settings.clip)
        optimizer.step()
        average.update(refiner)
        step += 1


@torch.no_grad()
def validate_refiner(refiner: Refiner, state: dict[str, Tensor], windows: Windows) -> dict[str, float]:
    """Errors with the given weights; the refiner's own are put back."""
    kept = {name: value.clone() for name, value in refiner.state_dict().items()}
    refiner.load_state_dict(state)
    refiner.eval()
    refined = [
        refine_windows(refiner, part.pose, part.local, part.headings)
        for part in (windows.select(slice(i, i + 16)) for i in range(0, len(windows.headings), 16))
    ]
    refiner.load_state_dict(kept)
    pose = Pose(*(None if p[0] is None else torch.cat(p) for p in zip(*refined, strict=True)))
    return sequence_errors(pose._replace(scales=pose.scales.expand_as(windows.truth.scales)), windows.truth)


def _steps(values: Tensor) -> Tensor:
    return values[:, 1:] - values[:, :-1]


def _map(function, value):
    if value is None:
        return None
    if isinstance(value, Tensor):
        return function(value)
    return type(value)(*(_map(function, part) for part in value))


def _stack(values):
    if values[0] is None:
        return None
    if isinstance(values[0], Tensor):
        return torch.stack(values)
    return type(values[0])(*(_stack(parts) for parts in zip(*values, strict=True)))


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m odah.refine", description=__doc__.splitlines()[0])
    parser.add_argument("--config", help="experiment file (TOML), the encoder's")
    parser.add_argument("--run", required=True, help="folder of the encoder's run")
    parser.add_argument("--train", nargs="+", required=True, help="folders of dense training shards")
    parser.add_argument("--validation", nargs="+", required=True, help="folders of dense validation shards")
    parser.add_argument(
        "--minutes", type=float, default=8, help="of training (default 8), encoding not counted"
    )
    parser.add_argument("--windows", type=int, help="at most so many training windows")
    parser.add_argument("--threads", type=int, help="CPU threads")
    options = parser.parse_args(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    settings = read_settings(options.config)
    torch.manual_seed(settings.seed)
    run = Path(options.run)
    network = BiokinNetwork(settings.preset, load_skeleton())
    network.encoder.load_state_dict(torch.load(run / "checkpoint.pt", weights_only=True)["average"])
    augmentation = Augmentation(network.skeleton, **settings.augmentation)
    window = settings.preset.refinement.window
    data, held_out = ShardSet(find_shards(options.train)), ShardSet(find_shards(options.validation))
    rows = window_rows(data, window)
    if options.windows:
        rows = rows[np.linspace(0, len(rows) - 1, min(options.windows, len(rows))).round().astype(int)]
    print(f"[refine] encoding {len(rows)} windows {settings.refine_passes} times", flush=True)
    train = [
        encode_windows(
            network.encoder, data, rows, augmentation, settings.seed + i, settings.precision == "bf16-mixed"
        )
        for i in range(settings.refine_passes)
    ]
    validation = encode_windows(network.encoder, held_out, window_rows(held_out, window), None, settings.seed)
    state, after, before = train_refiner(
        network.refiner, train, validation, settings, options.minutes, lambda text: print(text, flush=True)
    )
    better = after["constrained_deg"] < before["constrained_deg"]
    record = {
        "before": before,
        "after": after,
        "windows": len(rows),
        "minutes": options.minutes,
        "kept": better,
    }
    (run / "refinement.json").write_text(json.dumps(record, indent=1), encoding="utf-8")
    save_atomically(state if better else {}, run / "refiner.pt")
    print(
        f"[refine] {'kept' if better else 'no better than the encoder alone: left out'}: {record}", flush=True
    )


if __name__ == "__main__":
    main()
