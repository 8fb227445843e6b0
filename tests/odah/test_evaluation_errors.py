"""Errors of frames against closed forms and against scipy's own alignment; matching of renamed models."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from odah.evaluation.cases import read_cases
from odah.evaluation.errors import ANGLES, COMPARED, Posed, frame_errors, pose_skeleton
from odah.evaluation.score import score_result
from odah.evaluation.summary import Scored, grouped, motion_name, separation_name, summarize
from pose2sim_biokin.errors import BiokinError
from pose2sim_biokin.io.mot import write_mot
from pose2sim_biokin.io.osim import write_osim
from pose2sim_biokin.skeleton import ForwardKinematics, load_skeleton
from pose2sim_biokin.skeleton.angles import CONSTRAINED

SKELETON = load_skeleton()
RATE, FRAMES = 50.0, 12


def index(name: str) -> int:
    return SKELETON.coordinate_names.index(name)


def motion(frames: int = FRAMES) -> np.ndarray:
    """Slow motion of all joints, in range."""
    low, high = np.clip(SKELETON.coordinate_ranges, -1.0, 1.0).T
    time = np.arange(frames)[:, None] / RATE
    phase = np.arange(len(low))
    q = (low + high) / 2 + 0.3 * (high - low) / 2 * np.sin(2 * time + phase)
    q[:, SKELETON.locked] = 0
    return ForwardKinematics(SKELETON, dtype=torch.float64).constrain(torch.as_tensor(q)).numpy()


def points(joints: np.ndarray) -> Posed:
    names = tuple(f"joint{i}" for i in range(joints.shape[1]))
    return Posed((), np.zeros((len(joints), 0)), names, joints, {}, ((names[0], names[1]),))


def test_angles_that_are_off_by_a_known_amount():
    truth, found = motion(), motion()
    found[:, index("knee_angle_r")] += np.radians(17)
    found[:, index("pelvis_rotation")] += np.radians(359)  # the short way round
    found[:, index("pro_sup_l")] -= np.radians(26)
    scales = np.ones((22, 3))
    errors = frame_errors(*(pose_skeleton(SKELETON, q, scales) for q in (found, truth)), RATE)
    per_angle = dict(zip(ANGLES, errors["angles"].mean(0), strict=True))
    assert per_angle["knee_angle_r"] == pytest.approx(17) and per_angle["pelvis_rotation"] == pytest.approx(1)
    assert per_angle["hip_flexion_r"] == 0
    assert errors["mae_17_deg"] == pytest.approx(np.full(FRAMES, (17 + 26) / 17))
    assert errors["mae_26_deg"] == pytest.approx(np.full(FRAMES, (17 + 26 + 1) / 26))
    assert errors["mae_24_deg"] == pytest.approx(np.full(FRAMES, (17 + 1) / 24))  # pronation left out
    assert len(COMPARED) == 24 and "pro_sup_r" not in COMPARED
    assert errors["angle_speed_deg_s"][1:] == pytest.approx(0, abs=1e-9)  # constant offsets have no speed
    assert np.isnan(errors["angle_speed_deg_s"][0]) and not errors["missing"].any()
    assert errors["segment_mm"] == pytest.approx(0, abs=1) and errors["scale"] == pytest.approx(0)


def test_pelvis_shifted_and_a_taller_model():
    truth = motion()
    found = truth.copy()
    found[:, index("pelvis_tx")] += 0.03
    found[:, index("pelvis_tz")] -= 0.04
    errors = frame_errors(*(pose_skeleton(SKELETON, q, np.ones((22, 3))) for q in (found, truth)), RATE)
    for column in ("pelvis_mm", "mpjpe_mm"):
        assert errors[column] == pytest.approx(np.full(FRAMES, 50.0))
    assert errors["pa_mpjpe_mm"] == pytest.approx(0, abs=1e-6) == errors["pelvis_deg"]
    # a model that is larger throughout: positions fit after scaling, segments and factors do not
    errors = frame_errors(
        pose_skeleton(SKELETON, truth, np.full((22, 3), 1.1)),
        pose_skeleton(SKELETON, truth, np.ones((22, 3))),
        RATE,
    )
    assert errors["scale"] == pytest.approx(np.full(FRAMES, 0.1))
    assert errors["pa_mpjpe_mm"].max() < 5 < errors["segment_mm"].min()


def test_positions_and_their_speed_after_alignment():
    """PA-MPJVE with every frame aligned by scipy; a person who is turned, moved and scaled has none."""
    rng = np.random.default_rng(0)
    truth = np.cumsum(rng.normal(0, 0.01, (6, 9, 3)), axis=0) + rng.normal(0, 0.3, (1, 9, 3))
    turns = Rotation.random(6, random_state=1).as_matrix()
    moved = 1.3 * truth @ np.swapaxes(turns, 1, 2) + rng.normal(0, 1, (6, 1, 3))
    errors = frame_errors(points(moved), points(truth), RATE)
    assert errors["pa_mpjpe_mm"] == pytest.approx(0, abs=1e-6)
    assert errors["pa_mpjve_mm_s"][1:] == pytest.approx(0, abs=1e-5)
    assert errors["mpjpe_mm"].mean() > 100

    noisy = moved + rng.normal(0, 0.02, moved.shape)
    aligned = []
    for p, t in zip(noisy, truth, strict=True):
        p0, t0 = p - p.mean(0), t - t.mean(0)
        turn = Rotation.align_vectors(t0, p0)[0].apply(p0)
        aligned.append((turn * t0).sum() / (p0**2).sum() * turn + t.mean(0))
    aligned = np.array(aligned)
    errors = frame_errors(points(noisy), points(truth), RATE)
    wanted = 1000 * np.linalg.norm(aligned - truth, axis=-1).mean(1)
    assert errors["pa_mpjpe_mm"] == pytest.approx(wanted, rel=1e-6)
    speeds = [np.diff(x, axis=0) * RATE for x in (aligned, truth)]
    wanted = 1000 * np.linalg.norm(speeds[0] - speeds[1], axis=-1).mean(1)
    assert errors["pa_mpjve_mm_s"][1:] == pytest.approx(wanted, rel=1e-6)
    assert "pa_mpjve_mm_s" not in frame_errors(points(noisy), points(truth), None)


def test_frames_without_a_pose_do_not_count():
    truth, found = motion(), motion()
    found[4] = np.nan
    found[:, index("hip_flexion_l")] += np.radians(34)
    errors = frame_errors(*(pose_skeleton(SKELETON, q, np.ones((22, 3))) for q in (found, truth)), RATE)
    assert np.flatnonzero(errors["missing"]).tolist() == [4]
    assert np.flatnonzero(np.isnan(errors["mae_17_deg"])).tolist() == [4]
    assert np.flatnonzero(np.isnan(errors["pa_mpjve_mm_s"])).tolist() == [0, 4, 5]  # nothing to come from
    summary = summarize([Scored("data", "clip", "m", errors)])
    assert summary["frames_missing"] == 1 and summary["mae_17_deg"] == pytest.approx(2)


def scored(name: str, error: float, frames: int, label: str) -> Scored:
    angles = np.full((frames, 26), error)
    values = np.full(frames, error)
    errors = {"angles": angles, "missing": np.zeros(frames, bool), "mae_17_deg": values}
    errors |= {"pa_mpjpe_mm": 10 * values}
    return Scored("data", name, "m", errors, {"renderer": np.full(frames, label)})


def test_sums_percentiles_groups_and_the_worst():
    clips = [scored("a", 1.0, 30, "raster"), scored("b", 5.0, 10, "cycles"), scored("c", 3.0, 60, "raster")]
    summary = summarize(clips, worst=2)
    assert summary["frames"] == 100 and summary["mae_17_deg"] == pytest.approx((30 + 50 + 180) / 100)
    wanted = {"median": 3, "p90": 3.2, "p95": 5, "p99": 5, "worst": 5}  # rank 89.1: between 3 and 5
    assert summary["percentiles"]["mae_17_deg"] == pytest.approx(wanted)
    assert [w["clip"] for w in summary["worst_clips"]] == ["b", "c"]
    groups = grouped(clips, "renderer")
    assert groups["cycles"]["mae_17_deg"] == 5 and groups["cycles"]["clips"] == 1
    assert groups["raster"]["frames"] == 90 and groups["raster"]["pa_mpjpe_mm"] == pytest.approx(70 / 3)
    assert summary["pelvis_mm"] is None and "mean_pose_baseline_deg" not in summary


@pytest.mark.parametrize(
    ("angle", "name"),
    [(29.9, "below 30"), (30, "30-60"), (89.9, "60-90"), (90, "90-120"), (150, "150 and more")],
)
def test_camera_bins(angle, name):
    assert separation_name(angle) == name
    assert motion_name("recorded", "walk 3") == "recorded" and motion_name("action", "sit") == "action: sit"


def write_pair(folder, stem: str, q: np.ndarray, scales: np.ndarray, rename=(), first: float = 0.0):
    """Model and motion as a program would leave them; `rename`: texts of both that are exchanged."""
    folder.mkdir(parents=True, exist_ok=True)
    write_osim(folder / f"{stem}.osim", SKELETON, scales, 70.0, name=stem)
    write_mot(folder / f"{stem}.mot", first + np.arange(len(q)) / RATE, q, SKELETON)
    for path in (folder / f"{stem}.osim", folder / f"{stem}.mot"):
        text = path.read_text(encoding="utf-8")
        for old, new in rename:
            text = text.replace(old, new)
        path.write_text(text, encoding="utf-8")


def test_results_of_other_programs_beside_a_reference(tmp_path):
    """One with the reference's own model, 5 degrees off at a knee; one whose trunk goes by other names."""
    truth, scales = motion(), np.full((22, 3), 1.02)
    folder = tmp_path / "results" / "walk" / "kinematics"
    write_pair(folder, "reference", truth, scales)
    ours = truth.copy()
    ours[:, index("knee_angle_l")] += np.radians(5)
    ours[:, index("lumbar_bending")] += np.radians(3)
    ours[:, index("pelvis_tx")] += 0.02
    write_pair(folder, "walk_0-11_biokin", ours, scales)
    other = truth.copy()
    other[:, index("lumbar_extension")] += np.radians(4)
    names = [("lumbar_extension", "L5_S1_Flex_Ext"), ("lumbar_bending", "L5_S1_Lat_Bending")]
    names += [("lumbar_rotation", "L5_S1_axial_rotation")]
    write_pair(folder, "walk_0-11_filt_butterworth", other, scales, names)
    write_mot(folder / "walk_0-11_biokin_filt_x.mot", np.arange(FRAMES) / RATE, truth, SKELETON)

    (case,) = read_cases(tmp_path / "results")
    assert case.name == "walk" and case.reference.label == "reference"
    results = {result.label: score_result(case, result) for result in case.results}
    assert list(results) == ["biokin", "biokin_filt_x", "filt_butterworth"]
    found = results["biokin"]
    assert found.mean("mae_17_deg") == pytest.approx(8 / 17, abs=0.01)
    assert found.mean("pelvis_mm") == pytest.approx(20, abs=0.1)
    assert results["biokin_filt_x"].mean("mae_26_deg") == pytest.approx(0, abs=1e-4)
    assert results["biokin_filt_x"].mean("pa_mpjve_mm_s") == pytest.approx(0, abs=0.1)
    renamed = results["filt_butterworth"]
    per_angle = dict(zip(ANGLES, renamed.errors["angles"].mean(0), strict=True))
    assert per_angle["lumbar_extension"] == pytest.approx(4, abs=0.05)
    assert renamed.mean("mae_17_deg") == pytest.approx(4 / 17, abs=0.01)
    assert any("segment orientation" in note and "lumbar_extension" in note for note in renamed.notes)
    assert found.wanted == pytest.approx(truth[:, [index(name) for name in CONSTRAINED]], abs=1e-4)


def test_folders_that_cannot_be_used(tmp_path):
    with pytest.raises(BiokinError, match="no such folder"):
        read_cases(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(BiokinError, match="expected a data set or clip"):
        read_cases(tmp_path / "empty")
    write_pair(tmp_path / "alone", "truth", motion(), np.ones((22, 3)))
    with pytest.raises(BiokinError, match="no results beside truth.mot"):
        read_cases(tmp_path / "alone")
    (tmp_path / "alone" / "truth.osim").unlink()
    with pytest.raises(BiokinError, match="truth.osim is missing"):
        read_cases(tmp_path / "alone")
