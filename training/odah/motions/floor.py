"""The floor under a motion: feet stand on it, and carry the pelvis over it."""

from __future__ import annotations

import numpy as np
import torch

from pose2sim_biokin.skeleton.kinematics import ForwardKinematics

_FOOT_MARKERS = ("RCAL", "RTOE", "RMT5", "LCAL", "LTOE", "LMT5")
# Sole below the foot's markers, and flesh around all other joint centres, m.
_SOLE_M = 0.025
_FLESH_M = 0.05
_FEET = ("calcn_r", "toes_r", "calcn_l", "toes_l")
# Feet within about this height of the lowest share the ground contact, m.
_CONTACT_M = 0.03


def stand_on_floor(
    coordinates: np.ndarray, lift: np.ndarray | None, fk: ForwardKinematics, scales: np.ndarray
) -> np.ndarray:
    """Pelvis translation that keeps the lowest point ``lift`` above the floor and standing feet still.

    Args:
        coordinates: (T, nc) rad and m; the pelvis translation is replaced.
        lift: (T,) m, or None for zero.
        scales: (nb, 3).

    Returns:
        coordinates (T, nc); ground height 0 is the floor; the mean horizontal position is the origin.
    """
    skeleton = fk.skeleton
    tx, ty, tz = (skeleton.coordinate_index(name) for name in ("pelvis_tx", "pelvis_ty", "pelvis_tz"))
    q = coordinates.copy()
    q[:, [tx, ty, tz]] = 0.0
    with torch.no_grad():
        s = torch.as_tensor(scales, dtype=fk.dtype)
        frames = fk(torch.as_tensor(q, dtype=fk.dtype), s)
        feet = fk.markers(frames, s)[:, [skeleton.marker_index(m) for m in _FOOT_MARKERS]].numpy()
        others = fk.joint_centers(frames, s).numpy()[:, [name not in _FEET for name in skeleton.body_names]]
    feet = feet.astype(np.float64)
    lowest = np.minimum(feet[..., 1].min(axis=1) - _SOLE_M, others[..., 1].min(axis=1) - _FLESH_M)
    q[:, ty] = -lowest + (0.0 if lift is None else lift)

    height = feet[..., 1] - lowest[:, None] + (0.0 if lift is None else lift[:, None])
    weight = np.exp(-height / _CONTACT_M) + 1e-9
    weight = 0.5 * (weight[1:] + weight[:-1])
    weight /= weight.sum(axis=1, keepdims=True)
    step = -(weight[..., None] * np.diff(feet, axis=0)).sum(axis=1)  # the standing foot stays
    for axis, i in ((0, tx), (2, tz)):
        path = np.concatenate([[0.0], np.cumsum(step[:, axis])])
        q[:, i] = path - path.mean()
    return q
