"""The quality file as the page shows it: flags, what the cameras saw by frame, overlay pictures."""

from __future__ import annotations

from typing import Any

import numpy as np

from pose2sim_biokin.compare.result import BackendResult
from pose2sim_biokin.report.figures import Payload
from pose2sim_biokin.report.page import Block, Item, Look, Panel, number
from pose2sim_biokin.report.stills import Still, spread, stills

_COUNT = 6  # stills in all, both views together
_POOR_OVERLAP = 0.8
_COLOURS = (("#0072b2", "solid"), ("#d55e00", "dash"), ("#78828c", "dot"))


def stretches(result: BackendResult, column: str) -> list[tuple[float, float]]:
    """Stretches of time (s) in which a yes/no column of the quality file is true."""
    flags = _frames(result).get(column)
    if not isinstance(flags, list) or len(flags) != len(result.time):
        return []
    half = 0.5 / result.rate
    edges = np.flatnonzero(np.diff(np.concatenate([[0], np.asarray(flags, dtype=int), [0]])))
    return [
        (result.time[a] - half, result.time[b - 1] + half)
        for a, b in zip(edges[::2], edges[1::2], strict=True)
    ]


def overlay_stills(result: BackendResult) -> list[Still]:
    """Frames of the overlay videos beside the motion file, both views at the same moments."""
    views = [str(view.get("camera")) for view in (result.quality or {}).get("views", [])]
    videos = {view: result.mot.with_name(f"{result.mot.stem}_{view}.mp4") for view in views}
    videos = {view: video for view, video in videos.items() if video.is_file()}
    if not videos:
        return []
    rows = spread(max(1, _COUNT // len(videos)), np.flatnonzero(result.posed))
    times = [float(result.time[row]) for row in rows]
    by_view = [stills(video, view, rows, times, "Skeleton") for view, video in videos.items()]
    return [still for moment in zip(*by_view, strict=False) for still in moment]


def quality_looks(result: BackendResult) -> list[Look]:
    """Things to look at that the quality file shows."""
    frames, looks = _frames(result), []
    missing = int((~result.posed).sum())
    if missing:
        first = float(result.time[int(np.argmin(result.posed))])
        looks.append(
            Look(
                "Frames without a pose.",
                f"{missing} of {len(result.time)}, the first at {first:.2f} s: nobody was found there.",
                "quality", "See the quality flags", first, 40 + 100 * missing / len(result.time),
            )
        )  # fmt: skip
    filled = stretches(result, "interpolated")
    if filled:
        longest = max(filled, key=lambda s: s[1] - s[0])
        looks.append(
            Look(
                "Interpolated frames.",
                f"The longest stretch is {longest[1] - longest[0]:.2f} s, at {longest[0]:.2f} s (shaded).",
                "motion", "Go there", float(longest[0]), 30 + 10 * (longest[1] - longest[0]),
            )
        )  # fmt: skip
    for view, column in (frames.get("overlap") or {}).items():
        values = _numbers(column)
        if len(values) != len(result.time) or not np.isfinite(values).any():
            continue
        row = int(np.nanargmin(values))
        moment, worst = float(result.time[row]), float(values[row])
        if worst < _POOR_OVERLAP:
            looks.append(
                Look(
                    f"The skeleton leaves the mask of {view}.",
                    f"At {moment:.2f} s only {number(100 * worst, 0)} % of it lies inside.",
                    "quality-chart", "See it by frame", moment, 50 * (1 - worst),
                )
            )  # fmt: skip
    return looks


def quality_block(result: BackendResult, payload: Payload | None, suffix: str = "") -> Block:
    """Flags in words, and the shares by frame as a figure where they are known."""
    panels = []
    lines = _lines(result) if payload is not None else []
    if lines:
        key = payload.chart(
            {
                "kind": "shares", "range": [0, 1.05], "digits": 2,
                "lines": [
                    {"label": label, "y": payload.arrays.add(values), "colour": colour, "dash": dash}
                    for (label, values), (colour, dash) in zip(lines, _COLOURS, strict=False)
                ],
            }
        )  # fmt: skip
        words = "; ".join(f"{label}: mean {number(_mean(values), 2)}" for label, values in lines)
        panels = [
            Panel("quality-chart", key, "By frame, as shares of one", "", f"Shares over time. {words}.")
        ]
    return Block(f"quality{suffix}", "Quality flags", panels=panels, layout="one", items=items(result))


def items(result: BackendResult) -> list[Item]:
    """The flags of one result."""
    about = result.quality
    if about is None:
        gaps = len(result.gaps)
        return [
            Item("info", "No quality file.", "This backend does not say how sure it was."),
            Item("warn" if gaps else "ok", "Gaps.", f"{gaps} in the motion file."),
        ]
    summary = about.get("summary") or {}
    total = summary.get("frames") or len(result.time)
    found = [_count(summary.get("frames_without_pose"), total, "without a pose")]
    found.append(_count(summary.get("frames_interpolated"), total, "interpolated"))
    for view, worst in (summary.get("overlap_worst") or {}).items():
        mean = (summary.get("overlap_mean") or {}).get(view)
        if worst is not None and mean is not None:
            level = "warn" if worst < _POOR_OVERLAP else "ok"
            text = f"{number(100 * mean, 0)} % on average, {number(100 * worst, 0)} % in the worst frame."
            found.append(Item(level, f"Skeleton inside the mask of {view}.", text))
    worst = summary.get("range_violation_deg_worst")
    if worst is not None:
        level = "warn" if worst > 5 else "ok"
        found.append(Item(level, "Ranges of the joints.", f"Exceeded by at most {number(worst, 1)}°."))
    found += _check(about.get("check") or {})
    for view in about.get("views") or []:
        alone = view.get("found_without_network")
        if alone:
            text = f"{len(alone) if isinstance(alone, list) else alone} frames."
            found.append(Item("info", f"Found by the still background only, {view.get('camera')}.", text))
    found += [Item("warn", "Warning.", str(text)) for text in about.get("warnings") or []]
    return found


def _check(check: dict[str, Any]) -> list[Item]:
    """What the check of the result against the person's masks says; see `pose2sim_biokin.check`."""
    found = []
    for key, what in (("iou_used", "in the cameras that were used"), ("iou_unused", "in the other cameras")):
        if check.get(key) is not None:
            text = f"{number(100 * check[key], 0)} % (intersection over union), {what}."
            found.append(Item("info", "The body over the person's mask.", text))
    worst = check.get("worst_limb") or {}
    if worst.get("inside") is not None:
        limb, camera = str(worst.get("limb")).replace("_", " "), worst.get("camera") or "all cameras"
        text = f"{limb}, {number(100 * worst['inside'], 0)} % of it inside the mask in {camera}."
        found.append(Item("info", "The limb that fits least.", text))
    for key, title in (
        ("flips", "Right and left change places."),
        ("facing_jumps", "The person turns at once."),
    ):
        if check.get(key) is not None:
            found.append(Item("warn" if check[key] else "ok", title, f"In {check[key]} frames."))
    feet = check.get("feet") or {}
    if feet.get("sliding_m_s") is not None:
        text = f"{number(100 * feet['sliding_m_s'], 0)} cm/s on average while the sole is on the floor."
        found.append(Item("info", "Feet slide.", text))
    return found


def _count(value: Any, total: int, what: str) -> Item:
    if value is None:
        return Item("info", f"Frames {what}.", "Not known.")
    return Item("warn" if value else "ok", f"Frames {what}.", f"{value} of {total}.")


def _lines(result: BackendResult) -> list[tuple[str, np.ndarray]]:
    frames = _frames(result)
    columns = {f"Skeleton inside the mask, {view}": v for view, v in (frames.get("overlap") or {}).items()}
    columns["Hull points in both masks"] = frames.get("hull_fill") or []
    arrays = {label: _numbers(values) for label, values in columns.items()}
    return [(label, a) for label, a in arrays.items() if len(a) == len(result.time) and np.isfinite(a).any()]


def _frames(result: BackendResult) -> dict[str, Any]:
    return (result.quality or {}).get("frames") or {}


def _numbers(column: Any) -> np.ndarray:
    return np.array([np.nan if v is None else v for v in column or []], dtype=np.float64)


def _mean(values: np.ndarray) -> float:
    return float(np.nanmean(values))
