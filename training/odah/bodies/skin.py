"""From a graphics rig's skinning weights to the skeleton's bodies."""

from __future__ import annotations

import numpy as np

# First match wins; `{s}` is the side, "r" or "l". Spine bones are split between pelvis and torso so that a
# lumbar bend spreads over the waist.
BONE_TO_BODY = (
    ("root", {"pelvis": 1.0}),
    ("pelvis", {"pelvis": 1.0}),
    ("spine05", {"pelvis": 0.85, "torso": 0.15}),
    ("spine04", {"pelvis": 0.5, "torso": 0.5}),
    ("spine03", {"pelvis": 0.12, "torso": 0.88}),
    ("upperleg", {"femur_{s}": 1.0}),
    ("lowerleg", {"tibia_{s}": 1.0}),
    ("foot", {"calcn_{s}": 1.0}),
    ("toe", {"toes_{s}": 1.0}),
    ("upperarm", {"humerus_{s}": 1.0}),
    ("lowerarm", {"ulna_{s}": 1.0}),
    ("wrist", {"hand_{s}": 1.0}),
    ("finger", {"hand_{s}": 1.0}),
    ("metacarpal", {"hand_{s}": 1.0}),
    ("", {"torso": 1.0}),
)


def body_matrix(bone_names: list[str], body_names: tuple[str, ...]) -> np.ndarray:
    """(bones, bodies) matrix that sums bone weights into body weights; rows sum to one."""
    matrix = np.zeros((len(bone_names), len(body_names)), dtype=np.float32)
    for row, bone in enumerate(bone_names):
        side = bone[-1].lower()
        share = next(share for prefix, share in BONE_TO_BODY if bone.startswith(prefix))
        for body, weight in share.items():
            matrix[row, body_names.index(body.format(s=side))] = weight
    return matrix


def forearm_twist(weights: np.ndarray, along: np.ndarray, ulna: int, radius: int) -> np.ndarray:
    """Split a forearm's weight between ulna (at the elbow) and radius (at the wrist).

    weights (V,22); along (V,) position on the forearm's axis, 0 at the elbow, 1 at the wrist.
    """
    out = weights.copy()
    ramp = np.clip((along - 0.08) / 0.84, 0.0, 1.0)
    out[:, radius] = weights[:, ulna] * ramp
    out[:, ulna] = weights[:, ulna] * (1.0 - ramp)
    return out
