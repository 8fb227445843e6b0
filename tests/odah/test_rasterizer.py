"""The rasteriser against closed forms."""

from __future__ import annotations

import math

import pytest
import torch

from odah.render.rasterizer import (
    checks,
    interpolate,
    linear_to_srgb,
    rasterize,
    render,
    srgb_to_linear,
    stripes,
    vertex_normals,
)

SIZE = 96
K = torch.tensor([[[150.0, 0.0, 47.0], [0.0, 150.0, 48.5], [0.0, 0.0, 1.0]]])


def sphere(rings: int = 60, sectors: int = 120) -> tuple[torch.Tensor, torch.Tensor]:
    """Unit sphere, faces counter-clockwise from outside."""
    polar = torch.linspace(0, math.pi, rings + 1)[:, None]
    around = torch.arange(sectors)[None] * (2 * math.pi / sectors)
    vertices = torch.stack(
        [polar.sin() * around.cos(), polar.sin() * around.sin(), polar.cos().expand(-1, sectors)], -1
    )
    i, j = torch.meshgrid(torch.arange(rings), torch.arange(sectors), indexing="ij")
    a, b = i * sectors + j, i * sectors + (j + 1) % sectors
    faces = torch.cat([torch.stack([a, a + sectors, b], -1), torch.stack([b, a + sectors, b + sectors], -1)])
    return vertices.reshape(-1, 3), faces.reshape(-1, 3)


def pixel_rays(k: torch.Tensor = K, size: int = SIZE) -> torch.Tensor:
    """(H, W, 3) directions with z = 1 through the pixel centres at integer coordinates."""
    y, x = torch.meshgrid(torch.arange(size).double(), torch.arange(size).double(), indexing="ij")
    return torch.stack([(x - k[0, 0, 2]) / k[0, 0, 0], (y - k[0, 1, 2]) / k[0, 1, 1], torch.ones_like(x)], -1)


def sphere_depth(centre: torch.Tensor, radius: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Depth of a sphere along the pixels' rays (quadratic formula, inf outside), and the discriminant."""
    ray, centre = pixel_rays(), centre.double()
    a, b, c = (ray**2).sum(-1), (ray * centre).sum(-1), (centre**2).sum() - radius**2
    discriminant = b**2 - a * c
    depth = (b - discriminant.clamp_min(0).sqrt()) / a
    return torch.where(discriminant > 0, depth, torch.inf), discriminant


def test_sphere_silhouette_and_depth():
    vertices, faces = sphere()
    centre, radius = torch.tensor([0.2, -0.1, 3.0]), 0.7
    fragments = rasterize((vertices * radius + centre)[None], faces, K, SIZE, SIZE)
    expected, discriminant = sphere_depth(centre, radius)
    inner = discriminant > 0.02  # away from the rim, where the polygon is a little smaller than the sphere
    assert fragments.mask[0][inner].all()
    assert not fragments.mask[0][discriminant < 0].any()
    assert fragments.mask[0].sum() == pytest.approx(int((discriminant > 0).sum()), rel=0.01)
    assert (fragments.depth[0][inner] - expected[inner]).abs().max() < 2e-3
    assert torch.isinf(fragments.depth[0][discriminant < 0]).all()


def test_winding_decides_what_is_culled():
    vertices, faces = sphere(16, 32)
    vertices = (vertices + torch.tensor([0.0, 0.0, 4.0]))[None]
    front = rasterize(vertices, faces, K, SIZE, SIZE)
    back = rasterize(vertices, faces.flip(-1), K, SIZE, SIZE)
    both = rasterize(vertices, faces, K, SIZE, SIZE, cull_backfaces=False)
    centre = (0, 48, 47)
    assert front.depth[centre] == pytest.approx(3.0, abs=0.02)
    assert back.depth[centre] == pytest.approx(5.0, abs=0.02)
    assert torch.equal(both.face, front.face)
    normals = vertex_normals(vertices, faces)
    outward = torch.nn.functional.normalize(vertices - torch.tensor([0.0, 0.0, 4.0]), dim=-1)
    ring = slice(32, -32)  # the poles are many vertices at one place
    assert ((normals * outward)[:, ring].sum(-1) > 0.99).all()


def test_plane_is_interpolated_perspective_correctly():
    # a floor seen at a grazing angle: y = 1 in camera space, attributes = x and z of the vertices
    vertices = torch.tensor([[[-4.0, 1.0, 1.5], [4.0, 1.0, 1.5], [4.0, 1.0, 40.0], [-4.0, 1.0, 40.0]]])
    faces = torch.tensor([[0, 1, 2], [0, 2, 3]])
    fragments = rasterize(vertices, faces, K, SIZE, SIZE, cull_backfaces=False)
    got = interpolate(fragments, faces, vertices)[0]
    ray = pixel_rays()
    point = ray / ray[..., 1:2]  # where y = 1
    inside = (
        (point[..., 0].abs() < 3.99) & (point[..., 2] > 1.51) & (point[..., 2] < 39.9) & (ray[..., 1] > 0)
    )
    assert inside.sum() > 1000
    assert fragments.mask[0][inside].all()
    assert ((got - point)[inside].abs() / point[inside][..., 2:]).max() < 1e-4
    assert (fragments.depth[0][inside] - point[inside][..., 2]).abs().max() < 5e-3
    assert torch.allclose(fragments.barycentric.sum(-1)[fragments.mask], torch.ones(()))


def test_nearer_triangle_wins_pixel_by_pixel_where_two_cross():
    near_left = torch.tensor([[-2.0, -2.0, 2.0], [2.0, -2.0, 4.0], [0.0, 3.0, 3.0]])
    near_right = near_left * torch.tensor([1.0, 1.0, 0.0]) + torch.tensor(
        [[0.0, 0.0, 4.0], [0.0, 0.0, 2.0], [0.0, 0.0, 3.0]]
    )
    vertices = torch.cat([near_left, near_right])[None]
    faces = torch.tensor([[0, 1, 2], [3, 4, 5]])
    order = rasterize(vertices, faces, K, SIZE, SIZE, cull_backfaces=False).face[0]
    ray = pixel_rays()
    # z = 3 + x / 2 for the first, z = 3 - x / 2 for the second: the first is nearer where x < 0
    first = ray[..., 0] < -1e-6
    second = ray[..., 0] > 1e-6
    hit = order >= 0
    assert hit.sum() > 4000
    assert (order[hit & first] == 0).all() and (order[hit & second] == 1).all()
    twice = rasterize(vertices, faces[[0, 0, 1]], K, SIZE, SIZE, cull_backfaces=False).face[0]
    assert not (twice == 1).any()  # of two equal faces, the lower index


def test_pixel_centres_are_at_integers():
    # a rectangle at z = 1 whose borders fall between pixels 10|11 and 30|31, 20|21 and 24|25
    edges = (torch.tensor([10.5, 30.5]) - 47.0) / 150, (torch.tensor([20.5, 24.5]) - 48.5) / 150
    (x0, x1), (y0, y1) = edges
    corners = torch.stack(
        [torch.stack([x, y, torch.tensor(1.0)]) for x, y in ((x0, y0), (x0, y1), (x1, y1), (x1, y0))]
    )
    faces = torch.tensor([[0, 1, 2], [0, 2, 3]])
    mask = rasterize(corners[None], faces, K, SIZE, SIZE).mask[0]
    expected = torch.zeros(SIZE, SIZE, dtype=torch.bool)
    expected[21:25, 11:31] = True
    assert torch.equal(mask, expected)


def test_cube_covers_its_projection():
    # seen face-on, the silhouette is the near square: side / z * f pixels wide
    corners = torch.tensor([[x, y, z] for x in (-1.0, 1.0) for y in (-1.0, 1.0) for z in (-1.0, 1.0)]) * 0.4
    quads = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    faces = torch.tensor([t for a, b, c, d in quads for t in ((a, b, c), (a, c, d))])
    vertices = (corners + torch.tensor([0.0, 0.0, 2.4]))[None]
    fine = K.clone()
    fine[:, 0, 2] = 47.3
    image = render(
        vertices, faces, fine, height=SIZE, width=SIZE, albedo=torch.ones(1, 8, 3) * 0.5, supersample=2
    )
    assert image.mask.sum() == pytest.approx((0.8 / 2.0 * 150) ** 2, rel=0.02)
    assert image.depth[0, 48, 47] == pytest.approx(2.0, abs=1e-4)
    assert image.rgb[image.mask == 0].abs().max() == 0
    front = rasterize(vertices, faces, fine, SIZE, SIZE)
    assert front.mask.sum() == pytest.approx((0.8 / 2.0 * 150) ** 2, rel=0.04)
    assert front.face[front.mask].unique().numel() == 2  # culling leaves the two triangles of the near side


def test_faces_behind_the_camera_and_outside_the_image_are_dropped():
    triangle = torch.tensor([[-1.0, -1.0, 0.0], [-1.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    faces = torch.tensor([[0, 1, 2]])
    for offset in ([0.0, 0.0, -3.0], [0.0, 0.0, 0.01], [50.0, 0.0, 3.0]):
        fragments = rasterize(
            (triangle + torch.tensor(offset))[None], faces, K, SIZE, SIZE, cull_backfaces=False
        )
        assert not fragments.mask.any()
    straddling = triangle.clone()
    straddling[2, 2] = -2.0
    fragments = rasterize(
        (straddling + torch.tensor([0, 0, 1.0]))[None], faces, K, SIZE, SIZE, cull_backfaces=False
    )
    assert not fragments.mask.any()


def test_items_of_a_batch_are_independent_and_repeatable():
    torch.manual_seed(0)
    vertices, faces = sphere(20, 40)
    batch = torch.stack([vertices * 0.5 + torch.tensor([0.1 * i, 0.0, 2.0 + i]) for i in range(3)])
    colours = torch.rand(3, len(vertices), 3)
    cameras = K.repeat(3, 1, 1)
    kwargs = {"height": SIZE, "width": SIZE}
    together = render(batch, faces, cameras, albedo=colours, smooth=True, **kwargs)
    again = render(batch, faces, cameras, albedo=colours, smooth=True, **kwargs)
    assert all(torch.equal(a, b) for a, b in zip(together, again, strict=True))
    for i in range(3):
        alone = render(batch[i : i + 1], faces, K, albedo=colours[i : i + 1], smooth=True, **kwargs)
        assert torch.equal(alone.mask[0], together.mask[i])
        assert torch.allclose(alone.rgb[0], together.rgb[i], atol=1e-5)
    chunked = rasterize(batch, faces, cameras, SIZE, SIZE, chunk=500)
    assert torch.equal(chunked.face, rasterize(batch, faces, cameras, SIZE, SIZE).face)


def test_world_to_camera_is_applied():
    vertices, faces = sphere(16, 32)
    rotation = torch.tensor([[[0.0, 1.0, 0.0], [0.0, 0.0, -1.0], [-1.0, 0.0, 0.0]]])  # looks along world -x
    t = torch.tensor([[0.0, 0.0, 4.0]])
    image = render(
        vertices[None],
        faces,
        K,
        rotation,
        t,
        height=SIZE,
        width=SIZE,
        albedo=torch.ones(1, 1, 3).expand(1, len(vertices), 3),
    )
    row, column = image.mask[0].nonzero().float().mean(0)
    assert (row.item(), column.item()) == pytest.approx((48.5, 47.0), abs=0.5)
    upper, lower = image.rgb[0, 30, 47].mean(), image.rgb[0, 66, 47].mean()
    assert upper > lower  # the sky is up in the world's z


def test_patterns_and_colour_transfer():
    x = torch.tensor([0.0, 0.24, 0.26, 0.49, 0.51, -0.01])
    assert stripes(x, 0.5).tolist() == [1, 1, 0, 0, 1, 0]
    assert checks(x, torch.zeros(6), 0.5).tolist() == [0, 0, 1, 1, 0, 1]
    values = torch.linspace(0, 1, 50)
    assert torch.allclose(srgb_to_linear(linear_to_srgb(values)), values, atol=1e-5)
