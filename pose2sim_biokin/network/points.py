"""From maps and hull points to what the heads need: sampled features, pooled and intersected keypoints."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pose2sim_biokin.network.presets import PointSize


def full_precision(geometry: Callable) -> Callable:
    """The function without autocast, on the device of its first tensor: pixels and metres need all their
    digits, products of bfloat16 numbers have two or three.
    """

    @wraps(geometry)
    def wrapped(first: Tensor, *others, **more):
        with torch.autocast(first.device.type, enabled=False):
            return geometry(first, *others, **more)

    return wrapped


@full_precision
def project(points: Tensor, K: Tensor, R: Tensor, t: Tensor) -> Tensor:
    """Points (B, N, 3) to the pixels (B, 2, N, 2) of two cameras K, R (B, 2, 3, 3), t (B, 2, 3)."""
    camera = points[:, None] @ R.transpose(-1, -2) + t[:, :, None]
    pixels = camera @ K.transpose(-1, -2)
    return pixels[..., :2] / pixels[..., 2:].clamp_min(1e-3)


def sample_maps(maps: Tensor, pixels: Tensor, size: int) -> Tensor:
    """Maps (B, 2, C, H, H) at pixels (B, 2, N, 2) of pictures of side `size`: (B, 2, N, C).

    Bilinear, with the corner pixels' centres at the corner cells' centres (align_corners), as published.
    """
    grid = pixels * (2 / (size - 1)) - 1
    sampled = F.grid_sample(
        maps.flatten(0, 1).float(), grid.flatten(0, 1)[:, :, None], align_corners=True, padding_mode="border"
    )  # (2B, C, N, 1)
    return sampled[..., 0].transpose(1, 2).unflatten(0, maps.shape[:2])


class HeatmapPeaks(NamedTuple):
    """Where each keypoint is in each view's heatmap: `pixels` (B, 2, K, 2), `spread` (B, 2, K) in cells."""

    pixels: Tensor
    spread: Tensor


def heatmap_peaks(logits: Tensor, size: int) -> HeatmapPeaks:
    """Means and standard deviations of the distributions softmax(logits (B, 2, K, H, H)) over the picture."""
    side = logits.shape[-1]
    p = logits.float().flatten(-2).softmax(-1).unflatten(-1, (side, side))
    cells = torch.arange(side, device=p.device, dtype=p.dtype)
    column, row = p.sum(-2), p.sum(-1)  # (B, 2, K, H) over x, over y
    mean = torch.stack([(column * cells).sum(-1), (row * cells).sum(-1)], -1)
    square = (column * cells**2).sum(-1) + (row * cells**2).sum(-1)
    spread = (square - mean.square().sum(-1)).clamp_min(1e-4).sqrt()
    return HeatmapPeaks(mean * ((size - 1) / (side - 1)), spread)


@full_precision
def pixel_rays(pixels: Tensor, K: Tensor, R: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """Unit directions (B, 2, M, 3) of the rays through pixels (B, 2, M, 2) of two cameras K, R (B, 2, 3, 3),
    t (B, 2, 3), and the cameras' centres (B, 2, 1, 3), m, both in the cameras' frame.
    """
    rays = torch.cat([pixels, torch.ones_like(pixels[..., :1])], -1) @ torch.linalg.inv(K).transpose(-1, -2)
    return F.normalize(rays @ R, dim=-1), -(R.transpose(-1, -2) @ t[..., None])[..., 0][:, :, None]


def intersect_rays(
    pixels: Tensor, weights: Tensor, K: Tensor, R: Tensor, t: Tensor, prior: Tensor, strength: float = 0.02
) -> tuple[Tensor, Tensor]:
    """Points nearest to the rays through pixels of two views, in the sense of weighted least squares.

    Minimises sum_v w_v |(I - d_v d_v')(x - c_v)|^2 + strength |x - prior|^2: the prior settles nearly
    parallel rays.

    Args:
        pixels: (B, 2, M, 2); weights: (B, 2, M); K, R: (B, 2, 3, 3); t: (B, 2, 3); prior: (B, M, 3).

    Returns:
        points (B, M, 3) and their distances (B, 2, M) from the two rays, m.
    """
    d, center = pixel_rays(pixels, K, R, t)
    eye = torch.eye(3, device=d.device)
    across = (eye - d[..., :, None] * d[..., None, :]) * weights[..., None, None]
    left = across.sum(1) + strength * eye  # (B, M, 3, 3)
    right = (across @ center[..., None])[..., 0].sum(1) + strength * prior
    points = solve3(left, right)
    away = points[:, None] - center
    miss = away - (away * d).sum(-1, keepdim=True) * d
    return points, miss.square().sum(-1).clamp_min(1e-10).sqrt()


def solve3(a: Tensor, b: Tensor) -> Tensor:
    """x (..., 3) with a x = b for matrices (..., 3, 3), by Cramer's rule: far quicker than LAPACK for
    small ones.
    """
    c0, c1, c2 = a.unbind(-1)
    n = torch.linalg.cross(c1, c2)
    determinant = (c0 * n).sum(-1, keepdim=True)
    x = torch.stack(
        [(b * n).sum(-1), (c0 * torch.linalg.cross(b, c2)).sum(-1), (c0 * torch.linalg.cross(c1, b)).sum(-1)],
        -1,
    )
    return x / determinant


class FlattenPoints(nn.Module):
    """The published compression: a shared MLP on every point, then all points side by side, in their
    order.
    """

    def __init__(self, size: PointSize, features: int):
        super().__init__()
        widths = (3 + 2 * features, *size.hidden)
        self.shared = _mlp(widths)
        self.dense = _mlp((size.count * size.hidden[-1], *size.dense))
        self.width = size.dense[-1]

    def forward(self, points: Tensor, sampled: Tensor) -> Tensor:
        """Points (B, N, 3) and samples (B, 2, N, C) to (B, width), before the last activation's use."""
        x = torch.cat([points, sampled[:, 0], sampled[:, 1]], -1)  # (B, N, L)
        return F.relu(self.dense(F.relu(self.shared(x)).flatten(1)))


class KeypointPooling(nn.Module):
    """Every keypoint as a weighted mean of the hull's points, plus what lies beyond the hull's reach.

    A shared MLP gives each point a weight for each keypoint (softmax over the points, so their order does not
    matter); the heatmaps of both views, sampled at the point's projections, add to it.

    Args:
        size: see PointSize.
        features: channels sampled in each view.
        keypoints, heatmaps: number of keypoints, and of those (the first ones) that have heatmaps.
    """

    def __init__(self, size: PointSize, features: int, keypoints: int, heatmaps: int):
        super().__init__()
        width = size.hidden[-1]
        self.shared = _mlp((3 + 2 * features, *size.hidden))
        self.logits = nn.Linear(width, keypoints)
        self.values = nn.Linear(width, size.token)
        self.heatmaps = heatmaps if size.triangulate else 0
        self.sharpness = nn.Parameter(torch.tensor(0.5))
        extra = size.token + 3
        self.offset = nn.Parameter(torch.zeros(keypoints, extra, 3))
        self.offset_bias = nn.Parameter(torch.zeros(keypoints, 3))
        self.offset_ray = nn.Parameter(torch.zeros(self.heatmaps, 9, 3))

    def forward(
        self,
        points: Tensor,
        sampled: Tensor,
        heat_samples: Tensor | None,
        peaks: HeatmapPeaks | None,
        cameras: tuple[Tensor, Tensor, Tensor],
    ) -> tuple[Tensor, Tensor]:
        """Keypoints and their tokens.

        Args:
            points: (B, N, 3); sampled: (B, 2, N, C); heat_samples: (B, 2, N, Kh) or None; peaks: see there;
            cameras: K, R, t.

        Returns:
            keypoints (B, K, 3) in the points' frame, tokens (B, K, token + 3).
        """
        h = F.relu(self.shared(torch.cat([points, sampled[:, 0], sampled[:, 1]], -1)))  # (B, N, W)
        logits, values = self.logits(h).float(), self.values(h).float()  # (B, N, K), (B, N, token)
        if heat_samples is not None and self.heatmaps:
            prior = self.sharpness * heat_samples.float().sum(1)
            logits = torch.cat([logits[..., : self.heatmaps] + prior, logits[..., self.heatmaps :]], -1)
        weights = logits.softmax(1).transpose(1, 2)  # (B, K, N)
        with torch.autocast(points.device.type, enabled=False):
            pooled = weights @ points  # (B, K, 3)
            values = weights @ values  # (B, K, token)
            spread = (weights @ points.square() - pooled.square()).clamp_min(1e-6).sqrt()
            tokens = torch.cat([values, spread], -1)
            offset = torch.einsum("bki,kij->bkj", tokens, self.offset) + self.offset_bias
            if peaks is not None and self.heatmaps:
                n = self.heatmaps
                weight = 1 / (0.2 + peaks.spread[:, :, :n])
                weight = weight / weight.sum(1, keepdim=True)
                met, miss = intersect_rays(peaks.pixels[:, :, :n], weight, *cameras, pooled[:, :n])
                gap = (met - pooled[:, :n]).clamp(-0.5, 0.5)
                # Trust in the meeting point falls with the rays' distance and the peaks' spread.
                trust = 1 / (1 + (miss.sum(1) / 0.05).square())[..., None]  # (B, n, 1)
                sharp = (1 / (1 + peaks.spread[:, :, :n].mean(1)))[..., None]
                inputs = torch.cat([gap, gap * trust, gap * sharp], -1)
                ray = torch.einsum("bki,kij->bkj", inputs, self.offset_ray)
                offset = torch.cat([offset[:, :n] + ray, offset[:, n:]], 1)
            keypoints = pooled + offset
        return keypoints, tokens


def _mlp(widths: tuple[int, ...]) -> nn.Sequential:
    """Linear layers with ReLU between them (none after the last)."""
    layers: list[nn.Module] = []
    for a, b in zip(widths[:-1], widths[1:], strict=True):
        layers += [nn.Linear(a, b), nn.ReLU()]
    return nn.Sequential(*layers[:-1])
