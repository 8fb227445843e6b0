"""Camera: against OpenCV's own projection, and round trips."""

import cv2
import numpy as np
import pytest
from scenes import camera_at

from pose2sim_biokin.vision.camera import Camera

LENSES = {
    "none": ((0, 0, 0, 0), False),
    "four": ((-0.25, 0.11, 0.002, -0.001), False),
    "five": ((-0.3, 0.15, 0.001, 0.002, -0.04), False),
    "eight": ((0.1, -0.05, 0.001, 0.0005, 0.01, 0.2, -0.03, 0.005), False),
    "fisheye": ((0.02, -0.01, 0.003, -0.0005), True),
}


@pytest.mark.parametrize("lens", LENSES)
def test_project_agrees_with_opencv(lens):
    distortion, fisheye = LENSES[lens]
    camera = camera_at((3, -2, 1.5), (0, 0, 1), distortion=distortion, fisheye=fisheye, roll_degrees=90)
    points = np.random.default_rng(0).uniform(-0.8, 0.8, (50, 3)) + (0, 0, 1)
    rvec = cv2.Rodrigues(camera.R)[0]
    if fisheye:
        truth = cv2.fisheye.projectPoints(points[:, None], rvec, camera.t, camera.K, camera.distortion)[0][
            :, 0
        ]
    else:
        truth = cv2.projectPoints(points, rvec, camera.t, camera.K, camera.distortion)[0][:, 0]
    np.testing.assert_allclose(camera.project(points), truth, atol=1e-8)
    assert camera.project(points.reshape(5, 10, 3)).shape == (5, 10, 2)


@pytest.mark.parametrize("lens", LENSES)
def test_rays_invert_the_projection(lens):
    distortion, fisheye = LENSES[lens]
    camera = camera_at((3, -2, 1.5), (0, 0, 1), distortion=distortion, fisheye=fisheye)
    points = np.random.default_rng(1).uniform(-0.8, 0.8, (200, 3)) + (0, 0, 1)
    rays = camera.pixels_to_world_rays(camera.project(points))
    truth = points - camera.center
    truth /= np.linalg.norm(truth, axis=1, keepdims=True)
    np.testing.assert_allclose(rays, truth, atol=1e-10)


def test_centre_direction_and_behind():
    camera = camera_at((3, -2, 1.5), (0, 0, 1.5))
    np.testing.assert_allclose(camera.center, (3, -2, 1.5), atol=1e-12)
    np.testing.assert_allclose(camera.view_direction, np.array([-3, 2, 0]) / np.sqrt(13), atol=1e-12)
    assert np.isnan(camera.project((6, -4, 1.5))).all()
    assert (camera.R @ (0, 0, 1))[1] < 0  # up in the world is up in the picture


def test_skew_is_kept():
    camera = camera_at((3, -2, 1.5), (0, 0, 1))
    K = camera.K.copy()
    K[0, 1] = 12.0
    skewed = Camera("skewed", 1080, 1920, K, (), camera.R, camera.t)
    points = np.random.default_rng(1).uniform(-0.5, 0.5, (20, 3)) + (0, 0, 1)
    homogeneous = skewed.world_to_camera(points) @ K.T
    np.testing.assert_allclose(skewed.project(points), homogeneous[:, :2] / homogeneous[:, 2:], atol=1e-9)
    rays = skewed.pixels_to_world_rays(skewed.project(points))
    np.testing.assert_allclose(np.cross(rays, points - skewed.center), 0, atol=1e-9)


def test_scaled_camera_sees_the_resized_picture():
    camera = camera_at((4, 0, 1), (0, 0, 1), distortion=LENSES["four"][0])
    points = np.random.default_rng(2).uniform(-0.5, 0.5, (20, 3)) + (0, 0, 1)
    np.testing.assert_allclose(
        camera.scaled(0.5).project(points), (camera.project(points) + 0.5) * 0.5 - 0.5, atol=1e-9
    )
    assert camera.scaled(0.5).size == (540, 960)


def test_a_wrong_number_of_coefficients_is_refused():
    with pytest.raises(ValueError, match="fisheye camera has 4"):
        camera_at((4, 0, 1), (0, 0, 1), distortion=(0.1, 0.2, 0, 0, 0.1), fisheye=True)
