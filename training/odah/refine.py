"""Train the temporal refinement behind a frozen encoder: ``python -m odah.refine --run DIR --train DIR
--validation DIR``, or ``--weights FILE --output DIR`` for an encoder that has been exported.

The encoder's poses over dense windows are worked out once, with the encoder's augmentation, and kept on disk;
the refinement then trains on them alone. It is kept only if its validation error is lower than that of the
encoder alone and that of a low-pass filter.
"""

from __future__ import annotations

import json
import math
import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from scipy.signal import butter, filtfilt
from torch import Tensor

from odah.augment import Augmentation
from odah.dataset import ShardSet, find_shards
from odah.frozen import encoder_parser, frozen_encoder, read_options
from odah.losses import (
    LossWeights,
    constrained_loss,
    posed_keypoints,
    position_loss,
    range_loss,
    rotation_loss,
    scale_loss,
)
from odah.metrics import rotation_degrees, wrapped_degrees
from odah.settings import TrainSettings, read_settings, with_backdrops
from odah.stages import cached_folders
from odah.weight_average import WeightAverage
from odah.windows import Windows, encode_windows, join_windows, middle, shortened, varied, window_rows
from pose2sim_biokin.errors import BiokinError
from pose2sim_biokin.io.atomic import OutputSet
from pose2sim_biokin.network.biokin import BiokinNetwork, Refiner
from pose2sim_biokin.network.heads import AngleLayout, Pose
from pose2sim_biokin.network.sequence import refine_windows
from pose2sim_biokin.skeleton.kinematics import ForwardKinematics
from pose2sim_biokin.skeleton.rotations import matrix_to_sixd, sixd_to_matrix


def sequence_loss(
    refined: Pose,
    truth: Pose,
    layout: AngleLayout,
    kinematics: ForwardKinematics,
    weights: LossWeights,
    speed: float = 0.2,
) -> Tensor:
    """The frames' losses on refined windows, plus that of the change from frame to frame (per 1/60 s).

    L_pos is that of whole poses: errors of a free joint and of those behind it that make up for each other
    cost less than others.
    """
    scales = refined.scales.expand_as(truth.scales)
    loss = max(weights.constrained, weights.angle) * constrained_loss(refined.constrained, truth.constrained)
    loss = loss + weights.scale * scale_loss(scales, truth.scales)
    loss = loss + weights.range * range_loss(refined.constrained, layout.low, layout.high)
    loss = loss + max(weights.rotation, 1.0) * rotation_loss(refined.rotations, truth.rotations)
    if weights.position:
        # Neighbouring frames say nearly the same, and this term costs the most.
        few = slice(None, None, 4)
        found, wanted = (
            posed_keypoints(Pose(*(part[:, few] for part in pose[:3]), None), kinematics, layout)
            for pose in (refined._replace(scales=scales), truth)
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


def sequence_errors(pose: Pose, truth: Pose, rate: float) -> dict[str, float]:
    """Means over windows (W, T) of `rate` Hz: degrees of the 17 angles and of the free joints, mm of the
    pelvis, scales, and the error of the angles' speed (their jitter).
    """
    errors = {
        "constrained_deg": wrapped_degrees(pose.constrained, truth.constrained).mean().item(),
        "rotation_deg": rotation_degrees(pose.rotations, truth.rotations).mean().item(),
        "scale": (pose.scales - truth.scales).abs().mean().item(),
        "angle_speed_error_deg_s": (
            wrapped_degrees(_steps(pose.constrained), _steps(truth.constrained)).mean().item() * rate
        ),
    }
    if pose.pelvis is not None:
        errors["pelvis_mm"] = 1000 * (pose.pelvis - truth.pelvis).norm(dim=-1).mean().item()
    return errors


def low_pass(pose: Pose, rate: float, cutoff: float = 6.0, order: int = 4) -> Pose:
    """Windows (W, T) through a Butterworth filter, forwards and backwards (the order is that of both passes):
    what a refinement must beat. Rotations by their 6D vectors; scales are the mean over the window.
    """
    b, a = butter(order // 2, cutoff / (rate / 2))

    def smooth(values: Tensor) -> Tensor:
        return torch.from_numpy(filtfilt(b, a, values.numpy(), axis=1).astype(np.float32))

    return Pose(
        sixd_to_matrix(smooth(matrix_to_sixd(pose.rotations))),
        smooth(pose.constrained),
        pose.scales.mean(1, keepdim=True).expand_as(pose.scales),
        None if pose.pelvis is None else smooth(pose.pelvis),
    )


def train_refiner(
    refiner: Refiner,
    train: Windows,
    validation: Windows,
    settings: TrainSettings,
    minutes: float,
    log=print,
) -> tuple[dict[str, Tensor], dict]:
    """Train for some minutes; returns the state with the lowest validation error, and steps and errors."""
    kinematics = ForwardKinematics(refiner.layout.skeleton)
    optimizer = torch.optim.AdamW(
        refiner.parameters(), lr=settings.refine_learning_rate, betas=settings.betas, weight_decay=0.05
    )
    weights = replace(settings.weights, position=settings.weights.position * settings.refine_position)
    average = WeightAverage(refiner, 0.99)
    rng = torch.Generator().manual_seed(settings.seed)
    rate, truth = refiner.size.rate, validation.truth
    errors = {
        "encoder": sequence_errors(validation.pose, truth, rate),
        "low_pass_6_hz": sequence_errors(low_pass(validation.pose, rate), truth, rate),
    }
    for name, values in errors.items():
        log(f"[refine] {name}: {_short(values)}")
    best, best_state = math.inf, {}
    began, step, checked, running = time.monotonic(), 0, 0.0, 0.0
    while True:
        progress = (time.monotonic() - began) / (60 * minutes)
        if progress - checked > 0.1 or progress >= 1:
            checked = progress
            found = validate_refiner(refiner, average.state, validation)
            log(f"[refine] step {step}, {100 * progress:.0f} %, loss {running:.4f}: {_short(found)}")
            # the angles overfit first: what is kept must not be worse at them than a plain filter
            if found["constrained_deg"] < best:
                best, errors["refined"], errors["best_step"] = found["constrained_deg"], found, step
                best_state = {name: value.clone() for name, value in average.state.items()}
        if progress >= 1:
            refiner.load_state_dict(best_state)
            return best_state, {"steps": step, **errors, "short": short_errors(refiner, validation)}
        rate_now = settings.refine_learning_rate * min(1, (step + 1) / 50)
        for group in optimizer.param_groups:
            group["lr"] = rate_now * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * progress)))
        index = torch.randint(len(train.headings), (settings.refine_batch,), generator=rng)
        batch = varied(train.select(index), refiner.layout.skeleton, rng)
        batch = shortened(batch, settings.refine_short, rng)
        refiner.train()
        refined = refine_windows(refiner, batch.pose, batch.local, batch.headings)
        loss = sequence_loss(refined, batch.truth, refiner.layout, kinematics, weights)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(refiner.parameters(), settings.clip)
        optimizer.step()
        average.update(refiner)
        running = loss.item() if step == 0 else 0.98 * running + 0.02 * loss.item()
        step += 1


@torch.no_grad()
def validate_refiner(refiner: Refiner, state: dict[str, Tensor], windows: Windows) -> dict[str, float]:
    """Errors with the given weights; the refiner's own are put back."""
    kept = {name: value.clone() for name, value in refiner.state_dict().items()}
    refiner.load_state_dict(state)
    refined = refine_all(refiner, windows)
    refiner.load_state_dict(kept)
    return sequence_errors(refined, windows.truth, refiner.size.rate)


def short_errors(refiner: Refiner, windows: Windows, frames: int = 20) -> dict:
    """Errors in the windows' middle `frames`: refined as part of the whole windows, and as if there were no
    others.
    """
    frames = min(frames, refiner.size.window)
    cut, part = middle(windows, frames)
    truth = _part(windows.truth, part)
    found = {
        name: sequence_errors(_part(refine_all(refiner, shown), part), truth, refiner.size.rate)
        for name, shown in (("in_whole_windows", windows), ("alone", cut))
    }
    return {"frames": frames, **found}


@torch.no_grad()
def refine_all(refiner: Refiner, windows: Windows) -> Pose:
    """Refined poses (W, T) of all windows; their scales are the same in all frames of a window."""
    refiner.eval()
    refined = [
        refine_windows(refiner, part.pose, part.local, part.headings)
        for part in (windows.select(slice(i, i + 16)) for i in range(0, len(windows.headings), 16))
    ]
    pose = Pose(*(None if p[0] is None else torch.cat(p) for p in zip(*refined, strict=True)))
    return pose._replace(scales=pose.scales.expand_as(windows.truth.scales))


def _part(pose: Pose, frames: slice) -> Pose:
    return Pose(*(None if value is None else value[:, frames] for value in pose))


def _steps(values: Tensor) -> Tensor:
    return values[:, 1:] - values[:, :-1]


def _short(errors: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.3f}" for name, value in errors.items())


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = encoder_parser("odah.refine", __doc__, "the refinement")
    parser.add_argument(
        "--train", nargs="+", required=True, help="folders of dense shards, and data sets of clips"
    )
    parser.add_argument(
        "--minutes",
        type=float,
        default=8,
        help="of training (default 8) after encoding; 0: encode only",
    )
    parser.add_argument("--backdrops", help="file of `odah backdrops`, behind the people of caches")
    parser.add_argument(
        "--keep-anyway", action="store_true", help="also if it is no better than encoder and low-pass filter"
    )
    parser.add_argument("--windows", type=int, help="at most so many training windows")
    options = read_options(parser, arguments)
    settings = with_backdrops(read_settings(options.config), options.backdrops)
    if settings.preset.refinement is None:
        raise BiokinError(f"{options.config}: the preset has no refinement; there is nothing to train.")
    torch.manual_seed(settings.seed)
    output = options.output
    network = frozen_encoder(options.run, options.weights, settings.preset)
    refine(
        network,
        [
            ShardSet(find_shards(cached_folders(folders, split, output, settings, dense=True)))
            for folders, split in ((options.train, "train"), (options.validation, "val"))
        ],
        settings,
        output,
        options.minutes,
        options.windows,
        options.keep_anyway,
    )


def refine(
    network: BiokinNetwork,
    data: list[ShardSet],
    settings: TrainSettings,
    output: Path,
    minutes: float,
    limit: int | None = None,
    anyway: bool = False,
) -> None:
    """Encode training and validation windows (where that has not been done), train, and write refiner.pt and
    refinement.json to `output`. A refinement that is no better than encoder and low-pass filter is left out:
    refiner.pt then has no weights.

    Args:
        network: see `frozen_encoder`.
        data: for training and for validation.
        minutes: of training; 0: only encode.
        limit: at most so many training windows, spread evenly.
        anyway: it is not left out.
    """
    augmentation = Augmentation(network.skeleton, **settings.augmentation)
    rows, held_out = (window_rows(shards, settings.preset.refinement.window) for shards in data)
    if limit:
        rows = rows[np.linspace(0, len(rows) - 1, min(limit, len(rows))).round().astype(int)]

    def log(text: str) -> None:
        print(text, flush=True)

    folder, mixed = output / "encoded", settings.precision == "bf16-mixed"
    validation = encode_windows(network, data[1], held_out, None, settings.seed, folder, log=log)
    train = join_windows(
        [
            encode_windows(network, data[0], rows, augmentation, settings.seed + i, folder, mixed, log)
            for i in range(settings.refine_passes)
        ]
    )
    if minutes <= 0:
        return
    network.refiner.requires_grad_(True)
    state, record = train_refiner(network.refiner, train, validation, settings, minutes, log)
    refined = record["refined"]
    others = (record[name]["constrained_deg"] for name in ("encoder", "low_pass_6_hz"))
    better = refined["constrained_deg"] < min(others)
    keep = better or anyway
    size = asdict(settings.preset.refinement)
    about = {
        "windows": len(rows),
        "validation_windows": len(held_out),
        "passes": settings.refine_passes,
        "minutes": minutes,
        "batch_size": settings.refine_batch,
        "learning_rate": settings.refine_learning_rate,
        "position_factor": settings.refine_position,
        "shortened": settings.refine_short,
        "seed": settings.seed,
        "better": better,
        "kept": keep,
        **record,
    }
    with OutputSet() as outputs:
        outputs.stage(output / "refinement.json").write_text(json.dumps(about, indent=1), encoding="utf-8")
        torch.save({"size": size, "state": state if keep else {}}, outputs.stage(output / "refiner.pt"))
        outputs.commit()
    than = "better" if better else "no better"
    log(f"[refine] {than} than encoder and low-pass filter: {'kept' if keep else 'left out'}")


if __name__ == "__main__":
    main()
