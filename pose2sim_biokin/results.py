"""A Motion becomes the files that a Pose2Sim user looks for."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pose2sim_biokin.io.atomic import OutputSet
from pose2sim_biokin.io.bvh import write_bvh
from pose2sim_biokin.io.filters import filter_coordinates
from pose2sim_biokin.io.mot import in_degrees, write_mot
from pose2sim_biokin.io.osim import write_osim
from pose2sim_biokin.io.project import Trial
from pose2sim_biokin.io.trc import motion_points, write_c3d, write_trc
from pose2sim_biokin.motion import Motion
from pose2sim_biokin.skeleton.kinematics import ForwardKinematics
from pose2sim_biokin.skeleton.model import Skeleton


def write_motion(
    outputs: OutputSet,
    trial: Trial,
    frames: range,
    motion: Motion,
    skeleton: Skeleton,
    config_dict: dict[str, Any],
    filter_type: str | None = None,
) -> dict[str, Path]:
    """Stage the motion's files: joint angles, scaled model, markers, animation.

    Args:
        outputs: the set that they join; nothing is in place before its ``commit``.
        trial: gives folders, rate and mass.
        frames: the trial's frame numbers, one a row of the motion.
        motion: in the project's world.
        skeleton: of the motion.
        config_dict: Pose2Sim's, for the filters' settings.
        filter_type: also write filtered joint angles, as Pose2Sim's `filter_ik` does.

    Returns:
        What each file is (its extension, or "filtered mot") -> where it will be.

    Raises:
        BiokinError: a file cannot be written.
    """
    stem = trial.stem(frames)
    paths = {
        "mot": trial.kinematics_dir / f"{stem}.mot",
        "osim": trial.kinematics_dir / f"{stem}.osim",
        "trc": trial.pose3d_dir / f"{stem}.trc",
        "c3d": trial.pose3d_dir / f"{stem}.c3d",
    }
    write_mot(outputs.stage(paths["mot"]), motion.time, motion.coordinates, skeleton)
    write_osim(outputs.stage(paths["osim"]), skeleton, motion.scales, trial.config.mass_kg, name=stem)

    points = _points(motion, np.asarray(frames), skeleton)
    write_trc(outputs.stage(paths["trc"]), points, trial.fps)
    write_c3d(outputs.stage(paths["c3d"]), points, trial.fps)
    if len(frames) > 1:
        paths["bvh"] = trial.kinematics_dir / f"{stem}.bvh"
        write_bvh(outputs.stage(paths["bvh"]), motion.time, motion.coordinates, motion.scales, skeleton)
    else:
        logging.warning("A single frame: no .bvh file, which needs two.")

    if filter_type is not None:
        # in the units of the .mot file, on which Pose2Sim's filters work
        unit = np.where(in_degrees(skeleton), np.pi / 180, 1.0)
        filtered = filter_coordinates(motion.coordinates / unit, trial.fps, config_dict, filter_type)
        paths["filtered mot"] = trial.kinematics_dir / f"{stem}_filt_{filter_type}.mot"
        write_mot(outputs.stage(paths["filtered mot"]), motion.time, filtered * unit, skeleton)
    return paths


def _points(motion: Motion, frames: np.ndarray, skeleton: Skeleton):
    fk = ForwardKinematics(skeleton, dtype=torch.float64)
    scales = torch.as_tensor(motion.scales, dtype=torch.float64)
    with torch.no_grad():
        poses = fk(torch.as_tensor(motion.coordinates, dtype=torch.float64), scales)
        centers, markers = fk.joint_centers(poses, scales).numpy(), fk.markers(poses, scales).numpy()
    return motion_points(motion.time, frames, centers, markers, skeleton)
