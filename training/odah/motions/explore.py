"""Smooth random motion that covers the whole range of every coordinate."""

from __future__ import annotations

import numpy as np

from odah.motions.arms import random_shoulders, shoulder_matrix
from odah.motions.splines import key_times, rotations_through, through
from odah.motions.tracks import Tracks

# Extremes in degrees: the skeleton's ranges where joints have them, what people do for pelvis and trunk.
_MIDDLE = {
    "tilt": (-75, 35),
    "list": (-35, 35),
    "extension": (-65, 35),
    "bend": (-45, 45),
    "twist": (-60, 60),
}
_LEG = {"add": (-50, 30), "rot": (-40, 40), "knee": (0, 120), "ankle": (-40, 30)}


def explore(rng: np.random.Generator, frames: int, fps: float) -> Tracks:
    """Random keys every 0.5 to 1.5 s; hip, knee and ankle of a leg bend together more often than not."""
    duration, t = frames / fps, np.arange(frames) / fps
    amplitude = rng.beta(2.0, 1.3)
    times = key_times(rng, duration, 0.5, 1.5)
    n = len(times)
    curves = {name: through(times, _draw(rng, *ends, n, amplitude), t) for name, ends in _MIDDLE.items()}
    shoulders = {}
    for side in ("r", "l"):
        times = key_times(rng, duration, 0.45, 1.3)
        n = len(times)
        for name, ends in _LEG.items():
            curves[f"{name}_{side}"] = through(times, _draw(rng, *ends, n, amplitude), t)
        loose = rng.normal(0, 25, n) * amplitude + rng.uniform(-30, 60) * amplitude
        coupled = rng.uniform(0.5, 1.0) * curves[f"knee_{side}"]
        hip = coupled + through(times, loose, t) - 0.5 * curves["tilt"]
        curves[f"hip_{side}"] = np.clip(hip, -30, 120)
        if rng.random() < 0.5:
            del curves[f"ankle_{side}"]  # a flat foot
        shoulders[side] = explore_shoulder(rng, duration, t, rng.beta(2.5, 1.2))
        curves |= explore_forearm(rng, side, duration, t)
    return Tracks(frames, curves, shoulders)


def explore_shoulder(
    rng: np.random.Generator, duration: float, t: np.ndarray, amplitude: float
) -> np.ndarray:
    """Rotations (T, 3, 3) of an upper arm that wanders through what a shoulder can reach."""
    times = key_times(rng, duration, 0.5, 1.3)
    return rotations_through(times, shoulder_matrix(random_shoulders(rng, len(times), amplitude)), t)


def explore_forearm(rng: np.random.Generator, side: str, duration: float, t: np.ndarray) -> dict:
    """Elbow and forearm curves (T,) over their whole range."""
    times = key_times(rng, duration, 0.45, 1.3)
    low = rng.random() < 0.3  # arms are often almost straight
    elbow = rng.uniform(0, 40, len(times)) if low else rng.uniform(0, 148, len(times))
    sup = rng.uniform(0, 90, len(times))
    return {f"elbow_{side}": through(times, elbow, t), f"sup_{side}": through(times, sup, t)}


def _draw(rng: np.random.Generator, low: float, high: float, count: int, amplitude: float) -> np.ndarray:
    """Values between ``amplitude * low`` and ``amplitude * high``."""
    return amplitude * rng.uniform(low, high, count)
