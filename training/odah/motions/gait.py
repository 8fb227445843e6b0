"""Walking and running as cycles of joint angles, with random stride, cadence, posture and arm swing."""

from __future__ import annotations

import numpy as np

from odah.motions.arms import shoulder_matrix
from odah.motions.splines import cycle
from odah.motions.tracks import Tracks

# Degrees over the gait cycle from heel strike (phase 0), rounded from normative curves (Winter 2009).
_WALK = {
    "hip": ([0.0, 0.12, 0.3, 0.5, 0.6, 0.72, 0.87], [30, 24, 6, -12, -6, 16, 32]),
    "knee": ([0.0, 0.13, 0.35, 0.5, 0.62, 0.73, 0.87, 0.96], [4, 18, 6, 14, 42, 62, 28, 3]),
    "ankle": ([0.0, 0.08, 0.3, 0.46, 0.62, 0.75, 0.9], [0, -6, 7, 12, -18, -2, 2]),
}
_RUN = {
    "hip": ([0.0, 0.15, 0.35, 0.5, 0.7, 0.88], [38, 28, -8, -12, 35, 52]),
    "knee": ([0.0, 0.15, 0.33, 0.5, 0.7, 0.88], [18, 42, 18, 65, 102, 42]),
    "ankle": ([0.0, 0.17, 0.35, 0.5, 0.75], [5, 24, -22, -8, 4]),
}


def gait(rng: np.random.Generator, frames: int, fps: float) -> Tracks:
    """A walk or a run that starts anywhere in the cycle; the floor carries it forward, see `floor.py`."""
    run = rng.random() < 0.35
    table = _RUN if run else _WALK
    cadence = rng.uniform(1.2, 1.6) if run else rng.uniform(0.6, 1.1)  # cycles a second
    stride = rng.uniform(0.6, 1.3)
    knee_lift = rng.uniform(0.8, 1.6)
    phase = np.arange(frames) / fps * cadence + rng.random()
    wave = 2 * np.pi * phase
    curves: dict[str, np.ndarray] = {}
    for side, shift in (("r", 0.0), ("l", 0.5)):
        gains = {"hip": stride, "knee": knee_lift if stride > 0.8 else stride, "ankle": stride}
        for name, (phases, values) in table.items():
            noisy = np.array(values) * gains[name] + rng.normal(0, 2.0, len(values))
            curves[f"{name}_{side}"] = cycle(np.array(phases), noisy, phase + shift)
        curves[f"hip_{side}"] = curves[f"hip_{side}"] + rng.uniform(-3, 6)
        sign = 1 if side == "r" else -1
        curves[f"add_{side}"] = rng.uniform(-6, 2) + sign * 4 * np.cos(wave)
        curves[f"rot_{side}"] = rng.uniform(-12, 8) + sign * 4 * np.sin(wave)
    lean = rng.uniform(-18, -4) if run else rng.uniform(-8, 2)
    curves["tilt"] = lean + 1.5 * np.sin(2 * wave)
    curves["list"] = rng.uniform(2, 6) * np.sin(wave)
    curves["turn"] = rng.uniform(2, 8) * np.cos(wave) + rng.uniform(-25, 25) * np.arange(frames) / fps
    curves["extension"] = rng.uniform(-12, 4) - 0.5 * lean * rng.random() + 2 * np.cos(2 * wave)
    curves["bend"] = rng.uniform(-3, 3) + rng.uniform(2, 6) * np.sin(wave)
    curves["twist"] = rng.uniform(-4, 4) - rng.uniform(4, 12) * np.cos(wave)
    shoulders = {}
    swing, bent = rng.uniform(5, 45), rng.uniform(60, 110) if run else rng.uniform(5, 45)
    out = rng.uniform(5, 25)
    for side, sign in (("r", -1), ("l", 1)):
        # the swing as a rotation about the right-left axis of an arm held slightly out
        forward = sign * swing * np.cos(wave) + rng.uniform(-8, 12)
        plane = np.degrees(np.arctan2(np.sin(np.radians(forward)), np.tan(np.radians(out))))
        elevation = np.degrees(
            np.arccos(np.clip(np.cos(np.radians(forward)) * np.cos(np.radians(out)), -1, 1))
        )
        axial = np.full(frames, rng.uniform(0, 40))
        shoulders[side] = shoulder_matrix(np.stack([elevation, plane, axial], -1))
        curves[f"elbow_{side}"] = bent + rng.uniform(2, 20) * sign * np.cos(wave)
        curves[f"sup_{side}"] = np.full(frames, rng.uniform(30, 85))
    return Tracks(frames, curves, shoulders)
