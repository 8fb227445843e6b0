"""Silhouettes against closed forms, and against the training package's rasteriser."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pose2sim_biokin.vision.camera import Camera
from pose2sim_biokin.vision.crops import look_rotation
from pose2sim_biokin.vision.masks import PackedMask
from pose2sim_biokin.vision.silhouettes import fill_faces, mask_iou, project_in_field, silhouette


def _camera(center=(4.0, 1.0, 1.2), target=(0.0, 0.0, 0.95), distortion=(0.0,), fisheye=False):
    center = np.asarray(center)
    R = look_rotation(np.asarray(target) - center)
    K = np.array([[420.0, 0, 240], [0, 420.0, 135], [0, 0, 1]])
    return Camera("a", 480, 270, K, np.array(distortion), R, -R @ center, fisheye)


def _ball(center, radius, rows=60, columns=120):
    """A sphere of flat faces, its poles single vertices; faces wind outwards."""
    theta = np.linspace(0, np.pi, rows + 1)[1:-1, None]
    phi = np.linspace(0, 2 * np.pi, columns, endpoint=False)
    ring = np.stack(
        np.broadcast_arrays(np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), np.cos(theta)), -1
    )
    vertices = np.concatenate([ring.reshape(-1, 3), [[0, 0, 1.0], [0, 0, -1.0]]])
    faces = []
    for i in range(rows - 2):
        for j in range(columns):
            a, b = i * columns + j, i * columns + (j + 1) % columns
            faces += [(a, a + columns, b), (b, a + columns, b + columns)]
    top, bottom, last = len(vertices) - 2, len(vertices) - 1, (rows - 2) * columns
    for j in range(columns):
        faces += [(top, j, (j + 1) % columns), (bottom, last + (j + 1) % columns, last + j)]
    return np.asarray(center) + radius * vertices, np.array(faces)


@pytest.mark.parametrize(
    "camera",
    [
        _camera(),
        _camera(distortion=(0.2, -0.1, 0.002, 0.001)),
        _camera(distortion=(0.05, 0.01, 0, 0), fisheye=True),
    ],
)
def test_a_ball_covers_the_rays_that_pass_within_its_radius(camera):
    center, radius = np.array([0.1, 0.2, 0.9]), 0.35
    found = silhouette(camera, *_ball(center, radius))
    y, x = np.mgrid[: camera.height, : camera.width]
    rays = camera.pixels_to_world_rays(np.stack([x, y], -1))
    to_ball = center - camera.center
    distance = np.linalg.norm(np.cross(rays, to_ball), axis=-1)
    truth = (distance < radius) & (rays @ to_ball > 0)
    assert truth.sum() > 3000
    assert mask_iou(found, truth) > 0.995


def test_the_bodys_outline_is_that_of_the_rasteriser():
    from odah.render.rasterizer import rasterize
    from pose2sim_biokin.skeleton import ForwardKinematics, load_skeleton
    from pose2sim_biokin.skeleton.rotations import ground_to_world
    from pose2sim_biokin.skeleton.surface import load_surface

    skeleton = load_skeleton()
    surface, fk = load_surface(skeleton), ForwardKinematics(skeleton)
    q = torch.zeros(1, len(skeleton.coordinate_names))
    for name, value in {
        "pelvis_ty": 0.94,
        "hip_flexion_r": 0.8,
        "knee_angle_r": 1.2,
        "arm_add_l": -1.3,
    }.items():
        q[0, skeleton.coordinate_index(name)] = value
    vertices = ground_to_world(surface.pose(fk(q))).numpy()[0].astype(np.float64)
    for center in ((4.0, 1.0, 1.2), (-2.0, 3.0, 2.5), (0.3, -1.2, 1.0)):  # the last is too near to see all
        camera = _camera(center)
        found = silhouette(camera, vertices, surface.faces)
        local = torch.as_tensor(camera.world_to_camera(vertices))[None].float()
        K = torch.as_tensor(camera.K)[None].float()
        fragments = rasterize(local, torch.as_tensor(surface.faces), K, camera.height, camera.width)
        truth = fragments.mask[0].numpy()
        assert truth.sum() > 2000 and mask_iou(found, truth) > 0.998


def test_pixel_centres_decide_and_only_faces_turned_to_the_camera_count():
    square = np.array([[2.0, 1.0], [5.0, 1.0], [5.0, 3.0], [2.0, 3.0]])
    towards = np.array([[0, 2, 1], [0, 3, 2]])  # counter-clockwise to the viewer, y down
    expected = np.zeros((6, 8), bool)
    expected[1:4, 2:6] = True
    assert (fill_faces(square, towards, 6, 8) == expected).all()
    assert not fill_faces(square, towards[:, ::-1], 6, 8).any()
    assert not fill_faces(square + 0.25, towards, 6, 8)[1].any()
    assert fill_faces(square + 100, towards, 6, 8).sum() == 0
    square[1] = np.nan
    assert fill_faces(square, towards, 6, 8).sum() == 1 + 2 + 4  # the triangle that is left


def test_points_out_of_the_lens_field_are_left_out():
    camera = _camera(distortion=(-0.2, 0.0, 0.0, 0.0))  # folds back far from the centre
    ahead = camera.center + np.array([[0.0, 0, 2], [3.0, 0, 2], [0.0, 0, -2], [0.2, 0.1, 2]]) @ camera.R
    found = project_in_field(camera, ahead)
    assert np.isnan(found[[1, 2]]).all() and np.isfinite(found[[0, 3]]).all()


def test_masks_in_small_pictures_and_at_points():
    mask = np.zeros((60, 80), bool)
    mask[20:40, 10:50] = True
    packed = PackedMask.pack(mask)
    small = packed.shrunk((20, 15))
    expected = np.zeros((15, 20), bool)
    expected[5:10, 2:12] = True  # centres of 4 x 4 blocks fall on pixels 2, 6, 10, ...
    expected[5:10, 12] = False
    assert (small == expected).all()
    points = np.array(
        [[10.0, 20.0], [9.4, 20.0], [49.4, 39.4], [49.6, 30.0], [-1.0, 5.0], [np.nan, 3.0], [79.4, 0]]
    )
    np.testing.assert_array_equal(packed.inside(points), [1, 0, 1, 0, np.nan, np.nan, 0])
    assert np.isnan(mask_iou(np.zeros((2, 2), bool), np.zeros((2, 2), bool)))
    assert mask_iou(mask, np.roll(mask, 10, axis=1)) == pytest.approx(30 / 50)
