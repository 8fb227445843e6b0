"""Windows, blending, resampling, frames of reference."""

import math

import numpy as np
import pytest
import torch

from pose2sim_biokin.errors import BiokinError
from pose2sim_biokin.network.biokin import BiokinNetwork
from pose2sim_biokin.network.heads import Pose
from pose2sim_biokin.network.presets import FAST
from pose2sim_biokin.network.sequence import (
    blend_weights,
    refine_sequence,
    resample_pose,
    turn_pose,
    unturn_pose,
    window_starts,
)
from pose2sim_biokin.network.unet import TemporalFilter
from pose2sim_biokin.skeleton import load_skeleton
from pose2sim_biokin.skeleton.rotations import axis_angle_to_matrix, rotation_about


def sequence(frames: int) -> tuple[Pose, torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(frames)
    drift = torch.linspace(0, 3, frames)[:, None]
    pose = Pose(
        axis_angle_to_matrix(torch.randn(1, 3, 3, generator=rng) * drift[..., None]),
        torch.randn(1, 17, generator=rng) * drift,
        torch.ones(frames, 22, 3) * 1.05,
        torch.randn(1, 3, generator=rng) * drift + 2,
    )
    headings = rotation_about(torch.tensor([0.0, 1, 0]), drift[:, 0] * 0.2)
    return pose, torch.randn(frames, 44, 4, generator=rng), headings


@pytest.mark.parametrize("frames", [1, 5, 63, 64, 65, 96, 200])
def test_untrained_residual_refinement_changes_nothing(frames):
    network = BiokinNetwork(FAST.override({"refinement": {"smoothing": 0}}), load_skeleton()).eval()
    pose, local, headings = sequence(frames)
    refined = refine_sequence(network.refiner, pose, local, headings)
    for a, b in zip(refined, pose, strict=True):
        torch.testing.assert_close(a, b, atol=2e-5, rtol=0)


@pytest.mark.parametrize("frames", [1, 5, 64, 96])
def test_untrained_smoothing_keeps_steady_motion(frames):
    """Angles and place that change evenly come out as they went in, the ends of windows included."""
    network = BiokinNetwork(FAST, load_skeleton()).eval()
    pose, local, headings = sequence(frames)
    # Turning evenly is not even in matrices: at rest here. A single frame is held, and so are ends of 5.
    still = pose.rotations[:1].expand_as(pose.rotations)
    if frames == 5:
        pose = pose._replace(
            constrained=pose.constrained[:1].expand(5, -1), pelvis=pose.pelvis[:1].expand(5, -1)
        )
    refined = refine_sequence(network.refiner, pose._replace(rotations=still), local, headings)
    for a, b in zip(refined, pose._replace(rotations=still), strict=True):
        torch.testing.assert_close(a, b, atol=2e-5, rtol=0)


def test_smoothing_by_its_gain():
    """An untrained filter is a Gaussian: a wave of f Hz passes times exp(-(2 pi f s)^2 / 2), in phase."""
    smooth = TemporalFilter(2, 15, deviation=1.6)
    place = torch.arange(240)
    for hertz in (1.0, 5.0, 10.0):
        wave = (2 * math.pi * hertz * place / 60).sin()
        with torch.no_grad():
            found = smooth(wave.expand(1, 2, -1))[0, :, 20:-20]
        gain = math.exp(-((2 * math.pi * hertz * 1.6 / 60) ** 2) / 2)
        torch.testing.assert_close(found, gain * wave[20:-20].expand(2, -1), atol=1e-3, rtol=0)
    with pytest.raises(BiokinError, match="odd"):
        TemporalFilter(2, 14)


def test_windows_cover_and_overlap():
    assert window_starts(40, 64) == [0] and window_starts(64, 64) == [0]
    for frames in (65, 96, 97, 128, 1000):
        starts = window_starts(frames, 64)
        assert starts[0] == 0 and starts[-1] == frames - 64
        assert all(0 < b - a <= 32 for a, b in zip(starts, starts[1:], strict=False))
    weights = blend_weights(64)
    assert (weights > 0).all()
    torch.testing.assert_close(weights, weights.flip(0))


def test_turning_back():
    pose, _, headings = sequence(7)
    origin = torch.randn(7, 3)
    there = unturn_pose(pose, headings, origin)
    for a, b in zip(turn_pose(there, headings, origin), pose, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=0)
    torch.testing.assert_close(there.rotations[:, 1:], pose.rotations[:, 1:])


def test_resampling_a_steady_turn():
    time = np.arange(31) / 30
    angle = torch.as_tensor(time * 2.0, dtype=torch.float32)
    spin = rotation_about(torch.tensor([0.0, 1, 0]), angle)[:, None].expand(-1, 3, 3, 3)
    pose = Pose(spin, angle[:, None].expand(-1, 17), torch.ones(31, 22, 3), angle[:, None].expand(-1, 3))
    wanted = np.arange(61) / 60
    result = resample_pose(pose, time, wanted)
    expected = torch.as_tensor(wanted * 2.0, dtype=torch.float32)
    torch.testing.assert_close(result.constrained[:, 0], expected, atol=1e-5, rtol=0)
    found = torch.atan2(result.rotations[:, 0, 0, 2], result.rotations[:, 0, 0, 0])
    assert (found - expected).abs().max() < math.radians(0.05)
