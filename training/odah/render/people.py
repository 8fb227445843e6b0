"""The part of a scene that moves: people, what they wear and carry. PyTorch."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from odah.render.ambient import Ambient, Blobs, harmonics
from odah.render.geometry import inner_faces, subdivide
from odah.render.shadows import CasterShadows
from odah.render.surfaces import Surfaces
from odah.render.things import Things
from odah.scenes.scene import SUBJECT, Mesh

_LONGEST_EDGE_M = 0.06  # light is worked out at vertices, and shadows are made of them
_REACH_M = 0.8  # beyond its outermost ball a person does not darken the surroundings
_BIAS_M, _SUN_BIAS_M = 0.05, 0.02  # a body does not shade itself nearer than this
_PROBE_HEIGHTS_M = (0.2, 1.0, 1.8)


class People:
    """All meshes that move, joined.

    Attributes:
        faces: (F, 3) int64; faces whose inside may be seen are there twice, turned over the second time.
        uv: (V, 2).  mesh: (F,) row of the surfaces.  subject: (F,) bool.  material: (V,) row of the surfaces.
        groups: number of persons and moving things, each throwing shadows of its own.
    """

    def __init__(self, meshes: list[Mesh], device: torch.device | str):
        self.device = device
        self.surfaces = Surfaces.of([mesh.material for mesh in meshes], device)
        self._meshes = meshes
        self._halvings, self._sides = [], []
        faces, uv, mesh_of, material, person = [], [], [], [], []
        total = 0
        for row, mesh in enumerate(meshes):
            first = mesh.at(0)
            points, fine, uv_fine, source, halvings = subdivide(
                first, mesh.faces, mesh.uv, lambda middle: np.full(len(middle), _LONGEST_EDGE_M)
            )
            self._halvings.append([torch.as_tensor(h, device=device) for h in halvings])
            inner = np.arange(len(fine)) if mesh.two_sided else inner_faces(points, fine)
            used, renamed = np.unique(fine[inner], return_inverse=True)
            turned = renamed.reshape(-1, 3)[:, ::-1] + len(points)
            fine = np.concatenate([fine, turned])
            self._sides.append(torch.as_tensor(used, device=device))
            count = len(points) + len(used)
            faces.append(fine + total)
            uv.append(np.concatenate([uv_fine, uv_fine[used]]))
            mesh_of.append(np.full(len(fine), row))
            material.append(np.full(count, row))
            person.append(np.full(count, mesh.person if mesh.person >= 0 else 1000 + row))
            total += count

        def joined(parts: list[np.ndarray], shape: tuple[int, ...], kind) -> Tensor:
            whole = np.concatenate(parts) if parts else np.zeros(shape)
            return torch.as_tensor(np.ascontiguousarray(whole, dtype=kind), device=device)

        self.faces = joined(faces, (0, 3), np.int64)
        self.uv = joined(uv, (0, 2), np.float32)
        self.mesh = joined(mesh_of, (0,), np.int64)
        self.material = joined(material, (0,), np.int64)
        self._person = joined(person, (0,), np.int64)
        self.subject = self._person[self.faces[:, 0]] == SUBJECT
        persons = self._person.unique().tolist()
        self._members = [(self._person == p).nonzero().squeeze(-1) for p in persons]
        self._group_faces = []
        for members in self._members:
            number = torch.full((total,), -1, dtype=torch.int64, device=device)
            number[members] = torch.arange(len(members), device=device)
            own = self.faces[number[self.faces[:, 0]] >= 0]
            self._group_faces.append(number[own])
        start = self.at(0)[0] if meshes else torch.zeros(0, 3)
        self._spacings = [_edge(start[m], f) for m, f in zip(self._members, self._group_faces, strict=True)]
        self._blobs = [Blobs(start[members]) for members in self._members]

    def at(self, frame: int) -> tuple[Tensor, Tensor]:
        """World positions and unit normals (V, 3) in a frame."""
        points, normals = [], []
        for mesh, halvings, sides in zip(self._meshes, self._halvings, self._sides, strict=True):
            place = torch.as_tensor(np.asarray(mesh.at(frame), np.float32), device=self.device)
            faces = torch.as_tensor(np.asarray(mesh.faces, np.int64), device=self.device)
            a, b, c = (place[faces[:, k]] for k in range(3))
            flat = torch.linalg.cross(b - a, c - a, dim=-1)
            normal = torch.zeros_like(place)
            for k in range(3):
                normal.index_add_(0, faces[:, k], flat)
            both = torch.cat([place, F.normalize(normal, dim=-1)], 1)
            for ends in halvings:
                both = torch.cat([both, 0.5 * (both[ends[:, 0]] + both[ends[:, 1]])])
            place, normal = both[:, :3], F.normalize(both[:, 3:], dim=-1)
            points += [place, place[sides]]
            normals += [normal, -normal[sides]]
        return torch.cat(points), torch.cat(normals)

    def casters(self, things: Things, points: Tensor) -> list[CasterShadows]:
        """The shadows of each person or moving thing at points (V, 3)."""
        return [
            CasterShadows(things.lamps, points[members], faces, spacing)
            for members, faces, spacing in zip(self._members, self._group_faces, self._spacings, strict=True)
        ]

    def hide(self, points: Tensor, place: Tensor, normal: Tensor) -> Tensor:
        """(N,) share of ambient light that people at points (V, 3) leave to ``place``, ``normal`` (N, 3)."""
        left = place.new_ones(len(place))
        for members, blobs in zip(self._members, self._blobs, strict=True):
            centres = blobs.centres(points[members])
            middle = centres.mean(0)
            reach = float((centres - middle).norm(dim=-1).max()) + _REACH_M
            near = ((place - middle).norm(dim=-1) < reach).nonzero().squeeze(-1)
            left[near] *= blobs.hide(centres, place[near], normal[near])
        return left

    def light(
        self,
        things: Things,
        casters: list[CasterShadows],
        points: Tensor,
        normals: Tensor,
        chosen: Tensor,
        eye: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Factors on the albedo, and what is reflected, (N, 3) each, of the ``chosen`` (N,) vertices."""
        place, normal = points[chosen], normals[chosen]
        lamps = things.lamps
        seen = place.new_empty(len(place), len(lamps.position))
        ambient = torch.empty_like(place)
        sun_seen = things.shadows.sun_seen(place, normal)
        for members, blobs in zip(self._members, self._blobs, strict=True):
            own = (self._person[chosen] == self._person[members[0]]).nonzero().squeeze(-1)
            if not len(own):
                continue
            centres = blobs.centres(points[members])
            # furniture shades a limb as a whole
            shaded = things.shadows.lamps_seen(centres, torch.zeros_like(centres))
            index = torch.searchsorted(members, chosen[own])
            seen[own] = shaded[blobs.member[index]]
            ambient[own] = _surroundings(things.ambient, centres, place[own], normal[own])
        ambient *= self.hide(points, place, normal)[:, None]
        for caster in casters:
            near = caster.may_shade(place, 0.1).nonzero().squeeze(-1)
            lifted = place[near] + caster.lift * normal[near]
            seen[near] *= caster.lamps_seen(lifted, _BIAS_M, smooth=False)
            if sun_seen is not None:
                sun_seen[near] *= caster.sun_seen(place[near] + 0.01 * normal[near], _SUN_BIAS_M)
        material = self.material[chosen]
        received, diffuse, gloss = self.surfaces.light(
            lamps, place, normal, material, eye, seen, sun_seen, ambient
        )
        if sun_seen is not None:
            share = self.surfaces.diffuse[material] / torch.pi
            diffuse = diffuse + (received[:, -1] * share)[:, None] * lamps.strength[-1]
        return diffuse, gloss


def _edge(points: Tensor, faces: Tensor) -> float:
    """Length of all but the longest twentieth of the edges."""
    lengths = (points[faces] - points[faces.roll(1, 1)]).norm(dim=-1).reshape(-1)
    return float(lengths[:: max(1, len(lengths) // 20000)].quantile(0.95))


def _surroundings(ambient: Ambient, centres: Tensor, place: Tensor, normal: Tensor) -> Tensor:
    """Irradiance (N, 3) from walls and sky, read at three heights where a person is."""
    middle = centres.mean(0)
    heights = middle.new_tensor(_PROBE_HEIGHTS_M)
    probes = ambient.probe(torch.cat([middle[:2].expand(len(heights), 2), heights[:, None]], 1))
    basis = harmonics(normal)
    level = (place[:, 2] - heights[0]) / (heights[1] - heights[0])
    level = level.clamp(0, len(heights) - 1.001)
    low = level.long()
    light = torch.stack([basis @ probe for probe in probes], 1)  # (N, heights, 3)
    rows = torch.arange(len(place), device=place.device)
    return torch.lerp(light[rows, low], light[rows, low + 1], (level - low)[:, None]).clamp_min(0)
