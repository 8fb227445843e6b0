"""Textures of all meshes in one table, each as a pyramid of smaller copies, read at the size that is seen."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from odah.render.rasterizer import srgb_to_linear


class TextureTable:
    """Pyramids of textures (h, w, 3) uint8 sRGB; texels are kept in linear light.

    Attributes:
        mean: (n, 3) mean linear colour of each texture.
        size: (n, 2) width and height.
    """

    def __init__(self, textures: list[np.ndarray], device: torch.device | str = "cpu"):
        texels, start, size, first, total = [], [], [], [], 0
        curve = srgb_to_linear(torch.arange(256) / 255)
        means = []
        for texture in textures:
            level = curve[torch.as_tensor(np.ascontiguousarray(texture)).long()].permute(2, 0, 1)[None]
            means.append(level.mean((0, 2, 3)))
            first.append(len(start))
            while True:
                height, width = level.shape[2:]
                texels.append(level[0].permute(1, 2, 0).reshape(-1, 3).half())
                start.append(total)
                size.append((width, height))
                total += height * width
                if max(height, width) == 1:
                    break
                level = F.interpolate(level, size=(max(1, height // 2), max(1, width // 2)), mode="area")
        self._texels = torch.cat(texels).to(device)
        self._start = torch.tensor(start, device=device)
        self._size = torch.tensor(size, device=device)
        self._first = torch.tensor(first, device=device)
        self._levels = torch.tensor(np.diff([*first, len(start)]), device=device)
        self.mean = torch.stack(means).to(device)
        self.size = self._size[self._first]

    def level_of_detail(self, uv: Tensor, pixels: Tensor, texture: Tensor) -> Tensor:
        """(F,) base-2 logarithm of the texels a pixel is wide, of faces with uv and pixels (F, 3, 2) each."""

        def area(corners: Tensor) -> Tensor:
            a, b = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
            return (a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]).abs()

        texels = area(uv) * self.size[texture].prod(-1)
        return 0.5 * torch.log2(texels.clamp_min(1e-12) / area(pixels).clamp_min(1e-9))

    def sample(self, texture: Tensor, uv: Tensor, lod: Tensor, smooth: bool = False) -> Tensor:
        """Linear colours (n, 3): bilinear at the nearest level, or between two levels when ``smooth``.

        texture (n,) index; uv (n, 2), row 0 of a texture is v = 1; lod (n,) from `level_of_detail`.
        """
        top = self._levels[texture] - 1
        lod = torch.minimum(lod.clamp_min(0), top.to(lod.dtype))
        if not smooth:
            return self._bilinear(self._first[texture] + (lod + 0.5).long().clamp_max(top), uv)
        low = lod.long()
        first = self._first[texture]
        colour = self._bilinear(first + low, uv)
        between = (lod > low).nonzero().squeeze(-1)
        coarser = self._bilinear(first[between] + low[between] + 1, uv[between])
        colour[between] = torch.lerp(colour[between], coarser, (lod - low)[between, None])
        return colour

    def _bilinear(self, level: Tensor, uv: Tensor) -> Tensor:
        size = self._size[level]
        width, height = size[:, 0], size[:, 1]
        x = torch.remainder(uv[:, 0], 1) * width - 0.5
        y = torch.remainder(-uv[:, 1], 1) * height - 0.5  # 1 - v, repeated
        x0, y0 = x.floor(), y.floor()
        fx, fy = (x - x0)[:, None], (y - y0)[:, None]
        x0, y0 = x0.long(), y0.long()
        left, right = torch.remainder(x0, width), torch.remainder(x0 + 1, width)
        start = self._start[level]
        top, bottom = (start + torch.remainder(row, height) * width for row in (y0, y0 + 1))
        t = self._texels
        upper = torch.lerp(t[top + left].float(), t[top + right].float(), fx)
        lower = torch.lerp(t[bottom + left].float(), t[bottom + right].float(), fx)
        return torch.lerp(upper, lower, fy)
