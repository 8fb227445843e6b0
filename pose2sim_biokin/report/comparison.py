"""The page of a comparison: two or more backends on the same trial, beside the one they are measured against.

Every number on it is one of `Comparison.to_json`, rounded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pose2sim_biokin.compare.comparison import Comparison, MatchedCoordinate
from pose2sim_biokin.compare.metrics import wrapped
from pose2sim_biokin.io.project import View
from pose2sim_biokin.report import names
from pose2sim_biokin.report.figures import DIGITS, UNITS, Payload, displayed, figure, span, strip
from pose2sim_biokin.report.highlights import comparison_looks, panel_id
from pose2sim_biokin.report.page import (
    Block,
    Group,
    Item,
    KeyFigure,
    Panel,
    number,
    safe,
    sections,
    series,
    slug,
    three,
    write_page,
)
from pose2sim_biokin.report.quality import items
from pose2sim_biokin.report.sources import beside, footer, provenance
from pose2sim_biokin.report.tables import (
    joint_table,
    metrics_table,
    orientation_table,
    segment_table,
    smoothness_table,
)
from pose2sim_biokin.report.video import comparison_stills, views_of

_POINTS = 200  # marks in a Bland-Altman figure


def write_comparison_report(
    comparison: Comparison,
    path: str | Path,
    views: Sequence[View] | None = None,
    config: Mapping[str, Any] | None = None,
    files: Sequence[Path] = (),
) -> Path:
    """Write the page of a comparison: curves and differences, skeletons, agreement, segments, provenance.

    Args:
        comparison: the results, matched and measured.
        path: the .html file; replaced in one step. comparison.json and comparison.csv in its folder are
            linked where they exist.
        views: cameras with recordings, for the overlay pictures; found through the results' quality files
            when absent.
        config: the trial's merged Config.toml, for the provenance.
        files: others to link, such as side-by-side videos.

    Raises:
        BiokinError: the file cannot be written.
    """
    path = Path(path)
    labels = comparison.labels
    styles = series(labels)
    payload = Payload(comparison.time, styles)
    figures = []
    for i, result in enumerate(comparison.aligned):
        drawn = figure(result)
        if drawn is not None:
            payload.skeleton(i, drawn)
            figures.append((styles[i], drawn))
    svg, caption = strip(figures, comparison.time)
    shown = [c for c in comparison.coordinates if not set(c.values) <= set(c.fixed)]
    still = [c.name for c in comparison.coordinates if c not in shown]
    blocks = [_segments(comparison, payload)] if comparison.segments else []
    blocks.append(_agreement(comparison, shown, payload))
    pictures = comparison_stills(comparison, styles, views_of(comparison, config) if views is None else views)
    if pictures:
        text = "All results over what the cameras saw, in the colours of the curves."
        blocks.append(Block("overlays", "Overlay frames", text, stills=pictures))
    blocks.append(_quality(comparison))
    tables = [metrics_table(comparison), joint_table(comparison), orientation_table(comparison)]
    tables.append(smoothness_table(comparison))
    blocks.append(Block("numbers", "Numbers", tables=[table for table in tables if table is not None]))
    notes = [f"They move in no result and are not drawn: {', '.join(still)}."] if still else []
    known = [path.with_name("comparison.json"), path.with_name("comparison.csv"), *files]
    trial = comparison.trial or comparison.name
    page = {
        "kind": "comparison",
        "title": f"{trial}: {' and '.join(labels)}",
        "kicker": "pose2sim_biokin · comparison",
        "heading": trial,
        "lead": _lead(comparison),
        "sections": sections(blocks),
        "key_figures": _key_figures(comparison),
        "look": three(comparison_looks(comparison)),
        "notes": notes,
        "files": beside(path, [file for file in known if file.is_file()]),
        "sources": styles,
        "legend": styles,
        "strip": safe(svg),
        "strip_caption": caption,
        "frame_count": len(comparison.time),
        "groups": _groups(comparison, shown, payload),
        "blocks": blocks,
        "provenance": provenance(comparison.results, config),
        "footer": footer(),
        "payload": payload.plain(),
        "arrays": payload.arrays.text(),
    }
    return write_page(path, "report.html.j2", page)


def _lead(comparison: Comparison) -> str:
    time, others = comparison.time, comparison.labels[1:]
    rate = 1 / float(np.median(np.diff(time)))
    return (
        f"{', '.join(others)} against {comparison.reference}: {len(time)} common frames, "
        f"{time[-1] - time[0]:.2f} s at {rate:.4g} Hz. Errors are result minus {comparison.reference}."
    )


def _key_figures(comparison: Comparison) -> list[KeyFigure]:
    found = []
    for label in comparison.labels[1:]:
        about = comparison.summary(label)
        several = f"{label}: " if len(comparison.labels) > 2 else ""
        rows = (
            ("mae_deg", "Mean error of the joint angles (MAE)", 1, "°", f"{about['joint_angles']} angles"),
            ("mae_offset_corrected_deg", "The same without constant offsets", 1, "°", ""),
            ("pearson_r", "Correlation, mean", 2, "", ""),
            ("pa_mpjpe_mm", "Joint centres after alignment (PA-MPJPE)", 0, "mm", ""),
            ("pelvis_path_mm", "Distance of the pelvis paths", 0, "mm", ""),
            ("lag_s", "Lag by cross-correlation", 3, "s", "taken out" if comparison.lag_applied else ""),
        )
        found += [
            KeyFigure(
                f"summary.{label}.{key}",
                several + text,
                number(about[key], digits, key == "lag_s"),
                unit if about[key] is not None else "",
                note,
            )
            for key, text, digits, unit, note in rows
        ]
    for label, seconds in comparison.run_times_s.items():
        known = seconds is not None
        found.append(
            KeyFigure(
                f"run_times_s.{label}",
                f"{label} computed in",
                number(seconds, 1),
                "s" if known else "",
                "" if known else "not known",
            )
        )
    return found


def _groups(comparison: Comparison, shown: Sequence[MatchedCoordinate], payload: Payload) -> list[Group]:
    index = {label: i for i, label in enumerate(comparison.labels)}
    groups = []
    for title, pairs in names.grouped(c.name for c in shown).items():
        panels = []
        for pair in pairs:
            sides = {side: comparison.coordinate(name) for side, name in pair.names.items()}
            unit = next(iter(sides.values())).unit
            errors = {side: _errors(comparison, c) for side, c in sides.items()}
            # right and left on the same axes, so that they can be compared
            limits = span([v for c in sides.values() for v in c.values.values()], unit)
            low, high = span([e for es in errors.values() for e in es.values()], unit, zero=True)
            for side, coordinate in sides.items():
                lines = {index[label]: values for label, values in coordinate.values.items()}
                differences = [
                    (index[label], 0, values, f"{label} − {comparison.reference}")
                    for label, values in errors[side].items()
                ]
                key = payload.curves(lines, unit, differences, limits=limits, difference_limits=(low, high))
                stats = _stats(comparison, coordinate)
                name = names.full_title(coordinate.name)
                panels.append(
                    Panel(
                        panel_id(coordinate.name),
                        key,
                        name,
                        stats,
                        f"Curves over time of {name} by {', '.join(coordinate.values)}, and differences. "
                        f"{stats}.",
                        tall=bool(differences),
                        column={"r": 1, "l": 2}.get(side, 0),
                    )
                )
        groups.append(Group(f"group-{slug(title)}", title, panels))
    return groups + _alone(comparison, payload)


def _alone(comparison: Comparison, payload: Payload) -> list[Group]:
    """Coordinates that one result has and no other, as far as they move."""
    groups = []
    for i, result in enumerate(comparison.aligned):
        panels = []
        for name in comparison.unmatched.get(result.label, ()):
            values, unit = displayed(result, name)
            if not np.isfinite(values).any() or np.nanmax(values) - np.nanmin(values) < 1e-3:
                continue
            title = names.full_title(name)
            words = f"Curve over time of {title}, {result.label} only."
            key = payload.curves({i: values}, unit)
            place = panel_id(name, "alone", result.label)
            panels.append(Panel(place, key, title, f"{result.label} only", words))
        if panels:
            groups.append(Group(f"group-alone-{slug(result.label)}", f"Only in {result.label}", panels))
    return groups


def _errors(comparison: Comparison, coordinate: MatchedCoordinate) -> dict[str, np.ndarray]:
    """Label -> (T,) result minus reference, as the metrics have it."""
    reference = coordinate.values.get(comparison.reference)
    if reference is None:
        return {}
    return {
        label: wrapped(values - reference) if coordinate.unit == "deg" else values - reference
        for label, values in coordinate.values.items()
        if label != comparison.reference
    }


def _stats(comparison: Comparison, coordinate: MatchedCoordinate) -> str:
    unit, digits = UNITS[coordinate.unit], DIGITS[coordinate.unit]
    rows = {
        label: comparison.metrics[label][coordinate.name]
        for label in comparison.labels[1:]
        if coordinate.name in comparison.metrics[label]
    }
    texts = []
    for label, row in rows.items():
        text = f"MAE {number(row.mae, digits)}{unit} · bias {number(row.bias, digits, True)}{unit}"
        text += f" · r {number(row.pearson_r, 2)}" if np.isfinite(row.pearson_r) else ""
        texts.append(text if len(comparison.labels) == 2 else f"{label}: {text}")
    fixed = f" · does not move in {', '.join(coordinate.fixed)}" if coordinate.fixed else ""
    return "; ".join(texts) + fixed


def _segments(comparison: Comparison, payload: Payload) -> Block:
    rows = [names.full_title(name) for name in comparison.segments]
    lines = [
        {
            "source": i,
            "x": [round(100 * by[label], 2) if label in by else None for by in comparison.segments.values()],
        }
        for i, label in enumerate(comparison.labels)
    ]
    key = payload.chart({"kind": "segments", "rows": rows, "lines": lines})
    panel = Panel(
        "segment-chart", key, "Lengths", "", "Length of each segment; the table below has the numbers."
    )
    text = "Between joint centres of the scaled models, all coordinates zero."
    table = segment_table(comparison)
    return Block("segments", "Segment lengths", text, panels=[panel], layout="one", tables=[table])


def _agreement(comparison: Comparison, shown: Sequence[MatchedCoordinate], payload: Payload) -> Block:
    """Bland-Altman figures: difference over mean of both, bias and limits of agreement."""
    panels = []
    for coordinate in shown:
        reference = coordinate.values.get(comparison.reference)
        for label, error in _errors(comparison, coordinate).items():
            row = comparison.metrics[label].get(coordinate.name)
            if row is None or coordinate.fixed or not np.isfinite(row.limits).all():
                continue
            rows = np.flatnonzero(np.isfinite(error))
            rows = rows[np.linspace(0, len(rows) - 1, min(_POINTS, len(rows))).round().astype(int)]
            unit, digits = UNITS[coordinate.unit], DIGITS[coordinate.unit]
            lower, upper = row.limits
            texts = [number(value, digits, True) + unit for value in (lower, row.bias, upper)]
            key = payload.chart(
                {
                    "kind": "agreement",
                    "sources": [comparison.labels.index(label), 0],
                    "mean": payload.arrays.add(reference[rows] + error[rows] / 2),
                    "difference": payload.arrays.add(error[rows]),
                    "label": label,
                    "unit": unit,
                    "bias": row.bias,
                    "lower": lower,
                    "upper": upper,
                    "range": span([error, np.array(row.limits)], coordinate.unit, zero=True),
                }
            )
            name = names.full_title(coordinate.name)
            stats = f"{texts[1]} ({texts[0]} to {texts[2]})"
            many = f"{label}: " if len(comparison.labels) > 2 else ""
            panels.append(
                Panel(
                    panel_id(coordinate.name, "agreement", label),
                    key,
                    many + name,
                    stats,
                    f"Bland-Altman plot of {name}, {label} against {comparison.reference}: {stats}.",
                )
            )
    text = (
        f"Difference to {comparison.reference} over the mean of both: bias (line) and 95 % limits of "
        f"agreement (dashed), from all frames; up to {_POINTS} frames are drawn. Frames of one trial are not "
        "independent."
    )
    return Block("agreement", "Agreement (Bland-Altman)", text, panels=panels)


def _quality(comparison: Comparison) -> Block:
    found = [Item("info", "Comparison.", flag) for flag in comparison.flags]
    for result in comparison.results:
        found += [Item(item.level, f"{result.label}: {item.title}", item.text) for item in items(result)]
    return Block("quality", "Quality flags", items=found)
