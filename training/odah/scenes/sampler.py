"""A random scene about a subject's motion: clothes, surroundings, light, cameras, props. All from one generator.

scene = build_scene(rng, SceneSettings(), body, subject, animate, frames, fps)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from odah.scenes.cameras import anywhere_cameras, paper_cameras
from odah.scenes.outfits import dress, rigid, to_world
from odah.scenes.primitives import plane
from odah.scenes.scene import SUBJECT, AreaLight, Scene, Sky
from odah.scenes.textures import FLOORS, surface
from pose2sim_biokin.errors import BiokinError

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
    animate: Callable[[Tensor | None], object],
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
    person = dress(rng, body, subject, animate, SUBJECT)
    skin = person.skin
    points = _sample(skin)
    heading = _heading(body, subject, skin)
    cameras = draw_cameras(rng, settings, points, heading)
    floor = surface(rng, FLOORS)
    meshes = [
        *person.meshes,
        plane("floor", [-8, -8, 0], [16, 0, 0], [0, 16, 0], floor.material, floor.metres),
    ]
    light = AreaLight(
        np.array([0, 0, 3.5]), np.array([0.8, 0, 0]), np.array([0, -0.8, 0]), np.array([8.0, 8.0, 8.0])
    )
    sky = Sky(np.full(3, 0.5), np.full(3, 0.5), np.full(3, 0.3))
    return Scene(
        tuple(meshes), (light,), None, sky, tuple(cameras), frames, fps, (1.0,) * len(cameras), person.notes
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
