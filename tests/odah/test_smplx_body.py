from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_smplx import tiny_arrays, tiny_layer, write_tiny_smplx

from odah.bodies import acquisition, registration
from odah.bodies.acquisition import MeshPoints, fit_motion, fit_points, linearize, registered_points
from odah.bodies.body import JOINT_LIMIT_M, MARKER_LIMIT_M, load_body
from odah.bodies.fitting import JOINT_SIGMA
from odah.bodies.regressor import train_registration
from odah.bodies.shape_fit import fit_shape
from odah.bodies.smplx_body import SmplxBody
from odah.bodies.smplx_model import JOINTS, read_smplx
from odah.bodies.smplx_tables import JOINT_TARGETS, R_GROUND_FILE
from odah.motions.sampler import sample_motion
from pose2sim_biokin.errors import BiokinError
from pose2sim_biokin.skeleton.rotations import axis_angle_to_matrix


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("models")
    write_tiny_smplx(path)
    write_tiny_smplx(path, "female", "pkl")
    return path


@pytest.fixture(scope="module")
def body(folder) -> SmplxBody:
    out = load_body("smplx", model_folder=folder)
    registration._trained[out] = train_registration(out, subjects=16, poses=8)
    return out


@pytest.fixture(scope="module")
def subject(body):
    return body.sample_subject(61)


@pytest.fixture(scope="module")
def coordinates(body) -> torch.Tensor:
    motion = sample_motion(np.random.default_rng(1), "train", [], 90, body.kinematics, 60.0)
    return torch.as_tensor(motion.coordinates, dtype=torch.float32)


@pytest.fixture(scope="module")
def animation(body, subject, coordinates):
    return body.animate(subject, coordinates)


def _smplx_forward(layer, betas, rotations, translation):
    """The smplx package's own vertices and joints of axis-angles (n,55,3)."""
    n = len(rotations)
    parts = rotations.reshape(n, -1).split([3, 63, 3, 3, 3, 45, 45], 1)
    names = ("global_orient", "body_pose", "jaw_pose", "leye_pose", "reye_pose")
    names += ("left_hand_pose", "right_hand_pose")
    expression = torch.zeros(n, 10)
    pose = dict(zip(names, parts, strict=True))
    with torch.no_grad():
        out = layer(betas=betas.expand(n, -1), transl=translation, expression=expression, **pose)
    return out.vertices, out.joints[:, :55]


def test_skinning_is_that_of_the_smplx_package(folder, body):
    rng = torch.Generator().manual_seed(0)
    betas = torch.randn(1, 10, generator=rng)
    turns = 0.5 * torch.randn(3, 55, 3, generator=rng)
    translation = torch.randn(3, 3, generator=rng)
    expected, expected_joints = _smplx_forward(tiny_layer(folder), betas, turns, translation)
    vertices, joints = body.model.mesh(betas, axis_angle_to_matrix(turns), translation)
    assert torch.allclose(vertices, expected, atol=1e-5)
    assert torch.allclose(joints, expected_joints, atol=1e-5)
    turns[:, 22:] = 0  # hands flat: the first 22 rotations are enough
    expected, _ = _smplx_forward(tiny_layer(folder), betas, turns, translation)
    vertices, _ = body.model.mesh(betas, axis_angle_to_matrix(turns[:, :22]), translation)
    assert torch.allclose(vertices, expected, atol=1e-5)


def test_pickled_models_are_read_like_archives(folder, tmp_path):
    write_tiny_smplx(tmp_path, "female")
    pickled = read_smplx(folder / "smplx" / "SMPLX_FEMALE.pkl", "female")
    archive = read_smplx(tmp_path / "smplx" / "SMPLX_FEMALE.npz", "female")
    for name in ("template", "shapes", "correctives", "weights", "joint_template"):
        assert torch.equal(getattr(pickled, name), getattr(archive, name))
    assert archive.uv is not None and pickled.uv is None
    around = load_body("smplx", model_folder=folder, gender="female").uv
    assert around.min() >= 0 and around.max() <= 1 and around.std(0).min() > 0.1


def test_a_subject_depends_on_its_seed_alone(body, subject):
    first, again = body.sample_subjects([7, 61])
    assert torch.allclose(again.vertices, subject.vertices, atol=1e-6)
    assert torch.allclose(again.scales, subject.scales, atol=1e-5)
    assert not torch.allclose(first.scales, again.scales, atol=1e-3)
    statures = [s.stature for s in body.sample_subjects(list(range(12)))]
    assert 1.3 < min(statures) and max(statures) < 2.1 and np.std(statures) > 0.03


def test_the_skeleton_fits_the_models_joints_at_rest(body):
    errors = []
    for subject in body.sample_subjects(list(range(20, 28))):
        points = body.rest_points(subject.coefficients[None])[0][0, -len(JOINTS) :]
        frames = body.kinematics(subject.rest_coordinates, subject.scales)
        centers = body.kinematics.joint_centers(frames, subject.scales)
        for name in JOINT_SIGMA:
            target = points[[JOINTS.index(n) for n in JOINT_TARGETS[name]]].mean(0)
            error = centers[body.skeleton.body_index(name)] - target
            errors.append(error * torch.tensor([float(name != "torso"), 1.0, 1.0]))  # its depth is free
    assert torch.stack(errors).square().sum(-1).mean().sqrt() < 0.008


def test_what_garments_need(body, subject):
    assert torch.allclose(body.weights.sum(1), torch.ones(len(body.weights)), atol=1e-4)
    names, rest = body.skeleton.body_names, body.rest_mean
    for name, side in (("hand_r", 1), ("hand_l", -1), ("calcn_r", 1), ("calcn_l", -1)):
        owned = body.weights[:, names.index(name)] > 0.6
        assert owned.sum() > 20 and (side * rest[owned, 2] > 0).all()
    assert rest[body.head > 0.6, 1].mean() > rest[body.neck > 0.6, 1].mean() + 0.05 > 0.6
    feet = body.weights[:, [i for i, n in enumerate(names) if n[:5] in ("calcn", "toes_", "talus")]].sum(1)
    assert feet[rest[:, 1].argmin()] > 0.9
    knee = (body.along["thigh_r"] - 1).abs() < 0.1
    assert torch.allclose(body.along["shank_r"][knee], torch.tensor(0.0), atol=0.25)
    a, b, c = (subject.vertices[body.faces[:, k]] for k in range(3))
    assert 0.03 < float((a * torch.linalg.cross(b, c)).sum() / 6) < 0.18  # m3; > 0: faces wind outwards


def test_the_mesh_follows_the_skeleton(folder, body, subject, coordinates, animation):
    assert animation.vertices.shape == (90, len(body.rest_mean), 3)
    assert animation.accepted
    assert animation.joint_rms_m < JOINT_LIMIT_M and animation.marker_rms_m < MARKER_LIMIT_M
    assert animation.joint_residuals_m.shape == (len(animation.joint_names),)
    assert animation.marker_residuals_m.shape == (len(animation.marker_names),)
    # The fitted parameters, through the smplx package: its joints are where the skeleton has them.
    frames = body.kinematics(coordinates, subject.scales)
    motion = fit_motion(body, subject, frames)
    layer = tiny_layer(folder)
    turns = torch.zeros(90, 55, 3)
    turns[:, :22] = _rotation_vectors(motion.rotations)
    vertices, joints = _smplx_forward(layer, subject.coefficients[None], turns, motion.translation)
    assert torch.allclose(vertices @ R_GROUND_FILE.T, animation.vertices, atol=1e-4)
    centers = body.kinematics.joint_centers(frames, subject.scales)
    for name, side in (("tibia", "knee"), ("talus", "ankle"), ("humerus", "shoulder"), ("hand", "wrist")):
        for letter, long in (("r", "right"), ("l", "left")):
            joint = joints[:, JOINTS.index(f"{long}_{side}")] @ R_GROUND_FILE.T
            gap = joint - centers[:, body.skeleton.body_index(f"{name}_{letter}")]
            assert gap.square().sum(-1).mean().sqrt() < 0.015


def _rotation_vectors(rotations: torch.Tensor) -> torch.Tensor:
    """Rotation vectors by SciPy, not by our own code."""
    from scipy.spatial.transform import Rotation

    flat = Rotation.from_matrix(rotations.reshape(-1, 3, 3).double().numpy()).as_rotvec()
    return torch.as_tensor(flat, dtype=torch.float32).view(*rotations.shape[:-2], 3)


def test_a_mesh_that_leaves_the_skeleton_is_reported(body, subject, coordinates):
    wrong = replace(subject, scales=subject.scales * 1.2)
    assert not body.animate(wrong, coordinates[:20]).accepted


def test_clothes_move_with_the_body(body, subject, coordinates, animation):
    dressed = subject.vertices.clone()
    chest = body.model.weights[:, JOINTS.index("spine3")] > 0.9
    assert chest.sum() > 5
    dressed[chest] += torch.tensor([0.02, 0.0, 0.0])
    moved = body.animate(subject, coordinates, dressed)
    away = (moved.vertices - animation.vertices).norm(dim=-1)
    assert torch.allclose(away[:, chest], torch.tensor(0.02), atol=2e-3)
    assert away[:, ~chest].max() < 1e-4
    assert moved.joint_rms_m == animation.joint_rms_m  # of the undressed mesh
    forward = (moved.vertices - animation.vertices)[:, chest].mean(1)
    torso = body.kinematics(coordinates, subject.scales).rotation[:, body.skeleton.body_index("torso")]
    torso_rest = body.kinematics(subject.rest_coordinates, subject.scales).rotation
    expected = (torso @ torso_rest[body.skeleton.body_index("torso")].T)[..., 0]
    cosine = (forward * expected).sum(-1) / forward.norm(dim=-1)
    assert cosine.min() > 0.97


def test_a_known_pose_is_recovered(body, subject, coordinates):
    frames = body.kinematics(coordinates[:30], subject.scales)
    start = body.follow(subject, frames)
    rng = torch.Generator().manual_seed(1)
    twist = 0.12 * torch.randn(22, 3, generator=rng)
    twist[[3, 6, 9, 12, 13, 14, 15]] *= 0.2  # the markers leave the spine's and collars' share open
    truth = start @ axis_angle_to_matrix(twist)
    translation = body.place(subject, frames, start) + torch.tensor([0.03, -0.02, 0.01])
    known = body.skin(subject, truth, translation)
    before = (body.skin(subject, start, translation) - known).norm(dim=-1)
    trained = registration.load_registration(body)
    points = registered_points(body, trained, subject.coefficients)
    targets = torch.cat([trained.joint_centers(known), trained.markers(known)], -2)
    found = fit_points(body, subject, frames, points, targets, torch.full((targets.shape[-2],), 0.003))
    after = body.skin(subject, found.rotations, found.translation)
    limbs = body.head + body.neck < 0.1
    assert before.square().mean().sqrt() > 0.02
    assert (after - known).norm(dim=-1)[:, limbs].square().mean().sqrt() < 0.004
    assert (trained.markers(after) - trained.markers(known)).norm(dim=-1).max() < 0.008


def test_a_known_shape_is_recovered(body):
    for seed in (61, 62):
        truth = body.sample_subject(seed)
        trained = registration.load_registration(body)
        q = truth.rest_coordinates
        vertices = body.animate(truth, q[None]).vertices[0]
        measured = trained.joint_centers(vertices), trained.markers(vertices)
        exact = fit_shape(body, truth.scales, q, *measured)
        off = (exact.vertices - truth.vertices).norm(dim=-1)
        assert off.square().mean().sqrt() < 0.004
        mean = body.make_subjects(torch.zeros(1, body.model.shape_count), [0])[0]
        assert (mean.vertices - truth.vertices).norm(dim=-1).square().mean().sqrt() > 0.02
        # From scale factors alone: not the same person, but one on the same skeleton.
        alike = fit_shape(body, truth.scales)
        assert torch.equal(alike.scales, truth.scales)
        assert abs(alike.stature - truth.stature) < 0.04
        assert body.animate(alike, q.expand(8, -1)).accepted


def test_corrections_are_smooth_over_time(body, subject, coordinates):
    frames = body.kinematics(coordinates, subject.scales)
    trained = registration.load_registration(body)
    points = registered_points(body, trained, subject.coefficients)
    centers = body.kinematics.joint_centers(frames, subject.scales)
    targets = torch.cat([centers, trained.model_markers(frames, subject.scales)], -2)
    rng = torch.Generator().manual_seed(2)
    noisy = targets + 0.01 * torch.randn(targets.shape, generator=rng)
    sigma = torch.full((targets.shape[1],), 0.01)

    def shaking(smooth: bool) -> float:
        found = fit_points(body, subject, frames, points, noisy, sigma, smooth)
        vertices = body.skin(subject, found.rotations, found.translation)
        return float((vertices[2:] - 2 * vertices[1:-1] + vertices[:-2]).square().mean().sqrt())

    assert shaking(True) < 0.5 * shaking(False)


def test_long_motions_have_no_seams(body, subject, coordinates, monkeypatch):
    frames = body.kinematics(coordinates, subject.scales)
    whole = fit_motion(body, subject, frames)
    monkeypatch.setattr(acquisition, "_WINDOW", 50)
    monkeypatch.setattr(acquisition, "_OVERLAP", 20)
    parts = fit_motion(body, subject, frames)
    a, b = (body.skin(subject, m.rotations, m.translation) for m in (whole, parts))
    assert (a - b).norm(dim=-1).max() < 0.002


def test_jacobian_is_that_of_finite_differences(body, subject, coordinates):
    frames = body.kinematics(coordinates[:2], subject.scales)
    start = body.follow(subject, frames).double()
    shift = torch.zeros(2, 3, dtype=torch.float64)
    points = registered_points(body, registration.load_registration(body), subject.coefficients)
    points = MeshPoints(points.moments, points.masses, None)  # correctives are left out of the Jacobian
    joints = body.model.shaped(subject.coefficients.double())[1]
    goal = torch.zeros(2, len(points.masses), 3, dtype=torch.float64)
    sigma = torch.ones(len(points.masses), dtype=torch.float64)
    x = 0.3 * torch.randn(2, 69, generator=torch.Generator().manual_seed(3), dtype=torch.float64)

    def residual(x):
        return linearize(body, joints, points, start, shift, x, goal, sigma)[0]

    _, jacobian = linearize(body, joints, points, start, shift, x, goal, sigma)
    for column in range(0, 69, 4):
        step = torch.zeros(69, dtype=torch.float64)
        step[column] = 1e-6
        expected = (residual(x + step) - residual(x - step)) / 2e-6
        assert torch.allclose(jacobian[..., column], expected, atol=1e-5)


def _save(path, **changes):
    arrays = {k: v for k, v in (tiny_arrays() | changes).items() if v is not None}
    np.savez(path, **arrays)
    return path


def test_files_of_another_kind_are_refused(tmp_path, folder):
    with pytest.raises(BiokinError, match="no SMPLX_NEUTRAL.npz"):
        load_body("smplx", model_folder=tmp_path)
    with pytest.raises(BiokinError, match="no SMPLX_MALE.npz .*SMPLX_FEMALE.pkl"):
        load_body("smplx", model_folder=folder, gender="male")
    with pytest.raises(BiokinError, match="the neutral model, but gender is 'male'"):
        load_body("smplx", model_folder=folder / "smplx" / "SMPLX_NEUTRAL.npz", gender="male")
    small = {
        "weights": np.zeros((1400, 24)),
        "kintree_table": np.zeros((2, 24)),
        "J_regressor": np.zeros((24, 1400)),
    }
    cases = {
        "a SMPL model .24 joints": small,
        "lacks shapedirs": {"shapedirs": None},
        "lacks hands_meanl": {"hands_meanl": None},
        "posedirs is .1400, 3, 207., expected": {"posedirs": np.zeros((1400, 3, 207))},
        "v_template": {"weights": np.zeros((1300, 55)), "v_template": np.zeros((1300, 2))},
        "not finite": {"v_template": tiny_arrays()["v_template"] * np.nan},
        "at least 20": {"shapedirs": np.zeros((1400, 3, 4))},
    }
    for message, changes in cases.items():
        with pytest.raises(BiokinError, match=message):
            read_smplx(_save(tmp_path / "SMPLX_NEUTRAL.npz", **changes))
    for name in ("SMPLX_NEUTRAL.npz", "SMPLX_MALE.pkl"):
        (tmp_path / name).write_bytes(b"not a model")
        with pytest.raises(BiokinError, match="cannot be read"):
            read_smplx(tmp_path / name)
    (tmp_path / "SMPLX_MALE.obj").write_bytes(b"")
    with pytest.raises(BiokinError, match="expected a .npz or .pkl"):
        load_body("smplx", model_folder=tmp_path / "SMPLX_MALE.obj", gender="male")


def test_a_model_in_other_units_is_refused(tmp_path):
    with pytest.raises(BiokinError, match="metres"):
        SmplxBody(_save(tmp_path / "SMPLX_NEUTRAL.npz", v_template=100 * tiny_arrays()["v_template"]))


def test_unknown_bodies_are_refused(tmp_path):
    with pytest.raises(BiokinError, match="expected one of open, smplx; found 'star'"):
        load_body("star")
    with pytest.raises(BiokinError, match="gender"):
        load_body("smplx", model_folder=tmp_path, gender="other")
    with pytest.raises(BiokinError, match="model_folder"):
        load_body("smplx")
    with pytest.raises(BiokinError, match="only for 'smplx'"):
        load_body("open", gender="male")


def test_the_open_body_is_animated_alike(coordinates):
    body = load_body("open")
    subject = body.sample_subject(3)
    bare = body.animate(subject, coordinates)
    assert bare.accepted
    assert torch.allclose(bare.vertices[17], body.pose(subject, coordinates[17]), atol=1e-5)
    dressed = body.animate(subject, coordinates, subject.vertices * 1.01)
    assert dressed.marker_rms_m == bare.marker_rms_m
    assert 0.001 < (dressed.vertices - bare.vertices).norm(dim=-1).max() < 0.05
    squares = bare.joint_residuals_m.square()
    assert bare.joint_rms_m == pytest.approx(float(squares.mean().sqrt()))
