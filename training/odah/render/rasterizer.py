"""Rasteriser in plain PyTorch: triangle meshes into small pinhole images, batched, CPU or CUDA.

One call does everything::

    from odah.render.rasterizer import Lights, checks, interpolate, rasterize, render, shade, stripes

    image = render(vertices, faces, K, R, t, height=128, width=128, albedo=colours)
    image.rgb    # (B, H, W, 3) float32, sRGB 0..1, zero outside the mesh
    image.mask   # (B, H, W) float32 coverage 0..1 (0 or 1 when supersample=1)
    image.depth  # (B, H, W) float32 metres along the optical axis, inf where nothing is hit

``vertices`` (B, V, 3) are in the world of ``R`` (B, 3, 3) and ``t`` (B, 3), world to camera: x = K (R X + t).
Without R and t they are camera-space already. One mesh seen by two cameras is two items of the batch.
``albedo`` is a tensor of per-vertex colours (1 or B, V, 3), linear 0..1, or a function of
``(fragments, faces) -> (B, H, W, 3)`` for colours that are worked out per pixel::

    def albedo(fragments, faces):
        rest = interpolate(fragments, faces, rest_vertices)         # (B, H, W, 3) rest-pose coordinates
        base = interpolate(fragments, faces, colours)               # (B, H, W, 3)
        band = stripes(rest[..., 1], period=0.08)                   # (B, H, W) 0..1, stays on the cloth
        return torch.lerp(base, second_colour, band[..., None])

The steps are public too: ``rasterize`` (camera-space vertices -> Fragments), ``interpolate``, ``shade``.

Conventions: OpenCV camera axes (x right, y down, z forward), metres; pixel centres at integer coordinates;
faces wind counter-clockwise seen from outside (``cull_backfaces=False`` for open or mixed meshes).
Faces that reach in front of the near plane are dropped, not clipped. Nothing is differentiable.
The result does not depend on the order of execution: of two faces at one depth, the lower index wins.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from odah.render.zbuffer import Fragments, draw


class Lights(NamedTuple):
    """Light of a batch of images; colours are linear RGB, directions unit vectors in camera space.

    direction (B, L, 3) points towards the light; colour (B, L, 3) its strength;
    up (B, 3) is the world's vertical; sky and ground (B, 3) are the hemisphere's ambient colours from above
    and below; specular (B,) is the strength and shininess (B,) the exponent of the highlight (Blinn-Phong).
    """

    direction: Tensor
    colour: Tensor
    up: Tensor
    sky: Tensor
    ground: Tensor
    specular: Tensor
    shininess: Tensor


class Image(NamedTuple):
    """rgb (B, H, W, 3) sRGB 0..1 and zero outside, mask (B, H, W) 0..1, depth (B, H, W) metres or inf."""

    rgb: Tensor
    mask: Tensor
    depth: Tensor


@torch.no_grad()
def rasterize(
    vertices_cam: Tensor,
    faces: Tensor,
    K: Tensor,
    height: int,
    width: int,
    *,
    cull_backfaces: bool = True,
    near: float = 0.05,
    chunk: int = 4_000_000,
) -> Fragments:
    """Nearest face of every pixel.

    vertices_cam (B, V, 3) camera space, metres; faces (F, 3) integer; K (B, 3, 3).
    ``chunk`` bounds the pixel candidates handled at once (memory about 60 bytes each).
    """
    vertices_cam = vertices_cam.float()
    z = vertices_cam[..., 2]
    safe_z = z.clamp_min(1e-6)
    pixels = torch.einsum("bij,bvj->bvi", K[:, :2].to(vertices_cam), vertices_cam) / safe_z[..., None]
    screen = torch.cat([pixels, 1 / safe_z[..., None]], -1)  # (B, V, 3): x, y, 1/z
    return draw(
        screen, faces.long(), height, width, cull_backfaces=cull_backfaces, behind=z < near, chunk=chunk
    )


def interpolate(fragments: Fragments, faces: Tensor, attributes: Tensor) -> Tensor:
    """Per-vertex attributes (1 or B, V, C) at every pixel -> (B, H, W, C) float32, zero off the mesh."""
    batch, height, width = fragments.face.shape
    hit = fragments.mask.view(-1).nonzero().squeeze(-1)
    corner = faces.long()[fragments.face.view(-1)[hit]]  # (n, 3)
    if attributes.shape[0] > 1:
        corner = (
            corner + (torch.div(hit, height * width, rounding_mode="floor") * attributes.shape[1])[:, None]
        )
    table = attributes.reshape(-1, attributes.shape[-1]).float()
    weights = fragments.barycentric.view(-1, 3)[hit]
    values = sum(table[corner[:, k]] * weights[:, k : k + 1] for k in range(3))
    out = values.new_zeros(batch * height * width, attributes.shape[-1])
    out[hit] = values
    return out.view(batch, height, width, -1)


def vertex_normals(vertices: Tensor, faces: Tensor) -> Tensor:
    """Area-weighted outward unit normals (B, V, 3) of vertices (B, V, 3)."""
    faces = faces.long()
    a, b, c = (vertices[:, faces[:, k]] for k in range(3))
    normal = torch.linalg.cross(b - a, c - a, dim=-1)
    out = torch.zeros_like(vertices)
    for k in range(3):
        out.index_add_(1, faces[:, k], normal)
    return F.normalize(out, dim=-1)


def default_lights(batch: int, device: torch.device | str = "cpu", up: Tensor | None = None) -> Lights:
    """A key light from the upper left, a weak fill, a grey hemisphere; ``up`` (B, 3) as in ``Lights``."""
    direction = F.normalize(torch.tensor([[-0.5, -0.8, -0.6], [0.8, -0.2, -0.5]], device=device), dim=-1)
    colour = torch.tensor([[0.75, 0.75, 0.72], [0.2, 0.2, 0.22]], device=device)
    if up is None:
        up = torch.tensor([0.0, -1.0, 0.0], device=device).expand(batch, 3)
    return Lights(
        direction.expand(batch, 2, 3),
        colour.expand(batch, 2, 3),
        up,
        torch.full((batch, 3), 0.35, device=device),
        torch.full((batch, 3), 0.18, device=device),
        torch.full((batch,), 0.05, device=device),
        torch.full((batch,), 20.0, device=device),
    )


def shade(
    fragments: Fragments,
    faces: Tensor,
    vertices_cam: Tensor,
    K: Tensor,
    albedo: Tensor,
    lights: Lights,
    *,
    smooth: bool = False,
    srgb: bool = True,
) -> Tensor:
    """Colour of every pixel (B, H, W, 3), zero off the mesh; sRGB 0..1, or linear with ``srgb=False``.

    ``vertices_cam``, ``faces`` and ``K`` as given to ``rasterize``; ``albedo`` (B, H, W, 3) linear 0..1.
    Lambert + hemisphere ambient + Blinn-Phong highlight on flat normals (a face is a pixel or two at the
    usual size) or, with ``smooth``, on normals averaged at the vertices. No cast shadows. Surfaces seen from
    behind are lit on the side that is seen.
    """
    batch, height, width = fragments.face.shape
    hit = fragments.mask.view(-1).nonzero().squeeze(-1)
    item = torch.div(hit, height * width, rounding_mode="floor")
    if smooth:
        table = vertex_normals(vertices_cam, faces)
        normal = F.normalize(interpolate(fragments, faces, table).view(-1, 3)[hit], dim=-1)
    else:
        corner = faces.long()[fragments.face.view(-1)[hit]] + (item * vertices_cam.shape[1])[:, None]
        a, b, c = (vertices_cam.reshape(-1, 3)[corner[:, k]] for k in range(3))
        normal = F.normalize(torch.linalg.cross(b - a, c - a, dim=-1), dim=-1)
    y = torch.div(hit, width, rounding_mode="floor") - item * height
    pixel = torch.stack([hit % width, y, torch.ones_like(y)], -1).float()
    ray = (torch.linalg.inv(K.float())[item] @ pixel[..., None])[..., 0]
    eye = -F.normalize(ray, dim=-1)  # from the surface towards the camera
    normal = torch.where((normal * eye).sum(-1, keepdim=True) < 0, -normal, normal)
    upness = 0.5 + 0.5 * (normal * lights.up[item]).sum(-1, keepdim=True)
    light = torch.lerp(lights.ground[item], lights.sky[item], upness)
    shine = torch.zeros_like(light)
    for k in range(lights.direction.shape[1]):
        direction, strength = lights.direction[:, k][item], lights.colour[:, k][item]
        light = light + strength * (normal * direction).sum(-1, keepdim=True).clamp_min(0)
        half = F.normalize(direction + eye, dim=-1)
        cosine = (normal * half).sum(-1, keepdim=True).clamp_min(0)
        shine = shine + strength * cosine.pow(lights.shininess[item, None])
    colour = albedo.reshape(-1, 3)[hit] * light + lights.specular[item, None] * shine
    out = torch.zeros(batch * height * width, 3, device=hit.device)
    out[hit] = linear_to_srgb(colour) if srgb else colour
    return out.view(batch, height, width, 3)


def linear_to_srgb(linear: Tensor) -> Tensor:
    """IEC 61966-2-1 transfer function, clamped to 0..1."""
    linear = linear.clamp(0, 1)
    return torch.where(
        linear <= 0.0031308, 12.92 * linear, 1.055 * linear.clamp_min(1e-8).pow(1 / 2.4) - 0.055
    )


def srgb_to_linear(srgb: Tensor) -> Tensor:
    """Inverse of ``linear_to_srgb``."""
    srgb = srgb.clamp(0, 1)
    return torch.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055).pow(2.4))


def stripes(coordinate: Tensor, period: Tensor | float, duty: float = 0.5) -> Tensor:
    """1 in the stripes, 0 between, of a coordinate in metres (any shape); ``duty`` is the stripes' share."""
    return (torch.remainder(coordinate / period, 1.0) < duty).to(coordinate.dtype)


def checks(first: Tensor, second: Tensor, period: Tensor | float) -> Tensor:
    """1 and 0 like a chess board over two coordinates in metres; a field is half a period wide."""
    return (stripes(first, period) != stripes(second, period)).to(first.dtype)


def scale_intrinsics(K: Tensor, factor: int) -> Tensor:
    """K (B, 3, 3) of an image ``factor`` times finer; pixel centres at integers: x' = f (x + 1/2) - 1/2."""
    shift = (factor - 1) / 2
    change = torch.tensor([[factor, 0, shift], [0, factor, shift], [0, 0, 1]], dtype=K.dtype, device=K.device)
    return change @ K


@torch.no_grad()
def render(
    vertices: Tensor,
    faces: Tensor,
    K: Tensor,
    R: Tensor | None = None,
    t: Tensor | None = None,
    *,
    height: int,
    width: int,
    albedo: Tensor | Callable[[Fragments, Tensor], Tensor],
    lights: Lights | None = None,
    smooth: bool = False,
    supersample: int = 1,
    cull_backfaces: bool = True,
) -> Image:
    """Render a batch; arguments are described at the top of this module.

    ``smooth`` takes normals averaged at the vertices instead of flat ones (slower, for large images);
    ``supersample`` 2 renders at twice the size and averages: soft edges, four times the pixels.
    The depth of a supersampled image is the nearest of its samples.
    """
    if R is not None and t is not None:
        vertices = vertices @ R.transpose(-1, -2) + t[:, None]
    vertices = vertices.float()
    if supersample > 1:
        K = scale_intrinsics(K, supersample)
    fine_height, fine_width = height * supersample, width * supersample
    fragments = rasterize(vertices, faces, K, fine_height, fine_width, cull_backfaces=cull_backfaces)
    colour = interpolate(fragments, faces, albedo) if isinstance(albedo, Tensor) else albedo(fragments, faces)
    if lights is None:
        up = None if R is None else R[:, :, 2].float()  # the world is Z up
        lights = default_lights(vertices.shape[0], vertices.device, up)
    rgb = shade(fragments, faces, vertices, K, colour, lights, smooth=smooth, srgb=supersample == 1)
    mask, depth = fragments.mask.float(), fragments.depth
    if supersample > 1:
        mask = F.avg_pool2d(mask[:, None], supersample)[:, 0]
        rgb = F.avg_pool2d(rgb.permute(0, 3, 1, 2), supersample).permute(0, 2, 3, 1)
        # the colour of the mesh alone, also at its edge: composite with ``mask``
        rgb = linear_to_srgb(rgb / mask.clamp_min(1e-6)[..., None])
        depth = -F.max_pool2d(-depth[:, None], supersample)[:, 0]
    return Image(rgb, mask, depth)
