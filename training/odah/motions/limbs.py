"""Limbs through each other: legs and feet, and both arms, as capsules on the unscaled skeleton.

`sampler.penetration` tests arms against trunk, head and thighs; this the two sides against each other.
"""

from __future__ import annotations

import numpy as np
import torch

from pose2sim_biokin.skeleton.kinematics import ForwardKinematics

# Radii of capsules along the limbs at their two ends, m: somewhat less than flesh, which gives way.
_LEG = (("thigh", 0.065, 0.05), ("shank", 0.05, 0.035), ("foot", 0.03, 0.03))
_ARM = (("upper", 0.04, 0.035), ("fore", 0.035, 0.025), ("hand", 0.02, 0.015))
_SAMPLES = np.linspace(0.0, 1.0, 7)


def limb_penetration(coordinates: np.ndarray, fk: ForwardKinematics) -> float:
    """How deep one leg reaches into the other, or one arm into the other; m, 95th percentile over time.

    Hands that touch and folded arms, which people do, count as up to 20 mm.

    Args:
        coordinates: (T, nc) rad and m.
    """
    with torch.no_grad():
        frames = fk(torch.as_tensor(coordinates[::4], dtype=fk.dtype))
        centers = fk.joint_centers(frames).numpy()
        masses = fk.mass_centers(frames).numpy()
        markers = fk.markers(frames).numpy()
    body, marker = fk.skeleton.body_index, fk.skeleton.marker_index
    legs, arms = [], []
    for side in "rl":
        names = ("femur", "tibia", "talus", "humerus", "ulna", "hand")
        joint = {name: centers[:, body(f"{name}_{side}")] for name in names}
        heel, toe = (markers[:, marker(f"{side.upper()}{n}")] for n in ("CAL", "TOE"))
        tip = 2 * masses[:, body(f"hand_{side}")] - joint["hand"]
        legs.append([(joint["femur"], joint["tibia"]), (joint["tibia"], joint["talus"]), (heel, toe)])
        arms.append([(joint["humerus"], joint["ulna"]), (joint["ulna"], joint["hand"]), (joint["hand"], tip)])
    deepest = np.maximum(_depth(*legs, _LEG), _depth(*arms, _ARM))
    return float(max(np.percentile(deepest, 95), 0.0))


def _depth(right: list, left: list, capsules: tuple) -> np.ndarray:
    """(T,) greatest depth of one chain of tapered capsules in the other."""
    (p, r), (q, s) = (_chain(side, capsules) for side in (right, left))
    distance = np.linalg.norm(p[:, :, None] - q[:, None], axis=-1)  # (T, n, n)
    return (r[:, None] + s - distance).max((1, 2))


def _chain(limb: list, capsules: tuple) -> tuple[np.ndarray, np.ndarray]:
    """Points (T, n, 3) along the capsules of a limb, and the radii (n,) there."""
    points = [start[:, None] + _SAMPLES[:, None] * (stop - start)[:, None] for start, stop in limb]
    radii = [first + _SAMPLES * (last - first) for _, first, last in capsules]
    return np.concatenate(points, axis=1), np.concatenate(radii)
