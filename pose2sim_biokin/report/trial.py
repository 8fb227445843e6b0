"""The page of one trial and one backend: what `[biokin] report` writes after every run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from pose2sim_biokin.compare.result import BackendResult
from pose2sim_biokin.report import names
from pose2sim_biokin.report.figures import DIGITS, UNITS, Payload, displayed, figure, strip
from pose2sim_biokin.report.page import (
    Block,
    Group,
    KeyFigure,
    Look,
    Panel,
    Series,
    Table,
    number,
    safe,
    sections,
    slug,
    three,
    write_page,
)
from pose2sim_biokin.report.quality import overlay_stills, quality_block, quality_looks, stretches
from pose2sim_biokin.report.sources import beside, footer, provenance

_SIDES = ("r", "l", "")
LEGEND = (
    Series("Right", "#d55e00", "solid", "none", "circle", "circle"),
    Series("Left", "#0072b2", "dash", "8 4", "diamond", "diamond"),
    Series("Trunk and pelvis", "#78828c", "solid", "none", "square", "square"),
)


def write_trial_report(
    result: BackendResult, path: str | Path, config: Mapping[str, Any] | None = None
) -> Path:
    """Write the page of one result: curves, skeleton, segment lengths, quality, provenance.

    The overlay videos beside the motion file, if there are any, give the pictures.

    Args:
        result: as `compare.result.read_result` reads it; its quality file, if there is one, says which frames
            have no pose and what the cameras saw.
        path: the .html file; replaced in one step.
        config: the trial's merged Config.toml, for the provenance.

    Raises:
        BiokinError: the file cannot be written.
    """
    path = Path(path)
    result = on_whole_trial(result)
    payload = Payload(result.time, LEGEND)
    for start, stop in stretches(result, "interpolated"):
        payload.shade(start, stop)
    drawn = figure(result)
    svg, caption = "", "The model has no joint centres that go by a common name: nothing to draw."
    if drawn is not None:
        for i, side in enumerate(_SIDES):
            links = [k for k, s in enumerate(drawn.sides) if s == side]
            payload.skeleton(i, drawn, links)
        parts = [
            (
                LEGEND[i],
                replace(
                    drawn, links=tuple(b for b, s in zip(drawn.links, drawn.sides, strict=True) if s == side)
                ),
            )
            for i, side in enumerate(_SIDES)
        ]
        svg, caption = strip(parts, result.time)
    groups, still = _groups(result, payload)
    blocks = [_segments(result, payload)] if result.segment_lengths else []
    pictures = overlay_stills(result)
    if pictures:
        blocks.append(
            Block(
                "overlays",
                "Overlay frames",
                "What the cameras saw, with the skeleton that was found.",
                stills=pictures,
            )
        )
    blocks.append(quality_block(result, payload))
    blocks.append(Block("numbers", "Numbers", tables=[_ranges(result)]))
    looks = three([*quality_looks(result), *_motion_looks(result)])
    about = result.quality or {}
    trial = str(about.get("trial") or result.mot.parent.parent.name)
    notes = [f"Locked or driven by others, and not drawn: {', '.join(still)}."] if still else []
    if result.assumed:
        notes.append(f"Not in the motion file, taken at the model's default: {', '.join(result.assumed)}.")
    page = {
        "kind": "trial",
        "title": f"{trial}: joint angles by {result.label}",
        "kicker": f"pose2sim_biokin · trial report · {result.mot.name}",
        "heading": trial,
        "lead": _lead(result),
        "sections": sections(blocks),
        "key_figures": _key_figures(result),
        "look": looks,
        "notes": notes,
        "files": beside(path, [result.mot, result.osim, *_quality_file(result)]),
        "sources": LEGEND[:1],
        "legend": LEGEND,
        "strip": safe(svg),
        "strip_caption": caption,
        "frame_count": len(result.time),
        "groups": groups,
        "blocks": blocks,
        "provenance": provenance([result], config),
        "footer": footer(),
        "payload": payload.plain(),
        "arrays": payload.arrays.text(),
    }
    return write_page(path, "report.html.j2", page)


def on_whole_trial(result: BackendResult) -> BackendResult:
    """The motion with a row for every frame of the trial, NaN where there is no pose.

    Motion files leave such frames out; the quality file knows them. Without it, each gap gets one row.
    """
    frames = (result.quality or {}).get("frames") or {}
    time = np.asarray(frames.get("time_s") or [], dtype=np.float64)
    rows = np.abs(time[:, None] - result.time).argmin(axis=0) if len(time) else np.zeros(0, int)
    if not len(time) or not np.allclose(time[rows], result.time, atol=0.25 / result.rate, rtol=0):
        middles = [(a + b) / 2 for a, b in result.gaps]
        time = np.sort(np.concatenate([result.time, middles]))
        rows = np.searchsorted(time, result.time)

    def placed(values: np.ndarray) -> np.ndarray:
        whole = np.full((len(time), *values.shape[1:]), np.nan)
        whole[rows] = values
        return whole

    many = ("coordinates", "joint_centers", "body_rotations", "body_positions")
    return replace(
        result,
        time=time,
        rows=np.where(np.isfinite(placed(result.time)), np.arange(len(time)), -1),
        **{name: {key: placed(values) for key, values in getattr(result, name).items()} for name in many},
    )


def _quality_file(result: BackendResult) -> list[Path]:
    path = result.mot.with_name(f"{result.mot.stem}_quality.json")
    return [path] if path.is_file() else []


def trial_figures(result: BackendResult) -> dict[str, float | str | None]:
    """Name with unit -> key figure of one result, for the page of a session."""
    about = result.quality or {}
    summary, check = about.get("summary") or {}, about.get("check") or {}
    frames = summary.get("frames") or len(result.time)
    without = summary.get("frames_without_pose")
    overlap = [share for share in (summary.get("overlap_mean") or {}).values() if share is not None]
    return {
        "frames": frames,
        "without a pose": frames - len(result.time) if without is None else without,
        "interpolated": summary.get("frames_interpolated"),
        "skeleton inside the masks, %": 100 * float(np.mean(overlap)) if overlap else None,
        "body over the masks (IoU), %": None if check.get("iou_used") is None else 100 * check["iou_used"],
        "computed in, s": result.run_time_s,
    }


def _lead(result: BackendResult) -> str:
    about = result.quality or {}
    views = [str(view.get("camera")) for view in about.get("views", [])]
    seen = f", from the views {' and '.join(views)}" if views else ""
    length = result.time[-1] - result.time[0]
    return (
        f"Joint angles by {result.label}: {len(result.time)} frames, {length:.2f} s at {result.rate:.4g} Hz, "
        f"model {result.model.name}{seen}."
    )


def _key_figures(result: BackendResult) -> list[KeyFigure]:
    posed = int(result.posed.sum())
    found = [
        KeyFigure("frames_with_pose", "Frames with a pose", str(posed), f"of {len(result.time)}"),
        KeyFigure("duration_s", "Length", number(float(result.time[-1] - result.time[0]), 2), "s"),
    ]
    summary = (result.quality or {}).get("summary") or {}
    if "frames_interpolated" in summary:
        found.append(
            KeyFigure("frames_interpolated", "Interpolated", str(summary["frames_interpolated"]), "frames")
        )
    for view, share in (summary.get("overlap_mean") or {}).items():
        percent = None if share is None else 100 * share
        found.append(
            KeyFigure(
                f"overlap_mean.{view}",
                f"Skeleton inside the mask, {view}",
                number(percent, 0),
                "%",
                "mean over frames",
            )
        )
    if result.run_time_s is not None:
        found.append(KeyFigure("run_time_s", "Computed in", number(result.run_time_s, 1), "s"))
    return found


def _groups(result: BackendResult, payload: Payload) -> tuple[list[Group], list[str]]:
    """Charts by joint; and the coordinates that do not move by themselves."""
    own = zip(result.model.coordinate_names, result.model.locked | result.model.dependent, strict=True)
    still = [name for name, fixed in own if fixed]
    shown = [name for name in result.model.coordinate_names if name not in still]
    groups = []
    for title, pairs in names.grouped(shown).items():
        panels = []
        for pair in pairs:
            lines, stats, unit = {}, [], "deg"
            for side, name in pair.names.items():
                values, unit = displayed(result, name)
                lines[_SIDES.index(side)] = values
                stats.append(f"{names.SIDES[side]} {_extent(values, unit)}".strip())
            labels = {i: names.SIDES[_SIDES[i]] or pair.title for i in lines}
            key = payload.curves(lines, unit, labels={i: text.capitalize() for i, text in labels.items()})
            text = "; ".join(stats)
            panels.append(
                Panel(
                    _panel_id(pair.names), key, pair.title, text, f"Curve over time of {pair.title}: {text}."
                )
            )
        groups.append(Group(f"group-{slug(title)}", title, panels))
    return groups, still


def _panel_id(pair: dict[str, str]) -> str:
    return "curve-" + names.stem(next(iter(pair.values())))


def _extent(values: np.ndarray, unit: str) -> str:
    if not np.isfinite(values).any():
        return "no pose"
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    return f"{number(low, DIGITS[unit])} to {number(high, DIGITS[unit])}{UNITS[unit]}"


def _segments(result: BackendResult, payload: Payload) -> Block:
    pairs: dict[str, dict[str, float]] = {}
    for name, length in result.segment_lengths.items():
        pairs.setdefault(names.stem(name), {})[names.side(name)] = length
    rows = [base.capitalize() for base in pairs]
    lines = [
        {"source": i, "x": [round(100 * p[s], 2) if s in p else None for p in pairs.values()]}
        for i, s in enumerate(_SIDES)
    ]
    key = payload.chart({"kind": "segments", "rows": rows, "lines": lines})
    table = Table(
        "Lengths in numbers",
        ["Segment", "right, cm", "left, cm", "single, cm"],
        [
            [base.capitalize(), *(number(100 * p[s], 1) if s in p else "" for s in _SIDES)]
            for base, p in pairs.items()
        ],
    )
    panel = Panel(
        "segment-chart", key, "Lengths", "", "Length of each segment; the table below has the numbers."
    )
    return Block(
        "segments", "Segment lengths", "Between joint centres of the scaled model, all angles zero.",
        panels=[panel], layout="one", tables=[table],
    )  # fmt: skip


def _ranges(result: BackendResult) -> Table:
    rows = []
    for name in result.model.coordinate_names:
        values, unit = displayed(result, name)
        if not np.isfinite(values).any():
            continue
        low, high, mean = (float(f(values)) for f in (np.nanmin, np.nanmax, np.nanmean))
        speed = np.abs(np.gradient(values, result.time)) if len(values) > 1 else np.zeros(1)
        peak = float(np.nanmax(speed)) if np.isfinite(speed).any() else None
        digits = {"deg": 1, "m": 3}[unit]
        cells = [number(v, digits) for v in (low, high, high - low, mean)]
        rows.append([name, unit, *cells, number(peak, 0 if unit == "deg" else 2)])
    return Table(
        "Coordinates over the trial",
        ["Coordinate", "unit", "smallest", "largest", "range", "mean", "fastest, unit/s"],
        rows,
    )


def _motion_looks(result: BackendResult) -> list[Look]:
    """Things to look at that the motion itself shows."""
    free = ~(result.model.locked | result.model.dependent)
    angles = [n for n, f in zip(result.model.coordinate_names, free, strict=True) if f and result.is_angle(n)]
    looks = []
    if result.skeleton is not None:
        excess = {n: _excess(result, n) for n in angles}
        name = max(excess, key=lambda n: excess[n][0], default=None)
        if name is not None and excess[name][0] > 0.5:
            over, row = excess[name]
            looks.append(
                Look(
                    f"{names.full_title(name)} leaves its range.",
                    f"By up to {number(over, 1)}° beyond what the model allows, at {result.time[row]:.2f} s.",
                    _panel_id({"": name}), "See the curve", float(result.time[row]), 20 + over,
                )
            )  # fmt: skip
    steps = {n: np.abs(np.diff(np.rad2deg(result.coordinates[n]))) / np.diff(result.time) for n in angles}
    steps = {n: s for n, s in steps.items() if np.isfinite(s).any()}
    if steps:
        name = max(steps, key=lambda n: np.nanmax(steps[n]))
        row = int(np.nanargmax(steps[name]))
        fastest = float(steps[name][row])
        looks.append(
            Look(
                f"{names.full_title(name)} moves fastest.",
                f"{number(fastest, 0)}°/s at {result.time[row]:.2f} s: movement, or a jump?",
                _panel_id({"": name}), "See the curve", float(result.time[row]), 8 + fastest / 100,
            )
        )  # fmt: skip
    ranges = {n: float(np.ptp(v)) for n in angles if len(v := _seen(np.rad2deg(result.coordinates[n])))}
    pairs = [(n, f"{n[:-2]}_l") for n in ranges if n.endswith("_r") and f"{n[:-2]}_l" in ranges]
    if pairs:
        right, left = max(pairs, key=lambda pair: abs(ranges[pair[0]] - ranges[pair[1]]))
        one, other = ranges[right], ranges[left]
        looks.append(
            Look(
                f"{names.title(right)} differs most between the sides.",
                f"It ranges over {number(one, 0)}° on the right and {number(other, 0)}° on the left.",
                _panel_id({"": right}), "Compare the curves", None, 5 + abs(one - other) / 20,
            )
        )  # fmt: skip
    moving = max(ranges, key=lambda n: ranges[n], default=None)
    if moving is not None:
        looks.append(
            Look(
                f"{names.full_title(moving)} moves most.",
                f"It ranges over {number(ranges[moving], 0)}°.",
                _panel_id({"": moving}), "See the curve", None, 1.0,
            )
        )  # fmt: skip
    return looks


def _excess(result: BackendResult, name: str) -> tuple[float, int]:
    """Largest excess of a coordinate over its range, deg, and its row."""
    low, high = result.skeleton.coordinate_ranges[result.skeleton.coordinate_index(name)]
    values = result.coordinates[name]
    over = np.nan_to_num(np.maximum(low - values, values - high), nan=-1.0)
    return float(np.rad2deg(over.max())), int(over.argmax())


def _seen(values: np.ndarray) -> np.ndarray:
    return values[np.isfinite(values)]
