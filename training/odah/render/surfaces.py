"""Meshes of a scene joined into one, with what a point of their surface needs to be shaded. PyTorch."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from odah.render.light import Lamps
from odah.render.textures import TextureTable
from odah.render.zbuffer import Fragments
from odah.scenes.scene import Material


@dataclass(frozen=True)
class Surfaces:
    """Materials of n meshes, a row each.

    Attributes:
        textures: their pyramids.
        reflectance: (n, 3) at normal incidence; diffuse: (n,) share of light that enters and is scattered.
        rough: (n,) roughness.
    """

    textures: TextureTable
    reflectance: Tensor
    diffuse: Tensor
    rough: Tensor

    @classmethod
    def of(cls, materials: list[Material], device: torch.device | str) -> Surfaces:
        """Rows in the order of ``materials``."""
        grey = Material(np.full((1, 1, 3), 128, np.uint8))
        materials = materials or [grey]
        textures = TextureTable([m.texture for m in materials], device)

        def column(name: str) -> Tensor:
            return torch.tensor([float(getattr(m, name)) for m in materials], device=device)

        metallic = column("metallic")
        dielectric = 0.08 * column("specular")  # 0.5 is 4 %, an index of refraction of 1.5
        reflectance = torch.lerp(dielectric[:, None].expand(-1, 3), textures.mean, metallic[:, None])
        diffuse = (1 - metallic) * (1 - dielectric)
        return cls(textures, reflectance, diffuse, column("roughness"))

    def light(
        self,
        lamps: Lamps,
        points: Tensor,
        normals: Tensor,
        material: Tensor,
        eye: Tensor,
        seen: Tensor,
        sun_seen: Tensor | None,
        ambient: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Light of points (N, 3) of the surface.

        Args:
            material: (N,) row.  eye: (3,) place of the camera.
            seen, sun_seen: as in `Lamps.receive`.  ambient: (N, 3) irradiance.

        Returns:
            (N, L) irradiance per unit of each source's strength; (N, 3) factors on the albedo of the colour
            that area lights and surroundings give; (N, 3) what is reflected whatever the albedo. The sun's
            scattered light is left out of the second, for those who know its shadow better.
        """
        received, term = lamps.receive(points, normals, seen, sun_seen)
        areas = len(lamps.centre)
        total = ambient + received[:, :areas] @ lamps.strength[:areas]
        view = eye - points
        view = view / view.norm(dim=-1, keepdim=True).clamp_min(1e-6)
        sun_term = received[:, -1] if lamps.sun is not None else None
        gloss = lamps.highlights(points, normals, view, self.rough[material], term, sun_term)
        gloss = self.reflectance[material] * (gloss + ambient / math.pi)
        return received, total * (self.diffuse[material] / math.pi)[:, None], gloss


def at_samples(fragments: Fragments, samples: Tensor, faces: Tensor, table: Tensor) -> Tensor:
    """Values (n, C) of per-vertex ``table`` (V, C) at flat indices ``samples`` (n,) of the fragments."""
    corner = faces[fragments.face.view(-1)[samples]]
    weights = fragments.barycentric.view(-1, 3)[samples]
    return sum(table[corner[:, k]] * weights[:, k : k + 1] for k in range(3))
