"""Hull points against ellipsoids in closed form; canonical frames against scenes turned round."""

import numpy as np
import pytest
import torch
from scenes import camera_at, ellipsoid_mask

from pose2sim_biokin.vision.canonical import (
    canonical_frame,
    from_canonical,
    ground_from_canonical_ground,
    points_to_canonical,
    to_canonical,
)
from pose2sim_biokin.vision.crops import mask_to_crop
from pose2sim_biokin.vision.hull import axes_meeting_point, hull_center, sample_hull_points

CENTER, RADII = np.array([1.2, -3.1, 0.95]), np.array([0.3, 0.25, 0.85])


def two_views(angle=90.0, center=CENTER, radii=RADII, size=128, heights=(1.2, 2.0), distances=(4.0, 3.0)):
    """Crop cameras and masks of an ellipsoid, ``angle`` degrees apart, for sample_hull_points (batch 1)."""
    crops, masks = [], []
    for degrees, z, distance in ((20.0, heights[0], distances[0]), (20.0 + angle, heights[1], distances[1])):
        a = np.radians(degrees)
        camera = camera_at(center + (distance * np.cos(a), distance * np.sin(a), z - center[2]), center)
        crop = mask_to_crop(camera, ellipsoid_mask(camera, center, radii), size)
        crops.append(crop)
        masks.append(ellipsoid_mask(crop, center, radii))
    K, R, t = (torch.tensor(np.stack([getattr(c, k) for c in crops])[None]).float() for k in "KRt")
    return crops, torch.tensor(np.stack(masks)[None]), K, R, t


def falls_in(crop, mask, points):
    pixels = crop.project(points).round().astype(int)
    return np.array([mask[y, x] for x, y in pixels])


@pytest.mark.parametrize("angle", [30, 60, 90, 150, 178, 240])
def test_points_fall_in_both_masks_and_centre_on_the_body(angle):
    crops, masks, K, R, t = two_views(angle)
    points, valid, fill = sample_hull_points(masks, K, R, t, 500)
    assert points.shape == (1, 500, 3) and valid.all() and 0.05 < fill.item() <= 1
    for view, crop in enumerate(crops):
        assert falls_in(crop, masks[0, view].numpy(), points[0].numpy().astype(float)).mean() > 0.995
    if 45 < angle < 135:
        # a narrow angle leaves the hull long and its centre less sure
        np.testing.assert_allclose(hull_center(points)[0], CENTER, atol=0.05)


def test_points_are_even_over_each_silhouette_and_along_each_ray():
    crops, masks, K, R, t = two_views(90, heights=(0.95, 0.95), distances=(3.0, 6.0))
    points, _, _ = sample_hull_points(masks, K, R, t, 4000)
    for view, half in enumerate((points[0, :2000], points[0, 2000:])):
        pixels = crops[view].project(half.numpy().astype(float))
        truth = np.argwhere(masks[0, view].numpy())[:, ::-1]
        for axis in (0, 1):
            quantiles = np.linspace(0.05, 0.95, 10)
            difference = np.quantile(pixels[:, axis], quantiles) - np.quantile(truth[:, axis], quantiles)
            assert np.abs(difference).max() < 1.5
    # near the middle, where rays pass square through the body, depths fill it evenly
    camera = points[0, :2000].numpy() @ crops[0].R.T + crops[0].t
    pixels = crops[0].project(points[0, :2000].numpy().astype(float))
    depth = camera[np.hypot(*(pixels - 63.5).T) < 8, 2]
    depth = depth - (crops[0].R @ CENTER + crops[0].t)[2]
    assert len(depth) > 60
    width = RADII[:2].max()
    np.testing.assert_allclose(np.quantile(depth, (0.25, 0.5, 0.75)), (-width / 2, 0, width / 2), atol=0.05)


def test_thin_limbs_get_their_share():
    """A trunk with a flat disc held out: little volume, but a good part of the silhouettes."""
    crops, masks, K, R, t = two_views(90, heights=(0.95, 0.95))
    arm_center, arm = CENTER + (0.35, -0.35, 0.3), np.array([0.3, 0.3, 0.04])
    for view, crop in enumerate(crops):
        masks[0, view] |= torch.tensor(ellipsoid_mask(crop, arm_center, arm))
    points, _, _ = sample_hull_points(masks, K, R, t, 500)
    outside = np.linalg.norm((points[0].numpy() - CENTER) / RADII, axis=1) > 1.3
    assert outside.mean() > 0.05


def test_view_order_does_not_matter_but_for_noise():
    _, masks, K, R, t = two_views(70)
    first, _, _ = sample_hull_points(masks, K, R, t, 4000)
    second, _, _ = sample_hull_points(masks.flip(1), K.flip(1), R.flip(1), t.flip(1), 4000)
    assert (hull_center(first) - hull_center(second)).norm() < 0.02
    assert (first.std(1) - second.std(1)).abs().max() < 0.02


def test_deterministic_and_independent_of_the_batch():
    _, masks, K, R, t = two_views(90)
    _, masks2, K2, R2, t2 = two_views(50)
    alone, _, _ = sample_hull_points(masks, K, R, t, 300, seed=3)
    again, _, _ = sample_hull_points(masks.float()[:, :, None], K, R, t, 300, seed=3)
    pair, _, _ = sample_hull_points(
        torch.cat([masks2, masks]), torch.cat([K2, K]), torch.cat([R2, R]), torch.cat([t2, t]), 300, seed=3
    )
    assert torch.equal(alone, again)
    assert torch.allclose(pair[1], alone[0], atol=1e-5)
    other, _, _ = sample_hull_points(masks, K, R, t, 300, seed=4)
    assert not torch.equal(alone, other)
    drawn, _, _ = sample_hull_points(masks, K, R, t, 300, generator=torch.Generator().manual_seed(3))
    assert torch.equal(drawn, alone)


def test_small_hulls_repeat_and_empty_ones_are_flagged():
    _, masks, K, R, t = two_views(90, heights=(0.95, 0.95))
    beside = torch.zeros_like(masks)  # two bands that meet in a sliver only
    beside[0, 0, 20:64] = beside[0, 1, 63:100] = True
    points, valid, fill = sample_hull_points(beside & masks, K, R, t, 500)
    distinct = len(torch.unique(points[0], dim=0))
    assert 1 <= distinct < 500 and valid.item() == (distinct >= 25) and fill < 0.2
    empty = masks.clone()
    empty[:, 1] = False
    points, valid, fill = sample_hull_points(empty, K, R, t, 500)
    assert not valid.any() and fill.item() == 0 and torch.isfinite(points).all()
    np.testing.assert_allclose(points[0, 0], CENTER, atol=0.1)  # where the crops look
    for view in (0, 1):
        nothing = torch.zeros_like(masks)
        nothing[:, view] = masks[:, view]
        assert torch.isfinite(sample_hull_points(nothing, K, R, t, 50)[0]).all()


def test_axes_meet_at_the_body():
    _, _, _, R, t = two_views(80)
    np.testing.assert_allclose(axes_meeting_point(R, t)[0], CENTER, atol=0.1)


def test_canonical_frame_keeps_projections_and_inverts():
    crops, masks, K, R, t = two_views(90)
    points, _, _ = sample_hull_points(masks, K, R, t, 200)
    frame = canonical_frame(hull_center(points), R[:, 0])
    R2, t2, points2 = to_canonical(frame, R, t, points)
    before = R @ points[:, None].transpose(-1, -2) + t[..., None]
    after = R2 @ points2[:, None].transpose(-1, -2) + t2[..., None]
    torch.testing.assert_close(before, after, atol=2e-5, rtol=0)
    torch.testing.assert_close(from_canonical(frame, points2), points, atol=1e-5, rtol=0)
    assert hull_center(points2).norm() < 1e-5
    direction = R2[0, 0, 2]  # the first view looks along +X of the canonical frame, but for its pitch
    assert abs(direction[1]) < 1e-6 and direction[0] > 0.5
    # ground axes: the same turn seen through the permutation ground (X, Y, Z) = world (Y, Z, X)
    rotation, translation = ground_from_canonical_ground(frame)
    ground = points2[..., [1, 2, 0]] @ rotation.transpose(-1, -2) + translation[:, None]
    torch.testing.assert_close(ground, points[..., [1, 2, 0]], atol=1e-5, rtol=0)


def test_canonical_input_does_not_know_where_the_room_is():
    """The whole scene turned about the vertical and moved: the network sees the same numbers."""
    crops, masks, K, R, t = two_views(90)
    angle = 1.234
    c, s = np.cos(angle), np.sin(angle)
    turn = torch.tensor([[c, -s, 0], [s, c, 0], [0, 0, 1]]).float()
    move = torch.tensor([5.0, -7.0, 0.4])
    R_moved = R @ turn.T
    t_moved = t - (R_moved @ move[:, None])[..., 0]
    results = []
    for rotations, translations in ((R, t), (R_moved, t_moved)):
        points, _, _ = sample_hull_points(masks, K, rotations, translations, 200)
        frame = canonical_frame(hull_center(points), rotations[:, 0])
        results.append(to_canonical(frame, rotations, translations, points))
    for one, two in zip(*results, strict=True):
        torch.testing.assert_close(one, two, atol=2e-4, rtol=0)


def test_canonical_frame_under_a_camera_that_looks_straight_down():
    R = torch.tensor([[[1.0, 0, 0], [0, -1, 0], [0, 0, -1]]])
    frame = canonical_frame(torch.zeros(1, 3), R)
    torch.testing.assert_close(frame.rotation[0, :, 0], torch.tensor([0.0, 1, 0]))
    point = torch.tensor([[[1.0, 2, 3]]])
    torch.testing.assert_close(from_canonical(frame, points_to_canonical(frame, point)), point)
