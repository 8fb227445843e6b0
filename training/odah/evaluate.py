"""Measure a checkpoint on unseen pairs and windows: ``python -m odah.evaluate --weights FILE --frames
DIR --output DIR``.

Frames go through the frame encoder, as in training, without augmentation; dense windows go through the same
Predictor that serves real recordings. Writes evaluation.json and evaluation.md.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch

from odah.dataset import FrameMaker, ShardSet, find_shards, ordered_batches
from odah.metrics import Errors, mean_pose_baseline
from odah.windows import window_rows
from pose2sim_biokin.network.checkpoint import load_checkpoint
from pose2sim_biokin.network.heads import Pose
from pose2sim_biokin.predictor import Predictor, ViewCrops
from pose2sim_biokin.skeleton.angles import (
    CONSTRAINED,
    angle_coordinates,
    free_angles_to_rotations,
)


def motion_kinds(shards: ShardSet) -> np.ndarray:
    """(n,) names of the motions, such as "action: squat"; recorded ones only as "recorded"."""
    kinds = []
    for path, arrays in zip(shards.paths, shards.arrays, strict=True):
        names = json.loads((path / "manifest.json").read_text(encoding="utf-8")).get("motions")
        for index in arrays["motion"]:
            name = str(names[index]) if names else str(index)
            kinds.append("recorded" if name.startswith("recorded") else name)
    return np.array(kinds)


@torch.no_grad()
def evaluate_frames(weights: str, folders: list[str], limit: int | None = None) -> dict:
    """Errors of the frame encoder on pairs."""
    network = load_checkpoint(weights).network
    shards = ShardSet(find_shards(folders))
    maker = FrameMaker(network.layout, network.preset.points.count)
    errors, wanted = Errors(network.layout), []
    for batch, truth in ordered_batches(shards, maker, 32, limit=limit):
        errors.add(network.encoder(batch).pose, truth.pose)
        wanted.append(truth.pose.constrained)
    kinds = motion_kinds(shards)
    if limit is not None and limit < len(kinds):
        kinds = kinds[np.linspace(0, len(kinds) - 1, limit).round().astype(int)]
    result = errors.summary(kinds)
    truth = torch.cat(wanted)
    result["mean_pose_baseline_deg"] = mean_pose_baseline(truth, truth)
    result["subjects"] = len(np.unique(shards.column("subject")))
    return result


@torch.no_grad()
def evaluate_windows(weights: str, folders: list[str], rate: float = 60.0) -> dict:
    """Errors of the whole predictor on dense windows, and of their angles' speed."""
    predictor = Predictor(weights, "cpu")
    network = predictor.network
    layout, skeleton = network.layout, network.skeleton
    shards = ShardSet(find_shards(folders))
    errors = Errors(layout)
    speeds = []
    angles_at = angle_coordinates(skeleton)
    for rows in window_rows(shards, 64):
        raw = shards.rows(rows)
        found = np.ones(len(rows), dtype=bool)
        views = tuple(
            ViewCrops(raw.rgb[:, v], raw.mask[:, v], raw.K[:, v], raw.R[:, v], raw.t[:, v], found)
            for v in (0, 1)
        )
        motion = predictor.predict(views, np.arange(len(rows)) / rate)
        poses = []
        for coordinates, scales in (
            (motion.coordinates, np.broadcast_to(motion.scales, raw.scales.shape)),
            (raw.coordinates, raw.scales),
        ):
            q = torch.from_numpy(np.array(coordinates, dtype=np.float32))
            s = torch.from_numpy(np.array(scales, dtype=np.float32))
            angles = q[:, angles_at]
            place = errors.kinematics(q, s).position[:, 0]
            rotations = free_angles_to_rotations(angles[:, layout.free], skeleton)
            poses.append(Pose(rotations, angles[:, layout.constrained], s, place))
        errors.add(*poses)
        change = (poses[0].constrained.diff(dim=0) - poses[1].constrained.diff(dim=0)).abs() * rate
        speeds.append(float(change.mean()) * 180 / np.pi)
    result = errors.summary()
    result["angle_speed_error_deg_s"] = float(np.mean(speeds))
    result["windows"] = len(speeds)
    return result


def report(results: dict) -> str:
    """The results as Markdown."""
    lines = ["# Measured errors", ""]
    for name, title in (
        ("frames", "Single frames (encoder)"),
        ("windows", "Windows of 64 frames (whole predictor)"),
    ):
        if name not in results:
            continue
        r = results[name]
        turns = ", ".join(f"{v:.1f}" for v in r["rotation_deg"].values())
        lines += [
            f"## {title}: {r['frames']} frames",
            "",
            "| quantity | value |",
            "|---|---|",
            f"| mean of the 17 constrained angles | {r['constrained_mae_deg']:.2f} deg |",
            f"| median, 95th percentile, worst frame | {r['constrained_median_frame_deg']:.2f}, "
            f"{r['constrained_p95_frame_deg']:.2f}, {r['constrained_worst_frame_deg']:.2f} deg |",
            f"| worst angle | {r['worst_angle']} |",
            f"| rotations of pelvis, right and left upper arm | {turns} deg |",
            f"| PA-MPJPE of the 22 joint centres | {r['pa_mpjpe_mm']:.1f} mm |",
            f"| scale factors | {r['scale_mae']:.3f} |",
        ]
        if r["pelvis_mm"] is not None:
            lines.append(f"| pelvis position | {r['pelvis_mm']:.0f} mm |")
        if "angle_speed_error_deg_s" in r:
            lines.append(f"| speed of the angles | {r['angle_speed_error_deg_s']:.0f} deg/s |")
        baseline = r.get("mean_pose_baseline_deg")
        if baseline:
            lines.append(f"| always the median pose, for comparison | {baseline['mean']:.2f} deg |")
        lines += [
            "",
            "| angle | error, deg |" + (" median pose |" if baseline else ""),
            "|---|---|" + ("---|" if baseline else ""),
        ]
        for angle in CONSTRAINED:
            more = f" {baseline[angle]:.1f} |" if baseline else ""
            lines.append(f"| {angle} | {r['constrained_deg'][angle]:.1f} |{more}")
        if "by_group_deg" in r:
            lines += ["", "| motion | error, deg |", "|---|---|"]
            lines += [
                f"| {k} | {v:.1f} |" for k, v in sorted(r["by_group_deg"].items(), key=lambda kv: -kv[1])
            ]
        lines.append("")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m odah.evaluate", description=__doc__.splitlines()[0])
    parser.add_argument("--weights", default="default", help="checkpoint (default: the package's)")
    parser.add_argument("--frames", nargs="*", default=[], help="folders of shards of single frames")
    parser.add_argument("--windows", nargs="*", default=[], help="folders of dense shards")
    parser.add_argument("--limit", type=int, help="at most so many frames, spread evenly")
    parser.add_argument("--output", required=True, help="folder for evaluation.json and evaluation.md")
    parser.add_argument("--threads", type=int, help="CPU threads")
    options = parser.parse_args(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    results = {"weights_sha256": load_checkpoint(options.weights).sha256}
    if options.frames:
        results["frames"] = evaluate_frames(options.weights, options.frames, options.limit)
    if options.windows:
        results["windows"] = evaluate_windows(options.weights, options.windows)
    output = Path(options.output)
    output.mkdir(parents=True, exist_ok=True)
    (output / "evaluation.json").write_text(json.dumps(results, indent=1), encoding="utf-8")
    (output / "evaluation.md").write_text(report(results), encoding="utf-8")
    print(report(results))


if __name__ == "__main__":
    main()
