"""What the comparison gives: matched coordinates, figures, and all of it as a whole."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pose2sim_biokin.compare.metrics import CoordinateMetrics, PointMetrics, Smoothness
from pose2sim_biokin.compare.result import BackendResult

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True, eq=False)
class MatchedCoordinate:
    """One coordinate that two or more results have, on the common time base; T frames.

    Attributes:
        name: of the coordinate in the common convention: Rajagopal's names.
        unit: "deg" or "mm": values are for people to read.
        how: "name", or "segment orientation": the relative orientation of two bodies, told in the common
            convention (`matching.GROUPS`) for every result.
        values: label -> (T,), in `unit`, signs already those of the reference.
        own_names: label -> the model's own coordinate; absent where no single one stands for it.
        notes: differences between the models that were found: signs, zeros, axes, locked coordinates.
        zero_difference: label -> how far that model's zero is from the reference's, in `unit`, found by
            posing both; values are *not* corrected by it.
        fixed: labels of the models in which it is locked or does not move.
    """

    name: str
    unit: str
    how: str
    values: dict[str, np.ndarray] = field(repr=False)
    own_names: dict[str, str]
    notes: tuple[str, ...] = ()
    zero_difference: dict[str, float] = field(default_factory=dict)
    fixed: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Comparison:
    """Two or more results of one trial, side by side; the first is the reference.

    Attributes:
        name: of the comparison. trial: of the trial.
        results: as they were read, in full.
        aligned: the same on the common time base.
        time: (T,) s, the common time base.
        coordinates: those that were matched, in Rajagopal's order.
        unmatched: label -> the model's coordinates that no other result has.
        metrics: label -> coordinate -> against the reference; the reference's label is not among them.
        points: label -> joint centres against the reference's; absent where fewer than four are shared.
        orientation: label -> body -> (T,) deg, angle between the body's orientation in this result and in
            the reference, both relative to the pelvis (the pelvis: to the world).
        smoothness: label -> coordinate -> smoothness, of every result.
        segments: segment -> label -> length, m.
        lag_s: label -> how much later this result is than the reference by cross-correlation, s; None
            where nothing moves enough to tell. `lag_applied`: the time base is shifted by it.
        flags: what a reader must know: rates, lengths, gaps, signs, zeros, coordinates left out.
        run_times_s: label -> how long the backend took; None where that is not known.
        provenance: versions, files with their hashes, weights, settings.
    """

    name: str
    trial: str
    results: tuple[BackendResult, ...]
    aligned: tuple[BackendResult, ...] = field(repr=False)
    time: np.ndarray = field(repr=False)
    coordinates: tuple[MatchedCoordinate, ...] = field(repr=False)
    unmatched: dict[str, tuple[str, ...]] = field(repr=False)
    metrics: dict[str, dict[str, CoordinateMetrics]] = field(repr=False)
    points: dict[str, PointMetrics] = field(repr=False)
    orientation: dict[str, dict[str, np.ndarray]] = field(repr=False)
    smoothness: dict[str, dict[str, Smoothness]] = field(repr=False)
    segments: dict[str, dict[str, float]] = field(repr=False)
    lag_s: dict[str, float | None] = field(repr=False)
    lag_applied: bool
    flags: tuple[str, ...] = field(repr=False)
    run_times_s: dict[str, float | None] = field(repr=False)
    provenance: dict[str, Any] = field(repr=False)

    @property
    def reference(self) -> str:
        """Label of the result that the others are measured against."""
        return self.results[0].label

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels of the results, the reference first."""
        return tuple(result.label for result in self.results)

    def coordinate(self, name: str) -> MatchedCoordinate:
        """A matched coordinate by its common name; KeyError when there is none."""
        found = next((c for c in self.coordinates if c.name == name), None)
        if found is None:
            raise KeyError(name)
        return found

    def joint_angles(self, label: str) -> list[str]:
        """Coordinates that the means over joint angles take: angles below the pelvis that move in both."""
        return [
            c.name
            for c in self.coordinates
            if c.unit == "deg"
            and not c.name.startswith("pelvis_")
            and c.name in self.metrics[label]
            and self.reference not in c.fixed
            and label not in c.fixed
        ]

    def summary(self, label: str) -> dict[str, Any]:
        """Key figures of one result against the reference: means over `joint_angles`, joint centres, lag."""
        rows = [self.metrics[label][name] for name in self.joint_angles(label)]
        worst = sorted(self.joint_angles(label), key=lambda name: -self.metrics[label][name].mae)
        points = self.points.get(label)
        return {
            "frames": len(self.time),
            "joint_angles": len(rows),
            "mae_deg": _mean([row.mae for row in rows]),
            "rmse_deg": _mean([row.rmse for row in rows]),
            "mae_offset_corrected_deg": _mean([row.mae_offset_corrected for row in rows]),
            "pearson_r": _mean([row.pearson_r for row in rows]),
            "worst_coordinates": worst[:3],
            "mpjpe_mm": points.mpjpe if points else None,
            "pa_mpjpe_mm": points.pa_mpjpe if points else None,
            "pelvis_path_mm": points.pelvis_path if points else None,
            "lag_s": self.lag_s.get(label),
        }

    def to_frame(self) -> pandas.DataFrame:
        """One row a result and coordinate: figures, how it was matched, smoothness, notes."""
        from pose2sim_biokin.compare.output import comparison_frame

        return comparison_frame(self)

    def to_json(self) -> dict[str, Any]:
        """Everything but the joint centres' paths as plain values: curves, metrics, flags, provenance."""
        from pose2sim_biokin.compare.output import comparison_json

        return comparison_json(self)

    def write(self, folder: str | Path) -> dict[str, Path]:
        """Write comparison.json and comparison.csv into a folder, both or none; their paths by kind.

        Raises:
            BiokinError: a file cannot be written.
        """
        from pose2sim_biokin.compare.output import write_comparison

        return write_comparison(self, Path(folder))


def _mean(values: list[float]) -> float:
    seen = [value for value in values if math.isfinite(value)]
    return float(np.mean(seen)) if seen else math.nan
