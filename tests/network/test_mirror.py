"""Poses in a mirror, against the points of the skeleton in it."""

import numpy as np
import torch
from figures import SKELETON
from network_poses import LAYOUT, poses

from pose2sim_biokin.network.heads import Pose
from pose2sim_biokin.network.mirror import mean_pose, mirror_keypoints, mirror_pose
from pose2sim_biokin.skeleton import ForwardKinematics
from pose2sim_biokin.skeleton.angles import angles_to_coordinates
from pose2sim_biokin.skeleton.mirror import mirror_indices

KINEMATICS = ForwardKinematics(SKELETON)
FLIP = torch.tensor([1.0, 1.0, -1.0])


def keypoints(pose: Pose) -> torch.Tensor:
    """Joint and mass centres (B, 44, 3), the pelvis's origin where the pose has it."""
    frames = KINEMATICS(angles_to_coordinates(LAYOUT.angles(pose), SKELETON), pose.scales)
    points = KINEMATICS.keypoints(frames, pose.scales)
    return points - frames.position[:, :1] + pose.pelvis[:, None]


def test_the_points_of_a_mirrored_pose_are_the_mirrored_points():
    pose = poses(6, 0)
    points = keypoints(pose)
    bodies = mirror_indices(SKELETON.body_names)
    wanted = points[:, np.concatenate([bodies, bodies + 22])] * FLIP
    torch.testing.assert_close(keypoints(mirror_pose(pose, SKELETON)), wanted, atol=2e-5, rtol=0)
    # not what they were: the poses are not symmetric
    assert (wanted - points).norm(dim=-1).max() > 0.3
    turns = pose.rotations[:, :1]
    local = (points - pose.pelvis[:, None]) @ turns[:, 0]
    mirrored = mirror_pose(pose, SKELETON)
    expected = (wanted - mirrored.pelvis[:, None]) @ mirrored.rotations[:, 0]
    torch.testing.assert_close(mirror_keypoints(local, SKELETON), expected, atol=2e-5, rtol=0)


def test_the_mean_of_a_pose_and_itself_is_the_pose_and_of_two_lies_between():
    a, b = poses(4, 1), poses(4, 2)
    for value, wanted in zip(mean_pose([a, a]), a, strict=True):
        torch.testing.assert_close(value, wanted, atol=1e-5, rtol=0)
    middle = mean_pose([a, b])
    torch.testing.assert_close(middle.constrained, (a.constrained + b.constrained) / 2)
    eye = torch.eye(3).expand(4, 3, 3, 3)
    turned = middle.rotations @ middle.rotations.transpose(-1, -2)
    torch.testing.assert_close(turned, eye, atol=1e-5, rtol=0)
