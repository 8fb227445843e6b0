"""Which coordinates of different models mean the same, and how their signs and zeros differ.

Both models are posed to find out: nothing is taken from their names alone. Body axes are anatomical in
Rajagopal's model and its relatives (X forward, Y up, Z right), so that the orientation of one body relative
to another means the same in each.

* *Groups* are joints with three rotations. Lumbar and shoulders are always told by segment orientation: the
  rotation from the one body to the other, taken apart in one convention for all models, whatever joints lie
  between. Pelvis and hips go by name where posing shows that the names mean the same, and else likewise.
* All other coordinates go by name; sign, zero and axis are compared by posing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pose2sim_biokin.compare.anatomy import SIDES
from pose2sim_biokin.compare.comparison import MatchedCoordinate
from pose2sim_biokin.compare.metrics import rotation_angle
from pose2sim_biokin.compare.models import Model
from pose2sim_biokin.compare.probing import GROUPS, Group, Probe
from pose2sim_biokin.compare.result import BackendResult
from pose2sim_biokin.errors import BiokinError

# Pairs of bodies, parent and child, by which coordinates that go by name are compared.
_PAIRS = [
    (f"{parent}_{side}", f"{child}_{side}")
    for side in SIDES
    for parent, child in (
        ("femur", "tibia"),
        ("tibia", "talus"),
        ("talus", "calcn"),
        ("calcn", "toes"),
        ("humerus", "ulna"),
        ("ulna", "radius"),
        ("radius", "hand"),
    )
] + [("torso", "head")]
_TRANSLATIONS = ("pelvis_tx", "pelvis_ty", "pelvis_tz")
# Rajagopal's order, for tables; the rest follows as the reference has it.
_ORDER = (
    *GROUPS[0].names,
    *_TRANSLATIONS,
    *(
        name
        for side in SIDES
        for name in (
            *(f"hip_{n}_{side}" for n in ("flexion", "adduction", "rotation")),
            *(f"{n}_angle_{side}" for n in ("knee", "ankle", "subtalar", "mtp")),
        )
    ),
    *GROUPS[3].names,
    *(
        name
        for side in SIDES
        for name in (
            *(f"arm_{n}_{side}" for n in ("flex", "add", "rot")),
            *(f"{n}_{side}" for n in ("elbow_flex", "pro_sup", "wrist_flex", "wrist_dev")),
        )
    ),
)
_SAME_DEG = 1.0  # models whose bodies turn alike within this agree on a joint
_ZERO_DEG, _ZERO_MM, _TILT_DEG, _GAIN = 0.5, 1.0, 5.0, 0.05  # differences worth a note
_LOCK_DEG = 10.0


def match(results: Sequence[BackendResult]) -> tuple[list[MatchedCoordinate], dict[str, tuple[str, ...]]]:
    """Coordinates that two or more results, the reference (the first) among them, have in common.

    Args:
        results: on one time base.

    Returns:
        Matched coordinates in Rajagopal's order; label -> the model's coordinates that were not matched.
        Coordinates that follow others through a coupler are not among either.

    Raises:
        BiokinError: nothing in common.
    """
    probes = {result.label: Probe(result.model) for result in results}
    matched: dict[str, MatchedCoordinate] = {}
    used: dict[str, set[str]] = {result.label: set() for result in results}
    for group in GROUPS:
        if by_name(group, list(probes.values())):
            continue
        holders = [r for r in results if probes[r.label].has(group.parent, group.child)]
        if len(holders) > 1 and holders[0] is results[0]:
            for coordinate, own in _by_orientation(group, holders, probes):
                matched[coordinate.name] = coordinate
                for label, names in own.items():
                    used[label] |= names
    reference = results[0]
    for name in _free(reference.model):
        holders = [r for r in results if name in _free(r.model)]
        if name not in matched and name not in used[reference.label] and len(holders) > 1:
            matched[name] = _by_name(name, holders, probes)
    if not matched:
        models = "; ".join(f"{r.label}: {r.osim} ({', '.join(_free(r.model)[:5])}, ...)" for r in results)
        raise BiokinError(
            f"The models have no coordinate in common, by name or by segment orientation: {models}. Compare "
            "results of full-body models such as Rajagopal's, OpenCap's or Pose2Sim's."
        )
    for name, coordinate in matched.items():
        for label in coordinate.values:
            used[label].add(coordinate.own_names.get(label, name))
    unmatched = {r.label: tuple(n for n in _free(r.model) if n not in used[r.label]) for r in results}
    order = [*(n for n in _ORDER if n in matched), *(n for n in matched if n not in _ORDER)]
    return [matched[name] for name in order], unmatched


def by_name(group: Group, probes: Sequence[Probe]) -> bool:
    """Whether a group's coordinates mean the same in all models: each turns the bodies like the first."""
    if group.by_orientation or not all(probe.has(group.parent, group.child) for probe in probes):
        return False
    if not all(set(group.names) <= set(probe.model.coordinate_names) for probe in probes):
        return False
    angles = np.random.default_rng(0).uniform(-0.8, 0.8, (8, 3))
    first, *others = (probe.posed(group, angles) for probe in probes)
    return all(rotation_angle(other, first).max() < _SAME_DEG for other in others)


def group_angles(result: BackendResult, group: Group, reference: np.ndarray | None = None) -> np.ndarray:
    """A group's angles (T, 3), rad, out of a result's segment orientations, continuous over time.

    Every orientation has two triples of angles, up to whole turns. The first frame takes that nearest to the
    result's own coordinates of these names (else to zero). With the angles (T, 3) of a reference, every
    stretch between gimbal locks takes, as a whole, the triples that are nearer to the reference's: where two
    results passed a lock on different sides, they would differ by half a turn from there on.
    """
    import torch

    from pose2sim_biokin.skeleton.rotations import matrix_to_angles_continuous

    relative = relative_orientation(result, group.parent, group.child)
    angles = np.full((len(relative), 3), np.nan)
    seen = np.isfinite(relative).all(axis=(1, 2))
    if not seen.any():
        return angles
    own = [result.coordinates.get(name) for name in group.names]
    start = None if any(v is None for v in own) else np.array([v[seen][0] for v in own])
    matrices = torch.from_numpy(np.ascontiguousarray(relative[seen]))
    axes = torch.tensor(group.axes, dtype=torch.float64)
    found = matrix_to_angles_continuous(matrices, axes, start).numpy()
    if reference is not None:
        ends = np.flatnonzero(np.diff(_locked(found).astype(int))) + 1
        for rows in np.split(np.arange(len(found)), ends):
            found[rows] = _nearer(found[rows], reference[seen][rows])
    angles[seen] = found
    return angles


def _nearer(angles: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Of the two triples of angles (T, 3) that mean the same orientations, those nearer to a reference's."""
    common = np.isfinite(reference).all(axis=1)
    if not common.any():
        return angles
    other = np.stack([angles[:, 0] + np.pi, np.pi - angles[:, 1], angles[:, 2] + np.pi], axis=1)
    turned = []
    for way in (angles, other):
        turns = np.round(np.median((reference - way)[common], axis=0) / (2 * np.pi))
        turned.append(way + 2 * np.pi * turns)
    return min(turned, key=lambda way: np.abs(way - reference)[common].sum())


def _locked(angles: np.ndarray) -> np.ndarray:
    """(T,) bool: angles (T, 3), rad, are near gimbal lock."""
    return np.abs(np.cos(angles[:, 1])) < np.sin(np.deg2rad(_LOCK_DEG))


def relative_orientation(result: BackendResult, parent: str, child: str) -> np.ndarray:
    """(T, 3, 3) orientation of a body in another's axes, or in OpenSim's ground where parent is ""."""
    rotation = result.body_rotations[child]
    if parent:
        return np.swapaxes(result.body_rotations[parent], -1, -2) @ rotation
    return rotation[:, [1, 2, 0], :]  # ground (X, Y, Z) = world (Y, Z, X)


def _by_orientation(
    group: Group, holders: Sequence[BackendResult], probes: dict[str, Probe]
) -> list[tuple[MatchedCoordinate, dict[str, set[str]]]]:
    reference = holders[0]
    angles = {reference.label: group_angles(reference, group)}
    for result in holders[1:]:
        angles[result.label] = group_angles(result, group, angles[reference.label])
    notes: list[list[str]] = [[], [], []]
    own_names: list[dict[str, str]] = [{}, {}, {}]
    zeros: list[dict[str, float]] = [{}, {}, {}]
    driving = {}
    for result in holders:
        lock = int(_locked(angles[result.label]).sum())
        if lock:
            for k in (0, 2):
                notes[k].append(
                    f"{lock} frames of {result.label} are within {_LOCK_DEG:g} degrees of gimbal lock, where "
                    f"{group.names[0]} and {group.names[2]} cannot be told apart"
                )
    zero = {r.label: _zero_angles(probes[r.label], group) for r in holders}
    for result in holders:
        label = result.label
        turns = probes[label].turns(group.parent, group.child)
        driving[label] = set(turns) & set(_free(result.model))
        for k, axis in enumerate(np.array(group.axes)):
            own = _driver(group.names[k], driving[label], turns, axis)
            if own is not None:
                own_names[k][label] = own
                gain = float(turns[own] @ axis)
                if abs(gain - 1) > _GAIN:
                    notes[k].append(
                        f"{label}: its {own} turns the {group.child} by {gain:.3g} times its value "
                        f"against the {group.parent or 'ground'}"
                    )
            zeros[k][label] = float(zero[label][k] - zero[reference.label][k])
            if abs(zero[label][k]) > _ZERO_DEG:
                notes[k].append(
                    f"{label}: with its own coordinates at zero this angle is {zero[label][k]:.1f} degrees"
                )
    fixed = [tuple(r.label for r in holders if not _moves(angles[r.label][:, k])) for k in range(3)]
    return [
        (
            MatchedCoordinate(
                name=name,
                unit="deg",
                how="segment orientation",
                values={label: np.rad2deg(value[:, k]) for label, value in angles.items()},
                own_names=own_names[k],
                notes=tuple(notes[k]),
                zero_difference=zeros[k],
                fixed=fixed[k],
            ),
            driving,
        )
        for k, name in enumerate(group.names)
    ]


def _by_name(name: str, holders: Sequence[BackendResult], probes: dict[str, Probe]) -> MatchedCoordinate:
    reference = holders[0]
    angle = reference.is_angle(name)
    factor, unit = (180 / np.pi, "deg") if angle else (1000.0, "mm")
    values = {reference.label: factor * reference.coordinates[name]}
    notes, zeros, fixed = [], {reference.label: 0.0}, []
    for result in holders:
        label = result.label
        if result is not reference:
            sign, zero, found = _difference(name, probes[reference.label], probes[label], angle)
            notes += [f"{label}: {text}" for text in found]
            zeros[label] = zero
            value = sign * factor * result.coordinates[name]
            if angle:  # whole turns are not differences
                middle = np.nanmedian(value - values[reference.label])
                value = value - (360 * np.round(middle / 360) if np.isfinite(middle) else 0)
            values[label] = value
        if name in result.assumed:
            notes.append(f"{label}: the motion file does not have it; at the model's default")
        if not _moves(result.coordinates[name]):
            fixed.append(label)
    return MatchedCoordinate(
        name=name,
        unit=unit,
        how="name",
        values=values,
        own_names={r.label: name for r in holders},
        notes=tuple(notes),
        zero_difference=zeros,
        fixed=tuple(fixed),
    )


def _difference(name: str, reference: Probe, other: Probe, angle: bool) -> tuple[float, float, list[str]]:
    """Sign (1 or -1), zero difference (deg or mm) and notes on a coordinate of the same name."""
    if not angle:
        if name not in _TRANSLATIONS or not all(
            p.has("pelvis", "femur_r", "femur_l") for p in (reference, other)
        ):
            return 1.0, 0.0, []
        k = _TRANSLATIONS.index(name)
        zero = float(other.pelvis_origin()[k] - reference.pelvis_origin()[k])
        text = f"its pelvis origin is {zero:+.1f} mm along {'XYZ'[k]} from where the reference has it"
        return 1.0, zero, [text] if abs(zero) > _ZERO_MM else []
    pairs = [*((g.parent, g.child) for g in GROUPS), *_PAIRS]
    pairs = [p for p in pairs if reference.has(*p) and other.has(*p)]
    pairs = [p for p in pairs if name in reference.turns(*p) and name in other.turns(*p)]
    if not pairs:
        return 1.0, 0.0, ["sign and zero could not be checked: it turns no body that both models have"]
    pair = max(pairs, key=lambda p: np.linalg.norm(reference.turns(*p)[name]))
    a, b = reference.turns(*pair)[name], other.turns(*pair)[name]
    cosine = float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
    sign = 1.0 if cosine >= 0 else -1.0
    notes = [] if sign > 0 else ["its sign is opposite; its negative is compared"]
    tilt = float(np.rad2deg(np.arccos(min(abs(cosine), 1.0))))
    if tilt > _TILT_DEG:
        notes.append(f"it turns about an axis {tilt:.1f} degrees from the reference's")
    gain = float(np.linalg.norm(b) / np.linalg.norm(a))
    if abs(gain - 1) > _GAIN:
        notes.append(f"it turns the {pair[1]} by {gain:.3g} times as much as the reference's")
    zero = _about(other.at_zero(*pair) @ reference.at_zero(*pair).T, a)
    if abs(zero) > _ZERO_DEG:
        notes.append(
            f"at zero its {pair[1]} is turned by {zero:+.1f} degrees from where the reference has it; values "
            "are compared as they are"
        )
    return sign, zero, notes


def _zero_angles(probe: Probe, group: Group) -> np.ndarray:
    """(3,) deg, the group's angles in the common convention with all of the model's coordinates at zero."""
    import torch

    from pose2sim_biokin.skeleton.rotations import matrix_to_angles

    matrix = torch.from_numpy(np.ascontiguousarray(probe.at_zero(group.parent, group.child)))
    return np.rad2deg(matrix_to_angles(matrix, torch.tensor(group.axes, dtype=torch.float64)).numpy())


def _driver(name: str, driving: set[str], turns: dict[str, np.ndarray], axis: np.ndarray) -> str | None:
    """The model's own coordinate that turns about this axis: of this name, else the one that does so most."""
    if name in driving:
        return name
    best = max(driving, key=lambda n: (abs(turns[n] @ axis), n), default=None)
    if best is None or abs(turns[best] @ axis) < 0.9 * np.linalg.norm(turns[best]):
        return None
    return best


def _about(rotation: np.ndarray, axis: np.ndarray) -> float:
    """Degrees of a rotation (3, 3) about an axis (3,): that part of its rotation vector."""
    from scipy.spatial.transform import Rotation

    return float(np.rad2deg(Rotation.from_matrix(rotation).as_rotvec()) @ axis / np.linalg.norm(axis))


def _free(model: Model) -> list[str]:
    """Coordinates that do not follow others."""
    return [n for n, given in zip(model.coordinate_names, model.dependent, strict=True) if not given]


def _moves(values: np.ndarray) -> bool:
    seen = values[np.isfinite(values)]
    return len(seen) > 0 and float(np.ptp(seen)) > 1e-6
