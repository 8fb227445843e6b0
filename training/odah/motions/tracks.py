"""A motion while it is being made: curves by name, in degrees, that become the skeleton's coordinates."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch

from odah.motions.arms import coordinates_to_matrix, shoulder_coordinates, shoulder_matrix
from pose2sim_biokin.skeleton.model import Skeleton
from pose2sim_biokin.skeleton.rotations import euler_axes, euler_to_matrix, matrix_to_angles_continuous

_TRUNK = {"extension": "lumbar_extension", "bend": "lumbar_bending", "twist": "lumbar_rotation"}
_SIDES = {
    "hip": "hip_flexion",
    "add": "hip_adduction",
    "rot": "hip_rotation",
    "knee": "knee_angle",
    "ankle": "ankle_angle",
    "elbow": "elbow_flex",
    "sup": "pro_sup",
}
# Sign changes of a mirrored motion; all other curves swap sides and keep their sign.
_ODD = ("list", "turn", "bend", "twist")


@dataclass
class Tracks:
    """Curves (T,) in degrees, and shoulders as rotations.

    Attributes:
        curves: by name: turn, tilt, list (heading of the pelvis, then its lean as the turned person would
            call it), extension, bend, twist, and with _r or _l: hip, add, rot, knee, ankle, elbow, sup. What
            is missing is zero; a missing ankle keeps the foot flat.
        shoulders: by side, torso-to-humerus rotations (T, 3, 3) of the right arm or the mirrored left.
        lift: (T,) m, height of the lowest point above the floor.
    """

    frames: int
    curves: dict[str, np.ndarray] = field(default_factory=dict)
    shoulders: dict[str, np.ndarray] = field(default_factory=dict)
    lift: np.ndarray | None = None

    @classmethod
    def from_coordinates(cls, coordinates: np.ndarray, skeleton: Skeleton) -> Tracks:
        """Curves of recorded coordinates (T, nc) in radians; wrists, toes and hind feet are left out."""
        q = np.asarray(coordinates, dtype=np.float64)

        def column(name: str) -> np.ndarray:
            return q[:, skeleton.coordinate_index(name)]

        first = skeleton.coordinate_index("pelvis_tilt")
        pelvis = euler_to_matrix(torch.from_numpy(q[:, first : first + 3].copy()), "zxy")
        lean = np.degrees(_continuous(pelvis, "yzx"))
        curves = dict(zip(("turn", "tilt", "list"), lean.T, strict=True))
        curves |= {name: np.degrees(column(coordinate)) for name, coordinate in _TRUNK.items()}
        shoulders = {}
        for side in ("r", "l"):
            for name, coordinate in _SIDES.items():
                curves[f"{name}_{side}"] = np.degrees(column(f"{coordinate}_{side}"))
            first = skeleton.coordinate_index(f"arm_flex_{side}")
            shoulders[side] = coordinates_to_matrix(q[:, first : first + 3].copy())
        return cls(len(q), curves, shoulders)

    def get(self, name: str) -> np.ndarray:
        """Curve (T,) by name; a missing ankle is the one that keeps the foot level, others are zero."""
        if name in self.curves:
            return self.curves[name]
        if name.startswith("ankle_"):
            side = name[-2:]
            return self.get("knee" + side) - self.get("hip" + side) - self.get("tilt")
        return np.zeros(self.frames)

    def mirrored(self) -> Tracks:
        """The same motion with left and right exchanged."""
        swap = {"_r": "_l", "_l": "_r"}
        curves = {}
        for name, curve in self.curves.items():
            name = name[:-2] + swap[name[-2:]] if name[-2:] in swap else name
            curves[name] = -curve if name in _ODD else curve
        shoulders = {("l" if side == "r" else "r"): value for side, value in self.shoulders.items()}
        return Tracks(self.frames, curves, shoulders, self.lift)

    def with_arms_of(self, other: Tracks) -> Tracks:
        """This motion with the arms of another."""
        arms = {n: c for n, c in other.curves.items() if n[:-2] in ("elbow", "sup")}
        rest = {n: c for n, c in self.curves.items() if n[:-2] not in ("elbow", "sup")}
        return Tracks(self.frames, {**rest, **arms}, dict(other.shoulders), self.lift)

    def coordinates(self, skeleton: Skeleton) -> np.ndarray:
        """Coordinates (T, nc) in radians; within the ranges but for free joints; pelvis at the origin."""
        q = np.zeros((self.frames, len(skeleton.coordinate_names)))
        turned = np.radians(np.stack([self.get(name) for name in ("turn", "tilt", "list")], -1))
        pelvis = euler_to_matrix(torch.from_numpy(turned), "yzx")
        first = skeleton.coordinate_index("pelvis_tilt")
        q[:, first : first + 3] = _continuous(pelvis, "zxy")
        for name, coordinate in _TRUNK.items():
            i = skeleton.coordinate_index(coordinate)
            q[:, i] = np.clip(np.radians(self.get(name)), *skeleton.coordinate_ranges[i])
        for side in ("r", "l"):
            for name, coordinate in _SIDES.items():
                i = skeleton.coordinate_index(f"{coordinate}_{side}")
                q[:, i] = np.clip(np.radians(self.get(f"{name}_{side}")), *skeleton.coordinate_ranges[i])
            shoulders = self.shoulders.get(side)
            if shoulders is None:
                shoulders = shoulder_matrix(np.tile([8.0, 0.0, 0.0], (self.frames, 1)))
            first = skeleton.coordinate_index(f"arm_flex_{side}")
            q[:, first : first + 3] = shoulder_coordinates(shoulders)
        for side in ("r", "l"):
            knee = q[:, skeleton.coordinate_index(f"knee_angle_{side}")]
            q[:, skeleton.coordinate_index(f"knee_angle_{side}_beta")] = knee
        return q


def _continuous(matrices: torch.Tensor, sequence: str) -> np.ndarray:
    return matrix_to_angles_continuous(matrices, euler_axes(sequence, matrices.dtype)).numpy()
