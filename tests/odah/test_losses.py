"""The paper's loss terms against values worked out by hand."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import vonmises

from odah.losses import (
    FAST_WEIGHTS,
    PAPER_WEIGHTS,
    FrameLoss,
    angle_loss,
    doubt_loss,
    hand_loss,
    heatmap_loss,
    posed_keypoints,
    position_loss,
    range_loss,
    rotation_loss,
    scale_loss,
)
from pose2sim_biokin.network.hands import HandTurns
from pose2sim_biokin.network.heads import AngleLayout, Pose
from pose2sim_biokin.skeleton import load_skeleton
from pose2sim_biokin.skeleton.angles import angles_to_coordinates
from pose2sim_biokin.skeleton.kinematics import ForwardKinematics
from pose2sim_biokin.skeleton.rotations import axis_angle_to_matrix

LAYOUT = AngleLayout(load_skeleton())


def test_angle_loss_free_by_cosine_and_sine_constrained_by_difference():
    truth = torch.zeros(2, 36)
    angles = truth.clone()
    angles[0, LAYOUT.free[0]] = math.pi / 2  # |cos| differs by 1, |sin| by 1: 2 of 18 terms
    assert angle_loss(angles, truth, LAYOUT).item() == pytest.approx(2 / 18)
    angles[0, LAYOUT.free[0]] = 2 * math.pi  # a full turn is no error
    assert angle_loss(angles, truth, LAYOUT).item() == pytest.approx(0, abs=1e-6)
    angles[0, LAYOUT.free[0]] = 0
    angles[1, LAYOUT.constrained[3]] = -0.34  # |-0.34| of 2 x 17
    assert angle_loss(angles, truth, LAYOUT).item() == pytest.approx(0.34 / 34)
    others = sorted(set(range(36)) - set(LAYOUT.free.tolist()) - set(LAYOUT.constrained.tolist()))
    angles = truth.clone()
    angles[:, others] = 1.0  # locked and coupled ones do not count
    assert len(others) == 10 and angle_loss(angles, truth, LAYOUT).item() == 0


def test_scale_and_rotation_loss():
    scales = torch.ones(1, 22, 3)
    scales[0, 4, 1] = 1.66
    assert scale_loss(scales, torch.ones(1, 22, 3)).item() == pytest.approx(0.66 / 66)
    half_turn = torch.diag(torch.tensor([-1.0, 1, -1]))
    assert rotation_loss(half_turn, torch.eye(3)).item() == pytest.approx(4 / 9)


def test_range_loss():
    low, high = torch.full((17,), -0.5), torch.full((17,), 1.0)
    angles = torch.zeros(1, 17)
    assert range_loss(angles, low, high).item() == 0
    angles[0, 0], angles[0, 1] = 1.3, -0.6
    expected = abs(math.cos(1.3) - math.cos(1)) + abs(math.sin(1.3) - math.sin(1))
    expected += abs(math.cos(0.6) - math.cos(0.5)) + abs(math.sin(0.6) - math.sin(0.5))
    assert range_loss(angles, low, high).item() == pytest.approx(expected / 17, rel=1e-5)


def test_hand_loss_is_that_of_von_mises():
    """The wrists lie somewhere in the plane of each view's own pair of directions."""
    rng = np.random.default_rng(0)
    x, mean = rng.uniform(-4, 4, (2, 5, 2, 2))
    k = rng.uniform(0.1, 30, (5, 2, 2))
    turn = rng.uniform(-3, 3, (5, 2, 2))
    turn[:, 1] = turn[:, 0] + x[:, 0] - x[:, 1]  # both views see one wrist

    def at(angle):
        return np.stack([np.cos(angle), np.sin(angle), 0 * angle], -1)

    first, second = at(turn), at(turn + np.pi / 2)
    sides = 0.07 * at(turn + x)[:, 0] + [0, 0, 0.02]  # not quite square to the forearm
    parts = (np.stack([np.cos(mean), np.sin(mean)], -1), k, first, second)
    found = hand_loss(HandTurns(*map(torch.from_numpy, parts)), torch.from_numpy(sides))
    assert found.item() == pytest.approx(-vonmises.logpdf(x, k, loc=mean).mean())


def test_doubt_loss_is_that_of_a_density_in_space():
    """Up to a constant: numerically, exp(-r / b) / b^3 has the same integral over space for each b."""
    r = torch.linspace(0, 3, 30001, dtype=torch.float64)[None]
    for b in (0.01, 0.03, 0.1):
        nll = torch.stack([doubt_loss(torch.tensor([[b]]), d[None]) for d in r.T[::10]])
        density = (-nll).exp() * 4 * math.pi * r[0, ::10] ** 2
        mass = torch.trapezoid(density, r[0, ::10]).item()
        assert mass == pytest.approx(8 * math.pi * math.e * 0.01**3, rel=2e-3)
    distance = torch.rand(1, 4000, dtype=torch.float64) * 0.1
    steps = torch.linspace(0.005, 0.05, 451, dtype=torch.float64)
    values = [doubt_loss(step.expand(1, 4000), distance) for step in steps]
    best = steps[int(torch.stack(values).argmin())]
    assert best.item() == pytest.approx(distance.mean().item() / 3, rel=0.02)


def test_position_loss_is_relative_to_the_pelvis():
    truth = torch.randn(2, 44, 3)
    assert position_loss(truth + torch.tensor([3.0, -1, 2]), truth).item() == pytest.approx(0, abs=1e-6)
    moved = truth.clone()
    moved[0, 7, 2] += 0.264
    assert position_loss(moved, truth).item() == pytest.approx(0.264 / (2 * 44 * 3), rel=1e-4)


def test_posed_keypoints_follow_the_rotations_too():
    layout = AngleLayout(LAYOUT.skeleton).double()
    kinematics = ForwardKinematics(layout.skeleton, torch.float64)
    rng = torch.Generator().manual_seed(3)
    turns = torch.randn(2, 3, 3, generator=rng, dtype=torch.float64)
    bent = torch.randn(2, 17, generator=rng, dtype=torch.float64).tanh()
    angles = layout.middle + 0.4 * layout.reach * bent
    scales = 1 + 0.1 * torch.rand(2, 22, 3, generator=rng, dtype=torch.float64)

    def posed(turns, angles) -> Pose:
        return Pose(axis_angle_to_matrix(turns), angles, scales, None)

    # values: the kinematics' own, of the angles
    coordinates = angles_to_coordinates(layout.angles(posed(turns, angles)), layout.skeleton)
    frames = kinematics(coordinates, scales)
    wanted = kinematics.keypoints(frames, scales) - frames.position[:, :1]
    torch.testing.assert_close(posed_keypoints(posed(turns, angles), kinematics, layout), wanted)
    # gradients: differences of these values
    assert torch.autograd.gradcheck(
        lambda turns, angles: posed_keypoints(posed(turns, angles), kinematics, layout),
        (turns.requires_grad_(), angles.requires_grad_()),
        fast_mode=True,
        atol=1e-5,
    )


def test_heatmap_loss_is_zero_for_the_gaussian_itself():
    side, size = 16, 64
    pixels = torch.tensor([[[[20.0, 30.0], [44.1, 8.0]], [[1.0, 60.0], [31.5, 31.5]]]])
    place = pixels * (side - 1) / (size - 1)
    cells = torch.arange(side, dtype=torch.float32)
    square = (cells - place[..., 0, None, None]) ** 2 + (cells[:, None] - place[..., 1, None, None]) ** 2
    assert heatmap_loss(-square / 2, pixels, size).item() == pytest.approx(0, abs=1e-5)
    assert heatmap_loss(torch.zeros(1, 2, 2, side, side), pixels, size).item() > 1
    # Uniform maps: log of the number of cells minus the entropy of the Gaussian, 1 + log(2 pi) inside
    # the picture.
    inside = heatmap_loss(torch.zeros(1, 2, 1, side, side), pixels[:, :, 1:].clamp(28, 36), size).item()
    assert inside == pytest.approx(2 * math.log(side) - 1 - math.log(2 * math.pi), abs=1e-3)
    # A keypoint outside the picture does not count.
    outside = torch.cat([pixels, torch.full((1, 2, 1, 2), 90.0)], 2)
    maps = torch.cat([-square / 2, torch.zeros(1, 2, 1, side, side)], 2)
    assert heatmap_loss(maps, outside, size).item() == pytest.approx(0, abs=1e-5)


def test_the_sum_is_the_papers():
    w = PAPER_WEIGHTS
    assert (w.angle, w.scale, w.range, w.position) == (1, 1, 1, 100)
    assert w.constrained == w.rotation == w.heatmap == w.peaks == w.keypoints == w.pelvis == 0


def test_a_perfect_answer_costs_nothing(tmp_path):
    import numpy as np
    from figures import write_shard

    from odah.dataset import FrameMaker, ShardSet
    from pose2sim_biokin.network.biokin import FrameOutput

    write_shard(tmp_path / "s", 4, 32)
    maker = FrameMaker(LAYOUT, 32)
    batch, truth = maker(ShardSet([tmp_path / "s"]).rows(np.arange(4)), np.random.default_rng(0))
    out = FrameOutput(truth.pose, truth.angles, truth.keypoints, None, torch.zeros(4, 1), [], None)
    for weights, rotations in ((PAPER_WEIGHTS, False), (FAST_WEIGHTS, True)):
        terms = FrameLoss(LAYOUT, weights, rotations)(out, truth, (batch.K, batch.R, batch.t), 32)
        assert terms["loss"].item() == pytest.approx(0, abs=2e-3)
    other = out._replace(pose=truth.pose._replace(constrained=truth.pose.constrained + 0.1))
    terms = FrameLoss(LAYOUT, FAST_WEIGHTS, True)(other, truth, (batch.K, batch.R, batch.t), 32)
    assert terms["constrained"].item() == pytest.approx(0.1, rel=1e-4) and terms["position"] > 0.005
