"""Known motions, through virtual markers and OpenSim's own scaling and inverse kinematics, and back."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
import torch

from odah.bodies.open_body import OpenBody
from odah.bodies.registration import load_registration
from odah.motions.actions import perform
from odah.motions.amass import amass_markers, read_amass_file
from odah.motions.marker_trials import fit_recordings, solve_trial
from odah.motions.opensim_tools import MarkerFit, scale_and_solve, turned_coordinates
from odah.motions.sources import read_motion_source
from pose2sim_biokin.errors import BiokinError
from pose2sim_biokin.io.trc import MarkerTable, write_trc
from pose2sim_biokin.skeleton import ForwardKinematics, load_skeleton
from pose2sim_biokin.skeleton.angles import CONSTRAINED
from pose2sim_biokin.skeleton.rotations import matrix_to_axis_angle
from tests.odah.tiny_smplx import write_tiny_smplx

SKELETON = load_skeleton()
ANGLES = [i for i, n in enumerate(SKELETON.coordinate_names) if n in CONSTRAINED]


def coordinates(frames: int = 10, fps: float = 10.0) -> np.ndarray:
    """A reach with bent knees, heading backwards in the room."""
    tracks = perform("reach", np.random.default_rng(4), frames, fps)
    tracks.curves["turn"] = tracks.get("turn") + 150.0
    q = tracks.coordinates(SKELETON)
    q[:, SKELETON.coordinate_index("pelvis_ty")] = 0.95
    q[:, SKELETON.coordinate_index("pelvis_tx")] = np.linspace(1.0, 1.4, frames)
    return q


def table(points: torch.Tensor, names: tuple[str, ...], fps: float) -> MarkerTable:
    count = np.arange(len(points))
    return MarkerTable(count + 1, count / fps, names, points.double().numpy())


@pytest.fixture(scope="module")
def solved() -> tuple[MarkerFit, np.ndarray, np.ndarray]:
    """What OpenSim made of the mesh of a known motion; the motion; the subject's scales."""
    body = OpenBody()
    registration = load_registration(body)
    subject = body.sample_subject(3)
    q = coordinates()
    names, points = registration.virtual_markers(body.pose(subject, torch.as_tensor(q).float()))
    _, rest = registration.virtual_markers(subject.vertices[None])
    skeleton = registration.marker_skeleton(SKELETON)
    fit = scale_and_solve(
        table(points, names, 10.0), skeleton, table(rest, names, 10.0), place_markers=False, source="mesh"
    )
    return fit, q, subject.scales.numpy()


def test_angles_come_back_from_the_mesh(solved):
    fit, q, _ = solved
    error = np.degrees(np.abs(fit.coordinates - q))[:, ANGLES].mean(0)
    assert error.mean() < 3.0, dict(zip(CONSTRAINED, error.round(1), strict=False))
    frames, truth = (
        ForwardKinematics(SKELETON, torch.float64)(torch.as_tensor(x)) for x in (fit.coordinates, q)
    )
    between = frames.rotation.transpose(-1, -2) @ truth.rotation
    turned = np.degrees(matrix_to_axis_angle(between).norm(dim=-1).numpy()).mean(0)
    for body in ("pelvis", "torso", "femur_r", "tibia_l", "humerus_r", "humerus_l"):
        assert turned[SKELETON.body_index(body)] < 6.0, body
    assert np.abs(fit.coordinates - q)[:, SKELETON.coordinate_index("pelvis_tx")].max() < 0.05
    assert 0.001 < fit.marker_rms_m < 0.030 and fit.frame_rms_m.shape == (10,)


def test_scales_come_back_from_the_mesh(solved):
    fit, _, scales = solved
    for body in ("femur_r", "tibia_r", "humerus_l", "ulna_r", "torso"):
        i = SKELETON.body_index(body)
        assert abs(fit.scales[i, 1] / scales[i, 1] - 1) < 0.06, body
    assert np.allclose(fit.scales[SKELETON.body_index("femur_r")], fit.scales[SKELETON.body_index("femur_l")])


def test_a_clip_with_markers_far_from_the_model_is_rejected(solved):
    fit, _, _ = solved
    far = MarkerFit(fit.time, fit.coordinates, fit.scales, fit.marker_names, np.full(10, 0.0312))
    report = []
    assert fit_recordings(far, "far", "lab", SKELETON, report, shortest=2) == []
    assert "marker RMS 31.2 mm" in report[0].reason and "at most 30 mm" in report[0].reason
    assert fit_recordings(fit, "near", "lab", SKELETON, report, shortest=2)[0].name.startswith("near[")


def test_turning_coordinates_turns_the_person():
    q = coordinates(3)
    turned = turned_coordinates(q, SKELETON, 0.7)
    fk = ForwardKinematics(SKELETON, torch.float64)
    a, b = (fk.joint_centers(fk(torch.as_tensor(x))).numpy() for x in (q, turned))
    c, s = np.cos(0.7), np.sin(0.7)
    np.testing.assert_allclose(b, a @ np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]]).T, atol=1e-9)


def test_a_marker_trial_of_the_skeleton_itself(tmp_path):
    """Bony markers alone, Z up, millimetres; joint centres for scaling are worked out from them."""
    fk = ForwardKinematics(SKELETON, torch.float64)
    scales = torch.ones(22, 3).double() * 1.08
    q = coordinates(6)
    standing = np.zeros((1, 39))
    keep = [n for n in SKELETON.marker_names if not n.endswith(("JC", "plateau"))]
    index = [SKELETON.marker_index(n) for n in keep]
    for name, motion in (("walk", q), ("static", standing)):
        motion = torch.as_tensor(motion)
        points = 1000 * fk.markers(fk(motion, scales), scales)[:, index][..., [2, 0, 1]]
        path = write_trc(tmp_path / f"{name}.trc", table(points, tuple(keep), 10.0), 10.0)
        path.write_text(path.read_text(encoding="utf-8").replace("\tm\t", "\tmm\t"), encoding="utf-8")
    fit = solve_trial(tmp_path / "walk.trc", SKELETON, tmp_path / "static.trc")
    assert not {"RHJC", "RSJC"} & set(fit.marker_names)
    # OpenSim's markers were put where the static trial has them: what is left is the error of the scaling
    assert fit.marker_rms_m < 0.006
    error = np.degrees(np.abs(fit.coordinates - q))[:, ANGLES]
    assert error.mean() < 3.0
    long_axes = [fit.scales[SKELETON.body_index(n), 1] for n in ("femur_r", "tibia_r", "humerus_r")]
    np.testing.assert_allclose(long_axes, 1.08, atol=0.09)


needs_smplx = pytest.mark.skipif(importlib.util.find_spec("smplx") is None, reason="smplx is not installed")


def amass_arrays(frames: int = 60) -> dict[str, np.ndarray]:
    """SMPL-X, 100 Hz, Z up, facing Y: the right knee bends by 70 degrees, the right arm comes down."""
    poses = np.zeros((frames, 55, 3))
    poses[:, 0] = [np.pi / 2, 0.0, 0.0]  # stands up out of the file's Y-up axes, and faces -Y
    bend = np.linspace(0.0, np.radians(70.0), frames)
    poses[:, 5, 0] = bend  # right knee
    poses[:, 2, 0] = -0.5 * bend  # right hip
    poses[:, 16, 2], poses[:, 17, 2] = -0.9, 0.9  # shoulders: arms down
    return {
        "poses": poses.reshape(frames, 165),
        "trans": np.tile([0.3, -0.2, 1.0], (frames, 1)),
        "betas": np.zeros(16),
        "gender": np.array("neutral"),
        "mocap_frame_rate": np.array(100.0),
        "surface_model_type": np.array("smplx"),
    }


@needs_smplx
def test_an_amass_file_through_the_whole_path(tmp_path):
    write_tiny_smplx(tmp_path)
    arrays = amass_arrays()
    path = tmp_path / "amass" / "subject" / "bend_poses.npz"
    path.parent.mkdir(parents=True)
    np.savez(path, **arrays)
    report = []
    recordings = read_motion_source(path, SKELETON, model_folder=tmp_path, report=report)
    assert len(recordings) == 1 and not report
    q = recordings[0].tracks.coordinates(SKELETON)
    assert abs(len(q) - 36) <= 2  # 0.6 s at 60 Hz

    def moved(name: str) -> float:
        column = np.degrees(q[:, SKELETON.coordinate_index(name)])
        return float(column[-1] - column[0])

    # from the first frame to the last at 50 Hz; the model's skin may lag a little behind its joints
    assert abs(moved("knee_angle_r") - 68.8) < 6
    assert abs(moved("hip_flexion_r") - 34.4) < 6
    for name in ("knee_angle_l", "hip_flexion_l", "elbow_flex_l", "lumbar_extension", "pelvis_tilt"):
        assert abs(moved(name)) < 4, name


@needs_smplx
def test_amass_markers_stand_upright_in_ground(tmp_path):
    from odah.bodies.body import load_body

    write_tiny_smplx(tmp_path)
    np.savez(tmp_path / "a.npz", **amass_arrays(4))
    motion = read_amass_file(tmp_path / "a.npz")
    trial, rest = amass_markers(motion, load_body("smplx", model_folder=tmp_path))
    for points in (trial.points[0], rest.points[0]):
        marker = dict(zip(trial.names, points, strict=True))
        assert marker["RACR"][1] > marker["RASI"][1] > marker["RLFC"][1] > marker["RLMAL"][1]
    right = trial.points[0][trial.names.index("RASI")] - trial.points[0][trial.names.index("LASI")]
    # a body that faces -Y of the world has its right at -X: ground (Y, Z, X) makes that -Z
    assert right[2] < -0.15 and abs(right[0]) < 0.02


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"poses": None}, "lacks poses"),
        ({"mocap_frame_rate": None, "trans": None}, "lacks trans, mocap_framerate or mocap_frame_rate"),
        ({"poses": np.zeros((60, 72))}, r"poses is \(60, 72\); expected .*156.*165"),
        ({"trans": np.zeros((59, 3))}, r"trans \(59, 3\)"),
        ({"gender": np.array("robot")}, "gender is 'robot'"),
        (
            {"trans": np.where(np.arange(180).reshape(60, 3) == 99, np.nan, 0)},
            "trans has 1 .*first in frame 33",
        ),
        ({"mocap_frame_rate": np.array(0.0)}, "mocap_frame_rate is 0.0"),
        ({"surface_model_type": np.array("mano")}, "expected smplx or smplh"),
    ],
)
def test_bad_amass_files_are_refused(tmp_path, change, message):
    arrays = {key: value for key, value in (amass_arrays() | change).items() if value is not None}
    path = tmp_path / "bad.npz"
    np.savez(path, **arrays)
    with pytest.raises(BiokinError, match=rf"bad\.npz: .*{message}"):
        read_amass_file(path)


def test_amass_needs_a_model_and_knows_smplh(tmp_path):
    arrays = amass_arrays()
    arrays["poses"] = arrays["poses"][:, :156]
    arrays["mocap_framerate"] = arrays.pop("mocap_frame_rate")
    arrays["gender"] = np.array(b"female")
    del arrays["surface_model_type"]
    np.savez(tmp_path / "h.npz", **arrays)
    motion = read_amass_file(tmp_path / "h.npz")
    assert (motion.kind, motion.gender, motion.fps) == ("smplh", "female", 100.0)
    with pytest.raises(BiokinError, match=r"SMPLX_FEMALE\.npz"):
        read_motion_source(tmp_path / "h.npz", SKELETON)
