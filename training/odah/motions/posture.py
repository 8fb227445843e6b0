"""A motion in another posture: with the pelvis or every joint turned by some degrees, the same in all frames.

People differ in posture, and recordings in where markers were put, which decides by ten degrees what a
recording calls no tilt. A network that has seen few recordings guesses one joint from the others; it must
learn to look.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from odah.motions.arms import coordinates_to_matrix, shoulder_coordinates
from pose2sim_biokin.skeleton.angles import (
    CONSTRAINED,
    FREE,
    FREE_JOINTS,
    free_angles_to_rotations,
    rotations_to_free_angles_continuous,
)
from pose2sim_biokin.skeleton.model import Skeleton
from pose2sim_biokin.skeleton.rotations import axis_angle_to_matrix

# Joints on the pelvis whose first axis is its own lateral one: they turn back by as much.
_ON_IT = ("hip_flexion_r", "hip_flexion_l", "lumbar_extension")


def tilt_pelvis(coordinates: np.ndarray, angle: float, skeleton: Skeleton) -> np.ndarray:
    """A motion (T, nc) with the pelvis turned by `angle` (rad) about its own lateral (Z) axis.

    Femurs and torso keep their orientations: hip flexion and lumbar extension change by -angle, which is made
    smaller where one of them would leave its range.
    """
    columns = [skeleton.coordinate_index(name) for name in _ON_IT]
    low, high = skeleton.coordinate_ranges[columns].T
    least = max(0.0, float((high - coordinates[:, columns].max(0)).min()))  # to which -angle may go
    most = max(0.0, float((coordinates[:, columns].min(0) - low).min()))
    angle = float(np.clip(angle, -least, most))
    turned = coordinates.copy()
    turned[:, columns] -= angle
    free = [skeleton.coordinate_index(name) for name in FREE]
    rotations = free_angles_to_rotations(torch.from_numpy(coordinates[:, free]), skeleton)
    rotations[:, 0] = rotations[:, 0] @ axis_angle_to_matrix(rotations.new_tensor([0.0, 0.0, angle]))
    angles = rotations_to_free_angles_continuous(rotations, skeleton).numpy()
    count = len(FREE_JOINTS["pelvis"])  # the first of FREE
    turned[:, free[:count]] = angles[:, :count]
    return turned


def shift_posture(
    coordinates: np.ndarray, rng: np.random.Generator, sigma: float, skeleton: Skeleton
) -> np.ndarray:
    """A motion (T, nc) with every constrained angle shifted and both upper arms turned against the trunk.

    Args:
        sigma: standard deviation of a shift, and of the turn about each axis of an upper arm; rad. A shift is
            made smaller where an angle would leave its range.
    """
    shifted = coordinates.copy()
    columns = [skeleton.coordinate_index(name) for name in CONSTRAINED]
    low, high = skeleton.coordinate_ranges[columns].T
    least = np.minimum(0.0, low - coordinates[:, columns].min(0))
    most = np.maximum(0.0, high - coordinates[:, columns].max(0))
    shifted[:, columns] += np.clip(sigma * rng.standard_normal(len(columns)), least, most)
    for side in ("r", "l"):
        knee, follows = (skeleton.coordinate_index(f"knee_angle_{side}{end}") for end in ("", "_beta"))
        shifted[:, follows] = shifted[:, knee]
        arm = [skeleton.coordinate_index(name) for name in FREE_JOINTS[f"humerus_{side}"]]
        turn = Rotation.from_rotvec(sigma * rng.standard_normal(3)).as_matrix()
        shifted[:, arm] = shoulder_coordinates(coordinates_to_matrix(coordinates[:, arm]) @ turn)
    return shifted
