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
import torch.nn.functional as F
from torch import Tensor

from odah.render.darkening import Region
from odah.render.lens import project_through_lens
from odah.render.people import People
from odah.render.rasterizer import linear_to_srgb
from odah.render.renderers import Rendered
from odah.render.surfaces import at_samples
from odah.render.things import NEAR_M, Plate, Things
from odah.render.zbuffer import draw, draw_depth
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

    def __init__(self, scene: Scene, supersample: int = 2):
        self.cameras, self.s = scene.cameras, supersample
        self._people = People([m for m in scene.meshes if m.person == SUBJECT], "cpu")

    def __call__(self, camera: int, frame: int) -> np.ndarray:
        lens, s = self.cameras[camera], self.s
        mask = np.zeros((lens.height, lens.width), bool)
        if not len(self._people.faces):
            return mask
        points, _ = self._people.at(frame)
        box, screen, behind = to_screen(lens, points, s)
        if box:
            local = screen - screen.new_tensor([box.x0 * s, box.y0 * s, 0])
            size = (box.y1 - box.y0) * s, (box.x1 - box.x0) * s
            depth = draw_depth(
                local[None], self._people.faces, *size, cull_backfaces=True, behind=behind[None]
            )
            cover = _pool(depth[0].isfinite()[..., None].float(), s)[..., 0]
            mask[box.slices] = majority(cover).numpy()
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
            mask[box.slices] = majority(seen).cpu().numpy()
            amodal[box.slices] = majority(whole).cpu().numpy()
        picture[region.slices] = self._picture(colour)
        return Rendered(picture, mask, amodal)

    def _draw_people(self, index, box, screen, behind, points, normals, casters):
        """In the box: colour times cover (h, w, 3), cover, cover by the subject as seen, and unhidden."""
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
        if bool(people.subject.all()):
            fine[:, 5] = drawn.mask.view(-1)
        else:
            own = people.faces[people.subject]
            whole = draw_depth(local[None], own, height, width, cull_backfaces=True, behind=hidden_from_start)
            fine[:, 5] = whole.view(-1).isfinite()
        pooled = _pool(fine.view(height, width, 6), s)
        return pooled[..., :3], pooled[..., 3], pooled[..., 4], pooled[..., 5]


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


def majority(cover: Tensor) -> Tensor:
    """(h, w) bool: pixels of which more than half is covered; where it is just half, the pixels around count.

    Taking all pixels at exactly half, a quarter of the edge's, would make every outline an eighth of a pixel
    too wide.
    """
    around = F.avg_pool2d(cover[None, None], 3, 1, 1, count_include_pad=False)[0, 0]
    return (cover > 0.5) | ((cover == 0.5) & (around > 0.5))
