"""The picture encoder: a stacked hourglass, as published and in a quick form for CPUs.

The published form is the hourglass of PIFu (Saito et al. 2019), after Newell et al. 2016, without the pooling
in its stem: maps of half the picture's side.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pose2sim_biokin.network.meeting import ViewMeeting
from pose2sim_biokin.network.presets import HourglassSize


def make_norm(size: HourglassSize, channels: int) -> nn.Module:
    """GroupNorm or BatchNorm of `channels`."""
    if size.norm == "batch":
        return nn.BatchNorm2d(channels)
    return nn.GroupNorm(min(size.groups, channels), channels)


class HierarchicalBlock(nn.Module):
    """Three 3x3 convolutions of 1/2, 1/4 and 1/4 of the width, side by side, plus the input (Bulat 2017)."""

    def __init__(self, inputs: int, outputs: int, size: HourglassSize):
        super().__init__()
        widths = (inputs, outputs // 2, outputs // 4, outputs // 4)
        self.norms = nn.ModuleList(make_norm(size, width) for width in widths[:3])
        self.convs = nn.ModuleList(
            nn.Conv2d(a, b, 3, padding=1, bias=False) for a, b in zip(widths[:3], widths[1:], strict=True)
        )
        self.skip = None
        if inputs != outputs:
            self.skip = nn.Sequential(
                make_norm(size, inputs), nn.ReLU(), nn.Conv2d(inputs, outputs, 1, bias=False)
            )

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) to (B, outputs, H, W)."""
        y, parts = x, []
        for norm, conv in zip(self.norms, self.convs, strict=True):
            y = conv(F.relu(norm(y)))
            parts.append(y)
        return torch.cat(parts, 1) + (x if self.skip is None else self.skip(x))


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions plus the input: fewer passes over memory than the published block."""

    def __init__(self, inputs: int, outputs: int, size: HourglassSize):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.norm1 = make_norm(size, outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = make_norm(size, outputs)
        self.skip = nn.Conv2d(inputs, outputs, 1, bias=False) if inputs != outputs else None

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) to (B, outputs, H, W)."""
        y = F.relu(self.norm1(self.conv1(x)))
        y = self.norm2(self.conv2(y))
        return F.relu(y + (x if self.skip is None else self.skip(x)))


_BLOCKS = {"hierarchical": HierarchicalBlock, "residual": ResidualBlock}


class Hourglass(nn.Module):
    """Halve the maps `depth` times and come back, with a skip at every level."""

    def __init__(self, size: HourglassSize, level: int):
        super().__init__()
        block = _BLOCKS[size.block]
        widths = size.widths or (size.channels,) * size.depth
        outer = size.channels if level == 0 else widths[level - 1]
        inner = widths[level]
        self.upper = block(outer, outer, size)
        self.down = block(outer, inner, size)
        last = level == size.depth - 1
        self.inner = block(inner, inner, size) if last else Hourglass(size, level + 1)
        self.up = block(inner, outer, size)
        self.meeting = ViewMeeting(size.meeting, inner) if last and size.meeting.layers else None
        self.smooth = size.norm == "group"

    def forward(self, x: Tensor, rays: Callable[[int], Tensor]) -> Tensor:
        """(B, C, H, W) to (B, C, H, W); `rays` gives those of a map's cells, see ViewMeeting, by its side."""
        low = self.down(F.avg_pool2d(x, 2))
        if isinstance(self.inner, Hourglass):
            low = self.inner(low, rays)
        else:
            low = self.inner(low)
            if self.meeting is not None:
                low = self.meeting(low, rays(low.shape[-1]))
        low = self.up(low)
        if self.smooth:
            low = F.interpolate(low, scale_factor=2.0, mode="bicubic", align_corners=True)
        else:
            low = F.interpolate(low, scale_factor=2.0, mode="nearest")
        return self.upper(x) + low


class StackedHourglass(nn.Module):
    """Pictures to the outputs of all stacks, and their heatmaps.

    Args:
        size: see HourglassSize.
        keypoints: number of heatmaps (used where `size.heatmaps`).
    """

    def __init__(self, size: HourglassSize, keypoints: int):
        super().__init__()
        self.size = size
        c, inputs = size.channels, 4 if size.mask_channel else 3
        block = _BLOCKS[size.block]
        if size.stem == "published":
            first = size.stem_channels
            self.stem = nn.Sequential(
                nn.Conv2d(inputs, first, 7, stride=2, padding=3),
                make_norm(size, first),
                nn.ReLU(),
                block(first, c // 2, size),
                block(c // 2, c // 2, size),
                block(c // 2, c, size),
            )
            self.stride = 2
        else:
            first = size.stem_channels
            self.stem = nn.Sequential(
                nn.Conv2d(inputs, first, 3, stride=2, padding=1, bias=False),
                make_norm(size, first),
                nn.ReLU(),
                nn.Conv2d(first, c, 3, stride=2, padding=1, bias=False),
                make_norm(size, c),
                nn.ReLU(),
                block(c, c, size),
            )
            self.stride = 4
        more = range(size.stacks - 1)
        every = range(size.stacks)
        self.hourglasses = nn.ModuleList(Hourglass(size, 0) for _ in every)
        self.tops = nn.ModuleList(nn.Identity() if size.lean else block(c, c, size) for _ in every)
        self.lasts = nn.ModuleList(
            nn.Identity() if size.lean else nn.Sequential(nn.Conv2d(c, c, 1), make_norm(size, c), nn.ReLU())
            for _ in every
        )
        self.outs = nn.ModuleList(nn.Conv2d(c, c, 1) for _ in every)
        self.reduce = nn.ModuleList(
            nn.Conv2d(c, size.out_channels, 1) if size.out_channels else nn.Identity() for _ in every
        )
        self.back_features = nn.ModuleList(nn.Conv2d(c, c, 1) for _ in more)
        self.back_outs = nn.ModuleList(nn.Conv2d(c, c, 1) for _ in more)
        self.heats = nn.ModuleList()
        if size.heatmaps:
            self.heats.extend(nn.Conv2d(c, keypoints, 1) for _ in every)

    def forward(
        self, images: Tensor, rays: Callable[[int], Tensor]
    ) -> tuple[list[Tensor], list[Tensor], Tensor]:
        """Pictures (B, 3 or 4, S, S), and what gives the rays of their maps' cells (see ViewMeeting), to each
        stack's output (B, out, H, H) and heatmap logits (B, K, H, H), and the maps of the stem's first
        convolution (B, stem_channels, S/2, S/2).
        """
        early = self.stem[:3](images)
        x = self.stem[3:](early)
        outs, heats = [], []
        for i, hourglass in enumerate(self.hourglasses):
            y = self.lasts[i](self.tops[i](hourglass(x, rays)))
            out = self.outs[i](y)
            outs.append(self.reduce[i](out))
            if self.size.heatmaps:
                heats.append(self.heats[i](out))
            if i + 1 < len(self.hourglasses):
                x = x + self.back_features[i](y) + self.back_outs[i](out)
        return outs, heats, early
