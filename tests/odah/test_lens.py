"""Lens distortion of synthetic pictures against Camera.project and OpenCV."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from odah.render.lens import PinholeToLens, pinhole_for, project_through_lens
from pose2sim_biokin.vision.camera import Camera

K = np.array([[210.0, 0, 118.3], [0, 205.0, 92.1], [0, 0, 1]])
LENSES = {
    "barrel": ((-0.28, 0.09, 0.001, -0.002, -0.01), False),
    "pincushion": ((0.15, 0.02), False),
    "fisheye": ((-0.03, 0.01, 0.0, 0.0), True),
    "none": ((), False),
}


def camera(name: str) -> Camera:
    distortion, fisheye = LENSES[name]
    return Camera("c", 240, 180, K, np.array(distortion), np.eye(3), np.zeros(3), fisheye)


@pytest.mark.parametrize("name", LENSES)
def test_a_dot_drawn_by_the_pinhole_arrives_where_the_camera_projects_it(name):
    bent = camera(name)
    pinhole = pinhole_for(bent)
    warp = PinholeToLens(bent, pinhole)
    rng = np.random.default_rng(0)
    for target in rng.uniform([20, 20], [220, 160], (12, 2)):
        point = bent.pixels_to_rays(target) * 3.0
        x, y = pinhole.project(point)
        v, u = np.mgrid[: pinhole.height, : pinhole.width]
        dot = np.exp(-((u - x) ** 2 + (v - y) ** 2) / (2 * 2.5**2)).astype(np.float32)
        seen = warp(dot)
        v, u = np.mgrid[: bent.height, : bent.width]
        found = np.array([(u * seen).sum(), (v * seen).sum()]) / seen.sum()
        assert np.abs(found - bent.project(point)).max() < 0.15  # a round dot's centroid, bent a little


def test_it_is_the_inverse_of_opencv_undistort():
    bent = camera("barrel")
    pinhole = pinhole_for(bent)
    v, u = np.mgrid[: pinhole.height, : pinhole.width].astype(np.float32)
    picture = 0.5 + 0.25 * np.sin(u / 9) + 0.25 * np.cos(v / 11)
    distorted = PinholeToLens(bent, pinhole)(picture.astype(np.float32))
    size = (pinhole.width, pinhole.height)
    maps = cv2.initUndistortRectifyMap(bent.K, bent.distortion, np.eye(3), pinhole.K, size, cv2.CV_32FC1)
    back = cv2.remap(distorted, *maps, cv2.INTER_LINEAR, borderValue=-1)
    inner = (maps[0] > 2) & (maps[0] < bent.width - 3) & (maps[1] > 2) & (maps[1] < bent.height - 3)
    assert inner.mean() > 0.5
    assert np.abs(back - picture)[inner].max() < 0.01


@pytest.mark.parametrize("name", LENSES)
def test_the_pinhole_sees_all_the_camera_sees(name):
    bent = camera(name)
    pinhole = pinhole_for(bent)
    corners = np.array([[-0.5, -0.5], [239.5, -0.5], [-0.5, 179.5], [239.5, 179.5]])
    seen = pinhole.project(bent.pixels_to_rays(corners))
    assert (seen > -0.5).all() and (seen < np.array(pinhole.size) - 0.5).all() or name == "none"
    if name == "none":
        assert pinhole is bent


@pytest.mark.parametrize("name", LENSES)
def test_points_in_the_picture_project_as_the_camera_does_and_others_stay_outside(name):
    bent = camera(name)
    rng = np.random.default_rng(1)
    pixels = rng.uniform([0, 0], [239, 179], (200, 2))
    points = bent.pixels_to_rays(pixels) * rng.uniform(1, 9, (200, 1))
    assert np.abs(project_through_lens(bent, points) - pixels).max() < 1e-6
    # far off the axis a barrel's polynomial comes back; the points must not
    angle = rng.uniform(0, 2 * np.pi, 400)
    slope = bent.field_radius * rng.uniform(1.05, 30, 400)
    outside = np.stack([slope * np.cos(angle), slope * np.sin(angle), np.ones(400)], 1)
    x, y = project_through_lens(bent, outside).T
    assert not ((x > 0) & (x < 239) & (y > 0) & (y < 179)).any()


def test_a_picture_of_another_size_is_refused():
    bent = camera("barrel")
    with pytest.raises(ValueError, match="expected a pinhole picture"):
        PinholeToLens(bent)(np.zeros((180, 240), np.uint8))
    assert PinholeToLens(replace(bent, distortion=np.zeros(0)))(np.ones((2, 2))).shape == (2, 2)
