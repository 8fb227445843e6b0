"""Random poses of the network's kind."""

import numpy as np
import torch
from figures import SKELETON, random_coordinates

from pose2sim_biokin.network.heads import AngleLayout, Pose
from pose2sim_biokin.skeleton.angles import angle_coordinates

LAYOUT = AngleLayout(SKELETON)


def poses(count: int, seed: int) -> Pose:
    rng = np.random.default_rng(seed)
    angles = torch.from_numpy(random_coordinates(count, rng)).float()[:, angle_coordinates(SKELETON)]
    scales = torch.from_numpy(rng.uniform(0.8, 1.2, (count, 22, 3))).float()
    return LAYOUT.pose(angles, scales, torch.from_numpy(rng.normal(size=(count, 3))).float())
