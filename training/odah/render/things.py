"""The part of a scene that stands still: drawn once for each camera, and lit once. PyTorch."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from odah.render.ambient import Ambient
from odah.render.darkening import Darkening
from odah.render.geometry import clip_near, face_normals, sharp_normals, subdivide
from odah.render.lens import project_through_lens
from odah.render.light import Lamps, sky_radiance
from odah.render.shadows import StaticShadows
from odah.render.surfaces import Surfaces, at_samples
from odah.render.zbuffer import draw
from odah.scenes.scene import AreaLight, Mesh, Scene
from pose2sim_biokin.vision.camera import Camera

NEAR_M = 0.05
# Edges of triangles: at least, at most, and as a share of the distance from the nearest camera; of those with
# the lamps' light at their corners, and of the larger ones with the light from everywhere.
_FINE, _SMOOTH = (0.09, 2.0, 0.03), (0.25, 4.0, 0.1)
_PATCH_M, _PATCH_FINENESS = 0.9, 0.25  # edges of the patches that exchange light
_BAND_ROWS = 64  # picture rows drawn at once
_BRIGHTEST = 2.0  # pictures are clipped at 1; averaging brighter samples would make edges jagged


@dataclass(frozen=True)
class Plate:
    """The things as one camera sees them; sizes in pixels, s samples a side of a pixel.

    Attributes:
        colour: (H, W, 3) linear radiance times exposure.
        depth: (s H, s W) m along the optical axis, inf where the sky is.
        darkening: what people do to it.
    """

    colour: Tensor
    depth: Tensor
    darkening: Darkening


class Things:
    """All meshes that stand still, with the light on them."""

    def __init__(self, scene: Scene, meshes: list[Mesh], focus: np.ndarray, device: torch.device | str):
        """``focus`` (3,) is where the people are."""
        self.scene, self.device = scene, device
        self.lamps = Lamps(scene.lights, scene.sun, device)
        self.surfaces = Surfaces.of([mesh.material for mesh in meshes], device)
        points, faces, uv, normals, mesh_of = _join(meshes)
        self.shadows = StaticShadows(self.lamps, points, faces, self._tensor(focus))
        self._exchange(points, faces, uv, normals, mesh_of)
        eyes = np.array([camera.center for camera in scene.cameras])

        def finer(points, faces, attributes, lengths):
            low, high, share = lengths
            return subdivide(
                *(points, faces, attributes),
                lambda middle: np.clip(
                    share * np.linalg.norm(middle[:, None] - eyes, axis=-1).min(1), low, high
                ),
            )

        points, faces, attributes, first, _ = finer(points, faces, np.concatenate([uv, normals], 1), _SMOOTH)
        ambient = self.ambient.gather(self._tensor(points), _unit(self._tensor(attributes[:, 2:])))
        attributes = np.concatenate([attributes, ambient.cpu().numpy()], 1)
        self._points, self._faces, attributes, source, _ = finer(points, faces, attributes, _FINE)
        self._mesh_of = mesh_of[first[source]]
        self._uv, self._ambient = attributes[:, :2], self._tensor(attributes[:, 5:])
        self._place, self._normal = self._tensor(self._points), _unit(self._tensor(attributes[:, 2:5]))
        material = np.zeros(len(self._points), np.int64)
        material[self._faces.reshape(-1)] = np.repeat(self._mesh_of, 3)
        self._material = torch.as_tensor(material, device=device)
        self._seen = self.shadows.lamps_seen(self._place, self._normal)

    def _tensor(self, values: np.ndarray) -> Tensor:
        return torch.as_tensor(np.asarray(values, np.float32), device=self.device)

    def _exchange(self, points, faces, uv, normals, mesh_of) -> None:
        """Patches, what the lamps and the sun give them, and what they pass on."""
        attributes = np.concatenate([uv, normals], 1)
        middle = points.mean(0) if len(points) else np.zeros(3)

        def limit(places: np.ndarray) -> np.ndarray:
            return np.maximum(_PATCH_M, _PATCH_FINENESS * np.linalg.norm(places - middle, axis=1))

        points, faces, _, source, _ = subdivide(points, faces, attributes, limit)
        flat = face_normals(points, faces)
        twice = np.linalg.norm(flat, axis=1)
        kept = twice > 1e-4
        centres = self._tensor(points[faces[kept]].mean(1))
        unit = self._tensor(flat[kept] / twice[kept, None])
        material = torch.as_tensor(mesh_of[source[kept]], device=self.device)
        albedo = self.surfaces.textures.mean[material]
        self.ambient = Ambient(self.scene.sky, centres, unit, self._tensor(0.5 * twice[kept]), albedo)
        seen, sun_seen = self.shadows.lamps_seen(centres, unit), self.shadows.sun_seen(centres, unit)
        received, _ = self.lamps.receive(centres, unit, seen, sun_seen)
        self.ambient.solve(received @ self.lamps.strength)

    def plate(self, index: int, s: int) -> Plate:
        """The picture of camera ``index``, s x s samples a pixel."""
        camera = self.scene.cameras[index]
        lamps, areas = self.lamps, len(self.lamps.centre)
        sun = lamps.sun is not None
        eye = self._tensor(camera.center)
        bright = torch.ones(len(self._place), device=self.device) if sun else None
        received, diffuse, gloss = self.surfaces.light(
            lamps, self._place, self._normal, self._material, eye, self._seen, bright, self._ambient
        )
        table = torch.cat([self._tensor(self._uv), diffuse, gloss, self._place, self._normal], 1)
        table = torch.cat([table, self._ambient, received], 1)
        table, lamp_table = table.cpu().numpy(), []
        faces, mesh_of = self._faces, self._mesh_of
        for light in self.scene.lights:  # lamps are seen from the side they shine to
            lamp_table.append(_lamp_mesh(light, table.shape[1], len(table) + 4 * len(lamp_table)))
        points = np.concatenate([self._points, *(p for p, _, _ in lamp_table)])
        table = np.concatenate([table, *(t for _, t, _ in lamp_table)])
        faces = np.concatenate([faces, *(f for _, _, f in lamp_table)])
        mesh_of = np.concatenate([mesh_of, np.zeros(2 * len(lamp_table), np.int64)])

        local, faces, table, source = clip_near(camera.world_to_camera(points), faces, table, NEAR_M)
        pixels = (project_through_lens(camera, np.maximum(local, [-np.inf, -np.inf, NEAR_M])) + 0.5) * s - 0.5
        screen = self._tensor(np.concatenate([pixels, 1 / np.maximum(local[:, 2:], NEAR_M)], 1))
        # behind the near plane nothing is drawn: no face uses these vertices any more
        faces = torch.as_tensor(faces, device=self.device)
        mesh = torch.as_tensor(mesh_of[source], device=self.device)
        table = self._tensor(table)
        lod = self.surfaces.textures.level_of_detail(table[faces][..., :2], screen[faces][..., :2], mesh)
        bands = [
            self._band(index, s, row, screen, faces, mesh, table, lod)
            for row in range(0, camera.height, _BAND_ROWS)
        ]
        colour, depth, middle = (torch.cat(part) for part in zip(*bands, strict=True))
        values = middle.split([3, 3, 3, areas + sun], -1)
        return Plate(colour, depth, Darkening(lamps, *values))

    def _band(self, index, s, row, screen, faces, mesh, table, lod):
        """Rows from ``row``: colour (h, W, 3), depth (s h, s W), and the middle sample's values (h, W, C)."""
        camera, exposure = self.scene.cameras[index], self.scene.exposure[index]
        rows, width = min(_BAND_ROWS, camera.height - row), camera.width
        shifted = screen - screen.new_tensor([0, row * s, 0])
        y = shifted[:, 1][faces]
        near = ((y.amax(1) >= -1) & (y.amin(1) <= rows * s)).nonzero().squeeze(-1)
        near_faces = faces[near]
        drawn = draw(shifted[None], near_faces, rows * s, width * s)
        samples = drawn.mask.view(-1).nonzero().squeeze(-1)
        face = near[drawn.face.view(-1)[samples]]
        sun = self.lamps.sun is not None
        values = at_samples(drawn, samples, near_faces, table[:, : 14 if sun else 8])
        albedo = self.surfaces.textures.sample(mesh[face], values[:, :2], lod[face], smooth=True)
        light = values[:, 2:5]
        if sun:
            point, normal = values[:, 8:11], _unit(values[:, 11:14])
            direct = self.shadows.sun_seen(point, normal) * (normal @ self.lamps.sun).clamp_min(0)
            share = self.surfaces.diffuse[mesh[face]] / math.pi
            light = light + (direct * share)[:, None] * self.lamps.strength[-1]
        shown = ((albedo * light + values[:, 5:8]) * exposure).clamp_max(_BRIGHTEST)
        colour = self._sky(camera, row, rows, s) * exposure
        colour.view(-1, 3)[samples] = shown
        colour = sum(colour[dy::s, dx::s] for dy in range(s) for dx in range(s)) / (s * s)

        fine = torch.arange(rows * s * width * s, device=self.device).view(rows * s, width * s)
        pixel = fine[s // 2 :: s, s // 2 :: s].reshape(-1)
        hit = drawn.mask.view(-1)[pixel].nonzero().squeeze(-1)
        values = at_samples(drawn, pixel[hit], near_faces, table[:, 8:])
        if sun:
            values[:, -1] *= self.shadows.sun_seen(values[:, :3], _unit(values[:, 3:6]))
        middle = values.new_zeros(len(pixel), values.shape[1])
        middle[:, :3] = torch.inf
        middle[hit] = values
        return colour, drawn.depth[0], middle.view(rows, width, -1)

    def _sky(self, camera: Camera, row: int, rows: int, s: int) -> Tensor:
        """(s rows, s W, 3) radiance of the sky, from one ray a pixel."""
        y, x = np.mgrid[row : row + rows, : camera.width].astype(np.float64)
        if rows * s == 0:
            return torch.zeros(0, camera.width * s, 3, device=self.device)
        pinhole = (x - camera.K[0, 2]) / camera.K[0, 0], (y - camera.K[1, 2]) / camera.K[1, 1]
        rays = np.stack([*pinhole, np.ones_like(x)], -1) @ camera.R
        z = rays[..., 2] / np.linalg.norm(rays, axis=-1)
        sky = self._tensor(sky_radiance(self.scene.sky, z))
        return sky.repeat_interleave(s, 0).repeat_interleave(s, 1)


def _unit(vectors: Tensor) -> Tensor:
    return F.normalize(vectors, dim=-1)


def _join(meshes: list[Mesh]):
    """All meshes in one: points (V, 3), faces (F, 3), uv (V, 2), normals (V, 3), mesh of each face (F,)."""
    parts, total = [(np.zeros((0, 3)), np.zeros((0, 3), np.int64), np.zeros((0, 2)), np.zeros((0, 3)), 0)], 0
    for mesh in meshes:
        points, faces, uv, normals = sharp_normals(
            np.asarray(mesh.at(0), np.float64), np.asarray(mesh.faces, np.int64), np.asarray(mesh.uv)
        )
        if mesh.two_sided:
            faces = np.concatenate([faces, faces[:, ::-1] + len(points)])
            points, uv = np.tile(points, (2, 1)), np.tile(uv, (2, 1))
            normals = np.concatenate([normals, -normals])
        parts.append((points, faces + total, uv, normals, 0))
        total += len(points)
    points, faces, uv, normals = (np.concatenate([part[k] for part in parts]) for k in range(4))
    counts = [len(part[1]) for part in parts[1:]]
    return points, faces, uv, normals, np.repeat(np.arange(len(meshes)), counts)


def _lamp_mesh(light: AreaLight, columns: int, first: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A lamp's rectangle: points (4, 3), rows of the table (4, columns), faces (2, 3) from ``first`` on.

    Its own light is in the table as a reflection, which is added whatever the albedo.
    """
    c, u, v = (np.asarray(x, np.float64) for x in (light.centre, light.u, light.v))
    points = np.array([c - u - v, c + u - v, c + u + v, c - u + v])
    table = np.zeros((4, columns))
    table[:, 5:8] = light.radiance
    table[:, 8:11] = points
    table[:, 11:14] = np.cross(u, v) / np.linalg.norm(np.cross(u, v))
    return points, table, np.array([[0, 1, 2], [0, 2, 3]]) + first
