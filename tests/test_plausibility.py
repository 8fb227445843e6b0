"""Feet, sides and jerk of motions whose figures are known by hand."""

from __future__ import annotations

import numpy as np
import pytest

from pose2sim_biokin.plausibility import (
    backwards_share,
    derivative,
    facing,
    facing_jumps,
    jerk,
    side_flips,
    standing,
)

FPS = 50.0


def _standing_feet(count=40):
    """(T, 4, 3): right foot still on a floor 0.2 m up, left foot 30 cm above it, swinging at 2 m/s."""
    soles = np.zeros((count, 4, 3))
    soles[:, :2, 2] = 0.2
    soles[:, 1, 0] = 0.2
    soles[:, 2:, 2] = 0.5
    soles[:, 2:, 0] = 2.0 * np.arange(count)[:, None] / FPS
    return soles


def test_a_foot_that_stands_does_not_slide():
    feet = standing(_standing_feet(), FPS)
    assert feet.floor_m == pytest.approx(0.2)
    assert feet.planted[:, :2].all() and not feet.planted[:, 2:].any()
    assert np.nanmax(feet.sliding_m_s) < 1e-9 and np.isnan(feet.sliding_m_s[:, 2:]).all()
    assert np.abs(feet.penetration_m).max() < 1e-12


def test_sliding_and_penetration_are_measured_in_metres_and_seconds():
    soles = _standing_feet()
    soles[:, :2, 1] += 0.3 * np.arange(40)[:, None] / FPS
    soles[10:14, 0, 2] -= 0.02
    feet = standing(soles, FPS)
    np.testing.assert_allclose(feet.sliding_m_s[:, 1], 0.3)
    np.testing.assert_allclose(feet.penetration_m[11:13], 0.02)
    assert feet.penetration_m[20] == 0
    known = standing(soles, FPS, floor_m=0.25)  # the floor is 5 cm higher than the soles say
    np.testing.assert_allclose(known.penetration_m[20:], 0.05)


def test_frames_without_a_pose_say_nothing():
    soles = _standing_feet()
    soles[15:20] = np.nan
    feet = standing(soles, FPS)
    assert feet.floor_m == pytest.approx(0.2)
    assert not feet.planted[15:20].any() and np.isnan(feet.penetration_m[15:20]).all()
    assert feet.planted[[14, 20], 0].all()  # one-sided speeds beside the gap
    nobody = standing(np.full((5, 4, 3), np.nan), FPS)
    assert np.isnan(nobody.floor_m) and not nobody.planted.any()


def test_swapped_legs_are_two_flips_and_crossing_legs_none():
    time = np.arange(60) / FPS
    points = np.zeros((60, 4, 3))  # right knee, left knee, right ankle, left ankle
    swing = 0.3 * np.sin(2 * np.pi * time)
    points[:, [0, 2], 0], points[:, [1, 3], 0] = swing[:, None], -swing[:, None]
    points[:, [0, 2], 1], points[:, [1, 3], 1] = -0.08, 0.08
    points[:, 2:, 2] = -0.4
    pairs = [[(0, 1), (2, 3)], []]
    assert not side_flips(points, pairs).any()
    points[20:30] = points[20:30][:, [1, 0, 3, 2]]
    assert np.flatnonzero(side_flips(points, pairs)).tolist() == [20, 30]
    points[25] = np.nan
    assert np.flatnonzero(side_flips(points, pairs)).tolist() == [20, 30]


def test_facing_and_walking():
    angle = np.deg2rad([0.0, 30, 60, 250, 260])
    right = np.stack([np.sin(angle), -np.cos(angle), np.zeros(5)], axis=1) * 0.1  # faces (cos, sin)
    heading = facing(right, -right)
    np.testing.assert_allclose(np.cos(heading - angle), 1, atol=1e-12)
    assert np.flatnonzero(facing_jumps(heading)).tolist() == [3]
    pelvis = np.zeros((50, 3))
    pelvis[:, 0] = np.arange(50) / FPS  # 1 m/s along X
    assert backwards_share(pelvis, np.zeros(50), FPS) == 0
    assert backwards_share(pelvis, np.full(50, np.pi), FPS) == 1
    assert np.isnan(backwards_share(0.1 * pelvis, np.zeros(50), FPS))  # nobody walks
    assert np.isnan(backwards_share(pelvis[:3], np.zeros(3), FPS))


def test_jerk_and_derivative_of_polynomials():
    time = np.arange(20) / FPS
    points = np.zeros((20, 2, 3))
    points[:, 0, 0] = 4 * time**3  # jerk 24
    points[:, 1, 1] = 5 * time**2  # jerk 0
    found = jerk(points, FPS)
    np.testing.assert_allclose(found[1:-2], 12, rtol=1e-6)
    assert np.isnan(found[[0, -1]]).all()
    slope = derivative(points[:, 1, 1], FPS)
    np.testing.assert_allclose(slope[1:-1], 10 * time[1:-1], atol=1e-9)
    gap = points[:, 1, 1].copy()
    gap[7] = np.nan
    assert np.isnan(derivative(gap, FPS)[7]) and np.isfinite(derivative(gap, FPS)[[6, 8]]).all()
    assert np.isnan(jerk(points[:3], FPS)).all()
