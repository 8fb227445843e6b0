"""The closer look at the hands: where patches are cut, sides, how views are joined, what the fit does."""

import numpy as np
import pytest
import torch
from figures import SKELETON
from network_poses import LAYOUT, poses

from pose2sim_biokin.errors import BiokinError
from pose2sim_biokin.network.biokin import FrameEncoder
from pose2sim_biokin.network.fit import PoseFit
from pose2sim_biokin.network.hands import (
    HandDirections,
    HandLook,
    HandTurns,
    across,
    cut_patches,
    hand_patches,
    join_views,
    wrist_sides,
)
from pose2sim_biokin.network.points import project
from pose2sim_biokin.network.presets import FAST, FitSize
from pose2sim_biokin.skeleton.angles import CONSTRAINED
from pose2sim_biokin.skeleton.mirror import mirror_cameras
from pose2sim_biokin.skeleton.rotations import ground_to_world

SIDE, REACH = 40, 0.22
SIZE = 128


def views(count: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """K, R, t of two cameras a pair, 3 m from the origin and looking at it, the second from the side."""
    rng = np.random.default_rng(seed)
    K = np.array([[180.0, 0, 63.5], [0, 180.0, 63.5], [0, 0, 1]])
    R = np.empty((count, 2, 3, 3))
    for i in range(count):
        for v, heading in enumerate((rng.uniform(0, 6), rng.uniform(0, 6))):
            z = np.array([np.cos(heading), np.sin(heading), -0.2])
            z /= np.linalg.norm(z)
            x = np.cross(z, [0, 0, 1.0])
            x /= np.linalg.norm(x)
            R[i, v] = [x, np.cross(z, x), z]
    t = np.tile([0, 0, 3.0], (count, 2, 1))
    return tuple(torch.as_tensor(a, dtype=torch.float32) for a in (np.tile(K, (count, 2, 1, 1)), R, t))


def arms(count: int, seed: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    """Elbows and wrists (B, 2, 3)."""
    generator = torch.Generator().manual_seed(seed)
    elbows = 0.5 * torch.randn(count, 2, 3, generator=generator)
    way = torch.nn.functional.normalize(torch.randn(count, 2, 3, generator=generator), dim=-1)
    return elbows, elbows + 0.25 * way


def test_a_forearm_runs_to_the_right_through_the_middle_of_its_patch():
    cameras, (elbows, wrists) = views(6), arms(6)
    found = hand_patches(elbows, wrists, *cameras, SIDE, REACH)
    for arm in range(2):
        line = torch.stack([elbows[:, arm] + s * (wrists - elbows)[:, arm] for s in (0.7, 0.9, 1.15, 1.4)], 1)
        pixels = project(line, *cameras)  # (B, 2, 4, 2)
        # Which place of the patch shows each of them: the nearest in the picture, at a tenth of a pixel.
        fine = hand_patches(elbows, wrists, *cameras, 400, REACH).pixels[:, :, arm].flatten(2, 3)
        nearest = (fine[:, :, None] - pixels[:, :, :, None]).norm(dim=-1).argmin(-1)
        row, column = nearest // 400, nearest % 400
        seen = found.axis[:, :, arm, 0] > 0.3  # of those that do not point at the camera
        assert seen.sum() >= 6
        assert (row[seen] - 199.5).abs().max() <= 2
        assert ((column[seen][:, 1:] - column[seen][:, :-1]) > 5).all()
        assert (column[seen][:, 2].float() - 199.5).abs().max() <= 2  # the middle of the patch


def test_a_patch_shows_what_lies_where_it_was_cut():
    """Pictures whose values are their own pixel coordinates: what is cut out is where it was cut."""
    cameras, (elbows, wrists) = views(3), arms(3)
    wrists, elbows = 0.3 * wrists, 0.3 * elbows  # well inside the pictures
    y, x = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    pictures = torch.stack([x, y]).float().expand(3, 2, 2, SIZE, SIZE)
    pixels = hand_patches(elbows, wrists, *cameras, SIDE, REACH).pixels
    cut = cut_patches(pictures, pixels)
    assert cut.shape == (3, 2, 2, 2, SIDE, SIDE)
    torch.testing.assert_close(cut.movedim(3, -1), pixels, atol=1e-3, rtol=0)
    # the patch is so large that a point `reach` above its middle, at the hand's distance, is on its edge
    middle = elbows + 1.15 * (wrists - elbows)
    size_px = (pixels[..., 0, :, :] - pixels[..., -1, :, :]).norm(dim=-1).mean(-1) * SIDE / (SIDE - 1)
    away = (middle[:, None] @ cameras[1].transpose(-1, -2) + cameras[2][:, :, None]).norm(dim=-1)
    np.testing.assert_allclose(size_px, 2 * REACH * 180 / away, rtol=0.1)


def test_a_left_hand_is_read_as_the_right_one_in_a_mirror():
    torch.manual_seed(0)
    look = HandLook(FAST.hands, SKELETON).eval()
    cameras = views(4)
    keypoints = ground_to_world(torch.randn(4, 44 + len(SKELETON.marker_names), 3))
    images, masks = torch.randn(4, 2, 3, SIZE, SIZE), torch.rand(4, 2, 1, SIZE, SIZE).round()
    flip = torch.tensor([-1.0, 1.0, 1.0])
    mirrored = [torch.from_numpy(a) for a in mirror_cameras(*(a.numpy() for a in cameras), SIZE)]
    other = keypoints.clone()
    for bodies in ("ulna", "hand"):
        r, left = (SKELETON.body_index(f"{bodies}_{side}") for side in "rl")
        other[:, [r, left]] = keypoints[:, [left, r]]
    for name in ("LEL", "MEL", "FAradius", "FAulna"):
        r, left = (44 + SKELETON.marker_index(side + name) for side in "RL")
        other[:, [r, left]] = keypoints[:, [left, r]]
    with torch.no_grad():
        here = look(images, masks, cameras, keypoints)
        there = look(images.flip(-1), masks.flip(-1), mirrored, other * flip)
    torch.testing.assert_close(there.mean, here.mean.flip(2), atol=2e-3, rtol=0)
    torch.testing.assert_close(there.concentration, here.concentration.flip(2), atol=2e-3, rtol=0)
    for one, two in zip(there[2:], here[2:], strict=True):
        in_mirror = ground_to_world(two.flip(2)) * flip
        torch.testing.assert_close(ground_to_world(one), in_mirror, atol=1e-4, rtol=0)


def test_views_are_joined_as_their_densities_multiply():
    """Against the product of both densities on a fine grid of angles."""
    rng = np.random.default_rng(3)
    axis = np.array([0.6, 0.0, 0.8])
    base = [np.array([0.0, 1.0, 0.0]), np.cross(axis, [0.0, 1.0, 0.0])]

    def at(angle):
        return np.cos(angle)[..., None] * base[0] + np.sin(angle)[..., None] * base[1]

    tilt, mean, k = rng.uniform(-3, 3, (2, 2)), rng.uniform(-3, 3, (2, 2)), rng.uniform(0.5, 6, (2, 2))
    parts = (np.stack([np.cos(mean), np.sin(mean)], -1), k, at(tilt), np.cross(axis, at(tilt)))
    joined = join_views(HandTurns(*(torch.from_numpy(part)[None] for part in parts)))
    grid = np.linspace(-np.pi, np.pi, 20001)
    for arm in range(2):
        log = sum(k[v, arm] * np.cos(grid - tilt[v, arm] - mean[v, arm]) for v in range(2))
        np.testing.assert_allclose(joined.direction[0, arm], at(grid[log.argmax()]), atol=1e-3)
        np.testing.assert_allclose(joined.concentration[0, arm], (log.max() - log.min()) / 2, atol=1e-3)
        np.testing.assert_allclose(joined.axis[0, arm], axis, atol=1e-6)


@pytest.mark.parametrize("hands", [True, False])
def test_the_fit_turns_forearms_to_the_hands_that_were_seen(hands):
    """The markers of the wrists and hands say nothing here; the forearms are half a radian off."""
    truth = poses(4, 5)
    columns = [CONSTRAINED.index(f"pro_sup_{side}") for side in "rl"]
    truth.constrained[:, columns] = 0.6
    head = truth._replace(constrained=truth.constrained.clone())
    head.constrained[:, columns] += torch.tensor([0.5, -0.5])
    fit = PoseFit(FitSize(8, 1.0), LAYOUT, 44 + len(SKELETON.marker_names), hands)
    fit.pose_sigma.fill_(0.02)
    fit.pose_sigma[[9 + column for column in columns]] = 0.5
    fit.keypoint_sigma.fill_(0.01)
    names = [f"{a}{b}" for a in "RL" for b in ("FAradius", "FAulna")]
    fit.keypoint_sigma[[44 + SKELETON.marker_index(name) for name in names]] = 1000.0
    bodies = [SKELETON.body_index(f"{part}_{side}") for part in ("radius", "hand") for side in "rl"]
    fit.keypoint_sigma[[22 + body for body in bodies]] = 1000.0
    points = fit.points(truth)
    seen = None
    if hands:
        fit.hand_sigma.fill_(0.5)
        elbow, wrist = ([SKELETON.body_index(f"{part}_{side}") for side in "rl"] for part in ("ulna", "hand"))
        axis = torch.nn.functional.normalize(points[:, wrist] - points[:, elbow], dim=-1)
        direction = across(wrist_sides(points, SKELETON), axis)
        seen = HandDirections(direction, axis, torch.full((4, 2), 100.0))
    error = (fit(head, points, seen).constrained - truth.constrained)[:, columns].abs()
    if hands:
        assert error.max() < 0.03
    else:
        assert error.min() > 0.3


def test_hands_need_keypoints_with_markers():
    preset = FAST.override({"points": {"markers": False}})
    with pytest.raises(BiokinError, match="hands.*points.markers"):
        FrameEncoder(preset, SKELETON)


def test_patches_are_cut_at_the_same_place_under_autocast():
    cameras, (elbows, wrists) = views(3), arms(3)
    wanted = hand_patches(elbows, wrists, *cameras, SIDE, REACH)
    with torch.autocast("cpu", torch.bfloat16):
        found = hand_patches(elbows, wrists, *cameras, SIDE, REACH)
    for part, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(part, other, atol=0, rtol=0)
