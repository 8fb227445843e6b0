"""Which two cameras: the angle between their viewing directions, and the choice of a pair."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pose2sim_biokin.vision.camera import Camera


def viewing_angle(first: Camera, second: Camera) -> float:
    """Angle between the horizontal viewing directions of two cameras, degrees, 0..180.

    A camera that looks nearly straight down or up counts with the direction of its picture's upright axis.
    """
    headings = []
    for camera in (first, second):
        direction = camera.view_direction
        if np.hypot(direction[0], direction[1]) < 0.1:
            direction = np.sign(direction[2]) * camera.R[1]
        headings.append(np.arctan2(direction[1], direction[0]))
    difference = np.degrees(headings[0] - headings[1])
    return float(abs((difference + 180) % 360 - 180))


def viewing_angle_warning(first: Camera, second: Camera) -> str | None:
    """What to tell the user about two cameras that see the person from nearly the same or from opposite
    sides.
    """
    angle = viewing_angle(first, second)
    if 30 <= angle <= 150:
        return None
    how = "nearly opposite" if angle > 150 else "nearly the same"
    return (
        f"cameras {first.name!r} and {second.name!r} look in {how} directions ({angle:.0f} degrees apart): "
        "depth is poorly determined. Pairs near 90 degrees work best; choose one with [biokin] views."
    )


def choose_views(
    cameras: Sequence[Camera], presence: np.ndarray | None = None, least: float = 0.5
) -> tuple[int, int]:
    """Indexes of the two cameras whose horizontal viewing directions are nearest to 90 degrees apart.

    Args:
        cameras: two or more.
        presence: (V, V) from :func:`pose2sim_biokin.vision.subject.pair_presence`; pairs that see the person
            in less than ``least`` times the best pair's share of frames are left out. None: all pairs count.
        least: see ``presence``.
    """
    pairs = [(i, j) for i in range(len(cameras)) for j in range(i + 1, len(cameras))]
    if not pairs:
        raise ValueError("two cameras are needed")
    if presence is not None:
        best = max(presence[pair] for pair in pairs)
        pairs = [pair for pair in pairs if presence[pair] >= least * best]
    return min(pairs, key=lambda pair: (round(abs(viewing_angle(*(cameras[i] for i in pair)) - 90), 3), pair))
