"""Skirts: a tube about both legs, made anew in every pose from the legs themselves.

Each ring of the tube is the convex hull of both legs' cross-sections at that distance from the waist, so no
leg comes through it, however it is lifted; cloth spans the gap between the legs as cloth does. Cloth does not
stretch: where the legs are further apart than it is wide, it rides up them.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import minimum_filter1d

from odah.scenes.bodychart import BodyChart
from odah.scenes.primitives import grid_faces

_ANGLES = 60
_POINTS = 70  # of the skin, for a ring
_SOFT_PER_M = 25.0
_STRETCH, _SPARE_M = 1.06, 0.22  # a ring gives way to this times what it is at rest, and some more
_MOST_UP = 0.35  # of its length at least is left of a skirt that rides up


def below_waist(chart: BodyChart, waist: float) -> np.ndarray:
    """(V,) distance from a waist (height over the hips, m) down the trunk and the legs, m."""
    down = np.where(
        chart.leg > 0.5, np.maximum(chart.metres_down_leg(), -chart.rest[:, 1]), -chart.rest[:, 1]
    )
    return waist + down


def skirt_field(chart: BodyChart, waist: float, length: float) -> np.ndarray:
    """Field (V,), m, of what a skirt from `waist` over `length` m covers."""
    down = below_waist(chart, waist)
    return np.where(chart.arm > 0.3, -0.1, np.minimum(down, length - down))


def skirt(
    chart: BodyChart,
    rest: np.ndarray,
    skin: np.ndarray,
    waist: float,
    length: float,
    ease: float,
    flare: float,
    waves: tuple[int, float, float] = (0, 0.0, 0.0),
) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """A skirt in every pose.

    Args:
        rest: (V,3) rest mesh of the body, m: how wide the cloth is cut.
        skin: (T,V,3) posed vertices of the body in any right-handed frame, m.
        waist, length: see `skirt_field`.
        ease: air at the waist, m; flare: more air, m per m down.
        waves: number, depth at the hem (m) and phase of the folds around it.
    Returns:
        vertices (T,n,3), faces (F,3), uv (n,2) in metres, and the length that it covers in every pose, m.
    """
    rows = max(4, int(np.ceil(length / 0.05)) + 1)
    levels = np.linspace(0, length, rows)
    hull, outward = _hulls(chart, np.concatenate([rest[None], skin]), waist, levels)
    around = np.linalg.norm(np.diff(hull, axis=2, append=hull[:, :, :1]), axis=-1).sum(-1)  # (1+T,K)
    most = _STRETCH * around[0] + _SPARE_M + 2 * np.pi * flare * levels
    kept = _ride(around[1:], most, levels)
    at = levels * kept[:, None] / levels[1]  # (T,K) rows of the hulls
    frame, row = np.arange(len(skin))[:, None], np.minimum(at.astype(int), rows - 2)

    def ridden(values: np.ndarray) -> np.ndarray:
        """Values of the body's levels (1+T,K,...) at the cloth's rows, in the poses."""
        part = (at - row).reshape(*at.shape, *[1] * (values.ndim - 2))
        return values[1:][frame, row] * (1 - part) + values[1:][frame, row + 1] * part

    angle = 2 * np.pi * np.arange(_ANGLES) / _ANGLES
    count, depth, phase = waves
    wide = np.maximum(flare * levels, 1e-9)
    loose = np.clip((most - ridden(around)) / (2 * np.pi * wide), 0, 1)  # (T,K) what the legs leave of it
    folds = wide[:, None] + depth * np.cos(count * angle + phase) * (levels / length)[:, None]
    air = ease + loose[..., None] * folds
    out = ridden(hull) + _unit(ridden(outward)) * air[..., None]
    closed = np.concatenate([out, out[:, :, :1]], 2)  # the seam has its vertices twice
    size = float(np.linalg.norm(out[0, -1] - out[0, -1].mean(0), axis=1).mean())
    u = np.append(angle, 2 * np.pi) * size
    uv = np.stack([np.tile(u, rows), np.repeat(-levels, _ANGLES + 1)], 1)
    faces = grid_faces(rows, _ANGLES + 1)
    vertices = closed.reshape(len(skin), -1, 3)
    return vertices, _outward(vertices[0], faces), uv, length * float(kept.min())


def _hulls(
    chart: BodyChart, skin: np.ndarray, waist: float, levels: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Hulls of both legs at K levels and directions away from their middles, both (T,K,J,3).

    Points are evenly spaced around each hull and begin behind, where the seam is.
    """
    down = below_waist(chart, waist)
    usable = (chart.arm < 0.3) & (chart.head < 0.1)
    rings = [_ring(chart, down, usable, level) for level in levels]
    sides = [
        np.stack([skin[:, _side(chart, ring, right)].mean(1) for ring in rings], 1) for right in (True, False)
    ]  # (T,K,3) each
    middle = 0.5 * (sides[0] + sides[1])
    trunk = skin[:, rings[0]].mean(1) - skin[:, rings[min(3, len(levels) - 1)]].mean(1)
    axis = _unit(np.gradient(middle, axis=1))
    axis = _unit(axis - 0.25 * _unit(trunk)[:, None])  # where legs oppose each other, the trunk decides
    for _ in range(4):  # neighbouring rings that tilt apart would cut each other
        axis = _unit(_round(axis, 1, "edge"))
    hips = [k for k, level in enumerate(levels) if level <= max(0.2, levels[1])]
    across = (sides[0] - sides[1])[:, hips].mean(1)  # (T,3) to the right, at the pelvis
    lateral = _unit(across[:, None] - (across[:, None] * axis).sum(-1, keepdims=True) * axis)
    forward = np.cross(axis, lateral)
    angle = 2 * np.pi * np.arange(_ANGLES) / _ANGLES  # 0 behind
    cosine, sine = -np.cos(angle), np.sin(angle)
    apart = (angle[:, None] - angle + np.pi) % (2 * np.pi) - np.pi
    towards = np.where(np.abs(apart) < 1.45, 1 / np.maximum(np.cos(apart), 1e-3), np.inf)
    hull = np.empty((len(skin), len(levels), _ANGLES, 3))
    for k, ring in enumerate(rings):
        offset = skin[:, ring] - middle[:, None, k]  # (T,P,3)
        a = np.einsum("tpi,ti->tp", offset, forward[:, k])
        b = np.einsum("tpi,ti->tp", offset, lateral[:, k])
        along = np.einsum("tpi,ti->tp", offset, axis[:, k])
        reach = a[..., None] * cosine + b[..., None] * sine  # (T,P,J)
        support = reach.max(1)
        radius = (support[:, None] * towards).min(-1)  # (T,J): the hull's edge in each direction
        radius = np.maximum(radius, _round(radius, 1, "wrap"))  # rounded where that gives room
        weight = np.exp(_SOFT_PER_M * (reach - support[:, None]))
        slide = (weight * along[..., None]).sum(1) / weight.sum(1)
        for _ in range(8):
            slide = _round(slide, 1, "wrap")
        hull[:, k] = (
            middle[:, None, k]
            + radius[..., None]
            * (cosine[:, None] * forward[:, None, k] + sine[:, None] * lateral[:, None, k])
            + slide[..., None] * axis[:, None, k]
        )
    hull = _evenly(hull)
    hull = _round(hull, 1, "edge")
    return hull, _unit(hull - hull.mean(2, keepdims=True))


def _ride(around: np.ndarray, most: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """(T,) share of its length that a skirt keeps whose rings (K,) give way up to `most`, m.

    around: (T,K) what the legs take at each level, m.
    """
    shares = np.linspace(_MOST_UP, 1, 40)
    over = np.empty((len(around), len(shares)))
    for n, share in enumerate(shares):
        at = share * levels / levels[1]
        row = np.minimum(at.astype(int), len(levels) - 2)
        taken = around[:, row] + (at - row) * (around[:, row + 1] - around[:, row])
        over[:, n] = (taken - most).max(1)
    fits = over <= 0
    last = np.where(fits.any(1), fits.shape[1] - 1 - fits[:, ::-1].argmax(1), 0)
    following = np.minimum(last + 1, len(shares) - 1)
    frame = np.arange(len(around))
    low, high = over[frame, last], over[frame, following]
    part = np.where((low <= 0) & (high > 0), -low / np.maximum(high - low, 1e-9), 0.0)
    kept = shares[last] + part * (shares[following] - shares[last])
    kept = minimum_filter1d(kept, 5, mode="nearest")  # so that smooth over time never is too long
    for _ in range(2):
        kept = _round(kept, 0, "edge")
    return kept


def _evenly(rings: np.ndarray) -> np.ndarray:
    """Closed rings (T,K,J,3) with their points evenly spaced along them; the first points stay."""
    count = rings.shape[2]
    closed = np.concatenate([rings, rings[:, :, :1]], 2)
    steps = np.linalg.norm(np.diff(closed, axis=2), axis=-1)
    passed = np.concatenate([np.zeros_like(steps[..., :1]), steps.cumsum(-1)], -1)  # (T,K,J+1)
    wanted = passed[..., -1:] * np.arange(count) / count
    before = (passed[..., None, :-1] <= wanted[..., None]).sum(-1) - 1  # (T,K,J)
    start, end = (np.take_along_axis(passed, before + n, -1) for n in (0, 1))
    share = ((wanted - start) / np.maximum(end - start, 1e-9))[..., None]
    a, b = (np.take_along_axis(closed, (before + n)[..., None], 2) for n in (0, 1))
    return a + share * (b - a)


def _ring(chart: BodyChart, down: np.ndarray, usable: np.ndarray, level: float) -> np.ndarray:
    """Vertices of both legs (or the trunk) near a level, evenly thinned out."""
    chosen = []
    for right in (True, False):
        mine = np.flatnonzero(usable & (chart.right == right))
        half = 0.02
        while (near := mine[np.abs(down[mine] - level) < half]).size < 12 and half < 0.5:
            half *= 1.3
        step = max(1, len(near) // (_POINTS // 2))
        chosen.append(near[np.argsort(chart.angle[0][near])][::step])
    return np.concatenate(chosen)


def _side(chart: BodyChart, ring: np.ndarray, right: bool) -> np.ndarray:
    return ring[chart.right[ring] == right]


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-9)


def _round(values: np.ndarray, axis: int, ends: str) -> np.ndarray:
    """Averaged with the neighbours along an axis; ends: "wrap" around, or "edge"."""
    room = [(0, 0)] * values.ndim
    room[axis] = (1, 1)
    wide = np.moveaxis(np.pad(values, room, mode=ends), axis, 0)
    return np.moveaxis((wide[:-2] + 2 * wide[1:-1] + wide[2:]) / 4, 0, axis)


def _outward(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Faces turned so that they look away from the tube's inside."""
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    middle = vertices.mean(0)
    looks_out = (np.cross(b - a, c - a) * ((a + b + c) / 3 - middle)).sum() > 0
    return faces if looks_out else faces[:, ::-1]
