"""Joint centres of a motion held against the landmarks that MediaPipe Pose saw (`mediapipe_views.py`)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from pose2sim_biokin.io.project import View
from pose2sim_biokin.motion import Motion
from pose2sim_biokin.skeleton import Skeleton
from pose2sim_biokin.skeleton.kinematics import ForwardKinematics
from pose2sim_biokin.skeleton.rotations import ground_to_world

# body whose joint centre it is -> MediaPipe's landmark of the right and of the left side
_LANDMARKS = {
    "femur": (24, 23),
    "tibia": (26, 25),
    "talus": (28, 27),
    "humerus": (12, 11),
    "ulna": (14, 13),
    "hand": (16, 15),
}
_VISIBLE = 0.6


def landmark_distances(
    motion: Motion, skeleton: Skeleton, views: list[View], frames: np.ndarray, folder: Path
) -> dict[str, np.ndarray]:
    """For each camera, distances across the line of sight, mm, of hips, knees, ankles, shoulders, elbows and
    wrists from the landmarks that are visible.

    MediaPipe sometimes takes left for right in a whole frame; each frame is compared with the nearer of both.
    Its hips lie some centimetres above and beside the joint centres, so that nothing is without distance.
    """
    coordinates, scales = (
        torch.as_tensor(a, dtype=torch.float32) for a in (motion.coordinates, motion.scales)
    )
    kinematics = ForwardKinematics(skeleton)
    posed = kinematics(coordinates, scales.expand(len(coordinates), -1, -1))
    index = [skeleton.body_index(f"{body}_{side}") for side in "rl" for body in _LANDMARKS]
    joints = ground_to_world(posed.position[:, index]).double().numpy()  # (T, 12, 3), the right ones first
    right, left = (list(column) for column in zip(*_LANDMARKS.values(), strict=True))
    found = {}
    for view in views:
        seen = np.load(folder / f"{view.name}.npy")[frames]
        camera = view.camera
        pixels = camera.project(joints)
        mm = 1000 * camera.world_to_camera(joints)[..., 2] / camera.K[0, 0]
        both = []
        for order in (right + left, left + right):
            away = np.linalg.norm(pixels - seen[:, order, :2], axis=-1) * mm
            both.append(np.where(seen[:, order, 2] > _VISIBLE, away, np.nan))
        nearer = np.nanmean(both[0], 1) <= np.nanmean(both[1], 1)
        distances = np.where(nearer[:, None], *both)
        found[view.name] = distances[np.isfinite(distances)]
    return found


def landmark_summary(distances: dict[str, np.ndarray], used: list[str]) -> dict[str, dict[str, float]]:
    """Mean, median and 90th percentile, mm, in the cameras that the network saw and in the others."""
    summary = {}
    for name, chosen in (("used", True), ("unused", False)):
        values = np.concatenate([mm for camera, mm in distances.items() if (camera in used) == chosen])
        summary[name] = {
            "mean_mm": float(values.mean()),
            "median_mm": float(np.median(values)),
            "p90_mm": float(np.percentile(values, 90)),
        }
    return summary
