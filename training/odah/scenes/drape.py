"""How far cloth stands off the skin: thickness, hang, folds, and surfaces without the skin's hollows.

Everything happens on a subject's rest mesh, vertices (V,3) in ground axes, m; the topology stays the body's.
"""

from __future__ import annotations

import numpy as np

from odah.scenes.bodychart import BodyChart
from odah.scenes.shells import normals

_ANGLES = 36


def smoothstep(x: np.ndarray, low: float, high: float) -> np.ndarray:
    """0 below `low`, 1 above `high`, smooth between."""
    s = np.clip((x - low) / (high - low), 0, 1)
    return s * s * (3 - 2 * s)


def smoothing_passes(chart: BodyChart, reach: float) -> int:
    """How often to average with neighbours so that it reaches `reach` m, whatever the mesh."""
    edges = np.linalg.norm(chart.rest[chart.faces[:, 0]] - chart.rest[chart.faces[:, 1]], axis=1)
    return max(1, round((reach / float(np.median(edges))) ** 2))


def stand_off(
    chart: BodyChart,
    surface: np.ndarray,
    thickness: float,
    extra: np.ndarray | float = 0.0,
    reach: float = 0.02,
    start: np.ndarray | None = None,
) -> np.ndarray:
    """Cloth over a surface (V,3): at least `thickness` off it along its normals, `extra` (V,) more, smooth.

    reach: hollows narrower than about this, m, are bridged.  start: (V,3) where the cloth would hang by
    itself; from the surface when absent.
    """
    outward = normals(surface, chart.faces)
    cloth = (surface if start is None else start) + outward * np.reshape(thickness + extra, (-1, 1))
    passes = smoothing_passes(chart, reach)
    # smoothed along the normals only: cloth that slid over the skin would bend its stripes
    way = chart.smooth(outward, max(1, passes // 4))
    way /= np.maximum(np.linalg.norm(way, axis=1, keepdims=True), 1e-9)
    for n in range(passes + 2):
        if n < passes:
            change = chart.smooth(cloth, 1) - cloth
            cloth = cloth + way * (change * way).sum(1, keepdims=True)
        gap = ((cloth - surface) * outward).sum(1)
        cloth = cloth + outward * np.maximum(thickness - gap, 0)[:, None]
    return cloth


def hang(
    points: np.ndarray,
    middle: np.ndarray,
    axis: np.ndarray,
    order: np.ndarray,
    mask: np.ndarray,
    share: float,
    step: float = 0.03,
) -> np.ndarray:
    """Let cloth hang straight from what is widest above it.

    Args:
        points: (V,3); middle: (V,3) the axis's nearest point of each, or (3,); axis: (3,) unit vector.
        order: (V,) m downwards, along which the cloth hangs.
        mask: (V,) 0..1, how far a vertex takes part.
        share: 0 follows the body, 1 hangs straight down.
    """
    offset = points - middle
    offset = offset - (offset @ axis)[:, None] * axis
    radius = np.linalg.norm(offset, axis=1)
    used = mask > 0
    if not used.any() or share <= 0:
        return points
    first = np.cross(axis, [0.0, 0.0, 1.0] if abs(axis[2]) < 0.8 else [1.0, 0.0, 0.0])
    first /= np.linalg.norm(first)
    angle = np.arctan2(offset @ np.cross(axis, first), offset @ first) / (2 * np.pi) * _ANGLES
    row = (order - order[used].min()) / step
    rows = int(row[used].max()) + 2
    grid = np.zeros((rows, _ANGLES))
    at = (row[used].round().astype(int), np.floor(angle[used]).astype(int) % _ANGLES)
    np.maximum.at(grid, at, radius[used])
    grid = _fill(grid)
    wide = np.maximum.accumulate(grid, axis=0)
    for _ in range(2):  # over the seam of angles, and down
        wide = (np.roll(wide, 1, 1) + 2 * wide + np.roll(wide, -1, 1)) / 4
        padded = np.pad(wide, ((1, 1), (0, 0)), mode="edge")
        wide = (padded[:-2] + 2 * wide + padded[2:]) / 4
    target = _sample(wide, np.clip(row, 0, rows - 1.001), angle - 0.5)
    move = share * np.maximum(target - radius, 0) * mask
    return points + offset / np.maximum(radius, 1e-6)[:, None] * move[:, None]


def _fill(grid: np.ndarray) -> np.ndarray:
    """Empty cells (0) take their row's neighbours, then the row above."""
    grid = grid.copy()
    for _ in range(_ANGLES // 2):
        empty = grid == 0
        grid = np.where(empty, np.maximum(np.roll(grid, 1, 1), np.roll(grid, -1, 1)), grid)
    for row in range(1, len(grid)):
        grid[row] = np.where(grid[row] == 0, grid[row - 1], grid[row])
    return grid


def _sample(grid: np.ndarray, row: np.ndarray, column: np.ndarray) -> np.ndarray:
    """Bilinear, periodic in columns."""
    r, c = np.floor(row).astype(int), np.floor(column).astype(int)
    a, b = row - r, column - c
    count = grid.shape[1]
    top = grid[r, c % count] * (1 - b) + grid[r, (c + 1) % count] * b
    low = grid[r + 1, c % count] * (1 - b) + grid[r + 1, (c + 1) % count] * b
    return top * (1 - a) + low * a


def ring_middles(points: np.ndarray, order: np.ndarray, mask: np.ndarray, step: float = 0.03) -> np.ndarray:
    """(V,3) middle of the limb at each vertex's place along it, from the vertices in `mask`."""
    row = np.round(order / step).astype(int)
    rows = np.unique(row[mask])
    rows = np.array([r for r in rows if (mask & (row == r)).sum() >= 4])
    middles = np.array([points[mask & (row == r)].mean(0) for r in rows])
    return np.stack([np.interp(order / step, rows, middles[:, k]) for k in range(3)], 1)


def folds(rng: np.random.Generator, points: np.ndarray, depth: float, length: float = 0.09) -> np.ndarray:
    """(V,) m of folds, on average zero: a few waves through space of about `length` m."""
    waves = [
        rng.uniform(0.4, 1.0)
        * np.sin(points @ rng.normal(0, 2 * np.pi / length / 1.7, 3) + rng.uniform(0, 2 * np.pi))
        for _ in range(4)
    ]
    return depth * 0.5 * np.sum(waves, axis=0)


def foot_hull(chart: BodyChart, vertices: np.ndarray, side: str, bins: int = 16) -> np.ndarray:
    """The vertices (V,3) with one foot's skin moved out to convex cross-sections, as a shoe has them."""
    mine = (chart.foot > 0.5) & (chart.right == (side == "r"))
    if mine.sum() < 20:
        return vertices
    points = vertices[mine]
    flat = points[:, [0, 2]] - points[:, [0, 2]].mean(0)
    axis = np.linalg.svd(flat, full_matrices=False)[2][0]
    axis = axis if axis[0] > 0 else -axis
    forward = np.array([axis[0], 0.0, axis[1]])
    lateral = np.cross(forward, [0.0, 1.0, 0.0])
    floor = points[:, 1].min()
    s, x, y = points @ forward, points @ lateral, points[:, 1] - floor
    low = y < 0.11  # the ankle above has its own shape
    row = (s - s.min()) / (np.ptp(s) + 1e-9) * (bins - 1)
    angle = 2 * np.pi * np.arange(_ANGLES) / _ANGLES
    apart = (angle[:, None] - angle + np.pi) % (2 * np.pi) - np.pi
    towards = np.where(np.abs(apart) < 1.4, np.cos(apart), np.nan)
    radii, centres = np.zeros((bins, _ANGLES)), np.zeros((bins, 2))
    for b in range(bins):
        near = low & (np.abs(row - b) < 0.8)
        if near.sum() < 6:
            near = low & (np.abs(row - b) < 2.0)
        section = np.stack([x[near], y[near]], 1)
        centres[b] = 0.5 * (section.min(0) + section.max(0))
        support = ((section - centres[b]) @ np.stack([np.cos(angle), np.sin(angle)])).max(0)
        radii[b] = np.nanmin(support[None] / towards, axis=1)
    place = np.stack([np.interp(row, np.arange(bins), centres[:, k]) for k in range(2)], 1)
    offset = np.stack([x, y], 1) - place
    radius = np.linalg.norm(offset, axis=1)
    padded = np.concatenate([radii, radii[-1:]])
    turn = np.arctan2(offset[:, 1], offset[:, 0]) / (2 * np.pi) * _ANGLES
    target = _sample(padded, np.clip(row, 0, bins - 1), turn)
    grow = np.maximum(target - radius, 0) * smoothstep(-y, -0.11, -0.07)
    offset = offset / np.maximum(radius, 1e-6)[:, None] * grow[:, None]
    out = vertices.copy()
    out[mine] += offset[:, :1] * lateral + offset[:, 1:] * np.array([0.0, 1.0, 0.0])
    return out
