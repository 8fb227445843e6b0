"""Smooth curves through key values: every motion here is made of them."""

from __future__ import annotations

import numpy as np
from scipy.interpolate import CubicSpline
from scipy.spatial.transform import Rotation, RotationSpline


def ease(times: np.ndarray, values: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Minimum-jerk moves (Flash and Hogan 1985) from key to key: values (n, ...) at times (n,).

    Read at t (T,). Velocity and acceleration are zero at the keys; outside them the value stays.
    """
    i = np.clip(np.searchsorted(times, t, side="right") - 1, 0, len(times) - 2)
    s = np.clip((t - times[i]) / (times[i + 1] - times[i]), 0.0, 1.0)
    s = s**3 * (10 - 15 * s + 6 * s * s)
    s = s.reshape(-1, *[1] * (values.ndim - 1))
    return values[i] + s * (values[i + 1] - values[i])


def cycle(phases: np.ndarray, values: np.ndarray, phase: np.ndarray) -> np.ndarray:
    """Periodic cubic spline through values (n,) at phases (n,) in 0..1, read at any phase (T,)."""
    return CubicSpline(np.append(phases, phases[0] + 1.0), np.append(values, values[0]), bc_type="periodic")(
        (phase - phases[0]) % 1.0 + phases[0]
    )


def through(times: np.ndarray, values: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Natural cubic spline through values (n, ...) at times (n,), read at t (T,)."""
    return CubicSpline(times, values, bc_type="natural")(t)


def rotations_through(times: np.ndarray, matrices: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Rotations (T, 3, 3) that pass through matrices (n, 3, 3) with continuous angular acceleration."""
    return RotationSpline(times, Rotation.from_matrix(matrices))(t).as_matrix()


def key_times(rng: np.random.Generator, duration: float, low: float, high: float) -> np.ndarray:
    """Times of keys, low..high seconds apart, from before 0 to after ``duration``."""
    times = [-rng.uniform(0.0, low)]
    while times[-1] < duration or len(times) < 3:
        times.append(times[-1] + rng.uniform(low, high))
    return np.array(times)
