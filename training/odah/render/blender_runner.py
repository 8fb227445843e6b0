"""Frames of a scene by Blender, which runs as a process of its own (`odah.render.blender`)."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import torch

from odah.render.lens import PinholeToLens, pinhole_for
from odah.render.rasterizer import linear_to_srgb
from odah.render.renderers import Rendered
from odah.render.scene_files import write_scene
from odah.render.scene_raster import Silhouettes, check_request
from odah.scenes.scene import Scene
from pose2sim_biokin.errors import BiokinError

PYTHON_VARIABLE = "ODAH_BLENDER_PYTHON"
_WORKER = Path(__file__).with_name("blender.py")
_FEATHER_PX = 12  # the newly drawn part fades into the plate


@dataclass(frozen=True)
class BlenderSettings:
    """How Blender renders.

    Attributes:
        engine: "cycles" (path tracing, any machine) or "eevee" (needs OpenGL; without a GPU it is slower).
        samples: a pixel, for what moves; plate_samples: for what stands still.
        bounces: of light between surfaces.  denoise: Cycles' denoiser.
        border: draw only the part with people and their shadows, over a plate drawn once.
        threads: 0 for one a processor.
        python: a Python that has bpy; this one when empty, or what ODAH_BLENDER_PYTHON names.
    """

    engine: str = "cycles"
    samples: int = 8
    plate_samples: int = 32
    bounces: int = 3
    denoise: bool = True
    border: bool = True
    threads: int = 0
    python: str = ""

    def __post_init__(self) -> None:
        if self.engine not in ("cycles", "eevee"):
            raise BiokinError(f"engine: expected cycles or eevee, found {self.engine!r}.")
        for name, least in (("samples", 1), ("plate_samples", 1), ("bounces", 0), ("threads", 0)):
            if getattr(self, name) < least:
                raise BiokinError(f"{name}: expected at least {least}, found {getattr(self, name)}.")


def blender_render(
    scene: Scene, camera: int, frames: Sequence[int], settings: BlenderSettings | None = None
) -> Iterator[Rendered]:
    """Frames of a scene as camera number ``camera`` sees them, drawn by Blender one after the other.

    Raises:
        BiokinError: there is no such camera or frame; bpy is missing; Blender stopped.
    """
    settings = settings or BlenderSettings()
    frames = list(frames)
    check_request(scene, camera, frames)
    return _frames(scene, camera, frames, settings) if frames else iter(())


def _frames(scene: Scene, index: int, frames: list[int], settings: BlenderSettings) -> Iterator[Rendered]:
    camera = scene.cameras[index]
    pinhole = pinhole_for(camera)
    to_lens = PinholeToLens(camera, pinhole)
    silhouettes = Silhouettes(scene)
    with tempfile.TemporaryDirectory(prefix="odah-blender-") as folder:
        place, out = Path(folder) / "scene", Path(folder) / "out"
        cameras = (*scene.cameras[:index], pinhole, *scene.cameras[index + 1 :])
        write_scene(replace(scene, cameras=cameras), place)
        plate = None
        wanted = iter(frames)
        with _Worker(place, out, index, frames, settings) as worker:
            for name in worker.files():
                with np.load(out / name) as archive:
                    colour, cover, box = (archive[key] for key in ("colour", "cover", "box"))
                (out / name).unlink()
                if name.startswith("plate"):
                    plate = colour
                    continue
                frame = next(wanted)
                colour, cover = _onto(plate, colour, cover, box, (pinhole.height, pinhole.width))
                image = _picture(colour * scene.exposure[index])
                mask = to_lens(cover) >= 0.5
                yield Rendered(to_lens(image), mask, silhouettes(index, frame))
        if next(wanted, None) is not None:
            raise BiokinError("Blender ended before the last frame; " + worker.last_words())


class _Worker:
    """Blender at work; stopped when the block is left."""

    def __init__(self, place: Path, out: Path, index: int, frames: list[int], settings: BlenderSettings):
        python = settings.python or os.environ.get(PYTHON_VARIABLE) or sys.executable
        command = [python, str(_WORKER), str(place), str(out), "--camera", str(index)]
        command += ["--frames", ",".join(map(str, frames)), "--engine", settings.engine]
        command += ["--samples", str(settings.samples), "--plate-samples", str(settings.plate_samples)]
        command += ["--bounces", str(settings.bounces), "--threads", str(settings.threads)]
        command += [] if settings.denoise else ["--no-denoise"]
        command += [] if settings.border else ["--whole"]
        self._command = command
        self._said: deque[str] = deque(maxlen=8)

    def __enter__(self) -> _Worker:
        try:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                encoding="utf-8",
                errors="replace",
            )
        except OSError as error:
            raise BiokinError(
                f"{self._command[0]}: cannot be started ({error}); name a Python that has bpy in the setting "
                f"python or in {PYTHON_VARIABLE}."
            ) from error
        return self

    def __exit__(self, *_) -> None:
        if self._process.poll() is None:
            self._process.terminate()
        self._process.wait()
        self._process.stdout.close()

    def files(self) -> Iterator[str]:
        """Names of the files, each as soon as it is there."""
        for line in self._process.stdout:
            line = line.strip()
            if line.startswith("odah-error: "):
                raise BiokinError(
                    f"Blender cannot render: {line.removeprefix('odah-error: ')}; in {self._command[0]} "
                    "(Python 3.11), `pip install pose2sim_biokin[blender]`, or use the renderer raster."
                )
            if line.startswith("odah: "):
                yield line.removeprefix("odah: ")
            elif line:
                self._said.append(line)
        status = self._process.wait()
        if status:
            raise BiokinError(f"Blender stopped with status {status}; {self.last_words()}")

    def last_words(self) -> str:
        """What it said last."""
        return "its last lines: " + " | ".join(self._said)


def _onto(plate, colour, cover, box, size) -> tuple[np.ndarray, np.ndarray]:
    """Whole picture (H, W, 3) and cover (H, W) of a part drawn in ``box``, faded into the plate."""
    height, width = size
    x0, y0, x1, y1 = (int(v) for v in box)
    if plate is None or (x1 - x0, y1 - y0) == (width, height):
        return colour, cover
    # sides that lie on the picture's border need no fading
    inside = np.zeros((y1 - y0 + 2, x1 - x0 + 2), np.uint8)
    inside[
        int(y0 > 0) : inside.shape[0] - int(y1 < height), int(x0 > 0) : inside.shape[1] - int(x1 < width)
    ] = 1
    distance = cv2.distanceTransform(
        cv2.copyMakeBorder(inside, 1, 1, 1, 1, cv2.BORDER_REPLICATE), cv2.DIST_C, 3
    )
    weight = np.clip(distance[2:-2, 2:-2, None] / _FEATHER_PX, 0, 1)
    whole = plate.copy()
    whole[y0:y1, x0:x1] += (colour - plate[y0:y1, x0:x1]) * weight
    share = np.zeros(size, np.float32)
    share[y0:y1, x0:x1] = cover
    return whole, share


def _picture(linear: np.ndarray) -> np.ndarray:
    """sRGB (H, W, 3) uint8 BGR of linear 0..1."""
    srgb = linear_to_srgb(torch.from_numpy(np.ascontiguousarray(linear[..., ::-1])))
    return (srgb * 255 + 0.5).to(torch.uint8).numpy()
