"""Light that comes from everywhere: the sky, and what walls, floor and furniture pass on. PyTorch.

The things are cut into patches that exchange light like discs (radiosity without occlusion; where patches
hide each other their sum is scaled down to what fits a half sphere). What the patches leave open is sky.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from odah.render.light import sky_irradiance_table
from odah.scenes.scene import Sky

_PAIRS = 250_000  # point-patch pairs handled at once: few enough to stay in the cache
_BOUNCES = 3


class Ambient:
    """Indirect light and sky.

    Attributes:
        radiance: (P, 3) that each patch sends out, after `solve`.
    """

    def __init__(self, sky: Sky, centres: Tensor, normals: Tensor, areas: Tensor, albedo: Tensor):
        """Patches: centres, unit normals (P, 3), areas (P,) m2, linear albedo (P, 3)."""
        self.origin = centres.mean(0) if len(centres) else centres.new_zeros(3)
        self.centres, self.normals, self.areas = centres - self.origin, normals, areas
        self.albedo = albedo
        self.radiance = torch.zeros_like(albedo)
        up, down = sky_irradiance_table(sky)
        self._up, self._down = (
            torch.as_tensor(t.astype(np.float32), device=centres.device) for t in (up, down)
        )
        self._directions = _sphere(48).to(centres)
        self._fit = torch.linalg.pinv(harmonics(self._directions))

    def solve(self, direct: Tensor) -> None:
        """Let the patches exchange light; ``direct`` (P, 3) irradiance of each from the lamps and the sun."""
        self.radiance = self.albedo * direct / math.pi
        for _ in range(_BOUNCES):
            received = self.gather(self.centres + self.origin, self.normals)
            self.radiance = self.albedo * (direct + received) / math.pi

    def gather(self, points: Tensor, normals: Tensor) -> Tensor:
        """Irradiance (N, 3) of surfaces at points (N, 3) with unit normals (N, 3)."""
        step = max(1, _PAIRS // max(1, len(self.areas)))
        parts = [
            self._gather(points[i : i + step] - self.origin, normals[i : i + step])
            for i in range(0, len(points), step)
        ]
        return torch.cat(parts) if parts else points.new_zeros(0, 3)

    def _gather(self, points: Tensor, normals: Tensor) -> Tensor:
        along = normals @ self.centres.T - (normals * points).sum(-1, keepdim=True)
        back = points @ self.normals.T - (self.normals * self.centres).sum(-1)
        squared = (points**2).sum(-1, keepdim=True) + (self.centres**2).sum(-1) - 2 * points @ self.centres.T
        squared = squared.clamp_min(1e-4)
        share = along.clamp_min(0) * back.clamp_min(0) * self.areas
        share /= squared * (math.pi * squared + self.areas)  # of the half sphere, as a disc
        above = self.centres[:, 2] > points[:, 2:3]
        upper = (share * above).sum(-1)
        lower = share.sum(-1) - upper
        room_up, room_down = 0.5 * (1 + normals[:, 2]), 0.5 * (1 - normals[:, 2])
        scale_up = room_up / torch.maximum(upper, room_up).clamp_min(1e-6)
        scale_down = room_down / torch.maximum(lower, room_down).clamp_min(1e-6)
        share *= torch.where(above, scale_up[:, None], scale_down[:, None])
        open_up = (1 - upper / room_up.clamp_min(1e-6)).clamp(0, 1)[:, None]
        open_down = (1 - lower / room_down.clamp_min(1e-6)).clamp(0, 1)[:, None]
        light = math.pi * share @ self.radiance
        return light + open_up * _read(self._up, normals) + open_down * _read(self._down, normals)

    def probe(self, points: Tensor) -> Tensor:
        """(N, 9, 3) harmonics of the irradiance at points (N, 3), for `harmonics(normals) @ them`."""
        count = len(self._directions)
        received = self.gather(points.repeat_interleave(count, 0), self._directions.repeat(len(points), 1))
        return self._fit @ received.view(len(points), count, 3)


def harmonics(direction: Tensor) -> Tensor:
    """(..., 9) polynomials up to degree two of unit vectors (..., 3): the span of diffuse irradiance.

    Ramamoorthi and Hanrahan 2001: irradiance is given by spherical harmonics of degree two to about 1 %.
    """
    x, y, z = direction.unbind(-1)
    return torch.stack([torch.ones_like(x), x, y, z, x * y, y * z, x * z, x * x - y * y, 3 * z * z - 1], -1)


def _sphere(count: int) -> Tensor:
    """(count, 3) evenly spread unit vectors."""
    k = torch.arange(count) + 0.5
    z, turn = 1 - 2 * k / count, 2.399963 * k
    level = (1 - z**2).sqrt()
    return torch.stack([level * turn.cos(), level * turn.sin(), z], -1)


def _read(table: Tensor, normals: Tensor) -> Tensor:
    """Rows of a table over z from -1 to 1, interpolated."""
    place = (normals[:, 2].clamp(-1, 1) + 1) * (0.5 * (len(table) - 1))
    low = place.long().clamp_max(len(table) - 2)
    return torch.lerp(table[low], table[low + 1], (place - low)[:, None])


class Blobs:
    """A person as a few balls, for how much of the surroundings the body hides from floor and limbs."""

    def __init__(self, points: Tensor, count: int = 40):
        """points (V, 3) of the person in one frame; the balls follow the same vertices in all frames."""
        chosen = [int(points[:, 2].argmax())]
        distance = torch.full((len(points),), torch.inf, device=points.device)
        for _ in range(min(count, len(points)) - 1):  # farthest points
            distance = torch.minimum(distance, (points - points[chosen[-1]]).norm(dim=-1))
            chosen.append(int(distance.argmax()))
        self.member = torch.cdist(points, points[chosen]).argmin(-1)
        self._count = torch.bincount(self.member, minlength=len(chosen)).clamp_min(1).to(points)
        self.radius = points.new_zeros(len(chosen)).index_add_(
            0, self.member, (points - self.centres(points)[self.member]).norm(dim=-1)
        )
        self.radius = 0.85 * self.radius / self._count

    def centres(self, points: Tensor) -> Tensor:
        """(B, 3) of the balls when the vertices are at points (V, 3)."""
        total = points.new_zeros(len(self._count), 3).index_add_(0, self.member, points)
        return total / self._count[:, None]

    def hide(self, centres: Tensor, points: Tensor, normals: Tensor) -> Tensor:
        """(N,) share of ambient light that is left at points (N, 3) with normals (N, 3)."""
        squared = (
            (points**2).sum(-1, keepdim=True) + (centres**2).sum(-1) - 2 * points @ centres.T
        ).clamp_min(1e-6)
        along = normals @ centres.T - (normals * points).sum(-1, keepdim=True)
        ball = self.radius**2
        # a ball of radius r at distance d takes (r/d)^2 of the light from its direction
        hidden = (along / squared.sqrt()).clamp_min(0) * ball / squared
        hidden = torch.where(squared > 1.7 * ball, hidden, 0.0)  # a vertex's own ball
        return (1 - hidden.clamp_max(0.95)).log().sum(-1).exp()


def unit(vectors: Tensor) -> Tensor:
    """Unit vectors (..., 3)."""
    return F.normalize(vectors, dim=-1)
