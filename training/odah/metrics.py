"""Errors of predicted poses: per joint angle, positions after Procrustes alignment, pelvis, scales."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from pose2sim_biokin.compare.metrics import procrustes_error
from pose2sim_biokin.network.hands import HandDirections, across
from pose2sim_biokin.network.heads import AngleLayout, Pose
from pose2sim_biokin.skeleton.angles import (
    CONSTRAINED,
    FREE,
    angles_to_coordinates,
)
from pose2sim_biokin.skeleton.kinematics import ForwardKinematics


def wrapped_degrees(angles: Tensor, truth: Tensor) -> Tensor:
    """Absolute difference of angles, rad, the short way round, in degrees."""
    difference = (angles - truth + torch.pi) % (2 * torch.pi) - torch.pi
    return difference.abs() * (180 / torch.pi)


def rotation_degrees(rotations: Tensor, truth: Tensor) -> Tensor:
    """Angle between rotations (..., 3, 3), in degrees."""
    difference = (rotations - truth).square().sum((-1, -2)).clamp_min(0)
    return 2 * torch.asin((difference / 8).sqrt().clamp(max=1)) * (180 / torch.pi)


def hand_degrees(hands: HandDirections, sides: Tensor) -> Tensor:
    """Angles (B, 2), degrees, between the directions seen and those of the true `wrist_sides` (B, 2, 3), both
    across the forearm.
    """
    cosine = (hands.direction * across(sides, hands.axis)).sum(-1)
    return torch.rad2deg(torch.arccos(cosine.clamp(-1, 1)))


class Errors:
    """Collects errors frame by frame, then sums them up by angle and by group of frames."""

    def __init__(self, layout: AngleLayout):
        self.layout = layout
        self.kinematics = ForwardKinematics(layout.skeleton)
        self.columns: dict[str, list[np.ndarray]] = {}

    @torch.no_grad()
    def add(self, pose: Pose, truth: Pose) -> None:
        """Add frames: poses with batch shape (B,) in the same frames; a missing pelvis has no error."""
        layout = self.layout
        wanted, found = layout.angles(truth), layout.angles(pose)
        errors = {
            "constrained": wrapped_degrees(pose.constrained, truth.constrained),
            "free": wrapped_degrees(found[:, layout.free], wanted[:, layout.free]),
            "rotation": rotation_degrees(pose.rotations, truth.rotations),
            "scale": (pose.scales - truth.scales).abs().mean((1, 2)),
        }
        if pose.pelvis is not None:
            errors["pelvis_mm"] = (pose.pelvis - truth.pelvis).norm(dim=-1) * 1000
        centers = []
        for angles, scales in ((found, pose.scales), (wanted, truth.scales)):
            frames = self.kinematics(angles_to_coordinates(angles, layout.skeleton), scales)
            centers.append(self.kinematics.joint_centers(frames, scales).double().numpy())
        errors["pa_mpjpe_mm"] = 1000 * torch.from_numpy(procrustes_error(*centers))
        for name, value in errors.items():
            self.columns.setdefault(name, []).append(np.asarray(value, dtype=np.float64))

    def table(self) -> dict[str, np.ndarray]:
        """All errors, one row a frame."""
        return {name: np.concatenate(parts) for name, parts in self.columns.items()}

    def summary(self, groups: np.ndarray | None = None) -> dict:
        """Means, worst cases, per-angle means, and the mean of the 17 angles by group of frames (names
        (n,)).
        """
        table = self.table()
        constrained = table["constrained"]
        per_frame = constrained.mean(1)
        per_angle = constrained.mean(0)
        result = {
            "frames": len(constrained),
            "constrained_mae_deg": float(per_frame.mean()),
            "constrained_median_frame_deg": float(np.median(per_frame)),
            "constrained_p95_frame_deg": float(np.percentile(per_frame, 95)),
            "constrained_worst_frame_deg": float(per_frame.max()),
            "worst_angle": CONSTRAINED[int(per_angle.argmax())],
            "constrained_deg": dict(zip(CONSTRAINED, per_angle.round(3).tolist(), strict=True)),
            "free_deg": dict(zip(FREE, table["free"].mean(0).round(3).tolist(), strict=True)),
            "rotation_deg": dict(
                zip(
                    ("pelvis", "humerus_r", "humerus_l"),
                    table["rotation"].mean(0).round(3).tolist(),
                    strict=True,
                )
            ),
            "scale_mae": float(table["scale"].mean()),
            "pa_mpjpe_mm": float(table["pa_mpjpe_mm"].mean()),
            "pelvis_mm": float(table["pelvis_mm"].mean()) if "pelvis_mm" in table else None,
        }
        if groups is not None:
            result["by_group_deg"] = {str(g): float(per_frame[groups == g].mean()) for g in np.unique(groups)}
        return result


def mean_pose_baseline(truth: Tensor, reference: Tensor) -> dict[str, float]:
    """Error, in degrees, of always answering the median of `reference` (m, 17) to `truth` (n, 17)."""
    error = wrapped_degrees(truth, reference.median(0).values)
    per_angle = error.mean(0)
    return dict(zip(CONSTRAINED, per_angle.tolist(), strict=True)) | {"mean": float(error.mean())}
