"""Shape and motion acquisition: an SMPL-X mesh that follows the skeleton (in the manner of MoSh, Loper 2014).

    motion = fit_motion(body, subject, frames)                 # pose of every frame
    subject = fit_shape(body, scales)                          # `shape_fit`: a person for known scales

A pose starts from the skeleton's own rotations (`SmplxBody.follow`) and is corrected so that points of the
mesh (registered joint centres and marker vertices) meet the skeleton's. Corrections are small, and smooth
over time by a penalty on their acceleration. Gauss-Newton; all frames are solved together, since the normal
equations are a band: frames only touch their neighbours.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from odah.bodies.fitting import JOINT_SIGMA
from odah.bodies.registration import Registration, load_registration
from odah.bodies.smplx_body import SmplxBody, SmplxSubject
from odah.bodies.smplx_model import BODY_JOINTS, JOINTS
from odah.bodies.smplx_tables import JOINT_TARGETS, R_GROUND_FILE
from pose2sim_biokin.skeleton import BodyFrames
from pose2sim_biokin.skeleton.rotations import axis_angle_to_matrix, compose

JOINT_SIGMA_M = 0.005
MARKER_SIGMA_M = 0.010
ROTATION_SIGMA = 0.25  # of a correction, rad
TRANSLATION_SIGMA_M = 0.10
# Of a correction's second difference between frames: a swing of 5 degrees at 2 Hz costs nothing at 60 Hz.
ROTATION_ACCELERATION_SIGMA = 0.006
TRANSLATION_ACCELERATION_SIGMA_M = 0.002
ITERATIONS = 5
_ENOUGH = 1e-4  # rad or m: smaller steps end the iterations
_WINDOW, _OVERLAP = 600, 40  # frames solved together; windows share frames, so that no seam shows
_CHUNK = 64  # frames whose Jacobians are held at a time
_SIZE = 3 * BODY_JOINTS + 3  # corrections of a frame: rotation vectors, then translation


@dataclass(frozen=True, eq=False)
class SmplxMotion:
    """T frames of an SMPL-X body, the file's axes; hands flat, face at rest.

    Attributes:
        rotations: (T,22,3,3) of the first 22 joints relative to their parents.
        translation: (T,3) m.
    """

    rotations: Tensor
    translation: Tensor


@dataclass(frozen=True, eq=False)
class MeshPoints:
    """N points that are sums of a mesh's vertices, as sums over the joints that move them. Float64.

    A point is ``sum_k R_k moment_k + mass_k t_k`` over the joints' motions (R, t) from T-pose.

    Attributes:
        moments: (N,22,3); masses: (N,22).
        correctives: (189, N*22*3) change of the moments with the pose's feature, or None.
    """

    moments: Tensor
    masses: Tensor
    correctives: Tensor | None

    def posed_moments(self, rotations: Tensor) -> Tensor:
        """(T,N,22,3) moments with pose correctives, of local rotations (T,22,3,3)."""
        if self.correctives is None:
            return self.moments.expand(len(rotations), -1, -1, -1)
        feature = (rotations[:, 1:] - torch.eye(3).to(rotations)).flatten(1)
        return self.moments + (feature @ self.correctives).view(-1, *self.moments.shape)


def registered_points(body: SmplxBody, registration: Registration, betas: Tensor) -> MeshPoints:
    """The registration's joint centres, then its markers, on the shape `betas` (S,)."""
    single = torch.ones(len(registration.marker_vertices), 1)
    parts = (
        (registration.joint_vertices, registration.joint_weights),
        (registration.marker_vertices[:, None], single),
    )
    shaped = body.model.shaped(betas.double())[0]
    weights = body.model.body_weights.double()
    count = 9 * (BODY_JOINTS - 1)
    correctives = body.model.correctives[:count].view(count, -1, 3)
    moments, masses, changes = [], [], []
    for vertices, shares in parts:
        pull = shares.double()[..., None] * weights[vertices]  # (N, K, 22)
        moments.append(torch.einsum("nkj,nkc->njc", pull, shaped[vertices]))
        masses.append(pull.sum(1))
        near = correctives[:, vertices].double()  # (189, N, K, 3)
        changes.append(torch.einsum("nkj,fnkc->fnjc", pull, near))
    return MeshPoints(torch.cat(moments), torch.cat(masses), torch.cat(changes, 1).flatten(1))


def model_joint_points(body: SmplxBody, betas: Tensor) -> MeshPoints:
    """The model's own joints that JOINT_TARGETS names, right ones then left ones."""
    joints = body.model.shaped(betas.double())[1]
    moments, masses = [], []
    for names in _both_sides():
        moment, mass = torch.zeros(BODY_JOINTS, 3).double(), torch.zeros(BODY_JOINTS).double()
        for name in names:
            j = JOINTS.index(name)
            moment[j] += joints[j] / len(names)
            mass[j] += 1 / len(names)
        moments.append(moment)
        masses.append(mass)
    return MeshPoints(torch.stack(moments), torch.stack(masses), None)


def model_joint_targets(body: SmplxBody, subject: SmplxSubject, frames: BodyFrames) -> Tensor:
    """(T,N,3) where the skeleton has those joints, in ground, as they are at rest (see `fitting`)."""
    centers = body.kinematics.joint_centers(frames, subject.scales)
    # What the fit left between joint and joint centre at rest turns with the centre's parent body.
    rest = body.kinematics(subject.rest_coordinates, subject.scales)
    rest_centers = body.kinematics.joint_centers(rest, subject.scales)
    points = (body.rest_points(subject.coefficients[None])[0][0])[-len(JOINTS) :]
    targets = []
    for names, child in zip(_both_sides(), _carried(), strict=True):
        b = body.skeleton.body_index(child)
        parent = body.skeleton.body_index(body.skeleton.parent_names[b])
        gap = points[[JOINTS.index(n) for n in names]].mean(0) - rest_centers[b]
        turned = frames.rotation[..., parent, :, :] @ (rest.rotation[parent].T @ gap)
        targets.append(centers[..., b, :] + turned)
    return torch.stack(targets, -2)


def _both_sides() -> list[tuple[str, ...]]:
    right = list(JOINT_TARGETS.values())
    return right + [
        tuple(n.replace("right", "left") for n in names) for names in right if "pelvis" not in names
    ]


def _carried() -> list[str]:
    return list(JOINT_SIGMA) + [name[:-1] + "l" for name in JOINT_SIGMA if name.endswith("_r")]


@torch.no_grad()
def fit_motion(
    body: SmplxBody, subject: SmplxSubject, frames: BodyFrames, registration: Registration | None = None
) -> SmplxMotion:
    """Poses whose registered joint centres and markers lie where the skeleton has them.

    Args:
        frames: (T,22) body frames of the subject's skeleton, in ground.
        registration: the body's own when absent.
    """
    registration = registration or load_registration(body)
    points = registered_points(body, registration, subject.coefficients)
    centers = body.kinematics.joint_centers(frames, subject.scales)
    targets = torch.cat([centers, registration.model_markers(frames, subject.scales)], -2)
    sigma = torch.tensor(
        [JOINT_SIGMA_M] * len(registration.joint_names) + [MARKER_SIGMA_M] * len(registration.marker_names)
    )
    return fit_points(body, subject, frames, points, targets, sigma)


@torch.no_grad()
def fit_model_joints(body: SmplxBody, subject: SmplxSubject, frames: BodyFrames) -> SmplxMotion:
    """Poses whose own joints lie where the skeleton has them: what needs no registration. Frames (T,22)."""
    points = model_joint_points(body, subject.coefficients)
    targets = model_joint_targets(body, subject, frames)
    sigma = torch.full((targets.shape[-2],), JOINT_SIGMA_M)
    return fit_points(body, subject, frames, points, targets, sigma, smooth=False)


def fit_points(
    body: SmplxBody,
    subject: SmplxSubject,
    frames: BodyFrames,
    points: MeshPoints,
    targets: Tensor,
    sigma: Tensor,
    smooth: bool = True,
) -> SmplxMotion:
    """Poses that bring points (N) to targets (T,N,3), ground, m, with standard deviations (N,), m.

    Args:
        frames: (T,22) body frames, from which the poses start.
        smooth: the frames are neighbours in time; else each is solved alone.
    """
    frames = BodyFrames(frames.rotation.double(), frames.position.double())
    start = body.follow(subject, frames)
    shift = body.place(subject, frames, start)
    goal = targets.double() @ R_GROUND_FILE.double()
    joints = body.model.shaped(subject.coefficients.double())[1]
    count = len(start)
    rotations, translation = torch.empty_like(start), torch.empty_like(shift)
    step = _WINDOW - _OVERLAP
    for first in range(0, max(count - _OVERLAP, 1), step):
        part = slice(first, first + _WINDOW)
        r, t = _solve(body, joints, points, start[part], shift[part], goal[part], sigma.double(), smooth)
        # the later window's first frames see fewer neighbours than the earlier one's last do: meet half way
        skip = _OVERLAP // 2 if first else 0
        rotations[first + skip : first + len(r)] = r[skip:]
        translation[first + skip : first + len(r)] = t[skip:]
    return SmplxMotion(rotations.float(), translation.float())


def _solve(body, joints, points, start, shift, goal, sigma, smooth) -> tuple[Tensor, Tensor]:
    """Local rotations (T,22,3,3) and translations (T,3), file axes; arguments as in `fit_points`."""
    from scipy.linalg import solveh_banded

    count = len(start)
    x = torch.zeros(count, _SIZE, dtype=torch.float64)
    prior = torch.full((_SIZE,), ROTATION_SIGMA**-2, dtype=torch.float64)
    prior[-3:] = TRANSLATION_SIGMA_M**-2
    inertia = torch.full((_SIZE,), ROTATION_ACCELERATION_SIGMA**-2, dtype=torch.float64)
    inertia[-3:] = TRANSLATION_ACCELERATION_SIGMA_M**-2
    band = _acceleration_band(count) if smooth else np.zeros((3, count))
    for _ in range(ITERATIONS):
        normal = torch.empty(count, _SIZE, _SIZE, dtype=torch.float64)
        gradient = torch.empty(count, _SIZE, dtype=torch.float64)
        for first in range(0, count, _CHUNK):
            part = slice(first, first + _CHUNK)
            normal[part], gradient[part] = _normal_equations(
                body, joints, points, start[part], shift[part], x[part], goal[part], sigma
            )
        normal += torch.diag(prior)
        gradient += prior * x + inertia * _apply_band(band, x)
        width = 2 * _SIZE if smooth else _SIZE - 1
        lower = np.zeros((width + 1, count * _SIZE))
        blocks = normal.numpy()
        columns = np.arange(count * _SIZE).reshape(count, _SIZE)
        for offset in range(_SIZE):
            row = np.arange(_SIZE - offset)
            lower[offset, columns[:, row]] = blocks[:, row + offset, row]
        if smooth:
            for k in range(3):  # frame t against frame t + k
                lower[k * _SIZE, columns] += band[k][:, None] * inertia.numpy()
        delta = solveh_banded(lower, -gradient.numpy().ravel(), lower=True, overwrite_ab=True)
        step = torch.as_tensor(delta).view(count, _SIZE).clamp(-0.5, 0.5)
        x += step
        if float(step.abs().max()) < _ENOUGH:
            break
    return _corrected(start, shift, x)


def _acceleration_band(count: int) -> np.ndarray:
    """(3,T) diagonals 0, 1, 2 of D^T D, where D takes second differences of T frames."""
    band = np.zeros((3, count))
    stencil = (1.0, -2.0, 1.0)
    for i in range(3):
        for j in range(i, 3):
            if count > 2:
                band[j - i, i : i + count - 2] += stencil[i] * stencil[j]
    return band


def _apply_band(band: np.ndarray, x: Tensor) -> Tensor:
    """D^T D x for x (T,n)."""
    rows = torch.as_tensor(band)
    out = rows[0, :, None] * x
    for k in (1, 2):
        if len(x) > k:
            out[:-k] += rows[k, :-k, None] * x[k:]
            out[k:] += rows[k, :-k, None] * x[:-k]
    return out


def _corrected(start: Tensor, shift: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    turns = axis_angle_to_matrix(x[:, :-3].unflatten(-1, (BODY_JOINTS, 3)))
    return compose(start, turns), shift + x[:, -3:]


def _normal_equations(*arguments) -> tuple[Tensor, Tensor]:
    """J^T J (T,n,n) and J^T r (T,n) of `linearize`."""
    residual, jacobian = linearize(*arguments)
    transposed = jacobian.transpose(1, 2)
    return transposed @ jacobian, (transposed @ residual[..., None])[..., 0]


def linearize(
    body: SmplxBody,
    joints: Tensor,
    points: MeshPoints,
    start: Tensor,
    shift: Tensor,
    x: Tensor,
    goal: Tensor,
    sigma: Tensor,
) -> tuple[Tensor, Tensor]:
    """Residuals (T,3N) of the points over sigma, and their Jacobian (T,3N,n) to the corrections x (T,n).

    A joint's turn w (in space) moves a point by w x lever, where the lever sums what the joint's
    descendants carry, seen from the joint. How correctives change with the pose is left out of the Jacobian.

    Args:
        joints: (55,3) in T-pose.
        start, shift: (T,22,3,3), (T,3) uncorrected local rotations and translations; goal: (T,N,3), m; all
            in the file's axes, float64.
    """
    rotations, translation = _corrected(start, shift, x)
    orientation, position = body.model.chain(rotations, joints)
    position = position + translation[:, None]
    moments, masses = points.posed_moments(rotations), points.masses
    offset = position - (orientation @ joints[:BODY_JOINTS, :, None])[..., 0]  # (T,22,3)
    carried = torch.einsum("tkab,tnkb->tnka", orientation, moments) + masses[..., None] * offset[:, None]
    residual = (carried.sum(2) - goal) / sigma[:, None]  # (T,N,3)
    below = _descendants(body.model.parents)  # (22,22): [j, k] when j carries k
    lever = torch.einsum("jk,tnka->tnja", below, carried)
    lever = lever - torch.einsum("jk,nk->nj", below, masses)[..., None] * position[:, None]
    # Turns in space per unit of each correction: axes are the columns of R_j times the right Jacobian.
    axes = orientation @ _right_jacobian(x[:, :-3].unflatten(-1, (BODY_JOINTS, 3)))  # (T,22,3,3)
    moved = torch.linalg.cross(
        axes.transpose(-1, -2)[:, None], lever[..., None, :], dim=-1
    )  # (T,N,22, correction, xyz)
    jacobian = moved.permute(0, 1, 4, 2, 3).flatten(3) / sigma[:, None, None]  # (T,N,3,66)
    total = masses.sum(1)[:, None, None] * torch.eye(3).to(masses) / sigma[:, None, None]  # (N,3,3)
    jacobian = torch.cat([jacobian, total.expand(len(x), -1, -1, -1)], -1).flatten(1, 2)
    return residual.flatten(1), jacobian


def _descendants(parents: tuple[int, ...]) -> Tensor:
    table = torch.eye(BODY_JOINTS, dtype=torch.float64)
    for k in range(1, BODY_JOINTS):
        j = parents[k]
        while j >= 0:
            table[j, k] = 1.0
            j = parents[j]
    return table


def _right_jacobian(vector: Tensor) -> Tensor:
    """(..., 3, 3) J with exp(v + dv) = exp(v) exp(J dv) to first order (Sola 2018, eq. 143)."""
    squared = (vector * vector).sum(-1)[..., None, None].clamp_min(1e-12)
    angle = squared.sqrt()
    x, y, z = vector.unbind(-1)
    zero = torch.zeros_like(x)
    skew = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).unflatten(-1, (3, 3))
    first = 2.0 * (torch.sin(angle / 2) / angle) ** 2
    second = torch.where(angle < 1e-3, 1 / 6 - squared / 120, (angle - angle.sin()) / (squared * angle))
    return torch.eye(3).to(vector) - first * skew + second * (skew @ skew)
