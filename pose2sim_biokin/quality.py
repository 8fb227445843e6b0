"""The quality file: what a user needs to judge a result, frame by frame and as a whole."""

from __future__ import annotations

import json
import math
import platform
import re
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from pose2sim_biokin.check import Check, check_columns, check_summary
from pose2sim_biokin.io.atomic import atomic_path
from pose2sim_biokin.io.json_files import read_json
from pose2sim_biokin.motion import FrameQuality, Motion
from pose2sim_biokin.skeleton.model import Skeleton

FORMAT = "pose2sim_biokin quality 1"
_PACKAGES = ("pose2sim-biokin", "pose2sim", "opensim", "torch", "ultralytics", "opencv-python", "numpy")


def build_quality(
    motion: Motion,
    frames: np.ndarray,
    views: Sequence[str],
    skeleton: Skeleton,
    run: dict[str, Any],
    check: Check | None = None,
) -> dict[str, Any]:
    """Everything that the quality file says, as plain Python values; NaN becomes None.

    Args:
        motion: with its per-frame quality.
        frames: (T,) frame numbers.
        views: names of the two cameras, in the order of the quality's columns.
        skeleton: gives the bodies' names.
        run: what concerns the run as a whole: trial, views, timings, warnings; comes first in the file.
        check: against the masks; see `pose2sim_biokin.check.check_summary`.

    Returns:
        ``{format, **run, versions, network, scales, summary, [check,] frames}``; ``frames`` holds one list a
        quantity (one a view where there are several), all of the same length.
    """
    per_frame: dict[str, Any] = {"frame": frames, "time_s": np.round(motion.time, 6)}
    summary: dict[str, Any] = {"frames": len(motion.time)}
    posed = np.isfinite(motion.coordinates).all(axis=1)
    summary["frames_without_pose"] = int((~posed).sum())
    if motion.quality is not None:
        columns, totals = _frame_columns(motion.quality, views)
        per_frame |= columns
        summary |= totals
    per_frame["pose"] = posed
    if check is not None:
        per_frame |= check_columns(check)
    return plain(
        {
            "format": FORMAT,
            **run,
            "versions": versions(),
            "network": motion.info,
            "scales": {
                name: np.round(factors, 4)
                for name, factors in zip(skeleton.body_names, motion.scales, strict=True)
            },
            "summary": summary,
            **({"check": check_summary(check, frames)} if check is not None else {}),
            "frames": per_frame,
        }
    )


def write_quality(path: str | Path, quality: dict[str, Any]) -> Path:
    """Write the quality file, replacing it in one step.

    Raises:
        BiokinError: the file cannot be written.
    """
    # one line for each quantity over time: a file of thousands of frames stays readable
    long = {key: quality["frames"][key] for key in quality.get("frames", {})}
    text = json.dumps({**quality, "frames": "\0"}, ensure_ascii=False, indent=2)
    text = re.sub(
        r"\[\n[-\d.,\s]+\]", lambda m: " ".join(m[0].split()).replace("[ ", "[").replace(" ]", "]"), text
    )
    rows = ",\n".join(f"    {json.dumps(k)}: {json.dumps(v, ensure_ascii=False)}" for k, v in long.items())
    text = text.replace(json.dumps("\0"), "{\n" + rows + "\n  }")
    with atomic_path(path) as staged:
        staged.write_text(text + "\n", encoding="utf-8")
    return Path(path)


def read_quality(path: str | Path) -> dict[str, Any]:
    """Read a quality file.

    Raises:
        BiokinError: the file is missing or is not one.
    """
    return read_json(path, FORMAT, "a quality file, as biokin run writes it")


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that a result depends on."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def _frame_columns(quality: FrameQuality, views: Sequence[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    violation = np.rad2deg(quality.range_violation)
    columns = {
        "mask_found": {view: quality.mask_found[:, k] for k, view in enumerate(views)},
        "interpolated": quality.interpolated,
        "hull_fill": np.round(quality.hull_fill, 4),
        "hull_extent_m": np.round(quality.hull_extent_m, 4),
        "overlap": {view: np.round(quality.overlap[:, k], 4) for k, view in enumerate(views)},
        "range_violation_deg": np.round(violation, 3),
    }
    summary = {
        "frames_interpolated": int(quality.interpolated.sum()),
        "mask_found_share": {
            view: float(np.round(quality.mask_found[:, k].mean(), 4)) for k, view in enumerate(views)
        },
        "overlap_mean": {view: _mean(quality.overlap[:, k]) for k, view in enumerate(views)},
        "overlap_worst": {view: _extreme(quality.overlap[:, k], min) for k, view in enumerate(views)},
        "hull_fill_mean": _mean(quality.hull_fill),
        "range_violation_deg_worst": _extreme(violation, max),
    }
    return columns, summary


def _mean(values: np.ndarray) -> float:
    values = values[np.isfinite(values)]
    return float(np.round(values.mean(), 4)) if len(values) else math.nan


def _extreme(values: np.ndarray, function) -> float:
    values = values[np.isfinite(values)]
    return float(np.round(function(values), 4)) if len(values) else math.nan


def plain(value: Any) -> Any:
    """Only what JSON knows: arrays to lists, NaN and infinity to None, paths and the rest to text."""
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, list | tuple | set | range):
        return [plain(v) for v in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int | str):
        return value
    return str(value)
