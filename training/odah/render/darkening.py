"""How people darken the picture of the things: shadows, and light they take from the surroundings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from odah.render.light import Lamps
from odah.render.shadows import CasterShadows

# Shadows of area lights are soft, so in a large picture they are worked out at every fourth pixel.
_STRIDE, _POINTS_ALONG = 4, 160
_BLOCK = 8  # pixels: where there may be a shadow at all is decided for blocks
_AMBIENT_M = 0.5  # beyond its own size, how far a person takes light from the surroundings
_APART_M = 0.15


@dataclass(frozen=True)
class Region:
    """A part of the picture: rows y0 to y1, columns x0 to x1, the ends not included."""

    y0: int
    y1: int
    x0: int
    x1: int

    def __bool__(self) -> bool:
        return self.y1 > self.y0 and self.x1 > self.x0

    @property
    def slices(self) -> tuple[slice, slice]:
        return slice(self.y0, self.y1), slice(self.x0, self.x1)

    def within(self, other: Region) -> tuple[slice, slice]:
        """Its rows and columns counted from the corner of a larger region."""
        return (
            slice(self.y0 - other.y0, self.y1 - other.y0),
            slice(self.x0 - other.x0, self.x1 - other.x0),
        )

    def join(self, other: Region) -> Region:
        """The smallest region that holds both."""
        if not (self and other):
            return self or other
        return Region(
            min(self.y0, other.y0), max(self.y1, other.y1), min(self.x0, other.x0), max(self.x1, other.x1)
        )


class Darkening:
    """The surface points of a picture, ready to be asked how dark they get.

    Args:
        point, normal: (H, W, 3) world; points of the sky are infinite.
        ambient: (H, W, 3) irradiance; sources: (H, W, L) irradiance per strength of each source.
    """

    def __init__(self, lamps: Lamps, point: Tensor, normal: Tensor, ambient: Tensor, sources: Tensor):
        self.lamps = lamps
        self.height, self.width = point.shape[:2]
        self.stride = _STRIDE
        while self.stride > 1 and min(point.shape[:2]) < _POINTS_ALONG * self.stride:
            self.stride //= 2
        if lamps.sun is not None:
            self.stride = 1
        self._values = [
            values[:: self.stride, :: self.stride].contiguous()
            for values in (point, normal, ambient, sources)
        ]
        self._edges = depth_edges(point, self.stride) if self.stride > 1 else None

    def factor(
        self, people, casters: Sequence[CasterShadows], points: Tensor
    ) -> tuple[Tensor | None, Region]:
        """Share of light that is left, (h, w, 3) in a region of the picture; outside it all is left.

        ``people`` (`odah.render.people.People`) are at ``points`` (V, 3) and cast ``casters``.
        """
        stride = self.stride
        place = self._values[0]
        step = _BLOCK // stride
        few = place[::step, ::step]
        flat = few.reshape(-1, 3)
        touched = torch.zeros(len(flat), dtype=torch.bool, device=flat.device)
        for caster in casters:
            touched |= caster.may_shade(flat, 0.1)
            touched |= (flat - caster.centre).norm(dim=-1) < caster.radius + _AMBIENT_M
        touched = (touched & flat[:, 0].isfinite()).view(few.shape[:2]).float()
        touched = F.max_pool2d(touched[None, None], 3, 1, 1)[0, 0] > 0
        if not bool(touched.any()):
            return None, Region(0, 0, 0, 0)
        near = touched.repeat_interleave(step, 0).repeat_interleave(step, 1)
        near = near[: place.shape[0], : place.shape[1]] & place[..., 0].isfinite()
        chosen = near.reshape(-1).nonzero().squeeze(-1)
        rows, columns = touched.any(1).nonzero(), touched.any(0).nonzero()
        region = Region(
            int(rows[0]) * _BLOCK,
            min(self.height, int(rows[-1] + 1) * _BLOCK),
            int(columns[0]) * _BLOCK,
            min(self.width, int(columns[-1] + 1) * _BLOCK),
        )
        values = [v.view(near.numel(), -1)[chosen] for v in self._values]
        factor = torch.ones(near.numel(), 3, device=flat.device)
        factor[chosen] = self._left(*values, people, casters, points)
        factor = factor.view(*near.shape, 3)
        if stride == 1:
            return factor[region.slices], region
        return self._spread(factor, region), region

    def _left(self, place, normal, ambient, sources, people, casters, points) -> Tensor:
        """(N, 3) share of the light on surface points that people leave."""
        lamps = self.lamps
        hidden = people.hide(points, place, normal)
        seen = place.new_ones(len(place), len(lamps.position))
        sun = place.new_ones(len(place))
        for caster in casters:
            seen *= caster.lamps_seen(place, 0.01, smooth=True)
            if lamps.sun is not None:
                sun *= caster.sun_seen(place, 0.005)
        share = lamps.per_source(seen)
        share /= lamps.per_source(torch.ones_like(seen[:1])).clamp_min(1)
        if lamps.sun is not None:
            share = torch.cat([share, sun[:, None]], 1)
        before = ambient + sources @ lamps.strength
        after = ambient * hidden[:, None] + (sources * share) @ lamps.strength
        return (after + 1e-4) / (before + 1e-4)  # a lamp is not lit, and stays as it is

    def _spread(self, factor: Tensor, region: Region) -> Tensor:
        """Coarse factors (H / stride, W / stride, 3) to (h, w, 3), every pixel of the region.

        Bilinear; where that would carry the shadow on a floor over the edge of a table before it, the coarse
        point that is nearest in the world.
        """
        stride = self.stride
        height, width = region.y1 - region.y0, region.x1 - region.x0
        y0, x0 = region.y0 // stride, region.x0 // stride
        h, w = -(-height // stride) + 1, -(-width // stride) + 1
        part = factor[y0 : y0 + h, x0 : x0 + w].permute(2, 0, 1)[None]
        part = F.pad(part, (0, w - part.shape[3], 0, h - part.shape[2]), mode="replicate")
        # with aligned corners the coarse points are pixels 0, stride, 2 stride...
        size = ((h - 1) * stride + 1, (w - 1) * stride + 1)
        fine = F.interpolate(part, size, mode="bilinear", align_corners=True)[0, :, :height, :width]
        fine = fine.permute(1, 2, 0).contiguous()
        row, column, nearest = self._edges
        inside = (row >= region.y0) & (row < region.y1) & (column >= region.x0) & (column < region.x1)
        row, column, nearest = row[inside] - region.y0, column[inside] - region.x0, nearest[inside]
        fine[row, column] = factor.view(-1, 3)[nearest]
        return fine


def depth_edges(point: Tensor, stride: int) -> tuple[Tensor, Tensor, Tensor]:
    """Pixels of (H, W, 3) points between coarse points of which one lies far from them, and the nearest one.

    Returns:
        row (n,) and column (n,), and the flat index (n,) in the picture of every stride-th point.
    """
    height, width = point.shape[:2]
    coarse = point[::stride, ::stride]
    h, w = coarse.shape[:2]
    y, x = (torch.arange(n, device=point.device) // stride for n in (height, width))
    distances, index = [], []
    for dy in (0, 1):
        for dx in (0, 1):
            row, column = (y + dy).clamp_max(h - 1)[:, None], (x + dx).clamp_max(w - 1)[None]
            distances.append((coarse[row, column] - point).abs().amax(-1).nan_to_num(0.0, 1e3))
            index.append((row * w + column).expand(height, width))
    distances, index = torch.stack(distances, -1), torch.stack(index, -1)
    row, column = (distances.amax(-1) > _APART_M).nonzero(as_tuple=True)
    nearest = distances[row, column].argmin(-1, keepdim=True)
    return row, column, index[row, column].gather(1, nearest).squeeze(1)
