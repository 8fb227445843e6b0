"""Shadow maps: what lamps see of the things, once a scene, and of the people, once a frame. PyTorch.

Things are drawn into the maps as triangles. People are fine meshes seen from a few dozen lamp points, so
their vertices are enough: scattered into small maps, grown by a texel. Under the sun people are drawn as
triangles.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from odah.render.geometry import clip_near
from odah.render.light import Lamps
from odah.render.zbuffer import draw_depth

_STATIC_SIZE, _STATIC_TAN = 256, 2.2  # a lamp's view of the things: pixels a side, tangent of half its angle
_SUN_SIZE, _SUN_REACH_M = 1536, 12.0
_CASTER_SIZE, _CASTER_SUN_SIZE = 128, 384
_NEAR_M = 0.02


def look_along(direction: Tensor) -> Tensor:
    """(..., 3, 3) rotations whose third rows are the unit vectors ``direction`` (..., 3)."""
    helper = torch.zeros_like(direction)
    flat = direction[..., 2].abs() < 0.9
    helper[..., 2] = flat.to(direction.dtype)
    helper[..., 0] = (~flat).to(direction.dtype)
    x = F.normalize(torch.linalg.cross(direction, helper, dim=-1), dim=-1)
    return torch.stack([x, torch.linalg.cross(direction, x, dim=-1), direction], -2)


def lookup(maps: Tensor, index: Tensor | None, x: Tensor, y: Tensor, depth: Tensor, smooth: bool) -> Tensor:
    """Share of light that reaches points at pixels x, y (n,) and ``depth`` (n,) of a map.

    maps (M, S + 2, S + 2), see `_rim`; ``index`` (n,) picks one. Outside a map everything is lit.
    ``smooth`` weighs the four pixels around.
    """
    size = maps.shape[-1]  # with a rim of one pixel, where nothing is
    flat = maps.view(-1)
    base = 0 if index is None else index * (size * size)
    x, y = (x + 1).clamp(0, size - 1.01), (y + 1).clamp(0, size - 1.01)
    if not smooth:
        return (depth <= flat[(y + 0.5).long() * size + (x + 0.5).long() + base]).to(depth.dtype)
    x0, y0 = x.long(), y.long()
    fx, fy = x - x0, y - y0
    corner = y0 * size + x0 + base

    def lit(step: int) -> Tensor:
        return (depth <= flat[corner + step]).to(depth.dtype)

    return torch.lerp(torch.lerp(lit(0), lit(1), fx), torch.lerp(lit(size), lit(size + 1), fx), fy)


def _rim(maps: Tensor) -> Tensor:
    """Maps (M, S, S) with a pixel more on each side, behind everything."""
    return F.pad(maps, (1, 1, 1, 1), value=torch.inf)


class Parallel:
    """A square view along the sun's rays: centre (3,), half its width in m, pixels a side."""

    def __init__(self, towards_sun: Tensor, centre: Tensor, half: float, size: int):
        self.rotation = look_along(-towards_sun)
        self.centre, self.half, self.size = centre, half, size
        self.far = 200.0 + 4 * half

    def project(self, points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Pixels x, y and depth along the rays, of points (N, 3)."""
        local = (points - self.centre) @ self.rotation.T
        x, y = ((local[:, k] / self.half + 1) * (self.size / 2) - 0.5 for k in (0, 1))
        return x, y, local[:, 2]

    def depth(self, points: Tensor, faces: Tensor) -> Tensor:
        """(1, S + 2, S + 2) depth of the nearest face, with a rim where there is none."""
        x, y, z = self.project(points)
        # what the z-buffer interpolates linearly must be linear on the screen: here that is the depth itself
        drawn = draw_depth(torch.stack([x, y, self.far - z], -1)[None], faces, self.size, self.size)
        return _rim(self.far - 1 / drawn)


class StaticShadows:
    """What the things keep from the lamps and the sun."""

    def __init__(self, lamps: Lamps, points: np.ndarray, faces: np.ndarray, centre: Tensor):
        """points (V, 3), faces (F, 3) of all things; ``centre`` (3,) of where the people are."""
        self.lamps = lamps
        device = lamps.strength.device
        self.rotation = look_along(lamps.normal)
        maps = []
        empty = np.zeros((len(points), 0))
        for k in range(len(lamps.position)):
            local = (points - lamps.position[k].cpu().numpy()) @ self.rotation[k].cpu().numpy().T
            cut, kept, _, _ = clip_near(local, faces, empty, _NEAR_M)
            screen = self._screen(torch.as_tensor(cut, dtype=torch.float32, device=device))
            size = _STATIC_SIZE
            maps.append(draw_depth(screen[None], torch.as_tensor(kept, device=device), size, size))
        self.maps = _rim(torch.cat(maps)) if maps else torch.zeros(0, 1, 1, device=device)
        self.sun_view = None
        if lamps.sun is not None:
            self.sun_view = Parallel(lamps.sun, centre, _SUN_REACH_M, _SUN_SIZE)
            self.sun_map = self.sun_view.depth(
                torch.as_tensor(points, dtype=torch.float32, device=device),
                torch.as_tensor(faces, device=device),
            )

    @staticmethod
    def _screen(local: Tensor) -> Tensor:
        z = local[..., 2].clamp_min(1e-6)
        half = _STATIC_SIZE / 2
        x, y = ((local[..., k] / z / _STATIC_TAN + 1) * half - 0.5 for k in (0, 1))
        return torch.stack([x, y, 1 / z], -1)

    def lamps_seen(self, points: Tensor, normals: Tensor) -> Tensor:
        """(N, K) share of each lamp point that points (N, 3) see."""
        count = len(self.maps)
        out = points.new_ones(len(points), count)
        lifted = points + 0.02 * normals
        for k in range(count):
            local = (lifted - self.lamps.position[k]) @ self.rotation[k].T
            x, y, inverse = self._screen(local).unbind(-1)
            depth = local[:, 2] * 0.99 - 0.02
            seen = lookup(self.maps[k : k + 1], None, x, y, depth, smooth=True)
            out[:, k] = torch.where(local[:, 2] > _NEAR_M, seen, 1.0)
        return out

    def sun_seen(self, points: Tensor, normals: Tensor) -> Tensor | None:
        """(N,) share of the sun that points (N, 3) see, or None when there is no sun."""
        if self.sun_view is None:
            return None
        x, y, depth = self.sun_view.project(points + 0.02 * normals)
        return lookup(self.sun_map, None, x, y, depth - 0.02, smooth=True)


class CasterShadows:
    """What one person keeps from the lamps and the sun in one frame."""

    def __init__(self, lamps: Lamps, points: Tensor, faces: Tensor, spacing: float):
        """points (V, 3) of the person's meshes; faces (F, 3) of these; ``spacing`` of the points, m."""
        self.lamps = lamps
        low, high = points.amin(0), points.amax(0)
        self.centre = 0.5 * (low + high)
        self.radius = float((points - self.centre).norm(dim=-1).max()) + 0.03
        self._lamp_maps(points, spacing)
        if lamps.sun is not None:
            self.sun_view = Parallel(lamps.sun, self.centre, self.radius, _CASTER_SUN_SIZE)
            self.sun_map = self.sun_view.depth(points, faces)

    def _lamp_maps(self, points: Tensor, spacing: float) -> None:
        lamps, size = self.lamps, _CASTER_SIZE
        count = len(lamps.position)
        offset = self.centre - lamps.position
        distance = offset.norm(dim=-1)
        self.rotation = look_along(offset / distance.clamp_min(1e-6)[:, None])
        # three texels, which a vertex darkens, must be wider than the gap to the next
        half = max(self.radius, 0.25 * spacing * size)
        self.lift = 3 * half / size  # a texel and a half, m: by that the shadows are too wide
        gap = (distance**2 - self.radius**2).clamp_min(1e-4).sqrt()
        self.tan = (half / gap).clamp_max(2.5)
        x, y, z = self._project(points)  # (K, V) each
        column, row = (x + 0.5).floor().long(), (y + 0.5).floor().long()
        inside = (z > _NEAR_M) & (column >= 0) & (column < size) & (row >= 0) & (row < size)
        place = torch.arange(count, device=points.device)[:, None] * (size * size) + row * size + column
        flat = torch.full((count * size * size,), torch.inf, device=points.device)
        flat.scatter_reduce_(0, place[inside], z[inside], "amin")
        self.maps = _rim(-F.max_pool2d(-flat.view(count, 1, size, size), 3, 1, 1)[:, 0])

    def _project(self, points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Pixels x, y and depth (K, N) of points (N, 3) in the map of each lamp point."""
        turned = torch.einsum("kij,nj->kin", self.rotation, points)
        local = turned - (self.rotation @ self.lamps.position[..., None])
        z = local[:, 2]
        scale = (_CASTER_SIZE / 2) / (z.clamp_min(1e-6) * self.tan[:, None])
        x, y = (local[:, k] * scale + (_CASTER_SIZE / 2 - 0.5) for k in (0, 1))
        return x, y, z

    def lamps_seen(self, points: Tensor, bias: float, smooth: bool) -> Tensor:
        """(N, K) share of each lamp point that points (N, 3) see past this person."""
        if not len(self.maps):
            return points.new_ones(len(points), 0)
        x, y, z = self._project(points)
        index = torch.arange(len(self.maps), device=points.device)[:, None].expand_as(x)
        return lookup(self.maps, index, x, y, z - bias, smooth).T

    def sun_seen(self, points: Tensor, bias: float) -> Tensor:
        """(N,) share of the sun that points (N, 3) see past this person."""
        x, y, depth = self.sun_view.project(points)
        depth = depth - bias
        texel = 2 * self.radius / _CASTER_SUN_SIZE
        # how far a soft edge spreads, for a shadow thrown over half a person's size
        spread = 0.5 * self.lamps.sun_angle * self.radius / texel
        if spread < 1:
            return lookup(self.sun_map, None, x, y, depth, smooth=True)
        taps = 8
        total = torch.zeros_like(x)
        for k in range(taps):
            reach, turn = spread * math.sqrt((k + 0.5) / taps), 2.39996 * k  # sunflower
            total += lookup(
                self.sun_map, None, x + reach * math.cos(turn), y + reach * math.sin(turn), depth, smooth=True
            )
        return total / taps

    def may_shade(self, points: Tensor, margin: float) -> Tensor:
        """(N,) bool: points (N, 3) that this person may keep some light from."""
        out = torch.zeros(len(points), dtype=torch.bool, device=points.device)
        reach = self.radius + margin
        for position in self.lamps.centre:
            ray = points - position
            length = ray.norm(dim=-1).clamp_min(1e-6)
            offset = self.centre - position
            along = (ray @ offset) / length
            squared = (offset**2).sum() - along**2
            # the shadow widens behind the person as seen from the lamp's far corner
            wide = reach * (length / along.clamp_min(0.1)).clamp(1, 2)
            out |= (squared < wide**2) & (along > 0) & (length > along - reach)
        if self.lamps.sun is not None:
            offset = points - self.centre
            along = offset @ self.lamps.sun
            squared = (offset**2).sum(-1) - along**2
            out |= (squared < reach**2) & (along < reach)
        return out
