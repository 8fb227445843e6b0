"""The z-buffer: which triangle is nearest at each pixel, and where in the triangle. Plain PyTorch.

It works on the screen: pixels and inverse depth of the vertices, however they were projected (pinhole, lens
with distortion, shadow map). `odah.render.rasterizer` is the pinhole's front end.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
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


@torch.no_grad()
def draw(
    screen: Tensor,
    faces: Tensor,
    height: int,
    width: int,
    *,
    cull_backfaces: bool = True,
    behind: Tensor | None = None,
    chunk: int = 4_000_000,
) -> Fragments:
    """Nearest face of every pixel.

    screen (B, V, 3): x and y in pixels (centres at whole numbers, y down) and 1/z, larger is nearer;
    faces (F, 3) int64. ``behind`` (B, V) bool marks vertices whose faces must not be drawn.
    ``chunk`` bounds the pixel candidates handled at once (memory about 60 bytes each).
    """
    keys = _zbuffer(screen, faces, height, width, cull_backfaces, behind, chunk)
    hit = (keys != _EMPTY).nonzero().squeeze(-1)
    hit_face = keys[hit] & 0xFFFFFFFF
    weights, depth = _perspective_weights(screen, faces, hit, hit_face, height, width)
    out_face = torch.full_like(keys, -1)
    out_face[hit] = hit_face
    out_weights = torch.zeros(len(keys), 3, device=keys.device)
    out_weights[hit] = weights
    out_depth = torch.full((len(keys),), torch.inf, device=keys.device)
    out_depth[hit] = depth
    shape = (screen.shape[0], height, width)
    return Fragments(out_face.view(shape), out_weights.view(*shape, 3), out_depth.view(shape))


@torch.no_grad()
def draw_depth(
    screen: Tensor,
    faces: Tensor,
    height: int,
    width: int,
    *,
    cull_backfaces: bool = False,
    behind: Tensor | None = None,
    chunk: int = 4_000_000,
) -> Tensor:
    """Depth alone (B, H, W), inf where there is nothing; arguments as in `draw`."""
    keys = _zbuffer(screen, faces, height, width, cull_backfaces, behind, chunk)
    depth = (keys >> 32).int().view(torch.float32)
    return torch.where(keys == _EMPTY, torch.inf, depth).view(screen.shape[0], height, width)


@torch.no_grad()
def draw_faces(
    screen: Tensor,
    faces: Tensor,
    height: int,
    width: int,
    *,
    cull_backfaces: bool = True,
    behind: Tensor | None = None,
    chunk: int = 4_000_000,
) -> Tensor:
    """Index of the nearest face alone (B, H, W), -1 where there is none; arguments as in `draw`."""
    keys = _zbuffer(screen, faces, height, width, cull_backfaces, behind, chunk)
    return torch.where(keys == _EMPTY, -1, keys & 0xFFFFFFFF).view(screen.shape[0], height, width)


def _zbuffer(screen, faces, height, width, cull, behind, chunk) -> Tensor:
    """(B * H * W,) int64: bits of the depth, then the face's index; _EMPTY where there is nothing."""
    batch, device = screen.shape[0], screen.device
    keep, boxes = _visible_faces(screen, behind, faces, height, width, cull)
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
    return zbuffer


def _visible_faces(screen, behind, faces, height, width, cull):
    """Faces that may cover a pixel -> (item (n,), face (n,)), boxes (n, 4) int64 x0, y0, width, height."""
    x, y = screen[..., 0].contiguous(), screen[..., 1].contiguous()
    i0, i1, i2 = faces.unbind(-1)
    xs, ys = ([axis.index_select(1, i) for i in (i0, i1, i2)] for axis in (x, y))  # 3 x (B, F) each
    area = (xs[1] - xs[0]) * (ys[2] - ys[0]) - (ys[1] - ys[0]) * (xs[2] - xs[0])
    # y points down, so a face that turns counter-clockwise to the viewer has a negative area
    good = area < -1e-9 if cull else area.abs() > 1e-9
    if behind is not None and bool(behind.any()):
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
