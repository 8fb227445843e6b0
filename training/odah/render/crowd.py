"""Small pictures of one dressed person, many at once: what training crops are rendered with.

The person's meshes (`odah.scenes.people.dress`) are joined; texture, light and silhouette as in a scene, but
lit by a few lamps (`odah.render.rasterizer.Lights`) without cast shadows, and seen by pinhole cameras.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from odah.render.rasterizer import Image, Lights, interpolate, render
from odah.render.textures import TextureTable
from odah.render.zbuffer import Fragments
from odah.scenes.scene import Mesh


class DressedPerson:
    """The meshes of a person as one.

    Attributes:
        vertices: (T, V, 3) world, m; faces: (F, 3) int64; uv: (V, 2); mesh: (F,) index of the mesh.
    """

    def __init__(self, meshes: Sequence[Mesh], device: torch.device | str = "cpu"):
        def joined(parts: list[np.ndarray], axis: int = 0) -> Tensor:
            return torch.as_tensor(np.ascontiguousarray(np.concatenate(parts, axis)), device=device)

        first = np.cumsum([0, *(mesh.vertices.shape[1] for mesh in meshes)])
        self.vertices = joined([mesh.vertices for mesh in meshes], 1)
        self.faces = joined([mesh.faces.astype(np.int64) + f for mesh, f in zip(meshes, first, strict=False)])
        self.uv = joined([mesh.uv.astype(np.float32) for mesh in meshes])
        self.mesh = joined([np.full(len(mesh.faces), k) for k, mesh in enumerate(meshes)])
        self._textures = TextureTable([mesh.material.texture for mesh in meshes], device)

    def render(
        self, frames: Sequence[int], K: Tensor, R: Tensor, t: Tensor, size: int, lights: Lights
    ) -> Image:
        """Pictures (B, size, size) of B frames by as many cameras K, R (B, 3, 3), t (B, 3)."""
        vertices = self.vertices[list(frames)]

        def albedo(fragments: Fragments, faces: Tensor) -> Tensor:
            return self._albedo(fragments, vertices, K, R, t)

        # open surfaces (hems, skirts) are seen from both sides
        return render(
            *(vertices, self.faces, K, R, t),
            height=size,
            width=size,
            albedo=albedo,
            lights=lights,
            cull_backfaces=False,
        )

    def _albedo(self, fragments: Fragments, vertices: Tensor, K: Tensor, R: Tensor, t: Tensor) -> Tensor:
        """Linear colours (B, H, W, 3) of the textures, read at the size of the pixels."""
        batch, height, width = fragments.face.shape
        hit = fragments.mask.view(-1).nonzero().squeeze(-1)
        uv = interpolate(fragments, self.faces, self.uv[None]).view(-1, 2)[hit]
        face = fragments.face.view(-1)[hit]
        seen, index = face.unique(return_inverse=True)
        # the first picture's size of a texel serves all of the batch: its crops are alike in scale
        corners = vertices[0][self.faces[seen]] @ R[0].T + t[0]
        pixels = corners @ K[0].T
        pixels = pixels[..., :2] / pixels[..., 2:].clamp_min(1e-3)
        texels = self._textures.level_of_detail(self.uv[self.faces[seen]], pixels, self.mesh[seen])
        colour = self._textures.sample(self.mesh[face], uv, texels[index])
        out = colour.new_zeros(batch * height * width, 3)
        out[hit] = colour
        return out.view(batch, height, width, 3)
