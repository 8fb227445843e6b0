"""Motion and marker files against OpenSim, Pose2Sim's own readers, and each other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from pose2sim_biokin.errors import BiokinError
from pose2sim_biokin.io.bvh import write_bvh
from pose2sim_biokin.io.filters import FILTERS, filter_coordinates, ik_filter_type
from pose2sim_biokin.io.mot import in_degrees, read_mot, write_mot
from pose2sim_biokin.io.osim import write_osim
from pose2sim_biokin.io.trc import motion_points, read_trc, write_c3d, write_trc
from pose2sim_biokin.skeleton import ForwardKinematics, load_skeleton

RATE = 60.0
FIRST = 12


@pytest.fixture(scope="module")
def skeleton():
    return load_skeleton()


@pytest.fixture(scope="module")
def motion(skeleton):
    """Time, coordinates and scales of a smooth random motion far from the origin."""
    rng = np.random.default_rng(3)
    time = (FIRST + np.arange(8)) / RATE
    low, high = skeleton.coordinate_ranges.T
    low, high = np.clip(low, -1.2, 1.2), np.clip(high, -1.2, 1.2)
    middle, half = (low + high) / 2, (high - low) / 2
    phase = rng.uniform(0, 6, len(low))
    coordinates = middle + 0.8 * half * np.sin(4 * time[:, None] + phase)
    coordinates[:, skeleton.coordinate_index("pelvis_tx")] += 3.0
    coordinates[:, skeleton.locked] = skeleton.coordinate_defaults[skeleton.locked]
    fk = ForwardKinematics(skeleton, dtype=torch.float64)
    scales = rng.uniform(0.85, 1.15, (len(skeleton.body_names), 3))
    coordinates = fk.constrain(torch.from_numpy(coordinates)).numpy()
    return time, coordinates, scales


@pytest.fixture(scope="module")
def points(skeleton, motion):
    time, coordinates, scales = motion
    fk, factors = ForwardKinematics(skeleton, dtype=torch.float64), torch.from_numpy(scales)
    frames = fk(torch.from_numpy(coordinates), factors)
    return motion_points(
        time,
        np.round(time * RATE).astype(int),
        fk.joint_centers(frames, factors).numpy(),
        fk.markers(frames, factors).numpy(),
        skeleton,
    )


def test_mot_round_trip(tmp_path, skeleton, motion):
    time, coordinates, _ = motion
    path = write_mot(tmp_path / "a.mot", time, coordinates, skeleton)
    table = read_mot(path, skeleton)
    assert table.names == skeleton.coordinate_names
    np.testing.assert_allclose(table.time, time, atol=1e-8)
    np.testing.assert_allclose(table.coordinates, coordinates, atol=1e-8)


def test_mot_is_read_by_opensim_and_pose2sim(tmp_path, skeleton, motion):
    import opensim
    from Pose2Sim.common import read_mot as pose2sim_read_mot

    time, coordinates, _ = motion
    path = write_mot(tmp_path / "a.mot", time, coordinates, skeleton)
    expected = np.where(in_degrees(skeleton), np.rad2deg(coordinates), coordinates)
    table = opensim.TimeSeriesTable(str(path))
    assert tuple(table.getColumnLabels()) == skeleton.coordinate_names
    assert table.getTableMetaDataAsString("inDegrees") == "yes"
    np.testing.assert_allclose(table.getMatrix().to_numpy(), expected, atol=1e-6)
    storage = opensim.Storage(str(path))
    assert storage.isInDegrees() and storage.getSize() == len(time)
    assert storage.getLastTime() == pytest.approx(time[-1])
    data, time_column, header = pose2sim_read_mot(path)
    np.testing.assert_allclose(data.to_numpy(), expected, atol=1e-6)
    np.testing.assert_allclose(time_column, time, atol=1e-8)
    assert header[-1].strip() == "endheader"


@pytest.mark.parametrize("model", ["Model_Pose2Sim_simple.osim", "Model_Pose2Sim_muscles_flex.osim", None])
def test_degrees_where_opensim_has_degrees(tmp_path, skeleton, model):
    """The columns that OpenSim itself turns when it converts a table to degrees."""
    import opensim
    import Pose2Sim

    if model is None:
        path = write_osim(tmp_path / "a.osim", skeleton)
    else:
        path = Path(Pose2Sim.__file__).parent / "OpenSim_Setup" / model
        skeleton = load_skeleton(path)
    truth = opensim.Model(str(path))
    truth.initSystem()
    table = opensim.TimeSeriesTable()
    table.setColumnLabels(skeleton.coordinate_names)
    table.appendRow(0.0, opensim.RowVector(len(skeleton.coordinate_names), 1.0))
    table.addTableMetaDataString("inDegrees", "no")
    truth.getSimbodyEngine().convertRadiansToDegrees(table)
    turned = table.getMatrix().to_numpy()[0] > 2
    np.testing.assert_array_equal(turned, in_degrees(skeleton))


def test_mot_leaves_out_frames_without_a_pose(tmp_path, skeleton, motion):
    time, coordinates, _ = motion
    gap = coordinates.copy()
    gap[3] = np.nan
    table = read_mot(write_mot(tmp_path / "a.mot", time, gap, skeleton), skeleton)
    np.testing.assert_allclose(table.time, np.delete(time, 3), atol=1e-8)
    with pytest.raises(BiokinError, match="no frame holds a pose"):
        write_mot(tmp_path / "b.mot", time, np.full_like(gap, np.nan), skeleton)
    assert not (tmp_path / "b.mot").exists()


@pytest.mark.parametrize("text", ["", "no header", "inDegrees=yes\nendheader\ntime\ta\n0\t1\t2\n"])
def test_broken_mot(tmp_path, skeleton, text):
    (tmp_path / "a.mot").write_text(text)
    with pytest.raises(BiokinError, match=r"a\.mot"):
        read_mot(tmp_path / "a.mot", skeleton)


def test_trc_round_trip_opensim_and_pose2sim(tmp_path, points):
    import opensim
    from Pose2Sim.common import read_trc as pose2sim_read_trc

    path = write_trc(tmp_path / "a.trc", points, RATE)
    back = read_trc(path)
    assert back.names == points.names and len(set(points.names)) == 22 + 66
    np.testing.assert_array_equal(back.frames, points.frames)
    np.testing.assert_allclose(back.points, points.points, atol=1e-7)

    lines = path.read_text().splitlines()
    assert lines[0].endswith("a.trc") and lines[2].split("\t")[4] == "m" and len(lines) == 5 + len(back.time)
    markers = opensim.TimeSeriesTableVec3(str(path))
    assert tuple(markers.getColumnLabels()) == points.names
    assert markers.getTableMetaDataString("Units") == "m"
    row = [markers.getRowAtIndex(2)[k].to_numpy() for k in range(len(points.names))]
    np.testing.assert_allclose(row, points.points[2], atol=1e-6)
    data, frames, time, names, _ = pose2sim_read_trc(path)
    assert tuple(names) == points.names
    np.testing.assert_allclose(data.to_numpy().reshape(points.points.shape), points.points, atol=1e-7)
    np.testing.assert_array_equal(frames, points.frames)
    np.testing.assert_allclose(time, points.time, atol=1e-8)


def test_trc_gap(tmp_path, points):
    gap = points.points.copy()
    gap[2] = np.nan
    back = read_trc(write_trc(tmp_path / "a.trc", points._replace(points=gap), RATE))
    assert np.isnan(back.points[2]).all() and np.isfinite(np.delete(back.points, 2, axis=0)).all()


def test_broken_trc(tmp_path):
    (tmp_path / "a.trc").write_text("nothing\n")
    with pytest.raises(BiokinError, match=r"a\.trc.*5 header lines"):
        read_trc(tmp_path / "a.trc")


def test_opensim_puts_the_written_model_where_the_trc_says(tmp_path, skeleton, motion, points):
    """The scaled .osim at the .mot, through the OpenSim API alone, is the .trc."""
    import opensim

    time, coordinates, scales = motion
    model = opensim.Model(str(write_osim(tmp_path / "a.osim", skeleton, scales, mass_kg=70.0)))
    table = opensim.TimeSeriesTable(str(write_mot(tmp_path / "a.mot", time, coordinates, skeleton)))
    trc = read_trc(write_trc(tmp_path / "a.trc", points, RATE))
    state = model.initSystem()
    labels, values = list(table.getColumnLabels()), table.getMatrix().to_numpy()
    joints = {j.getName(): j for j in model.getJointSet()}
    for t in range(len(time)):
        for label, value in zip(labels, values[t], strict=True):
            coordinate = model.getCoordinateSet().get(label)
            rotational = coordinate.getMotionType() == 1
            coordinate.setValue(state, np.deg2rad(value) if rotational else value, False)
        model.realizePosition(state)
        for k, name in enumerate(trc.names):
            if name in joints:
                found = joints[name].getChildFrame().getPositionInGround(state).to_numpy()
            else:
                found = model.getMarkerSet().get(name).getLocationInGround(state).to_numpy()
            np.testing.assert_allclose(found, trc.points[t, k], atol=1e-4, err_msg=name)


def test_pose2sims_own_markers_of_the_motion_are_the_trc(tmp_path, skeleton, motion, points):
    from Pose2Sim.Utilities.trc_from_mot_osim import trc_from_mot_osim_func

    time, coordinates, scales = motion
    osim = write_osim(tmp_path / "a.osim", skeleton, scales)
    mot = write_mot(tmp_path / "a.mot", time, coordinates, skeleton)
    trc_from_mot_osim_func(input_mot_file=mot, input_osim_file=osim, trc_output_file=str(tmp_path / "b.trc"))
    theirs = read_trc(tmp_path / "b.trc")
    assert theirs.names == skeleton.marker_names
    columns = [points.names.index(name) for name in theirs.names]
    np.testing.assert_allclose(theirs.points, points.points[:, columns], atol=1e-5)


def test_c3d(tmp_path, points):
    import c3d

    gap = points.points.copy()
    gap[3, 5] = np.nan
    path = write_c3d(tmp_path / "a.c3d", points._replace(points=gap), RATE)
    with path.open("rb") as file:
        reader = c3d.Reader(file)
        assert tuple(label.strip() for label in reader.point_labels) == points.names
        assert reader.point_rate == RATE and reader.first_frame == FIRST
        rows = np.stack([p for _, p, _ in reader.read_frames()])
    missing = np.zeros(gap.shape[:2], bool)
    missing[3, 5] = True
    np.testing.assert_array_equal(rows[..., 3] == -1, missing)
    np.testing.assert_allclose(rows[~missing][:, :3] / 1000, points.points[~missing], atol=1e-6)


def test_c3d_is_read_by_pose2sim(tmp_path, points):
    from Pose2Sim.Utilities.c3d_to_trc import c3d_to_trc_func

    write_c3d(tmp_path / "a.c3d", points, RATE)
    c3d_to_trc_func(str(tmp_path / "a.c3d"))
    rows = np.genfromtxt(tmp_path / "a.trc", skip_header=5, delimiter="\t")
    np.testing.assert_allclose(rows[:, 2:].reshape(points.points.shape), points.points, atol=1e-6)


def _read_bvh(path):
    """Joint positions (T, n, 3) and names by a reader that shares nothing with the writer."""
    lines = [line.split() for line in path.read_text().splitlines() if line.strip()]
    joints, stack, end = [], [], False
    for words in lines:
        if words[0] in ("ROOT", "JOINT"):
            joints.append({"name": words[1], "parent": stack[-1] if stack else None})
            stack.append(len(joints) - 1)
        elif words[0] == "End":
            end = True
        elif words[0] == "OFFSET" and not end:
            joints[stack[-1]]["offset"] = np.array(words[1:], float)
        elif words[0] == "CHANNELS":
            joints[stack[-1]]["channels"] = words[2:]
            assert len(words) == 2 + int(words[1])
        elif words[0] == "}":
            if end:
                end = False
            else:
                stack.pop()
        elif words[0] == "MOTION":
            break
    i = lines.index(["MOTION"])
    count, step = int(lines[i + 1][1]), float(lines[i + 2][2])
    rows = np.array(lines[i + 3 :], float)
    assert len(rows) == count

    def turn(axis, degrees):
        c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
        a, b = {"X": (1, 2), "Y": (2, 0), "Z": (0, 1)}[axis]
        matrix = np.eye(3)
        matrix[a, a] = matrix[b, b] = c
        matrix[a, b], matrix[b, a] = -s, s
        return matrix

    positions = np.zeros((count, len(joints), 3))
    for t, row in enumerate(rows):
        values, frames = iter(row), []
        for k, joint in enumerate(joints):
            place, rotation = joint["offset"].copy(), np.eye(3)
            for channel in joint["channels"]:
                value = next(values)
                if channel.endswith("position"):
                    place["XYZ".index(channel[0])] = value
                else:
                    rotation = rotation @ turn(channel[0], value)
            if joint["parent"] is not None:
                above, origin = frames[joint["parent"]]
                place, rotation = origin + above @ place, above @ rotation
            frames.append((rotation, place))
            positions[t, k] = place
        assert next(values, None) is None
    return [joint["name"] for joint in joints], positions, step


def test_bvh_puts_every_joint_where_forward_kinematics_does(tmp_path, skeleton, motion, points):
    time, coordinates, scales = motion
    path = write_bvh(tmp_path / "a.bvh", time, coordinates, scales, skeleton)
    names, positions, step = _read_bvh(path)
    assert sorted(names) == sorted(skeleton.body_names)
    assert step == pytest.approx(1 / RATE)
    order = [skeleton.body_index(name) for name in names]
    np.testing.assert_allclose(positions, points.points[:, order], atol=1e-5)


def test_bvh_holds_the_pose_in_a_gap(tmp_path, skeleton, motion):
    time, coordinates, scales = motion
    gap = coordinates.copy()
    gap[[0, 4]] = np.nan
    _, positions, _ = _read_bvh(write_bvh(tmp_path / "a.bvh", time, gap, scales, skeleton))
    np.testing.assert_allclose(positions[4], positions[3])
    np.testing.assert_allclose(positions[0], positions[1])


def test_filter_names_are_upstreams():
    import inspect

    from Pose2Sim import filtering

    source = inspect.getsource(filtering.filter1d)
    assert all(f"'{name}':" in source for name in FILTERS)
    assert source.count("_filter_1d") == len(FILTERS)


def test_filter_follows_upstreams_keys():
    assert ik_filter_type({}) is None
    assert ik_filter_type({"kinematics": {"filter_ik": True}}) == "acc_minimizing"
    assert ik_filter_type({"kinematics": {"filter_ik": True, "ik_filter_type": "LOESS"}}) == "loess"
    with pytest.raises(BiokinError, match="ik_filter_type.*'boxcar'.*butterworth"):
        ik_filter_type({"kinematics": {"filter_ik": True, "ik_filter_type": "boxcar"}})


def test_filter_smooths_and_respects_gaps():
    time = np.arange(120) / RATE
    clean = 20 * np.sin(2 * np.pi * time)
    noisy = clean + np.random.default_rng(0).normal(0, 1, len(time))
    values = np.column_stack([noisy, np.zeros_like(noisy)])
    values[50:60] = np.nan
    config = {"filtering": {"reject_outliers": True, "butterworth": {"order": 4, "cut_off_frequency": 6}}}
    result = filter_coordinates(values, RATE, config, "butterworth")
    assert np.isnan(result[50:60]).all() and (result[:50, 1] == 0).all()
    good = np.isfinite(result[:, 0])
    assert np.std(result[good, 0] - clean[good]) < 0.6
    np.testing.assert_array_equal(values[:, 0] == noisy, good)
