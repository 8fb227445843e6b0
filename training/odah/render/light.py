"""Light of a scene: lamps as a few points each, the sun, the sky. Radiometry is linear RGB; PyTorch.

A surface of albedo a that receives irradiance E sends out the radiance a E / pi.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from odah.scenes.scene import AreaLight, Sky, Sun

_SPACING_M = 0.15  # of the points of a lamp, wider where there are many lamps
_MOST_POINTS = 32  # of all lamps together


def sky_radiance(sky: Sky, z: np.ndarray) -> np.ndarray:
    """Radiance (..., 3) that comes from directions whose upward component is z (...).

    From the horizon to the zenith it changes with the square root of z; below the horizon is the ground.
    """
    z = np.asarray(z, dtype=np.float64)[..., None]
    above = sky.horizon + (sky.zenith - sky.horizon) * np.sqrt(np.clip(z, 0, 1))
    return np.where(z > 0, above, np.asarray(sky.ground))


def sky_irradiance_table(sky: Sky, steps: int = 65) -> tuple[np.ndarray, np.ndarray]:
    """Irradiance (steps, 3) from the upper and from the lower half, for normals with z from -1 to 1.

    The sky is the same all around, so the integral over azimuth is done numerically once.
    """
    z = (np.arange(128) + 0.5) / 64 - 1
    azimuth = (np.arange(128) + 0.5) * (2 * np.pi / 128)
    level = np.sqrt(1 - z**2)
    radiance = sky_radiance(sky, z)
    up, down = [], []
    for nz in np.linspace(-1, 1, steps):
        cosine = math.sqrt(max(0.0, 1 - nz * nz)) * level[:, None] * np.cos(azimuth) + nz * z[:, None]
        weight = np.clip(cosine, 0, None).sum(1)[:, None] * (2 * np.pi / 128) / 64
        up.append((weight * radiance)[z > 0].sum(0))
        down.append((weight * radiance)[z < 0].sum(0))
    return np.array(up), np.array(down)


class Lamps:
    """Area lights and the sun as sources.

    Attributes:
        strength: (L, 3) radiance of each area light; then, if there is a sun, its irradiance.
        position, normal: (K, 3) points on the area lights and the way they shine; area: (K,) m2 each.
        source: (K,) index of each point's area light.
        centre: (L - sun, 3) of the area lights.
        sun: (3,) towards the sun, or None; sun_angle: its apparent diameter, rad.
    """

    def __init__(
        self, lights: Sequence[AreaLight], sun: Sun | None, device: torch.device | str = "cpu"
    ) -> None:
        spacing = _SPACING_M
        while True:
            grids = [_grid(light, spacing) for light in lights]
            if sum(len(g) for g in grids) <= max(_MOST_POINTS, len(lights)):
                break
            spacing *= 1.25

        def tensor(values, shape) -> Tensor:
            return torch.as_tensor(np.array(values, dtype=np.float32).reshape(shape), device=device)

        normals = [np.cross(light.u, light.v) for light in lights]
        areas = [4 * np.linalg.norm(n) for n in normals]
        counts = [len(g) for g in grids]
        self.position = tensor([p for g in grids for p in g], (-1, 3))
        self.normal = F.normalize(tensor(np.repeat(np.reshape(normals, (-1, 3)), counts, 0), (-1, 3)), dim=-1)
        self.area = tensor(np.repeat(np.divide(areas, counts), counts), (-1,))
        self.source = torch.as_tensor(np.repeat(np.arange(len(lights)), counts), device=device).long()
        self.centre = tensor([light.centre for light in lights], (-1, 3))
        strength = [light.radiance for light in lights] + ([sun.irradiance] if sun else [])
        self.strength = tensor(strength, (-1, 3))
        self.sun = F.normalize(tensor(sun.direction, (3,)), dim=0) if sun else None
        self.sun_angle = sun.angle if sun else 0.0

    def per_source(self, values: Tensor) -> Tensor:
        """Sums (N, L of area lights) of values (N, K) of the points."""
        out = values.new_zeros(len(values), len(self.centre))
        return out.index_add_(1, self.source, values)

    def receive(
        self, points: Tensor, normals: Tensor, seen: Tensor, sun_seen: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Irradiance per unit of strength.

        Args:
            points, normals: (N, 3).  seen: (N, K) share of each lamp point that is not hidden.
            sun_seen: (N,) or None when there is no sun.

        Returns:
            (N, L), and the geometry terms (N, K) of the points, which highlights need.
        """
        towards = self.position - points[:, None]  # (N, K, 3)
        squared = (towards**2).sum(-1)
        distance = squared.sqrt().clamp_min(1e-6)
        cosine = (towards * normals[:, None]).sum(-1).clamp_min(0)
        lamp = -(towards * self.normal).sum(-1)
        # a disc of the point's area, so that what touches a lamp is not infinitely bright
        term = cosine * lamp.clamp_min(0) / distance**2 * self.area / (squared + self.area / math.pi) * seen
        out = self.per_source(term)
        if self.sun is not None:
            out = torch.cat([out, ((normals @ self.sun).clamp_min(0) * sun_seen)[:, None]], 1)
        return out, term

    def highlights(
        self,
        points: Tensor,
        normals: Tensor,
        eye: Tensor,
        rough: Tensor,
        term: Tensor,
        sun_term: Tensor | None,
    ) -> Tensor:
        """Radiance (N, 3) of a highlight whose reflectance at normal incidence is 1 (GGX, no Fresnel).

        eye (N, 3) unit vectors to the camera, rough (N,), term (N, K) and sun_term (N,) from `receive`.
        """
        towards = F.normalize(self.position - points[:, None], dim=-1)
        # a lamp is wider than a point: its size blurs the highlight
        alpha = (rough**2)[:, None]
        wide = (alpha + 0.15).clamp_max(1.0)
        lobe = _ggx((normals[:, None] * F.normalize(towards + eye[:, None], dim=-1)).sum(-1), wide)
        out = self.per_source(lobe * term) @ self.strength[: len(self.centre)]
        if self.sun is not None:
            half = F.normalize(self.sun + eye, dim=-1)
            lobe = _ggx((normals * half).sum(-1, keepdim=True), (alpha + 0.05).clamp_max(1.0))
            out = out + lobe * sun_term[:, None] * self.strength[-1]
        return out


def _grid(light: AreaLight, spacing: float) -> np.ndarray:
    """Points (n, 3) in the cells of a grid over the lamp, at most 6 along a side."""
    na, nb = (int(np.clip(round(2 * np.linalg.norm(side) / spacing), 1, 6)) for side in (light.u, light.v))
    a, b = ((np.arange(n) + 0.5) * 2 / n - 1 for n in (na, nb))
    a, b = (g.reshape(-1, 1) for g in np.meshgrid(a, b, indexing="ij"))
    return np.asarray(light.centre) + a * np.asarray(light.u) + b * np.asarray(light.v)


def _ggx(cosine: Tensor, alpha: Tensor) -> Tensor:
    """GGX distribution times the usual 1/4 of the microfacet formula, visibility taken as 1."""
    squared = alpha**2
    below = cosine.clamp_min(0) ** 2 * (squared - 1) + 1
    return squared / (4 * math.pi * below**2)
