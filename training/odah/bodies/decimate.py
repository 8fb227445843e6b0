"""Mesh decimation by half-edge collapses: the coarse mesh is a subset of the fine mesh's vertices.

Because no vertex moves, everything that is stored per fine vertex (shape basis, skinning weights, UVs)
serves the coarse mesh by indexing alone.
"""

from __future__ import annotations

import heapq

import numpy as np


def _face_quadrics(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Area-weighted plane quadrics (F,4,4) of Garland and Heckbert 1997."""
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    normal = np.cross(b - a, c - a)
    area = np.linalg.norm(normal, axis=1, keepdims=True)
    normal = normal / np.maximum(area, 1e-15)
    plane = np.concatenate([normal, -(normal * a).sum(1, keepdims=True)], axis=1)
    return plane[:, :, None] * plane[:, None, :] * area[:, :, None]


def _flips(vertices: np.ndarray, triangles: list[tuple[int, int, int]], old: int, new: int) -> bool:
    """True if moving `old` onto `new` turns a remaining triangle over or makes it a sliver."""
    for tri in triangles:
        if new in tri:
            continue
        before = vertices[list(tri)]
        after = vertices[[new if v == old else v for v in tri]]
        n0 = np.cross(before[1] - before[0], before[2] - before[0])
        n1 = np.cross(after[1] - after[0], after[2] - after[0])
        norm = np.linalg.norm(n0) * np.linalg.norm(n1)
        if norm < 1e-18 or n0 @ n1 < 0.2 * norm:
            return True
    return False


def decimate(vertices: np.ndarray, faces: np.ndarray, target: int, edge_weight: float = 1e-3):
    """Collapse edges until `target` vertices are left.

    Args:
        vertices: (V,3) float, m.  faces: (F,3) int.  target: number of vertices to keep.
        edge_weight: cost of edge length relative to surface error; keeps flat areas evenly meshed.
    Returns:
        kept (target',) indices into `vertices`, coarse faces (F',3) into `kept`.
    """
    quadric = np.zeros((len(vertices), 4, 4))
    per_face = _face_quadrics(vertices, faces)
    for corner in range(3):
        np.add.at(quadric, faces[:, corner], per_face)
    face_of: list[set[int]] = [set() for _ in vertices]
    triangles = [tuple(int(v) for v in f) for f in faces]
    for index, tri in enumerate(triangles):
        for v in tri:
            face_of[v].add(index)
    homogeneous = np.concatenate([vertices, np.ones((len(vertices), 1))], axis=1)
    stamp = np.zeros(len(vertices), dtype=np.int64)

    def neighbours(v: int) -> set[int]:
        return {w for f in face_of[v] for w in triangles[f]} - {v}

    def push(v: int, w: int) -> None:
        length2 = float(((vertices[v] - vertices[w]) ** 2).sum())
        both = quadric[v] + quadric[w]
        for old, new in ((v, w), (w, v)):
            p = homogeneous[new]
            cost = float(p @ both @ p) + edge_weight * length2 * length2
            heapq.heappush(heap, (cost, old, new, stamp[old], stamp[new]))

    heap: list[tuple] = []
    for v in range(len(vertices)):
        for w in neighbours(v):
            if v < w:
                push(v, w)
    alive = np.array([bool(f) for f in face_of])
    count = int(alive.sum())
    while count > target and heap:
        _, old, new, s_old, s_new = heapq.heappop(heap)
        if not (alive[old] and alive[new]) or stamp[old] != s_old or stamp[new] != s_new:
            continue
        shared = face_of[old] & face_of[new]
        # Link condition: common neighbours are exactly the tips of the shared triangles.
        if len(neighbours(old) & neighbours(new)) != len(shared) or len(shared) != 2:
            continue
        if _flips(vertices, [triangles[f] for f in face_of[old]], old, new):
            continue
        for f in shared:
            for v in triangles[f]:
                face_of[v].discard(f)
        for f in list(face_of[old]):
            triangles[f] = tuple(new if v == old else v for v in triangles[f])
            face_of[new].add(f)
        face_of[old].clear()
        quadric[new] += quadric[old]
        stamp[new] += 1
        # A vertex whose last triangle went goes with it.
        gone = [old, *(v for f in shared for v in triangles[f] if v != old and alive[v] and not face_of[v])]
        alive[gone] = False
        count -= len(set(gone))
        if not alive[new]:
            continue
        for w in neighbours(new):
            push(new, w)
    used = sorted({f for v in np.flatnonzero(alive) for f in face_of[v]})
    kept_faces = np.array([triangles[f] for f in used], dtype=np.int64)
    kept = np.unique(kept_faces)
    return kept, np.searchsorted(kept, kept_faces)
