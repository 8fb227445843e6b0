"""A random scene about a subject's motion: clothes, surroundings, light, cameras, props.

scene = build_scene(rng, SceneSettings(), body, subject, animate, frames, fps)
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from odah.motions.floor import stand_on_floor
from odah.motions.sampler import sample_motion
from odah.scenes.cameras import SENSOR_MM, anywhere_cameras, paper_cameras, share_in_view
from odah.scenes.people import Animate, Person, chart_of, dress, rigid, to_world
from odah.scenes.props import beside, marker_balls, occluder
from odah.scenes.rooms import Ground, Surroundings, irradiance, outdoors, room
from odah.scenes.scene import SUBJECT, Scene
from pose2sim_biokin.errors import BiokinError
from pose2sim_biokin.vision.camera import Camera

CAMERAS = ("paper", "anywhere")
SURROUNDINGS = ("room", "outdoors", "any")
_SAMPLED_FRAMES, _SAMPLED_VERTICES = 24, 160  # of the person, for the cameras to look at


@dataclass(frozen=True)
class SceneSettings:
    """What scenes are drawn from.

    Attributes:
        cameras: "paper" (frontal and sagittal, hip height, 33 mm) or "anywhere".
        surroundings: "room", "outdoors" or "any".
        sizes: pictures (width, height), px; "paper" takes the first, "anywhere" draws one for each camera and
            turns some on their side.
        marker_share: of clips with reflective markers on the body.
        occluder_share: of clips with furniture between a camera and the person.
        bystander_share: of clips with a second person.
        views: number of cameras.
    """

    cameras: str = "anywhere"
    surroundings: str = "any"
    sizes: tuple[tuple[int, int], ...] = ((1080, 720),)
    marker_share: float = 0.15
    occluder_share: float = 0.15
    bystander_share: float = 0.1
    views: int = 2

    def __post_init__(self) -> None:
        for name, allowed in (("cameras", CAMERAS), ("surroundings", SURROUNDINGS)):
            if getattr(self, name) not in allowed:
                raise BiokinError(
                    f"{name}: found {getattr(self, name)!r}, expected one of {', '.join(allowed)}."
                )
        object.__setattr__(self, "sizes", tuple((int(w), int(h)) for w, h in self.sizes))
        if not self.sizes or any(not 16 <= side <= 8192 for size in self.sizes for side in size):
            raise BiokinError(f"sizes: found {self.sizes}, expected pairs (width, height) of 16 to 8192 px.")
        for name in ("marker_share", "occluder_share", "bystander_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise BiokinError(f"{name}: found {getattr(self, name)}, expected a share from 0 to 1.")
        if not 1 <= self.views <= 8:
            raise BiokinError(f"views: found {self.views}, expected 1 to 8.")


def build_scene(
    rng: np.random.Generator,
    settings: SceneSettings,
    body,
    subject,
    animate: Animate,
    frames: int,
    fps: float,
) -> Scene:
    """A scene about one motion.

    Args:
        body, subject: see `odah.bodies.body`.
        animate: the motion: dressed rest vertices (V,3) of the subject, or None for the bare skin, to an
            `Animation` with vertices (frames,V,3) in ground, m, floor at 0.
        frames, fps: of the motion.
    """
    # every part has its own generator: what one draws does not change the others
    parts = ("outfit", "cameras", "surroundings", "props", "bystander", "choices")
    each = dict(zip(parts, rng.spawn(len(parts)), strict=True))
    choice = dict(
        zip(("markers", "occluder", "bystander", "outdoors"), each["choices"].random(4), strict=True)
    )

    person = dress(each["outfit"], body, subject, animate, SUBJECT)
    points = _sample(person.skin)
    cameras = draw_cameras(each["cameras"], settings, points, _heading(body, subject, person.skin))
    centres = np.array([camera.center for camera in cameras])
    path = points[..., :2].reshape(-1, 2)
    if settings.surroundings == "outdoors" or (settings.surroundings == "any" and choice["outdoors"] < 0.3):
        around = outdoors(each["surroundings"], path, centres)
    else:
        around = room(each["surroundings"], path, centres, float(points[..., 2].max()))
    meshes = [*around.meshes, *person.meshes]
    notes = {"clothing": person.notes, "surroundings": around.notes}

    ground = Ground(path, centres[:, :2])
    watched = centres[each["props"].integers(len(centres))]
    if choice["markers"] < settings.marker_share:
        chosen = _marker_vertices(each["props"], body, person)
        shell = person.outermost
        meshes.append(marker_balls(each["props"], body.faces.numpy(), shell, chosen, animate))
        notes["markers"] = len(chosen)
    if choice["bystander"] < settings.bystander_share:
        other = _bystander(each["bystander"], body, frames, fps, ground, watched, around)
        if other is not None:
            meshes += other.meshes
            notes["bystander"] = other.notes
    if choice["occluder"] < settings.occluder_share:
        things, what = occluder(each["props"], ground, watched, around.holds)
        meshes += things
        if things:
            notes["occluder"] = what
    exposure = tuple(_exposure(each["cameras"], around, points, camera) for camera in cameras)
    notes["cameras"] = [_camera_notes(c, points) for c in cameras]
    notes["exposure"] = [round(e, 4) for e in exposure]
    return Scene(
        tuple(meshes), around.lights, around.sun, around.sky, tuple(cameras), frames, fps, exposure, notes
    )


def draw_cameras(rng, settings: SceneSettings, points: np.ndarray, heading: float):
    """Cameras as the settings say that see the points (T,P,3), world."""
    if settings.cameras == "paper":
        return paper_cameras(rng, points, heading, settings.sizes[0], settings.views)
    return anywhere_cameras(rng, points, settings.sizes, settings.views)


def _sample(vertices: np.ndarray) -> np.ndarray:
    """(t,p,3) a few vertices of a few frames."""
    rows = np.unique(
        np.linspace(0, len(vertices) - 1, min(len(vertices), _SAMPLED_FRAMES)).round().astype(int)
    )
    return vertices[rows][:, :: max(1, vertices.shape[1] // _SAMPLED_VERTICES)].astype(np.float64)


def _heading(body, subject, skin: np.ndarray) -> float:
    """Horizontal direction of the pelvis's front in the first frame, rad from world X towards world Y."""
    pelvis = np.flatnonzero(body.weights[:, body.skeleton.body_index("pelvis")].numpy() > 0.7)
    rotation, _ = rigid(to_world(subject.vertices)[pelvis], skin[:1, pelvis])
    forward = rotation[0] @ np.array([0.0, 1.0, 0.0])  # the rest mesh faces ground X, which is world Y
    return float(np.arctan2(forward[1], forward[0]))


def _camera_notes(camera: Camera, points: np.ndarray) -> dict:
    middle = 0.5 * (points.reshape(-1, 3).min(0) + points.reshape(-1, 3).max(0))
    level = np.cross(camera.view_direction, [0, 0, 1.0])
    roll = np.arctan2(-camera.R[1] @ level, camera.R[0] @ level)
    return {
        "name": camera.name,
        "height_m": round(float(camera.center[2]), 3),
        "distance_m": round(float(np.linalg.norm((camera.center - middle)[:2])), 3),
        "roll_deg": round(float(np.rad2deg(roll)), 2),
        "focal_mm": round(float(camera.K[0, 0] / max(camera.size) * SENSOR_MM), 2),
        "in_view": round(share_in_view(camera, points), 4),
    }


def _exposure(rng: np.random.Generator, around: Surroundings, points: np.ndarray, camera: Camera) -> float:
    """Factor that makes white cloth about white: metered on the person, on what faces the camera and up."""
    middle = points.reshape(-1, 3).mean(0)
    towards = (camera.center - middle) * [1, 1, 0]
    towards = towards / np.linalg.norm(towards)
    light = 0.65 * irradiance(around, middle, towards) + 0.35 * irradiance(
        around, middle, np.array([0, 0, 1.0])
    )
    return float(np.pi / light * np.exp(rng.normal(0.15, 0.2)))


def _marker_vertices(rng: np.random.Generator, body, person: Person) -> np.ndarray:
    """All markers of the skeleton, or those of the legs and the pelvis, that are not under a skirt."""
    from odah.bodies.registration import load_registration

    registration = load_registration(body)
    vertices = registration.marker_vertices.numpy()
    if rng.random() < 0.3:
        leg = body.rest_mean.numpy()[vertices, 1] < 0.13
        leg &= chart_of(body).arm[vertices] < 0.5
        vertices = vertices[leg]
    return vertices[~person.loose[vertices]]


def _bystander(
    rng: np.random.Generator, body, frames: int, fps: float, ground: Ground, camera: np.ndarray, around
) -> Person | None:
    """Someone else of the same kind of body, with clothes and a motion of their own; None without room."""
    subject = body.sample_subject(int(rng.integers(2**31)))
    motion = sample_motion(rng, "train", [], frames, body.kinematics, fps)
    q = stand_on_floor(motion.coordinates, motion.lift, body.kinematics, subject.scales.numpy())
    q = torch.as_tensor(q).float()
    skin = body.pose(subject, q)
    flat = to_world(skin)[..., :2]
    middle = 0.5 * (flat.min((0, 1)) + flat.max((0, 1)))
    reach = float(np.linalg.norm(flat - middle, axis=-1).max())
    place = beside(rng, ground, camera, reach, around.holds)
    if place is None:
        return None
    shift = np.append(place - middle, 0.0)
    to_ground = torch.as_tensor(shift[[1, 2, 0]].astype(np.float32))  # world (x, y, z) = ground (Z, X, Y)

    def animate(rest: Tensor | None) -> Posed:
        return Posed(body.pose(subject, q, rest) + to_ground)

    person = dress(rng, body, subject, animate, SUBJECT + 1)
    lowest = min(float(mesh.vertices[..., 2].min()) for mesh in person.meshes)
    lift = np.array([0, 0, max(0.0, -lowest)], np.float32)  # soles on the floor, not in it
    meshes = tuple(replace(mesh, vertices=mesh.vertices + lift) for mesh in person.meshes)
    return replace(person, meshes=meshes, notes=person.notes | {"motion": motion.name})


@dataclass(frozen=True)
class Posed:
    """What `dress` needs of an `Animation`: vertices (T,V,3) in ground, m."""

    vertices: Tensor
