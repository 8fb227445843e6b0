"""Pieces cut from a body's mesh: cloth, skin and hair as meshes of their own, with clean hems and seams.

A `Cut` keeps what lies where a scalar field is positive. Faces that the field's zero line crosses are cut
along it, so a hem is a line and no row of teeth. A cut is made once, on the rest mesh; `Cut.apply` then takes
the vertices of any pose.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Cut:
    """A piece of a mesh with V vertices.

    Attributes:
        first, second: (n,) vertices of the whole mesh; share: (n,) of the second: a vertex of the piece is
            (1 - share) first + share second.
        faces: (F,3) into the n vertices, wound like the whole mesh's.
    """

    first: np.ndarray
    second: np.ndarray
    share: np.ndarray
    faces: np.ndarray

    def apply(self, values: np.ndarray) -> np.ndarray:
        """Values (..., V, C) of the whole mesh at the piece's vertices (..., n, C)."""
        share = self.share[:, None].astype(values.dtype)
        return values[..., self.first, :] * (1 - share) + values[..., self.second, :] * share

    def take(self, rows: np.ndarray, faces: np.ndarray) -> Cut:
        """The cut with vertices `rows` of this one and other faces."""
        return Cut(self.first[rows], self.second[rows], self.share[rows], faces)


def cut(faces: np.ndarray, field: np.ndarray) -> Cut:
    """The part of a mesh where `field` (V,) > 0; faces (F,3).

    A triangle with one vertex inside leaves a triangle, one with two a quad of two triangles.
    """
    field = np.where(field == 0, -1e-12, field)
    inside = field > 0
    count = inside[faces].sum(1)
    whole = faces[count == 3]
    edges: dict[tuple[int, int], int] = {}
    first, second, share = list(range(len(field))), list(range(len(field))), [0.0] * len(field)

    def crossing(a: int, b: int) -> int:
        """Vertex on the edge from a (inside) to b (outside)."""
        key = (a, b)
        if key not in edges:
            edges[key] = len(first)
            first.append(a)
            second.append(b)
            share.append(float(field[a] / (field[a] - field[b])))
        return edges[key]

    pieces = []
    for corner in faces[(count == 1) | (count == 2)].tolist():
        flags = [bool(inside[v]) for v in corner]
        one = sum(flags) == 1
        lone = flags.index(one)  # the vertex that differs from the other two
        a, b, c = corner[lone], corner[(lone + 1) % 3], corner[(lone + 2) % 3]
        if one:
            pieces.append((a, crossing(a, b), crossing(a, c)))
        else:
            ab, ac = crossing(b, a), crossing(c, a)
            pieces += [(ab, b, c), (ab, c, ac)]
    faces = np.concatenate([whole, np.array(pieces, dtype=np.int64).reshape(-1, 3)])
    used, compact = np.unique(faces, return_inverse=True)
    everything = Cut(np.array(first), np.array(second), np.array(share), faces)
    return everything.take(used, compact.reshape(-1, 3))


def unwrap(piece: Cut, corner_uv: np.ndarray) -> tuple[Cut, np.ndarray]:
    """Give a piece texture coordinates (F,3,2) per corner: its vertices are doubled along the seams.

    Returns the piece and uv (n,2).
    """
    keys = np.round(corner_uv.reshape(-1, 2) * 8192).astype(np.int64)
    rows = np.concatenate([piece.faces.reshape(-1, 1), keys], 1)
    unique, index, inverse = np.unique(rows, axis=0, return_index=True, return_inverse=True)
    new = piece.take(unique[:, 0], inverse.reshape(-1, 3))
    return new, corner_uv.reshape(-1, 2)[index]


def cylinder_uv(angle: np.ndarray, height: np.ndarray, radius: np.ndarray | float) -> np.ndarray:
    """Texture coordinates (F,3,2) in metres on a cylinder.

    angle, height: (F,3) of the corners, rad and m.  radius: of the cylinder, m (F,) or one.
    The seam lies at angle +-pi; a face across it is unwrapped to one side.
    """
    wrapped = np.where(angle - angle[:, :1] > np.pi, angle - 2 * np.pi, angle)
    wrapped = np.where(wrapped - wrapped[:, :1] < -np.pi, wrapped + 2 * np.pi, wrapped)
    return np.stack([wrapped * np.reshape(radius, (-1, 1)), height], -1)


def neighbour_mean(faces: np.ndarray, count: int):
    """Sparse matrix (V,V) that replaces every vertex by the mean of its neighbours."""
    from scipy.sparse import coo_matrix, diags

    a = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    a = np.concatenate([a, a[:, ::-1]])
    matrix = coo_matrix((np.ones(len(a), np.float32), (a[:, 0], a[:, 1])), shape=(count, count)).tocsr()
    matrix.data[:] = 1.0  # an inner edge appears twice
    return diags(1.0 / np.maximum(np.asarray(matrix.sum(1)).ravel(), 1)).astype(np.float32) @ matrix


def normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Area-weighted outward unit normals (V,3) of vertices (V,3)."""
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    face = np.cross(b - a, c - a)
    out = np.zeros_like(vertices)
    for k in range(3):
        for axis in range(3):
            out[:, axis] += np.bincount(faces[:, k], face[:, axis], minlength=len(vertices))
    return out / np.maximum(np.linalg.norm(out, axis=1, keepdims=True), 1e-12)
