"""What OpenSim's ScaleTool measures between markers, and joint centres that marker sets leave out.

A measurement compares distances between pairs of markers of a static trial with the same distances in the
model (in its default pose), and scales bodies along axes by the mean ratio. Left and right are measured
together, so that a person comes out symmetric. The first alternative of which the trial has a pair is used.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from pose2sim_biokin.errors import BiokinError

Pair = tuple[str, str]


@dataclass(frozen=True)
class Measurement:
    """Marker pairs, in alternatives, and the bodies and axes ("XYZ") that their mean ratio scales."""

    name: str
    bodies: tuple[str, ...]
    axes: str
    alternatives: tuple[tuple[Pair, ...], ...]

    def pairs(self, names: Iterable[str]) -> tuple[Pair, ...]:
        """Pairs of the first alternative of which these markers have one; none when there is none."""
        have = set(names)
        for alternative in self.alternatives:
            found = tuple(pair for pair in alternative if have.issuperset(pair))
            if found:
                return found
        return ()


def _both(*pairs: Pair) -> tuple[Pair, ...]:
    """Pairs of the right side's markers without their R, for both sides."""
    return tuple((side + a, side + b) for side in "RL" for a, b in pairs)


def _sides(*bodies: str) -> tuple[str, ...]:
    return tuple(f"{body}_{side}" for body in bodies for side in "rl")


_THIGH = _both(("HJC", "KJC"))
_SHANK = _both(("KJC", "AJC"))
_UPPER_ARM = _both(("SJC", "EJC"))
_FOREARM = _both(("EJC", "FAradius"), ("EJC", "FAulna"))
_WRIST = _both(("FAradius", "FAulna"))
# back of the third metacarpal's head, which a mesh shows
_HAND = _both(("FAradius", "MC3"), ("FAulna", "MC3"))
# LUMBAR is the joint of pelvis and trunk, which a mesh shows; then both can be measured apart.
_LUMBAR_HIPS = (("LUMBAR", "RHJC"), ("LUMBAR", "LHJC"))
_SPINE = (("LUMBAR", "C7"), ("LUMBAR", "CLAV"))
_TRUNK = (*_both(("SJC", "HJC")), ("C7", "RHJC"), ("C7", "LHJC"))
# Segments without markers grow with the legs.
_LEGS = (*_THIGH, *_SHANK)

MEASUREMENTS = (
    Measurement("pelvis width", ("pelvis",), "Z", ((("RASI", "LASI"), ("RHJC", "LHJC")),)),
    Measurement("pelvis depth", ("pelvis",), "X", (_both(("ASI", "PSI")),)),
    Measurement(
        "pelvis height", ("pelvis",), "Y", ((("LUMBAR", "RHJC"), ("LUMBAR", "LHJC")), _both(("ASI", "HJC")))
    ),
    Measurement("thigh", _sides("femur", "patella"), "Y", (_THIGH,)),
    Measurement("knee", _sides("femur", "patella"), "XZ", (_both(("LFC", "MFC")), _THIGH)),
    Measurement("shank", _sides("tibia"), "Y", (_SHANK,)),
    Measurement("ankle", _sides("tibia"), "XZ", (_both(("LMAL", "MMAL")), _SHANK)),
    Measurement(
        "foot", _sides("talus", "calcn", "toes"), "XYZ", (_both(("CAL", "TOE"), ("CAL", "MT5")), _SHANK)
    ),
    Measurement("trunk", ("torso",), "Y", (_SPINE, _TRUNK, _LEGS)),
    Measurement("shoulders", ("torso",), "Z", ((("RACR", "LACR"),), _LEGS)),
    Measurement("chest", ("torso",), "X", ((("C7", "CLAV"),), _TRUNK, _LEGS)),
    Measurement("upper arm", _sides("humerus"), "Y", (_UPPER_ARM, _LEGS)),
    Measurement("elbow", _sides("humerus"), "XZ", (_both(("LEL", "MEL")), _UPPER_ARM, _LEGS)),
    Measurement("forearm", _sides("ulna", "radius"), "Y", (_FOREARM, _LEGS)),
    Measurement("wrist", _sides("ulna", "radius"), "XZ", (_WRIST, _FOREARM, _LEGS)),
    Measurement("hand", _sides("hand"), "XYZ", (_HAND, _FOREARM, _LEGS)),
)


def with_joint_centers(names: tuple[str, ...], points: np.ndarray) -> tuple[tuple[str, ...], np.ndarray]:
    """A static trial with the joint centres that it lacks, where its markers allow.

    Hips by the regression of Harrington et al. 2007 (J Biomech 40:595-602) from the pelvis markers; knees,
    ankles and elbows as the middle of their two markers, or of the one there is; shoulders 17 % of the
    distance between the acromion markers below them (Rab et al. 2002, J Orthop Res 20:1150-1156).

    Args:
        names: n markers. points: (T, n, 3) m, ground axes, the person upright.
    """
    have = {name: points[:, i] for i, name in enumerate(names)}
    found: dict[str, np.ndarray] = {}
    if {"RASI", "LASI", "RPSI", "LPSI"} <= have.keys():
        found |= _harrington(*(have[n] for n in ("RASI", "LASI", "RPSI", "LPSI")))
    for side in "RL":
        for joint, sources in {"K": ("LFC", "MFC"), "A": ("LMAL", "MMAL"), "E": ("LEL", "MEL")}.items():
            seen = [have[side + s] for s in sources if side + s in have]
            if seen:
                found[f"{side}{joint}JC"] = np.mean(seen, axis=0)
        if {"RACR", "LACR"} <= have.keys():
            width = np.linalg.norm(have["RACR"] - have["LACR"], axis=-1, keepdims=True)
            found[f"{side}SJC"] = have[f"{side}ACR"] - 0.17 * width * np.array([0.0, 1.0, 0.0])
    new = {name: p for name, p in found.items() if name not in have}
    if not new:
        return tuple(names), points
    return (*names, *new), np.concatenate([points, np.stack(list(new.values()), axis=1)], axis=1)


def _harrington(
    rasi: np.ndarray, lasi: np.ndarray, rpsi: np.ndarray, lpsi: np.ndarray
) -> dict[str, np.ndarray]:
    """Hip joint centres (T, 3); each argument (T, 3) m."""
    middle, back = (rasi + lasi) / 2, (rpsi + lpsi) / 2
    right = _unit(rasi - lasi)
    up = _unit(np.cross(right, middle - back))
    forward = np.cross(up, right)
    width = np.linalg.norm(rasi - lasi, axis=-1, keepdims=True)
    depth = np.linalg.norm(middle - back, axis=-1, keepdims=True)
    x, y, z = -0.24 * depth - 0.0099, -0.30 * width - 0.0109, 0.33 * width + 0.0073
    return {f"{s}HJC": middle + x * forward + y * up + sign * z * right for s, sign in (("R", 1), ("L", -1))}


def _unit(v: np.ndarray) -> np.ndarray:
    return v / np.linalg.norm(v, axis=-1, keepdims=True)


def chosen_pairs(names: Iterable[str], source: str) -> dict[str, tuple[Pair, ...]]:
    """Pairs of each measurement that these markers allow.

    Raises:
        BiokinError: pelvis or legs cannot be measured; ``source`` is named.
    """
    names = tuple(names)
    chosen = {m.name: m.pairs(names) for m in MEASUREMENTS}
    missing = [name for name, pairs in chosen.items() if not pairs]
    if missing:
        needed = ", ".join(_NEEDED)
        raise BiokinError(
            f"{source}: its markers cannot measure {', '.join(missing)}; found {_listed(names)}. Expected at "
            f"least {needed} (or joint centres); give a name map from the trial's names to these."
        )
    return chosen


_NEEDED = ("RASI", "LASI", "RPSI", "LPSI", "RLFC", "LLFC", "RLMAL", "LLMAL")


def _listed(names: tuple[str, ...], most: int = 12) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
