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

_EMPTY = torch.iinfo(torch.int64).max
_EDGE_TOLERANCE = 1e-5  # of the barycentric coordinates: closes hairline cracks between neighbouring faces


class Fragments(NamedTuple):
    """What every pixel sees.

    face (B, H, W) int64: index of the nearest face, -1 where there is none.
    barycentric (B, H, W, 3): perspective-correct weights of the face's three vertices, zero where none.
    depth (B, H, W): metres along the optical axis, inf where none.
    """

    face: Tensor
    barycentric: Tensor
    depth: Tensor

    @property
    def mask(self) -> Tensor:
        """(B, H, W) bool: pixels that hit the mesh."""
        return self.face >= 0


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
    batch, device = vertices_cam.shape[0], vertices_cam.device
    vertices_cam = vertices_cam.float()
    faces = faces.long()
    z = vertices_cam[..., 2]
    safe_z = z.clamp_min(1e-6)
    pixels = torch.einsum("bij,bvj->bvi", K[:, :2].to(vertices_cam), vertices_cam) / safe_z[..., None]
    screen = torch.cat([pixels, 1 / safe_z[..., None]], -1)  # (B, V, 3): x, y, 1/z
    keep, boxes = _visible_faces(screen, z, faces, height, width, cull_backfaces, near)
    item, face = keep  # each (n,)
    setup = _face_setup(screen, faces, item, face, boxes)  # (n, 9)

    zbuffer = torch.full((batch * height * width,), _EMPTY, dtype=torch.int64, device=device)
    x0, y0, box_width, box_height = boxes.unbind(-1)
    counts = box_width * box_height
    ends = counts.cumsum(0)
    first_pixel = (item * height + y0) * width + x0
    start, total = 0, len(counts)
    while start < total:  # one pass except for huge faces
        base = int(ends[start - 1]) if start else 0
        stop = int(torch.searchsorted(ends, torch.tensor(base + chunk, device=device), right=True))
        stop = min(max(stop, start + 1), total)
        part = slice(start, stop)
        _draw(zbuffer, setup[part], face[part], first_pixel[part], box_width[part], counts[part], width)
        start = stop

    hit = (zbuffer != _EMPTY).nonzero().squeeze(-1)
    hit_face = zbuffer[hit] & 0xFFFFFFFF
    weights, depth = _perspective_weights(screen, faces, hit, hit_face, height, width)
    out_face = torch.full((batch * height * width,), -1, dtype=torch.int64, device=device)
    out_face[hit] = hit_face
    out_weights = torch.zeros(batch * height * width, 3, device=device)
    out_weights[hit] = weights
    out_depth = torch.full((batch * height * width,), torch.inf, device=device)
    out_depth[hit] = depth
    shape = (batch, height, width)
    return Fragments(out_face.view(shape), out_weights.view(*shape, 3), out_depth.view(shape))


def _visible_faces(screen, z, faces, height, width, cull, near):
    """Faces that may cover a pixel -> (item (n,), face (n,)), boxes (n, 4) int64 x0, y0, width, height."""
    x, y = screen[..., 0].contiguous(), screen[..., 1].contiguous()
    i0, i1, i2 = faces.unbind(-1)
    xs, ys = ([axis.index_select(1, i) for i in (i0, i1, i2)] for axis in (x, y))  # 3 x (B, F) each
    area = (xs[1] - xs[0]) * (ys[2] - ys[0]) - (ys[1] - ys[0]) * (xs[2] - xs[0])
    # y points down, so a face that turns counter-clockwise to the viewer has a negative area
    good = area < -1e-9 if cull else area.abs() > 1e-9
    behind = z < near
    if bool(behind.any()):
        good &= ~(behind[:, i0] | behind[:, i1] | behind[:, i2])
    chosen = good.view(-1).nonzero().squeeze(-1)
    slack = 1e-4  # pixels: a vertex exactly on a pixel centre belongs to the box in spite of rounding
    lows, sizes = [], []
    for axis, limit in ((xs, width - 1), (ys, height - 1)):
        a, b, c = (corner.view(-1)[chosen] for corner in axis)
        low = (torch.minimum(torch.minimum(a, b), c) - slack).clamp_(0, limit + 1).ceil_()
        high = (torch.maximum(torch.maximum(a, b), c) + slack).clamp_(-1, limit).floor_()
        lows.append(low)
        sizes.append(high - low + 1)
    covers = ((sizes[0] > 0) & (sizes[1] > 0)).nonzero().squeeze(-1)
    boxes = torch.stack([values[covers] for values in (*lows, *sizes)], -1).long()
    chosen = chosen[covers]
    item = torch.div(chosen, faces.shape[0], rounding_mode="floor")
    return (item, chosen - item * faces.shape[0]), boxes


def _face_setup(screen, faces, item, face, boxes):
    """(n, 9): barycentric weights 1, 2 and 1/z, each as a + b dx + c dy of the offset in the box."""
    v0, v1, v2 = (screen[item, faces[face, k]] for k in range(3))  # (n, 3)
    origin = boxes[:, :2].to(screen.dtype)
    d1, d2 = v1 - v0, v2 - v0
    p = origin - v0[:, :2]
    inverse = 1 / (d1[:, 0] * d2[:, 1] - d1[:, 1] * d2[:, 0])
    b1, c1 = d2[:, 1] * inverse, -d2[:, 0] * inverse
    b2, c2 = -d1[:, 1] * inverse, d1[:, 0] * inverse
    a1 = b1 * p[:, 0] + c1 * p[:, 1]
    a2 = b2 * p[:, 0] + c2 * p[:, 1]
    return torch.stack(
        [
            *(a1, b1, c1, a2, b2, c2),
            v0[:, 2] + d1[:, 2] * a1 + d2[:, 2] * a2,
            d1[:, 2] * b1 + d2[:, 2] * b2,
            d1[:, 2] * c1 + d2[:, 2] * c2,
        ],
        -1,
    )


def _draw(zbuffer, setup, face, first_pixel, box_width, counts, width):
    """Scatter the pixels of the boxes that lie in their face into the z-buffer (depth bits, face index)."""
    n, total = len(counts), int(counts.sum())
    owner = torch.repeat_interleave(torch.arange(n, device=counts.device), counts, output_size=total)
    offset = torch.arange(total, device=counts.device) - (counts.cumsum(0) - counts)[owner]
    owner_width = box_width[owner]
    dy = torch.div(offset, owner_width, rounding_mode="floor")
    dx = offset - dy * owner_width
    fx, fy = dx.to(setup.dtype), dy.to(setup.dtype)
    rows = setup[owner]
    l1 = rows[:, 0] + rows[:, 1] * fx + rows[:, 2] * fy
    l2 = rows[:, 3] + rows[:, 4] * fx + rows[:, 5] * fy
    lowest = torch.minimum(torch.minimum(l1, l2), 1 - l1 - l2)
    inside = (lowest >= -_EDGE_TOLERANCE).nonzero().squeeze(-1)
    owner, rows = owner[inside], rows[inside]
    inverse_z = rows[:, 6] + rows[:, 7] * fx[inside] + rows[:, 8] * fy[inside]
    depth = 1 / inverse_z.clamp_min(1e-9)
    # positive floats sort like their bits
    key = (depth.view(torch.int32).long() << 32) | face[owner]
    pixel = first_pixel[owner] + dy[inside] * width + dx[inside]
    zbuffer.scatter_reduce_(0, pixel, key, "amin")


def _perspective_weights(screen, faces, hit, hit_face, height, width):
    """Perspective-correct barycentric (n, 3) and depth (n,) at the flat pixels ``hit``."""
    item = torch.div(hit, height * width, rounding_mode="floor")
    y = torch.div(hit, width, rounding_mode="floor") - item * height
    p = torch.stack([hit % width, y], -1).to(screen.dtype)
    v0, v1, v2 = (screen[item, faces[hit_face, k]] for k in range(3))
    d1, d2, d = v1 - v0, v2 - v0, p - v0[:, :2]
    inverse = 1 / (d1[:, 0] * d2[:, 1] - d1[:, 1] * d2[:, 0])
    l1 = (d[:, 0] * d2[:, 1] - d[:, 1] * d2[:, 0]) * inverse
    l2 = (d1[:, 0] * d[:, 1] - d1[:, 1] * d[:, 0]) * inverse
    flat = torch.stack([1 - l1 - l2, l1, l2], -1)
    scaled = flat * torch.stack([v0[:, 2], v1[:, 2], v2[:, 2]], -1)
    inverse_z = scaled.sum(-1).clamp_min(1e-9)
    return scaled / inverse_z[:, None], 1 / inverse_z


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
