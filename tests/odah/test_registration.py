"""Registration of skeleton and mesh: joints and markers on unseen people, scaling against OpenSim itself."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from odah.bodies import regressor
from odah.bodies.anatomy import anatomy_checks, hara_hips, harrington_hips, predicted_hips
from odah.bodies.open_body import OpenBody
from odah.bodies.registration import (
    ASSET,
    CENTER_MARKERS,
    Registration,
    load_registration,
    read_registration,
)
from odah.bodies.scaling import MESH_MEASUREMENTS, scale_from_markers
from pose2sim_biokin.errors import BiokinError
from pose2sim_biokin.io.osim import write_osim
from pose2sim_biokin.skeleton import BodyFrames, ForwardKinematics


@pytest.fixture(scope="module")
def body() -> OpenBody:
    return OpenBody()


@pytest.fixture(scope="module")
def registration(body) -> Registration:
    return load_registration(body)


@pytest.fixture(scope="module")
def examples(body) -> regressor.Examples:
    """People and motions that the shipped registration was not made from."""
    return regressor.sample_examples(body, range(60_000, 60_008), 8, "test")


def _residuals(body, registration, examples):
    return registration.residuals(body.kinematics, examples.frames, examples.scales, examples.vertices)


def test_joint_centers_of_unseen_people(body, registration, examples):
    joints, _ = _residuals(body, registration, examples)
    assert registration.joint_names == body.skeleton.body_names
    assert joints.square().mean().sqrt() < 0.007
    assert joints.max() < 0.015


def test_markers_of_unseen_people(body, registration, examples):
    _, markers = _residuals(body, registration, examples)
    assert len(markers) >= 50 and markers.square().mean().sqrt() < 0.015
    bony = [registration.marker_index(n) for n in ("RLMAL", "LMMAL", "RCAL", "LFAradius", "RLEL", "C7")]
    assert markers[bony].max() < 0.012


def test_a_moved_mesh_moves_joints_and_markers_alike(body, registration):
    vertices = body.sample_subject(3).vertices
    turn = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(0)))[0]
    shift = torch.tensor([1.0, -2.0, 0.5])
    for points in (registration.joint_centers, registration.markers):
        torch.testing.assert_close(points(vertices @ turn.T + shift), points(vertices) @ turn.T + shift)
    dense = registration.regressor.to_dense()
    torch.testing.assert_close(dense.sum(1), torch.ones(22), atol=1e-5, rtol=0)
    torch.testing.assert_close(dense @ vertices, registration.joint_centers(vertices), atol=1e-5, rtol=0)
    with pytest.raises(ValueError, match="3500"):
        registration.markers(vertices[:-1])


def test_both_meshes_have_the_same_points(body, registration):
    fine = OpenBody("fine")
    other = load_registration(fine)
    assert other.vertex_count > registration.vertex_count
    a, b = body.sample_subject(7), fine.sample_subject(7)
    for name in ("joint_centers", "markers"):
        ours, theirs = (getattr(r, name)(s.vertices) for r, s in ((registration, a), (other, b)))
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


def test_sides_and_directions(body, registration):
    subject = body.sample_subject(11)
    points = dict(zip(registration.marker_names, registration.markers(subject.vertices).numpy(), strict=True))
    for right in (n for n in points if n.startswith("R")):
        left = "L" + right[1:]
        assert points[right][2] > 0.01 and points[left][2] < -0.01
        mirrored = points[left] * [1, 1, -1]
        assert np.linalg.norm(points[right] - mirrored) < 0.02, right
    assert points["RASI"][0] > points["RPSI"][0] + 0.1 and points["CLAV"][0] > points["C7"][0] + 0.05
    assert points["RTOE"][0] > points["RCAL"][0] + 0.1
    assert points["RLFC"][2] > points["RMFC"][2] + 0.06 and points["RLMAL"][2] > points["RMMAL"][2] + 0.03


def test_model_markers_are_those_of_the_marker_skeleton(body, registration, examples):
    skeleton = registration.marker_skeleton(body.skeleton)
    frames = BodyFrames(examples.frames.rotation[:4], examples.frames.position[:4])
    scales = examples.scales[:4]
    through_skeleton = ForwardKinematics(skeleton).markers(frames, scales)
    order = [skeleton.marker_index(n) for n in registration.marker_names]
    ours = registration.model_markers(frames, scales)
    torch.testing.assert_close(through_skeleton[:, order], ours, atol=1e-5, rtol=0)
    centers = body.kinematics.joint_centers(frames, scales)
    for marker, joint in CENTER_MARKERS.items():
        torch.testing.assert_close(
            through_skeleton[:, skeleton.marker_index(marker)],
            centers[:, body.skeleton.body_index(joint)],
            atol=1e-5,
            rtol=0,
        )
    assert set(body.skeleton.marker_names) <= set(skeleton.marker_names)


def test_joint_fit_finds_a_known_combination():
    """Random clouds whose joints are combinations of six vertices each: found again on clouds not seen."""
    rng = np.random.default_rng(0)
    vertices = rng.normal(0, 0.05, (120, 60, 3))
    truth = np.zeros((2, 60))
    for row in truth:
        row[rng.choice(60, 6, replace=False)] = rng.uniform(0.1, 0.3, 6)
        row /= row.sum()
    joints = np.einsum("jv,nvc->njc", truth, vertices)
    cloud = SimpleNamespace(vertices=torch.tensor(vertices[:80]), joints=torch.tensor(joints[:80]))
    index, weights = regressor.fit_joints(cloud)
    np.testing.assert_allclose(weights.sum(1), 1.0, atol=1e-9)
    for j in range(2):
        found = np.einsum("k,nkc->nc", weights[j], vertices[80:, index[j]])
        assert np.abs(found - joints[80:, j]).max() < 0.002


def test_any_other_body_is_trained(body, examples):
    """The built-in body under another guise, as a user's own model would come: no shipped file for it."""
    keep = torch.arange(0, 3500, 2)
    half = SimpleNamespace(skeleton=body.skeleton, kinematics=body.kinematics, weights=body.weights[keep])
    seen = regressor.Examples(
        examples.vertices[:48, keep],
        BodyFrames(examples.frames.rotation[:48], examples.frames.position[:48]),
        examples.scales[:48],
        examples.joints[:48],
    )
    trained = regressor.train_registration(half, examples=seen)
    unseen = BodyFrames(examples.frames.rotation[48:], examples.frames.position[48:])
    joints, markers = trained.residuals(
        body.kinematics, unseen, examples.scales[48:], examples.vertices[48:, keep]
    )
    assert trained.vertex_count == len(keep)
    assert joints.square().mean().sqrt() < 0.015 and markers.square().mean().sqrt() < 0.02


def test_registration_file_errors(body, tmp_path):
    with pytest.raises(BiokinError, match="odah.bodies.regressor"):
        read_registration(tmp_path / "none.npz", 3500, body.skeleton)
    (tmp_path / "broken.npz").write_bytes(b"not an archive")
    with pytest.raises(BiokinError, match="cannot be read"):
        read_registration(tmp_path / "broken.npz", 3500, body.skeleton)
    other = SimpleNamespace(name="other", body_names=("a", "b"))
    with pytest.raises(BiokinError, match="expected those of other"):
        read_registration(ASSET, 3500, other)
    assert read_registration(ASSET, 17, body.skeleton) is None


def test_select_keeps_the_order(registration):
    some = registration.select(["RTOE", "C7"])
    vertices = torch.randn(registration.vertex_count, 3)
    all_markers = registration.markers(vertices)
    rows = [registration.marker_index(n) for n in ("RTOE", "C7")]
    torch.testing.assert_close(some.markers(vertices), all_markers[rows])
    with pytest.raises(BiokinError, match="RNOSE"):
        registration.select(["RNOSE"])


@pytest.fixture(scope="module")
def scaled(body, registration, tmp_path_factory):
    """A mesh's markers through OpenSim's ScaleTool: our factors, its factors, its scaled model."""
    import opensim

    opensim.Logger.setLevelString("Error")
    opensim.Logger.removeFileSink()
    folder = tmp_path_factory.mktemp("scale")
    skeleton = registration.marker_skeleton(body.skeleton)
    names, points = registration.virtual_markers(body.sample_subject(5).vertices)
    write_osim(folder / "generic.osim", skeleton)
    table = opensim.TimeSeriesTableVec3()
    table.setColumnLabels(list(names))
    for time in (0.0, 0.01, 0.02):
        # wobbling a little: the tool averages distances over the frames
        row = [opensim.Vec3(*map(float, p * (1 + time))) for p in points.numpy()]
        table.appendRow(time, opensim.RowVectorVec3(row))
    table.addTableMetaDataString("DataRate", "100")
    table.addTableMetaDataString("Units", "m")
    opensim.TRCFileAdapter().write(table, str(folder / "static.trc"))

    model = opensim.Model(str(folder / "generic.osim"))
    scaler = opensim.ModelScaler()
    scaler.setMarkerFileName("static.trc")
    times = opensim.ArrayDouble()
    for time in (0.0, 0.02):
        times.append(time)
    scaler.setTimeRange(times)
    order = opensim.ArrayStr()
    order.append("measurements")
    scaler.setScalingOrder(order)
    for measurement in MESH_MEASUREMENTS:
        theirs = opensim.Measurement()
        theirs.setName(measurement.name)
        theirs.setApply(True)
        for pair in measurement.pairs(names):
            theirs.getMarkerPairSet().cloneAndAppend(opensim.MarkerPair(*pair))
        for name in measurement.bodies:
            scale = opensim.BodyScale()
            scale.setName(name)
            axes = opensim.ArrayStr()
            for axis in measurement.axes:
                axes.append(axis)
            scale.setAxisNames(axes)
            theirs.getBodyScaleSet().cloneAndAppend(scale)
        scaler.addMeasurement(theirs)
    scaler.setOutputScaleFileName("factors.xml")
    assert scaler.processModel(model, str(folder) + "/", 75.0)
    trial = np.stack([points.numpy() * (1 + t) for t in (0.0, 0.01, 0.02)])
    ours = scale_from_markers(skeleton, names, trial)
    factors = {}
    scale_set = opensim.ScaleSet(str(folder / "factors.xml"))
    for i in range(scale_set.getSize()):
        scale = scale_set.get(i)
        factors[scale.getSegmentName()] = scale.getScaleFactors().to_numpy()
    return skeleton, ours, factors, model


def test_scale_factors_are_those_of_opensims_scale_tool(scaled):
    skeleton, ours, theirs, _ = scaled
    for name, factors in zip(skeleton.body_names, ours, strict=True):
        np.testing.assert_allclose(factors, theirs[name], atol=2e-5, err_msg=name)
    assert np.ptp(ours, axis=0).min() > 0.1  # not all alike


def test_the_scaled_model_is_where_opensim_puts_it(scaled):
    skeleton, ours, _, model = scaled
    state = model.initSystem()
    kinematics = ForwardKinematics(skeleton, dtype=torch.float64)
    s = torch.as_tensor(ours)
    coordinates = model.getCoordinateSet()
    q = torch.tensor([coordinates.get(n).getValue(state) for n in skeleton.coordinate_names])
    frames = kinematics(q, s)
    model.realizePosition(state)
    for name, point in zip(skeleton.marker_names, kinematics.markers(frames, s), strict=True):
        theirs = model.getMarkerSet().get(name).getLocationInGround(state).to_numpy()
        np.testing.assert_allclose(point.numpy(), theirs, atol=1e-4, err_msg=name)
    centers = kinematics.joint_centers(frames, s)
    for i, name in enumerate(skeleton.joints.names):
        joint = model.getJointSet().get(name)
        theirs = joint.getChildFrame().getPositionInGround(state).to_numpy()
        np.testing.assert_allclose(centers[i].numpy(), theirs, atol=1e-4, err_msg=name)


def test_scaling_gives_the_factors_back(body, registration):
    """Markers of the scaled skeleton in its default pose: the long axes come back as they went in."""
    skeleton = registration.marker_skeleton(body.skeleton)
    kinematics = ForwardKinematics(skeleton, dtype=torch.float64)
    truth = body.sample_subject(9).scales.double()
    q = kinematics.constrain(torch.as_tensor(np.array(skeleton.coordinate_defaults)))
    points = kinematics.markers(kinematics(q, truth), truth).numpy()
    found = scale_from_markers(skeleton, skeleton.marker_names, points)
    for name, axis in (("femur_r", 1), ("tibia_l", 1), ("humerus_r", 1), ("pelvis", 2)):
        i = skeleton.body_index(name)
        assert found[i, axis] == pytest.approx(float(truth[i, axis]), abs=0.03), name


def test_markers_that_cannot_scale(body, registration):
    skeleton = registration.marker_skeleton(body.skeleton)
    names, points = registration.virtual_markers(body.sample_subject(5).vertices)
    points = points.numpy()
    with pytest.raises(BiokinError, match="trial.trc.*pelvis width"):
        scale_from_markers(skeleton, ["C7", "CLAV"], points[:2], source="trial.trc")
    points[names.index("RASI")] = np.nan
    with pytest.raises(BiokinError, match="pelvis"):
        scale_from_markers(skeleton, names, points)


def test_hip_regressions_in_numbers():
    """The equations at a pelvis 240 mm wide and 150 mm deep, and a leg of 900 mm, worked out by hand."""
    np.testing.assert_allclose(
        harrington_hips(torch.tensor(0.240), torch.tensor(0.150)), [-0.0459, -0.0829, 0.0865], atol=1e-6
    )
    np.testing.assert_allclose(hara_hips(torch.tensor(0.9)), [-0.0457, -0.0792, 0.0854], atol=1e-6)


@pytest.mark.parametrize("method", ["harrington", "hara"])
def test_hips_follow_the_pelvis(method):
    """A pelvis turned and moved takes its hips along; the right hip is right of, below and behind."""
    points = {
        "RASI": [0.0, 0.0, 0.12],
        "LASI": [0.0, 0.0, -0.12],
        "RPSI": [-0.15, 0.0, 0.05],
        "LPSI": [-0.15, 0.0, -0.05],
        "RMMAL": [0.0, -0.9, 0.12],
        "LMMAL": [0.0, -0.9, -0.12],
    }
    points = {name: torch.tensor(p, dtype=torch.float64) for name, p in points.items()}
    right, left, _ = predicted_hips(points, method)
    assert right[0] < -0.03 and right[1] < -0.07 and right[2] > 0.07
    torch.testing.assert_close(left, right * torch.tensor([1.0, 1.0, -1.0], dtype=torch.float64))
    c, s = np.cos(0.7), np.sin(0.7)
    turn = torch.tensor([[c, 0.0, s], [0.0, 1.0, 0.0], [-s, 0.0, c]], dtype=torch.float64)
    moved, _, _ = predicted_hips({n: turn @ p + 1.0 for n, p in points.items()}, method)
    torch.testing.assert_close(moved, turn @ right + 1.0)


def test_anatomy_of_our_people(body):
    checks = anatomy_checks(body, body.sample_subjects(list(range(200, 206))))
    by_joint = {(c.joint, c.method.split(",")[0]): c for c in checks}
    assert by_joint["ankle", "middle of LMAL and MMAL"].distance < 10
    assert by_joint["knee", "middle of LFC and MFC"].distance < 25
    assert by_joint["elbow", "middle of LEL and MEL"].distance < 20
    hips = [c for c in checks if c.joint == "hip"]
    assert len(hips) == 4 and max(abs(c.offset[2]) for c in hips) < 15
    assert max(c.distance for c in hips) < 50
