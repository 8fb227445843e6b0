"""The musculoskeletal model as frozen arrays, and its differentiable forward kinematics."""

from __future__ import annotations

from pose2sim_biokin.skeleton.kinematics import BodyFrames, ForwardKinematics
from pose2sim_biokin.skeleton.model import Skeleton, load_skeleton

__all__ = ["BodyFrames", "ForwardKinematics", "Skeleton", "load_skeleton"]
