"""Triangles made ready to be drawn: small enough, cut at the near plane, seen from both sides, with normals.

numpy, once a scene or a camera; nothing here runs once a frame.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.spatial import cKDTree

_ROUNDS = 16  # halvings of an edge at most


def subdivide(
    vertices: np.ndarray,
    faces: np.ndarray,
    attributes: np.ndarray,
    limit: Callable[[np.ndarray], np.ndarray],
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, list[np.ndarray]]:
    """Halve edges longer than ``limit(their middles (n, 3)) -> (n,)`` m until there are none.

    Whether an edge is split depends on its two ends alone, so neighbouring faces agree and no cracks open,
    also between faces that share positions but not vertices.

    Args:
        vertices: (V, 3).  faces: (F, 3).  attributes: (V, C), averaged like the positions.

    Returns:
        vertices, faces and attributes of the finer mesh; for each of its faces the one it comes from; and
        the halvings: arrays (n, 2) of ends, whose middles were appended to the vertices in this order.
    """
    halvings = []
    data = np.concatenate([vertices, attributes], 1).astype(np.float64)
    source = np.arange(len(faces))
    active, done = faces.astype(np.int64), []
    for _ in range(_ROUNDS):
        edges = np.sort(active[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), 1)
        keys, inverse = np.unique(edges[:, 0] * len(data) + edges[:, 1], return_inverse=True)
        low, high = np.divmod(keys, len(data))
        middle = 0.5 * (data[low] + data[high])
        length = np.linalg.norm(data[low, :3] - data[high, :3], axis=1)
        split = length > limit(middle[:, :3])
        number = np.cumsum(split) - 1 + len(data)
        halvings.append(np.stack([low[split], high[split]], 1))
        data = np.concatenate([data, middle[split]])
        flags, new = split[inverse].reshape(-1, 3), number[inverse].reshape(-1, 3)
        touched = flags.any(1)
        done.append((active[~touched], source[~touched]))
        if not touched.any():
            break
        active, source = _split_faces(active[touched], flags[touched], new[touched], source[touched])
    else:
        done.append((active, source))
    faces = np.concatenate([f for f, _ in done])
    return data[:, :3], faces, data[:, 3:], np.concatenate([s for _, s in done]), halvings


def _split_faces(faces, flags, new, source):
    """Faces with one, two or three split edges (edge k from corner k to k + 1) -> 2, 3 or 4 faces each."""
    parts, sources = [], []
    count = flags.sum(1)
    # turn each face until the split edges come first (one: edge 0; two: edges 0 and 1)
    turn = np.where(count == 1, flags.argmax(1), 0)
    turn = np.where(count == 2, (np.argmin(flags, 1) + 1) % 3, turn)
    order = (turn[:, None] + np.arange(3)) % 3
    (a, b, c), (ab, bc, ca) = (np.take_along_axis(x, order, 1).T for x in (faces, new))
    cases = {
        1: ((a, ab, c), (ab, b, c)),
        2: ((ab, b, bc), (a, ab, c), (ab, bc, c)),
        3: ((a, ab, ca), (ab, b, bc), (bc, c, ca), (ab, bc, ca)),
    }
    for number, triangles in cases.items():
        chosen = count == number
        for triangle in triangles:
            parts.append(np.stack([corner[chosen] for corner in triangle], 1))
            sources.append(source[chosen])
    return np.concatenate(parts), np.concatenate(sources)


def clip_near(
    camera_points: np.ndarray, faces: np.ndarray, attributes: np.ndarray, near: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Cut away what is nearer than the plane z = ``near`` in the camera's axes.

    Args:
        camera_points: (V, 3).  faces: (F, 3).  attributes: (V, C), interpolated linearly.

    Returns:
        points, faces, attributes, and for each face the one it comes from. Vertices are only added.
    """
    front = camera_points[:, 2] >= near
    inside = front[faces]
    count = inside.sum(1)
    whole = np.flatnonzero(count == 3)
    out, source = [faces[whole]], [whole]
    data = [np.concatenate([camera_points, attributes], 1)]
    total = len(camera_points)
    for number in (1, 2):
        cut = np.flatnonzero(count == number)
        if not len(cut):
            continue
        # turn each face so that the lone corner (inside or outside) comes first
        lone = np.argmax(inside[cut] == (number == 1), 1)
        corner = np.take_along_axis(faces[cut], (lone[:, None] + np.arange(3)) % 3, 1)
        a, b, c = (data[0][corner[:, k]] for k in range(3))
        ab, ac = (a + ((near - a[:, 2]) / (p[:, 2] - a[:, 2]))[:, None] * (p - a) for p in (b, c))
        first = total + np.arange(len(cut))
        second = first + len(cut)
        total += 2 * len(cut)
        data += [ab, ac]
        if number == 1:
            out.append(np.stack([corner[:, 0], first, second], 1))
            source.append(cut)
        else:
            out += [
                np.stack([first, corner[:, 1], corner[:, 2]], 1),
                np.stack([first, corner[:, 2], second], 1),
            ]
            source += [cut, cut]
    points = np.concatenate(data)
    return points[:, :3], np.concatenate(out), points[:, 3:], np.concatenate(source)


def face_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """(F, 3) normals as long as twice the faces' areas."""
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    return np.cross(b - a, c - a)


def sharp_normals(
    vertices: np.ndarray, faces: np.ndarray, uv: np.ndarray, angle: float = 0.7
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Normals that are smooth except at edges sharper than ``angle`` rad, where vertices are doubled.

    Returns:
        vertices (V', 3), faces (F, 3), uv (V', 2), normals (V', 3).
    """
    flat = face_normals(vertices, faces)
    smooth = np.zeros((len(vertices), 3))
    for k in range(3):
        np.add.at(smooth, faces[:, k], flat)
    unit = flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-12)
    smooth /= np.maximum(np.linalg.norm(smooth, axis=1, keepdims=True), 1e-12)
    corner = smooth[faces]  # (F, 3, 3)
    sharp = (corner * unit[:, None]).sum(-1) < np.cos(angle)
    corner[sharp] = np.repeat(unit[:, None], 3, 1)[sharp]
    rows = np.concatenate([faces.reshape(-1, 1), np.round(corner.reshape(-1, 3) * 512)], 1)
    _, first, inverse = np.unique(rows, axis=0, return_index=True, return_inverse=True)
    old = faces.reshape(-1)[first]
    return vertices[old], inverse.reshape(-1, 3), uv[old], corner.reshape(-1, 3)[first]


def inner_faces(vertices: np.ndarray, faces: np.ndarray, reach: float = 0.12) -> np.ndarray:
    """Indices of the faces whose inside may be seen: those within ``reach`` m of the surface's open edges.

    Vertices at one place count as one, so seams of the texture are no edges. Empty for a closed surface.
    """
    _, merged = np.unique(np.round(vertices, 5), axis=0, return_inverse=True)
    edges = np.sort(merged.reshape(-1)[faces][:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), 1)
    edges = edges[edges[:, 0] != edges[:, 1]]
    keys, counts = np.unique(edges[:, 0] * np.int64(len(vertices)) + edges[:, 1], return_counts=True)
    rim = np.unique(np.stack(np.divmod(keys[counts == 1], len(vertices))))
    if not len(rim):
        return np.empty(0, np.int64)
    edge = np.isin(merged.reshape(-1), rim)
    distance, _ = cKDTree(vertices[edge]).query(vertices, distance_upper_bound=reach)
    return np.flatnonzero(np.isfinite(distance)[faces].any(1))
