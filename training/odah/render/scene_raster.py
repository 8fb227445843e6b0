"""Frames of a scene by the PyTorch rasteriser, on CPU or CUDA.

What stands still is drawn once a camera (`odah.render.things`), people are drawn every frame into their own
part of the picture (`odah.render.people`), and darken what they keep light from. Lens distortion is exact:
vertices go through the lens, triangles are small.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from odah.render.darkening import Region
from odah.render.lens import project_through_lens
from odah.render.people import People
from odah.render.rasterizer import linear_to_srgb
from odah.render.renderers import Rendered
from odah.render.surfaces import at_samples
from odah.render.things import NEAR_M, Plate, Things
from odah.render.zbuffer import draw, draw_faces
from odah.scenes.scene import SUBJECT, Scene
from pose2sim_biokin.errors import BiokinError
from pose2sim_biokin.vision.camera import Camera

_CURVE = 8192  # steps of the table of the sRGB curve
_ON_FLOOR_M = 0.004  # soles and floor lie in one plane: the person is seen

_latest: tuple[weakref.ref, tuple, SceneRaster] | None = None


def render_scene(
    scene: Scene,
    camera: int,
    frames: Sequence[int],
    *,
    device: torch.device | str = "cpu",
    supersample: int = 2,
) -> Iterator[Rendered]:
    """Frames of a scene as camera number ``camera`` sees them.

    Args:
        supersample: samples along a pixel's side; 2 gives soft edges.

    Raises:
        BiokinError: there is no such camera, frame or device.

    What does not depend on the camera is kept for the next call with the same scene.
    """
    global _latest
    check_request(scene, camera, frames)
    if torch.device(device).type == "cuda" and not torch.cuda.is_available():
        raise BiokinError("device cuda: PyTorch sees no CUDA GPU; use device cpu.")
    settings = (str(device), supersample)
    if _latest is None or _latest[0]() is not scene or _latest[1] != settings:
        _latest = weakref.ref(scene), settings, SceneRaster(scene, device=device, supersample=supersample)
    return _latest[2].render(camera, frames)


def check_request(scene: Scene, camera: int, frames: Sequence[int]) -> None:
    """Raises BiokinError when the scene has no such camera or frame."""
    if not 0 <= camera < len(scene.cameras):
        raise BiokinError(f"camera {camera}: the scene has {len(scene.cameras)} cameras, counted from 0.")
    wrong = [f for f in frames if not 0 <= f < scene.frames]
    if wrong:
        raise BiokinError(f"frame {wrong[0]}: the scene has {scene.frames} frames, counted from 0.")


class Silhouettes:
    """The subject alone, whatever stands before it: (H, W) bool of a camera and a frame."""

    def __init__(self, scene: Scene):
        self.cameras = scene.cameras
        self._people = People([m for m in scene.meshes if m.person == SUBJECT], "cpu")

    def __call__(self, camera: int, frame: int) -> np.ndarray:
        lens = self.cameras[camera]
        mask = np.zeros((lens.height, lens.width), bool)
        if len(self._people.faces):
            points, _ = self._people.at(frame)
            box, screen, behind = to_screen(lens, points, 1)
            if box:
                mask[box.slices] = (_centres(screen, self._people.faces, box, behind, 1) >= 0).numpy()
        return mask


class SceneRaster:
    """A scene made ready to be drawn; plates are made when a camera is first used."""

    @torch.no_grad()
    def __init__(self, scene: Scene, *, device: torch.device | str = "cpu", supersample: int = 2):
        moving = [m for m in scene.meshes if m.person >= 0 or len(m.vertices) > 1]
        still = [m for m in scene.meshes if not (m.person >= 0 or len(m.vertices) > 1)]
        self.cameras, self.exposure = scene.cameras, scene.exposure
        self.device, self.s = device, supersample
        self.people = People(moving, device)
        if moving:
            focus = np.mean([m.vertices[:: max(1, len(m.vertices) // 4)].mean((0, 1)) for m in moving], 0)
        else:
            focus = np.zeros(3)
        self.things = Things(scene, still, focus, device)
        steps = torch.linspace(0, 1, _CURVE, device=device)
        self._curve = (linear_to_srgb(steps) * 255 + 0.5).to(torch.uint8)
        self._plates: dict[int, tuple[Plate, np.ndarray]] = {}

    def plate(self, camera: int) -> tuple[Plate, np.ndarray]:
        """The things as the camera sees them, and as a picture (H, W, 3) uint8 BGR."""
        if camera not in self._plates:
            plate = self.things.plate(camera, self.s)
            self._plates[camera] = plate, self._picture(plate.colour)
        return self._plates[camera]

    def _picture(self, colour: Tensor) -> np.ndarray:
        """sRGB (h, w, 3) uint8 BGR of linear colours."""
        index = (colour.clamp(0, 1) * (_CURVE - 1) + 0.5).int()
        return self._curve[index].flip(-1).cpu().numpy()

    def render(self, camera: int, frames: Sequence[int]) -> Iterator[Rendered]:
        """Frames of one camera, one by one."""
        for frame in frames:
            with torch.no_grad():
                rendered = self._frame(camera, frame)
            yield rendered

    def _frame(self, index: int, frame: int) -> Rendered:
        camera = self.cameras[index]
        plate, picture = self.plate(index)
        picture = picture.copy()
        mask = np.zeros((camera.height, camera.width), bool)
        amodal = np.zeros_like(mask)
        if not len(self.people.faces):
            return Rendered(picture, mask, amodal)
        points, normals = self.people.at(frame)
        casters = self.people.casters(self.things, points)
        shade, shaded = plate.darkening.factor(self.people, casters, points)
        box, screen, behind = to_screen(camera, points, self.s)
        region = shaded.join(box)
        if not region:
            return Rendered(picture, mask, amodal)
        colour = plate.colour[region.slices].clone()
        if shade is not None:
            colour[shaded.within(region)] *= shade
        if box:
            layer, cover, seen, whole = self._draw_people(
                index, box, screen, behind, points, normals, casters
            )
            inner = box.within(region)
            colour[inner] = colour[inner] * (1 - cover[..., None]) + layer
            mask[box.slices] = seen.cpu().numpy()
            amodal[box.slices] = whole.cpu().numpy()
        picture[region.slices] = self._picture(colour)
        return Rendered(picture, mask, amodal)

    def _draw_people(self, index, box, screen, behind, points, normals, casters):
        """In the box: colour times cover (h, w, 3); cover, the subject as seen, and unhidden (h, w)."""
        s, people = self.s, self.people
        height, width = (box.y1 - box.y0) * s, (box.x1 - box.x0) * s
        local = screen - screen.new_tensor([box.x0 * s, box.y0 * s, 0])
        hidden_from_start = behind[None] if bool(behind.any()) else None
        drawn = draw(local[None], people.faces, height, width, behind=hidden_from_start)
        depth = self._plates[index][0].depth[box.y0 * s : box.y1 * s, box.x0 * s : box.x1 * s]
        visible = drawn.mask[0] & (drawn.depth[0] < depth + _ON_FLOOR_M)
        samples = visible.view(-1).nonzero().squeeze(-1)
        face = drawn.face.view(-1)[samples]
        used = torch.zeros(len(points), dtype=torch.bool, device=self.device)
        used[people.faces[face.unique()]] = True
        chosen = used.nonzero().squeeze(-1)
        eye = torch.as_tensor(self.cameras[index].center.astype(np.float32), device=self.device)
        diffuse, gloss = people.light(self.things, casters, points, normals, chosen, eye)
        table = torch.zeros(len(points), 8, device=self.device)
        table[:, :2] = people.uv
        table[chosen, 2:5], table[chosen, 5:] = diffuse, gloss
        values = at_samples(drawn, samples, people.faces, table)
        textures = people.surfaces.textures
        lod = textures.level_of_detail(people.uv[people.faces], local[people.faces][..., :2], people.mesh)
        albedo = textures.sample(people.mesh[face], values[:, :2], lod[face])
        fine = torch.zeros(height * width, 6, device=self.device)
        fine[samples, :3] = (albedo * values[:, 2:5] + values[:, 5:]) * self.exposure[index]
        fine[samples, 3] = 1
        fine[samples, 4] = people.subject[face].float()
        drawn_face = drawn.face.view(-1)
        fine[:, 5] = people.subject[drawn_face.clamp_min(0)] & (drawn_face >= 0)
        pooled = _pool(fine.view(height, width, 6), s)
        # masks go by the pixels' middles: counting samples would widen or narrow outlines
        centre = _centres(screen, people.faces, box, behind, s)
        seen = (centre >= 0) & people.subject[centre.clamp_min(0)]
        whole = seen
        if not bool(people.subject.all()):
            whole = _centres(screen, people.faces[people.subject], box, behind, s) >= 0
        # what things hide of the pixel's samples, they hide of its middle
        seen = seen & (pooled[..., 4] >= 0.5 * pooled[..., 5])
        return pooled[..., :3], pooled[..., 3], seen, whole


def _centres(screen: Tensor, faces: Tensor, box: Region, behind: Tensor, s: int) -> Tensor:
    """Face (h, w) at the middle of each pixel of the box, -1 where there is none."""
    shift = screen.new_tensor([box.x0, box.y0])
    pixels = torch.cat([(screen[:, :2] + 0.5) / s - 0.5 - shift, screen[:, 2:]], 1)
    hidden = behind[None] if bool(behind.any()) else None
    return draw_faces(pixels[None], faces, box.y1 - box.y0, box.x1 - box.x0, behind=hidden)[0]


def to_screen(camera: Camera, points: Tensor, s: int) -> tuple[Region, Tensor, Tensor]:
    """Vertices (V, 3) on the screen of s samples a pixel, x, y and 1/z; those behind the near plane (V,);
    and the part of the picture they take."""
    local = camera.world_to_camera(points.cpu().numpy())
    behind = local[:, 2] < NEAR_M
    local[:, 2] = np.maximum(local[:, 2], NEAR_M)
    pixels = project_through_lens(camera, local)
    screen = np.concatenate([(pixels + 0.5) * s - 0.5, 1 / local[:, 2:]], 1)
    front = pixels[~behind]
    box = Region(0, 0, 0, 0)
    if len(front):
        size = np.array([camera.width, camera.height])
        low = np.clip(np.floor(front.min(0)) - 1, 0, size).astype(int)
        high = np.clip(np.ceil(front.max(0)) + 2, 0, size).astype(int)
        (x0, y0), (x1, y1) = low.tolist(), high.tolist()
        box = Region(y0, y1, x0, x1)
    screen = torch.as_tensor(screen.astype(np.float32), device=points.device)
    return box, screen, torch.as_tensor(behind, device=points.device)


def _pool(fine: Tensor, s: int) -> Tensor:
    """Means of s x s blocks of (s h, s w, C)."""
    return sum(fine[dy::s, dx::s] for dy in range(s) for dx in range(s)) / (s * s)
