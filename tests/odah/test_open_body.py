from __future__ import annotations

import numpy as np
import pytest
import torch

from odah.bodies.decimate import decimate
from odah.bodies.fitting import JOINT_SIGMA
from odah.bodies.open_body import OpenBody
from pose2sim_biokin.errors import BiokinError


@pytest.fixture(scope="module")
def body() -> OpenBody:
    return OpenBody()


@pytest.fixture(scope="module")
def subjects(body):
    return body.sample_subjects(list(range(100, 112)))


def _pose(body, **degrees) -> torch.Tensor:
    q = torch.zeros(len(body.skeleton.coordinate_names))
    for name, value in degrees.items():
        q[body.skeleton.coordinate_index(name)] = np.deg2rad(value)
    return q


def _joint(body, subject, q, name) -> np.ndarray:
    frames = body.kinematics(q, subject.scales)
    return body.kinematics.joint_centers(frames, subject.scales)[body.skeleton.body_index(name)].numpy()


def test_a_subject_depends_on_its_seed_alone(body, subjects):
    again = body.sample_subject(103)
    assert torch.allclose(again.vertices, subjects[3].vertices, atol=1e-6)
    assert torch.allclose(again.scales, subjects[3].scales, atol=1e-5)
    assert not torch.allclose(subjects[3].scales, subjects[4].scales, atol=1e-3)


def test_scales_change_smoothly_with_the_shape(body):
    base = body.sample_coefficients(7)
    step = torch.zeros_like(base)
    step[0] = 0.01
    scales = torch.stack(
        [s.scales for s in body.make_subjects(torch.stack([base, base + step, base + 2 * step]), [0] * 3)]
    )
    first, second = scales[1] - scales[0], scales[2] - scales[1]
    assert first.abs().max() < 0.01
    assert torch.allclose(first, second, atol=2e-4)


def test_skeleton_joints_lie_at_the_rig_joints(body, subjects):
    points = body._mean + torch.einsum(
        "nk,kvc->nvc", torch.stack([s.coefficients for s in subjects]), body._basis
    )
    targets = body.targets(points)[0]
    errors = []
    for subject, target in zip(subjects, targets, strict=True):
        centers = [_joint(body, subject, subject.rest_coordinates, name) for name in JOINT_SIGMA]
        errors.append(np.stack(centers) - target.numpy())
    errors = np.stack(errors)
    errors[:, list(JOINT_SIGMA).index("torso"), 0] = 0  # a rig has no lumbar joint: its depth is free
    assert np.sqrt((errors**2).sum(-1).mean()) < 0.010
    assert np.sqrt((errors**2).sum(-1).mean(0)).max() < 0.015


@pytest.mark.parametrize(
    ("segment", "at", "joint"),
    [("thigh_r", 1.0, "tibia_r"), ("thigh_l", 1.0, "tibia_l"), ("upper_arm_r", 1.0, "ulna_r")],
)
def test_skin_bends_around_the_skeletons_joints(body, subjects, segment, at, joint):
    side = segment[-1]
    limb = {"thigh": ("femur", "tibia"), "upper_arm": ("humerus", "ulna")}[segment[:-2]]
    columns = [body.skeleton.body_index(f"{name}_{side}") for name in limb]
    ring = (body.weights[:, columns].sum(1) > 0.9) & ((body.along[segment] - at).abs() < 0.06)
    assert ring.sum() >= 12
    for q in (_pose(body), _pose(body, knee_angle_r=50, knee_angle_l=70, elbow_flex_r=60, arm_add_r=-40)):
        for subject in subjects[:4]:
            center = body.pose(subject, q)[ring].mean(0).numpy()
            assert np.linalg.norm(center - _joint(body, subject, q, joint)) < 0.03


def test_rest_pose_gives_back_the_rest_mesh(body, subjects):
    for subject in subjects[:3]:
        posed = body.pose(subject, subject.rest_coordinates)
        assert torch.allclose(posed, subject.vertices, atol=1e-5)


def test_anthropometry(body, subjects):
    stature = np.array([s.stature for s in subjects])
    assert stature.min() > 1.40 and stature.max() < 2.10 and np.ptp(stature) > 0.1
    thigh = np.array([float(s.scales[body.skeleton.body_index("femur_r"), 1]) for s in subjects])
    assert np.corrcoef(stature, thigh)[0, 1] > 0.7
    for subject in subjects:
        assert 0.6 < subject.scales.min() and subject.scales.max() < 1.7
        a, b, c = (subject.vertices[body.faces[:, k]] for k in range(3))
        litres = 1000 * float((a * torch.linalg.cross(b, c)).sum() / 6)  # > 0: faces wind outwards
        assert 30 < litres < 180


def test_neutral_coordinates_stand_upright_and_face_forward(body, subjects):
    for subject in subjects[:4]:
        vertices = body.pose(subject, _pose(body))
        dominant = body.weights.argmax(1)

        def middle(name, vertices=vertices, dominant=dominant):
            return vertices[dominant == body.skeleton.body_index(name)].mean(0)

        assert vertices[:, 1].max() - vertices[:, 1].min() == pytest.approx(subject.stature, abs=0.06)
        assert middle("toes_r")[0] > middle("calcn_r")[0] + 0.05  # toes forward
        assert middle("hand_r")[2] > 0.1 and middle("hand_l")[2] < -0.1  # right is +Z
        assert abs(float(middle("hand_r")[2] + middle("hand_l")[2])) < 0.02
        assert middle("hand_r")[1] < middle("torso")[1] - 0.2
        soles = [vertices[dominant == body.skeleton.body_index(f"calcn_{s}"), 1].min() for s in "rl"]
        assert max(soles) - vertices[:, 1].min() < 0.02


def test_weights_and_faces(body):
    assert torch.allclose(body.weights.sum(1), torch.ones(len(body.weights)), atol=1e-4)
    edges = torch.cat([body.faces[:, [0, 1]], body.faces[:, [1, 2]], body.faces[:, [2, 0]]]).sort(1).values
    _, uses = torch.unique(edges, dim=0, return_counts=True)
    assert uses.max() == 2  # a manifold
    assert len(OpenBody("fine").faces) > 3 * len(body.faces)


def test_forearm_turns_gradually(body, subjects):
    subject = subjects[0]
    straight, turned = (body.pose(subject, _pose(body, pro_sup_r=angle)) for angle in (0, 80))
    moved = (straight - turned).norm(dim=-1)
    columns = [body.skeleton.body_index(name) for name in ("ulna_r", "radius_r")]
    forearm = body.weights[:, columns].sum(1) > 0.95
    along = body.along["forearm_r"]
    means = [float(moved[forearm & (along > a) & (along < a + 0.25)].mean()) for a in (0.05, 0.35, 0.65)]
    assert means[0] < means[1] < means[2]


def test_bad_arguments(tmp_path):
    with pytest.raises(BiokinError, match="coarse"):
        OpenBody("medium")
    with pytest.raises(BiokinError, match="convert_anny"):
        OpenBody(asset=tmp_path / "none.npz")


def test_decimation_keeps_a_sphere_round():
    count = 30
    u, v = np.meshgrid(
        np.linspace(0, 2 * np.pi, count, endpoint=False), np.linspace(0.15, np.pi - 0.15, count)
    )
    sphere = np.stack([np.sin(v) * np.cos(u), np.sin(v) * np.sin(u), np.cos(v)], -1).reshape(-1, 3)
    grid = np.arange(count * count).reshape(count, count)
    right = np.roll(grid, -1, axis=1)
    faces = np.concatenate(
        [
            np.stack([grid[:-1], grid[1:], right[:-1]], -1).reshape(-1, 3),
            np.stack([right[:-1], grid[1:], right[1:]], -1).reshape(-1, 3),
        ]
    )
    kept, coarse = decimate(sphere, faces, 300)
    assert 290 <= len(kept) <= 300
    a, b, c = (sphere[kept][coarse[:, k]] for k in range(3))
    assert np.linalg.norm((a + b + c) / 3, axis=1).min() > 0.93
