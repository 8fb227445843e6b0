"""Points inside the visual hull: spread evenly over the volume whose projections fall in both person masks.

Rays through pixels of the first mask are cut to the depths at which they cross the second mask's box, depths are drawn on
what is left, and the points whose second projection falls in the second mask stay. Thinning by ray length and depth makes
the density even over the volume, so the result does not depend on which view comes first. It works wherever the person
stands and however the cameras are turned towards each other; training and inference share this code.
"""

from __future__ import annotations

import torch

_CANDIDATES_PER_POINT = 8
_NEAR_M = 0.1
# Nearly parallel or opposite views leave a ray's depth open; it is then kept this near to the point where the ray passes
# closest to the other crop's axis.
_REACH_M = 3.0


def sample_hull_points(
    masks: torch.Tensor,
    K: torch.Tensor,
    R: torch.Tensor,
    t: torch.Tensor,
    count: int = 500,
    generator: torch.Generator | None = None,
    seed: int = 0,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Points whose projections fall in the masks of both views, spread evenly over the visual hull's volume.

    Args:
        masks: (B, 2, S, S) bool or numbers, non-zero on the person; (B, 2, 1, S, S) will do.
        K: (B, 2, 3, 3) crop camera matrices, pixels, pixel centres at whole numbers.
        R: (B, 2, 3, 3) rotations, world (or canonical frame) to camera.
        t: (B, 2, 3) translations, metres.
        count: points an item, N.
        generator: a CPU generator to draw from; without one a fresh generator with ``seed`` is used, so that the same call
            gives the same points. One table of random numbers serves every item: an item's points do not depend on the
            batch it is in.
        seed: see ``generator``.

    Returns:
        points (B, N, 3) float32 in the cameras' frame, metres; where fewer than N distinct points were found they repeat,
        and where none was found they all lie between the two crop axes (or at the origin, without any mask);
        valid (B,) bool, at least N / 20 distinct points were found;
        fill (B,) float32, share of the candidates that fell in both masks, 0..1: near 0 the masks do not show the same
        person, or the cameras are off.
    """
    if masks.ndim == 5:
        masks = masks[:, :, 0]
    batch, views, height, width = masks.shape
    if views != 2:
        raise ValueError(f"the hull needs two views, found {views}")
    device = masks.device
    candidates = _CANDIDATES_PER_POINT * count
    if generator is None:
        generator = torch.Generator().manual_seed(seed)
    table = torch.rand(5, candidates, generator=generator).to(device)
    with torch.no_grad(), torch.autocast(device.type, enabled=False):
        masks = masks != 0
        K, R, t = K.float(), R.float(), t.float()
        points, inside, kept = _candidates(masks, K, R, t, table)
        rank = kept.cumsum(dim=1)  # (B, M), 1 at the first point that stays
        found = rank[:, -1]
        wanted = torch.arange(count, device=device) % found.clamp(min=1)[:, None] + 1
        index = torch.searchsorted(rank, wanted).clamp(max=candidates - 1)  # (B, N)
        chosen = points.gather(1, index[..., None].expand(-1, -1, 3))
        middle = axes_meeting_point(R, t)
        chosen = torch.where((found > 0)[:, None, None], chosen, middle[:, None])
        fill = inside.float().mean(dim=1)
        valid = found * 20 >= count
    return chosen, valid, fill


def hull_center(points: torch.Tensor) -> torch.Tensor:
    """Mean (B, 3) of hull points (B, N, 3)."""
    return points.mean(dim=-2)


def axes_meeting_point(R: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """Where the optical axes of two cameras pass closest: (B, 3) midpoint, from R (B, 2, 3, 3) and t (B, 2, 3).

    Between nearly parallel axes, 4 m ahead of the cameras' middle.
    """
    centers = -(R.transpose(-1, -2) @ t[..., None])[..., 0]  # (B, 2, 3)
    axes = R[:, :, 2]
    depths = _closest_depth(centers[:, 0], axes[:, 0], centers[:, 1], axes[:, 1])
    back = _closest_depth(centers[:, 1], axes[:, 1], centers[:, 0], axes[:, 0])
    first = centers[:, 0] + depths[:, None] * axes[:, 0]
    second = centers[:, 1] + back[:, None] * axes[:, 1]
    return (first + second) / 2


def _candidates(
    masks: torch.Tensor, K: torch.Tensor, R: torch.Tensor, t: torch.Tensor, table: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Candidate points (B, M, 3), which of them fall in both masks and which of those stay after thinning (B, M)."""
    batch, _, height, width = masks.shape
    totals = masks[:, 0].reshape(batch, -1).cumsum(dim=1, dtype=torch.float32)  # exact up to 2^24 pixels
    area = totals[:, -1]
    target = torch.floor(table[0] * area[:, None]).clamp(max=(area[:, None] - 1).clamp(min=0)) + 1
    pixel = torch.searchsorted(totals, target).clamp(max=height * width - 1)  # (B, M)
    row = torch.div(pixel, width, rounding_mode="floor")
    u = (pixel - row * width).float() + table[1] - 0.5
    v = row.float() + table[2] - 0.5

    # the ray in view 0, as a function of depth z: x_world = origin + z * direction
    direction0 = _unproject(K[:, 0], u, v)  # (B, M, 3) with z = 1
    direction = direction0 @ R[:, 0]
    origin = -(R[:, 0].transpose(-1, -2) @ t[:, 0, :, None])[..., 0]  # (B, 3)
    # the same in homogeneous pixels of view 1: a + z * b
    project = K[:, 1] @ R[:, 1]
    a = (project @ origin[..., None] + K[:, 1] @ t[:, 1, :, None])[..., 0][:, None]  # (B, 1, 3)
    b = direction @ project.transpose(-1, -2)  # (B, M, 3)

    low, high = _depth_interval(a, b, _mask_box(masks[:, 1]))
    other = -(R[:, 1].transpose(-1, -2) @ t[:, 1, :, None])[..., 0]
    nearest = _closest_depth(origin[:, None], direction, other[:, None], R[:, None, 1, 2])
    low = torch.maximum(low, nearest - _REACH_M).clamp(min=_NEAR_M)
    high = torch.minimum(high, nearest + _REACH_M)
    length = (high - low).clamp(min=0)

    z = low + table[3] * length
    second = a + z[..., None] * b
    depth1 = second[..., 2]
    x = torch.round(second[..., 0] / depth1.clamp(min=1e-6))
    y = torch.round(second[..., 1] / depth1.clamp(min=1e-6))
    within = (depth1 > _NEAR_M) & (x >= 0) & (x < width) & (y >= 0) & (y < height) & (length > 0)
    place = (y.clamp(0, height - 1) * width + x.clamp(0, width - 1)).long()
    inside = within & masks[:, 1].reshape(batch, -1).gather(1, place) & (area > 0)[:, None]

    # a pixel and a step of z cover a volume that grows with z squared, and longer rays are sampled more thinly
    weight = torch.where(inside, length * z * z, torch.zeros_like(z))
    peak = weight.amax(dim=1, keepdim=True).clamp(min=1e-12)
    kept = inside & (table[4] * peak < weight)
    points = origin[:, None] + z[..., None] * direction
    return torch.where(inside[..., None], points, origin[:, None]), inside, kept


def _unproject(K: torch.Tensor, u: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Camera-frame directions with z = 1, (B, M, 3), of pixels u, v (B, M); K (B, 3, 3) is upper triangular."""
    y = (v - K[:, None, 1, 2]) / K[:, None, 1, 1]
    x = (u - K[:, None, 0, 2] - K[:, None, 0, 1] * y) / K[:, None, 0, 0]
    return torch.stack([x, y, torch.ones_like(x)], dim=-1)


def _mask_box(mask: torch.Tensor) -> torch.Tensor:
    """Outer edges (B, 4) x0, y0, x1, y1 of the boxes of masks (B, H, W), in pixels; x1 < x0 for an empty mask."""
    edges = []
    for axis in (1, 2):
        line = mask.any(dim=axis)  # (B, W) then (B, H)
        size = line.shape[1]
        index = torch.arange(size, device=mask.device)
        first = torch.where(line, index, size).amin(dim=1)
        last = torch.where(line, index, -1).amax(dim=1)
        edges.append((first - 0.5, last + 0.5))
    return torch.stack([edges[0][0], edges[1][0], edges[0][1], edges[1][1]], dim=1)


def _depth_interval(a: torch.Tensor, b: torch.Tensor, box: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Depths (B, M) between which the homogeneous pixel a + z b, (B, M, 3), is in front of the camera and in its box.

    Each side of the box is one linear inequality c + z d >= 0. An empty interval has low > high.
    """
    low = torch.full(b.shape[:2], _NEAR_M, device=b.device)
    high = torch.full(b.shape[:2], 1e4, device=b.device)
    x0, y0, x1, y1 = (box[:, i, None] for i in range(4))
    sides = (
        (a[..., 2] - _NEAR_M, b[..., 2]),
        (a[..., 0] - x0 * a[..., 2], b[..., 0] - x0 * b[..., 2]),
        (x1 * a[..., 2] - a[..., 0], x1 * b[..., 2] - b[..., 0]),
        (a[..., 1] - y0 * a[..., 2], b[..., 1] - y0 * b[..., 2]),
        (y1 * a[..., 2] - a[..., 1], y1 * b[..., 2] - b[..., 1]),
    )
    for c, d in sides:
        crossing = -c / torch.where(d.abs() < 1e-9, torch.full_like(d, 1e-9), d)
        low = torch.where(d > 0, torch.maximum(low, crossing), low)
        high = torch.where(d <= 0, torch.minimum(high, crossing), high)
    return low, high


def _closest_depth(
    origin: torch.Tensor, direction: torch.Tensor, other_origin: torch.Tensor, other_direction: torch.Tensor
) -> torch.Tensor:
    """z (...,) at which origin + z direction passes closest to a second line; 4 m between nearly parallel lines.

    All arguments (..., 3); ``other_direction`` is a unit vector, ``direction`` any length.
    """
    between = other_origin - origin
    dot = (direction * other_direction).sum(-1)
    square = (direction * direction).sum(-1)
    along = (direction * between).sum(-1)
    other_along = (other_direction * between).sum(-1)
    denominator = square - dot * dot
    parallel = denominator < 1e-3 * square
    closest = (along - dot * other_along) / torch.where(parallel, torch.ones_like(dot), denominator)
    # opposite cameras: half way between them; parallel ones: 4 m ahead
    default = torch.where(along > 0.5, along / (2 * square), torch.full_like(dot, 4.0))
    return torch.where(parallel, default, closest)
