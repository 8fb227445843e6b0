"""The pelvis turned against thighs and trunk, which stay as they are: people differ in it, recordings too.

Where its markers are put decides what a recording calls no tilt, by ten degrees and more. A network that has
seen few recordings guesses the tilt from thighs and trunk; it must learn to look.
"""

from __future__ import annotations

import numpy as np
import torch

from pose2sim_biokin.skeleton.angles import (
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
