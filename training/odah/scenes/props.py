"""Reflective markers on the body, and what stands between a camera and the person."""

from __future__ import annotations

import numpy as np
from torch import as_tensor

from odah.scenes.furniture import IN_FRONT, build
from odah.scenes.people import Animate, to_world
from odah.scenes.primitives import ball, make_mesh
from odah.scenes.rooms import Ground
from odah.scenes.scene import SUBJECT, Mesh
from odah.scenes.shells import normals
from odah.scenes.textures import Rng, plain_material


def marker_balls(
    rng: Rng,
    faces: np.ndarray,
    surface: np.ndarray,
    vertices: np.ndarray,
    animate: Animate,
    radius: float = 0.007,
) -> Mesh:
    """Reflective balls that stick to the outermost surface.

    Args:
        surface: (V,3) outermost rest mesh, cloth over skin, ground axes, m; faces: (F,3).
        vertices: (M,) where markers are.
        animate: rest mesh (V,3) to an `Animation`.
    """
    raised = surface + normals(surface, faces) * (0.9 * radius)
    centres = to_world(animate(as_tensor(raised.astype(np.float32))).vertices)[:, vertices]  # (T,M,3)
    shape, ball_faces, uv = ball(5, 8)
    count = len(vertices)
    points = (centres[:, :, None] + (radius * shape).astype(np.float32)).reshape(len(centres), -1, 3)
    moved = ball_faces[None] + len(shape) * np.arange(count)[:, None, None]
    tone = rng.uniform(190, 250)
    material = plain_material(np.full(3, tone), float(rng.uniform(0.2, 0.45)), 0.8, 1.0)
    return make_mesh(
        "markers", points, moved.reshape(-1, 3), np.tile(uv, (count, 1)), material, person=SUBJECT
    )


def occluder(rng: Rng, ground: Ground, camera: np.ndarray, inside) -> tuple[list[Mesh], str]:
    """Furniture between a camera (3,) and people, and its name; nothing where it has no room.

    inside: function of a place (2,) that says whether it is in the room.
    """
    for _ in range(30):
        builder, radius = build(rng, IN_FRONT, "occluder")
        target = ground.path[rng.integers(len(ground.path))]
        place = camera[:2] + rng.uniform(0.3, 0.75) * (target - camera[:2]) + rng.normal(0, 0.2, 2)
        meshes = builder.placed(place, rng.uniform(-np.pi, np.pi))
        tall = max(float(mesh.vertices[..., 2].max()) for mesh in meshes) > 1.3
        if tall and ground.covers(place, 0.6 * radius):
            continue
        if ground.free(place, radius, in_view=True) and inside(place, radius):
            ground.take(place, radius)
            return meshes, f"{len(meshes)} parts, {radius:.2f} m"
    return [], ""


def beside(rng: Rng, ground: Ground, camera: np.ndarray, reach: float, inside) -> np.ndarray | None:
    """(2,) a place for a bystander whose own way takes `reach` m: near people, or before the camera (3,)."""
    for _ in range(60):
        target = ground.path[rng.integers(len(ground.path))]
        if rng.random() < 0.5:
            place = camera[:2] + rng.uniform(0.35, 0.75) * (target - camera[:2]) + rng.normal(0, 0.3, 2)
        else:
            angle = rng.uniform(-np.pi, np.pi)
            place = target + rng.uniform(0.9, 2.5) * np.array([np.cos(angle), np.sin(angle)])
        if ground.covers(place, 0.2):  # not all of the subject all of the time
            continue
        if ground.free(place, reach, in_view=True) and inside(place, reach):
            ground.take(place, reach)
            return place
    return None
