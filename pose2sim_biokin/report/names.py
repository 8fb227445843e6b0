"""What coordinates and joints are called for people who read, and in which order they come."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

SIDES = {"r": "right", "l": "left", "": ""}

# Group -> beginnings of the coordinates' names that belong to it; the first that fits counts.
_GROUPS = {
    "Pelvis": ("pelvis_",),
    "Trunk": ("lumbar_", "L5_S1_", "L1_", "L2_", "L3_", "L4_", "T12_", "torso_", "neck_", "head_"),
    "Hip": ("hip_",),
    "Knee": ("knee_",),
    "Ankle and foot": ("ankle_", "subtalar_", "mtp_"),
    "Shoulder": ("arm_", "shoulder_", "clav_", "scapula_"),
    "Elbow and forearm": ("elbow_", "pro_sup"),
    "Wrist": ("wrist_",),
}
OTHER = "Other coordinates"

_TITLES = {
    "pelvis_tx": "Pelvis forward (X)",
    "pelvis_ty": "Pelvis up (Y)",
    "pelvis_tz": "Pelvis right (Z)",
    "knee_angle": "Knee flexion",
    "ankle_angle": "Ankle dorsiflexion",
    "subtalar_angle": "Subtalar inversion",
    "mtp_angle": "Toe extension",
    "arm_flex": "Shoulder flexion",
    "arm_add": "Shoulder adduction",
    "arm_rot": "Shoulder rotation",
    "elbow_flex": "Elbow flexion",
    "pro_sup": "Forearm pronation",
    "wrist_flex": "Wrist flexion",
    "wrist_dev": "Wrist deviation",
}


def side(name: str) -> str:
    """ "r", "l" or "" for a coordinate, body or segment name."""
    parts = name.split("_")
    return next((part for part in parts[:0:-1] if part in ("r", "l")), "")


def stem(name: str) -> str:
    """The name without its side: what right and left have in common."""
    parts = name.split("_")
    for i in range(len(parts) - 1, 0, -1):
        if parts[i] in ("r", "l"):
            return "_".join(parts[:i] + parts[i + 1 :])
    return name


def title(name: str) -> str:
    """A coordinate for people: ``hip_flexion_r`` is "Hip flexion", without the side."""
    base = stem(name)
    if base in _TITLES:
        return _TITLES[base]
    words = base.replace("_", " ")
    return words[:1].upper() + words[1:]


def full_title(name: str) -> str:
    """ "Hip flexion, right"."""
    where = SIDES[side(name)]
    return f"{title(name)}, {where}" if where else title(name)


@dataclass(frozen=True)
class Pair:
    """A coordinate's right and left, or a coordinate without a side.

    Attributes:
        title: for people, without the side.
        names: side ("r", "l", "") -> name of the coordinate.
    """

    title: str
    names: dict[str, str]


def grouped(names: Iterable[str]) -> dict[str, list[Pair]]:
    """Coordinates by joint, right and left together, in the order of `_GROUPS` and then of the names."""
    groups: dict[str, dict[str, dict[str, str]]] = {group: {} for group in (*_GROUPS, OTHER)}
    for name in names:
        group = next((g for g, starts in _GROUPS.items() if name.startswith(starts)), OTHER)
        groups[group].setdefault(stem(name), {})[side(name)] = name
    order = {"r": 0, "l": 1, "": 2}
    return {
        group: [
            Pair(title(base), dict(sorted(sides.items(), key=lambda item: order[item[0]])))
            for base, sides in pairs.items()
        ]
        for group, pairs in groups.items()
        if pairs
    }
