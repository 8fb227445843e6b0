"""The skeleton's fit to keypoints, on poses whose keypoints are known."""

from dataclasses import replace

import pytest
import torch
from figures import SKELETON
from network_poses import LAYOUT, poses

from pose2sim_biokin.errors import BiokinError
from pose2sim_biokin.network.biokin import BiokinNetwork
from pose2sim_biokin.network.checkpoint import load_checkpoint, save_checkpoint
from pose2sim_biokin.network.fit import PoseFit
from pose2sim_biokin.network.heads import Pose
from pose2sim_biokin.network.presets import FAST, PAPER, FitSize


def fit(keypoint_m: float, strength: float = 1.0, iterations: int = 8) -> PoseFit:
    """A fit that expects errors of the keypoints and of 0.15 rad and 5 cm of the head."""
    made = PoseFit(FitSize(iterations, strength), LAYOUT, 44 + len(SKELETON.marker_names))
    made.keypoint_sigma.fill_(keypoint_m)
    made.pose_sigma.fill_(0.15)
    made.pose_sigma[-3:] = 0.05
    return made


def disturbed(truth, seed: int):
    """A head's pose that is off by some degrees and centimetres."""
    torch.manual_seed(seed)
    x = 0.1 * torch.randn(len(truth.constrained), 29)
    x[:, -3:] *= 0.3
    return fit(1.0).moved(truth, x)


def test_exact_keypoints_give_the_pose_back():
    truth = poses(5, 0)
    head = disturbed(truth, 1)
    exact = fit(0.001)
    found = exact(head, exact.points(truth))
    before, after = (exact.difference(pose, truth).abs() for pose in (head, found))
    assert before[:, 9:26].max() > 0.1
    assert after.max() < 1e-2, after.max()
    torch.testing.assert_close(found.scales, truth.scales)


def test_worthless_keypoints_leave_the_head_alone():
    truth = poses(3, 2)
    vague = fit(1000.0)
    found = vague(truth, torch.randn(3, len(vague.keypoint_sigma), 3))
    assert vague.difference(truth, found).abs().max() < 1e-3


def test_one_wild_keypoint_hardly_pulls():
    truth = poses(3, 3)
    fitted = fit(0.02)
    points = fitted.points(truth)
    points[:, SKELETON.body_index("hand_r")] += torch.tensor([1.0, 0.5, 0.0])
    moved = fitted.difference(truth, fitted(truth, points)).abs()
    # A least-squares fit would turn the arm by more than half a radian.
    assert moved.max() < 0.15


def test_keypoints_that_doubt_themselves_hardly_pull():
    """Doubts are factors of the deviation; a keypoint 20 cm off that says so leaves the pose alone."""
    truth = poses(4, 7)
    fitted = fit(0.02)
    points = fitted.points(truth)
    wrist = SKELETON.body_index("hand_r")
    points[:, wrist] += torch.tensor([0.1, 0.1, 0.1])
    doubt = torch.ones(points.shape[:2])
    doubt[2:, wrist] = 100.0
    moved = fitted.difference(truth, fitted(truth, points, None, doubt)).norm(dim=1)
    assert (moved[:2] > 0.02).all() and (moved[2:] < 1e-3).all(), moved
    relative = fit(2.0)(truth, points, None, torch.full(points.shape[:2], 0.01))
    torch.testing.assert_close(relative.constrained, fitted(truth, points).constrained, atol=1e-5, rtol=0)


def test_frames_that_disagree_more_than_usual_are_trusted_less():
    truth = poses(6, 5)
    head = disturbed(truth, 6)
    even = fit(0.02, strength=30.0)
    points = even.points(truth)
    apart = even.disagreement(head, points)
    sure = replace(even.size, usual=float(apart.median()))
    careful = fit(0.02, strength=30.0)
    careful.size = sure
    moves = [one.difference(head, one(head, points)).norm(dim=1) for one in (even, careful)]
    usual = apart <= sure.usual
    assert usual.any() and not usual.all()
    torch.testing.assert_close(moves[1][usual], moves[0][usual])
    assert (moves[1][~usual] < moves[0][~usual]).all()
    # Sixteen times the usual disagreement: keypoints of four times the deviation.
    careful.size = replace(sure, usual=float(apart[0]) / 16)
    vague = fit(0.08, strength=30.0)
    first = [one(Pose(*(p[:1] for p in head)), points[:1]) for one in (careful, vague)]
    torch.testing.assert_close(first[0].constrained, first[1].constrained, atol=1e-4, rtol=0)


def test_angles_beyond_their_range_are_held_back():
    truth = poses(2, 4)
    knee = list(LAYOUT.skeleton.coordinate_names).index("knee_angle_r")
    column = 6  # knee_angle_r among the constrained ones
    low = float(LAYOUT.skeleton.coordinate_ranges[knee, 0])
    angles = truth.constrained.clone()
    angles[:, column] = low - 0.4
    beyond = truth._replace(constrained=angles)
    free, held = fit(0.3, strength=1e-3), fit(0.3, strength=1.0)
    points = free.points(beyond)
    excess = [low - one(beyond, points).constrained[:, column] for one in (free, held)]
    assert (excess[1] < 0.5 * excess[0]).all(), excess


def test_a_checkpoint_keeps_the_fit(tmp_path):
    preset = FAST.override({"refinement": None, "fit": {"strength": 7.0}})
    network = BiokinNetwork(preset, SKELETON)
    network.fit.keypoint_sigma.uniform_(0.01, 0.1)
    save_checkpoint(network, tmp_path / "x.pt", {})
    loaded = load_checkpoint(tmp_path / "x.pt").network
    assert loaded.preset.fit == FitSize(strength=7.0)
    torch.testing.assert_close(loaded.fit.keypoint_sigma, network.fit.keypoint_sigma, atol=1e-4, rtol=1e-3)


def test_a_network_without_keypoints_has_no_fit():
    with pytest.raises(BiokinError, match="keypoints"):
        BiokinNetwork(PAPER.override({"fit": {}}), SKELETON)
