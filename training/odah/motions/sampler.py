"""One random motion of a split: recorded, acted or explored, with the arms and the side of chance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from odah.motions.actions import ACTIONS, Action, perform
from odah.motions.clips import FPS, Recording, window
from odah.motions.everyday import ALL_ACTIONS
from odah.motions.explore import explore, explore_forearm, explore_shoulder
from odah.motions.gait import gait
from odah.motions.limbs import limb_penetration
from odah.motions.tracks import Tracks
from pose2sim_biokin.skeleton.kinematics import ForwardKinematics

# Actions that no training motion is made of.
HELD_OUT_ACTIONS = ("throw", "lunge", "overhead", "side_step")
SHARES = {"recorded": 0.35, "action": 0.30, "gait": 0.10, "explore": 0.25}
# Arms deeper than this in the trunk or the thighs are drawn again.
_PENETRATION_M = 0.03


@dataclass(frozen=True)
class MotionClip:
    """Coordinates (T, nc) in rad and m with the pelvis at the origin, and what they were made of.

    Attributes:
        lift: (T,) m, height of the lowest point above the floor.
        name: recording or action; kind: a key of SHARES.
    """

    coordinates: np.ndarray
    lift: np.ndarray
    name: str
    kind: str


def sample_motion(
    rng: np.random.Generator,
    split: str,
    recordings: list[Recording],
    frames: int,
    fk: ForwardKinematics,
    fps: float = FPS,
    shares: dict[str, float] | None = None,
    everyday: bool = False,
) -> MotionClip:
    """A random motion for a split.

    Args:
        split: "train", "val" or "test": the last two also perform actions that training never does.
        recordings: the split's own recordings; without any, actions take their share.
        fk: kinematics of the skeleton.
        shares: of kinds of motion, in place of those of SHARES.
        everyday: also act what `everyday.py` has, and let no limb pass through the other side's. Without it
            a seed draws what it drew for the crops that the shipped network was trained on.
    """
    kinds = [k for k in SHARES if recordings or k != "recorded"]
    shares = np.array([(SHARES | (shares or {}))[k] for k in kinds])
    kind = str(rng.choice(kinds, p=shares / shares.sum()))
    actions = ALL_ACTIONS if everyday else ACTIONS
    name, tracks = _draw(kind, rng, split, recordings, frames, fps, actions)
    if everyday and kind != "recorded":
        tracks = _apart(name, tracks, rng, frames, fk, fps)
    keep = 0.6 if kind in ("recorded", "gait") else 0.8
    own_arms = rng.random() < keep
    heading = rng.uniform(-180, 180)
    mirror = rng.random() < 0.5
    best: tuple[float, np.ndarray] | None = None
    for attempt in range(5):
        candidate = tracks if own_arms and attempt == 0 else tracks.with_arms_of(_arms(rng, frames, fps))
        candidate = candidate.mirrored() if mirror else candidate
        candidate.curves["turn"] = candidate.get("turn") + heading
        q = candidate.coordinates(fk.skeleton)
        depth = max(penetration(q, fk), limb_penetration(q, fk)) if everyday else penetration(q, fk)
        if best is None or depth < best[0]:
            best = (depth, q)
        if depth < _PENETRATION_M:
            break
    lift = np.zeros(frames) if tracks.lift is None else tracks.lift
    return MotionClip(best[1], lift, name, kind)


def _apart(
    name: str, tracks: Tracks, rng: np.random.Generator, frames: int, fk: ForwardKinematics, fps: float
) -> Tracks:
    """The motion, or the best of a few more of its name if its legs pass through each other."""
    best = (_legs_depth(tracks, fk), tracks)
    for _ in range(4):
        if best[0] < _PENETRATION_M:
            break
        if name in ALL_ACTIONS:
            tracks = perform(name, rng, frames, fps, ALL_ACTIONS)
        else:
            tracks = gait(rng, frames, fps) if name == "gait" else explore(rng, frames, fps)
        best = min(best, (_legs_depth(tracks, fk), tracks), key=lambda pair: pair[0])
    return best[1]


def _legs_depth(tracks: Tracks, fk: ForwardKinematics) -> float:
    """Depth of the legs alone: the arms are drawn again by themselves."""
    still = Tracks(tracks.frames, {"elbow_r": np.zeros(tracks.frames), "elbow_l": np.zeros(tracks.frames)})
    return limb_penetration(tracks.with_arms_of(still).coordinates(fk.skeleton), fk)


def _draw(
    kind: str,
    rng: np.random.Generator,
    split: str,
    recordings: list[Recording],
    frames: int,
    fps: float,
    actions: Mapping[str, Action],
) -> tuple[str, Tracks]:
    if kind == "recorded":
        weights = np.sqrt([r.tracks.frames for r in recordings])  # short ones are rare movements
        recording = recordings[rng.choice(len(recordings), p=weights / weights.sum())]
        step = FPS / fps * rng.uniform(0.8, 1.25)
        start = rng.uniform(0, max(1.0, recording.tracks.frames - frames * step))
        return recording.name, window(recording, start, frames, step)
    if kind == "action":
        names = [n for n in actions if split != "train" or n not in HELD_OUT_ACTIONS]
        name = str(rng.choice(names))
        return name, perform(name, rng, frames, fps, actions)
    if kind == "gait":
        return "gait", gait(rng, frames, fps)
    return "explore", explore(rng, frames, fps)


def _arms(rng: np.random.Generator, frames: int, fps: float) -> Tracks:
    duration, t = frames / fps, np.arange(frames) / fps
    tracks = Tracks(frames)
    for side in ("r", "l"):
        tracks.shoulders[side] = explore_shoulder(rng, duration, t, rng.beta(1.5, 1.5))
        tracks.curves |= explore_forearm(rng, side, duration, t)
    return tracks


def penetration(coordinates: np.ndarray, fk: ForwardKinematics) -> float:
    """How deep elbows, wrists and hands reach into trunk, head or thighs, as capsules; m, 95th percentile.

    Measured on the unscaled skeleton: a test of plausibility, not of a body's skin.
    """
    with torch.no_grad():
        q = torch.as_tensor(coordinates[::4], dtype=fk.dtype)
        frames = fk(q)
        centers, masses = fk.joint_centers(frames).numpy(), fk.mass_centers(frames).numpy()
        markers = fk.markers(frames).numpy()
    body, marker = fk.skeleton.body_index, fk.skeleton.marker_index
    neck = 0.5 * (markers[:, marker("C7")] + markers[:, marker("CLAV")])
    head = neck + 0.9 * (neck - masses[:, body("torso")])
    deepest = np.zeros(len(q))
    for side in ("r", "l"):
        wrist, hand = centers[:, body(f"hand_{side}")], masses[:, body(f"hand_{side}")]
        points = [(centers[:, body(f"ulna_{side}")], 0.04), (wrist, 0.03), (2 * hand - wrist, 0.02)]
        for point, radius in points:
            capsules = [(centers[:, body("torso")], neck, 0.11), (neck, head, 0.08)]
            capsules += [(centers[:, body(f"femur_{s}")], centers[:, body(f"tibia_{s}")], 0.07) for s in "rl"]
            for a, b, thickness in capsules:
                deepest = np.maximum(deepest, radius + thickness - _distance(point, a, b))
    return float(np.percentile(deepest, 95))


def _distance(p: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Distance (T,) of points (T, 3) from segments a-b (T, 3)."""
    ab = b - a
    s = np.clip(((p - a) * ab).sum(-1) / (ab * ab).sum(-1), 0, 1)
    return np.linalg.norm(p - a - s[:, None] * ab, axis=-1)
