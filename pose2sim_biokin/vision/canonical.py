"""The network's frame: Z up, origin at the hull's centre, X along the first view's horizontal direction.

The room's position and heading drop out of what the network sees, and are put back after it.
"""

from __future__ import annotations

from typing import NamedTuple

import torch


class CanonicalFrame(NamedTuple):
    """Pose of the canonical frame in the world: x_world = rotation x_canonical + origin.

    Attributes:
        rotation: (..., 3, 3), a turn about the vertical (world Z).
        origin: (..., 3), metres.
    """

    rotation: torch.Tensor
    origin: torch.Tensor


def canonical_frame(centers: torch.Tensor, rotations: torch.Tensor) -> CanonicalFrame:
    """The canonical frame of hulls with ``centers`` (..., 3); ``rotations`` (..., 3, 3) of the first views.

    ``rotations`` turn world into the first view's crop camera. Its horizontal viewing direction is taken
    square to its (level) x axis, which stays defined when it looks straight down.
    """
    right = rotations[..., 0, :]
    forward = torch.stack([-right[..., 1], right[..., 0]], dim=-1)
    forward = forward / forward.norm(dim=-1, keepdim=True).clamp(min=1e-9)
    c, s = forward[..., 0], forward[..., 1]
    zero, one = torch.zeros_like(c), torch.ones_like(c)
    rotation = torch.stack([c, -s, zero, s, c, zero, zero, zero, one], dim=-1).reshape(*c.shape, 3, 3)
    return CanonicalFrame(rotation, centers)


def to_canonical(
    frame: CanonicalFrame, R: torch.Tensor, t: torch.Tensor, points: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Cameras R (B, V, 3, 3), t (B, V, 3) and points (B, N, 3) of the world, in canonical frames (B,).

    K does not change. Projections of the points do not change.
    """
    R_canonical = R @ frame.rotation[:, None]
    t_canonical = t + (R @ frame.origin[:, None, :, None])[..., 0]
    return R_canonical, t_canonical, points_to_canonical(frame, points)


def points_to_canonical(frame: CanonicalFrame, points: torch.Tensor) -> torch.Tensor:
    """World points (B, N, 3) in canonical frames of batch shape (B,)."""
    return (points - frame.origin[:, None]) @ frame.rotation


def from_canonical(frame: CanonicalFrame, points: torch.Tensor) -> torch.Tensor:
    """Canonical points (B, N, 3), Z up, to the world."""
    return points @ frame.rotation.transpose(-1, -2) + frame.origin[:, None]


def ground_from_canonical_ground(frame: CanonicalFrame) -> tuple[torch.Tensor, torch.Tensor]:
    """Rotation (..., 3, 3) and translation (..., 3) from the canonical frame's OpenSim axes to ground.

    ``x_ground = rotation x_canonical_ground + translation`` for points, ``R_ground = rotation
    R_canonical_ground`` for orientations. Ground (X, Y, Z) = world (Y, Z, X), and the canonical ground is the
    same permutation of the canonical frame.
    """
    order = [1, 2, 0]
    return frame.rotation[..., order, :][..., :, order], frame.origin[..., order]
