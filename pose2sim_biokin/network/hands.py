"""A closer look at the hands: how they are turned about the forearm, which keypoints hardly show.

Once elbows and wrists are known, each view's picture of each hand is cut out, turned so that its forearm runs
to the right, the left hand mirrored, so that one small network reads both. It says how far the hand is turned
about the forearm, and how sure it is: von Mises's distribution (the circle's normal distribution), of which
those of two views multiply. The fit (`pose2sim_biokin.network.fit`) weighs that against elbow and shoulder.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pose2sim_biokin.network.points import full_precision, sample_maps
from pose2sim_biokin.network.presets import HandSize
from pose2sim_biokin.skeleton.model import Skeleton
from pose2sim_biokin.skeleton.rotations import world_to_ground

_ALONG = 1.15  # the patch's middle: so far along the way from the elbow to the wrist, in its lengths
_EPICONDYLES_M = 0.09  # apart, about; for a number of the order of one
_LEAST = 1e-3  # of a direction across the view, below which it has none


class HandTurns(NamedTuple):
    """What each view says of each hand: (B, 2 views, 2 arms, ...), the right arm first.

    The radial side of a wrist, seen from the ulnar one, across the forearm, lies at angle x where
    cos(x) first + sin(x) second; x has von Mises's distribution.

    Attributes:
        mean: (..., 2) cosine and sine of the most probable x.
        concentration: (...), of the distribution: about 1 / variance where it is large.
        first, second: (..., 3) unit vectors across the forearm and each other, in the keypoints' frame.
    """

    mean: Tensor
    concentration: Tensor
    first: Tensor
    second: Tensor


class HandDirections(NamedTuple):
    """Both views together: (B, 2 arms, ...), the right arm first.

    Attributes:
        direction: (..., 3) unit, from the ulnar to the radial side of the wrist, across the forearm.
        axis: (..., 3) unit, along the forearm, one way or the other.
        concentration: (...).
    """

    direction: Tensor
    axis: Tensor
    concentration: Tensor


class Patches(NamedTuple):
    """Patches to be cut out of two views: (B, 2 views, 2 arms, ...), the right arm first.

    Attributes:
        pixels: (..., P, P, 2) of the views that the patches' pixels show.
        first, second: see HandTurns; in the cameras' frame.
        axis: (..., 3) of the forearm, in the patch's own frame; its second coordinate is zero.
    """

    pixels: Tensor
    first: Tensor
    second: Tensor
    axis: Tensor


@full_precision
def hand_patches(
    elbows: Tensor, wrists: Tensor, K: Tensor, R: Tensor, t: Tensor, side: int, reach: float
) -> Patches:
    """Where to cut out the hands.

    Args:
        elbows, wrists: (B, 2, 3) right and left, m, in the cameras' frame.
        K, R, t: (B, 2, 3, 3), (B, 2, 3, 3), (B, 2, 3) of the views.
        side: P, pixels.
        reach: m, from a patch's middle to its edge at the hand's distance.
    """

    def seen(points: Tensor) -> Tensor:
        return points[:, None] @ R.transpose(-1, -2) + t[:, :, None]  # (B, 2 views, 2 arms, 3)

    elbow, wrist = seen(elbows), seen(wrists)
    axis = F.normalize(wrist - elbow, dim=-1, eps=1e-4)
    middle = elbow + _ALONG * (wrist - elbow)
    away = middle.norm(dim=-1, keepdim=True)
    z = middle / away
    drawn = axis - (axis * z).sum(-1, keepdim=True) * z  # the forearm in the picture
    length = drawn.norm(dim=-1, keepdim=True)
    right = torch.zeros_like(z)
    right[..., 0] = 1.0
    # a forearm that points at the camera runs nowhere in its picture: any direction does
    x = F.normalize(torch.where(length > _LEAST, drawn, right - z[..., :1] * z), dim=-1)
    y = torch.linalg.cross(z, x)
    mirrored = y.new_tensor([1.0, -1.0])[:, None]  # the left arm
    frame = torch.stack([x, y * mirrored, z], -2)  # rows: the patch's axes in the camera's frame
    axis = (frame @ axis[..., None])[..., 0]
    second = torch.stack([-axis[..., 2], torch.zeros_like(axis[..., 0]), axis[..., 0]], -1)
    second = F.normalize(second, dim=-1, eps=1e-6)

    steps = (torch.arange(side, device=K.device, dtype=K.dtype) + 0.5) * (2 / side) - 1
    v, u = torch.meshgrid(steps, steps, indexing="ij")
    plane = torch.stack([u, v], -1) * (reach / away[..., None, None])  # (B, 2, 2, P, P, 2)
    rays = torch.cat([plane, torch.ones_like(plane[..., :1])], -1)
    to_pixels = K[:, :, None] @ frame.transpose(-1, -2)
    pixels = rays @ to_pixels[:, :, :, None].transpose(-1, -2)
    pixels = pixels[..., :2] / pixels[..., 2:].clamp_min(1e-3)

    back = frame @ R[:, :, None]  # rows: the patch's axes in the cameras' frame
    return Patches(pixels, back[..., 1, :], (second[..., None, :] @ back)[..., 0, :], axis)


def cut_patches(pictures: Tensor, pixels: Tensor) -> Tensor:
    """Pictures (B, 2, C, S, S) at pixels (B, 2, 2, P, P, 2): (B, 2, 2, C, P, P), bilinear."""
    sampled = sample_maps(pictures, pixels.flatten(2, 4), pictures.shape[-1])  # (B, 2, 2 P P, C)
    return sampled.unflatten(2, pixels.shape[2:5]).movedim(-1, 3)


class HandLook(nn.Module):
    """Reads the turn of the hands off their pictures.

    Args:
        size: see HandSize.
        skeleton: names the keypoints: its joint centres and mass centres, then its markers.
    """

    def __init__(self, size: HandSize, skeleton: Skeleton):
        super().__init__()
        self.size = size
        self.elbows = [skeleton.body_index(f"ulna_{side}") for side in "rl"]
        self.wrists = [skeleton.body_index(f"hand_{side}") for side in "rl"]
        self.lateral, self.medial = (_markers(skeleton, name) for name in ("LEL", "MEL"))
        w = size.channels
        self.look = nn.Sequential(
            *_layer(4, w, 5, 2), *_layer(w, 2 * w, 3, 2), *_layer(2 * w, 2 * w, 3, 1),
            *_layer(2 * w, 4 * w, 3, 2), *_layer(4 * w, 4 * w, 3, 1),
        )  # fmt: skip
        cells = (size.patch // 8) ** 2
        self.say = nn.Sequential(
            nn.Linear(4 * w * cells + 4, size.hidden), nn.ReLU(), nn.Linear(size.hidden, 3)
        )

    def forward(
        self, images: Tensor, masks: Tensor, cameras: tuple[Tensor, Tensor, Tensor], keypoints: Tensor
    ) -> HandTurns:
        """What the views show.

        Args:
            images: (B, 2, 3, S, S); masks: (B, 2, 1, S, S); cameras: K, R, t; as in a FrameBatch.
            keypoints: (B, K, 3) m, in the cameras' frame.

        Returns:
            with first and second in the ground (Y up).
        """
        with torch.no_grad():
            joints = (keypoints[:, part] for part in (self.elbows, self.wrists))
            found = hand_patches(*joints, *cameras, self.size.patch, self.size.reach)
            patches = cut_patches(torch.cat([images, masks.to(images.dtype)], 2), found.pixels)
            hinge = (keypoints[:, self.lateral] - keypoints[:, self.medial])[:, None] / _EPICONDYLES_M
            geometry = [found.axis[..., 0], found.axis[..., 2]]
            geometry += [(hinge * base).sum(-1) for base in (found.first, found.second)]
            geometry = torch.stack(geometry, -1)
        lead = patches.shape[:3]
        maps = self.look(patches.flatten(0, 2).contiguous(memory_format=torch.channels_last))
        answer = self.say(torch.cat([maps.flatten(1), geometry.flatten(0, 2).to(maps.dtype)], -1))
        answer = answer.float().unflatten(0, lead)
        return HandTurns(
            F.normalize(answer[..., :2], dim=-1, eps=1e-4),
            F.softplus(answer[..., 2]) + 1e-2,
            world_to_ground(found.first),
            world_to_ground(found.second),
        )


def join_views(turns: HandTurns) -> HandDirections:
    """The product of both views' distributions."""
    weighted = turns.mean * turns.concentration[..., None]
    direction = (weighted[..., :1] * turns.first + weighted[..., 1:] * turns.second).sum(1)
    axis = torch.linalg.cross(turns.first, turns.second)[:, 0]
    length = direction.norm(dim=-1)
    return HandDirections(direction / length.clamp_min(1e-6)[..., None], axis, length)


def wrist_sides(keypoints: Tensor, skeleton: Skeleton) -> Tensor:
    """(..., 2, 3) from ulnar to radial side of the right and left wrist of keypoints (..., K, 3), m."""
    radial, ulnar = (_markers(skeleton, name) for name in ("FAradius", "FAulna"))
    return keypoints[..., radial, :] - keypoints[..., ulnar, :]


def across(directions: Tensor, axis: Tensor) -> Tensor:
    """Directions (..., 3) without their part along unit axes (..., 3), of length 1."""
    return F.normalize(directions - (directions * axis).sum(-1, keepdim=True) * axis, dim=-1, eps=1e-4)


def _markers(skeleton: Skeleton, name: str) -> list[int]:
    """Where the right and the left one are among the keypoints."""
    return [2 * len(skeleton.body_names) + skeleton.marker_index(f"{side}{name}") for side in "RL"]


def _layer(inputs: int, outputs: int, kernel: int, stride: int) -> list[nn.Module]:
    return [
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    ]
