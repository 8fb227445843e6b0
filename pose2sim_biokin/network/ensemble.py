"""One network asked twice about the same frames: as they are, and in a mirror with the views exchanged.

To a network that was trained on all of these they are equally good questions, and its answers differ by
chance (test-time augmentation). Keypoints are joined as sure as each is, poses by their mean; the skeleton is
fitted once, to what both say. To ask in all four ways costs twice as much and brings little more.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from pose2sim_biokin.network.biokin import BiokinNetwork, FrameBatch, FrameEncoder
from pose2sim_biokin.network.hands import HandDirections, across, join_views
from pose2sim_biokin.network.heads import Pose, local_keypoints
from pose2sim_biokin.network.mirror import mean_pose, mirror_keypoints, mirror_pose
from pose2sim_biokin.network.sequence import turn_pose
from pose2sim_biokin.skeleton.mirror import mirror_cameras
from pose2sim_biokin.skeleton.model import Skeleton
from pose2sim_biokin.vision.canonical import canonical_frame, ground_from_canonical_ground, to_canonical


class Variant(NamedTuple):
    """A way of showing frames: in a mirror, with the views exchanged."""

    mirror: bool
    swap: bool


PLAIN = Variant(False, False)
VARIANTS = PLAIN, Variant(True, True)  # in use


class Answer(NamedTuple):
    """What the encoder says of frames: (B, ...) in one ground.

    Attributes:
        pose: see Pose.
        keypoints, doubt, hands: see FrameOutput; of both views together. None where the network has none.
    """

    pose: Pose
    keypoints: Tensor | None
    doubt: Tensor | None
    hands: HandDirections | None


def encode(
    network: BiokinNetwork,
    batch: FrameBatch,
    variants: Sequence[Variant] = VARIANTS,
    mixed: bool = False,
) -> tuple[Pose, Tensor | None]:
    """The pose of frames, fitted if the network has a fit, and its `local` keypoints (see FrameOutput), in
    the canonical ground of the batch; `mixed`: the encoder works in bfloat16.
    """
    answer = ask(network.encoder, batch, variants, mixed)
    pose = answer.pose
    if network.fit is not None:
        pose = network.fit(pose, answer.keypoints, answer.hands, answer.doubt)
    local = None
    if answer.keypoints is not None:
        local = local_keypoints(answer.keypoints, answer.doubt, network.layout)
    return pose, local


def ask(
    encoder: FrameEncoder, batch: FrameBatch, variants: Sequence[Variant] = VARIANTS, mixed: bool = False
) -> Answer:
    """What an encoder, shown frames in several ways, says of them, in the canonical ground of the batch."""
    return join_answers([_answer(encoder, batch, variant, mixed) for variant in variants])


def shown(batch: FrameBatch, variant: Variant) -> tuple[FrameBatch, Tensor]:
    """Frames shown otherwise, in the canonical frame that belongs to that, and the rotation (B, 3, 3) of its
    ground in the mirrored, or same, ground.
    """
    images, masks, K, R, t, points = batch
    if variant.mirror:
        # the mirror reverses the canonical X, as that of recorded cameras does (skeleton.mirror)
        images, masks, points = images.flip(-1), masks.flip(-1), points * points.new_tensor([-1.0, 1.0, 1.0])
        K, R, t = mirror_cameras(K, R, t, images.shape[-1])
    if variant.swap:
        images, masks, K, R, t = (part.flip(1) for part in (images, masks, K, R, t))
    frame = canonical_frame(points.new_zeros(len(points), 3), R[:, 0])
    R, t, points = to_canonical(frame, R, t, points)
    return FrameBatch(images, masks, K, R, t, points), ground_from_canonical_ground(frame)[0]


def _answer(encoder: FrameEncoder, batch: FrameBatch, variant: Variant, mixed: bool) -> Answer:
    turn = None
    if variant != PLAIN:
        batch, turn = shown(batch, variant)
    with torch.autocast(batch.points.device.type, torch.bfloat16, enabled=mixed):
        out = encoder(batch)
    answer = Answer(out.pose, out.keypoints, out.doubt, out.hands and join_views(out.hands))
    if turn is not None:
        answer = turned(answer, turn)
    return mirrored(answer, encoder.layout.skeleton) if variant.mirror else answer


def turned(answer: Answer, rotation: Tensor) -> Answer:
    """An answer turned about the vertical, by (B, 3, 3), and the origin."""
    pose, keypoints, doubt, hands = answer
    back = rotation.transpose(-1, -2)
    if keypoints is not None:
        keypoints = keypoints @ back
    if hands is not None:
        hands = hands._replace(direction=hands.direction @ back, axis=hands.axis @ back)
    return Answer(turn_pose(pose, rotation, rotation.new_zeros(3)), keypoints, doubt, hands)


def mirrored(answer: Answer, skeleton: Skeleton) -> Answer:
    """An answer seen in the mirror that reverses ground Z; left and right exchanged."""
    pose, keypoints, doubt, hands = answer
    if doubt is not None:
        told = mirror_keypoints(torch.cat([keypoints, doubt[..., None]], -1), skeleton)
        keypoints, doubt = told[..., :3], told[..., 3]
    elif keypoints is not None:
        keypoints = mirror_keypoints(keypoints, skeleton)
    if hands is not None:
        flip = pose.scales.new_tensor([1.0, 1.0, -1.0])
        direction, axis, concentration = (part.flip(1) for part in hands)
        hands = HandDirections(direction * flip, axis * flip, concentration)
    return Answer(mirror_pose(pose, skeleton), keypoints, doubt, hands)


def join_answers(answers: Sequence[Answer]) -> Answer:
    """One answer of several about the same frames.

    A keypoint is the mean, weighted by how sure each answer is of it (1 / doubt); its doubt that of the
    answers, and how much they differ. Distributions of the hands' turns are multiplied; as the answers are
    not independent, what all say is no surer than what one says.
    """
    if len(answers) == 1:
        return answers[0]
    pose = mean_pose([answer.pose for answer in answers])
    keypoints, doubt, hands = answers[0][1:]
    if keypoints is not None:
        said = torch.stack([answer.keypoints for answer in answers])
        share = torch.full_like(said[..., 0], 1 / len(said))
        if doubt is not None:
            doubts = torch.stack([answer.doubt for answer in answers])
            share = F.normalize(1 / doubts, p=1.0, dim=0)
        keypoints = (share[..., None] * said).sum(0)
        if doubt is not None:
            apart = (share * (said - keypoints).square().sum(-1)).sum(0)
            doubt = ((share * doubts).sum(0).square() + apart / 9).sqrt()  # a third of the distance
    if hands is not None:
        first = hands.axis
        # forearms' axes have no direction of their own
        axes = [a.hands.axis * (a.hands.axis * first).sum(-1, keepdim=True).sign() for a in answers]
        axis = F.normalize(torch.stack(axes).sum(0), dim=-1, eps=1e-4)
        seen = [answer.hands.direction * answer.hands.concentration[..., None] for answer in answers]
        mean = torch.stack(seen).mean(0)
        direction = across(mean, axis)
        hands = HandDirections(direction, axis, (mean * direction).sum(-1))
    return Answer(pose, keypoints, doubt, hands)
