"""The paper's losses, equation by equation, and those of the fast preset.

Lin et al. 2024: L = L_angle + L_scale + L_bio + 100 L_pos. Every term is a mean over batch and elements.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from pose2sim_biokin.network.biokin import FrameOutput
from pose2sim_biokin.network.hands import HandTurns, wrist_sides
from pose2sim_biokin.network.heads import AngleLayout, Pose
from pose2sim_biokin.network.points import project
from pose2sim_biokin.skeleton.angles import angles_to_coordinates
from pose2sim_biokin.skeleton.kinematics import ForwardKinematics
from pose2sim_biokin.skeleton.rotations import compose, ground_to_world


def angle_loss(angles: Tensor, truth: Tensor, layout: AngleLayout) -> Tensor:
    """L_angle of angles (B, 36): L1 of cosines and sines of free angles, plus L1 of the constrained
    ones (rad).
    """
    free, wanted = angles[..., layout.free], truth[..., layout.free]
    turning = (free.cos() - wanted.cos()).abs().mean() + (free.sin() - wanted.sin()).abs().mean()
    return turning + constrained_loss(angles[..., layout.constrained], truth[..., layout.constrained])


def constrained_loss(angles: Tensor, truth: Tensor) -> Tensor:
    """L1 of constrained angles (B, 17), rad."""
    return (angles - truth).abs().mean()


def scale_loss(scales: Tensor, truth: Tensor) -> Tensor:
    """L_scale: L1 of scale factors (B, nb, 3)."""
    return (scales - truth).abs().mean()


def range_loss(angles: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """L_bio of constrained angles (B, 17): L1, of cosines and sines, to the nearest angle in range; 0
    within it.
    """
    nearest = torch.minimum(torch.maximum(angles, low), high)
    return (angles.cos() - nearest.cos()).abs().mean() + (angles.sin() - nearest.sin()).abs().mean()


def position_loss(keypoints: Tensor, truth: Tensor) -> Tensor:
    """L_pos: L1 of keypoints (B, 44, 3), both relative to their pelvis (the first), m."""
    return (keypoints - keypoints[..., :1, :] - truth + truth[..., :1, :]).abs().mean()


def posed_keypoints(pose: Pose, kinematics: ForwardKinematics, layout: AngleLayout) -> Tensor:
    """(..., 2 nb, 3) joint and mass centres of poses (...,), m, from the pelvis's origin, in ground axes.

    Gradients flow to the rotations as well: angles read off them have none (see FrameLoss), so the points
    that a free joint carries are turned by it once more, by a rotation whose value is one.
    """
    frames = kinematics(angles_to_coordinates(layout.angles(pose), layout.skeleton), pose.scales)
    points = kinematics.keypoints(frames, pose.scales)
    index = layout.skeleton.body_index
    torso = frames.rotation[..., index("torso"), :, :]
    for joint, side in ((1, "r"), (2, "l")):
        arm = [index(f"{body}_{side}") for body in ("humerus", "ulna", "radius", "hand")]
        carried = torch.tensor(arm + [layout.bodies + body for body in arm], device=points.device)
        turn = compose(torso, compose(_one(pose.rotations[..., joint, :, :]), torso.transpose(-1, -2)))
        shoulder = frames.position[..., arm[:1], :]
        moved = (points[..., carried, :] - shoulder) @ turn.transpose(-1, -2) + shoulder
        points = points.index_copy(-2, carried, moved)
    turn = _one(pose.rotations[..., 0, :, :])
    return (points - frames.position[..., :1, :]) @ turn.transpose(-1, -2)


def _one(rotations: Tensor) -> Tensor:
    """Identities whose gradients are those of turns from rotations (..., 3, 3), in the parent's axes."""
    return compose(rotations, rotations.detach().transpose(-1, -2))


def rotation_loss(rotations: Tensor, truth: Tensor) -> Tensor:
    """L1 of rotation matrices (..., 3, 3)."""
    return (rotations - truth).abs().mean()


def heatmap_loss(logits: Tensor, pixels: Tensor, size: int, sigma: float = 1.0) -> Tensor:
    """Cross-entropy between heatmaps and Gaussians about the projected keypoints, less its smallest value.

    Args:
        logits: (B, 2, K, H, H); pixels: (B, 2, K, 2) of pictures of side `size`; sigma: deviation in cells.
    """
    side = logits.shape[-1]
    cells = torch.arange(side, device=logits.device, dtype=torch.float32)
    place = pixels * ((side - 1) / (size - 1))
    seen = ((place > -1) & (place < side)).all(-1)  # (B, 2, K)
    gauss = -((cells - place[..., None]) ** 2) / (2 * sigma**2)  # (B, 2, K, 2, H): x, y
    gauss = gauss.softmax(-1)
    entropy = -(gauss * gauss.clamp_min(1e-12).log()).sum((-1, -2))
    # The Gaussian is a product of its columns and rows, so it is never laid out as a map; keypoints last, as
    # the maps lie in memory.
    maps = logits.movedim(2, -1).float()  # (B, 2, H, H, K)
    across, down = gauss.movedim(2, -1).unbind(2)  # (B, 2, H, K)
    expected = ((maps * across[:, :, None]).sum(3) * down).sum(2)  # (B, 2, K)
    cross = maps.flatten(2, 3).logsumexp(2) - expected
    return ((cross - entropy) * seen).sum() / seen.sum().clamp_min(1)


def hand_loss(turns: HandTurns, sides: Tensor) -> Tensor:
    """Mean of -log p of the true directions of the wrists (B, 2, 3), in the frame of the turns, by each view.

    p is von Mises's density of the angle, exp(k cos(x - mean)) / (2 pi I0(k)).
    """
    wanted = torch.stack([(sides[:, None] * base).sum(-1) for base in (turns.first, turns.second)], -1)
    cosine = (F.normalize(wanted, dim=-1, eps=1e-4) * turns.mean).sum(-1)
    k = turns.concentration
    # log I0(k) = log(I0(k) exp(-k)) + k
    return (k * (1 - cosine) + torch.special.i0e(k).log() + math.log(2 * math.pi)).mean()


def doubt_loss(doubt: Tensor, distance: Tensor) -> Tensor:
    """Mean of -log p of keypoints `distance` (B, K) m from the truth, where p ~ exp(-distance / b) / b^3 in
    space and b (B, K) = `doubt`, m, of which a third of the mean distance is the best; less its value at
    b = distance = 1 cm.
    """
    return (distance / doubt - 1 + 3 * (doubt / 0.01).log()).mean()


@dataclass(frozen=True)
class LossWeights:
    """Weights of the terms; a term of weight 0 is not computed. The defaults are the paper's."""

    angle: float = 1.0
    constrained: float = 0.0
    scale: float = 1.0
    range: float = 1.0
    position: float = 100.0
    rotation: float = 0.0
    heatmap: float = 0.0
    peaks: float = 0.0
    keypoints: float = 0.0
    pelvis: float = 0.0
    hands: float = 0.0
    doubt: float = 0.0


PAPER_WEIGHTS = LossWeights()
FAST_WEIGHTS = LossWeights(
    angle=0.0,
    constrained=10.0,
    scale=4.0,
    range=1.0,
    position=10.0,
    rotation=4.0,
    heatmap=0.5,
    peaks=0.2,
    keypoints=20.0,
    pelvis=5.0,
    hands=0.2,
    doubt=0.05,
)
WEIGHTS = {"paper": PAPER_WEIGHTS, "fast": FAST_WEIGHTS}


class FrameLoss(torch.nn.Module):
    """All terms of a batch.

    With rotations for the free joints, L_pos takes the free angles from the truth: reading angles back from a
    rotation has no useful gradient near gimbal lock, and the rotation and keypoint terms cover those joints.
    """

    def __init__(self, layout: AngleLayout, weights: LossWeights, rotations: bool):
        super().__init__()
        self.layout, self.weights, self.rotations = layout, weights, rotations
        self.kinematics = ForwardKinematics(layout.skeleton)

    def forward(self, out: FrameOutput, truth, cameras: tuple[Tensor, Tensor, Tensor], size: int) -> dict:
        """Terms by name, unweighted, and "loss", their weighted sum.

        Args:
            out: see FrameOutput; truth: odah.dataset.Targets; cameras: K, R, t of the batch; size: of
                the pictures.
        """
        w, layout, pose = self.weights, self.layout, truth.pose
        centers = truth.keypoints[:, : 2 * layout.bodies]
        terms: dict[str, Tensor] = {}
        if w.angle:
            terms["angle"] = angle_loss(out.angles, truth.angles, layout)
        if w.constrained:
            terms["constrained"] = constrained_loss(out.pose.constrained, pose.constrained)
        if w.scale:
            terms["scale"] = scale_loss(out.pose.scales, pose.scales)
        if w.range:
            terms["range"] = range_loss(out.pose.constrained, layout.low, layout.high)
        if w.position:
            angles = (
                layout.join(truth.angles[:, layout.free], out.pose.constrained)
                if self.rotations
                else out.angles
            )
            coordinates = angles_to_coordinates(angles, layout.skeleton)
            frames = self.kinematics(coordinates, out.pose.scales)
            terms["position"] = position_loss(self.kinematics.keypoints(frames, out.pose.scales), centers)
        if w.rotation:
            terms["rotation"] = rotation_loss(out.pose.rotations, pose.rotations)
        if w.keypoints and out.keypoints is not None:
            gap = out.keypoints - truth.keypoints[:, : out.keypoints.shape[1]]
            terms["keypoints"] = gap.abs().mean()
            if w.doubt and out.doubt is not None:
                terms["doubt"] = doubt_loss(out.doubt, gap.detach().norm(dim=-1))
        if w.pelvis and out.pose.pelvis is not None:
            terms["pelvis"] = (out.pose.pelvis - pose.pelvis).abs().mean()
        if w.hands and out.hands is not None:
            terms["hands"] = hand_loss(out.hands, wrist_sides(truth.keypoints, layout.skeleton))
        if w.heatmap and out.heatmaps:
            pixels = project(ground_to_world(centers), *cameras)
            terms["heatmap"] = sum(heatmap_loss(h, pixels, size) for h in out.heatmaps) / len(out.heatmaps)
            if w.peaks and out.peaks is not None:
                cell = (size - 1) / (out.heatmaps[-1].shape[-1] - 1)
                terms["peaks"] = F.smooth_l1_loss(out.peaks.pixels / cell, pixels / cell)
        terms["loss"] = sum(getattr(w, name) * value for name, value in terms.items())
        return terms
