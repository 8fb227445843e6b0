"""Groups of coordinates, and the joints whose three angles are best handled as one rotation.

The *angles* are the coordinates without the pelvis translation: 36 of the built-in skeleton's 39, in the same
order. Free joints (pelvis, shoulders) turn through gimbal lock in everyday motion, so a network predicts them
as rotations; here they become coordinates again.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from pose2sim_biokin.errors import BiokinError
from pose2sim_biokin.skeleton.model import Skeleton
from pose2sim_biokin.skeleton.rotations import (
    angles_to_matrix,
    compose,
    matrix_to_angles,
    matrix_to_angles_continuous,
)

TRANSLATIONS = ("pelvis_tx", "pelvis_ty", "pelvis_tz")

# Body -> the three coordinates of the joint that carries it.
FREE_JOINTS = {
    "pelvis": ("pelvis_tilt", "pelvis_list", "pelvis_rotation"),
    "humerus_r": ("arm_flex_r", "arm_add_r", "arm_rot_r"),
    "humerus_l": ("arm_flex_l", "arm_add_l", "arm_rot_l"),
}
FREE = tuple(name for names in FREE_JOINTS.values() for name in names)

CONSTRAINED = (
    *("hip_flexion_r", "hip_adduction_r", "hip_rotation_r"),
    *("hip_flexion_l", "hip_adduction_l", "hip_rotation_l"),
    *("knee_angle_r", "knee_angle_l", "ankle_angle_r", "ankle_angle_l"),
    *("lumbar_extension", "lumbar_bending", "lumbar_rotation"),
    *("elbow_flex_r", "elbow_flex_l", "pro_sup_r", "pro_sup_l"),
)

FIXED = (
    *("knee_angle_r_beta", "knee_angle_l_beta", "subtalar_angle_r", "subtalar_angle_l"),
    *("mtp_angle_r", "mtp_angle_l", "wrist_flex_r", "wrist_dev_r", "wrist_flex_l", "wrist_dev_l"),
)


def angle_names(skeleton: Skeleton) -> tuple[str, ...]:
    """Names of the angles: all coordinates but the pelvis translation, in their order."""
    return tuple(name for name in skeleton.coordinate_names if name not in TRANSLATIONS)


def angle_coordinates(skeleton: Skeleton) -> np.ndarray:
    """Index of each angle among the coordinates, (36,) for the built-in skeleton."""
    return np.array([skeleton.coordinate_index(name) for name in angle_names(skeleton)])


def angle_indices(skeleton: Skeleton, names: tuple[str, ...]) -> np.ndarray:
    """Index of each named coordinate within the angle vector; BiokinError when one is not an angle."""
    angles = angle_names(skeleton)
    missing = [name for name in names if name not in angles]
    if missing:
        raise BiokinError(f"Skeleton {skeleton.name} has no angle {', '.join(missing)}.")
    return np.array([angles.index(name) for name in names])


def coordinates_to_angles(coordinates: Tensor, skeleton: Skeleton) -> Tensor:
    """Coordinates (..., nc) to angles (..., nc - 3), rad."""
    return coordinates[..., angle_coordinates(skeleton)]


def angles_to_coordinates(angles: Tensor, skeleton: Skeleton, translation: Tensor | None = None) -> Tensor:
    """Angles (..., nc - 3) and pelvis translation (..., 3) in ground, m (zeros when absent), to (..., nc)."""
    index = torch.as_tensor(angle_coordinates(skeleton), device=angles.device)
    pelvis = torch.tensor([skeleton.coordinate_index(n) for n in TRANSLATIONS], device=angles.device)
    if translation is None:
        translation = angles.new_zeros(3)
    translation = translation.to(angles).expand(*angles.shape[:-1], 3)
    both = torch.cat([angles, translation], -1)
    return both[..., torch.argsort(torch.cat([index, pelvis]))]


def free_joint_axes(skeleton: Skeleton, body: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Axes of a joint with three rotational degrees of freedom, and its frames.

    Args:
        body: a key of FREE_JOINTS.

    Returns:
        axes (3, 3) unit, one a row, signs included; parent (3, 3) and child (3, 3) rotation of the joint's
        frames: ``R_parent^T R_child_body = parent @ R(angles; axes) @ child^T``.

    Raises:
        BiokinError: the joint is of another kind.
    """
    i = skeleton.body_index(body)
    joints = skeleton.joints
    axes = np.array(joints.axes[i, :3])
    for k, (terms, name) in enumerate(zip(joints.terms[i][:3], FREE_JOINTS[body], strict=True)):
        index = skeleton.coordinate_index(name)
        plain = terms.constant == 0 and not terms.curves and len(terms.linear) == 1
        if not plain or terms.linear[0][0] != index or abs(terms.linear[0][1]) != 1.0:
            raise BiokinError(
                f"Skeleton {skeleton.name}: rotation {k + 1} of joint {joints.names[i]} must be the "
                f"coordinate {name} itself, or its negative, to be read back from a rotation."
            )
        axes[k] *= terms.linear[0][1]
    if not np.allclose(axes @ axes.T, np.eye(3), atol=1e-6):
        raise BiokinError(
            f"Skeleton {skeleton.name}: the axes of joint {joints.names[i]} are not orthogonal; its angles "
            "cannot be read back from a rotation."
        )
    return axes, joints.parent_rotations[i], joints.child_rotations[i]


def free_angles_to_rotations(angles: Tensor, skeleton: Skeleton) -> Tensor:
    """Free angles (..., 9), order of FREE, to rotations (..., 3, 3, 3) of pelvis, right and left humerus.

    The pelvis's is relative to ground, a humerus's to the torso: ``R_parent^T R_body``.
    """
    rotations = []
    for k, body in enumerate(FREE_JOINTS):
        axes, parent, child = (angles.new_tensor(m) for m in free_joint_axes(skeleton, body))
        joint = angles_to_matrix(angles[..., 3 * k : 3 * k + 3], axes)
        rotations.append(compose(compose(parent, joint), child.T))
    return torch.stack(rotations, -3)


def rotations_to_free_angles(rotations: Tensor, skeleton: Skeleton) -> Tensor:
    """Rotations (..., 3, 3, 3), as `free_angles_to_rotations` gives them, to angles (..., 9); differentiable.

    Each frame by itself, second angles in -pi/2..pi/2; over time use `rotations_to_free_angles_continuous`.
    """
    angles = []
    for k, body in enumerate(FREE_JOINTS):
        axes, parent, child = (rotations.new_tensor(m) for m in free_joint_axes(skeleton, body))
        joint = compose(compose(parent.T, rotations[..., k, :, :]), child)
        angles.append(matrix_to_angles(joint, axes))
    return torch.cat(angles, -1)


def rotations_to_free_angles_continuous(
    rotations: Tensor, skeleton: Skeleton, reference: Tensor | None = None
) -> Tensor:
    """Rotations (T, 3, 3, 3), in order of time, to angles (T, 9) without jumps; no gradient.

    Args:
        reference: (9,) angles that the first frame is taken nearest to; zeros when absent.
    """
    angles = []
    for k, body in enumerate(FREE_JOINTS):
        axes, parent, child = (rotations.new_tensor(m) for m in free_joint_axes(skeleton, body))
        start = None if reference is None else reference[3 * k : 3 * k + 3]
        joint = compose(compose(parent.T, rotations[..., k, :, :]), child)
        angles.append(matrix_to_angles_continuous(joint, axes, start))
    return torch.cat(angles, -1)
