"""Pictures of validation pairs: what the network was shown, with the true and the predicted skeleton."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor

from odah.dataset import Targets
from pose2sim_biokin.network.biokin import IMAGENET_MEAN, IMAGENET_STD, FrameBatch
from pose2sim_biokin.network.heads import AngleLayout, Pose
from pose2sim_biokin.network.points import project
from pose2sim_biokin.skeleton.angles import angles_to_coordinates
from pose2sim_biokin.skeleton.kinematics import ForwardKinematics
from pose2sim_biokin.skeleton.rotations import ground_to_world

SIDE = 256  # pixels of one crop in the picture
TRUE, PREDICTED = (60, 220, 60), (255, 80, 220)  # RGB


def joint_centers(pose: Pose, layout: AngleLayout, kinematics: ForwardKinematics) -> Tensor:
    """Joint centres (B, nb, 3) of poses, in their ground (Y up), m; about its origin without a pelvis."""
    coordinates = angles_to_coordinates(layout.angles(pose), layout.skeleton)
    frames = kinematics(coordinates, pose.scales)
    centers = kinematics.joint_centers(frames, pose.scales) - frames.position[:, :1]
    return centers if pose.pelvis is None else centers + pose.pelvis[:, None]


@torch.no_grad()
def validation_sheet(batch: FrameBatch, truth: Targets, pose: Pose, layout: AngleLayout) -> np.ndarray:
    """(H, W, 3) uint8 RGB: a pair a row, its two crops; true bones green, predicted bones pink.

    Args:
        batch, truth: pairs on the CPU; pose: what the network says of them. Where it says no pelvis, the
            true one is taken.
    """
    kinematics = ForwardKinematics(layout.skeleton)
    if pose.pelvis is None:
        pose = pose._replace(pelvis=truth.pose.pelvis)
    size = batch.images.shape[-1]
    pixels = [
        project(ground_to_world(joint_centers(p, layout, kinematics)), batch.K, batch.R, batch.t).numpy()
        for p in (truth.pose, pose)
    ]
    std, mean = (np.array(v, np.float32)[:, None, None] for v in (IMAGENET_STD, IMAGENET_MEAN))
    shown = np.clip((batch.images.numpy() * std + mean) * 255, 0, 255).astype(np.uint8)
    links = [(i, int(p)) for i, p in enumerate(layout.skeleton.joints.parents) if p >= 0]
    rows = []
    for i in range(len(shown)):
        tiles = []
        for v in range(2):
            tile = np.ascontiguousarray(shown[i, v].transpose(1, 2, 0))
            tile = cv2.resize(tile, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR)
            for points, colour in zip(pixels, (TRUE, PREDICTED), strict=True):
                place = (points[i, v] + 0.5) * (SIDE / size) - 0.5
                place = np.clip(
                    np.nan_to_num(place), -SIDE, 2 * SIDE
                )  # OpenCV's numbers overflow far outside
                for a, b in links:
                    ends = [tuple(np.round(place[j] * 16).astype(int).tolist()) for j in (a, b)]
                    cv2.line(tile, *ends, colour, 1, cv2.LINE_AA, 4)
            tiles.append(tile)
        rows.append(np.hstack(tiles))
    return np.vstack(rows)
