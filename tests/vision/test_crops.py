"""Crop cameras: exact reprojection, level, the silhouette fits, pictures agree with direct rendering."""

import cv2
import numpy as np
import pytest
from scenes import camera_at, ellipsoid_mask

from pose2sim_biokin.vision.crops import (
    _quick_map,
    boundary_to_crop,
    crop_map,
    directions_to_crop,
    mask_outline,
    mask_to_crop,
    warp_to_crop,
)

CENTER, RADII = np.array([0.2, -0.1, 0.95]), np.array([0.3, 0.25, 0.85])
SETUPS = {
    "plain": {},
    "distorted": {"distortion": (-0.25, 0.11, 0.002, -0.001, -0.02)},
    "on its side": {"distortion": (-0.25, 0.11, 0.002, -0.001), "roll_degrees": 90, "size": (1920, 1080)},
    "upside down": {"roll_degrees": 183},
    "fisheye": {"distortion": (0.02, -0.01, 0.003, -0.0005), "fisheye": True, "focal": 900.0},
}


@pytest.fixture(params=SETUPS)
def camera(request):
    return camera_at((3.5, 1.5, 1.7), CENTER + (0.3, -0.2, 0.1), **SETUPS[request.param])


def test_reprojection_is_exact(camera):
    crop = mask_to_crop(camera, ellipsoid_mask(camera, CENTER, RADII), 128)
    points = np.random.default_rng(0).uniform(-1, 1, (300, 3)) * RADII * 0.6 + CENTER
    # source pixel -> ray -> crop camera, against the direct projection into the crop camera
    rays = camera.pixels_to_world_rays(camera.project(points))
    through = crop.project(camera.center + rays)
    np.testing.assert_allclose(through, crop.project(points), atol=1e-6)
    np.testing.assert_allclose(crop.center, camera.center, atol=1e-12)
    # and the map that warps the picture is the inverse of it: sampled at whole crop pixels
    mapping = crop_map(camera, crop)
    u, v = 40, 90
    ray = np.linalg.solve(crop.K, (u, v, 1)) @ crop.R
    np.testing.assert_allclose(mapping[v, u], camera.project(camera.center + ray * 3), atol=1e-6)


def test_the_map_in_use_is_the_exact_one(camera):
    mask = ellipsoid_mask(camera, CENTER, RADII)
    for size in (64, 128, 255):
        crop = mask_to_crop(camera, mask, size)
        exact = crop_map(camera, crop)
        spacing = np.median(np.linalg.norm(np.diff(exact, axis=0), axis=-1))
        assert np.abs(_quick_map(camera, crop) - exact).max() < 0.02 * spacing


def test_level_and_fitting(camera):
    size, margin = 128, 1.1
    crop = mask_to_crop(camera, ellipsoid_mask(camera, CENTER, RADII), size, margin)
    assert abs(crop.R[0, 2]) < 1e-12 and crop.R[1, 2] < 0  # x axis horizontal, world up is up in the picture
    direct = ellipsoid_mask(crop, CENTER, RADII)
    rows, columns = np.flatnonzero(direct.any(1)), np.flatnonzero(direct.any(0))
    assert abs(len(rows) - size / margin) <= 2  # the longer side fills the square but for the margin
    assert abs((rows[0] + rows[-1]) / 2 - (size - 1) / 2) <= 1
    assert abs((columns[0] + columns[-1]) / 2 - (size - 1) / 2) <= 1


def test_warped_mask_is_the_rendered_one(camera):
    mask = ellipsoid_mask(camera, CENTER, RADII)
    crop = mask_to_crop(camera, mask, 128)
    image = np.repeat(mask[..., None].astype(np.uint8) * 200, 3, axis=2)
    warped_image, warped = warp_to_crop(camera, crop, image, mask)
    direct = ellipsoid_mask(crop, CENTER, RADII)
    assert warped.dtype == np.uint8 and set(np.unique(warped)) == {0, 1}
    assert (warped != direct).mean() < 0.004
    assert warped_image.shape == (128, 128, 3)
    assert np.abs(warped_image[..., 0] / 200 - direct).mean() < 0.01


def test_smooth_pictures_survive_the_warp(camera):
    """A picture painted with a function of the viewing direction is that function in the crop as well."""
    mask = ellipsoid_mask(camera, CENTER, RADII)
    crop = mask_to_crop(camera, mask, 128)

    def paint(directions):
        directions = directions / np.linalg.norm(directions, axis=-1, keepdims=True)
        return 127 + 60 * np.sin(9 * directions[..., 0] + 2) + 60 * np.cos(11 * directions[..., 2])

    u, v = np.meshgrid(np.arange(0, camera.width, 4.0), np.arange(0, camera.height, 4.0))
    values = paint(camera.pixels_to_world_rays(np.stack([u, v], -1)))
    u, v = np.meshgrid(np.arange(camera.width), np.arange(camera.height))
    values = cv2.remap(values.astype(np.float32), (u / 4).astype(np.float32), (v / 4).astype(np.float32), 1)
    image = np.repeat(values.round().clip(0, 255).astype(np.uint8)[..., None], 3, axis=2)
    warped, _ = warp_to_crop(camera, crop, image, mask)
    u, v = np.meshgrid(np.arange(128.0), np.arange(128.0))
    truth = paint(np.stack([u, v, np.ones_like(u)], -1) @ np.linalg.inv(crop.K).T @ crop.R)
    inside = warped[..., 0] > 0
    assert inside.mean() > 0.7
    difference = np.abs(warped[..., 0] - truth)[16:-16, 16:-16][inside[16:-16, 16:-16]]
    assert np.percentile(difference, 99) < 2.0


def test_vertices_and_mask_give_the_same_crop():
    """Training crops around projected mesh vertices, inference around the mask: they must agree."""
    camera = camera_at((3.5, 1.5, 1.7), CENTER)
    sphere = np.random.default_rng(3).normal(size=(20000, 3))
    vertices = sphere / np.linalg.norm(sphere, axis=1, keepdims=True) * RADII + CENTER
    by_vertices = directions_to_crop(camera.center, vertices - camera.center, 128)
    by_mask = mask_to_crop(camera, ellipsoid_mask(camera, CENTER, RADII), 128)
    np.testing.assert_allclose(by_vertices.R, by_mask.R, atol=1e-3)
    assert abs(by_vertices.K[0, 0] / by_mask.K[0, 0] - 1) < 5e-3


def test_looking_straight_down_keeps_the_source_axes():
    camera = camera_at((0, 0, 5), (0, 0, 0), roll_degrees=35)
    mask = np.zeros((camera.height, camera.width), bool)
    x, y = camera.project((0, 0, 0)).round().astype(int)
    mask[y - 50 : y + 51, x - 30 : x + 31] = True
    crop = mask_to_crop(camera, mask, 64)
    assert np.degrees(np.arccos(np.clip(crop.R[0] @ camera.R[0], -1, 1))) < 1


def test_person_cut_by_the_picture_border():
    camera = camera_at((3.5, 1.5, 1.7), CENTER)
    mask = np.zeros((camera.height, camera.width), bool)
    mask[1500:, :300] = True
    image = np.full((camera.height, camera.width, 3), 255, np.uint8)
    warped, cover = warp_to_crop(camera, mask_to_crop(camera, mask, 64), image, mask)
    assert cover.any() and (warped == 0).any() and (warped == 255).any()


def test_outline_holds_the_box_and_empty_masks_are_refused():
    mask = np.zeros((50, 60), bool)
    mask[10:20, 30:50] = True
    outline = mask_outline(mask)
    np.testing.assert_array_equal(outline.min(0), (30, 10))
    np.testing.assert_array_equal(outline.max(0), (49, 19))
    camera = camera_at((3.5, 1.5, 1.7), CENTER)
    with pytest.raises(ValueError, match="empty mask"):
        mask_to_crop(camera, np.zeros((1920, 1080), bool), 64)
    with pytest.raises(ValueError, match="finite"):
        directions_to_crop(camera.center, np.full((3, 3), np.nan), 64)
    with pytest.raises(ValueError, match="wide"):
        directions_to_crop(camera.center, np.array([[1.0, 0, 0], [-1, 0, 0.1]]), 64)
    assert boundary_to_crop(camera, outline, 64).size == 64
