"""Markers of a mesh for OpenSim's tools: its registered marker vertices, and joint centres regressed from it."""

from __future__ import annotations

import numpy as np
import torch

from odah.bodies.registration import Registration
from pose2sim_biokin.io.trc import MarkerTable
from pose2sim_biokin.skeleton.model import Skeleton, table_to_skeleton

# Markers at joint centres -> the body whose joint it is.
_CENTERS = {
    f"{side.upper()}{joint}JC": f"{body}_{side}"
    for joint, body in {"H": "femur", "K": "tibia", "A": "talus", "S": "humerus", "E": "ulna"}.items()
    for side in "rl"
} | {"LUMBAR": "torso"}


def virtual_skeleton(registration: Registration, skeleton: Skeleton) -> Skeleton:
    """The skeleton with the markers that `virtual_markers` gives, where the mesh has them, and no others."""
    placed = registration.marker_skeleton(skeleton).table
    offsets = skeleton.joints.child_offsets.sum(-1)
    markers = [
        m for m in placed["markers"] if m["name"] in registration.marker_names and m["name"] not in _CENTERS
    ]
    for name, body in _CENTERS.items():
        location = offsets[skeleton.body_index(body)].tolist()
        markers.append({"name": name, "body": body, "location": location})
    return table_to_skeleton({**placed, "markers": markers}, skeleton.name)


def virtual_markers(
    registration: Registration, vertices: torch.Tensor, fps: float, skeleton: Skeleton
) -> MarkerTable:
    """Markers and joint centres of a moving mesh.

    Args:
        vertices: (T, V, 3) in ground axes, m.
        skeleton: the unscaled skeleton; names the joints.
    """
    centers = registration.joint_centers(vertices)
    names = [n for n in registration.marker_names if n not in _CENTERS]
    points = registration.select(names).markers(vertices)
    rows = [registration.joint_names.index(body) for body in _CENTERS.values()]
    points = torch.cat([points, centers[..., rows, :]], -2).double().numpy()
    count = len(points)
    return MarkerTable(np.arange(1, count + 1), np.arange(count) / fps, (*names, *_CENTERS), points)
