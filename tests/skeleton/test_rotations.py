"""Rotations and angle groups: round trips, known cases, gimbal lock."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from pose2sim_biokin.skeleton import ForwardKinematics, load_skeleton
from pose2sim_biokin.skeleton import angles as angle_groups
from pose2sim_biokin.skeleton import rotations as rot

SKELETON = load_skeleton()


def random(*shape: int, size: float = 1.0, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return size * torch.randn(*shape, generator=generator, dtype=torch.float64)


def random_rotations(*shape: int, seed: int = 0) -> torch.Tensor:
    q, r = torch.linalg.qr(random(*shape, 3, 3, seed=seed))
    return q * torch.linalg.det(q)[..., None, None]


def test_axis_angle_is_the_matrix_exponential():
    vectors = random(4, 5, 3, size=2.0)
    x, y, z = vectors.unbind(-1)
    zero = torch.zeros_like(x)
    skew = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).unflatten(-1, (3, 3))
    assert torch.allclose(rot.axis_angle_to_matrix(vectors), torch.linalg.matrix_exp(skew), atol=1e-12)


@pytest.mark.parametrize("angle", [0.0, 1e-9, 1e-4, 0.5, 3.0, math.pi - 1e-7, math.pi])
def test_axis_angle_round_trip(angle):
    axis = torch.nn.functional.normalize(random(10, 3), dim=-1)
    matrix = rot.axis_angle_to_matrix(axis * angle)
    back = rot.matrix_to_axis_angle(matrix)
    assert torch.allclose(rot.axis_angle_to_matrix(back), matrix, atol=1e-9)
    assert torch.allclose(back.norm(dim=-1), torch.tensor(angle, dtype=torch.float64), atol=1e-7)


def test_gradients_at_no_rotation():
    vector = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(rot.axis_angle_to_matrix, vector)
    matrix = torch.eye(3, dtype=torch.float64, requires_grad=True)
    rot.matrix_to_axis_angle(matrix).sum().backward()
    assert torch.isfinite(matrix.grad).all()


def test_sixd_round_trip_and_scale_invariance():
    matrix = random_rotations(7, 2)
    assert torch.allclose(rot.sixd_to_matrix(rot.matrix_to_sixd(matrix)), matrix, atol=1e-12)
    raw = random(20, 6)
    made = rot.sixd_to_matrix(raw)
    assert torch.allclose(made @ made.mT, torch.eye(3, dtype=torch.float64).expand(20, 3, 3), atol=1e-12)
    assert torch.allclose(torch.linalg.det(made), torch.ones(20, dtype=torch.float64))
    assert torch.allclose(rot.sixd_to_matrix(3.0 * raw), made, atol=1e-12)


@pytest.mark.parametrize("sequence", ["".join(p) for p in itertools.permutations("xyz")])
def test_euler_round_trip(sequence):
    angles = random(200, 3)
    angles[:, 1] = angles[:, 1].clamp(-1.5, 1.5)
    angles[:, [0, 2]] = angles[:, [0, 2]].clamp(-3.1, 3.1)
    matrix = rot.euler_to_matrix(angles, sequence)
    assert torch.allclose(rot.matrix_to_euler(matrix, sequence), angles, atol=1e-9)


def test_euler_xyz_is_body_fixed():
    a, b, c = 0.3, -0.7, 1.1
    x, y, z = torch.eye(3, dtype=torch.float64)
    angles = torch.tensor([a, b, c], dtype=torch.float64)
    expected = (
        rot.rotation_about(x, angles[0]) @ rot.rotation_about(y, angles[1]) @ rot.rotation_about(z, angles[2])
    )
    assert torch.allclose(rot.euler_xyz_to_matrix(angles), expected)


@pytest.mark.parametrize("second", [math.pi / 2, -math.pi / 2, math.pi / 2 - 1e-4])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_angles_at_gimbal_lock_give_the_matrix_back(second, dtype):
    angles = torch.tensor([[0.4, second, -1.2], [2.0, second, 0.3]], dtype=torch.float64)
    matrix = rot.euler_to_matrix(angles, "zxy").to(dtype).requires_grad_()
    back = rot.matrix_to_euler(matrix, "zxy")
    assert torch.allclose(rot.euler_to_matrix(back, "zxy"), matrix, atol=2e-5)
    back.sum().backward()
    assert torch.isfinite(matrix.grad).all()


LEFT_ARM = torch.tensor([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]], dtype=torch.float64)
IMPROPER = torch.tensor([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], dtype=torch.float64)


@pytest.mark.parametrize("axes", [LEFT_ARM, IMPROPER, torch.eye(3, dtype=torch.float64)])
def test_signed_axes_round_trip(axes):
    angles = random(100, 3, size=0.7).clamp(-1.5, 1.5)
    matrix = rot.angles_to_matrix(angles, axes)
    assert torch.allclose(rot.matrix_to_angles(matrix, axes), angles, atol=1e-9)
    assert torch.allclose(rot.matrix_to_angles_continuous(matrix[:1], axes, angles[0]), angles[:1], atol=1e-9)


@pytest.mark.parametrize("axes", [LEFT_ARM, IMPROPER])
def test_continuous_angles_follow_a_path_through_gimbal_lock(axes):
    """Over the top of the lock and round full turns, where single frames jump."""
    t = torch.linspace(0.0, 1.0, 500, dtype=torch.float64)
    path = torch.stack([4.0 * t, 0.3 + 3.0 * t, -9.0 * t], -1)
    matrix = rot.angles_to_matrix(path, axes)
    assert rot.matrix_to_angles(matrix, axes).diff(dim=0).abs().max() > 1.0
    found = rot.matrix_to_angles_continuous(matrix, axes, path[0])
    assert torch.allclose(found, path, atol=1e-6)


def test_continuous_angles_stay_put_at_the_lock():
    angles = torch.tensor([[0.5, math.pi / 2, -0.2]], dtype=torch.float64).repeat(20, 1)
    angles[:, 2] += torch.linspace(0.0, 1.0, 20, dtype=torch.float64)
    matrix = rot.angles_to_matrix(angles, LEFT_ARM)
    noise = rot.axis_angle_to_matrix(random(20, 3, size=1e-7))
    found = rot.matrix_to_angles_continuous(matrix @ noise, LEFT_ARM, angles[0])
    assert torch.allclose(found, angles, atol=1e-4)


def test_continuous_angles_of_several_joints_at_once():
    t = torch.linspace(0.0, 1.0, 50, dtype=torch.float64)[:, None, None]
    path = torch.tensor([[1.0, 2.5, 3.0], [-2.0, 1.0, 4.0]], dtype=torch.float64) * t
    axes = torch.stack([LEFT_ARM, IMPROPER])
    matrix = torch.stack([rot.angles_to_matrix(path[:, i], axes[i]) for i in range(2)], 1)
    assert torch.allclose(rot.matrix_to_angles_continuous(matrix, axes), path, atol=1e-9)


def test_world_and_ground():
    world = torch.tensor([1.0, 2.0, 3.0])
    assert rot.world_to_ground(world).tolist() == [2.0, 3.0, 1.0]
    assert torch.equal(rot.ground_to_world(rot.world_to_ground(world)), world)
    assert torch.equal(rot.rotation_ground_world() @ world, rot.world_to_ground(world))
    assert torch.linalg.det(rot.rotation_ground_world()) == pytest.approx(1.0)


def test_groups_cover_all_angles_once():
    groups = (*angle_groups.FREE, *angle_groups.CONSTRAINED, *angle_groups.FIXED)
    assert (len(angle_groups.FREE), len(angle_groups.CONSTRAINED), len(angle_groups.FIXED)) == (9, 17, 10)
    assert sorted(groups) == sorted(angle_groups.angle_names(SKELETON))
    fixed = angle_groups.angle_coordinates(SKELETON)[angle_groups.angle_indices(SKELETON, angle_groups.FIXED)]
    assert (SKELETON.locked | SKELETON.dependent)[fixed].all()


def test_angles_and_coordinates_round_trip():
    coordinates = random(4, 5, 39)
    angles = angle_groups.coordinates_to_angles(coordinates, SKELETON)
    assert angles.shape == (4, 5, 36)
    translation = coordinates[..., 3:6]
    back = angle_groups.angles_to_coordinates(angles, SKELETON, translation)
    assert torch.equal(back, coordinates)
    assert angle_groups.angles_to_coordinates(angles, SKELETON)[..., 3:6].abs().max() == 0


def test_free_rotations_are_those_of_the_bodies():
    """R_parent^T R_body, as forward kinematics has it."""
    coordinates = random(30, 39)
    frames = ForwardKinematics(SKELETON, torch.float64)(coordinates)
    torso = frames.rotation[:, SKELETON.body_index("torso")]
    expected = [
        frames.rotation[:, SKELETON.body_index("pelvis")],
        torso.mT @ frames.rotation[:, SKELETON.body_index("humerus_r")],
        torso.mT @ frames.rotation[:, SKELETON.body_index("humerus_l")],
    ]
    free = [SKELETON.coordinate_index(name) for name in angle_groups.FREE]
    rotations = angle_groups.free_angles_to_rotations(coordinates[:, free], SKELETON)
    assert torch.allclose(rotations, torch.stack(expected, 1), atol=1e-12)
    angles = angle_groups.rotations_to_free_angles(rotations, SKELETON)
    assert torch.allclose(angle_groups.free_angles_to_rotations(angles, SKELETON), rotations, atol=1e-9)


def test_free_angles_are_continuous():
    t = torch.linspace(0.0, 1.0, 300, dtype=torch.float64)[:, None]
    path = torch.sin(t * torch.linspace(3.0, 9.0, 9, dtype=torch.float64)) * 3.0
    rotations = angle_groups.free_angles_to_rotations(path, SKELETON)
    found = angle_groups.rotations_to_free_angles_continuous(rotations, SKELETON)
    assert torch.allclose(found, path, atol=1e-6)
    assert np.isfinite(found.numpy()).all()
