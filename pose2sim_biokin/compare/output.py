"""A comparison as JSON, as a table, and as files."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pose2sim_biokin.compare.comparison import Comparison
from pose2sim_biokin.io.atomic import OutputSet
from pose2sim_biokin.io.json_files import read_json
from pose2sim_biokin.quality import plain

if TYPE_CHECKING:
    import pandas

FORMAT = "pose2sim_biokin comparison 1"


def comparison_json(comparison: Comparison) -> dict[str, Any]:
    """Everything but the joint centres' paths, as values that JSON knows; what is not a number is None."""
    others = comparison.labels[1:]
    return plain(
        {
            "format": FORMAT,
            "name": comparison.name,
            "trial": comparison.trial,
            "labels": comparison.labels,
            "reference": comparison.reference,
            "flags": comparison.flags,
            "summary": {label: comparison.summary(label) for label in others},
            "lag_s": comparison.lag_s,
            "lag_applied": comparison.lag_applied,
            "run_times_s": comparison.run_times_s,
            "segments_m": comparison.segments,
            "points_mm": {label: _rounded(asdict(points)) for label, points in comparison.points.items()},
            "orientation_deg": {
                label: {body: float(np.nanmean(values)) for body, values in bodies.items()}
                for label, bodies in comparison.orientation.items()
            },
            "time_s": np.round(comparison.time, 6),
            "coordinates": {
                c.name: {
                    "unit": c.unit,
                    "matched_by": c.how,
                    "own_names": c.own_names,
                    "notes": c.notes,
                    "zero_difference": c.zero_difference,
                    "fixed": c.fixed,
                    "metrics": {
                        label: asdict(comparison.metrics[label][c.name])
                        for label in others
                        if label in c.values
                    },
                    "smoothness": {label: asdict(comparison.smoothness[label][c.name]) for label in c.values},
                    "values": {label: np.round(values, 4) for label, values in c.values.items()},
                }
                for c in comparison.coordinates
            },
            "unmatched": comparison.unmatched,
            "provenance": comparison.provenance,
        }
    )


def comparison_frame(comparison: Comparison) -> pandas.DataFrame:
    """One row a result and coordinate, in the coordinate's unit: figures, smoothness, how it was matched."""
    import pandas as pd

    reference = comparison.reference
    rows = []
    for label, metrics in comparison.metrics.items():
        for name, figures in metrics.items():
            matched = comparison.coordinate(name)
            row = {"result": label, "reference": reference, "coordinate": name, "unit": matched.unit}
            row |= {key: value for key, value in asdict(figures).items() if key != "limits"}
            row["limit_lower"], row["limit_upper"] = figures.limits
            for suffix, whose in (("", label), ("_reference", reference)):
                jerk = comparison.smoothness[whose][name]
                row |= {f"{key}{suffix}": value for key, value in asdict(jerk).items()}
            row["matched_by"] = matched.how
            row["zero_difference"] = matched.zero_difference.get(label, np.nan)
            row["fixed_in"] = ", ".join(matched.fixed)
            row["notes"] = "; ".join(matched.notes)
            rows.append(row)
    return pd.DataFrame(rows)


def write_comparison(comparison: Comparison, folder: Path) -> dict[str, Path]:
    """Write comparison.json and comparison.csv into a folder, both or none.

    Raises:
        BiokinError: a file cannot be written.
    """
    paths = {"json": folder / "comparison.json", "csv": folder / "comparison.csv"}
    with OutputSet() as outputs:
        text = json.dumps(comparison_json(comparison), ensure_ascii=False, indent=1)
        outputs.stage(paths["json"]).write_text(_joined(text) + "\n", encoding="utf-8")
        frame = comparison_frame(comparison).round(6)
        frame.to_csv(outputs.stage(paths["csv"]), index=False, encoding="utf-8", lineterminator="\n")
        outputs.commit()
    return paths


def read_comparison(path: str | Path) -> dict[str, Any]:
    """What a comparison.json holds.

    Raises:
        BiokinError: the file is missing or is not one.
    """
    return read_json(path, FORMAT, "a comparison, as biokin compare writes it")


def _rounded(row: dict[str, Any]) -> dict[str, Any]:
    return {k: np.round(v, 2) if isinstance(v, np.ndarray) else v for k, v in row.items()}


def _joined(text: str) -> str:
    """JSON with every list of numbers on one line."""
    return re.sub(r"\[\n(?:[-+\d.eE,\s]|null)+\]", lambda m: re.sub(r"\s*\n\s*", " ", m[0]), text)
