"""Fit the skeleton's scale factors and rest coordinates to a body's joints and surface landmarks.

Gauss-Newton with fixed settings, batched over subjects, in float64: it converges, so that scale factors are a
smooth deterministic function of the body's shape, as a network that predicts them from images needs.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pose2sim_biokin.skeleton import ForwardKinematics, Skeleton

# Scale parameters: one row of factors serves all bodies of a group (left = right; small bodies follow).
SCALE_GROUPS = {
    "pelvis": ("pelvis",),
    "thigh": ("femur_r", "femur_l", "patella_r", "patella_l"),
    "shank": ("tibia_r", "tibia_l"),
    "foot": ("talus_r", "talus_l", "calcn_r", "calcn_l", "toes_r", "toes_l"),
    "torso": ("torso",),
    "upper_arm": ("humerus_r", "humerus_l"),
    "forearm": ("ulna_r", "ulna_l", "radius_r", "radius_l"),
    "hand": ("hand_r", "hand_l"),
}
LONG_AXIS = {
    "pelvis": 1,
    "thigh": 1,
    "shank": 1,
    "foot": 0,
    "torso": 1,
    "upper_arm": 1,
    "forearm": 1,
    "hand": 1,
}

# Coordinates of the rest pose that are fitted (right side; the left copies), with their prior in rad or m.
REST_COORDINATES = {
    "pelvis_tilt": 0.0,
    "pelvis_tx": 0.0,
    "pelvis_ty": 0.08,
    "hip_flexion": 0.1,
    "hip_adduction": -0.1,
    "hip_rotation": 0.0,
    "knee_angle": 0.1,
    "ankle_angle": 0.0,
    "lumbar_extension": 0.0,
    "arm_flex": 0.0,
    "arm_add": -0.8,
    "arm_rot": 0.0,
    "elbow_flex": 0.7,
    "pro_sup": 0.8,
}

# Joint centre (origin of the body's carrying joint) -> standard deviation of x, y, z in m. The lumbar joint
# has no counterpart in a graphics rig: its height is trusted, its depth is left to the pelvis.
JOINT_SIGMA = {
    "femur_r": (0.003, 0.003, 0.003),
    "tibia_r": (0.003, 0.003, 0.003),
    "talus_r": (0.003, 0.003, 0.003),
    "toes_r": (0.005, 0.010, 0.010),
    "torso": (0.020, 0.005, 0.003),
    "humerus_r": (0.003, 0.003, 0.003),
    "ulna_r": (0.003, 0.003, 0.003),
    "hand_r": (0.004, 0.004, 0.004),
}
LANDMARK_SIGMA = {
    "RLFC": 0.015,
    "RMFC": 0.015,
    "RLMAL": 0.010,
    "RMMAL": 0.010,
    "RCAL": 0.010,
    "RTOE": 0.015,
    "RMT5": 0.025,
    "RLEL": 0.010,
    "RMEL": 0.010,
    "RFAradius": 0.008,
    "RFAulna": 0.008,
    "RACR": 0.020,
    "RASI": 0.030,
    "RPSI": 0.030,
    "C7": 0.020,
    "CLAV": 0.025,
}
KNUCKLE = (0.0, -0.095, 0.0)  # third knuckle in the hand's frame, m
KNUCKLE_SIGMA = 0.006
SCALE_SIGMA = 0.10  # of a transverse factor's logarithm relative to the long axis
LONG_SIGMA = 0.30  # of a long-axis factor's logarithm relative to one
SOFT_SIGMA = 0.6  # of rest coordinates relative to their prior, rad
ITERATIONS = 12


class SkeletonFit:
    """Fits batches of subjects; holds the indices and the forward kinematics in float64."""

    def __init__(self, skeleton: Skeleton):
        self.skeleton = skeleton
        self.kinematics = ForwardKinematics(skeleton, dtype=torch.float64)
        bodies = skeleton.body_names
        self.group_of_body = torch.zeros(len(bodies), dtype=torch.long)
        for index, members in enumerate(SCALE_GROUPS.values()):
            self.group_of_body[[bodies.index(name) for name in members]] = index
        self.columns: list[list[int]] = []
        for name in REST_COORDINATES:
            sided = name not in skeleton.coordinate_names
            names = (f"{name}_r", f"{name}_l") if sided else (name,)
            self.columns.append([skeleton.coordinate_index(n) for n in names])
        self.joint_bodies = [bodies.index(name) for name in JOINT_SIGMA]
        self.joint_sigma = torch.tensor(list(JOINT_SIGMA.values()), dtype=torch.float64)
        self.markers = [skeleton.marker_index(name) for name in LANDMARK_SIGMA]
        self.marker_sigma = torch.tensor(list(LANDMARK_SIGMA.values()), dtype=torch.float64)[:, None]
        self.hand = bodies.index("hand_r")
        self.prior = torch.tensor(list(REST_COORDINATES.values()), dtype=torch.float64)

    def unpack(self, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """Parameters (..., P) to coordinates (..., 39) and scales (..., 22, 3)."""
        groups = len(SCALE_GROUPS)
        scales = parameters[..., : 3 * groups].unflatten(-1, (groups, 3)).exp()[..., self.group_of_body, :]
        rest = parameters[..., 3 * groups :]
        columns = [torch.zeros_like(rest[..., 0])] * len(self.skeleton.coordinate_names)
        for k, targets in enumerate(self.columns):
            for target in targets:
                columns[target] = rest[..., k]
        return torch.stack(columns, -1), scales

    def residuals(self, parameters: Tensor, joints: Tensor, landmarks: Tensor, knuckle: Tensor) -> Tensor:
        """Weighted residuals (..., R); targets are as in `__call__`, any batch shape."""
        coordinates, scales = self.unpack(parameters)
        frames = self.kinematics(coordinates, scales)
        centers = self.kinematics.joint_centers(frames, scales)[..., self.joint_bodies, :]
        markers = self.kinematics.markers(frames, scales)[..., self.markers, :]
        local = torch.tensor(KNUCKLE, dtype=torch.float64) * scales[..., self.hand, :]
        tip = (
            frames.position[..., self.hand, :]
            + (frames.rotation[..., self.hand, :, :] @ local[..., None])[..., 0]
        )
        groups = len(SCALE_GROUPS)
        log_scales = parameters[..., : 3 * groups].unflatten(-1, (groups, 3))
        long_axis = torch.stack([log_scales[..., k, a] for k, a in enumerate(LONG_AXIS.values())], -1)
        return torch.cat(
            [
                ((centers - joints) / self.joint_sigma).flatten(-2),
                ((markers - landmarks) / self.marker_sigma).flatten(-2),
                (tip - knuckle) / KNUCKLE_SIGMA,
                ((log_scales - long_axis[..., None]) / SCALE_SIGMA).flatten(-2),
                long_axis / LONG_SIGMA,
                (parameters[..., 3 * groups :] - self.prior) / SOFT_SIGMA,
            ],
            -1,
        )

    @torch.no_grad()
    def __call__(self, joints: Tensor, landmarks: Tensor, knuckle: Tensor) -> tuple[Tensor, Tensor]:
        """Scales (n,22,3) and rest coordinates (n,39), float64, of n subjects.

        Args:
            joints: (n,8,3) joint centres in the order of JOINT_SIGMA, ground axes, m.
            landmarks: (n,16,3) surface points in the order of LANDMARK_SIGMA.
            knuckle: (n,3) right third knuckle.
        """
        joints, landmarks, knuckle = joints.double(), landmarks.double(), knuckle.double()
        count, size = len(joints), 3 * len(SCALE_GROUPS) + len(self.prior)
        x = torch.cat([torch.zeros(count, size - len(self.prior)), self.prior.expand(count, -1)], 1).double()
        step = 1e-6
        probe = torch.cat([torch.zeros(1, size), torch.eye(size)]).double() * step
        damping = 1e-3
        for _ in range(ITERATIONS):
            values = self.residuals(
                x[:, None] + probe, joints[:, None], landmarks[:, None], knuckle[:, None]
            )  # (n, 1 + P, R): forward differences are exact enough in float64
            jacobian = ((values[:, 1:] - values[:, :1]) / step).transpose(1, 2)
            normal = jacobian.transpose(1, 2) @ jacobian
            normal = normal + damping * torch.diag_embed(normal.diagonal(dim1=1, dim2=2))
            gradient = jacobian.transpose(1, 2) @ values[:, 0, :, None]
            x = x - torch.linalg.solve(normal, gradient)[..., 0].clamp(-0.5, 0.5)
        coordinates, scales = self.unpack(x)
        return scales, self.kinematics.constrain(coordinates)
