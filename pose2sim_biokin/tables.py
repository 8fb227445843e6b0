"""Tables that commands print at their end."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from pose2sim_biokin.compare.comparison import Comparison
    from pose2sim_biokin.compare.session import TrialOutcome


def comparison_tables(comparison: Comparison) -> list[Table]:
    """A table for every result but the reference, of its coordinates; what to know is below the last."""
    tables = []
    for label, metrics in comparison.metrics.items():
        table = _table(
            f"{comparison.trial}: {label} against {comparison.reference}, {len(comparison.time)} frames"
        )
        table.add_column("coordinate", no_wrap=True)
        table.add_column("unit")
        for column in ("MAE", "corrected", "bias", "r", "range", "worst", "at, s"):
            table.add_column(column, justify="right", no_wrap=True)
        for name, row in metrics.items():
            matched = comparison.coordinate(name)
            if {label, comparison.reference} <= set(matched.fixed):
                continue
            table.add_row(
                *(name + ("*" if matched.notes else ""), matched.unit),
                *(_number(v) for v in (row.mae, row.mae_offset_corrected, row.bias)),
                _number(row.pearson_r, 2),
                f"{_number(row.rom, 0)} : {_number(row.rom_reference, 0)}",
                *(_number(row.worst), _number(row.worst_time, 2)),
            )
        tables.append(table)
    tables[-1].caption_justify = "left"
    tables[-1].caption = "\n".join(escape(line) for line in _remarks(comparison))
    return tables


def session_table(outcomes: Sequence[TrialOutcome]) -> Table:
    """One row a trial: its key figures, or why it failed."""
    from pose2sim_biokin.compare.session import key_figures

    figures = {o.trial: key_figures(o.comparison) for o in outcomes if o.comparison is not None}
    columns = list(dict.fromkeys(name for row in figures.values() for name in row))
    table = _table("All trials")
    table.add_column("trial")
    for column in columns:
        table.add_column(escape(column), justify="right")
    table.add_column("")
    for outcome in outcomes:
        row = figures.get(outcome.trial, {})
        cells = [v if isinstance(v, str) else _number(v) for v in (row.get(c) for c in columns)]
        table.add_row(escape(outcome.trial), *cells, escape(outcome.error or ""))
    return table


def check_table(check: dict[str, Any]) -> Table:
    """What `pose2sim_biokin.recheck` found of one trial: a row a camera, and what the motion alone says."""
    table = _table(f"{check['trial']}: {check['result']} against the person's masks")
    table.add_column("camera", no_wrap=True)
    for column in ("frames", "overlap (IoU)", "worst", "at frame", "joints inside"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("least inside")
    for camera, view in check["views"].items():
        limbs = {limb: share for limb, share in view["limbs"].items() if math.isfinite(share)}
        least = min(limbs, key=limbs.get) if limbs else None
        table.add_row(
            escape(camera) + ("" if view["used"] else " (not used)"),
            str(view["frames"]),
            *(_number(view[key], 2) for key in ("iou_mean", "iou_worst")),
            "-" if view["iou_worst_frame"] is None else str(view["iou_worst_frame"]),
            _number(view["joints_inside"], 2),
            "-" if least is None else f"{least} {limbs[least]:.2f}",
        )
    feet = check["feet"]
    table.caption_justify = "left"
    table.caption = (
        f"Standing feet slide at {_number(feet['sliding_m_s'], 2)} m/s and reach "
        f"{_number(100 * feet['penetration_m_worst'])} cm below the floor (at {_number(feet['floor_m'], 2)} "
        f"m, as they stand). Swapped sides: {check['flips']} frames; sudden turns: "
        f"{check['facing_jumps']}. Median jerk of the joints: {_number(check['jerk_m_s3'], 0)} m/s3."
    )
    return table


def _remarks(comparison: Comparison) -> list[str]:
    lines = ["corrected: MAE without the bias; range: of the result : of the reference; *: see below."]
    for label in comparison.labels[1:]:
        summary = comparison.summary(label)
        lines.append(
            f"{label}: {summary['joint_angles']} joint angles, MAE {_number(summary['mae_deg'])} deg "
            f"(offset-corrected {_number(summary['mae_offset_corrected_deg'])}), MPJPE "
            f"{_number(summary['mpjpe_mm'])} mm, PA-MPJPE {_number(summary['pa_mpjpe_mm'])} mm, pelvis path "
            f"{_number(summary['pelvis_path_mm'])} mm, lag {_number(summary['lag_s'], 3)} s."
        )
    times = [f"{k} {_number(v)} s" for k, v in comparison.run_times_s.items() if v is not None]
    if times:
        lines.append(f"Run times: {', '.join(times)}.")
    return [*lines, *(f"* {flag}" for flag in comparison.flags)]


def _table(title: str) -> Table:
    return Table(title=escape(title), title_justify="left", box=None, pad_edge=False)


def _number(value: float | None, digits: int = 1) -> str:
    return "-" if value is None or not math.isfinite(value) else f"{value:.{digits}f}"
