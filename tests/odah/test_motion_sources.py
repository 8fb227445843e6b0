"""Sources of motion against the motion that was written, in other files, units, rates, names and axes."""

from __future__ import annotations

import numpy as np
import pytest

from odah.motions.clips import split_by_group, window, write_clips
from odah.motions.coverage import coverage, coverage_picture, coverage_text
from odah.motions.marker_trials import read_markers
from odah.motions.mot_folder import read_mot_folder
from odah.motions.sources import main, read_motion_source
from odah.motions.tracks import Tracks
from pose2sim_biokin.errors import BiokinError
from pose2sim_biokin.io.mot import write_mot
from pose2sim_biokin.io.trc import MarkerTable, write_c3d, write_trc
from pose2sim_biokin.skeleton.model import load_skeleton

SKELETON = load_skeleton()
SECONDS = 1.5
SWINGS = {
    "pelvis_tilt": (-0.1, 0.2),
    "pelvis_rotation": (0.5, 0.6),
    "hip_flexion_r": (0.4, 0.4),
    "knee_angle_l": (0.8, 0.5),
    "ankle_angle_r": (0.1, 0.2),
    "lumbar_extension": (-0.2, 0.1),
    "lumbar_rotation": (0.1, 0.3),
    "arm_flex_r": (0.3, 0.4),
    "arm_add_r": (-0.6, 0.2),
    "elbow_flex_r": (1.0, 0.5),
    "pro_sup_l": (0.8, 0.2),
}


def motion(time: np.ndarray, skeleton=SKELETON) -> np.ndarray:
    """A smooth motion within the ranges, known at any time."""
    q = np.zeros((len(time), len(skeleton.coordinate_names)))
    for k, (name, (middle, swing)) in enumerate(SWINGS.items()):
        q[:, skeleton.coordinate_index(name)] = middle + swing * np.sin(2 * np.pi * 0.7 * time + k)
    for side in "rl":
        beta = skeleton.coordinate_index(f"knee_angle_{side}_beta")
        q[:, beta] = q[:, skeleton.coordinate_index(f"knee_angle_{side}")]
    return q


def at(fps: float, seconds: float = SECONDS) -> np.ndarray:
    return np.arange(round(seconds * fps) + 1) / fps


def rename(path, names: dict[str, str], target=None):
    """Change column names of a motion file, or drop the columns that become None."""
    lines = path.read_text(encoding="utf-8").splitlines()
    end = lines.index("endheader") + 1
    rows = [line.split("\t") for line in lines[end:]]
    kept = [i for i, n in enumerate(rows[0]) if names.get(n, n) is not None]
    rows[0] = [names.get(n, n) or "" for n in rows[0]]
    table = ["\t".join(row[i] for i in kept) for row in rows]
    (target or path).write_text("\n".join(lines[:end] + table), encoding="utf-8")


@pytest.mark.parametrize("fps", [60.0, 100.0, 250.0, 30.0])
def test_motion_files_of_any_rate_become_60_hz(tmp_path, fps):
    write_mot(tmp_path / "walk.mot", at(fps), motion(at(fps)), SKELETON)
    (recording,) = read_motion_source(tmp_path, SKELETON)
    assert recording.tracks.frames == len(at(60.0))
    found = recording.tracks.coordinates(SKELETON)
    # shoulders go straight from frame to frame, which shows at 30 Hz
    np.testing.assert_allclose(found, motion(at(60.0)), atol=2e-4 if fps > 50 else 4e-3)


def test_pose2sim_names_and_radians(tmp_path):
    path = write_mot(tmp_path / "a" / "full.mot", at(60.0), motion(at(60.0)), SKELETON)
    trunk = {"extension": "Flex_Ext", "bending": "Lat_Bending", "rotation": "axial_rotation"}
    rename(path, {f"lumbar_{a}": f"L5_S1_{b}" for a, b in trunk.items()} | {"subtalar_angle_r": None})
    states = tmp_path / "b" / "states.sto"
    states.parent.mkdir()
    names = [f"/jointset/some/{n}/value" for n in SKELETON.coordinate_names]
    table = np.column_stack([at(60.0), motion(at(60.0))])
    rows = ["\t".join(map(repr, row)) for row in table.tolist()]
    header = ["States", "inDegrees = no", "endheader", "\t".join(["time", *names])]
    states.write_text("\n".join(header + rows), encoding="utf-8")
    recordings = read_mot_folder(tmp_path, SKELETON)
    assert [r.name for r in recordings] == ["a/full[0:91]", "b/states[0:91]"]
    for recording in recordings:
        np.testing.assert_allclose(recording.tracks.coordinates(SKELETON), motion(at(60.0)), atol=1e-6)


def test_folders_are_what_was_recorded_together(tmp_path):
    for name in ("anna/walk", "anna/run", "ben/walk", "cleo/walk", "dora/walk", "emil/walk"):
        write_mot(tmp_path / f"{name}.mot", at(60.0), motion(at(60.0)), SKELETON)
    recordings = read_motion_source(tmp_path, SKELETON)
    assert len(recordings) == 6 and len({r.group for r in recordings}) == 5
    splits = split_by_group(recordings)
    assert sum(any(r.group.endswith("anna") for r in part) for part in splits.values()) == 1
    archive = write_clips(tmp_path / "all.npz", recordings, SKELETON)
    again = read_motion_source(archive, SKELETON)
    assert len({r.group for r in again}) == 5
    np.testing.assert_allclose(
        again[0].tracks.coordinates(SKELETON), recordings[0].tracks.coordinates(SKELETON), atol=1e-6
    )


def test_a_recording_played_faster_is_the_motion_at_other_times(tmp_path):
    write_mot(tmp_path / "walk.mot", at(60.0), motion(at(60.0)), SKELETON)
    (recording,) = read_motion_source(tmp_path / "walk.mot", SKELETON)
    faster = window(recording, 3.0, 40, 1.25).coordinates(SKELETON)
    np.testing.assert_allclose(faster, motion((3 + 1.25 * np.arange(40)) / 60), atol=2e-3)


def test_motions_that_cannot_be_used_are_refused_by_name(tmp_path):
    good, time = motion(at(60.0)), at(60.0)
    gait = tmp_path / "gait"
    path = write_mot(gait / "gait.mot", time, good, SKELETON)
    arms = [n for n in SKELETON.coordinate_names if n.startswith(("arm_", "elbow", "pro_sup", "wrist"))]
    rename(path, {n: None for n in arms})
    with pytest.raises(BiokinError, match=r"gait\.mot: a motion of another model.*10 coord.*arm_flex_r"):
        read_motion_source(gait, SKELETON)

    holes = tmp_path / "holes"
    path = write_mot(holes / "holes.mot", time, good, SKELETON)
    lines = path.read_text(encoding="utf-8").splitlines()
    first = lines.index("endheader") + 2
    cells = lines[first + 20].split("\t")
    cells[1 + SKELETON.coordinate_index("hip_flexion_r")] = "NaN"
    lines[first + 20] = "\t".join(cells)
    path.write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(BiokinError, match=r"holes\.mot: hip_flexion_r is not a number in 1 frames.*frame 20"):
        read_motion_source(holes, SKELETON)

    forces = tmp_path / "forces"
    forces.mkdir()
    text = "force\nnRows=1\nendheader\ntime\tground_force_vx\n0\t1\n"
    (forces / "grf.mot").write_text(text, encoding="utf-8")
    with pytest.raises(BiokinError, match="none of its 1 motion files.*ground_force_vx"):
        read_motion_source(forces, SKELETON)
    with pytest.raises(BiokinError, match="no such file or folder"):
        read_motion_source(tmp_path / "absent", SKELETON)
    (tmp_path / "empty").mkdir()
    with pytest.raises(BiokinError, match="no source of motion"):
        read_motion_source(tmp_path / "empty", SKELETON)


def test_what_leaves_the_ranges_is_cut_out_and_reported(tmp_path):
    q = motion(at(60.0, 3.0))
    q[90:110, SKELETON.coordinate_index("knee_angle_l")] = np.radians(170)
    write_mot(tmp_path / "deep.mot", at(60.0, 3.0), q, SKELETON)
    report = []
    recordings = read_motion_source(tmp_path, SKELETON, report=report)
    assert [r.tracks.frames for r in recordings] == [90, 71]
    assert len(report) == 1 and report[0].name == "deep"
    for part in ("20 of 181 frames", "knee_angle_l is 170.0 in frame 90", "0 to 120"):
        assert part in report[0].reason
    q[:, SKELETON.coordinate_index("knee_angle_l")] = -1.0
    write_mot(tmp_path / "deep.mot", at(60.0, 3.0), q, SKELETON)
    with pytest.raises(BiokinError, match="knee_angle_l is -57.3.*change the sign"):
        read_motion_source(tmp_path, SKELETON)


@pytest.fixture(scope="module")
def trial():
    """Markers somewhere in a room, ground axes: shoulders above feet."""
    rng = np.random.default_rng(0)
    names = ("RASI", "LASI", "RPSI", "RLFC", "RACR", "LACR", "RCAL", "LCAL")
    height = np.array([1.0, 1.0, 1.0, 0.5, 1.5, 1.5, 0.05, 0.05])
    points = rng.normal(0, 0.1, (60, 8, 3)).cumsum(0) * 0.02 + rng.normal(0, 0.1, (1, 8, 3))
    points[..., 1] += height
    return MarkerTable(np.arange(1, 61), np.arange(60) / 100, names, points)


@pytest.mark.parametrize("kind", ["c3d", "trc"])
@pytest.mark.parametrize("axes", ["Z up", "X up", "Y down"])
def test_marker_files_in_any_axes(tmp_path, trial, kind, axes):
    # rotations of ground: right-handed, so that nobody is mirrored
    turn = {"Z up": [2, 0, 1], "X up": [1, 2, 0], "Y down": [0, 1, 2]}[axes]
    sign = np.array([1, -1, -1]) if axes == "Y down" else 1
    assert np.isclose(np.linalg.det(np.eye(3)[turn] * (sign if axes == "Y down" else 1)), 1)
    lab = trial._replace(points=(trial.points * sign)[..., turn])
    path = tmp_path / f"trial.{kind}"
    (write_c3d if kind == "c3d" else write_trc)(path, lab, 100.0)
    found = read_markers(path)
    assert found.names == trial.names
    np.testing.assert_allclose(found.time, trial.time, atol=1e-6)
    np.testing.assert_allclose(found.points[..., 1], trial.points[..., 1], atol=1e-5)
    # whatever the heading, it is the same body: distances and handedness
    a, b = (p.points[0] - p.points[0, 0] for p in (found, trial))
    np.testing.assert_allclose(a @ a.T, b @ b.T, atol=1e-5)
    assert np.isclose(np.linalg.det(a[[1, 2, 4]]), np.linalg.det(b[[1, 2, 4]]), atol=1e-6)


def test_marker_names_gaps_and_bad_files(tmp_path, trial):
    points = trial.points.copy()
    points[10:20, 3] = np.nan  # 0.1 s: filled
    points[30:55, 4] = np.nan  # 0.25 s: stays
    plug_in = (
        "Anna:RASI",
        "Anna:LASI",
        "Anna:RPSI",
        "Anna:RKNE",
        "Anna:RSHO",
        "my_left",
        "Anna:RHEE",
        "LHEE",
    )
    path = write_c3d(tmp_path / "gaps.c3d", trial._replace(names=plug_in, points=points), 100.0)
    found = read_markers(path, name_map={"my_left": "LACR"}, up="Y")
    assert found.names == trial.names
    assert np.isfinite(found.points[10:20, 3]).all()
    np.testing.assert_allclose(found.points[10:20, 3], trial.points[10:20, 3], atol=0.02)
    assert np.isnan(found.points[30:55, 4]).all()
    with pytest.raises(BiokinError, match="the name map has nobody"):
        read_markers(path, name_map={"nobody": "LACR"})
    with pytest.raises(BiokinError, match="up is 'W'"):
        read_markers(path, up="W")
    (tmp_path / "broken.c3d").write_bytes(b"not a c3d file")
    with pytest.raises(BiokinError, match=r"broken\.c3d: cannot be read"):
        read_markers(tmp_path / "broken.c3d")
    hands = trial._replace(names=tuple("abcdefgh"))
    with pytest.raises(BiokinError, match="0 of its 8 markers.*Give a name map"):
        read_motion_source(write_trc(tmp_path / "hands.trc", hands, 100.0), SKELETON)


def test_coverage_counts_frames_by_value(tmp_path):
    q = np.zeros((100, 39))
    knee = SKELETON.coordinate_index("knee_angle_r")
    q[:, knee] = np.radians(np.repeat([-5.0, 1.0, 61.0, 119.0], [10, 20, 30, 40]))
    q[:, SKELETON.coordinate_index("pelvis_rotation")] = np.radians(370.0)
    rows = {row.name: row for row in coverage(q, SKELETON, bins=12)}
    np.testing.assert_allclose(rows["knee_angle_r"].shares[[0, 6, 11]], [0.2, 0.3, 0.4])
    assert np.isclose(rows["knee_angle_r"].outside, 0.1)
    assert rows["knee_angle_r"].covered == 3 / 12
    turn = rows["pelvis_rotation"]
    assert turn.edges[turn.shares.argmax()] <= 10 <= turn.edges[turn.shares.argmax() + 1]
    assert "pelvis_tx" not in rows and "knee_angle_r_beta" not in rows and "wrist_flex_r" not in rows
    assert "knee_angle_r" in coverage_text(q, SKELETON)
    path = coverage_picture(q, SKELETON, tmp_path / "coverage.png")
    assert path.read_bytes()[:4] == b"\x89PNG"


def test_sources_are_converted_into_one_archive(tmp_path, capsys):
    write_mot(tmp_path / "in" / "walk.mot", at(60.0), motion(at(60.0)), SKELETON)
    archive = tmp_path / "motions.npz"
    assert main([str(tmp_path / "in"), "--output", str(archive)]) == 0
    assert "1 recordings, 2 s" in capsys.readouterr().out
    (recording,) = read_motion_source(archive, SKELETON)
    np.testing.assert_allclose(recording.tracks.coordinates(SKELETON), motion(at(60.0)), atol=1e-5)
    mirrored = Tracks.from_coordinates(motion(at(60.0)), SKELETON).mirrored()
    np.testing.assert_allclose(
        recording.tracks.mirrored().coordinates(SKELETON), mirrored.coordinates(SKELETON), atol=1e-5
    )
    assert main([str(tmp_path / "nothing"), "--output", str(archive)]) == 1
    assert "no such file" in capsys.readouterr().err
