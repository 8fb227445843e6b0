"""The skeleton fitted to the keypoints: where joints are seen and what angles are read off agree better so.

The head reads angles off the keypoints; errors of every joint add up along the limbs, so that its ankles and
hands lie further from the truth than the keypoints themselves. A few Gauss-Newton steps look for the pose
that is most probable, given both (maximum a posteriori).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pose2sim_biokin.network.hands import HandDirections, across, wrist_sides
from pose2sim_biokin.network.heads import AngleLayout, Pose
from pose2sim_biokin.network.presets import FitSize
from pose2sim_biokin.skeleton.angles import angles_to_coordinates
from pose2sim_biokin.skeleton.kinematics import ForwardKinematics
from pose2sim_biokin.skeleton.rotations import axis_angle_to_matrix, compose, matrix_to_axis_angle

_STEP = 1e-3  # rad and m, of forward differences: far above rounding, far below any curvature that matters
_RANGE_SIGMA = 0.03  # rad beyond a range count as much as one standard deviation of an angle
_LARGEST = 0.5  # rad and m, of one step
_POSES = 2048  # posed at a time


class PoseFit(nn.Module):
    """Fits poses to keypoints; what to trust how far was measured on validation data (`odah.fit`).

    Minimises, over turns of the three free joints, constrained angles and the pelvis' position (29 numbers x
    from the head's pose; scales are kept): sum_k rho(|FK_k(x) - keypoint_k| / sigma_k) + strength |x /
    sigma_x|^2 + the excess over the ranges, where rho is Huber's. The errors of keypoints depend on each
    other, hence a strength above one. The sigma_k of a frame in which head and keypoints disagree more than
    usual are wider: such a frame is not like those that they were measured on, as on films of real people.
    Where keypoints say how sure they are (`pose2sim_biokin.network.look`), sigma_k is in units of that.
    Where the hands were looked at, the distance of each wrist's direction (unit vectors across the forearm,
    see `HandDirections`) from the one seen is one more residual, of sigma hand_sigma / sqrt(concentration),
    as strong as the head: its error has little to do with those of the keypoints.

    Args:
        size: see FitSize.
        layout: of the network.
        keypoints: number of keypoints, K.
        hands: whether the hands are looked at.

    Attributes:
        keypoint_sigma: (K,) standard deviation of the keypoints along an axis, m, or in units of what each
            expects of itself.
        pose_sigma: (29,) of x: three turns (rad) each of pelvis, right and left humerus, in their own axes,
            17 constrained angles (rad), pelvis (m).
        hand_sigma: () of directions of concentration 1; where the hands are looked at.
    """

    def __init__(self, size: FitSize, layout: AngleLayout, keypoints: int, hands: bool = False):
        super().__init__()
        self.size, self.layout = size, layout
        self.kinematics = ForwardKinematics(layout.skeleton)
        self.turns = 9
        self.angles = len(layout.constrained)
        self.register_buffer("keypoint_sigma", torch.ones(keypoints))
        self.register_buffer("pose_sigma", torch.ones(self.turns + self.angles + 3))
        if hands:
            self.register_buffer("hand_sigma", torch.ones(()))

    @torch.no_grad()
    def forward(
        self,
        pose: Pose,
        keypoints: Tensor,
        hands: HandDirections | None = None,
        doubt: Tensor | None = None,
    ) -> Pose:
        """The poses (B,) fitted to keypoints (B, K, 3), which say how sure they are, (B, K) m, or do not, and
        to what was seen of the hands, in one frame.
        """
        portion = max(1, _POSES // (len(self.pose_sigma) + 1))
        parts = [slice(first, first + portion) for first in range(0, len(keypoints), portion)]
        with torch.autocast(keypoints.device.type, enabled=False):
            found = [
                self._fit(
                    Pose(*(value[part] for value in pose)),
                    keypoints[part],
                    hands and HandDirections(*(value[part] for value in hands)),
                    None if doubt is None else doubt[part],
                )
                for part in parts
            ]
        return Pose(*(torch.cat(values) for values in zip(*found, strict=True)))

    def _fit(self, pose: Pose, keypoints: Tensor, hands: HandDirections | None, doubt: Tensor | None) -> Pose:
        layout, count = self.layout, len(self.pose_sigma)
        constrained = slice(self.turns, self.turns + self.angles)
        x = keypoints.new_zeros(len(keypoints), count)
        probes = torch.cat([x.new_zeros(1, count), _STEP * torch.eye(count, device=x.device)])
        weight = 1 / self.sigma(doubt)
        if self.size.usual:
            unusual = (self.disagreement(pose, keypoints, doubt) / self.size.usual).clamp_min(1)
            weight = weight / unusual.sqrt()[:, None, None]  # (B, K, 1)
        wanted = keypoints
        if hands is not None:
            wanted = torch.cat([wanted, hands.direction], 1)
            sure = (self.size.strength * hands.concentration).sqrt() / self.hand_sigma
            weight = torch.cat([weight.expand(len(keypoints), -1, 1), sure[..., None]], 1)
        prior = self.size.strength / self.pose_sigma.square()
        for _ in range(self.size.iterations):
            points = self.points(self.moved(pose, x[:, None] + probes))  # (B, 1 + 29, K, 3)
            if hands is not None:
                points = torch.cat([points, self.hand_directions(points, hands.axis[:, None])], -2)
            residual = (points[:, 0] - wanted) * weight
            # Huber's weights; the square root goes to residual and Jacobian alike
            trust = (
                (self.size.huber / residual.norm(dim=-1, keepdim=True).clamp_min(1e-6)).clamp_max(1).sqrt()
            )
            jacobian = (points[:, 1:] - points[:, :1]) / _STEP * (weight * trust)[:, None]
            jacobian = jacobian.flatten(2).transpose(1, 2)  # (B, 3 K, 29)
            residual = (residual * trust).flatten(1)[..., None]
            angles = pose.constrained + x[:, constrained]
            excess = angles - torch.minimum(torch.maximum(angles, layout.low), layout.high)
            outside = torch.zeros_like(x)
            outside[:, constrained] = (excess != 0) * self.size.strength / _RANGE_SIGMA**2
            normal = jacobian.transpose(1, 2) @ jacobian + torch.diag_embed(prior + outside)
            gradient = (jacobian.transpose(1, 2) @ residual)[..., 0] + prior * x
            gradient[:, constrained] += outside[:, constrained] * excess
            x = x - torch.linalg.solve(normal, gradient).clamp(-_LARGEST, _LARGEST)
        return self.moved(pose, x)

    def sigma(self, doubt: Tensor | None) -> Tensor:
        """Standard deviation of keypoints along an axis, m: (K, 1), or (B, K, 1) where they say how sure they
        are.
        """
        usual = self.keypoint_sigma[:, None]
        return usual if doubt is None else usual * doubt[..., None]

    def disagreement(self, pose: Pose, keypoints: Tensor, doubt: Tensor | None = None) -> Tensor:
        """(B,) mean square, in standard deviations along an axis, of a pose's points from the keypoints."""
        away = (self.points(pose) - keypoints) / self.sigma(doubt)
        return away.square().mean((1, 2))

    def hand_directions(self, points: Tensor, axis: Tensor) -> Tensor:
        """(..., 2, 3) of the wrists of a pose's points (..., K, 3), across the forearms' axes (..., 2, 3)."""
        return across(wrist_sides(points, self.layout.skeleton), axis)

    def moved(self, pose: Pose, x: Tensor) -> Pose:
        """Poses (B,) moved by x (B, ..., 29): a pose of batch shape (B, ...)."""
        lead = x.shape[:-1]
        turns, angles, place = x.split([self.turns, self.angles, 3], -1)

        def spread(value: Tensor) -> Tensor:
            middle = [1] * (len(lead) - 1)
            return value.reshape(len(value), *middle, *value.shape[1:]).expand(*lead, *value.shape[1:])

        rotations = compose(spread(pose.rotations), axis_angle_to_matrix(turns.unflatten(-1, (3, 3))))
        return Pose(
            rotations, spread(pose.constrained) + angles, spread(pose.scales), spread(pose.pelvis) + place
        )

    def difference(self, pose: Pose, truth: Pose) -> Tensor:
        """x (B, 29) that moves a pose to the truth."""
        turns = matrix_to_axis_angle(compose(pose.rotations.transpose(-1, -2), truth.rotations))
        return torch.cat(
            [turns.flatten(-2), truth.constrained - pose.constrained, truth.pelvis - pose.pelvis], -1
        )

    def points(self, pose: Pose) -> Tensor:
        """(..., K, 3) joint and mass centres of a pose, then markers, if the network predicts them."""
        coordinates = angles_to_coordinates(self.layout.angles(pose), self.layout.skeleton)
        frames = self.kinematics(coordinates, pose.scales)
        points = self.kinematics.keypoints(frames, pose.scales)
        if points.shape[-2] < len(self.keypoint_sigma):
            points = torch.cat([points, self.kinematics.markers(frames, pose.scales)], -2)
        return points - frames.position[..., :1, :] + pose.pelvis[..., None, :]
