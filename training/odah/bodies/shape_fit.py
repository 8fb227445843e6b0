"""A person for a skeleton: SMPL-X shape coefficients from joint centres and markers (MoSh, Loper 2014).

    subject = fit_shape(body, scales)                  # the skeleton's scale factors are known, (22,3)
    subject = fit_shape(body, scales, coordinates, joint_centers, markers)     # measured points as well

Shape and pose of one frame are found together by Gauss-Newton; the skeleton's scales stay what they are.
"""

from __future__ import annotations

import torch
from torch import Tensor

from odah.bodies.acquisition import (
    JOINT_SIGMA_M,
    MARKER_SIGMA_M,
    ROTATION_SIGMA,
    TRANSLATION_SIGMA_M,
    MeshPoints,
    linearize,
    registered_points,
)
from odah.bodies.registration import load_registration
from odah.bodies.smplx_body import SmplxBody, SmplxSubject
from odah.bodies.smplx_tables import R_GROUND_FILE
from pose2sim_biokin.skeleton import BodyFrames

# Wide: points decide, the prior settles what they leave open.
BETA_SIGMA = 3.0
ITERATIONS = 10
_PROBE = 1e-4


@torch.no_grad()
def fit_shape(
    body: SmplxBody,
    scales: Tensor,
    coordinates: Tensor | None = None,
    joint_centers: Tensor | None = None,
    markers: Tensor | None = None,
    seed: int = 0,
) -> SmplxSubject:
    """The subject whose mesh fits the skeleton with these scale factors best.

    Args:
        scales: (22,3).
        coordinates: (39,) rad and m, of the frame to fit in; the mean body's rest pose when absent.
        joint_centers, markers: (J,3), (M,3) in ground, m, in the registration's order, in place of the
            skeleton's own in that frame.
        seed: the subject's.
    """
    registration = load_registration(body)
    count = body.model.shape_count
    mean = body.make_subjects(torch.zeros(1, count), [seed], scales[None])[0]
    coordinates = mean.rest_coordinates if coordinates is None else coordinates
    frames = body.kinematics(coordinates[None], scales)
    if joint_centers is None:
        joint_centers = body.kinematics.joint_centers(frames, scales)[0]
    if markers is None:
        markers = registration.model_markers(frames, scales)[0]
    goal = torch.cat([joint_centers, markers]).double()[None] @ R_GROUND_FILE.double()
    sigma = torch.tensor([JOINT_SIGMA_M] * len(joint_centers) + [MARKER_SIGMA_M] * len(markers)).double()
    frames = BodyFrames(frames.rotation.double(), frames.position.double())
    start = body.follow(mean, frames)
    shift = body.place(mean, frames, start)

    # Points are linear in the coefficients.
    origin = registered_points(body, registration, torch.zeros(count))
    steps = torch.stack([registered_points(body, registration, e).moments for e in torch.eye(count)])
    steps = steps - origin.moments

    def evaluate(z: Tensor) -> tuple[Tensor, Tensor]:
        betas, x = z[:count], z[None, count:]
        moments = origin.moments + torch.einsum("s,s...->...", betas, steps)
        points = MeshPoints(moments, origin.masses, origin.correctives)
        joints = body.model.shaped(betas)[1]
        residual, jacobian = linearize(body, joints, points, start, shift, x, goal, sigma)
        return residual[0], jacobian[0]

    z = torch.zeros(count + 3 * start.shape[1] + 3, dtype=torch.float64)
    prior = torch.full_like(z, ROTATION_SIGMA**-2)
    prior[:count], prior[-3:] = BETA_SIGMA**-2, TRANSLATION_SIGMA_M**-2
    for _ in range(ITERATIONS):
        residual, of_pose = evaluate(z)
        of_shape = []
        for s in range(count):
            probe = torch.zeros_like(z)
            probe[s] = _PROBE
            of_shape.append((evaluate(z + probe)[0] - residual) / _PROBE)
        jacobian = torch.cat([torch.stack(of_shape, -1), of_pose], -1)
        normal = jacobian.T @ jacobian + torch.diag(prior)
        step = torch.linalg.solve(normal, jacobian.T @ residual + prior * z)
        z = z - step.clamp(-1.0, 1.0)
        if float(step.abs().max()) < 1e-4:
            break
    return body.make_subjects(z[None, :count].float(), [seed], scales[None])[0]
