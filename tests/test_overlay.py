"""The overlay shows the skeleton where the camera sees it, with its sides told apart."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from pose2sim_biokin.errors import BiokinError
from pose2sim_biokin.meshes import merge_near, posed_bones, posed_surface
from pose2sim_biokin.motion import Motion
from pose2sim_biokin.overlay import (
    COLOURS,
    OUTLINE,
    draw_figure,
    draw_mesh,
    draw_outline,
    mesh_colours,
    stick_figure,
    write_overlay,
)
from pose2sim_biokin.skeleton import load_skeleton
from pose2sim_biokin.vision.camera import Camera
from pose2sim_biokin.vision.crops import look_rotation
from pose2sim_biokin.vision.silhouettes import mask_iou, silhouette


@pytest.fixture(scope="module")
def skeleton():
    return load_skeleton()


@pytest.fixture(scope="module")
def motion(skeleton):
    """A person who stands at world (1, 2) and faces world Y... which is ground X; no pose in frame 1."""
    coordinates = np.zeros((3, len(skeleton.coordinate_names)))
    for name, value in {"pelvis_tx": 2.0, "pelvis_ty": 0.95, "pelvis_tz": 1.0}.items():
        coordinates[:, skeleton.coordinate_index(name)] = value
    coordinates[1] = np.nan
    return Motion(np.arange(3) / 30, coordinates, np.ones((len(skeleton.body_names), 3)), skeleton.name)


def _camera(width=1920, height=1080, distortion=(0.05, -0.02, 0.001, 0.001)):
    """In front of the person: at world (1, 7), looking along -Y."""
    R = look_rotation(np.array([0.0, -1.0, 0.0]))
    center = np.array([1.0, 7.0, 1.0])
    K = np.array([[1200.0, 0, width / 2], [0, 1200.0, height / 2], [0, 0, 1]])
    return Camera("cam01", width, height, K, np.array(distortion), R, -R @ center)


def test_figure_is_a_person_in_the_world(skeleton, motion):
    figure = stick_figure(motion, skeleton)
    point = {name: figure.points[0, i] for i, name in enumerate(figure.names)}
    np.testing.assert_allclose(point["pelvis"], [1.0, 2.0, 0.95], atol=1e-9)
    assert point["head"][2] > point["C7"][2] > point["femur_r"][2] > point["RCAL"][2]
    assert point["nose"][1] > point["head"][1] and point["RTOE"][1] > point["RCAL"][1]  # faces world Y
    assert point["femur_r"][0] > 1 > point["femur_l"][0]  # facing Y, the right side is at larger X
    assert np.isnan(figure.points[1]).all() and np.isfinite(figure.points[[0, 2]]).all()
    sides = {(figure.names[a], figure.names[b]): side for a, b, side in figure.links}
    assert sides[("femur_r", "tibia_r")] == "r" and sides[("talus_l", "LTOE")] == "l"
    assert sides[("pelvis", "torso")] == "" and sides[("RASI", "LASI")] == ""
    mirrored = {"r": "l", "l": "r", "": ""}
    assert sorted(mirrored[s] for s in sides.values()) == sorted(sides.values())


def test_a_model_without_head_and_markers_is_drawn_too(skeleton):
    import Pose2Sim

    path = f"{Pose2Sim.__path__[0]}/OpenSim_Setup/Model_Pose2Sim_simple.osim"
    other = load_skeleton(path)
    shape = (1, len(other.coordinate_names))
    motion = Motion(np.zeros(1), np.zeros(shape), np.ones((len(other.body_names), 3)), path)
    assert len(stick_figure(motion, other).links) > 10


def test_video_shows_bones_where_the_camera_projects_them(tmp_path, skeleton, motion):
    camera, figure = _camera(), stick_figure(motion, skeleton)
    mask = np.zeros((1080, 1920), np.uint8)
    mask[200:900, 700:1200] = 1
    frames = ((row, np.full((1080, 1920, 3), 90, np.uint8)) for row in range(3))
    path = tmp_path / "a.mp4"
    write_overlay(
        path,
        frames,
        camera,
        figure,
        30.0,
        lambda row: mask if row != 2 else None,
        lambda row: "gap" * (row == 1),
    )
    capture = cv2.VideoCapture(str(path))
    images = [capture.read()[1] for _ in range(3)]
    assert not capture.read()[0] and images[0].shape == (540, 960, 3)

    pixels = camera.project(figure.points[0]) / 2 - 1 / 4
    names = list(figure.names)
    for side in "rl":
        middle = (pixels[names.index(f"femur_{side}")] + pixels[names.index(f"tibia_{side}")]) / 2
        x, y = np.round(middle).astype(int)
        patch = images[0][y - 1 : y + 2, x - 1 : x + 2].reshape(-1, 3).mean(axis=0)
        assert np.abs(patch - COLOURS[side]).max() < 70, (side, patch)  # the codec washes colours out
    assert pixels[names.index("femur_r")][0] < pixels[names.index("femur_l")][0]  # seen from the front
    with_outline = np.abs(images[0][225:232, 345:356].astype(int) - OUTLINE).sum(axis=-1).min()
    without = np.abs(images[2][225:232, 345:356].astype(int) - OUTLINE).sum(axis=-1).min()
    assert with_outline < 115 < without
    x, y = np.round(pixels[names.index("tibia_r")]).astype(int)
    assert (
        np.abs(images[1][y - 3 : y + 4, x - 3 : x + 4].astype(int) - 90).max() < 12
    )  # nothing without a pose


def test_small_videos_are_not_enlarged(tmp_path, skeleton, motion):
    camera = _camera(320, 240)
    frames = [(0, np.zeros((240, 320, 3), np.uint8))]
    write_overlay(tmp_path / "a.mp4", frames, camera, stick_figure(motion, skeleton), 30.0)
    capture = cv2.VideoCapture(str(tmp_path / "a.mp4"))
    assert capture.read()[1].shape == (240, 320, 3)


def test_points_behind_the_camera_or_far_away_are_left_out():
    image = np.zeros((100, 100, 3), np.uint8)
    pixels = np.array([[10.0, 10.0], [np.nan, np.nan], [1e9, 5.0], [60.0, 10.0]])
    draw_figure(image, pixels, ((0, 1, "r"), (0, 2, "l")))
    assert not image.any()
    draw_figure(image, pixels, ((0, 3, "r"),))
    assert tuple(image[10, 30]) == COLOURS["r"]


def test_outline_of_a_mask_of_another_size():
    image = np.zeros((60, 80, 3), np.uint8)
    mask = np.zeros((120, 160), bool)
    mask[40:80, 60:100] = True
    draw_outline(image, mask)
    assert image[20:40, 30:50].any() and not image[24:36, 34:46].any() and not image[:16].any()


@pytest.mark.parametrize(("make", "kind"), [(posed_surface, "surface"), (posed_bones, "bones")])
def test_meshes_are_drawn_where_the_person_is_right_in_orange_and_left_in_blue(skeleton, motion, make, kind):
    camera = _camera().scaled(0.5)
    mesh = make(motion, skeleton)
    image = np.zeros((540, 960, 3), np.uint8)
    draw_mesh(image, camera, mesh.vertices(0), mesh.surface.faces, mesh_colours(mesh, kind))
    drawn = image.any(axis=2)
    skin = posed_surface(motion, skeleton)
    outline = silhouette(camera, skin.vertices(0), skin.surface.faces)
    if kind == "surface":
        assert mask_iou(drawn, outline) > 0.93  # OpenCV colours the pixels on edges too
    else:
        assert (drawn & outline).sum() > 0.93 * drawn.sum() and drawn.sum() > 0.2 * outline.sum()
    figure = stick_figure(motion, skeleton)
    points = dict(zip(figure.names, figure.points[0], strict=True))
    for side, orange in (("r", True), ("l", False)):
        shank = 0.5 * (points[f"tibia_{side}"] + points[f"talus_{side}"])
        x, y = np.round(camera.project(shank)).astype(int)
        patch = image[y - 3 : y + 4, x - 12 : x + 13].reshape(-1, 3)
        blue, _, red = patch[patch.any(axis=1)].mean(axis=0)
        assert (red > 1.1 * blue) if orange else (blue > 1.1 * red)
    before = image.copy()
    draw_mesh(image, camera, mesh.vertices(1), mesh.surface.faces, mesh_colours(mesh, kind))
    assert (image == before).all()  # no pose


def test_near_faces_hide_far_ones_and_the_picture_shows_through():
    camera = _camera(distortion=(0.0,)).scaled(0.5)
    square = np.array([[-1.0, 0, -1], [1, 0, -1], [1, 0, 1], [-1, 0, 1]])
    near, far = square * 0.5 + [1, 3, 1], square * 0.5 + [1, 2, 1]
    vertices = np.concatenate([near, far])
    camera_side = np.array([[0, 2, 1], [0, 3, 2]])  # seen from +Y
    faces = np.concatenate([camera_side, camera_side + 4])
    colours = np.array([[0, 0, 200.0]] * 2 + [[200.0, 0, 0]] * 2)
    image = np.full((540, 960, 3), 100, np.uint8)
    draw_mesh(image, camera, vertices, faces, colours, 0.5)
    blue, green, red = image[270, 480]
    assert red > 140 > blue and 45 <= green <= 55
    assert (image[270, 100] == 100).all()
    untouched = np.full((540, 960, 3), 100, np.uint8)
    draw_mesh(untouched, camera, vertices, faces[:, ::-1], colours)
    assert (untouched == 100).all()  # all faces are turned away


def test_a_video_with_the_surface(tmp_path, skeleton, motion):
    camera = _camera()
    frames = [(0, np.full((1080, 1920, 3), 90, np.uint8))]
    write_overlay(
        *(tmp_path / "a.mp4", frames, camera, stick_figure(motion, skeleton), 30.0),
        mesh=posed_surface(motion, skeleton),
        kind="surface",
    )
    image = cv2.VideoCapture(str(tmp_path / "a.mp4")).read()[1]
    skin = posed_surface(motion, skeleton)
    outline = silhouette(camera.scaled(0.5), skin.vertices(0), skin.surface.faces)
    changed = np.abs(image.astype(int) - 90).max(axis=2) > 15
    changed[:100, :200] = False  # the legend
    assert mask_iou(changed, outline) > 0.8


def test_merging_keeps_the_shape():
    grid = np.stack(np.meshgrid(np.arange(11), np.arange(11), indexing="ij"), -1).reshape(-1, 2) * 0.1
    points = np.concatenate([grid, np.zeros((121, 1))], axis=1)
    quads = [
        (i * 11 + j, i * 11 + 11 + j, i * 11 + 12 + j, i * 11 + 1 + j) for i in range(10) for j in range(10)
    ]
    faces = np.array([t for a, b, c, d in quads for t in ((a, b, c), (a, c, d))])
    merged, kept = merge_near(points + 0.001, faces, 0.2)
    assert len(merged) == 36 and len(kept) == 50
    a, b, c = (merged[kept[:, k]] for k in range(3))
    assert np.cross(b - a, c - a)[:, 2].min() > 0  # no face has turned over


def test_a_model_whose_bones_are_not_there(motion, skeleton, monkeypatch, tmp_path):
    from pose2sim_biokin import meshes

    monkeypatch.setattr(meshes, "pose2sim_geometry_dir", lambda: tmp_path)
    with pytest.raises(BiokinError, match="none of the geometry files"):
        posed_bones(motion, skeleton)
    monkeypatch.setattr(meshes, "pose2sim_geometry_dir", lambda: None)
    with pytest.raises(BiokinError, match="OpenSim_Setup/Geometry"):
        posed_bones(motion, skeleton)
