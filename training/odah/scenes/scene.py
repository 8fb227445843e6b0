"""A scene: all that a renderer is told about one clip, as plain arrays. Whoever draws it sees the same thing.

World: Z up, metres, the floor at height 0. Colours that people choose (textures) are sRGB 0..255; light is
linear RGB. The meshes of the subject carry ``person`` 0; a bystander's 1 and so on; things -1.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from pose2sim_biokin.vision.camera import Camera

THING = -1
SUBJECT = 0


@dataclass(frozen=True)
class Material:
    """A surface.

    Attributes:
        texture: (h, w, 3) uint8 sRGB, repeated beyond uv 0..1; (1, 1, 3) for a plain colour. Row 0 is v = 1
            (the top), as in image files.
        roughness: 0 mirror, 1 chalk.
        specular: strength of the highlight, 0..1 (dielectric 0.5 is an index of refraction of 1.5).
        metallic: 0 or 1 (reflective markers).
    """

    texture: np.ndarray
    roughness: float = 0.8
    specular: float = 0.2
    metallic: float = 0.0


@dataclass(frozen=True)
class Mesh:
    """A surface that stands still or moves.

    Attributes:
        name: unique within the scene.
        vertices: (T, V, 3) float32, world, m; T = 1 for what does not move, else the scene's frames.
        faces: (F, 3) int32, counter-clockwise seen from outside.
        uv: (V, 2) float32.
        material: of the whole mesh.
        person: SUBJECT, a bystander's number, or THING.
        two_sided: open surfaces (skirts, leaves) that are seen from both sides.
    """

    name: str
    vertices: np.ndarray
    faces: np.ndarray
    uv: np.ndarray
    material: Material
    person: int = THING
    two_sided: bool = False

    def at(self, frame: int) -> np.ndarray:
        """(V, 3) vertices in a frame."""
        return self.vertices[min(frame, len(self.vertices) - 1)]


@dataclass(frozen=True)
class AreaLight:
    """A rectangle that shines to the side of ``cross(u, v)``.

    Attributes:
        centre: (3,) m; u, v: (3,) half edges, m, at right angles.
        radiance: (3,) linear RGB, W/(m2 sr).
    """

    centre: np.ndarray
    u: np.ndarray
    v: np.ndarray
    radiance: np.ndarray


@dataclass(frozen=True)
class Sun:
    """Parallel light.

    Attributes:
        direction: (3,) unit vector towards the sun.
        irradiance: (3,) linear RGB on a surface that faces it, W/m2.
        angle: apparent diameter, rad: how soft its shadows are.
    """

    direction: np.ndarray
    irradiance: np.ndarray
    angle: float = 0.01


@dataclass(frozen=True)
class Sky:
    """Light from all around, and what is seen where there is nothing else; linear RGB radiance (3,) each."""

    zenith: np.ndarray
    horizon: np.ndarray
    ground: np.ndarray


@dataclass(frozen=True)
class Scene:
    """One clip.

    Attributes:
        meshes: everything that can be seen.
        lights: area lights; sun: or None indoors; sky: always.
        cameras: with names, sizes and lens distortion; they stand still.
        frames: number of frames; fps: their rate, Hz.
        exposure: factor from radiance to 0..1 before the sRGB curve, one a camera.
        notes: what was drawn at random, for truth.json (plain values only).
    """

    meshes: tuple[Mesh, ...]
    lights: tuple[AreaLight, ...]
    sun: Sun | None
    sky: Sky
    cameras: tuple[Camera, ...]
    frames: int
    fps: float
    exposure: tuple[float, ...]
    notes: dict = field(default_factory=dict)
