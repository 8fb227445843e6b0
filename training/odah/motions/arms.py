"""Arm directions in words a person would use, and their shoulder coordinates.

A shoulder is described by its elevation (0 hanging, 90 horizontal, 180 overhead), the plane of elevation
(0 sideways, 90 forward, negative backward) and the axial rotation of the upper arm (positive inward). The
left arm is the mirror image of the right: both have the same numbers and the same coordinates.
"""

from __future__ import annotations

import numpy as np
import torch

from pose2sim_biokin.skeleton.rotations import euler_axes, euler_to_matrix, matrix_to_angles_continuous

PLANE_DEG = (-50.0, 130.0)
AXIAL_DEG = (-60.0, 80.0)


def shoulder_matrix(shoulder_deg: np.ndarray) -> np.ndarray:
    """Elevation, plane, axial rotation (..., 3) in degrees to rotations (..., 3, 3) of the right arm.

    The y-x-y sequence that the International Society of Biomechanics recommends (Wu et al. 2005), with the
    axial rotation counted from the hanging arm.
    """
    elevation, plane, axial = np.moveaxis(np.radians(shoulder_deg), -1, 0)
    first = _about("y", plane)
    return first @ _about("x", -elevation) @ _about("y", axial - plane)


def shoulder_coordinates(matrices: np.ndarray) -> np.ndarray:
    """Rotations (T, 3, 3) to arm_flex, arm_add, arm_rot (T, 3) in radians, continuous over time."""
    angles = matrix_to_angles_continuous(torch.from_numpy(matrices), euler_axes("zxy", torch.float64))
    return angles.numpy()


def coordinates_to_matrix(angles: np.ndarray) -> np.ndarray:
    """arm_flex, arm_add, arm_rot (..., 3) in radians to rotations (..., 3, 3) of the right arm."""
    return euler_to_matrix(torch.from_numpy(angles), "zxy").numpy()


def random_shoulders(rng: np.random.Generator, count: int, amplitude: float) -> np.ndarray:
    """Shoulder descriptions (count, 3) in degrees; amplitude 0 hangs down, 1 covers an arm's reach."""
    elevation = amplitude * np.degrees(np.arccos(rng.uniform(-0.97, 1.0, count)))
    plane = rng.uniform(*PLANE_DEG, count)
    # an arm raised overhead has left the planes behind the body
    plane = np.where(elevation > 110, np.clip(plane, -15, 110), plane)
    axial = rng.uniform(*AXIAL_DEG, count) * (0.4 + 0.6 * amplitude)
    return np.stack([elevation, plane, axial], -1)


def _about(axis: str, angle: np.ndarray) -> np.ndarray:
    c, s, one, zero = np.cos(angle), np.sin(angle), np.ones_like(angle), np.zeros_like(angle)
    rows = {
        "x": [one, zero, zero, zero, c, -s, zero, s, c],
        "y": [c, zero, s, zero, one, zero, -s, zero, c],
    }[axis]
    return np.stack(rows, -1).reshape(*angle.shape, 3, 3)
