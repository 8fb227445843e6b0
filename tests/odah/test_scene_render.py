"""Full pictures of scenes against closed forms: colour, light, shadow, silhouette, what hides what."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from odah.render.geometry import clip_near, face_normals, inner_faces, subdivide
from odah.render.renderers import get_renderer
from odah.render.scene_files import read_scene, write_scene
from odah.render.scene_raster import SceneRaster, Silhouettes, render_scene
from odah.scenes.scene import THING, Material, Sun
from pose2sim_biokin.errors import BiokinError

from .render_scenes import DARK, EVEN, ball, grey, lamp, linear, look, quad, scene

CHALK = grey(188)
FLOOR = ([-10, -10, 0], [20, 0, 0], [0, 20, 0])


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def only(the_scene, frame: int = 0, camera: int = 0, **settings):
    return next(render_scene(the_scene, camera, [frame], **settings))


def ray_floor(camera, pixels) -> np.ndarray:
    """Points (n, 3) where the rays of pixels (n, 2) meet the floor z = 0."""
    rays = camera.pixels_to_world_rays(np.asarray(pixels, float))
    return camera.center - rays * (camera.center[2] / rays[:, 2:])


def test_a_textured_plane_shows_its_texels_the_right_way_up():
    texture = np.zeros((2, 2, 3), np.uint8)
    texture[0, 0], texture[0, 1], texture[1, 0], texture[1, 1] = (
        (200, 0, 0),
        (0, 200, 0),
        (0, 0, 200),
        (90, 90, 90),
    )
    texture = texture.repeat(64, 0).repeat(64, 1)  # bilinear reading blurs one texel in 64 only
    wall = quad("wall", [-1, 0, 0], [2, 0, 0], [0, 0, 2], Material(texture, 1.0, 0.0))
    camera = look([0, -3, 1], [0, 0, 1])
    image = only(scene([wall], camera, sky=EVEN)).image  # irradiance pi: what is seen is the albedo
    for (x, z), colour in {
        (-0.5, 1.5): (200, 0, 0),
        (0.5, 1.5): (0, 200, 0),
        (-0.5, 0.5): (0, 0, 200),
        (0.5, 0.5): (90, 90, 90),
    }.items():
        column, row = np.round(camera.project(np.array([x, 0, z]))).astype(int)
        assert np.abs(image[row, column, ::-1].astype(int) - colour).max() <= 2
    assert (image[2, 2] == 255).all()  # past the wall, the sky


def test_a_far_texture_is_its_mean_in_linear_light():
    board = (np.indices((256, 256)).sum(0) % 2 * 255).astype(np.uint8)[..., None].repeat(3, 2)
    wall = quad("wall", [-1, 0, 0], [2, 0, 0], [0, 0, 2], Material(board, 1.0, 0.0))
    image = only(scene([wall], look([0, -12, 1], [0, 0, 1]), sky=EVEN)).image
    level = image[55:65, 75:85].astype(float)
    assert np.abs(level - 188).max() < 3  # sRGB of one half
    assert level.std() < 1  # nothing shimmers


def test_area_light_on_a_floor():
    # irradiance below the middle of a small square lamp: pi L sin^2 with the point-lamp's form L A / h^2
    small = lamp([0, 0, 2], half=0.05, radiance=100.0)
    camera = look([0, -2.5, 1.5], [0, 0, 0])
    image = only(scene([quad("floor", *FLOOR, CHALK)], camera, lights=[small], exposure=2.0)).image
    for x, y in ((0.0, 0.0), (0.6, 0.3), (-0.8, -0.4)):
        squared = x * x + y * y + 4
        irradiance = 100 * 0.01 * (2 / np.sqrt(squared)) ** 2 / squared
        column, row = np.round(camera.project(np.array([x, y, 0.0]))).astype(int)
        expected = linear(188) * irradiance / np.pi * 2
        assert linear(image[row, column].mean()) == pytest.approx(expected, rel=0.03)


def test_sky_and_sun_on_a_floor():
    camera = look([0, -2.5, 1.5], [0, 0, 0])
    floor = quad("floor", *FLOOR, grey(128))
    open_sky = only(scene([floor], camera, sky=EVEN)).image[60, 80].mean()
    assert open_sky == pytest.approx(128, abs=1.5)
    sun = Sun(np.array([0.0, 0.6, 0.8]), np.full(3, 3.0))
    sunny = only(scene([floor], camera, sun=sun)).image[60, 80].mean()
    assert linear(sunny) == pytest.approx(linear(128) * 3 * 0.8 / np.pi, rel=0.02)


@pytest.mark.parametrize("person", [0, THING])
def test_the_shadow_of_a_ball_under_the_sun_lies_where_it_must(person):
    towards = np.array([0.48, 0.36, 0.8])
    centre, radius = np.array([0.0, 0.0, 1.0]), 0.4
    camera = look([0, -4, 3], [-0.4, 0, 0.3], focal=130.0)
    things = [quad("floor", *FLOOR, grey(128)), ball("ball", centre[None], radius, grey(60), person)]
    image = only(scene(things, camera, sun=Sun(towards, np.full(3, 3.0)))).image.mean(-1)
    y, x = np.mgrid[:120, :160]
    pixels = np.stack([x.ravel(), y.ravel()], 1)
    rays = camera.pixels_to_world_rays(pixels)
    to_ball = centre - camera.center
    aside = np.linalg.norm(to_ball - (rays @ to_ball)[:, None] * rays, axis=1)
    down = (rays[:, 2] < -0.05) & (aside > radius * 1.05)
    floor = ray_floor(camera, pixels[down])
    offset = centre - floor
    miss = np.linalg.norm(
        offset - (offset @ towards)[:, None] * towards, axis=1
    )  # ray to sun from the centre
    level = image.ravel()[down]
    near = np.linalg.norm(floor, axis=1) < 4
    assert ((miss < 0.85 * radius) & near).sum() > 200
    assert (level[(miss < 0.85 * radius) & near] < 3).all()
    assert (level[(miss > 1.15 * radius) & near] > 50).all()


def test_the_shadow_under_a_lamp_is_the_cone_of_the_ball():
    centre, radius, height = np.array([0.3, 0.0, 1.0]), 0.3, 3.0
    camera = look([0, -4, 2.6], [0.3, 0, 0.2], focal=130.0)
    meshes = [quad("floor", *FLOOR, grey(200)), ball("ball", centre[None], radius, grey(60))]
    lit = scene(meshes, camera, lights=[lamp([0, 0, height], half=0.02, radiance=4000.0)])
    empty = scene(meshes[:1], camera, lights=lit.lights)
    ratio = only(lit).image.mean(-1) / np.maximum(only(empty).image.mean(-1), 1)
    for point, dark in (((0.45, 0.0), True), ((0.45, 0.3), True), ((0.45, 1.0), False), ((-0.4, 0.0), False)):
        place = np.array([*point, 0.0])
        towards = np.array([0, 0, height]) - place
        towards /= np.linalg.norm(towards)
        miss = np.linalg.norm((centre - place) - ((centre - place) @ towards) * towards)
        assert (miss < radius) == dark  # the test's own points are right
        column, row = np.round(camera.project(place)).astype(int)
        assert (ratio[row, column] < 0.25) if dark else (ratio[row, column] > 0.85)


def test_silhouette_of_a_ball_and_what_hides_it():
    centre, radius = np.array([0.0, 0.0, 1.0]), 0.5
    camera = look([0, -4, 1], [0, 0, 1], focal=300.0, size=(320, 240))
    subject = ball("subject", centre[None], radius, grey(200))
    y, x = np.mgrid[:240, :320]
    rays = camera.pixels_to_world_rays(np.stack([x, y], -1).astype(float))
    offset = centre - camera.center
    along = rays @ offset
    inside = np.linalg.norm(offset - along[..., None] * rays, axis=-1) < radius
    free = only(scene([subject], camera, sky=EVEN))
    assert (free.mask == free.amodal).all()
    assert free.mask.sum() == pytest.approx(inside.sum(), rel=0.004)
    assert (free.mask & inside).sum() / (free.mask | inside).sum() > 0.99

    table = quad(
        "table", [0, -1, 0], [3, 0, 0], [0, 0, 3], grey(20)
    )  # before all that is right of the middle
    behind = quad("behind", [-3, 2, 0], [6, 0, 0], [0, 0, 3], grey(90))
    other = ball("other", np.array([[-0.5, -1.0, 1.0]]), 0.2, grey(240), person=1)
    hidden = only(scene([subject, table, behind, other], camera, sky=EVEN))
    assert not hidden.mask[:, 162:].any()
    column, row = np.round(camera.project(np.array([-0.35, -1.0, 1.0]))).astype(int)
    assert free.mask[row, column] and not hidden.mask[row, column]  # the other person is nearer
    column, row = np.round(camera.project(np.array([-0.1, -0.4, 1.2]))).astype(int)
    assert hidden.mask[row, column]
    assert (hidden.amodal == free.amodal).all()
    assert (Silhouettes(scene([subject, table, other], camera))(0, 0) == free.amodal).all()


def test_walls_that_reach_behind_the_camera_are_cut_not_dropped():
    wall = quad("wall", [0.5, -20, 0], [0, 40, 0], [0, 0, 2], grey(128), two_sided=True)
    camera = look([0, 0, 1], [0, 5, 1])
    image = only(scene([wall], camera, sky=replace(DARK, zenith=np.ones(3)))).image
    y, x = np.mgrid[:120, :160]
    rays = camera.pixels_to_world_rays(np.stack([x, y], -1).astype(float))
    meets = rays[..., 0] > 1e-6
    height = 1 + rays[..., 2] * np.where(meets, 0.5 / np.where(meets, rays[..., 0], 1), np.inf)
    on_wall = meets & (height > 0.03) & (height < 1.97)
    on_wall &= rays[..., 1] * 0.5 < 19.5 * np.abs(rays[..., 0])
    assert on_wall.sum() > 3000
    depth = SceneRaster(scene([wall], camera)).plate(0)[0].depth
    seen = depth[::2, ::2].isfinite().numpy()
    assert seen[on_wall].mean() > 0.995
    assert not seen[:, :78].any()
    assert image.shape == (120, 160, 3)


def test_moving_frames_distorted_cameras_and_rolls_agree_with_camera_project():
    track = np.array([[-0.8, 0, 0.7], [0.0, 0.3, 1.0], [0.8, -0.2, 1.4]])
    subject = ball("subject", track, 0.03, grey(255), rings=10)
    camera = look([0, -2.5, 1], [0, 0, 1], distortion=(-0.25, 0.06, 0.001, 0.001), roll=0.5, focal=140.0)
    frames = list(render_scene(scene([subject], camera, sky=EVEN, frames=3), 0, range(3)))
    for rendered, centre in zip(frames, track, strict=True):
        row, column = np.argwhere(rendered.mask).mean(0)
        assert np.hypot(*(camera.project(centre) - (column, row))) < 0.4


def test_the_inside_of_an_open_surface_is_seen():
    # a half pipe open to the camera: behind its rim the inside shows, although faces wind outwards
    around = np.linspace(0, np.pi, 25)
    ring = np.stack([np.cos(around), np.sin(around), np.zeros(25)], 1) * 0.5
    vertices = np.concatenate([ring, ring + [0, 0, 0.1]])[None] + [0, 0, 1]
    i = np.arange(24)
    faces = np.concatenate([np.stack([i, i + 1, i + 25], 1), np.stack([i + 1, i + 26, i + 25], 1)])
    middle = vertices[0][faces].mean(1) - [0, 0, 1.05]
    assert ((face_normals(vertices[0], faces) * middle).sum(1) > 0).all()
    pipe = replace(ball("p", np.zeros((1, 3)), 1, grey(99)), vertices=vertices.astype(np.float32))
    pipe = replace(pipe, faces=faces.astype(np.int32), uv=np.zeros((50, 2), np.float32))
    camera = look([0, -3, 1.05], [0, 0, 1.05], focal=300.0)
    mask = only(scene([pipe], camera, sky=EVEN)).mask
    assert mask[60, 60:100].all()


def test_closed_surfaces_have_no_inside_and_subdivision_opens_no_cracks():
    mesh = ball("ball", np.zeros((1, 3)), 0.5, CHALK, rings=12)
    points, faces = mesh.vertices[0].astype(float), mesh.faces.astype(np.int64)
    assert len(inner_faces(points, faces)) == 0
    assert len(inner_faces(points, faces[200:])) > 0
    fine, cut, _, source, _ = subdivide(points, faces, mesh.uv, lambda p: 0.03 + 0.1 * np.abs(p[:, 2]))
    length = np.linalg.norm(fine[cut] - fine[np.roll(cut, 1, 1)], axis=-1)
    assert length.max() < 0.09
    assert len(inner_faces(fine, cut)) == 0  # still closed
    area = np.linalg.norm(face_normals(fine, cut), axis=1)
    whole = np.linalg.norm(face_normals(points, faces), axis=1)
    assert np.allclose(np.bincount(source, area, len(faces)), whole, atol=1e-12)


def test_clipping_keeps_what_is_in_front():
    rng = np.random.default_rng(0)
    points = rng.uniform(-1, 1, (60, 3))
    faces = rng.permutation(60).reshape(-1, 3)
    cut, kept, attributes, source = clip_near(points, faces, points.copy(), 0.2)
    assert (cut[kept][..., 2] >= 0.2 - 1e-12).all()
    assert np.allclose(attributes[kept], cut[kept])  # what is linear in space stays so
    normal, cut_normal = face_normals(points, faces), face_normals(cut, kept)
    assert ((normal[source] * cut_normal).sum(1) > -1e-15).all()  # winding is kept
    area = np.bincount(source, np.linalg.norm(cut_normal, axis=1), len(faces)) / np.linalg.norm(
        normal, axis=1
    )
    grid = np.stack([g.ravel() for g in np.meshgrid(*[np.linspace(0.01, 0.99, 60)] * 2)], 1)
    weights = grid[grid.sum(1) < 1]
    for face, share in zip(faces, area, strict=True):
        a, b, c = points[face]
        z = a[2] + weights @ np.array([b[2] - a[2], c[2] - a[2]])
        assert share == pytest.approx((z > 0.2).mean(), abs=0.06)


def test_scene_files_come_back_as_they_were(tmp_path):
    camera = look([0, -3, 1], [0, 0, 1], distortion=(-0.1, 0.02, 0, 0, 0.001))
    before = scene(
        [ball("a", np.zeros((3, 3)), 0.2, Material(np.zeros((4, 5, 3), np.uint8), 0.3, 0.7, 1.0))],
        (camera, replace(camera, name="cam02", fisheye=True, distortion=np.zeros(4))),
        lights=[lamp([0, 0, 2])],
        sun=Sun(np.array([0.0, 0.6, 0.8]), np.ones(3), 0.02),
        frames=3,
    )
    after = read_scene(write_scene(before, tmp_path / "scene"))
    assert (after.frames, after.fps, after.exposure, after.notes) == (3, 30.0, (1.0, 1.0), {"seed": 1})
    a, b = before.meshes[0], after.meshes[0]
    for name in ("vertices", "faces", "uv"):
        assert np.array_equal(getattr(a, name), getattr(b, name))
        assert getattr(a, name).dtype == getattr(b, name).dtype
    assert (b.name, b.person, b.two_sided) == (a.name, a.person, a.two_sided)
    assert (b.material.roughness, b.material.specular, b.material.metallic) == (0.3, 0.7, 1.0)
    assert b.material.texture.shape == (4, 5, 3)
    for c, d in zip(before.cameras, after.cameras, strict=True):
        assert (c.name, c.size, c.fisheye) == (d.name, d.size, d.fisheye)
        assert all(np.array_equal(getattr(c, n), getattr(d, n)) for n in ("K", "distortion", "R", "t"))
    assert np.array_equal(after.sun.direction, before.sun.direction) and after.sun.angle == 0.02
    assert np.array_equal(after.lights[0].u, before.lights[0].u)
    (tmp_path / "scene" / "scene.npz").unlink()
    with pytest.raises(BiokinError, match="scene.npz is missing"):
        read_scene(tmp_path / "scene")


def test_wrong_requests_are_refused():
    small = scene([quad("floor", *FLOOR, CHALK)], look([0, -3, 1], [0, 0, 1]))
    with pytest.raises(BiokinError, match="camera 1"):
        render_scene(small, 1, [0])
    with pytest.raises(BiokinError, match="frame 5"):
        render_scene(small, 0, [0, 5])
    with pytest.raises(BiokinError, match="expected one of raster, cycles, eevee"):
        get_renderer("opengl")
    with pytest.raises(BiokinError, match="no setting"):
        get_renderer("raster", samples=3)
    with pytest.raises(BiokinError, match="samples"):
        get_renderer("cycles", samples=0)
    with pytest.raises(BiokinError, match="cannot be started"):
        list(get_renderer("cycles", python="no-such-python")(small, 0, [0]))
