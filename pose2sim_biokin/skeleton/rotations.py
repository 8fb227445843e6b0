"""Rotations in pure PyTorch: any batch shape, radians, matrices act on column vectors.

Body-fixed (intrinsic) sequences throughout: ``R = Rot(a1, q1) Rot(a2, q2) Rot(a3, q3)``.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

_UNIT_AXES = {"x": (1.0, 0.0, 0.0), "y": (0.0, 1.0, 0.0), "z": (0.0, 0.0, 1.0)}

# ground (X, Y, Z) = world (Y, Z, X)
_R_GROUND_WORLD = ((0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (1.0, 0.0, 0.0))

# Below this cosine of the second angle a three-angle joint counts as locked.
_LOCK_COSINE = 1e-5
_TURN = 2.0 * math.pi


def world_to_ground(points: Tensor) -> Tensor:
    """Points (..., 3) of Pose2Sim's world (Z up) in OpenSim's ground (Y up): (X, Y, Z) -> (Y, Z, X)."""
    return points[..., [1, 2, 0]]


def ground_to_world(points: Tensor) -> Tensor:
    """Points (..., 3) of OpenSim's ground (Y up) in Pose2Sim's world (Z up): (X, Y, Z) -> (Z, X, Y)."""
    return points[..., [2, 0, 1]]


def rotation_ground_world(dtype: torch.dtype = torch.float32, device: torch.device | None = None) -> Tensor:
    """(3, 3) matrix R with ``ground = R @ world``."""
    return torch.tensor(_R_GROUND_WORLD, dtype=dtype, device=device)


def compose(a: Tensor, b: Tensor) -> Tensor:
    """Product (..., 3, 3) of matrices (..., 3, 3), elementwise: exact under autocast and TF32."""
    return (a[..., :, :, None] * b[..., None, :, :]).sum(-2)


def axis_angle_to_matrix(axis_angle: Tensor) -> Tensor:
    """Rotation vectors (..., 3), radians, to matrices (..., 3, 3); Rodrigues' formula, smooth at zero."""
    squared = (axis_angle * axis_angle).sum(-1)
    # sin(t)/t and (1-cos(t))/t^2 by their series near zero keep value and gradient finite.
    small = squared < 1e-8
    angle = torch.where(small, torch.ones_like(squared), squared).sqrt()
    a = torch.where(small, 1.0 - squared / 6.0, torch.sin(angle) / angle)
    b = torch.where(small, 0.5 - squared / 24.0, 2.0 * (torch.sin(angle / 2.0) / angle) ** 2)
    x, y, z = axis_angle.unbind(-1)
    zero = torch.zeros_like(x)
    skew = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).unflatten(-1, (3, 3))
    outer = axis_angle[..., :, None] * axis_angle[..., None, :]
    eye = torch.eye(3, dtype=axis_angle.dtype, device=axis_angle.device)
    # K^2 = v v^T - |v|^2 I
    return eye * (1.0 - b * squared)[..., None, None] + a[..., None, None] * skew + b[..., None, None] * outer


def matrix_to_quaternion(matrix: Tensor) -> Tensor:
    """Matrices (..., 3, 3) to unit quaternions (..., 4), real part first and not negative.

    Of the four ways to write the quaternion, each divides by one component; the largest is taken, so that
    no rotation is badly conditioned (Shepperd 1978).
    """
    m00, m01, m02, m10, m11, m12, m20, m21, m22 = matrix.flatten(-2).unbind(-1)
    squares = torch.stack(
        [1 + m00 + m11 + m22, 1 + m00 - m11 - m22, 1 - m00 + m11 - m22, 1 - m00 - m11 + m22], -1
    )
    candidates = torch.stack(
        [
            torch.stack([squares[..., 0], m21 - m12, m02 - m20, m10 - m01], -1),
            torch.stack([m21 - m12, squares[..., 1], m10 + m01, m02 + m20], -1),
            torch.stack([m02 - m20, m10 + m01, squares[..., 2], m12 + m21], -1),
            torch.stack([m10 - m01, m20 + m02, m21 + m12, squares[..., 3]], -1),
        ],
        -2,
    )
    best = squares.argmax(-1)
    chosen = torch.take_along_dim(candidates, best[..., None, None], -2).squeeze(-2)
    quaternion = torch.nn.functional.normalize(chosen, dim=-1)
    return torch.where(quaternion[..., :1] < 0, -quaternion, quaternion)


def matrix_to_axis_angle(matrix: Tensor) -> Tensor:
    """Matrices (..., 3, 3) to rotation vectors (..., 3) of length 0..pi radians."""
    quaternion = matrix_to_quaternion(matrix)
    real, imaginary = quaternion[..., 0], quaternion[..., 1:]
    squared = (imaginary * imaginary).sum(-1)
    small = squared < 1e-10
    sine = torch.where(small, torch.ones_like(squared), squared).sqrt()
    factor = torch.where(small, 2.0 + squared / 3.0, 2.0 * torch.atan2(sine, real) / sine)
    return imaginary * factor[..., None]


def sixd_to_matrix(sixd: Tensor) -> Tensor:
    """Six numbers (..., 6) to matrices (..., 3, 3): the first two columns, made orthonormal (Zhou 2019)."""
    normalize = torch.nn.functional.normalize
    first = normalize(sixd[..., :3], dim=-1)
    second = sixd[..., 3:] - (first * sixd[..., 3:]).sum(-1, keepdim=True) * first
    second = normalize(second, dim=-1)
    return torch.stack([first, second, torch.linalg.cross(first, second)], -1)


def matrix_to_sixd(matrix: Tensor) -> Tensor:
    """Matrices (..., 3, 3) to their first two columns, one after the other, (..., 6)."""
    return matrix[..., :2].transpose(-1, -2).flatten(-2)


def rotation_about(axis: Tensor, angle: Tensor) -> Tensor:
    """Rotations (..., 3, 3) by angles (...), radians, about unit axes (..., 3)."""
    return axis_angle_to_matrix(axis * angle[..., None])


def angles_to_matrix(angles: Tensor, axes: Tensor) -> Tensor:
    """Body-fixed angles (..., 3) about unit axes (3, 3), one axis a row, to matrices (..., 3, 3)."""
    r1, r2, r3 = (rotation_about(axes[i], angles[..., i]) for i in range(3))
    return compose(compose(r1, r2), r3)


def matrix_to_angles(matrix: Tensor, axes: Tensor) -> Tensor:
    """Body-fixed angles (..., 3) of matrices (..., 3, 3) about three orthogonal unit axes, one a row.

    Closed form for any such sequence: with E the matrix of the axes as columns and d = det E = +-1, the
    similar matrix E^T R E is the x-y-z sequence of the angles d q. The second angle is in -pi/2..pi/2, the
    other two in -pi..pi. At gimbal lock, where only the sum (or difference) of the first and third is
    determined, the first is zero; the angles returned always give the matrix back.
    """
    sign = (torch.linalg.cross(axes[0], axes[1]) * axes[2]).sum().round()  # det E
    m = compose(compose(axes, matrix), axes.mT)
    cosine = torch.sqrt((m[..., 0, 0] ** 2 + m[..., 0, 1] ** 2).clamp_min(1e-30))
    second = torch.atan2(m[..., 0, 2], cosine)
    locked = cosine < _LOCK_COSINE
    # Lock is masked before atan2, whose gradient at (0, 0) is not a number.
    zero, one = torch.zeros_like(cosine), torch.ones_like(cosine)
    first = torch.atan2(torch.where(locked, zero, -m[..., 1, 2]), torch.where(locked, one, m[..., 2, 2]))
    # The third angle out of Rx(-first) R: well conditioned everywhere, and it makes up for the first.
    c, s = torch.cos(first), torch.sin(first)
    third = torch.atan2(c * m[..., 1, 0] + s * m[..., 2, 0], c * m[..., 1, 1] + s * m[..., 2, 1])
    return sign * torch.stack([first, second, third], -1)


def euler_axes(
    sequence: str, dtype: torch.dtype = torch.float32, device: torch.device | None = None
) -> Tensor:
    """Axes (3, 3), one a row, of a sequence such as "zxy"."""
    return torch.tensor([_UNIT_AXES[letter] for letter in sequence.lower()], dtype=dtype, device=device)


def euler_to_matrix(angles: Tensor, sequence: str) -> Tensor:
    """Body-fixed Euler angles (..., 3) of a sequence such as "zxy" to matrices (..., 3, 3)."""
    return angles_to_matrix(angles, euler_axes(sequence, angles.dtype, angles.device))


def euler_xyz_to_matrix(angles: Tensor) -> Tensor:
    """Body-fixed x-y-z Euler angles (..., 3), OpenSim's frame orientations, to matrices (..., 3, 3)."""
    return euler_to_matrix(angles, "xyz")


def matrix_to_euler(matrix: Tensor, sequence: str) -> Tensor:
    """Body-fixed Euler angles (..., 3) of three different axes such as "zxy"; see `matrix_to_angles`."""
    return matrix_to_angles(matrix, euler_axes(sequence, matrix.dtype, matrix.device))


def matrix_to_angles_continuous(
    matrix: Tensor, axes: Tensor, reference: Tensor | np.ndarray | None = None
) -> Tensor:
    """Body-fixed angles that are continuous over time.

    Every rotation has two triples of angles (up to full turns); each frame takes the one nearest to the
    frame before. At gimbal lock, where the first and third angle cannot be told apart, the first is kept
    and the third follows. Runs on the CPU and carries no gradient.

    Args:
        matrix: (T, ..., 3, 3) rotations in order of time.
        axes: (3, 3) or (..., 3, 3) orthogonal unit axes, one a row; they need not be right-handed.
        reference: (..., 3) angles that the first frame is taken nearest to; zeros when absent.

    Returns:
        (T, ..., 3) radians, not wrapped, of the matrices' dtype.
    """
    rotation = matrix.detach().cpu().double().numpy()
    basis = axes.detach().cpu().double().numpy()
    sign = np.linalg.det(basis)
    sign = np.asarray(sign)[..., None]
    # m: x-y-z sequence of the angles sign * q, see matrix_to_angles
    m = basis @ rotation @ np.swapaxes(basis, -1, -2)
    cosine = np.hypot(m[..., 0, 0], m[..., 0, 1])
    second = np.arctan2(m[..., 0, 2], cosine)
    first = np.arctan2(-m[..., 1, 2], m[..., 2, 2])
    third = np.arctan2(-m[..., 0, 1], m[..., 0, 0])
    locked = cosine < _LOCK_COSINE

    plain = np.stack([first, second, third], -1)
    previous = np.zeros((*m.shape[1:-2], 3)) if reference is None else np.asarray(reference, dtype=np.float64)
    previous = np.broadcast_to(previous * sign, (*m.shape[1:-2], 3))
    angles = np.empty((*m.shape[:-2], 3))
    # Frames at gimbal lock one by one, what lies between them at once.
    at_lock = np.flatnonzero(locked.reshape(len(m), -1).any(1))
    start = 0
    for stop in [*at_lock.tolist(), len(m)]:
        if stop > start:
            angles[start:stop] = _nearest_triples(plain[start:stop], previous)
            previous = angles[stop - 1]
        if stop < len(m):
            free = _nearest_triples(plain[stop : stop + 1], previous)[0]
            kept = _first_kept(m[stop], free, previous)
            previous = angles[stop] = np.where(locked[stop][..., None], kept, free)
        start = stop + 1
    return torch.from_numpy(angles * sign).to(matrix.dtype)


def _nearest_triples(plain: np.ndarray, previous: np.ndarray) -> np.ndarray:
    """x-y-z angles (T, ..., 3) of frames not at gimbal lock: of each frame the triple, `plain` or the other
    one of the same rotation, that is nearest to the frame's before; `previous` (..., 3) is that of the first.
    """
    other = np.stack([plain[..., 0] + math.pi, math.pi - plain[..., 1], plain[..., 2] + math.pi], -1)
    before = np.concatenate([previous[None], plain[:-1]])

    def distance(triple: np.ndarray) -> np.ndarray:
        gap = triple - before
        return np.abs(gap - _TURN * np.round(gap / _TURN)).sum(-1)

    # Two plain triples are as far apart as the two others: it only matters whether the kind changes.
    other_kind = np.logical_xor.accumulate(distance(other) < distance(plain))
    chosen = np.where(other_kind[..., None], other, plain)
    whole = np.cumsum(np.round(np.diff(chosen, axis=0, prepend=previous[None]) / _TURN), axis=0)
    return chosen - _TURN * whole


def _first_kept(m: np.ndarray, free: np.ndarray, previous: np.ndarray) -> np.ndarray:
    """x-y-z angles (..., 3) of a rotation m (..., 3, 3) at gimbal lock: the first is that of the frame
    before, the second that of `free` (..., 3), and the third follows.
    """
    c, s = np.cos(previous[..., 0]), np.sin(previous[..., 0])
    third = np.arctan2(c * m[..., 1, 0] + s * m[..., 2, 0], c * m[..., 1, 1] + s * m[..., 2, 1])
    third += _TURN * np.round((previous[..., 2] - third) / _TURN)
    return np.stack([previous[..., 0], free[..., 1], third], -1)
