"""Errors of poses, of which the answer is known."""

import numpy as np
import pytest
import torch

from odah.metrics import Errors, rotation_degrees, wrapped_degrees
from pose2sim_biokin.compare.metrics import procrustes_error
from pose2sim_biokin.network.heads import AngleLayout, Pose
from pose2sim_biokin.skeleton import load_skeleton


def test_error_measures():
    assert wrapped_degrees(torch.tensor(3.1), torch.tensor(-3.1)).item() == pytest.approx(
        np.degrees(2 * np.pi - 6.2), rel=1e-4
    )
    c, s = np.cos(0.3), np.sin(0.3)
    turn = torch.tensor([[c, -s, 0], [s, c, 0], [0, 0, 1]], dtype=torch.float32)
    assert rotation_degrees(turn, torch.eye(3)).item() == pytest.approx(np.degrees(0.3), rel=1e-4)
    points = np.random.default_rng(0).normal(size=(3, 22, 3))
    moved = 1.3 * points @ turn.numpy().astype(float) + [1, 2, 3]
    np.testing.assert_allclose(procrustes_error(moved, points), 0, atol=1e-7)
    mirrored = points * [1, 1, -1]
    assert procrustes_error(mirrored, points).min() > 0.1  # a mirror image is not a match
    layout = AngleLayout(load_skeleton())
    truth = layout.pose(torch.zeros(2, 36), torch.ones(2, 22, 3), torch.zeros(2, 3))
    wrong = Pose(
        truth.rotations, truth.constrained.clone(), truth.scales, truth.pelvis + torch.tensor([0.03, 0.04, 0])
    )
    wrong.constrained[:, 4] += np.radians(17)
    errors = Errors(layout)
    errors.add(wrong, truth)
    summary = errors.summary(np.array(["a", "b"]))
    assert summary["constrained_mae_deg"] == pytest.approx(1, rel=1e-3)
    assert summary["worst_angle"] == "hip_adduction_l" and summary["pelvis_mm"] == pytest.approx(50, rel=1e-3)
