"""Poses over time: turned between frames of reference, resampled, refined in overlapping windows and
blended.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from pose2sim_biokin.network.biokin import Refiner
from pose2sim_biokin.network.heads import Pose
from pose2sim_biokin.skeleton.rotations import compose, matrix_to_sixd, sixd_to_matrix


def turn_pose(pose: Pose, rotation: Tensor, origin: Tensor) -> Pose:
    """A pose of an upright frame in the frame that contains it: x_out = rotation x + origin.

    Args:
        pose: (..., ) as in Pose; rotation: (..., 3, 3) about the vertical; origin: (..., 3); both
            ground axes.
    """
    pelvis = compose(rotation, pose.rotations[..., 0, :, :])
    rotations = torch.cat([pelvis[..., None, :, :], pose.rotations[..., 1:, :, :]], -3)
    position = pose.pelvis
    if position is not None:
        position = (rotation * position[..., None, :]).sum(-1) + origin
    return pose._replace(rotations=rotations, pelvis=position)


def unturn_pose(pose: Pose, rotation: Tensor, origin: Tensor) -> Pose:
    """The reverse of `turn_pose`."""
    back = rotation.transpose(-1, -2)
    return turn_pose(pose, back, -(back * origin[..., None, :]).sum(-1))


def window_frame(pose: Pose, headings: Tensor) -> tuple[Tensor, Tensor]:
    """The frame that windows (B, T) of poses are refined in.

    Args:
        pose: (B, T, ...) in the world's ground.
        headings: (B, T, 3, 3) rotation of each frame's canonical ground in the world's ground.

    Returns:
        rotation (B, 1, 3, 3), that of the middle frame, and origin (B, 1, 3), the mean pelvis (zero
        without one).
    """
    middle = headings.shape[1] // 2
    rotation = headings[:, middle : middle + 1]
    if pose.pelvis is None:
        return rotation, rotation.new_zeros(len(rotation), 1, 3)
    return rotation, pose.pelvis.mean(1, keepdim=True)


def refine_windows(refiner: Refiner, pose: Pose, local: Tensor | None, headings: Tensor) -> Pose:
    """Refine windows (B, T, ...) of poses in the world's ground; scales come back as (B, 1, nb, 3)."""
    rotation, origin = window_frame(pose, headings)
    refined, _ = refiner(unturn_pose(pose, rotation, origin), local)
    return turn_pose(refined, rotation, origin)


def window_starts(frames: int, window: int) -> list[int]:
    """First frames of windows that overlap by half and end with the last frame; [0] for a short sequence."""
    if frames <= window:
        return [0]
    step = window // 2
    return [*range(0, frames - window, step), frames - window]


def blend_weights(window: int) -> Tensor:
    """(window,) weights of a window's frames: a triangle, above zero at both ends."""
    index = torch.arange(window, dtype=torch.float32)
    return 1 - ((index + 0.5) / window * 2 - 1).abs()


def held_ends(frames: int, window: int) -> tuple[int, Tensor]:
    """How many frames a sequence shorter than a window is preceded by, and the (window,) frames to show: its
    first and last ones are held.
    """
    before = (window - frames) // 2
    return before, (torch.arange(window) - before).clamp(0, frames - 1)


@torch.no_grad()
def refine_sequence(
    refiner: Refiner, pose: Pose, local: Tensor | None, headings: Tensor, batch_size: int = 16
) -> Pose:
    """Refine a sequence at the refinement's rate in overlapping windows, blended without seams.

    Args:
        pose: (T, ...) in the world's ground; local: (T, 2 nb, 3 or 4) or None, see FrameOutput; headings:
            (T, 3, 3), see `window_frame`.

    Returns:
        the refined pose (T, ...); its scales (T, nb, 3) are the mean over all windows, the same in
        every frame.
    """
    frames, window = len(headings), refiner.size.window
    if frames < window:
        before, index = held_ends(frames, window)  # what is added is cut off again
        index = index.to(headings.device)
        held = _select(pose, index)
        padded = None if local is None else local[index]
        whole = refine_sequence(refiner, held, padded, headings[index], batch_size)
        return _select(whole, slice(before, before + frames))
    starts = window_starts(frames, window)
    weights = blend_weights(window).to(headings.device)
    total = torch.zeros(frames, device=headings.device)
    sixd = torch.zeros(frames, 3, 6, device=headings.device)
    constrained = torch.zeros_like(pose.constrained)
    pelvis = None if pose.pelvis is None else torch.zeros_like(pose.pelvis)
    scales = []
    for first in range(0, len(starts), batch_size):
        chosen = starts[first : first + batch_size]
        index = torch.stack([torch.arange(s, s + window, device=headings.device) for s in chosen])
        refined = refine_windows(
            refiner, _select(pose, index), None if local is None else local[index], headings[index]
        )
        scales.append(refined.scales[:, 0])
        for row, s in enumerate(chosen):
            part = slice(s, s + window)
            total[part] += weights
            sixd[part] += weights[:, None, None] * matrix_to_sixd(refined.rotations[row])
            constrained[part] += weights[:, None] * refined.constrained[row]
            if pelvis is not None:
                pelvis[part] += weights[:, None] * refined.pelvis[row]
    mean = torch.cat(scales).mean(0)
    return Pose(
        sixd_to_matrix(sixd / total[:, None, None]),
        constrained / total[:, None],
        mean.expand(frames, *mean.shape),
        None if pelvis is None else pelvis / total[:, None],
    )


def resample_linear(values: Tensor, time: np.ndarray, wanted: np.ndarray) -> Tensor:
    """Values (T, ...) at rising times (T,) s, linearly interpolated at `wanted` (M,); held beyond the
    ends.
    """
    if len(time) == 1:
        return values.expand(len(wanted), *values.shape[1:]).clone()
    right = np.clip(np.searchsorted(time, wanted, side="right"), 1, len(time) - 1)
    share = np.clip((wanted - time[right - 1]) / (time[right] - time[right - 1]), 0, 1)
    share = torch.as_tensor(share, dtype=values.dtype, device=values.device)
    share = share.reshape(-1, *([1] * (values.ndim - 1)))
    index = torch.as_tensor(right, device=values.device)
    return values[index - 1] * (1 - share) + values[index] * share


def resample_rotations(rotations: Tensor, time: np.ndarray, wanted: np.ndarray) -> Tensor:
    """Rotations (T, ..., 3, 3) at other times: 6D vectors interpolated, then made orthonormal."""
    return sixd_to_matrix(resample_linear(matrix_to_sixd(rotations), time, wanted))


def resample_pose(pose: Pose, time: np.ndarray, wanted: np.ndarray) -> Pose:
    """A pose sequence (T, ...) at other times."""
    return Pose(
        resample_rotations(pose.rotations, time, wanted),
        resample_linear(pose.constrained, time, wanted),
        resample_linear(pose.scales, time, wanted),
        None if pose.pelvis is None else resample_linear(pose.pelvis, time, wanted),
    )


def _select(pose: Pose, index) -> Pose:
    return Pose(*(None if part is None else part[index] for part in pose))
