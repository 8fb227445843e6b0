"""What every renderer does: frames of a scene, as one of its cameras sees them.

    render = get_renderer("raster")
    for frame in render(scene, 0, range(scene.frames)):
        frame.image, frame.mask

A renderer is a function of (scene, camera index, frame numbers); keyword settings go to `get_renderer`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from odah.scenes.scene import Scene
from pose2sim_biokin.errors import BiokinError

NAMES = ("raster", "cycles", "eevee")


@dataclass(frozen=True)
class Rendered:
    """One frame of one camera, lens distortion included.

    Attributes:
        image: (H, W, 3) uint8 sRGB, blue green red.
        mask: (H, W) bool, the subject as it is seen (what stands before it is left out).
        amodal: (H, W) bool, the subject as if nothing stood before it.
    """

    image: np.ndarray
    mask: np.ndarray
    amodal: np.ndarray


Renderer = Callable[[Scene, int, Sequence[int]], Iterator[Rendered]]


def get_renderer(name: str, **settings) -> Renderer:
    """The renderer of this name: "raster" (PyTorch, fast), "cycles" or "eevee" (Blender, `pip install
    pose2sim_biokin[blender]`).

    settings: keyword arguments of `odah.render.scene_raster.render_scene` or of
    `odah.render.blender_runner.BlenderSettings`.

    Raises:
        BiokinError: unknown renderer or setting.
    """
    if name == "raster":
        from odah.render.scene_raster import render_scene

        unknown = set(settings) - {"device", "supersample"}
        if unknown:
            raise BiokinError(
                f"renderer raster: no setting {sorted(unknown)}; it has device and supersample."
            )
        return partial(render_scene, **settings)
    if name in ("cycles", "eevee"):
        from odah.render.blender_runner import BlenderSettings, blender_render

        try:
            chosen = BlenderSettings(engine=name, **settings)
        except TypeError as error:
            raise BiokinError(f"renderer {name}: {error}") from error
        return partial(blender_render, settings=chosen)
    raise BiokinError(f"renderer: expected one of {', '.join(NAMES)}, found {name!r}.")
