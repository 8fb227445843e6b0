"""The comparison's numbers as tables: those of comparison.json, rounded."""

from __future__ import annotations

import numpy as np

from pose2sim_biokin.compare.comparison import Comparison
from pose2sim_biokin.report import names
from pose2sim_biokin.report.page import Table, number


def metrics_table(comparison: Comparison) -> Table:
    """Coordinates, one row each and for each result."""
    several = len(comparison.labels) > 2
    rows = []
    for coordinate in comparison.coordinates:
        for label in comparison.labels[1:]:
            row = comparison.metrics[label].get(coordinate.name)
            if row is None:
                continue
            digits = 1
            lower, upper = row.limits
            limits = (
                f"{number(lower, digits, True)} to {number(upper, digits, True)}"
                if np.isfinite(lower)
                else "–"
            )
            rows.append(
                [
                    coordinate.name,
                    *([label] if several else []),
                    coordinate.unit,
                    *(number(v, digits) for v in (row.mae, row.rmse, row.mae_offset_corrected)),
                    number(row.bias, digits, True),
                    number(row.sd, digits),
                    limits,
                    number(row.pearson_r, 2),
                    number(row.rom, digits),
                    number(row.rom_reference, digits),
                    number(row.worst, digits, True),
                    number(row.worst_time, 2),
                    str(row.frames),
                ]
            )
    columns = ["Coordinate", *(["result"] if several else []), "unit", "MAE", "RMSE", "MAE without offset"]
    columns += ["bias", "SD", "95 % limits", "r", "range", "range, reference", "worst", "at, s", "frames"]
    text = f"Errors are result minus {comparison.reference}; angles the short way round."
    return Table("Coordinates", columns, rows, text)


def joint_table(comparison: Comparison) -> Table | None:
    """Joint centres: mean distances, mm."""
    if not comparison.points:
        return None
    labels = list(comparison.points)
    joints = list(dict.fromkeys(joint for points in comparison.points.values() for joint in points.per_joint))
    rows = [
        [
            name.replace("_", " "),
            *(number(comparison.points[label].per_joint.get(name), 0) for label in labels),
        ]
        for name in joints
    ]
    for key, title in (
        ("mpjpe", "All, pelvis on pelvis (MPJPE)"),
        ("pa_mpjpe", "All, after alignment (PA-MPJPE)"),
        ("mpjpe_world", "All, in the world"),
        ("pelvis_path", "Pelvis path"),
        ("pelvis_path_max", "Pelvis path, largest"),
        ("pelvis_path_offset_corrected", "Pelvis path without offset"),
    ):
        rows.append([title, *(number(getattr(comparison.points[label], key), 0) for label in labels)])
    text = f"Mean distance to {comparison.reference}; single joints with the hips' midpoints on each other."
    return Table("Joint centres", ["Joint centre", *(f"{label}, mm" for label in labels)], rows, text)


def orientation_table(comparison: Comparison) -> Table | None:
    """Bodies: mean angle between the orientations."""
    labels = [label for label, bodies in comparison.orientation.items() if bodies]
    if not labels:
        return None
    bodies = list(dict.fromkeys(body for label in labels for body in comparison.orientation[label]))

    def mean(label: str, body: str) -> float | None:
        values = comparison.orientation[label].get(body)
        return float(np.nanmean(values)) if values is not None and np.isfinite(values).any() else None

    rows = [[body, *(number(mean(label, body)) for label in labels)] for body in bodies]
    text = "Mean angle between the bodies' axes, relative to the pelvis; the pelvis in the world."
    return Table("Orientation of bodies", ["Body", *(f"{label}, deg" for label in labels)], rows, text)


def smoothness_table(comparison: Comparison) -> Table:
    """How jerky each result is."""
    rows = []
    for coordinate in comparison.coordinates:
        cells = []
        for label in comparison.labels:
            found = comparison.smoothness.get(label, {}).get(coordinate.name)
            cells += [number(found and found.rms_jerk, 0), number(found and found.log_dimensionless_jerk, 1)]
        rows.append([coordinate.name, coordinate.unit, *cells])
    columns = [f"{label}, {what}" for label in comparison.labels for what in ("RMS jerk, unit/s³", "LDLJ")]
    text = "Jerk is the third derivative. LDLJ, the log dimensionless jerk: the nearer to zero, the smoother."
    return Table("Smoothness", ["Coordinate", "unit", *columns], rows, text)


def segment_table(comparison: Comparison) -> Table:
    """Segment lengths of every result and differences to the reference."""
    labels, reference = comparison.labels, comparison.reference
    rows = []
    for segment, by in comparison.segments.items():
        lengths = [number(100 * by[label], 1) if label in by else "–" for label in labels]
        gaps = [
            number(1000 * (by[label] - by[reference]), 0, True) if label in by and reference in by else "–"
            for label in labels[1:]
        ]
        rows.append([names.full_title(segment), *lengths, *gaps])
    columns = [f"{label}, cm" for label in labels] + [f"{label} − {reference}, mm" for label in labels[1:]]
    return Table("Lengths in numbers", ["Segment", *columns], rows)
