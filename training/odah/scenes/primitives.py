"""Boxes, planes, cylinders and balls as meshes of a scene; uv in metres over a texture's size."""

from __future__ import annotations

import numpy as np

from odah.scenes.scene import Material, Mesh

PLANE_CELL_M = 1.0  # large planes come in quads no larger: a face that a near plane cuts is then a small one


def plane(
    name: str,
    origin: np.ndarray,
    u: np.ndarray,
    v: np.ndarray,
    material: Material,
    tile: float = 1.0,
    cell: float = PLANE_CELL_M,
    **kwargs,
) -> Mesh:
    """A rectangle from `origin` (3,) along the edges `u`, `v` (3,), seen from the side of cross(u, v).

    tile: size of one repeat of the texture, m.  cell: largest quad, m.
    """
    origin, u, v = (np.asarray(a, dtype=np.float64) for a in (origin, u, v))
    width, height = np.linalg.norm(u), np.linalg.norm(v)
    nu, nv = max(1, int(np.ceil(width / cell - 1e-9))), max(1, int(np.ceil(height / cell - 1e-9)))
    a, b = np.meshgrid(np.linspace(0, 1, nu + 1), np.linspace(0, 1, nv + 1), indexing="ij")
    a, b = a.ravel(), b.ravel()
    vertices = origin + a[:, None] * u + b[:, None] * v
    uv = np.stack([a * width, b * height], 1) / tile
    return make_mesh(name, vertices, grid_faces(nu + 1, nv + 1), uv, material, **kwargs)


def grid_faces(rows: int, columns: int, closed: bool = False) -> np.ndarray:
    """(F,3) triangles of a grid of rows x columns vertices (row-major).

    They face cross(first axis, second axis). closed: the last column joins the first.
    """
    i, j = np.meshgrid(np.arange(rows - 1), np.arange(columns if closed else columns - 1), indexing="ij")
    i, j = i.ravel(), j.ravel()
    a, b = i * columns + j, i * columns + (j + 1) % columns
    c, d = a + columns, b + columns
    return np.concatenate([np.stack([a, c, d], 1), np.stack([a, d, b], 1)]).astype(np.int32)


def box(
    name: str,
    centre: np.ndarray,
    size: np.ndarray,
    material: Material,
    yaw: float = 0.0,
    tile: float = 1.0,
    **kwargs,
) -> Mesh:
    """A box with edges `size` (3,), turned by `yaw` (rad) about the vertical."""
    size = np.asarray(size, dtype=np.float64)
    vertices, uvs, faces = [], [], []
    for axis in range(3):
        for sign in (-1.0, 1.0):
            u, v = np.zeros(3), np.zeros(3)
            first, second = [(1, 2), (2, 0), (0, 1)][axis]
            u[first], v[second] = size[first] * sign, size[second]
            start = -0.5 * (u + v)
            start[axis] = 0.5 * sign * size[axis]
            corners = np.array([start, start + u, start + u + v, start + v])
            lengths = np.linalg.norm(u), np.linalg.norm(v)
            flat = np.array([[0, 0], [lengths[0], 0], lengths, [0, lengths[1]]]) / tile
            base = 4 * len(vertices)
            vertices.append(corners)
            uvs.append(flat if axis != 1 else flat[:, ::-1])
            faces.append(np.array([[0, 1, 2], [0, 2, 3]]) + base)
    turn = np.array([[np.cos(yaw), -np.sin(yaw), 0], [np.sin(yaw), np.cos(yaw), 0], [0, 0, 1]])
    points = np.concatenate(vertices) @ turn.T + np.asarray(centre, dtype=np.float64)
    return make_mesh(name, points, np.concatenate(faces), np.concatenate(uvs), material, **kwargs)


def cylinder(
    name: str,
    base: np.ndarray,
    top: np.ndarray,
    radius: float,
    material: Material,
    top_radius: float | None = None,
    sides: int = 16,
    tile: float = 1.0,
    **kwargs,
) -> Mesh:
    """A closed cylinder, or cone, from `base` to `top` (3,)."""
    base, top = np.asarray(base, dtype=np.float64), np.asarray(top, dtype=np.float64)
    axis = top - base
    length = np.linalg.norm(axis)
    axis = axis / length
    side = np.cross(axis, [1.0, 0, 0] if abs(axis[0]) < 0.9 else [0, 1.0, 0])
    side /= np.linalg.norm(side)
    other = np.cross(axis, side)
    angle = np.linspace(0, 2 * np.pi, sides + 1)
    ring = np.cos(angle)[:, None] * side + np.sin(angle)[:, None] * other
    rings = [base + radius * ring, top + (radius if top_radius is None else top_radius) * ring]
    vertices = np.stack(rings, 1).reshape(-1, 3)  # (sides + 1) x 2
    uv = np.stack([np.repeat(angle * radius, 2), np.tile([0, length], sides + 1)], 1) / tile
    faces = grid_faces(sides + 1, 2)
    count = len(vertices)
    caps = np.concatenate([rings[0], base[None], rings[1], top[None]])
    k = np.arange(sides)
    lower = np.stack([np.full(sides, sides + 1), k + 1, k], 1) + count
    upper = np.stack([np.full(sides, 2 * sides + 3), k + sides + 2, k + sides + 3], 1) + count
    flat = np.stack([(caps - base) @ side, (caps - base) @ other], 1) / tile
    return make_mesh(
        name,
        np.concatenate([vertices, caps]),
        np.concatenate([faces, lower, upper]),
        np.concatenate([uv, flat]),
        material,
        **kwargs,
    )


def ball(rings: int = 8, sides: int = 12) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vertices (V,3), faces (F,3) and uv (V,2) of a unit ball about the origin, poles along z."""
    polar, round_ = np.meshgrid(
        np.linspace(0, np.pi, rings + 1), np.linspace(0, 2 * np.pi, sides + 1), indexing="ij"
    )
    vertices = np.stack(
        [np.sin(polar) * np.cos(round_), np.sin(polar) * np.sin(round_), np.cos(polar)], -1
    ).reshape(-1, 3)
    uv = np.stack([round_ / (2 * np.pi), 1 - polar / np.pi], -1).reshape(-1, 2)
    faces = grid_faces(rings + 1, sides + 1)
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    real = np.linalg.norm(np.cross(b - a, c - a), axis=1) > 1e-9  # not the slivers at the poles
    return vertices, faces[real], uv


def ellipsoid(name: str, centre: np.ndarray, radii: np.ndarray, material: Material, **kwargs) -> Mesh:
    """An ellipsoid with half axes `radii` (3,) along x, y, z."""
    vertices, faces, uv = ball()
    return make_mesh(name, vertices * np.asarray(radii) + np.asarray(centre), faces, uv, material, **kwargs)


def make_mesh(
    name: str, vertices: np.ndarray, faces: np.ndarray, uv: np.ndarray, material: Material, **kwargs
) -> Mesh:
    """A mesh with arrays of the right types; vertices (V,3) stand still, (T,V,3) move."""
    vertices = np.asarray(vertices, dtype=np.float32)
    if vertices.ndim == 2:
        vertices = vertices[None]
    return Mesh(name, vertices, np.asarray(faces, np.int32), np.asarray(uv, np.float32), material, **kwargs)
