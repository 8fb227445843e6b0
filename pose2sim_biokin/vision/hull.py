"""Points inside the visual hull: where the projections fall in both person masks.

Rays are spread evenly over the pixels of each mask, half of the points for each view. A ray is cut to the
depths at which it crosses the other mask's box, probed at several depths, and gives one point among those
that fall in the other mask. So arms and shanks get their share of the points, as their silhouettes have,
while points spread evenly over the volume would nearly all lie in the trunk. It works wherever the person
stands and however the cameras are turned towards each other; training and inference share this code.
"""

from __future__ import annotations

import torch

_RAYS_PER_POINT = 1.5
_DEPTHS = 10
_NEAR_M = 0.1
# Nearly parallel or opposite views leave a ray's depth open; it is then kept this near to the point where the
# ray passes closest to the other crop's axis.
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
    """Points whose projections fall in the masks of both views, spread evenly over both silhouettes.

    Args:
        masks: (B, 2, S, S) bool or numbers, non-zero on the person; (B, 2, 1, S, S) will do.
        K: (B, 2, 3, 3) crop camera matrices, pixels, pixel centres at whole numbers.
        R: (B, 2, 3, 3) rotations, world (or canonical frame) to camera.
        t: (B, 2, 3) translations, metres.
        count: points an item, N.
        generator: a CPU generator to draw from; without one a fresh generator with ``seed`` is used, so that
            the same call gives the same points. One table of random numbers serves every item: an item's
            points do not depend on the batch it is in.
        seed: see ``generator``.

    Returns:
        points (B, N, 3) float32 in the cameras' frame, metres. The first N - N // 2 are spread over view 0's
        silhouette, the others over view 1's, each in the order of the rows, from the top. Where fewer
        distinct points were found they repeat, and where none was found they all lie where the two crop axes
        meet; valid (B,) bool, at least N / 20 distinct points were found; fill (B,) float32, share of the
        probed places that fell in both masks, 0..1: near 0 the masks do not show the same person, or the
        cameras are off.
    """
    if masks.ndim == 5:
        masks = masks[:, :, 0]
    if masks.shape[1] != 2:
        raise ValueError(f"the hull needs two views, found {masks.shape[1]}")
    if generator is None:
        generator = torch.Generator().manual_seed(seed)
    halves = (count - count // 2, count // 2)
    with torch.no_grad(), torch.autocast(masks.device.type, enabled=False):
        masks = masks if masks.dtype == torch.bool else masks != 0
        K, R, t = K.float(), R.float(), t.float()
        parts = []
        for view, half in enumerate(halves):
            order = [view, 1 - view]
            parts.append(
                _points_of_view(masks[:, order], K[:, order], R[:, order], t[:, order], half, generator)
            )
        points = torch.cat([part[0] for part in parts], dim=1)
        found = parts[0][1] + parts[1][1]
        fill = (parts[0][2] + parts[1][2]) / 2
        # a half that found nothing borrows the other's points
        missing = torch.cat(
            [(part[1] == 0)[:, None].expand(-1, half) for part, half in zip(parts, halves, strict=True)], 1
        )
        place = torch.arange(count, device=points.device)
        other = torch.where(place < halves[0], (place + halves[0]).clamp(max=count - 1), place - halves[0])
        points = torch.where(missing[..., None], points[:, other], points)
        points = torch.where((found > 0)[:, None, None], points, axes_meeting_point(R, t)[:, None])
    return points, found * 20 >= count, fill


def hull_center(points: torch.Tensor) -> torch.Tensor:
    """Mean (B, 3) of hull points (B, N, 3)."""
    return points.mean(dim=-2)


def axes_meeting_point(R: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """Where the axes of two cameras pass closest: (B, 3) midpoint, from R (B, 2, 3, 3) and t (B, 2, 3).

    Between nearly parallel axes, half way between cameras that face each other, else 4 m ahead of the
    cameras.
    """
    centers, axes = _center(R, t), R[:, :, 2]  # (B, 2, 3)
    between = centers.flip(1) - centers
    dot = (axes[:, 0] * axes[:, 1]).sum(-1, keepdim=True)
    along = (axes * between).sum(-1)
    other_along = (axes.flip(1) * between).sum(-1)
    depth = _closest_depth(dot.expand(-1, 2), torch.ones_like(along), along, other_along)
    return (centers + depth[..., None] * axes).mean(dim=1)


def _points_of_view(
    masks: torch.Tensor,
    K: torch.Tensor,
    R: torch.Tensor,
    t: torch.Tensor,
    count: int,
    generator: torch.Generator,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Points (B, count, 3) on rays through the first mask; how many are distinct (B,); share of hits (B,)."""
    batch, _, height, width = masks.shape
    rays = max(1, round(_RAYS_PER_POINT * count))
    table = torch.rand(3, rays, generator=generator)
    probes = torch.rand(2, rays, _DEPTHS, generator=generator)
    # one ray in each of equal slices of the mask: more even than independent ones, and in order
    table[0] = (table[0] + torch.arange(rays)) / rays
    probes[0] = (probes[0] + torch.arange(_DEPTHS)) / _DEPTHS
    table, probes = table.to(masks.device), probes.to(masks.device)

    totals = masks[:, 0].reshape(batch, -1).cumsum(dim=1, dtype=torch.float32)  # exact up to 2^24 pixels
    area = totals[:, -1:]
    target = torch.minimum(torch.floor(table[0] * area), (area - 1).clamp(min=0)) + 1
    pixel = torch.searchsorted(totals, target).clamp(max=height * width - 1)  # (B, M)
    row = torch.div(pixel, width, rounding_mode="floor")
    u = (pixel - row * width).float() + (table[1] - 0.5)
    v = row.float() + (table[2] - 0.5)

    # Along the ray of pixel (u, v), x_world = origin + z d and d = R0' K0^-1 (u, v, 1). What is needed of d
    # is linear in the camera-frame direction: its homogeneous pixel in view 1 is a + z b, and its products
    # with two vectors.
    first, second = R[:, 0], R[:, 1]
    origin, other = _center(first, t[:, 0]), _center(second, t[:, 1])  # (B, 3)
    project = K[:, 1] @ second
    a = (project @ origin[..., None] + K[:, 1] @ t[:, 1, :, None])[..., None, 0]  # (B, 3, 1)
    rows = torch.cat([project, (other - origin)[:, None], second[:, 2:3]], dim=1)  # (B, 5, 3)
    direction = _unproject(K[:, 0], u, v)  # (B, 3, M)
    linear = (rows @ first.transpose(-1, -2)) @ direction
    b, along, dot = linear[:, :3], linear[:, 3], linear[:, 4]
    square = (direction * direction).sum(dim=1)
    other_along = (second[:, 2] * (other - origin)).sum(dim=-1, keepdim=True)

    low, high = _depth_interval(a, b, _mask_box(masks[:, 1]))
    nearest = _closest_depth(dot, square, along, other_along)
    low = torch.maximum(low, nearest - _REACH_M).clamp(min=_NEAR_M)
    length = (torch.minimum(high, nearest + _REACH_M) - low).clamp(min=0)
    usable = (length > 0) & (area > 0)  # (B, M)

    z = low[..., None] + probes[0] * length[..., None]  # (B, M, D)
    homogeneous = a[..., None] + z[:, None] * b[..., None]  # (B, 3, M, D)
    inverse = 1 / homogeneous[:, 2].clamp(min=1e-6)
    x, y = torch.round(homogeneous[:, 0] * inverse), torch.round(homogeneous[:, 1] * inverse)
    within = (
        (homogeneous[:, 2] > _NEAR_M) & (x >= 0) & (x < width) & (y >= 0) & (y < height) & usable[..., None]
    )
    place = torch.where(within, y * width + x, 0).long().flatten(1)
    inside = within & masks[:, 1].reshape(batch, -1).gather(1, place).view_as(within)

    best, index = torch.where(inside, probes[1] + 1, 0).max(dim=-1)  # any of the hits, by lot
    depth = z.gather(-1, index[..., None])[..., 0]
    rank = (best > 0).cumsum(dim=1)  # (B, M), 1 at the first ray with a hit
    found = rank[:, -1]
    steps = torch.arange(count, device=masks.device)
    wanted = torch.div(steps * found[:, None], count, rounding_mode="floor") + 1  # spread over all hits
    chosen = torch.searchsorted(rank, wanted).clamp(max=rays - 1)  # (B, count)
    camera = (direction * depth[:, None]).gather(2, chosen[:, None].expand(-1, 3, -1))
    points = (first.transpose(-1, -2) @ (camera - t[:, 0, :, None])).transpose(-1, -2)
    return points, found.clamp(max=count), inside.float().mean(dim=(1, 2))


def _center(R: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """Optical centres (..., 3) of cameras R (..., 3, 3), t (..., 3)."""
    return -(R.transpose(-1, -2) @ t[..., None])[..., 0]


def _unproject(K: torch.Tensor, u: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Camera-frame directions with z = 1, (B, 3, M), of pixels u, v (B, M); K (B, 3, 3) upper triangular."""
    y = (v - K[:, None, 1, 2]) / K[:, None, 1, 1]
    x = (u - K[:, None, 0, 2] - K[:, None, 0, 1] * y) / K[:, None, 0, 0]
    return torch.stack([x, y, torch.ones_like(x)], dim=1)


def _mask_box(mask: torch.Tensor) -> torch.Tensor:
    """Outer edges (B, 4) x0, y0, x1, y1 of masks (B, H, W), in pixels; x1 < x0 for an empty one."""
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
    """Depths (B, M) between which the homogeneous pixel a + z b is in front of the camera and in its box.

    a (B, 3, 1), b (B, 3, M), box (B, 4). Each side of the box is one inequality c + z d >= 0. An empty
    interval has low > high.
    """
    low = torch.full_like(b[:, 0], _NEAR_M)
    high = torch.full_like(low, 1e4)
    x0, y0, x1, y1 = (box[:, i, None] for i in range(4))
    a0, a1, a2 = a.unbind(dim=1)
    b0, b1, b2 = b.unbind(dim=1)
    sides = (
        (a2 - _NEAR_M, b2),
        (a0 - x0 * a2, b0 - x0 * b2),
        (x1 * a2 - a0, x1 * b2 - b0),
        (a1 - y0 * a2, b1 - y0 * b2),
        (y1 * a2 - a1, y1 * b2 - b1),
    )
    for c, d in sides:
        crossing = -c / d
        # d = 0 makes the crossing infinite: the sign of c then decides, as it should (0 / 0 is left out)
        crossing = torch.nan_to_num(crossing, nan=_NEAR_M, posinf=1e4, neginf=-1e4)
        rises = d > 0
        low = torch.where(rises, torch.maximum(low, crossing), low)
        high = torch.where(rises, high, torch.minimum(high, torch.where(d < 0, crossing, high)))
    return low, high


def _closest_depth(
    dot: torch.Tensor, square: torch.Tensor, along: torch.Tensor, other_along: torch.Tensor
) -> torch.Tensor:
    """z at which origin + z d passes closest to the line of another camera's axis e, from dot products.

    dot = d.e (e is a unit vector), square = d.d, along = d.w and other_along = e.w, where w leads from the
    origin to the other camera. Nearly parallel lines: half way to a camera that faces this one, else 4 m
    ahead.
    """
    denominator = square - dot * dot
    parallel = denominator < 1e-3 * square
    closest = (along - dot * other_along) / torch.where(parallel, torch.ones_like(dot), denominator)
    facing = (dot < 0) & (along > 0)
    default = torch.where(facing, along / (2 * square), torch.full_like(dot, 4.0))
    return torch.where(parallel, default, closest)
