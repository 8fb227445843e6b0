"""Results in, comparison out."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pose2sim_biokin.compare.alignment import common_time, estimate_lag
from pose2sim_biokin.compare.comparison import Comparison, MatchedCoordinate
from pose2sim_biokin.compare.matching import match, relative_orientation
from pose2sim_biokin.compare.metrics import coordinate_metrics, point_metrics, rotation_angle, smoothness
from pose2sim_biokin.compare.result import BackendResult
from pose2sim_biokin.errors import BiokinError
from pose2sim_biokin.quality import versions

_BODIES = (
    "pelvis",
    "torso",
    *(f"{b}_{s}" for s in "rl" for b in ("femur", "tibia", "calcn", "humerus", "ulna")),
)
_FAR_MM = 500.0  # pelves that are further apart hardly stand in the same world
_LAG_FRAMES = 0.5  # lags from here on are worth a flag


def compare_results(
    results: Sequence[BackendResult],
    *,
    name: str | None = None,
    trial: str = "",
    align: bool = False,
    notes: Sequence[str] = (),
    provenance: dict[str, Any] | None = None,
) -> Comparison:
    """Compare two or more results; the first is the reference.

    Args:
        results: with labels that differ.
        name: of the comparison; the labels when absent.
        trial: what the trial is called.
        align: shift every result in time by its estimated lag; without it the lag is only reported.
        notes: flags that come first, such as what was missing.
        provenance: added to versions and files.

    Raises:
        BiokinError: less than two results, labels that are the same, no time or no coordinate in common.
    """
    labels = [result.label for result in results]
    if len(results) < 2:
        found = f"{len(results)}: {labels[0]}" if labels else "none"
        raise BiokinError(f"Expected two or more results to compare, found {found}.")
    twice = next((label for label in labels if labels.count(label) > 1), None)
    if twice is not None:
        raise BiokinError(f'Two results are called "{twice}"; give each a label of its own.')
    flags = list(notes)
    time, aligned, coordinates, unmatched, lags, found = _on_one_time_base(results)
    if align and any(lag for lag in lags.values()):
        shifted = [r.shifted(-(lags.get(r.label) or 0.0)) for r in results]
        time, aligned, coordinates, unmatched, _, found = _on_one_time_base(shifted)
    flags += found
    if not any(np.isfinite(list(c.values.values())).all(axis=0).any() for c in coordinates):
        raise BiokinError(f"{', '.join(labels)}: no frame in which all have a pose; nothing to compare.")

    reference = aligned[0]
    metrics, points, orientation = {}, {}, {}
    for result in aligned[1:]:
        label = result.label
        metrics[label] = {
            c.name: coordinate_metrics(
                c.values[label], c.values[reference.label], time, angle=c.unit == "deg"
            )
            for c in coordinates
            if label in c.values
        }
        figures = point_metrics(result.joint_centers, reference.joint_centers)
        if figures is None:
            flags.append(f"{label} and {reference.label} share too few joint centres: no position errors.")
        else:
            points[label] = figures
        orientation[label] = _orientation(result, reference)
    flags += _remarks(results, coordinates, unmatched, lags, points, align, time)
    return Comparison(
        name=name or "_vs_".join(labels),
        trial=trial,
        results=tuple(results),
        aligned=tuple(aligned),
        time=time,
        coordinates=tuple(coordinates),
        unmatched=unmatched,
        metrics=metrics,
        points=points,
        orientation=orientation,
        smoothness={
            r.label: {c.name: smoothness(c.values[r.label], time) for c in coordinates if r.label in c.values}
            for r in aligned
        },
        segments=_segments(results),
        lag_s=lags,
        lag_applied=align,
        flags=tuple(flags),
        run_times_s={r.label: r.run_time_s for r in results},
        provenance=_provenance(results) | (provenance or {}),
    )


def _on_one_time_base(results: Sequence[BackendResult]):
    time, flags = common_time(results)
    aligned = [result.at(time) for result in results]
    coordinates, unmatched = match(aligned)
    reference = results[0].label
    rate = 1 / float(np.median(np.diff(time)))
    wanted = {c.name: c.values[reference] for c in coordinates if c.unit == "deg"}
    lags = {
        result.label: estimate_lag(
            {
                c.name: c.values[result.label]
                for c in coordinates
                if c.unit == "deg" and result.label in c.values
            },
            wanted,
            rate,
        )
        for result in results[1:]
    }
    return time, aligned, coordinates, unmatched, lags, flags


def _orientation(result: BackendResult, reference: BackendResult) -> dict[str, np.ndarray]:
    """Body -> (T,) deg between the orientations in both, relative to the pelvis (the pelvis to ground)."""
    shared = [b for b in _BODIES if b in result.body_rotations and b in reference.body_rotations]
    if "pelvis" not in shared:
        return {}
    pairs = [(b, "" if b == "pelvis" else "pelvis") for b in shared]
    return {
        body: rotation_angle(*(relative_orientation(r, parent, body) for r in (result, reference)))
        for body, parent in pairs
    }


def _segments(results: Sequence[BackendResult]) -> dict[str, dict[str, float]]:
    names = list(dict.fromkeys(name for r in results for name in r.segment_lengths))
    return {n: {r.label: r.segment_lengths[n] for r in results if n in r.segment_lengths} for n in names}


def _remarks(
    results: Sequence[BackendResult],
    coordinates: Sequence[MatchedCoordinate],
    unmatched: dict[str, tuple[str, ...]],
    lags: dict[str, float | None],
    points: dict,
    align: bool,
    time: np.ndarray,
) -> list[str]:
    """What a reader must know about models, lag and worlds."""
    flags = []
    notes: dict[str, list[str]] = {}
    for coordinate in coordinates:
        for note in coordinate.notes:
            notes.setdefault(note, []).append(coordinate.name)
    flags += [f"{', '.join(names)}: {note}." for note, names in notes.items()]
    turned = [c.name for c in coordinates if c.how == "segment orientation"]
    if turned:
        flags.append(
            f"{', '.join(turned)} are told by segment orientation, in one convention for all models, not by "
            "the models' own coordinates."
        )
    for label, names in unmatched.items():
        if names:
            flags.append(f"{label} has coordinates without counterpart: {', '.join(names)}.")
    for r in results:
        if r.assumed:
            flags.append(
                f"{r.mot.name} does not have {', '.join(r.assumed)}: at the model's default in {r.label}."
            )
    step = float(np.median(np.diff(time)))
    for label, lag in lags.items():
        if lag is not None and abs(lag) > _LAG_FRAMES * step:
            what = "taken out" if align else "not taken out"
            flags.append(
                f"{label} is {abs(lag):.3f} s {'later' if lag > 0 else 'earlier'} than {results[0].label} by "
                f"cross-correlation; {what}."
            )
    for label, figures in points.items():
        if figures.pelvis_path > _FAR_MM:
            flags.append(
                f"The pelvis of {label} is {figures.pelvis_path:.0f} mm from that of {results[0].label} on "
                "average: the two may stand in different worlds. Then pelvis coordinates, pelvis path and "
                "MPJPE in the world mean nothing; joint angles and PA-MPJPE do."
            )
    return flags


def _provenance(results: Sequence[BackendResult]) -> dict[str, Any]:
    rows = {}
    for r in results:
        row: dict[str, Any] = {
            "model": r.model.name,
            "posed_by": "pose2sim_biokin" if r.skeleton is not None else "opensim",
            "osim": _file(r.osim),
            "mot": _file(r.mot),
            "frames": len(r.time),
            "rate_hz": round(r.rate, 4),
        }
        if r.quality is not None:
            keys = ("views", "frame_range", "segmentation", "participant_mass_kg", "versions", "network")
            row |= {key: r.quality[key] for key in keys if key in r.quality}
            row["warnings"] = r.quality.get("warnings", [])
        rows[r.label] = row
    return {"versions": versions(), "results": rows}


def _file(path: Path) -> dict[str, str]:
    return {"path": str(path), "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
