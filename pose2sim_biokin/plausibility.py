"""What a motion gives away about itself, without any picture: feet that slide, sides that swap, jerk.

All positions are metres in the project's world (Z up), NaN where there is no pose; T frames at a steady rate.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# A sole this near to the floor may carry the person: skin gives, and shoes are thicker than bare feet.
CONTACT_HEIGHT_M = 0.03
# ... if it also moves no faster than this: in walking the swinging foot passes at 2 m/s and more, a standing
# one should not move at all; between them lies what a poor prediction makes of standing.
CONTACT_SPEED_M_S = 0.5
# Sides have swapped between two frames when the swapped pose fits the frame before this much better. A real
# swap leaves what a limb moves in a frame (centimetres) against the distance of the limbs; limbs that pass
# one another come to about 1.
FLIP_RATIO = 0.5
FACING_JUMP_DEG = 90.0  # nobody turns round by this much from one frame to the next
WALKING_M_S = 0.4  # faster than people shift their weight; who walks mostly faces where he goes


@dataclass(frozen=True)
class Feet:
    """How the feet stand.

    Attributes:
        floor_m: height of the floor in the world: that on which the soles stand most of the time.
        planted: (T, S) bool, the part of the sole is near the floor and slow.
        sliding_m_s: (T, S) horizontal speed of planted parts, NaN of others.
        penetration_m: (T,) how far the lowest part lies below the floor in frames in which one is planted;
            NaN in others.
    """

    floor_m: float
    planted: np.ndarray
    sliding_m_s: np.ndarray
    penetration_m: np.ndarray


def standing(soles: np.ndarray, fps: float, floor_m: float | None = None) -> Feet:
    """Foot sliding and floor penetration.

    Args:
        soles: (T, S, 3) points under heels and forefeet.
        fps: frames a second.
        floor_m: height of the floor where it is known; else it is the median height of the lowest point over
            the frames in which that point is slow (over all frames if there are none).
    """
    velocity = derivative(soles, fps)
    speed = np.linalg.norm(velocity, axis=-1)
    height = soles[..., 2]
    posed = np.isfinite(height).all(axis=1)
    lowest = np.full(len(soles), np.nan)
    lowest[posed] = height[posed].min(axis=1)
    if floor_m is None:
        at = np.nan_to_num(height, nan=np.inf).argmin(axis=1)
        slow = posed & (speed[np.arange(len(soles)), at] < CONTACT_SPEED_M_S)
        chosen = lowest[slow] if slow.any() else lowest[posed]
        floor_m = float(np.median(chosen)) if len(chosen) else float("nan")
    planted = (height < floor_m + CONTACT_HEIGHT_M) & (speed < CONTACT_SPEED_M_S)
    sliding = np.where(planted, np.linalg.norm(velocity[..., :2], axis=-1), np.nan)
    below = np.where(planted.any(axis=1), np.maximum(floor_m - lowest, 0.0), np.nan)
    return Feet(floor_m, planted, sliding, below)


def side_flips(points: np.ndarray, pairs: list[list[tuple[int, int]]]) -> np.ndarray:
    """(T,) bool: since the frame before, left and right have swapped in one of the groups.

    Args:
        points: (T, P, 3).
        pairs: groups (the legs, the arms) of right and left points that would swap together.
    """
    flips = np.zeros(len(points), bool)
    for group in pairs:
        if not group:
            continue
        right, left = (list(side) for side in zip(*group, strict=True))
        now, before = points[1:], points[:-1]

        def moved(a: list[int], b: list[int], now=now, before=before) -> np.ndarray:
            return np.linalg.norm(now[:, a] - before[:, b], axis=-1).mean(axis=1)

        same = moved(right + left, right + left)
        swapped = moved(right + left, left + right)
        flips[1:] |= swapped < FLIP_RATIO * same  # False where either is NaN
    return flips


def facing(right_hip: np.ndarray, left_hip: np.ndarray) -> np.ndarray:
    """(T,) horizontal direction of the front, radians from world X towards Y, of hip joint centres (T, 3)."""
    right = right_hip - left_hip
    return np.arctan2(right[:, 0], -right[:, 1])  # up x right


def facing_jumps(heading: np.ndarray) -> np.ndarray:
    """(T,) bool: the heading (T,), radians, has turned by over FACING_JUMP_DEG since the frame before."""
    jumps = np.zeros(len(heading), bool)
    turn = np.angle(np.exp(1j * np.diff(heading)))
    jumps[1:] = np.abs(turn) > np.deg2rad(FACING_JUMP_DEG)
    return jumps


def backwards_share(pelvis: np.ndarray, heading: np.ndarray, fps: float) -> float:
    """Share of the walking frames (pelvis (T, 3) faster than WALKING_M_S over 0.2 s) that go backwards.

    NaN if nobody walks. Near 1: somebody walks backwards, or the prediction is back to front.
    """
    half = max(1, round(0.1 * fps))
    if len(pelvis) <= 2 * half:
        return float("nan")
    velocity = (pelvis[2 * half :, :2] - pelvis[: -2 * half, :2]) * fps / (2 * half)
    forward = velocity[:, 0] * np.cos(heading[half:-half]) + velocity[:, 1] * np.sin(heading[half:-half])
    walking = np.linalg.norm(velocity, axis=1) > WALKING_M_S
    walking &= np.isfinite(forward)
    return float((forward[walking] < 0).mean()) if walking.any() else float("nan")


def jerk(points: np.ndarray, fps: float) -> np.ndarray:
    """(T,) size of the third derivative of points (T, P, 3) over time, m/s^3, mean over the points.

    Finite differences over four frames, given to the second of them; NaN at the ends and beside gaps. Jitter
    makes it grow with the cube of the frame rate: compare results of one rate.
    """
    size = np.full(len(points), np.nan)
    if len(points) > 3:
        third = np.diff(points, n=3, axis=0) * fps**3
        size[1:-2] = np.linalg.norm(third, axis=-1).mean(axis=-1)
    return size


def derivative(values: np.ndarray, fps: float) -> np.ndarray:
    """Central differences of (T, ...), a second; one-sided at the ends and beside gaps, else NaN."""
    step = np.full_like(values, np.nan)
    if len(values) > 1:
        step[:-1] = np.diff(values, axis=0) * fps
    after, before = step, np.roll(step, 1, axis=0)
    both = (after + before) / 2
    return np.where(np.isfinite(both), both, np.where(np.isfinite(after), after, before))
