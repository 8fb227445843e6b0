"""What a model's coordinates do, found by posing it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pose2sim_biokin.compare.anatomy import SIDES, common_bodies
from pose2sim_biokin.compare.models import Model

_Z, _X, _Y = (0.0, 0.0, 1.0), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0)
_MINUS_X, _MINUS_Y = (-1.0, 0.0, 0.0), (0.0, -1.0, 0.0)
_STEP = 0.05  # rad, for derivatives by posing


@dataclass(frozen=True)
class Group:
    """Three angles of one body relative to another, in Rajagopal's convention.

    Attributes:
        parent: common name of the body that they are relative to; "" for OpenSim's ground.
        child: common name of the body that they turn.
        names: of the three coordinates.
        axes: body-fixed axes that they turn about, in this order.
        by_orientation: never matched by name.
    """

    parent: str
    child: str
    names: tuple[str, str, str]
    axes: tuple[tuple[float, float, float], ...] = (_Z, _X, _Y)
    by_orientation: bool = False


_LEFT = (_Z, _MINUS_X, _MINUS_Y)
GROUPS = (
    Group("", "pelvis", ("pelvis_tilt", "pelvis_list", "pelvis_rotation")),
    Group("pelvis", "femur_r", ("hip_flexion_r", "hip_adduction_r", "hip_rotation_r")),
    Group("pelvis", "femur_l", ("hip_flexion_l", "hip_adduction_l", "hip_rotation_l"), _LEFT),
    Group("pelvis", "torso", ("lumbar_extension", "lumbar_bending", "lumbar_rotation"), by_orientation=True),
    Group("torso", "humerus_r", ("arm_flex_r", "arm_add_r", "arm_rot_r"), by_orientation=True),
    Group("torso", "humerus_l", ("arm_flex_l", "arm_add_l", "arm_rot_l"), _LEFT, by_orientation=True),
)


class Probe:
    """A model posed at zero, and with each coordinate a little to either side of it."""

    def __init__(self, model: Model):
        self.model = model
        n = len(model.coordinate_names)
        poses = np.zeros((2 * n + 1, n))
        poses[1 + 2 * np.arange(n), np.arange(n)] = _STEP
        poses[2 + 2 * np.arange(n), np.arange(n)] = -_STEP
        self._frames = model.pose(poses)
        self._bodies = common_bodies(model)
        self._checks: dict[tuple, np.ndarray] = {}

    def has(self, *bodies: str) -> bool:
        """Whether the model has all these bodies (common names; "" is ground)."""
        return all(body in self._bodies for body in bodies if body)

    def at_zero(self, parent: str, child: str) -> np.ndarray:
        """(3, 3) orientation of the child in the parent, all coordinates zero."""
        return self._relative(parent, child)[0]

    def turns(self, parent: str, child: str) -> dict[str, np.ndarray]:
        """Coordinate -> (3,) how it turns the child in the parent's axes, rad for each rad, at zero."""
        from scipy.spatial.transform import Rotation

        relative = self._relative(parent, child)
        step = relative[1::2] @ np.swapaxes(relative[2::2], -1, -2)
        vectors = Rotation.from_matrix(step).as_rotvec() / (2 * _STEP)
        return {
            name: vector
            for name, vector in zip(self.model.coordinate_names, vectors, strict=True)
            if np.linalg.norm(vector) > 1e-3
        }

    def posed(self, group: Group, angles: np.ndarray) -> np.ndarray:
        """(N, 3, 3) the group's orientation with its own coordinates set to angles (N, 3), the rest zero."""
        names = self.model.coordinate_names
        poses = np.zeros((len(angles), len(names)))
        poses[:, [names.index(name) for name in group.names]] = angles
        return _relative(self.model.pose(poses).rotation, self._bodies, group.parent, group.child)

    def pelvis_origin(self) -> np.ndarray:
        """(3,) mm, the pelvis body's origin from the midpoint of the hips, along its own axes, at zero."""
        at = self._frames.position[0, self._bodies["pelvis"]]
        hips = [self._frames.joint_centers[0, self._bodies[f"femur_{side}"]] for side in SIDES]
        return 1000 * self._frames.rotation[0, self._bodies["pelvis"]].T @ (at - np.mean(hips, axis=0))

    def _relative(self, parent: str, child: str) -> np.ndarray:
        if (parent, child) not in self._checks:
            self._checks[parent, child] = _relative(self._frames.rotation, self._bodies, parent, child)
        return self._checks[parent, child]


def _relative(rotation: np.ndarray, bodies: dict[str, int], parent: str, child: str) -> np.ndarray:
    turned = rotation[:, bodies[child]]
    return np.swapaxes(rotation[:, bodies[parent]], -1, -2) @ turned if parent else turned
