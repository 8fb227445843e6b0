"""More named actions, of everyday life and sport, in the style of `actions.py`; data sets draw from both."""

from __future__ import annotations

import numpy as np

from odah.motions.actions import ACTIONS, Action, Key, _arm, _arms, _legs


def stretch(rng: np.random.Generator) -> list[Key]:
    """Arms overhead and back, then one arm pulled across the chest or a bow to one side."""
    up = _arms(rng.uniform(150, 172), rng.uniform(20, 60), 0, rng.uniform(5, 30)) | {"extension": 14}
    back = _arms(45, -45, -10, 5) | {"extension": 8, "tilt": 3}
    across = _arm("r", 75, 115, 20, 10) | _arm("l", 55, 95, 40, 95) | {"twist": 12}
    side = up | {"bend": rng.uniform(18, 35), "extension": 0}
    return [Key(up, 1.1, 0.6), Key([across, side, back][rng.integers(3)], 1.0, 0.8), Key({}, 1.0, 0.2)]


def pick_up(rng: np.random.Generator) -> list[Key]:
    """Crouch, grasp something on the floor with both hands, stand with it, put it down."""
    d = rng.uniform(0.85, 1.0)
    down = _legs(118 * d, 115 * d, tilt=-45 * d, extension=-36 * d, add_r=-14, add_l=-14)
    low, held = _arms(75, 82, 8, 12), _arms(22, 72, 30, rng.uniform(70, 95))
    return [Key(down | low, 0.9, 0.3), Key(held, 1.0, 0.5), Key(down | low, 1.0, 0.2), Key({}, 0.9, 0.2)]


def step_up(rng: np.random.Generator) -> list[Key]:
    """One foot onto a high step and off again; the other leg pushes."""
    high = rng.uniform(60, 85)
    lead = {"hip_r": high, "knee_r": high + 10, "tilt": -10, "ankle_l": 12, "hip_l": -4, "knee_l": 4}
    push = {"hip_r": 35, "knee_r": 40, "tilt": -14, "hip_l": -12, "knee_l": 12, "ankle_l": -22}
    swing = _arm("l", 35, 80, 20, 60) | _arm("r", 25, -40, 20, 50)
    return [Key(lead | swing, 0.6), Key(push, 0.5), Key({"hip_l": 40, "knee_l": 65}, 0.4), Key({}, 0.4, 0.2)]


def drink(rng: np.random.Generator) -> list[Key]:
    at_mouth = _arm("r", rng.uniform(40, 60), rng.uniform(65, 80), 35, rng.uniform(128, 140), 35)
    held = _arm("r", 15, 60, 40, 85, 45)
    lean = {"extension": rng.uniform(0, 10)}
    return [Key(held, 0.7, 0.3), Key(at_mouth, 0.7, 0.3), Key(at_mouth | lean, 0.4, 0.6), Key({}, 0.9, 0.2)]


def clap(rng: np.random.Generator) -> list[Key]:
    high = rng.uniform(30, 75)
    wide = _arms(high, 60, 25, rng.uniform(50, 75), 45)
    shut = _arms(high, 78, 50, rng.uniform(72, 85), 45)
    return [Key(wide, 0.5), Key(shut, 0.2), Key(wide, 0.2), Key(shut, 0.2), Key(wide, 0.2), Key({}, 0.6, 0.2)]


def punch(rng: np.random.Generator) -> list[Key]:
    stance = {"hip_l": 28, "knee_l": 25, "hip_r": 5, "knee_r": 22, "rot_r": -15, "turn": rng.uniform(-25, 25)}
    guard = _arms(35, 65, 30, 125, 40) | stance | {"extension": -8}
    right = _arm("r", 85, 88, 30, 15, 15) | _arm("l", 35, 65, 30, 125, 40) | stance | {"twist": 35}
    left = _arm("l", 85, 88, 30, 15, 15) | _arm("r", 35, 65, 30, 125, 40) | stance | {"twist": -25}
    return [Key(guard, 0.5), Key(left, 0.2), Key(guard, 0.25), Key(right, 0.25), Key(guard, 0.3, 0.2)]


def push(rng: np.random.Generator) -> list[Key]:
    high = rng.uniform(60, 95)
    bent = _arms(40, 60, 10, 110, 20)
    legs = {"hip_l": 35, "knee_l": 35, "hip_r": -10, "knee_r": 18, "tilt": -12, "ankle_r": 18}
    straight = _arms(high, 85, 10, 12, 20) | legs | {"extension": -12}
    return [Key(bent | legs, 0.6), Key(straight, 0.7, 0.5), Key({}, 0.8, 0.2)]


def pull(rng: np.random.Generator) -> list[Key]:
    out = _arms(rng.uniform(60, 90), 80, 5, 12, 40) | _legs(25, 30, tilt=-20)
    back = _arms(38, -25, 20, 105, 40) | _legs(20, 25, tilt=8, extension=4)
    return [Key(out, 0.7, 0.1), Key(back, 0.6, 0.2), Key(out, 0.7), Key({}, 0.7, 0.1)]


def phone(rng: np.random.Generator) -> list[Key]:
    """A telephone at the ear, then held before the chest."""
    ear = _arm("r", rng.uniform(55, 75), rng.uniform(40, 58), 0, 143, 55)
    look = _arm("r", 28, 72, 45, 105, 70) | {"extension": -10}
    stand = {"hip_l": 12, "knee_l": 18, "list": rng.uniform(-5, 5)}
    return [Key(look | stand, 0.8, 0.6), Key(ear | stand, 0.8, 1.0), Key({}, 0.8, 0.2)]


def check_watch(rng: np.random.Generator) -> list[Key]:
    look = _arm("l", rng.uniform(30, 50), 75, 62, rng.uniform(90, 110), 20) | {"extension": -12}
    return [Key(look, 0.6, 0.7), Key({}, 0.6, 0.4)]


def point(rng: np.random.Generator) -> list[Key]:
    arm = _arm("r", rng.uniform(70, 115), rng.uniform(-10, 110), 0, rng.uniform(3, 15), 30)
    other = _arm("r", rng.uniform(60, 110), rng.uniform(0, 100), 10, 10, 30)
    return [Key(arm | {"twist": rng.uniform(-25, 25)}, 0.6, 0.5), Key(other, 0.6, 0.3), Key({}, 0.7, 0.2)]


def scratch_head(rng: np.random.Generator) -> list[Key]:
    high = rng.uniform(95, 118)
    touch, rub = _arm("r", high, 55, -5, 138, 50), _arm("r", high + 8, 48, -12, 130, 50)
    return [Key(touch, 0.7), Key(rub, 0.25), Key(touch, 0.25), Key(rub, 0.25), Key({}, 0.8, 0.2)]


def take_photo(rng: np.random.Generator) -> list[Key]:
    eyes = _arms(rng.uniform(58, 72), 68, 28, rng.uniform(112, 125), 35)
    low = eyes | _legs(45, 60, tilt=-15, extension=-5)
    return [Key(eyes, 0.8, 0.5), Key([eyes | {"twist": 25}, low][rng.integers(2)], 0.8, 0.5), Key({}, 0.8)]


def hop(rng: np.random.Generator) -> list[Key]:
    """Jumps on one leg."""
    lifted = {"hip_r": rng.uniform(5, 40), "knee_r": rng.uniform(60, 95)} | _arms(35, 30, 20, 60)
    dip = lifted | {"hip_l": 30, "knee_l": 42, "tilt": -10}
    fly = lifted | {"hip_l": 2, "knee_l": 8, "ankle_l": -25, "lift": rng.uniform(0.04, 0.15)}
    return [Key(dip, 0.35), Key(fly, 0.2), Key(dip, 0.25), Key(fly, 0.2), Key(dip, 0.25), Key({}, 0.5, 0.1)]


def march(rng: np.random.Generator) -> list[Key]:
    """Steps on the spot, knees high."""
    high, keys = rng.uniform(45, 100), []
    for side, other in ("rl", "lr", "rl", "lr"):
        arms = _arm(other, 35, 80, 20, 80) | _arm(side, 25, -40, 20, 80)
        keys.append(Key({f"hip_{side}": high, f"knee_{side}": high} | arms, rng.uniform(0.28, 0.45)))
    return [*keys, Key({}, 0.4, 0.1)]


def kneel(rng: np.random.Generator) -> list[Key]:
    """Down on one knee and up again."""
    pose = {"hip_r": 90, "knee_r": 92, "hip_l": -5, "knee_l": 95, "ankle_l": -20, "tilt": rng.uniform(-15, 2)}
    arms = [_arm("r", 45, 75, 20, 60) | _arm("l", 15, 30, 20, 30), _arms(40, 80, 20, 40), {}][rng.integers(3)]
    return [Key(pose | arms, 1.1, 0.8), Key({}, 1.1, 0.3)]


def crawl(rng: np.random.Generator) -> list[Key]:
    """On hands and knees, one hand and the other knee forward in turn."""
    keys = []
    base = _legs(82, 88, tilt=-82, ankle_r=-35, ankle_l=-35)
    for side, other in ("rl", "lr", "rl", "lr"):
        step = rng.uniform(12, 22)
        legs = {f"hip_{other}": 82 + step, f"hip_{side}": 82 - step}
        arms = _arm(side, 85 + step, 88, 0, 8, 20) | _arm(other, 82 - step, 88, 0, 8, 20)
        keys.append(Key(base | legs | arms, rng.uniform(0.5, 0.8)))
    return [Key(base | _arms(84, 88, 0, 8, 20), 1.5, 0.2), *keys, Key({}, 1.6, 0.2)]


def swing(rng: np.random.Generator) -> list[Key]:
    """Both hands swing a bat or a club from one side to the other."""
    legs = _legs(30, 32, tilt=-22, extension=-15, add_r=-10, add_l=-10)
    ready = _arm("r", 40, 85, 40, 35, 40) | _arm("l", 40, 85, 40, 30, 40)
    back = _arm("r", 65, 35, 10, 95, 45) | _arm("l", 75, 125, 45, 25, 40) | {"twist": -50, "knee_l": 45}
    hit = ready | {"twist": 12, "knee_r": 42}
    through = _arm("r", 80, 125, 40, 30, 40) | _arm("l", 75, 40, 0, 90, 45) | {"twist": 52}
    return [
        Key(ready | legs, 0.7),
        Key(legs | back, 0.7),
        Key(legs | hit, 0.25),
        Key(legs | through, 0.35, 0.3),
    ]


def catch(rng: np.random.Generator) -> list[Key]:
    high = rng.uniform(40, 130)
    reach = _arms(high, 80, 15, 30, 70) | {"twist": rng.uniform(-25, 25)} | _legs(20, 28, tilt=-10)
    hold = _arms(25, 68, 42, 100, 60) | _legs(10, 15, tilt=-5, extension=-8)
    return [Key(reach, 0.45, 0.1), Key(hold, 0.4, 0.4), Key({}, 0.7, 0.2)]


EVERYDAY_ACTIONS: dict[str, Action] = {
    action.__name__: action
    for action in (
        *(stretch, pick_up, step_up, drink, clap, punch, push, pull, phone, check_watch, point),
        *(scratch_head, take_photo, hop, march, kneel, crawl, swing, catch),
    )
}
ALL_ACTIONS: dict[str, Action] = ACTIONS | EVERYDAY_ACTIONS
