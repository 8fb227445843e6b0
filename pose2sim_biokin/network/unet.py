"""The temporal refinement: a U-Net of Restormer's blocks (Zamir et al. 2022) on maps of D features x T
frames.

Attention is over channels, so its cost is linear in time; the maps are halved along time only.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pose2sim_biokin.errors import BiokinError
from pose2sim_biokin.network.presets import RefinementSize


class ChannelNorm(nn.Module):
    """LayerNorm over the channels of (B, C, T, 1)."""

    def __init__(self, channels: int):
        super().__init__()
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T, 1) to the same."""
        return self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ChannelAttention(nn.Module):
    """Multi-head attention between channels (Restormer's MDTA)."""

    def __init__(self, channels: int, heads: int, kernel: tuple[int, int]):
        super().__init__()
        self.heads = heads
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))
        self.qkv = nn.Conv2d(channels, channels * 3, 1, bias=False)
        self.mix = _conv(channels * 3, channels * 3, kernel, groups=channels * 3)
        self.out = nn.Conv2d(channels, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T, 1) to the same."""
        q, k, v = (
            part.flatten(2).unflatten(1, (self.heads, -1)) for part in self.mix(self.qkv(x)).chunk(3, dim=1)
        )  # (B, heads, C / heads, T)
        q, k = F.normalize(q, dim=-1), F.normalize(k, dim=-1)
        attention = (q @ k.transpose(-1, -2) * self.temperature).softmax(-1)
        return self.out((attention @ v).flatten(1, 2).unflatten(2, x.shape[2:]))


class GatedFeedForward(nn.Module):
    """Restormer's GDFN."""

    def __init__(self, channels: int, expansion: float, kernel: tuple[int, int]):
        super().__init__()
        hidden = int(channels * expansion)
        self.inner = nn.Conv2d(channels, hidden * 2, 1, bias=False)
        self.mix = _conv(hidden * 2, hidden * 2, kernel, groups=hidden * 2)
        self.out = nn.Conv2d(hidden, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T, 1) to the same."""
        gate, value = self.mix(self.inner(x)).chunk(2, dim=1)
        return self.out(F.gelu(gate) * value)


class Block(nn.Module):
    """Attention and feed-forward part, each normalised before and added to its input."""

    def __init__(self, channels: int, heads: int, expansion: float, kernel: tuple[int, int]):
        super().__init__()
        self.norm1, self.norm2 = ChannelNorm(channels), ChannelNorm(channels)
        self.attention = ChannelAttention(channels, heads, kernel)
        self.feed_forward = GatedFeedForward(channels, expansion, kernel)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T, 1) to the same."""
        x = x + self.attention(self.norm1(x))
        return x + self.feed_forward(self.norm2(x))


class TemporalFilter(nn.Module):
    """A learnt filter over time, one for each channel; at first a Gaussian low-pass filter.

    The ends are continued by their point reflection, so that a steady change is kept up to the ends.

    Args:
        channels: C.
        taps: odd, below twice the window.
        deviation: of the Gaussian, frames (1.6: half the power passes at 5 Hz of 60 Hz).
    """

    def __init__(self, channels: int, taps: int, deviation: float = 1.6):
        super().__init__()
        if taps % 2 == 0:
            raise BiokinError(f"preset.refinement: smoothing is {taps} taps, expected an odd number (or 0).")
        place = torch.arange(taps) - taps // 2
        kernel = (-(place**2) / (2 * deviation**2)).softmax(0)
        self.weight = nn.Parameter(kernel.repeat(channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T) to the same."""
        half = self.weight.shape[-1] // 2
        before = 2 * x[..., :1] - x[..., 1 : half + 1].flip(-1)
        after = 2 * x[..., -1:] - x[..., -half - 1 : -1].flip(-1)
        return F.conv1d(torch.cat([before, x, after], -1), self.weight, groups=len(self.weight))


class TemporalUNet(nn.Module):
    """Features of a window of frames to features of a window of frames.

    Args:
        size: see RefinementSize.
        features: D, channels of the input.
        outputs: channels of the result of each frame.
    """

    def __init__(self, size: RefinementSize, features: int, outputs: int):
        super().__init__()
        c1, c2, c3 = size.channels
        self.factors = size.factors
        kernel = (3, 3) if size.square else (3, 1)

        def level(count: int, channels: int, heads: int) -> nn.Sequential:
            return nn.Sequential(*(Block(channels, heads, size.expansion, kernel) for _ in range(count)))

        f1, f2 = size.factors
        self.embed = _conv(features, c1, kernel)
        self.encoder1 = level(size.blocks[0], c1, size.heads[0])
        self.down1 = _conv(c1, c2 // f1, kernel)
        self.encoder2 = level(size.blocks[1], c2, size.heads[1])
        self.down2 = _conv(c2, c3 // f2, kernel)
        self.latent = level(size.blocks[2], c3, size.heads[2])
        self.up2 = _conv(c3, c2 * f2, kernel)
        self.reduce2 = nn.Conv2d(2 * c2, c2, 1, bias=False)
        self.decoder2 = level(size.blocks[1], c2, size.heads[1])
        self.up1 = _conv(c2, c1 * f1, kernel)
        self.decoder1 = level(size.blocks[0], 2 * c1, size.heads[0])
        self.final = level(size.final_blocks, 2 * c1, size.heads[0])
        self.out = _conv(2 * c1, outputs, kernel, bias=True)
        if size.residual:
            # An untrained refinement then changes nothing.
            nn.init.zeros_(self.out.weight)
            nn.init.zeros_(self.out.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, D, T) to (B, outputs, T); T a multiple of the product of the factors."""
        f1, f2 = self.factors
        one = self.encoder1(self.embed(x[..., None]))  # (B, c1, T, 1)
        two = self.encoder2(fold_time(self.down1(one), f1))  # (B, c2, T / f1, 1)
        y = self.latent(fold_time(self.down2(two), f2))  # (B, c3, T / (f1 f2), 1)
        y = self.decoder2(self.reduce2(torch.cat([unfold_time(self.up2(y), f2), two], 1)))
        y = self.decoder1(torch.cat([unfold_time(self.up1(y), f1), one], 1))
        return self.out(self.final(y))[..., 0]


def fold_time(x: Tensor, factor: int) -> Tensor:
    """(B, C, T, 1) to (B, C factor, T / factor, 1): pixel-unshuffle along time only."""
    return x[..., 0].unflatten(2, (-1, factor)).transpose(2, 3).flatten(1, 2)[..., None]


def unfold_time(x: Tensor, factor: int) -> Tensor:
    """(B, C factor, T, 1) to (B, C, T factor, 1): the reverse of `fold_time`."""
    return x[..., 0].unflatten(1, (-1, factor)).transpose(2, 3).flatten(2, 3)[..., None]


def _conv(
    inputs: int, outputs: int, kernel: tuple[int, int], groups: int = 1, bias: bool = False
) -> nn.Conv2d:
    padding = (kernel[0] // 2, kernel[1] // 2)
    return nn.Conv2d(inputs, outputs, kernel, padding=padding, groups=groups, bias=bias)
