"""Skirts: a tube about both legs, made anew in every pose from the legs themselves.

Each ring of the tube is the convex hull of both legs' cross-sections at that distance from the waist, so no
leg comes through it, however it is lifted; cloth spans the gap between the legs as cloth does.
"""

from __future__ import annotations

import numpy as np

from odah.scenes.bodychart import BodyChart
from odah.scenes.primitives import grid_faces

_ANGLES = 60
_POINTS = 70  # of the skin, for a ring
_SOFT_PER_M = 60.0


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
    skin: np.ndarray,
    waist: float,
    length: float,
    ease: float,
    flare: float,
    waves: tuple[int, float, float] = (0, 0.0, 0.0),
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A skirt in every pose.

    Args:
        skin: (T,V,3) posed vertices of the body in any right-handed frame, m.
        waist, length: see `skirt_field`.
        ease: air at the waist, m; flare: more air, m per m down.
        waves: number, depth at the hem (m) and phase of the folds around it.
    Returns:
        vertices (T,n,3), faces (F,3), uv (n,2) in metres.
    """
    down = below_waist(chart, waist)
    rows = max(4, int(np.ceil(length / 0.05)) + 1)
    levels = np.linspace(0, length, rows)
    usable = (chart.arm < 0.3) & (chart.head < 0.1)
    rings = [_ring(chart, down, usable, level) for level in levels]
    sides = [
        np.stack([skin[:, _side(chart, ring, right)].mean(1) for ring in rings], 1) for right in (True, False)
    ]  # (T,K,3) each
    middle = 0.5 * (sides[0] + sides[1])
    trunk = skin[:, rings[0]].mean(1) - skin[:, rings[min(3, rows - 1)]].mean(1)
    axis = np.gradient(middle, axis=1) if rows > 1 else middle
    axis = _unit(axis) - 0.25 * _unit(trunk)[:, None]  # where legs oppose each other, the trunk decides
    axis = _unit(axis)
    hips = [k for k, level in enumerate(levels) if level <= max(0.2, levels[1])]
    across = (sides[0] - sides[1])[:, hips].mean(1)  # (T,3) to the right, at the pelvis
    lateral = _unit(across[:, None] - (across[:, None] * axis).sum(-1, keepdims=True) * axis)
    forward = np.cross(axis, lateral)
    angle = 2 * np.pi * np.arange(_ANGLES) / _ANGLES  # 0 behind, so that the seam is
    cosine, sine = -np.cos(angle), np.sin(angle)
    apart = (angle[:, None] - angle + np.pi) % (2 * np.pi) - np.pi
    towards = np.where(np.abs(apart) < 1.45, 1 / np.maximum(np.cos(apart), 1e-3), np.inf)
    out = np.empty((len(skin), rows, _ANGLES, 3))
    for k, ring in enumerate(rings):
        offset = skin[:, ring] - middle[:, None, k]  # (T,P,3)
        a = np.einsum("tpi,ti->tp", offset, forward[:, k])
        b = np.einsum("tpi,ti->tp", offset, lateral[:, k])
        along = np.einsum("tpi,ti->tp", offset, axis[:, k])
        reach = a[..., None] * cosine + b[..., None] * sine  # (T,P,J)
        support = reach.max(1)
        radius = (support[:, None] * towards).min(-1)  # (T,J): the hull's edge in each direction
        weight = np.exp(_SOFT_PER_M * (reach - support[:, None]))
        slide = (weight * along[..., None]).sum(1) / weight.sum(1)
        share = levels[k] / length
        count, depth, phase = waves
        air = ease + flare * levels[k] + depth * share * np.cos(count * angle + phase)
        radius = np.maximum(radius, _round(radius)) + air  # rounded where that gives room
        out[:, k] = (
            middle[:, None, k]
            + radius[..., None]
            * (cosine[:, None] * forward[:, None, k] + sine[:, None] * lateral[:, None, k])
            + _round(slide)[..., None] * axis[:, None, k]
        )
    closed = np.concatenate([out, out[:, :, :1]], 2)  # the seam has its vertices twice
    size = float(np.linalg.norm(out[0, -1] - out[0, -1].mean(0), axis=1).mean())
    u = np.append(angle, 2 * np.pi) * size
    uv = np.stack([np.tile(u, rows), np.repeat(-levels, _ANGLES + 1)], 1)
    faces = grid_faces(rows, _ANGLES + 1)
    return closed.reshape(len(skin), -1, 3), _outward(closed[0].reshape(-1, 3), faces), uv


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


def _round(values: np.ndarray) -> np.ndarray:
    """Averaged with the neighbours around the ring (T,J)."""
    return (np.roll(values, 1, -1) + 2 * values + np.roll(values, -1, -1)) / 4


def _outward(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Faces turned so that they look away from the tube's inside."""
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    middle = vertices.mean(0)
    looks_out = (np.cross(b - a, c - a) * ((a + b + c) / 3 - middle)).sum() > 0
    return faces if looks_out else faces[:, ::-1]
