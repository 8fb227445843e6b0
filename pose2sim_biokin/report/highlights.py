"""What a reader of a comparison should look at first, found in its numbers."""

from __future__ import annotations

import numpy as np

from pose2sim_biokin.compare.comparison import Comparison, CoordinateMetrics
from pose2sim_biokin.compare.probing import GROUPS
from pose2sim_biokin.report import names
from pose2sim_biokin.report.page import Look, number, slug

_MOSTLY_OFFSET = 0.5  # of an error goes when the bias is taken out: it is mostly an offset
_WORTH_DEG = 3.0  # offsets below are not worth a line
_PELVIS_DEG = 10.0  # orientations of the pelvis further apart than this come before single joints


def panel_id(coordinate: str, kind: str = "curve", label: str = "") -> str:
    """Id of a coordinate's figure."""
    return "-".join(part for part in (kind, coordinate, slug(label) if label else "") if part)


def comparison_looks(comparison: Comparison) -> list[Look]:
    """Candidates with their weights; `page.three` takes the heaviest."""
    looks = []
    for label in comparison.labels[1:]:
        looks += _coordinates(comparison, label)
        looks += _pelvis(comparison, label)
        looks += _timing(comparison, label)
        looks += _places(comparison, label)
    looks += _gaps(comparison)
    looks += _lengths(comparison)
    return looks


def _coordinates(comparison: Comparison, label: str) -> list[Look]:
    rows = {name: comparison.metrics[label][name] for name in comparison.joint_angles(label)}
    rows = {name: row for name, row in rows.items() if np.isfinite(row.mae)}
    if not rows:
        return []
    against = f"{label} against {comparison.reference}"
    worst = max(rows, key=lambda name: rows[name].mae)
    row = rows[worst]
    looks = [
        Look(
            f"{names.full_title(worst)} differs most.",
            _error(against, row),
            panel_id(worst),
            "See the curves",
            row.worst_time,
            50 + row.mae,
        )
    ]
    others = {name: row for name, row in rows.items() if name != worst}
    offset = max(others, key=lambda name: abs(others[name].bias), default=None)
    if offset is not None:
        row = others[offset]
        constant = row.mae_offset_corrected < _MOSTLY_OFFSET * row.mae and abs(row.bias) > _WORTH_DEG
        if constant:
            looks.append(
                Look(
                    f"{names.full_title(offset)} differs by an offset.",
                    f"{against}: {number(row.bias, 1, True)}° all the time; without it "
                    f"{number(row.mae_offset_corrected)}° of {number(row.mae)}° are left.",
                    panel_id(offset, "agreement", label),
                    "See the agreement",
                    None,
                    30 + abs(row.bias),
                )
            )
    second = max(others, key=lambda name: others[name].mae, default=None)
    if second is not None:
        row = others[second]
        looks.append(
            Look(
                f"{names.full_title(second)} comes next.",
                _error(against, row),
                panel_id(second),
                "See the curves",
                row.worst_time,
                8 + row.mae,
            )
        )
    return looks


def _error(against: str, row: CoordinateMetrics) -> str:
    worst = f"{number(row.worst, 1, True)}° at {row.worst_time:.2f} s"
    return f"{against}: {number(row.mae)}° on average, {worst}."


def _pelvis(comparison: Comparison, label: str) -> list[Look]:
    """The pelvis carries all else: where it is turned, so is everything in the room."""
    apart = comparison.orientation.get(label, {}).get("pelvis")
    if apart is None or not np.isfinite(apart).any() or np.nanmean(apart) < _PELVIS_DEG:
        return []
    row = int(np.nanargmax(apart))
    moment = float(comparison.time[row])
    turns = next(group.names for group in GROUPS if group.child == "pelvis")
    rows = {n: r for n, r in comparison.metrics[label].items() if n in turns and np.isfinite(r.mae)}
    worst = max(rows, key=lambda name: rows[name].mae, default=None)
    mostly = f" Most of it is {names.title(worst)} ({number(rows[worst].mae)}°)." if worst else ""
    return [
        Look(
            "The pelvis is turned.",
            f"{label} against {comparison.reference}: {number(float(np.nanmean(apart)))}° on average, "
            f"{number(float(apart[row]))}° at {moment:.2f} s.{mostly}",
            panel_id(worst) if worst else "motion",
            "See the curves",
            moment,
            60 + float(np.nanmean(apart)),
        )
    ]


def _timing(comparison: Comparison, label: str) -> list[Look]:
    lag = comparison.lag_s.get(label)
    step = float(np.median(np.diff(comparison.time)))
    if lag is None or abs(lag) < step:  # within a frame nothing can be read from it
        return []
    when = "later" if lag > 0 else "earlier"
    done = "That is taken out." if comparison.lag_applied else "That is not taken out."
    text = f"{number(abs(lag), 3)} s than {comparison.reference} by cross-correlation. {done}"
    return [Look(f"{label} is {when}.", text, "motion", "See the curves", None, 40.0)]


def _places(comparison: Comparison, label: str) -> list[Look]:
    points = comparison.points.get(label)
    if points is None or not np.isfinite(points.mpjpe_frames).any():
        return []
    row = int(np.nanargmax(points.mpjpe_frames))
    moment = float(comparison.time[row])
    return [
        Look(
            "The skeletons are furthest apart in one moment.",
            f"At {moment:.2f} s the joint centres of {label} and {comparison.reference} differ by "
            f"{number(float(points.mpjpe_frames[row]), 0)} mm, pelvis on pelvis "
            f"({number(points.mpjpe, 0)} mm on average).",
            "player",
            "See the skeletons",
            moment,
            25.0,
        )
    ]


def _gaps(comparison: Comparison) -> list[Look]:
    missing = {r.label: int((~r.posed).sum()) for r in comparison.aligned}
    missing = {label: count for label, count in missing.items() if count}
    if not missing:
        return []
    first = min(float(comparison.time[np.argmin(r.posed)]) for r in comparison.aligned if r.label in missing)
    counts = ", ".join(f"{label} {count}" for label, count in missing.items())
    text = f"Of {len(comparison.time)} common frames: {counts}; the first at {first:.2f} s. None is counted."
    return [Look("Frames without a pose.", text, "quality", "See the quality flags", first, 45.0)]


def _lengths(comparison: Comparison) -> list[Look]:
    gaps = {
        segment: max(by.values()) - min(by.values())
        for segment, by in comparison.segments.items()
        if len(by) > 1
    }
    if not gaps:
        return []
    segment = max(gaps, key=lambda name: gaps[name])
    by = ", ".join(
        f"{label} {number(100 * length)} cm" for label, length in comparison.segments[segment].items()
    )
    weight = 10 + 1000 * gaps[segment] / 10
    title = f"{names.full_title(segment)} differs most in length."
    return [Look(title, f"{by}.", "segments", "See the segments", None, min(weight, 30.0))]
