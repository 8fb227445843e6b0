"""Two results of any models as what is compared: angles matched by name or by segment orientation
(`pose2sim_biokin.compare.matching`), joint centres by anatomy, worlds brought together where they differ.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from odah.evaluation.errors import ANGLES, TURNING, Posed, pose_skeleton
from pose2sim_biokin.compare.anatomy import SEGMENTS
from pose2sim_biokin.compare.matching import GROUPS, group_angles, match
from pose2sim_biokin.compare.result import BackendResult
from pose2sim_biokin.errors import BiokinError
from pose2sim_biokin.skeleton.angles import CONSTRAINED

_FEWEST_JOINTS = 4


class Pair(NamedTuple):
    """Result and truth, posed; the true constrained angles (T, 17), rad, or None; what to know of it."""

    found: Posed
    wanted: Posed
    constrained: np.ndarray | None
    notes: tuple[str, ...]


def matched_pair(found: BackendResult, truth: BackendResult, same_world: bool = True) -> Pair:
    """Match a result to the truth; both on one time base, under different labels.

    Args:
        same_world: else the truth is turned about the vertical and shifted, once for the whole motion, to
            where its joint centres are nearest to the result's: what then is left of the pelvis's position
            and heading are their changes over time.

    Raises:
        BiokinError: nothing in common.
    """
    if same_world and alike(found, truth):  # all their joint centres, and no need to match anything
        posed = [
            pose_skeleton(r.skeleton, np.stack(list(r.coordinates.values()), 1), None) for r in (found, truth)
        ]
        index = [posed[1].names.index(name) for name in CONSTRAINED]
        return Pair(*posed, posed[1].values[:, index], ())
    notes = []
    if not same_world:
        truth = _brought_together(truth, found)
        notes.append(
            "where truth and cameras have no world in common, the truth is turned about the vertical and "
            "shifted, once for each clip, to fit the result best"
        )
    coordinates, _ = match([truth, found])
    values = {
        c.name: [np.deg2rad(c.values[r.label]) for r in (found, truth)]
        for c in coordinates
        if c.name in ANGLES and c.unit == "deg"
    }
    if not same_world:  # the coordinates are still those of its own world
        wanted = group_angles(truth, GROUPS[0])
        theirs = group_angles(found, GROUPS[0], wanted)
        values |= {n: [theirs[:, k], wanted[:, k]] for k, n in enumerate(GROUPS[0].names)}
    notes += _told(coordinates, found, truth)
    absent = [name for name in ANGLES if name not in values]
    if absent:
        notes.append(f"{found.label}: its model, or the truth's, has no {', '.join(absent)}")
    posed = [_posed(r, {n: v[k] for n, v in values.items()}) for k, r in enumerate((found, truth))]
    shared = [name for name in posed[0].joint_names if name in posed[1].joint_names]
    if len(shared) < _FEWEST_JOINTS:
        raise BiokinError(
            f"{found.osim} and {truth.osim} have {len(shared)} joint centres in common; expected models of "
            "the whole body."
        )
    if len(shared) < 22:
        notes.append(f"{found.label}: {len(shared)} joint centres in common with the truth's model")
    known = all(name in values for name in CONSTRAINED)
    constrained = np.stack([values[name][1] for name in CONSTRAINED], 1) if known else None
    return Pair(posed[0], posed[1], constrained, tuple(notes))


def alike(found: BackendResult, truth: BackendResult) -> bool:
    """Both are the built-in skeleton, or of its names, and turn all bodies alike, in whatever size."""
    models = [found.model, truth.model]
    if None in (found.skeleton, truth.skeleton) or not set(ANGLES) <= set(truth.model.coordinate_names):
        return False
    if any(getattr(models[0], k) != getattr(models[1], k) for k in ("coordinate_names", "body_names")):
        return False
    poses = np.random.default_rng(0).uniform(-0.8, 0.8, (4, len(truth.model.coordinate_names)))
    first, second = (model.pose(poses).rotation for model in models)
    return bool(np.abs(first - second).max() < 1e-6)


def _posed(result: BackendResult, values: dict[str, np.ndarray]) -> Posed:
    """In OpenSim's ground: (X, Y, Z) = world (Y, Z, X)."""
    names = tuple(result.joint_centers)
    joints = np.stack([result.joint_centers[name] for name in names], axis=1)[..., [1, 2, 0]]
    return Posed(
        tuple(values),
        np.stack(list(values.values()), axis=1) if values else np.zeros((len(joints), 0)),
        names,
        joints,
        {n: result.body_rotations[n][:, [1, 2, 0]] for n in TURNING if n in result.body_rotations},
        tuple(SEGMENTS.values()),
    )


def _told(coordinates, found: BackendResult, truth: BackendResult) -> list[str]:
    """How the angles were matched, in few words."""
    by_orientation = [c.name for c in coordinates if c.how != "name" and c.name in ANGLES]
    notes = [f"{c.name}: {note}" for c in coordinates if c.name in ANGLES for note in c.notes]
    notes = [note for note in notes if "gimbal lock" not in note]  # these are of single frames
    if found.model.coordinate_names != truth.model.coordinate_names and by_orientation:
        notes.insert(0, f"{found.label}: matched by segment orientation: {', '.join(by_orientation)}")
    return notes


def _brought_together(truth: BackendResult, found: BackendResult) -> BackendResult:
    """The truth turned about the world's vertical and shifted to where its joints are nearest."""
    shared = [name for name in truth.joint_centers if name in found.joint_centers]
    a, b = (np.stack([r.joint_centers[n] for n in shared], 1) for r in (truth, found))
    seen = np.isfinite(a).all((1, 2)) & np.isfinite(b).all((1, 2))
    if not shared or not seen.any():
        raise BiokinError(f"{found.mot} and {truth.mot} have no pose of the same joints at the same time.")
    a, b = a[seen].reshape(-1, 3), b[seen].reshape(-1, 3)
    middle_a, middle_b = a.mean(0), b.mean(0)
    p, q = a - middle_a, b - middle_b
    angle = np.arctan2((p[:, 0] * q[:, 1] - p[:, 1] * q[:, 0]).sum(), (p[:, :2] * q[:, :2]).sum())
    c, s = np.cos(angle), np.sin(angle)
    turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    moved = {
        key: {name: (x - middle_a) @ turn.T + middle_b for name, x in getattr(truth, key).items()}
        for key in ("joint_centers", "body_positions")
    }
    rotations = {name: turn @ x for name, x in truth.body_rotations.items()}
    return replace(truth, body_rotations=rotations, **moved)
