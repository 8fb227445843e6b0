"""Figures of a motion whose offset, lag and noise are known, against values worked out by hand."""

import numpy as np
import pytest
from compare_scenes import RATE, result_of, sines
from scipy.spatial.transform import Rotation

from pose2sim_biokin.compare.build import compare_results
from pose2sim_biokin.compare.metrics import (
    JOINTS,
    coordinate_metrics,
    point_metrics,
    rotation_angle,
    smoothness,
)

TIME = np.arange(200) / RATE  # four whole periods of 1 Hz


def test_an_offset_is_bias_and_nothing_else():
    reference = 20 * np.sin(2 * np.pi * TIME)
    row = coordinate_metrics(reference + 3.0, reference, TIME)
    assert row.frames == 200
    assert (row.mae, row.rmse, row.bias) == pytest.approx((3, 3, 3))
    assert row.mae_offset_corrected == pytest.approx(0, abs=1e-9)
    assert row.pearson_r == pytest.approx(1) and row.sd == pytest.approx(0, abs=1e-9)
    assert row.limits == pytest.approx((3, 3))
    assert (row.rom, row.rom_reference) == pytest.approx((np.ptp(reference),) * 2)


def test_a_sine_of_errors():
    # over whole periods |a sin| has mean 2a/pi, a sin has RMS a/sqrt(2), and both are even about zero
    error = 4 * np.sin(2 * np.pi * 3 * TIME + 0.1)
    row = coordinate_metrics(1.0 + error, np.zeros(200), TIME)
    assert row.bias == pytest.approx(1.0)
    assert row.rmse == pytest.approx(np.sqrt(1 + 16 / 2))
    assert row.mae_offset_corrected == pytest.approx(2 * 4 / np.pi, rel=2e-3)
    sd = np.sqrt(16 / 2 * 200 / 199)
    assert row.limits == pytest.approx((1 - 1.96 * sd, 1 + 1.96 * sd))
    assert np.isnan(row.pearson_r) and row.rom_reference == 0  # the reference does not move


def test_noise_is_rmse_and_limits_of_agreement():
    noise = np.random.default_rng(1).normal(0, 2.0, 20000)
    time = np.arange(20000) / RATE
    row = coordinate_metrics(30 * np.sin(time) + noise, 30 * np.sin(time), time)
    assert row.rmse == pytest.approx(2.0, rel=0.02) and row.bias == pytest.approx(0, abs=0.05)
    assert row.mae == pytest.approx(2.0 * np.sqrt(2 / np.pi), rel=0.02)  # half-normal
    assert row.limits == pytest.approx((-3.92, 3.92), rel=0.02)
    assert np.mean((noise > row.limits[0]) & (noise < row.limits[1])) == pytest.approx(0.95, abs=0.005)
    assert row.pearson_r == pytest.approx(np.sqrt(450 / (450 + 4)), abs=1e-3)  # variance explained


def test_the_worst_frame_and_missing_frames():
    values, reference = np.zeros(50), np.zeros(50)
    values[31], values[40] = -7.0, np.nan
    reference[2] = np.nan
    row = coordinate_metrics(values, reference, np.arange(50) / 10)
    assert (row.frames, row.worst, row.worst_frame, row.worst_time) == (48, -7.0, 31, 3.1)
    empty = coordinate_metrics(np.full(5, np.nan), np.zeros(5), np.arange(5.0))
    assert empty.frames == 0 and empty.worst_frame == -1 and np.isnan(empty.mae)


def test_angles_differ_the_short_way_round():
    row = coordinate_metrics(np.full(4, 179.0), np.full(4, -179.0), np.arange(4.0))
    assert row.bias == pytest.approx(-2)
    assert coordinate_metrics(np.full(4, 1790.0), np.zeros(4), np.arange(4.0), angle=False).bias == 1790


def test_points_moved_turned_and_scaled():
    rng = np.random.default_rng(2)
    reference = {name: rng.normal(0, 0.5, (30, 3)) for name in JOINTS}
    shift = np.array([0.3, -0.4, 0.0])  # 500 mm
    row = point_metrics({n: p + shift for n, p in reference.items()}, reference)
    assert row.mpjpe == pytest.approx(0, abs=1e-9) and row.pa_mpjpe == pytest.approx(0, abs=1e-9)
    assert row.mpjpe_world == pytest.approx(500) and row.pelvis_path == pytest.approx(500)
    assert row.pelvis_path_offset_corrected == pytest.approx(0, abs=1e-9)

    turn = Rotation.from_euler("z", 40, degrees=True).as_matrix()
    row = point_metrics({n: 1.2 * p @ turn.T + shift for n, p in reference.items()}, reference)
    assert row.pa_mpjpe == pytest.approx(0, abs=1e-6) and row.mpjpe > 100

    # one joint of sixteen, 32 mm off: 2 mm on average
    moved = dict(reference, wrist_l=reference["wrist_l"] + (0, 0, 0.032))
    row = point_metrics(moved, reference)
    assert row.mpjpe == pytest.approx(2.0) and row.per_joint["wrist_l"] == pytest.approx(32)
    assert 0 < row.pa_mpjpe < 5  # the best fit in the least squares' sense spreads it over the others
    assert point_metrics({"hip_r": reference["hip_r"]}, reference) is None


def test_angle_between_rotations():
    turns = Rotation.from_rotvec([[0.001, 0, 0], [0, 1.2, 0], [0, 0, np.pi]])
    fixed = Rotation.random(3, random_state=0)
    angles = rotation_angle((turns * fixed).as_matrix(), fixed.as_matrix())
    np.testing.assert_allclose(angles, np.rad2deg([0.001, 1.2, np.pi]), atol=1e-6)


def test_smoothness_of_a_sine_in_closed_form():
    # x = A sin(w t): jerk has RMS A w^3 / sqrt 2, the speed's peak is A w, so DLJ = D^4 w^4 / 2
    omega, time = 2 * np.pi * 0.8, np.arange(1001) / 200
    row = smoothness(15 * np.sin(omega * time), time)
    assert row.rms_jerk == pytest.approx(15 * omega**3 / np.sqrt(2), rel=0.01)
    assert row.log_dimensionless_jerk == pytest.approx(-np.log((5 * omega) ** 4 / 2), abs=0.02)
    rough = smoothness(15 * np.sin(omega * time) + np.random.default_rng(0).normal(0, 0.1, 1001), time)
    assert rough.log_dimensionless_jerk < row.log_dimensionless_jerk - 3
    still = smoothness(np.ones(100), np.arange(100.0))
    assert still.rms_jerk == 0 and np.isnan(still.log_dimensionless_jerk)


def test_offset_lag_and_noise_come_out_of_whole_results(tmp_path):
    """Through models, files and matching: each coordinate's own offset, the lag of all, the noise of one."""
    names = ("knee_angle_r", "elbow_flex_l", "hip_flexion_l", "lumbar_extension")
    reference = result_of(tmp_path, "reference", TIME, sines(TIME, names, 0.4))

    moved = sines(TIME, names, 0.4)
    moved["knee_angle_r"] = moved["knee_angle_r"] + np.deg2rad(5)
    moved["elbow_flex_l"] = moved["elbow_flex_l"] - np.deg2rad(2)
    noise = np.random.default_rng(3).normal(0, np.deg2rad(1.5), 200)
    moved["hip_flexion_l"] = moved["hip_flexion_l"] + noise
    comparison = compare_results([reference, result_of(tmp_path, "moved", TIME, moved)])
    rows = comparison.metrics["moved"]
    assert rows["knee_angle_r"].bias == pytest.approx(5) and rows["elbow_flex_l"].bias == pytest.approx(-2)
    assert rows["knee_angle_r"].mae_offset_corrected == pytest.approx(0, abs=1e-5)
    assert rows["hip_flexion_l"].rmse == pytest.approx(np.rad2deg(np.sqrt(np.mean(noise**2))), rel=1e-5)
    assert rows["lumbar_extension"].mae == pytest.approx(0, abs=1e-5)
    assert comparison.lag_s["moved"] == pytest.approx(0, abs=2e-3)
    assert comparison.joint_angles("moved") == [c.name for c in comparison.coordinates if c.name in names]
    assert comparison.summary("moved")["worst_coordinates"][0] == "knee_angle_r"
    # a knee that bends 5 degrees more moves what is below it, and nothing above
    per_joint = comparison.points["moved"].per_joint
    assert per_joint["ankle_r"] > 30 and per_joint["hip_r"] < 1e-3 and per_joint["shoulder_r"] < 1e-3
    orientation = comparison.orientation["moved"]
    assert orientation["tibia_r"].mean() == pytest.approx(5, abs=0.4)  # the knee's axis moves a little
    assert orientation["pelvis"].max() < 1e-3

    late = result_of(tmp_path, "late", TIME, sines(TIME - 0.066, names, 0.4))
    told = compare_results([reference, late])
    assert told.lag_s["late"] == pytest.approx(0.066, abs=0.003) and not told.lag_applied
    assert any("0.066 s later" in f or "0.065 s later" in f or "0.067 s later" in f for f in told.flags)
    assert told.metrics["late"]["knee_angle_r"].rmse > 5
    aligned = compare_results([reference, late], align=True)
    assert aligned.lag_applied and aligned.lag_s["late"] == told.lag_s["late"]
    assert aligned.metrics["late"]["knee_angle_r"].rmse < 0.5
    assert len(aligned.time) < len(TIME)  # the end that only one has is gone
