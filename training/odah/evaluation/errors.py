"""Errors of a motion against its truth, frame by frame, whatever either came from.

All positions in mm, angles in degrees, in OpenSim's ground. Of the joint centres that both models have (22 of
the built-in skeleton):

    MPJPE       mean distance
    PA-MPJPE    the same after the similarity transform that fits each frame best
    PA-MPJVE    mean distance of the velocities of the points so aligned from those of the truth, mm/s, from
                each frame to the next at the data's rate: the MPJVE of Pavllo et al. 2019 (arXiv 1811.11742,
                section 6: MPJPE of the first derivative) of Procrustes-aligned frames. Lin et al. 2024 report
                a joint velocity error of this name; that it is computed so is our reading.

Where films are checked against the person's masks, with truth or without (`pose2sim_biokin.check`): overlap
of the body's outline with the mask (intersection over union) in the cameras that the network saw, and in
those that it did not see; share of the joint centres inside the masks.

Frames without a pose (NaN) have no errors (NaN).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from pose2sim_biokin.compare.metrics import procrustes_aligned, rotation_angle, wrapped
from pose2sim_biokin.skeleton.angles import CONSTRAINED, FREE, TRANSLATIONS
from pose2sim_biokin.skeleton.kinematics import ForwardKinematics
from pose2sim_biokin.skeleton.model import Skeleton

ANGLES = (*FREE, *CONSTRAINED)  # all 26 that the network predicts
# The paper compares methods by 24 angles that the models have in common. It does not list them in what we
# could read; OpenCap's and Pose2Sim's inverse kinematics determine the forearm's pronation least, so our
# reading is: all but the two of pronation.
COMPARED = tuple(name for name in ANGLES if not name.startswith("pro_sup"))
SETS = {"mae_17_deg": CONSTRAINED, "mae_24_deg": COMPARED, "mae_26_deg": ANGLES}
TURNING = ("pelvis", "torso", "humerus_r", "humerus_l")
# Columns of one number a frame, in the order in which tables show them.
COLUMNS = (
    *SETS,
    "pa_mpjpe_mm",
    "mpjpe_mm",
    "pa_mpjve_mm_s",
    "angle_speed_deg_s",
    "pelvis_mm",
    "pelvis_deg",
    "humerus_r_deg",
    "humerus_l_deg",
    "scale",
    "segment_mm",
    "iou_used",
    "iou_unused",
    "joints_inside",
)


class Posed(NamedTuple):
    """T frames of a person as what is compared.

    Attributes:
        names: n angles, by the built-in skeleton's names. values: (T, n) rad.
        joint_names: nj. joints: (T, nj, 3) joint centres, and the pelvis's origin as "pelvis", m.
        rotations: "pelvis", "torso", "humerus_r", "humerus_l" -> (T, 3, 3) of the body in ground, those that
            there are.
        segments: pairs of joints whose distance is a segment's length.
        scales: (T, nb, 3) factors of the built-in skeleton, or None where they are not known.
    """

    names: tuple[str, ...]
    values: np.ndarray
    joint_names: tuple[str, ...]
    joints: np.ndarray
    rotations: dict[str, np.ndarray]
    segments: tuple[tuple[str, str], ...]
    scales: np.ndarray | None = None


def pose_skeleton(
    skeleton: Skeleton, coordinates: np.ndarray, scales: np.ndarray | None, pelvis: np.ndarray | None = None
) -> Posed:
    """A skeleton in the poses of its coordinates; joints are named after the bodies that they carry.

    Args:
        coordinates: (T, nc) rad and m.
        scales: (nb, 3) or (T, nb, 3), or None for a model that is scaled already.
        pelvis: (T, 3) where the pelvis's origin is, m, whatever the coordinates say of it.
    """
    fk = ForwardKinematics(skeleton, dtype=torch.float64)
    q = torch.as_tensor(np.asarray(coordinates, dtype=np.float64))
    s = None if scales is None else torch.as_tensor(np.array(scales, dtype=np.float64))
    with torch.no_grad():
        frames = fk(q, s)
        joints = fk.joint_centers(frames, s).numpy()
    if pelvis is not None:
        joints = joints + (pelvis - frames.position[:, skeleton.body_index("pelvis")].numpy())[:, None]
    angles = [i for i, name in enumerate(skeleton.coordinate_names) if name not in TRANSLATIONS]
    segments = zip(skeleton.body_names, skeleton.parent_names, strict=True)
    return Posed(
        tuple(skeleton.coordinate_names[i] for i in angles),
        q[:, angles].numpy(),
        skeleton.body_names,
        joints,
        {name: frames.rotation[:, skeleton.body_index(name)].numpy() for name in TURNING},
        tuple((body, parent) for body, parent in segments if parent != "ground"),
        None if s is None else np.broadcast_to(s.numpy(), (len(q), *s.shape[-2:])),
    )


def frame_errors(found: Posed, wanted: Posed, rate: float | None) -> dict[str, np.ndarray]:
    """Errors of T frames: "angles" (T, 26) deg, NaN where a model lacks one, and the COLUMNS (T,) that there
    are; "missing" (T,) bool: no pose was found.

    Args:
        found, wanted: of the same T frames.
        rate: Hz; None where the frames do not follow one another: no velocities then.
    """
    count = len(wanted.values)
    posed = np.isfinite(found.joints).all((1, 2))
    ok = posed & np.isfinite(wanted.joints).all((1, 2))
    rows = np.flatnonzero(ok)
    angles = np.full((count, len(ANGLES)), np.nan)
    for k, name in enumerate(ANGLES):
        if name in found.names and name in wanted.names:
            gap = found.values[:, found.names.index(name)] - wanted.values[:, wanted.names.index(name)]
            angles[:, k] = np.abs(wrapped(np.degrees(gap)))
    angles[~ok] = np.nan
    errors = {"angles": angles, "missing": ~posed}
    for column, names in SETS.items():
        chosen = angles[:, [ANGLES.index(name) for name in names]]
        errors[column] = chosen.mean(1)  # NaN unless the models have all of them

    shared = [name for name in wanted.joint_names if name in found.joint_names]
    theirs, ours = ([p.joint_names.index(name) for name in shared] for p in (found, wanted))
    points, truth = found.joints[rows][:, theirs], wanted.joints[rows][:, ours]
    aligned = procrustes_aligned(points, truth) if len(rows) else points
    errors["mpjpe_mm"] = _spread(1000 * _distance(points, truth), rows, count)
    errors["pa_mpjpe_mm"] = _spread(1000 * _distance(aligned, truth), rows, count)
    if rate is not None:
        follows = np.diff(rows) == 1
        speed = 1000 * rate * _distance(np.diff(aligned, axis=0), np.diff(truth, axis=0))
        errors["pa_mpjve_mm_s"] = _spread(speed[follows], rows[1:][follows], count)
        speed = _angle_speed(found, wanted, rows, rate)
        errors["angle_speed_deg_s"] = _spread(speed[follows], rows[1:][follows], count)
    errors |= _rotations(found, wanted, ok)
    if "pelvis" in shared:
        k = shared.index("pelvis")
        errors["pelvis_mm"] = _spread(1000 * _distance(points[:, [k]], truth[:, [k]]), rows, count)
    if found.scales is not None and wanted.scales is not None:
        gap = np.abs(found.scales - wanted.scales).mean((1, 2))
        errors["scale"] = np.where(ok, gap, np.nan)
    errors["segment_mm"] = _spread(_segment_errors(points, truth, shared, wanted.segments), rows, count)
    return errors


def no_truth(posed: np.ndarray) -> dict[str, np.ndarray]:
    """The errors where nothing is known to compare with: none. `posed` (T,) bool: there is a pose."""
    nothing = np.full(len(posed), np.nan)
    columns = dict.fromkeys((*SETS, "mpjpe_mm", "pa_mpjpe_mm"), nothing)
    return columns | {"angles": np.full((len(posed), len(ANGLES)), np.nan), "missing": ~posed}


def _rotations(found: Posed, wanted: Posed, ok: np.ndarray) -> dict[str, np.ndarray]:
    """Of the pelvis in ground, of the upper arms in the torso."""
    errors = {}
    for column, body, parent in (
        ("pelvis_deg", "pelvis", None),
        ("humerus_r_deg", "humerus_r", "torso"),
        ("humerus_l_deg", "humerus_l", "torso"),
    ):
        if not all(b in p.rotations for p in (found, wanted) for b in (body, parent) if b):
            continue
        turns = [p.rotations[body] for p in (found, wanted)]
        if parent:
            bases = [np.swapaxes(p.rotations[parent], 1, 2) for p in (found, wanted)]
            turns = [base @ turn for base, turn in zip(bases, turns, strict=True)]
        errors[column] = np.where(ok, rotation_angle(*turns), np.nan)
    return errors


def _angle_speed(found: Posed, wanted: Posed, rows: np.ndarray, rate: float) -> np.ndarray:
    """(R - 1,) mean error of the speed of the 17 angles, deg/s, from each of the rows to the next."""
    names = [name for name in CONSTRAINED if name in found.names and name in wanted.names]
    if len(names) < len(CONSTRAINED):
        return np.full(max(len(rows) - 1, 0), np.nan)
    steps = [
        np.diff(p.values[rows][:, [p.names.index(name) for name in names]], axis=0) for p in (found, wanted)
    ]
    return np.degrees(np.abs(steps[0] - steps[1])).mean(1) * rate


def _segment_errors(
    points: np.ndarray, truth: np.ndarray, joints: list[str], segments: tuple[tuple[str, str], ...]
) -> np.ndarray:
    """(R,) mean error of the lengths of the segments, mm."""
    pairs = [(joints.index(a), joints.index(b)) for a, b in segments if a in joints and b in joints]
    if not pairs:
        return np.full(len(points), np.nan)
    child, parent = np.transpose(pairs)
    lengths = [np.linalg.norm(p[:, child] - p[:, parent], axis=-1) for p in (points, truth)]
    return 1000 * np.abs(lengths[0] - lengths[1]).mean(1)


def _distance(points: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """(R,) mean distance of (R, M, 3) points."""
    return np.linalg.norm(points - truth, axis=-1).mean(-1)


def _spread(values: np.ndarray, rows: np.ndarray, count: int) -> np.ndarray:
    """(count,) values at some rows, NaN at the others."""
    column = np.full(count, np.nan)
    column[rows] = values
    return column
