"""The two views' smallest maps look at each other, so that each is read in the light of the other.

Whether a leg is the left one, or where a hidden arm is: one picture often leaves it open, the other shows it.
Self-attention (Vaswani et al. 2017) over the few cells of both, each of which knows its ray.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pose2sim_biokin.network.points import pixel_rays
from pose2sim_biokin.network.presets import MeetingSize


class AttentionLayer(nn.Module):
    """Attention, then a two-layer perceptron, each behind a normalisation and added to its input."""

    def __init__(self, width: int, heads: int, expansion: int):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mix = nn.Linear(width, 3 * width)
        self.join = nn.Linear(width, width)
        self.wide = nn.Linear(width, expansion * width)
        self.narrow = nn.Linear(expansion * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, M, W) to (B, M, W)."""
        parts = self.mix(self.norm1(x)).chunk(3, -1)
        query, key, value = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts)
        # Plain products: PyTorch's fused attention is many times slower on CPUs for so few cells.
        weights = (query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5).softmax(-1)
        x = x + self.join((weights.to(value.dtype) @ value).transpose(1, 2).flatten(2))
        return x + self.narrow(F.gelu(self.wide(self.norm2(x))))


class ViewMeeting(nn.Module):
    """Maps of both views in, what each has learnt from the other added to them.

    The last layer starts at zero, so that it can be added to a trained network.

    Args:
        size: see MeetingSize.
        channels: of the maps.
    """

    def __init__(self, size: MeetingSize, channels: int):
        super().__init__()
        self.enter = nn.Linear(channels, channels)
        self.ray = nn.Sequential(nn.Linear(6, channels), nn.ReLU(), nn.Linear(channels, channels))
        self.layers = nn.ModuleList(
            AttentionLayer(channels, size.heads, size.expansion) for _ in range(size.layers)
        )
        self.norm = nn.LayerNorm(channels)
        self.leave = nn.Linear(channels, channels)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)

    def forward(self, maps: Tensor, rays: Tensor) -> Tensor:
        """Maps (2B, C, h, h), two a pair, and the rays of their cells (B, 2 h h, 6), to (2B, C, h, h)."""
        side = maps.shape[-1]
        cells = maps.flatten(2).transpose(1, 2).unflatten(0, (-1, 2)).flatten(1, 2)  # (B, 2 h h, C)
        x = self.enter(cells) + self.ray(rays)
        for layer in self.layers:
            x = layer(x)
        more = self.leave(self.norm(x)).unflatten(1, (2, side, side)).flatten(0, 1)
        return maps + more.permute(0, 3, 1, 2).to(maps.dtype)


def cell_rays(K: Tensor, R: Tensor, t: Tensor, size: int, side: int) -> Tensor:
    """Where the cells of maps of side `side` look.

    Args:
        K, R: (B, 2, 3, 3), t: (B, 2, 3) of cameras whose pictures have side `size`.

    Returns:
        (B, 2 side side, 6) of each cell's middle: the ray's unit direction, and its point nearest to the
        origin, m, in the cameras' frame.
    """
    step = size / side
    middle = torch.arange(side, device=K.device, dtype=torch.float32) * step + (step - 1) / 2
    y, x = torch.meshgrid(middle, middle, indexing="ij")
    pixels = torch.stack([x, y], -1).flatten(0, 1).expand(*t.shape[:2], -1, -1)  # (B, 2, h h, 2)
    direction, center = pixel_rays(pixels, K, R, t)
    nearest = center - (center * direction).sum(-1, keepdim=True) * direction
    return torch.cat([direction, nearest], -1).flatten(1, 2)
