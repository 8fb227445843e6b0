"""From what the points gave to angles, scales and the pelvis: the published head and the fast one."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pose2sim_biokin.network.look import USUAL_M
from pose2sim_biokin.network.presets import Preset
from pose2sim_biokin.skeleton.angles import (
    CONSTRAINED,
    FREE,
    angle_coordinates,
    angle_indices,
    free_angles_to_rotations,
    rotations_to_free_angles,
)
from pose2sim_biokin.skeleton.model import Skeleton
from pose2sim_biokin.skeleton.rotations import compose, matrix_to_sixd, sixd_to_matrix

SCALE_UNIT = 8.0  # scales are predicted as value / 8 + 1, as published


class Pose(NamedTuple):
    """A pose in some upright ground frame (Y up); any batch shape.

    Attributes:
        rotations: (..., 3, 3, 3) of the pelvis in that frame, of the right and the left humerus in the torso.
        constrained: (..., 17) rad, order of CONSTRAINED.
        scales: (..., nb, 3).
        pelvis: (..., 3) position of the pelvis's origin, m, or None.
    """

    rotations: Tensor
    constrained: Tensor
    scales: Tensor
    pelvis: Tensor | None


class AngleLayout(nn.Module):
    """Where free and constrained angles lie in the angle vector, and their ranges."""

    def __init__(self, skeleton: Skeleton):
        super().__init__()
        self.skeleton = skeleton
        coordinates = angle_coordinates(skeleton)
        self.count = len(coordinates)
        self.bodies = len(skeleton.body_names)
        constrained = angle_indices(skeleton, CONSTRAINED)
        ranges = skeleton.coordinate_ranges[coordinates[constrained]]
        defaults = skeleton.coordinate_defaults[coordinates]
        for name, value in (
            ("free", angle_indices(skeleton, FREE)),
            ("constrained", constrained),
            ("middle", ranges.mean(1)),
            ("reach", (ranges[:, 1] - ranges[:, 0]) / 2),
            ("low", ranges[:, 0]),
            ("high", ranges[:, 1]),
            ("defaults", defaults),
        ):
            tensor = torch.from_numpy(np.array(value))
            if tensor.is_floating_point():
                tensor = tensor.float()
            self.register_buffer(name, tensor, persistent=False)

    def angles(self, pose: Pose) -> Tensor:
        """(..., 36) angles of a pose; frame by frame, no gradient through the free ones."""
        with torch.no_grad():
            free = rotations_to_free_angles(pose.rotations, self.skeleton)
        return self.join(free, pose.constrained)

    def join(self, free: Tensor, constrained: Tensor) -> Tensor:
        """Free (..., 9) and constrained (..., 17) angles to all 36; the others at their default.

        Coupled ones are set by the forward kinematics.
        """
        angles = self.defaults.expand(*constrained.shape[:-1], -1).to(constrained.dtype).clone()
        angles[..., self.free] = free
        angles[..., self.constrained] = constrained
        return angles

    def pose(self, angles: Tensor, scales: Tensor, pelvis: Tensor | None) -> Pose:
        """The pose of 36 angles (..., 36)."""
        rotations = free_angles_to_rotations(angles[..., self.free], self.skeleton)
        return Pose(rotations, angles[..., self.constrained], scales, pelvis)


class DirectHead(nn.Module):
    """One linear layer to 36 angles and 3 scale factors a body, as published."""

    def __init__(self, layout: AngleLayout, width: int):
        super().__init__()
        self.layout = layout
        self.out = nn.Linear(width, layout.count + 3 * layout.bodies)

    def forward(self, feature: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, width) to the feature (B, 102), angles (B, 36) rad and scales (B, nb, 3)."""
        out = self.out(feature)
        angles = out[:, : self.layout.count]
        scales = out[:, self.layout.count :].unflatten(1, (self.layout.bodies, 3)) / SCALE_UNIT + 1
        return out, angles, scales


class KeypointHead(nn.Module):
    """Angles, scales and pelvis from keypoints, turned into the pelvis's own frame first.

    Two hips and the lumbar joint give that frame, so neither the heading nor the place has to be learnt.

    Args:
        preset: see Preset.
        layout: see AngleLayout.
        keypoints, token: number of keypoints (the first 2 nb are joint and mass centres), width of a token.
        width: of a global feature that is appended.
    """

    def __init__(self, preset: Preset, layout: AngleLayout, keypoints: int, token: int, width: int):
        super().__init__()
        skeleton = layout.skeleton
        self.layout, self.preset = layout, preset
        parents = [skeleton.joints.parents[i] for i in range(layout.bodies)]
        children = [i for i, p in enumerate(parents) if p >= 0]
        self.register_buffer("_children", torch.tensor(children), persistent=False)
        self.register_buffer("_parents", torch.tensor([int(parents[i]) for i in children]), persistent=False)
        inputs = 3 * keypoints + 4 * len(children) + token * keypoints + 6 + width
        hidden = preset.points.dense
        self.norm = nn.LayerNorm(inputs)
        self.first = nn.Linear(inputs, hidden[0])
        self.more = nn.ModuleList(nn.Linear(a, b) for a, b in zip(hidden[:-1], hidden[1:], strict=True))
        self.free = 18 if preset.rotations else 9
        outputs = len(layout.constrained) + self.free + 3 * layout.bodies + 3
        self.out = nn.Linear(hidden[-1], outputs)
        nn.init.normal_(self.out.weight, std=0.01)
        nn.init.zeros_(self.out.bias)

    def forward(self, keypoints: Tensor, tokens: Tensor, extra: Tensor) -> Pose:
        """The pose of keypoints (B, K, 3) in ground axes, tokens (B, K, token), extra (B, width)."""
        layout = self.layout
        local, frame = to_root_frame(keypoints, layout)
        bones = local[:, self._children] - local[:, self._parents]
        length = bones.square().sum(-1, keepdim=True).clamp_min(1e-6).sqrt()
        x = torch.cat(
            [
                (local * 2).flatten(1),
                (bones / (length + 0.02)).flatten(1),
                (length[..., 0] - 0.2) * 5,
                tokens.flatten(1),
                frame[:, 1],  # the vertical, in the frame's axes
                frame[:, 0],  # the first view's side, in the frame's axes
                extra,
            ],
            1,
        )
        h = F.relu(self.first(self.norm(x)))
        for layer in self.more:
            h = h + F.relu(layer(h))
        a, f, s, p = self.out(h).split([len(layout.constrained), self.free, 3 * layout.bodies, 3], 1)
        if self.preset.angle_spread:
            a = layout.middle + layout.reach * self.preset.angle_spread * a
        if self.preset.rotations:
            identity = f.new_tensor([1.0, 0, 0, 0, 1, 0])
            turns = sixd_to_matrix(f.unflatten(1, (3, 6)) + identity)
        else:
            turns = free_angles_to_rotations(f, layout.skeleton)
        rotations = torch.stack([compose(frame, turns[:, 0]), turns[:, 1], turns[:, 2]], 1)
        scales = s.unflatten(1, (layout.bodies, 3)) / SCALE_UNIT + 1
        pelvis = None
        if self.preset.pelvis:
            pelvis = keypoints[:, 0] + (frame @ (0.1 * p)[..., None])[..., 0]
        return Pose(rotations, a, scales, pelvis)


def to_root_frame(keypoints: Tensor, layout: AngleLayout) -> tuple[Tensor, Tensor]:
    """Keypoints (B, K, 3) in the pelvis's frame as hips and lumbar joint show it, and its axes (B, 3, 3).

    No gradient goes through the frame.
    """
    right, left, lumbar = (
        keypoints[:, layout.skeleton.body_index(n)] for n in ("femur_r", "femur_l", "torso")
    )
    root = (right + left) / 2
    frame = root_frame(right - left, lumbar - root).detach()
    return (keypoints - root[:, None]) @ frame, frame


def local_keypoints(keypoints: Tensor, doubt: Tensor | None, layout: AngleLayout) -> Tensor:
    """Joint and mass centres among keypoints (B, K, 3) in the pelvis's estimated frame (B, 2 nb, 3); where
    their doubts (B, K) are known (B, 2 nb, 4), the last ln(doubt / 1 cm) / 2.
    """
    local = to_root_frame(keypoints, layout)[0][:, : 2 * layout.bodies]
    if doubt is None:
        return local
    unsure = (doubt[:, : local.shape[1], None] / USUAL_M).log() / 2
    return torch.cat([local, unsure], -1)


def root_frame(lateral: Tensor, up: Tensor) -> Tensor:
    """Rotation (..., 3, 3) whose z axis is `lateral` (to the right) and whose y axis is nearest to `up`."""
    z = F.normalize(lateral, dim=-1, eps=1e-6)
    x = F.normalize(torch.linalg.cross(up, z), dim=-1, eps=1e-6)
    return torch.stack([x, torch.linalg.cross(z, x), z], -1)


def pose_features(pose: Pose, local: Tensor | None, layout: AngleLayout, rotations: bool) -> Tensor:
    """A pose as one vector (..., D), what the refinement reads; order: constrained, free, scales,
    pelvis, keypoints.

    Without `rotations` the published 36 angles and scales.
    """
    scales = (pose.scales - 1).flatten(-2) * SCALE_UNIT
    if not rotations:
        return torch.cat([layout.angles(pose), scales], -1)
    parts = [
        (pose.constrained - layout.middle) / layout.reach,
        matrix_to_sixd(pose.rotations).flatten(-2),
        scales,
    ]
    if pose.pelvis is not None:
        parts.append(pose.pelvis)
    if local is not None:
        parts.append(local.flatten(-2) * 2)
    return torch.cat(parts, -1)
