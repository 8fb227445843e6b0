"""Named actions: key poses with random amplitudes, timing and side, joined by minimum-jerk moves.

An action is a function of a random generator that returns its key poses, in degrees, as ``Key``s. Values
that a pose leaves out return to standing. Gait is a cycle, see `gait.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from scipy.spatial.transform import Rotation, Slerp

from odah.motions.arms import shoulder_matrix
from odah.motions.splines import ease
from odah.motions.tracks import Tracks


class Key(NamedTuple):
    """A pose in degrees, how long the move to it takes, and how long it is held (seconds)."""

    pose: dict[str, float]
    move: float
    hold: float = 0.0


Action = Callable[[np.random.Generator], list[Key]]


def _arm(side: str, elevation: float, plane: float, axial: float, elbow: float, sup: float = 60) -> dict:
    values = {"elevation": elevation, "plane": plane, "axial": axial, "elbow": elbow, "sup": sup}
    return {f"{name}_{side}": value for name, value in values.items()}


def _arms(elevation: float, plane: float, axial: float, elbow: float, sup: float = 60) -> dict:
    return _arm("r", elevation, plane, axial, elbow, sup) | _arm("l", elevation, plane, axial, elbow, sup)


def _legs(hip: float, knee: float, **more: float) -> dict:
    return {"hip_r": hip, "hip_l": hip, "knee_r": knee, "knee_l": knee, **more}


def stand(rng: np.random.Generator) -> list[Key]:
    pose = {"tilt": rng.uniform(-6, 4), "twist": rng.uniform(-10, 10), "extension": rng.uniform(-8, 4)}
    return [Key(pose, 0.8, 0.5), Key({}, 0.8, 0.4)]


def squat(rng: np.random.Generator) -> list[Key]:
    d = rng.uniform(0.35, 1.05)
    pose = _legs(105 * d, 108 * d, tilt=-28 * d, extension=-8 * d, add_r=-8 * d, add_l=-8 * d)
    arms = [_arms(85, 80, 20, 15), _arms(50, 90, 40, 130), _arms(12, 10, 0, 15), {}][rng.integers(4)]
    move = rng.uniform(0.5, 1.3)
    return [Key(pose | arms, move, rng.uniform(0, 0.4)), Key(arms, move, 0.2)]


def sit(rng: np.random.Generator) -> list[Key]:
    lean = rng.uniform(25, 48)
    down = _legs(88, 88, tilt=-8, extension=-8, add_r=-6, add_l=-6) | _arms(35, 80, 20, rng.uniform(40, 80))
    rise = _legs(95 + lean * 0.3, 95, tilt=-lean, extension=-12) | _arms(45, 80, 10, 50)
    arms = [_arms(30, 80, 60, 110), {}, _arms(40, 90, 20, 30)][rng.integers(3)]
    return [Key(rise | arms, 0.7), Key(down | arms, 0.6, 0.5), Key(rise | arms, 0.6), Key({}, 0.7, 0.3)]


def lunge(rng: np.random.Generator) -> list[Key]:
    d = rng.uniform(0.5, 1.0)
    pose = {"hip_r": 85 * d, "knee_r": 85 * d, "hip_l": -20 * d, "knee_l": 75 * d, "ankle_l": 10}
    pose |= {"tilt": rng.uniform(-15, 5), "extension": rng.uniform(-10, 8), "twist": rng.uniform(-15, 15)}
    arms = [_arms(35, 20, 60, 80), _arms(150, 30, 0, 15), {}][rng.integers(3)]
    return [Key(pose | arms, rng.uniform(0.6, 1.1), 0.3), Key({}, 0.8, 0.2)]


def jump(rng: np.random.Generator) -> list[Key]:
    d, height = rng.uniform(0.4, 0.9), rng.uniform(0.08, 0.35)
    crouch = _legs(95 * d, 95 * d, tilt=-30 * d, extension=-10) | _arms(45, -45, 0, 20)
    up = _legs(0, 5, ankle_r=-28, ankle_l=-28, lift=height) | _arms(rng.uniform(60, 165), 80, 0, 20)
    land = _legs(60 * d, 70 * d, tilt=-22 * d, extension=-6) | _arms(40, 70, 10, 40)
    return [Key(crouch, 0.45), Key(up, 0.3), Key(land, 0.35), Key({}, 0.5, 0.2)]


def star_jump(rng: np.random.Generator) -> list[Key]:
    out = {"add_r": -22, "add_l": -22, "lift": rng.uniform(0.02, 0.12)} | _arms(
        rng.uniform(110, 160), 10, 0, 15
    )
    return [Key(out, 0.35), Key(_arms(15, 0, 0, 10), 0.35)]


def kick(rng: np.random.Generator) -> list[Key]:
    height = rng.uniform(35, 95)
    back = {"hip_r": -22, "knee_r": 80, "ankle_r": -20, "twist": 12, "tilt": -8, "knee_l": 12, "hip_l": 14}
    hit = {"hip_r": height, "knee_r": 12, "ankle_r": -25, "tilt": 10, "knee_l": 14, "hip_l": 4, "twist": -15}
    arms = _arm("l", 60, 60, 0, 30) | _arm("r", 45, -30, 0, 40)
    return [Key(back | arms, 0.4), Key(hit | arms, 0.3), Key(back | {"knee_r": 40}, 0.4), Key({}, 0.5, 0.2)]


def reach(rng: np.random.Generator) -> list[Key]:
    low = rng.random() < 0.4
    side = _arm("r", rng.uniform(60, 160), rng.uniform(-10, 115), rng.uniform(-30, 30), rng.uniform(0, 40))
    trunk = {"twist": rng.uniform(-35, 35), "bend": rng.uniform(-20, 20), "extension": rng.uniform(-25, 8)}
    legs = _legs(70, 70, tilt=-35, extension=-30) if low else {}
    return [Key(trunk | legs | side, rng.uniform(0.6, 1.1), 0.3), Key({}, 0.8, 0.2)]


def wave(rng: np.random.Generator) -> list[Key]:
    e, p = rng.uniform(70, 110), rng.uniform(0, 45)
    left = _arm("r", e, p, -60, 75, 30)
    right = _arm("r", e + 10, p - 10, -75, 115, 30)
    return [
        Key(left, 0.6),
        Key(right, 0.3),
        Key(left, 0.3),
        Key(right, 0.3),
        Key(left, 0.3),
        Key({}, 0.6, 0.2),
    ]


def throw(rng: np.random.Generator) -> list[Key]:
    cock = _arm("r", 95, -15, -75, 95, 45) | _arm("l", 70, 70, 0, 20) | {"twist": -30, "extension": 10}
    legs = {"hip_l": 40, "knee_l": 30, "hip_r": -5, "knee_r": 20}
    release = _arm("r", 120, 70, 0, 25, 60) | _arm("l", 30, -20, 0, 60) | {"twist": 30, "extension": -25}
    follow = _arm("r", 50, 110, 50, 30, 60) | {"twist": 40, "extension": -35, "tilt": -15}
    return [Key(cock | legs, 0.6), Key(release | legs, 0.25), Key(follow | legs, 0.35), Key({}, 0.8, 0.2)]


def cross_arms(rng: np.random.Generator) -> list[Key]:
    arms = _arm("r", 38, 70, 75, 105, 80) | _arm("l", 32, 75, 75, 110, 50)
    return [Key(arms, 0.8, 0.6), Key(arms | {"twist": rng.uniform(-20, 20)}, 0.6, 0.3), Key({}, 0.8)]


def hands_on_hips(rng: np.random.Generator) -> list[Key]:
    arms = _arms(45, rng.uniform(-25, 5), 60, 95, 40)
    lean = {"bend": rng.uniform(-25, 25), "twist": rng.uniform(-30, 30)}
    return [Key(arms, 0.8, 0.3), Key(arms | lean, 0.7, 0.3), Key(arms, 0.6)]


def overhead(rng: np.random.Generator) -> list[Key]:
    up = _arms(rng.uniform(140, 175), rng.uniform(10, 80), rng.uniform(-20, 20), rng.uniform(0, 45))
    lean = {"bend": rng.uniform(-25, 25), "extension": rng.uniform(-10, 18)}
    return [Key(up, 0.9, 0.2), Key(up | lean, 0.7, 0.3), Key({}, 0.9, 0.2)]


def t_pose(rng: np.random.Generator) -> list[Key]:
    arms = _arms(rng.uniform(75, 100), rng.uniform(-5, 15), rng.uniform(-40, 20), rng.uniform(0, 15), 45)
    return [Key(arms, 0.8, 0.4), Key(arms | {"twist": rng.uniform(-40, 40)}, 0.7, 0.2), Key({}, 0.8)]


def bend_forward(rng: np.random.Generator) -> list[Key]:
    d = rng.uniform(0.4, 1.0)
    pose = _legs(70 * d, rng.uniform(0, 50), tilt=-55 * d, extension=-45 * d)
    arms = _arms(rng.uniform(50, 110) * d, 90, 0, rng.uniform(0, 30))
    return [Key(pose | arms, rng.uniform(0.8, 1.4), 0.3), Key({}, 1.0, 0.2)]


def side_bend(rng: np.random.Generator) -> list[Key]:
    pose = {"bend": rng.uniform(15, 40), "list": rng.uniform(-5, 10)} | _arm(
        "l", rng.uniform(20, 170), 5, 0, 30
    )
    return [Key(pose, 0.8, 0.3), Key({}, 0.7, 0.1)]


def balance(rng: np.random.Generator) -> list[Key]:
    """One leg out to the side, forward or back, the trunk leaning against it, arms out."""
    d, kind = rng.uniform(0.4, 1.0), rng.integers(3)
    legs = [
        {"add_r": -45 * d, "list": -25 * d, "add_l": -20 * d, "bend": -30 * d},
        {"hip_r": 85 * d, "knee_r": rng.uniform(0, 90)},
        {"hip_r": -25 * d, "tilt": -55 * d, "hip_l": 60 * d, "knee_r": rng.uniform(0, 30), "extension": -10},
    ][kind]
    legs = {"knee_l": rng.uniform(3, 25)} | legs
    arms = _arm("r", rng.uniform(20, 110), rng.uniform(-20, 60), rng.uniform(-30, 30), rng.uniform(0, 60))
    arms |= _arm("l", rng.uniform(20, 160), rng.uniform(-20, 60), rng.uniform(-30, 30), rng.uniform(0, 90))
    sway = legs | arms | {"twist": rng.uniform(-15, 15)}
    return [Key(legs | arms, 0.9, 0.2), Key(sway, 0.6, 0.2), Key({}, 0.9, 0.1)]


def side_step(rng: np.random.Generator) -> list[Key]:
    wide = _legs(25, 35, add_r=-25, add_l=-25, tilt=-12) | _arms(25, 60, 20, 60)
    shift = {"hip_r": 60, "knee_r": 75, "knee_l": 8, "add_l": -35, "add_r": -15, "tilt": -15, "list": 5}
    return [Key(wide, 0.5), Key(shift | _arms(30, 70, 20, 70), 0.5, 0.1), Key({}, 0.6)]


def turn(rng: np.random.Generator) -> list[Key]:
    angle = rng.uniform(45, 200)
    step = {"hip_r": 30, "knee_r": 50, "rot_l": -25, "rot_r": 20, "turn": angle * 0.5, "twist": 15}
    return [Key(step, 0.6), Key({"turn": angle}, 0.6, 0.2)]


ACTIONS: dict[str, Action] = {
    action.__name__: action
    for action in (
        *(stand, squat, sit, lunge, jump, star_jump, kick, reach, wave, throw, cross_arms, hands_on_hips),
        *(overhead, t_pose, bend_forward, side_bend, balance, side_step, turn),
    )
}


def perform(
    name: str,
    rng: np.random.Generator,
    frames: int,
    fps: float,
    actions: Mapping[str, Action] = ACTIONS,
) -> Tracks:
    """The action repeated, each time with other amplitudes, over ``frames``; a random moment comes first."""
    keys: list[Key] = []
    duration = frames / fps
    begin = rng.uniform(0.0, 1.5)
    speed = rng.uniform(0.75, 1.5)
    while sum(k.move + k.hold for k in keys) < (duration + begin) * speed + 0.1:
        keys += [_vary(key, rng) for key in actions[name](rng)]
    names = sorted({n for key in keys for n in key.pose} | set(_REST))
    times, rows, now, heading = [0.0], [], 0.0, 0.0
    rows.append([_REST.get(n, 0.0) for n in names])
    for key in keys:
        heading = key.pose.get("turn", heading)  # who has turned stays turned
        row = [key.pose.get(n, heading if n == "turn" else _REST.get(n, 0.0)) for n in names]
        now += key.move
        times.append(now)
        rows.append(row)
        if key.hold > 0:
            now += key.hold
            times.append(now)
            rows.append(row)
    t = (np.arange(frames) / fps + begin) * speed
    values = dict(zip(names, np.array(rows).T, strict=True))
    curves = {n: ease(np.array(times), v, t) for n, v in values.items()}
    shoulders = {}
    for side in ("r", "l"):
        key_rows = np.stack([values[f"{n}_{side}"] for n in ("elevation", "plane", "axial")], -1)
        shoulders[side] = _ease_rotations(np.array(times), shoulder_matrix(key_rows), t)
    for n in ("elevation", "plane", "axial"):
        curves.pop(f"{n}_r"), curves.pop(f"{n}_l")
    lift = curves.pop("lift", None)
    return Tracks(frames, curves, shoulders, lift)


# Hanging arms with slightly bent elbows: what a pose returns to.
_REST = _arms(8, 20, 10, 15, 55)


def _vary(key: Key, rng: np.random.Generator) -> Key:
    pose = {}
    for name, value in key.pose.items():
        if name == "lift":
            pose[name] = value
        elif name == "turn":
            pose[name] = value * rng.uniform(0.8, 1.2)
        else:
            pose[name] = value * rng.normal(1.0, 0.12) + rng.normal(0.0, 4.0)
    for name in ("tilt", "list", "bend", "twist", "rot_r", "rot_l", "add_r", "add_l"):
        pose.setdefault(name, rng.normal(0.0, 4.0))
    return Key(pose, key.move * rng.uniform(0.8, 1.25), key.hold * rng.uniform(0.3, 1.5))


def _ease_rotations(times: np.ndarray, keys: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Minimum-jerk moves along the shortest arc between key rotations (n, 3, 3)."""
    place = ease(times, np.arange(len(times), dtype=float), t)
    return Slerp(np.arange(len(times)), Rotation.from_matrix(keys))(place).as_matrix()
