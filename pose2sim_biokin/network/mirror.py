"""Poses seen in a mirror, and the mean of a pose and what its mirror image says."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from pose2sim_biokin.network.heads import Pose
from pose2sim_biokin.skeleton.angles import CONSTRAINED
from pose2sim_biokin.skeleton.mirror import mirror_indices, mirror_markers, mirror_signs
from pose2sim_biokin.skeleton.model import Skeleton
from pose2sim_biokin.skeleton.rotations import matrix_to_sixd, sixd_to_matrix

_FLIP = (1.0, 1.0, -1.0)  # ground Z


def mirror_pose(pose: Pose, skeleton: Skeleton) -> Pose:
    """A pose (...,) in a frame whose Z axis the mirror reverses (the world's ground), sides exchanged."""
    flip = pose.scales.new_tensor(_FLIP)
    rotations = (pose.rotations * flip[:, None] * flip)[..., [0, 2, 1], :, :]
    signs = torch.as_tensor(mirror_signs(CONSTRAINED)).to(pose.constrained)
    return Pose(
        rotations,
        pose.constrained[..., mirror_indices(CONSTRAINED)] * signs,
        pose.scales[..., mirror_indices(skeleton.body_names), :],
        None if pose.pelvis is None else pose.pelvis * flip,
    )


def mirror_keypoints(local: Tensor, skeleton: Skeleton) -> Tensor:
    """Joint and mass centres of all bodies (..., 2 nb, 3), and markers behind them if there are, seen in a
    mirror that reverses the third axis; what else is said of them (..., 2 nb, 3 + n) stays theirs.
    """
    bodies = mirror_indices(skeleton.body_names)
    markers = mirror_markers(skeleton.marker_names) + 2 * len(bodies)
    index = np.concatenate([bodies, bodies + len(bodies), markers])[: local.shape[-2]]
    flip = torch.cat([local.new_tensor(_FLIP), local.new_ones(local.shape[-1] - 3)])
    return local[..., torch.from_numpy(index).to(local.device), :] * flip


def mean_pose(poses: Sequence[Pose]) -> Pose:
    """The mean of poses (...,) in one frame; of rotations the mean of their 6D vectors, made orthonormal."""

    def mean(values: Sequence[Tensor | None]) -> Tensor | None:
        return None if values[0] is None else torch.stack(list(values)).mean(0)

    turns = sixd_to_matrix(mean([matrix_to_sixd(pose.rotations) for pose in poses]))
    return Pose(turns, *(mean(values) for values in list(zip(*poses, strict=True))[1:]))
