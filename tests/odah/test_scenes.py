"""Clothes, cameras and surroundings of synthetic scenes, against closed forms and OpenCV."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from odah.bodies.open_body import OpenBody
from odah.scenes import cameras, rooms
from odah.scenes.garments import Dresser, Fit, lower_field, upper_field
from odah.scenes.people import chart_of, dress, rigid
from odah.scenes.primitives import box, cylinder, ellipsoid, plane
from odah.scenes.sampler import Posed, SceneSettings, build_scene
from odah.scenes.scene import THING
from odah.scenes.shells import cut, normals
from odah.scenes.skirts import below_waist, skirt
from odah.scenes.textures import FLOORS, GROUNDS, PATTERNS, WALLS, cloth, plain_material, surface
from pose2sim_biokin.errors import BiokinError

GREY = plain_material([128, 128, 128])
FRAMES = 3


@pytest.fixture(scope="module")
def body():
    return OpenBody("coarse")


@pytest.fixture(scope="module")
def subject(body):
    return body.sample_subject(7)


@pytest.fixture(scope="module")
def motion(body):
    """Standing, a deep squat with the arms in front, a stride with a raised arm; turned 90 degrees."""
    at = body.skeleton.coordinate_index
    q = np.zeros((FRAMES, 39))
    for side in "rl":
        q[1, [at(f"hip_flexion_{side}"), at(f"knee_angle_{side}"), at(f"arm_flex_{side}")]] = 85, 100, 80
    q[2, [at("hip_flexion_r"), at("hip_flexion_l"), at("knee_angle_l"), at("arm_add_l")]] = 50, -20, 60, -120
    q = np.deg2rad(q)
    q[:, at("pelvis_rotation")] = np.pi / 2
    q[:, at("pelvis_ty")] = 0.95
    return torch.as_tensor(q, dtype=torch.float32)


@pytest.fixture(scope="module")
def animate(body, subject, motion):
    return lambda rest=None: Posed(body.pose(subject, motion, rest))


@pytest.fixture(scope="module")
def scenes(body, subject, animate):
    def make(seed, **settings):
        chosen = SceneSettings(sizes=((108, 72),), **settings)
        return build_scene(np.random.default_rng(seed), chosen, body, subject, animate, FRAMES, 60.0)

    return {
        "room": make(3, surroundings="room", marker_share=1, occluder_share=1, bystander_share=1),
        "outdoors": make(4, surroundings="outdoors", marker_share=0, occluder_share=0, bystander_share=0),
        "again": make(4, surroundings="outdoors", marker_share=0, occluder_share=0, bystander_share=0),
        "other": make(5, surroundings="outdoors", marker_share=0, occluder_share=0, bystander_share=0),
    }


def _volume(vertices, faces):
    a, b, c = (vertices[faces[:, k]].astype(np.float64) for k in range(3))
    return float((np.cross(a, b) * c).sum() / 6)


def test_closed_things_wind_outward_and_have_their_volume():
    at = [3.0, -2.0, 1.0]
    for mesh, volume, tolerance in (
        (box("b", at, [1, 2, 3], GREY, yaw=0.4), 6.0, 1e-4),
        (cylinder("c", at, [3, 0, 2], 0.5, GREY, sides=64), np.pi * 0.25 * np.sqrt(5), 0.01),
        (cylinder("k", at, [3, -2, 2], 0.6, GREY, 0.0, sides=64), np.pi * 0.36 / 3, 0.01),
        (ellipsoid("e", at, [1, 2, 0.5], GREY), 4 / 3 * np.pi, 0.15),
    ):
        assert _volume(mesh.vertices[0], mesh.faces) == pytest.approx(volume, rel=tolerance), mesh.name


def test_a_plane_faces_the_side_asked_and_has_small_quads():
    mesh = plane("p", [0, 0, 0], [0, 3.5, 0], [0, 0, 2.2], GREY, tile=0.5)
    a, b, c = (mesh.vertices[0][mesh.faces[:, k]] for k in range(3))
    assert (np.cross(b - a, c - a)[:, 0] > 0).all()
    assert max(np.abs(b - a).max(), np.abs(c - a).max()) <= 1.0
    assert np.cross(b - a, c - a)[:, 0].sum() / 2 == pytest.approx(3.5 * 2.2, rel=1e-5)
    assert mesh.uv.max(0).tolist() == pytest.approx([7.0, 4.4])


def test_a_cut_follows_the_zero_line():
    """A grid in the plane cut by a slanted line: area and edge in closed form, orientation kept."""
    mesh = plane("p", [0, 0, 0], [4, 0, 0], [0, 4, 0], GREY, cell=0.5)
    points = mesh.vertices[0].astype(np.float64)
    field = 3.1 - points[:, 0] - 0.5 * points[:, 1]  # x < 3.1 - y / 2
    piece = cut(mesh.faces, field)
    at = piece.apply(points)
    a, b, c = (at[piece.faces[:, k]] for k in range(3))
    area = np.cross(b - a, c - a)[:, 2] / 2
    assert (area > 0).all()
    assert area.sum() == pytest.approx((3.1 + 1.1) / 2 * 4)
    assert (at[:, 0] + 0.5 * at[:, 1]).max() == pytest.approx(3.1)


@pytest.mark.parametrize("fit", [Fit(0.003), Fit(0.006, 0.02, 0.9, 0.005)], ids=["tight", "loose"])
def test_garments_lie_outside_the_skin(body, subject, fit):
    chart = chart_of(body)
    dresser = Dresser(chart, subject.vertices.numpy(), np.random.default_rng(0))
    outward = normals(dresser.skin, chart.faces)
    for field, vertices in (
        (f := upper_field(chart, 0.0, 0.2, 0.0), dresser.upper(f, fit)),
        (f := lower_field(chart, 0.1, 0.7), dresser.lower(f, fit)),
    ):
        gap = ((vertices - dresser.skin) * outward).sum(1)
        worn = field > 0
        # trouser legs give way to each other on the inside of the thighs
        legs = (chart.leg > 0.5) & (np.abs(vertices[:, 2]) < 0.02)
        assert gap[worn & ~legs].min() > 0.9 * fit.thickness
        assert np.median(gap[worn]) < fit.thickness + 2 * fit.ease + 0.03


def test_hems_are_where_they_were_asked(body):
    """The lowest points of a cut shirt and the ends of sleeves and trouser legs; smoothing rounds by 2 cm."""
    chart = chart_of(body)
    shirt = cut(chart.faces, upper_field(chart, 0.05, 0.25, 0.0))
    at = shirt.apply(np.column_stack([chart.rest, chart.arm, chart.metres_down_arm()]))
    assert at[at[:, 3] < 0.2, 1].min() == pytest.approx(0.05, abs=0.02)
    assert at[at[:, 3] > 0.9, 4].max() == pytest.approx(0.25, abs=0.02)
    trousers = cut(chart.faces, lower_field(chart, 0.1, 0.7))
    at = trousers.apply(np.column_stack([chart.rest, chart.leg, chart.metres_down_leg()]))
    assert at[:, 1].max() == pytest.approx(0.1, abs=0.02)
    assert at[at[:, 3] > 0.9, 4].max() == pytest.approx(0.7, abs=0.02)


def test_a_skirt_holds_both_legs_in_every_pose(body, subject, animate):
    """Points a centimetre inside the legs are in the tube: its winding number about them is not zero.

    Standing all are; in the fold of a squat and on the tips of a long stride a few stand out. (What a skirt
    covers is not drawn, but for the last centimetres at its hem.)
    """
    chart = chart_of(body)
    skin = animate().vertices.numpy().astype(np.float64)
    rest = subject.vertices.numpy()
    vertices, faces, _, covered = skirt(chart, rest, skin, 0.15, 0.6, 0.012, 0.02)
    down = below_waist(chart, 0.15)
    legs = np.flatnonzero((down > 0.1) & (down < covered - 0.1) & (chart.arm < 0.1))[::3]
    around = 61
    rows = vertices.shape[1] // around
    k, last = np.arange(around - 1), (rows - 1) * around
    top, low = np.full(around - 1, rows * around), np.full(around - 1, rows * around + 1)
    lids = np.concatenate([np.stack([top, k + 1, k], 1), np.stack([low, k + last, k + last + 1], 1)])
    for frame in range(FRAMES):
        rings = vertices[frame].reshape(rows, around, 3).mean(1)
        closed = np.concatenate([vertices[frame], rings[[0, -1]]])
        axis = rings[np.abs(down[legs, None] - np.linspace(0, 0.6, rows)).argmin(1)]
        inward = axis - skin[frame, legs]
        deeper = skin[frame, legs] + 0.01 * inward / np.linalg.norm(inward, axis=1, keepdims=True)
        turns = _winding(closed, np.concatenate([faces, lids]), deeper)
        assert np.abs(turns - np.round(turns)).max() < 1e-6  # a closed surface, with folds where it bends
        assert (np.abs(turns) > 0.5).mean() >= (1.0, 0.98, 0.95)[frame], frame


def test_a_skirt_rides_up_where_the_legs_are_apart(body, subject, animate):
    """Cloth keeps its width: no ring is longer in a stride than its cut, and the hem rises."""
    chart = chart_of(body)
    rest, skin = subject.vertices.numpy(), animate().vertices.numpy().astype(np.float64)
    length = 1.0
    vertices, _, _, covered = skirt(chart, rest, skin, 0.15, length, 0.01, 0.0)
    rings = vertices.reshape(FRAMES, -1, 61, 3)
    cut, *_ = skirt(chart, rest, rest[None].astype(np.float64), 0.15, length, 0.01, 0.0)
    around, cut = (
        np.linalg.norm(np.diff(v.reshape(-1, *rings.shape[1:]), axis=2), axis=-1).sum(-1)
        for v in (vertices, cut)
    )
    assert around[2, -1] > 1.1 * cut[0, -1]  # it gives way,
    assert (around < 1.1 * cut + 0.25).all()  # but not further
    assert 0.3 * length < covered < 0.95 * length  # the stride, with its legs 70 degrees apart
    bends = np.diff(rings[2], n=2, axis=1)  # along each ring: no spikes
    assert np.linalg.norm(bends, axis=-1).max() < 0.03


def _winding(points, faces, at):
    """Winding number of a closed surface about points (Van Oosterom and Strackee 1983)."""
    a, b, c = (points[faces[:, k]][None] - at[:, None] for k in range(3))
    la, lb, lc = (np.linalg.norm(x, axis=-1) for x in (a, b, c))
    top = (a * np.cross(b, c)).sum(-1)
    low = la * lb * lc + (a * b).sum(-1) * lc + (b * c).sum(-1) * la + (c * a).sum(-1) * lb
    return 2 * np.arctan2(top, low).sum(1) / (4 * np.pi)


@pytest.mark.parametrize(
    "pieces", [{"whole": "", "upper": "hoodie", "lower": "loose trousers"}, {"whole": "gown"}]
)
def test_a_person_is_clothed_and_whole(body, subject, animate, pieces):
    person = dress(
        np.random.default_rng(1), body, subject, animate, 0, pieces | {"feet": "shoes", "hair": "cap"}
    )
    names = [mesh.name for mesh in person.meshes]
    assert len(set(names)) == len(names) and "subject skin" in names and "subject shoes" in names
    skin = person.meshes[0]
    assert 0.1 < len(skin.faces) / len(body.faces) < 0.85  # what is covered is gone
    for mesh in person.meshes:
        assert mesh.person == 0 and mesh.vertices.shape == (FRAMES, len(mesh.uv), 3)
        assert np.isfinite(mesh.vertices).all() and np.isfinite(mesh.uv).all()
        assert mesh.faces.min() >= 0 and mesh.faces.max() < len(mesh.uv)
        assert mesh.vertices.dtype == np.float32 and mesh.faces.dtype == np.int32
        reach = np.linalg.norm(mesh.vertices[:, :, None] - person.skin[:, None, ::40], axis=-1).min(-1)
        assert reach.max() < 0.35, mesh.name  # nothing flies off
    assert 0 <= skin.uv[:, 1].min() and skin.uv[:, 1].max() <= 1  # its picture covers the body once
    assert -0.2 < skin.uv[:, 0].min() and skin.uv[:, 0].max() < 1.2  # and repeats around it


def test_skin_and_hair_are_the_persons_own(body, subject, animate):
    """Two clips of one subject: other clothes, the same skin and hair; another subject has others."""
    one, two = (
        dress(np.random.default_rng(seed), body, subject, animate, 0, {"hair": hair, "upper": "vest"})
        for seed, hair in ((1, "short"), (2, "short"))
    )
    materials = [{m.name: m.material for m in person.meshes} for person in (one, two)]
    for name in ("subject skin", "subject hair"):
        a, b = (m[name] for m in materials)
        assert np.array_equal(a.texture, b.texture) and a.roughness == b.roughness
    a, b = (m["subject upper"].texture for m in materials)
    assert not np.array_equal(a, b)
    seen = ("hair style", "hair colour", "skin tone")
    drawn = [dress(np.random.default_rng(s), body, subject, animate, 0).notes for s in range(3)]
    assert all(notes[key] == drawn[0][key] for notes in drawn for key in seen)
    assert len({str(notes["feet"]) + str(notes.get("lower")) for notes in drawn}) > 1
    other = dress(np.random.default_rng(1), body, replace(subject, seed=8), animate, 0).notes
    assert all(other[key] != drawn[0][key] for key in seen[1:])


def test_cloth_keeps_its_size(body):
    """Length on the texture equals length on the mean body, along the trunk: stripes are as wide as said."""
    chart = chart_of(body)
    piece = cut(chart.faces, upper_field(chart, 0.0, 0.2, 0.0))
    uv = chart.corner_uv(piece)
    arm = np.maximum(chart.arm, chart.leg)
    trunk = (np.maximum(arm[piece.first], arm[piece.second])[piece.faces] < 0.1).all(1)
    rise = piece.apply(chart.rest)[piece.faces][trunk][..., 1]
    np.testing.assert_allclose(np.diff(uv[trunk][..., 1], axis=1), np.diff(rise, axis=1), atol=1e-5)
    assert np.ptp(uv[..., 0], axis=1).max() < 0.3  # no face runs around the whole body


def test_rigid_gives_the_rotation_back():
    rng = np.random.default_rng(0)
    points, turn = rng.normal(size=(9, 3)), cv2.Rodrigues(rng.normal(size=3))[0]
    rotation, shift = rigid(points, (points @ turn.T + [1, 2, 3])[None])
    np.testing.assert_allclose(rotation[0], turn, atol=1e-12)
    np.testing.assert_allclose(shift[0], [1, 2, 3], atol=1e-12)


def _way(rng):
    """Points (T,P,3) of a man-sized cloud that walks a metre."""
    cloud = rng.uniform([-0.3, -0.3, 0], [0.3, 0.3, 1.8], (60, 3))
    return cloud + np.linspace(0, 1, 8)[:, None, None] * [0.8, 0.6, 0]


def _bearing(camera, points):
    middle = 0.5 * (points.min((0, 1)) + points.max((0, 1)))
    flat = (camera.center - middle)[:2]
    return np.arctan2(flat[1], flat[0]), np.linalg.norm(flat)


def test_paper_cameras_stand_as_published():
    rng = np.random.default_rng(0)
    for _ in range(10):
        points, heading = _way(rng), rng.uniform(-3, 3)
        front, side = cameras.paper_cameras(rng, points, heading)
        for camera, degrees in ((front, 0), (side, 90)):
            assert camera.size == (1080, 720)
            assert 1.0 <= camera.center[2] <= 1.2
            assert camera.K[0, 0] == pytest.approx(33 / 36 * 1080, rel=0.021)
            off = np.rad2deg(_bearing(camera, points)[0] - heading)
            off = (off + 180) % 360 - 180
            assert abs(abs(off) - degrees) <= 5.01
            assert cameras.share_in_view(camera, points) >= cameras.IN_VIEW
            assert abs(camera.R[0, 2]) < 1e-9  # level


def test_anywhere_cameras_keep_their_claims():
    rng = np.random.default_rng(1)
    rolls, upright = [], []
    for _ in range(40):
        points = _way(rng)
        pair = cameras.anywhere_cameras(rng, points, ((108, 72), (96, 72)))
        (first, near), (second, far) = (_bearing(camera, points) for camera in pair)
        apart = abs((np.rad2deg(first - second) + 180) % 360 - 180)
        assert 29.9 <= apart <= 150.1
        assert 2 <= min(near, far) and max(near, far) <= 7.001
        for camera in pair:
            assert 0.5 <= camera.center[2] <= 3.0
            assert cameras.share_in_view(camera, points) >= 0.9
            level = np.cross(camera.view_direction, [0, 0, 1.0])
            rolls.append(np.degrees(np.arctan2(-camera.R[1] @ level, camera.R[0] @ level)))
            upright.append(camera.height > camera.width)
            _check_lens(camera)
    assert max(np.abs(rolls)) <= 45.5 and max(np.abs(rolls)) > 25
    assert 0.1 < np.mean(upright) < 0.6


def _check_lens(camera):
    """Every pixel of the picture goes out along a ray and comes back, and OpenCV agrees about the way in."""
    x, y = np.meshgrid(np.linspace(-0.5, camera.width - 0.5, 13), np.linspace(-0.5, camera.height - 0.5, 13))
    pixels = np.stack([x.ravel(), y.ravel()], 1)
    rays = camera.pixels_to_rays(pixels)
    zero = np.zeros(3)
    back = cv2.projectPoints(rays[:, None], zero, zero, camera.K, camera.distortion)[0][:, 0]
    np.testing.assert_allclose(back, pixels, atol=1e-4)
    # one to one: going outwards along a ray of the picture never comes back inwards
    out = np.linspace(0.01, 1.0, 30)[:, None, None] * np.column_stack([rays[:, :2] / rays[:, 2:]])[None]
    seen = camera.directions_to_pixels(np.concatenate([out, np.ones((*out.shape[:2], 1))], -1))
    radius = np.linalg.norm(seen - camera.K[:2, 2], axis=-1)
    assert (np.diff(radius, axis=0) > 0).all()


def test_lights_are_metered_as_the_formula_says():
    """A small lamp straight above: E = L A / d^2."""
    from odah.scenes.scene import AreaLight, Sky

    lamp = AreaLight(np.array([0, 0, 3.0]), np.array([0.01, 0, 0]), np.array([0, -0.01, 0]), np.full(3, 50.0))
    dark = Sky(np.zeros(3), np.zeros(3), np.zeros(3))
    around = rooms.Surroundings((), (lamp,), None, dark, {})
    up, down = np.array([0, 0, 1.0]), np.array([0, 0, -1.0])
    assert rooms.irradiance(around, np.array([0, 0, 1.0]), up) == pytest.approx(50 * 4e-4 / 4, rel=1e-3)
    assert rooms.irradiance(around, np.array([0, 0, 1.0]), down) == 0
    assert rooms.irradiance(around, np.array([0, 0, 4.0]), down) == 0  # it shines down only


def test_a_scene_holds_together(scenes):
    room, field = scenes["room"], scenes["outdoors"]
    for scene in (room, field):
        names = [mesh.name for mesh in scene.meshes]
        assert len(set(names)) == len(names)
        assert {len(mesh.vertices) for mesh in scene.meshes if mesh.person == THING} == {1}
        assert {len(mesh.vertices) for mesh in scene.meshes if mesh.person != THING} == {FRAMES}
        assert len(scene.cameras) == len(scene.exposure) == 2 and all(e > 0 for e in scene.exposure)
    assert room.sun is None and room.lights
    assert not field.lights and field.notes["surroundings"]["kind"] == "outdoors"
    assert {mesh.person for mesh in field.meshes} == {THING, 0}
    assert room.notes["markers"] > 20 and {"markers"} <= {mesh.name for mesh in room.meshes}


def test_walls_look_inwards_and_cameras_are_inside(scenes):
    """From every camera each wall, floor and ceiling shows its front: nothing stands in the way."""
    scene = scenes["room"]
    walls = [
        m
        for m in scene.meshes
        if m.name in ("floor", "ceiling") or m.name.split()[0] == "wall" and len(m.name.split()) == 2
    ]
    assert len(walls) >= 5
    for mesh in walls:
        a, b, c = (mesh.vertices[0][mesh.faces[:, k]].astype(np.float64) for k in range(3))
        out = np.cross(b - a, c - a)
        for point in [camera.center for camera in scene.cameras] + [mesh.vertices[0].mean(0) + out[0] * 1e-3]:
            assert (((point - a) * out).sum(1) > 0).all(), mesh.name


def test_furniture_keeps_clear_of_the_person(scenes):
    scene = scenes["room"]
    person = np.concatenate([m.vertices[..., :2].reshape(-1, 2)[::9] for m in scene.meshes if m.person == 0])
    for mesh in scene.meshes:
        if mesh.name.startswith(("thing", "occluder")):
            corners = mesh.vertices[0][:, :2]
            assert np.linalg.norm(corners[:, None] - person, axis=-1).min() > 0.25, mesh.name


def test_markers_stick_to_the_body(scenes):
    scene = scenes["room"]
    balls = next(mesh for mesh in scene.meshes if mesh.name == "markers")
    worn = np.concatenate([m.vertices for m in scene.meshes if m.person == 0 and m.name != "markers"], 1)
    count = scene.notes["markers"]
    centres = balls.vertices.reshape(FRAMES, count, -1, 3).mean(2)
    gap = np.linalg.norm(centres[:, :, None] - worn[:, None], axis=-1).min(-1)
    assert gap.max() < 0.06  # a coarse mesh has edges of 3 cm and more


def test_the_same_seed_makes_the_same_scene(scenes):
    first, again, other = scenes["outdoors"], scenes["again"], scenes["other"]
    assert first.notes == again.notes and first.notes != other.notes
    assert [m.name for m in first.meshes] == [m.name for m in again.meshes]
    for a, b in zip(first.meshes, again.meshes, strict=True):
        assert np.array_equal(a.vertices, b.vertices) and np.array_equal(
            a.material.texture, b.material.texture
        )
    for a, b in zip(first.cameras, again.cameras, strict=True):
        assert np.array_equal(a.K, b.K) and np.array_equal(a.R, b.R) and np.array_equal(a.t, b.t)


def test_textures_repeat_without_a_seam():
    """The step over the border is no larger than the steps inside."""
    rng = np.random.default_rng(0)
    for name in PATTERNS:
        swatch = cloth(rng, {name: 1.0}, 64)
        assert swatch.material.texture.shape == (64, 64, 3) and swatch.material.texture.dtype == np.uint8
        picture = swatch.material.texture.astype(float)
        for axis in (0, 1):
            inside = np.abs(np.diff(picture, axis=axis)).mean((1 - axis, 2))
            border = np.abs(np.take(picture, 0, axis) - np.take(picture, -1, axis)).mean()
            assert border <= 1.3 * inside.max() + 3, (name, axis)
    for kinds in (FLOORS, GROUNDS, WALLS):
        for name in kinds:
            swatch = surface(rng, {name: kinds[name]}, size=64)
            assert swatch.material.texture.dtype == np.uint8 and 0.2 < swatch.metres < 10, name


@pytest.mark.parametrize(
    "bad",
    [
        {"cameras": "ceiling"},
        {"surroundings": "space"},
        {"sizes": ((8, 720),)},
        {"marker_share": 1.5},
        {"views": 0},
    ],
)
def test_wrong_settings_say_what_is_wrong(bad):
    with pytest.raises(BiokinError, match=next(iter(bad))):
        SceneSettings(**bad)
