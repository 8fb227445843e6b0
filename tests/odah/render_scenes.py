"""Small scenes made by hand, for the tests of the renderers."""

from __future__ import annotations

import numpy as np

from odah.scenes.scene import SUBJECT, THING, AreaLight, Material, Mesh, Scene, Sky, Sun
from pose2sim_biokin.vision.camera import Camera

DARK = Sky(np.zeros(3), np.zeros(3), np.zeros(3))
EVEN = Sky(np.ones(3), np.ones(3), np.ones(3))  # the same light from everywhere: irradiance pi


def grey(level: int, **kwargs) -> Material:
    """A plain colour that does not shine."""
    return Material(np.full((1, 1, 3), level, np.uint8), roughness=1.0, specular=0.0, **kwargs)


def linear(level: float) -> float:
    """Linear light of an sRGB level 0..255 (IEC 61966-2-1)."""
    value = level / 255
    return value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4


def quad(name: str, corner, u, v, material: Material, person: int = THING, **kwargs) -> Mesh:
    """A rectangle, uv 0..1, seen from the side of cross(u, v)."""
    corner, u, v = (np.asarray(a, dtype=np.float32) for a in (corner, u, v))
    vertices = np.stack([corner, corner + u, corner + u + v, corner + v])[None]
    faces, uv = (
        np.array([[0, 1, 2], [0, 2, 3]], np.int32),
        np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float32),
    )
    return Mesh(name, vertices, faces, uv, material, person, **kwargs)


def ball(
    name: str, centres, radius: float, material: Material, person: int = SUBJECT, rings: int = 40
) -> Mesh:
    """A ball whose centre is at centres (T, 3)."""
    sectors = 2 * rings
    polar = np.linspace(0, np.pi, rings + 1)[:, None]
    around = np.arange(sectors)[None] * (2 * np.pi / sectors)
    unit = np.stack(
        [np.sin(polar) * np.cos(around), np.sin(polar) * np.sin(around), np.cos(polar) + 0 * around], -1
    ).reshape(-1, 3)
    i, j = (g.ravel() for g in np.meshgrid(np.arange(rings), np.arange(sectors), indexing="ij"))
    a, b = i * sectors + j, i * sectors + (j + 1) % sectors
    faces = np.concatenate([np.stack([a, a + sectors, b], 1), np.stack([b, a + sectors, b + sectors], 1)])
    vertices = (np.asarray(centres, np.float32)[:, None] + radius * unit).astype(np.float32)
    uv = np.stack([np.arctan2(unit[:, 1], unit[:, 0]) / 7 + 0.5, unit[:, 2] / 2 + 0.5], 1)
    return Mesh(name, vertices, faces.astype(np.int32), uv.astype(np.float32), material, person)


def look(eye, target, size=(160, 120), focal: float = 150.0, distortion=(), roll: float = 0.0) -> Camera:
    """A camera at ``eye`` that looks at ``target``."""
    eye, forward = np.asarray(eye, float), np.subtract(target, eye).astype(float)
    forward /= np.linalg.norm(forward)
    right = np.cross(forward, [0, 0, 1] if abs(forward[2]) < 0.99 else [0, 1, 0])
    right /= np.linalg.norm(right)
    turn = np.array([[np.cos(roll), -np.sin(roll), 0], [np.sin(roll), np.cos(roll), 0], [0, 0, 1]])
    R = turn @ np.array([right, np.cross(forward, right), forward])
    width, height = size
    K = np.array([[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1.0]])
    return Camera("cam01", width, height, K, np.array(distortion), R, -R @ eye)


def scene(
    meshes, camera, *, lights=(), sun: Sun | None = None, sky: Sky = DARK, frames=1, exposure=1.0
) -> Scene:
    """A scene of one camera, or several."""
    cameras = camera if isinstance(camera, tuple) else (camera,)
    return Scene(
        tuple(meshes), tuple(lights), sun, sky, cameras, frames, 30.0, (exposure,) * len(cameras), {"seed": 1}
    )


def lamp(centre, half=0.3, radiance=10.0) -> AreaLight:
    """A square lamp that shines down."""
    return AreaLight(
        np.asarray(centre, float),
        np.array([half, 0, 0]),
        np.array([0, -half, 0]),
        np.full(3, float(radiance)),
    )
