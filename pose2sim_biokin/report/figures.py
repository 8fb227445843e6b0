"""What the page's script draws: curves, skeletons and marks as a payload; and a strip of poses for paper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from pose2sim_biokin.compare.anatomy import BONES
from pose2sim_biokin.compare.result import BackendResult
from pose2sim_biokin.report.page import Arrays, Series

_STRIP_POSES = 8
_MIN_SPAN = {"deg": 20.0, "mm": 100.0, "m": 0.1}  # a curve that hardly moves is not blown up
UNITS = {"deg": "°", "mm": " mm", "m": " m"}
DIGITS = {"deg": 1, "mm": 0, "m": 2}


@dataclass(frozen=True)
class Figure:
    """A skeleton over time.

    Attributes:
        points: (T, P, 3) m, Pose2Sim's world, Z up; NaN where there is no pose.
        links: pairs of points.
        sides: "r", "l" or "" for each link.
        marks: point -> "R" or "L", written beside it.
        root: the point that stands for the person's place.
    """

    points: np.ndarray
    links: tuple[tuple[int, int], ...]
    sides: tuple[str, ...]
    marks: dict[int, str]
    root: int


def figure(result: BackendResult) -> Figure | None:
    """Joint centres and the bones between them, head and nose as far as the model has a trunk.

    None where the model has fewer than two joint centres that go by a common name.
    """
    points = dict(result.joint_centers)
    if {"shoulder_r", "shoulder_l"} <= points.keys() and {"head", "torso"} & result.body_rotations.keys():
        # the head: half a trunk above the shoulders along its own axes, the nose in front
        axes = result.body_rotations["head" if "head" in result.body_rotations else "torso"]
        middle = (points["shoulder_r"] + points["shoulder_l"]) / 2
        size = result.segment_lengths.get("trunk", 0.45)
        points["neck base"] = middle
        points["head top"] = middle + 0.55 * size * axes[..., 1]
        points["nose"] = middle + 0.42 * size * axes[..., 1] + 0.25 * size * axes[..., 0]
    extra = (("neck base", "head top"), ("head top", "nose"))
    bones = [(a, b) for a, b in (*BONES, *extra) if a in points and b in points]
    if len(bones) < 2:
        return None
    names = list(dict.fromkeys(name for bone in bones for name in bone))
    index = {name: i for i, name in enumerate(names)}
    both = [{a[-2:], b[-2:]} & {"_r", "_l"} for a, b in bones]
    marks = {
        index[f"{end}_{s}"]: s.upper() for end in ("wrist", "mtp") for s in "rl" if f"{end}_{s}" in index
    }
    return Figure(
        np.stack([points[name] for name in names], axis=1),
        tuple((index[a], index[b]) for a, b in bones),
        tuple(sides.pop()[1] if len(sides) == 1 else "" for sides in both),
        marks,
        index.get("pelvis", 0),
    )


def displayed(result: BackendResult, name: str) -> tuple[np.ndarray, str]:
    """A coordinate's values for people, and their unit: "deg" or "m"."""
    values = result.coordinates[name]
    return (np.rad2deg(values), "deg") if result.is_angle(name) else (values, "m")


class Payload:
    """Everything that the page's script needs, as plain values and one block of arrays."""

    def __init__(self, time: np.ndarray, sources: Sequence[Series]) -> None:
        self.arrays = Arrays()
        self.sources = list(sources)
        self._figures: list[dict[str, Any]] = []
        self._charts: dict[str, dict[str, Any]] = {}
        self._time = self.arrays.add(time)
        self._shades: list[list[float]] = []

    def shade(self, start: float, stop: float) -> None:
        """Mark a stretch of time in every curve."""
        self._shades.append([round(float(start), 4), round(float(stop), 4)])

    def skeleton(self, source: int, drawn: Figure, links: Sequence[int] | None = None) -> None:
        """Draw a skeleton, or only some of its links, as one of the sources."""
        chosen = range(len(drawn.links)) if links is None else links
        self._figures.append(
            {
                "source": source,
                "points": self._points(drawn),
                "count": drawn.points.shape[1],
                "links": [list(drawn.links[i]) for i in chosen],
                "marks": {str(point): mark for point, mark in drawn.marks.items()},
                "root": drawn.root,
            }
        )

    def _points(self, drawn: Figure) -> list[int]:
        # parts of one skeleton share its points
        cached = getattr(self, "_last", None)
        if cached is None or cached[0] is not drawn:
            self._last = cached = (drawn, self.arrays.add(drawn.points))
        return cached[1]

    def curves(
        self,
        lines: Mapping[int, np.ndarray],
        unit: str,
        differences: Sequence[tuple[int, int, np.ndarray, str]] = (),
        labels: Mapping[int, str] | None = None,
        limits: tuple[float, float] | None = None,
        difference_limits: tuple[float, float] | None = None,
    ) -> str:
        """A chart of one coordinate.

        Args:
            lines: source -> (T,) values in `unit` ("deg", "mm" or "m").
            unit: of the values.
            differences: (source, reference, (T,) source minus reference, label), drawn below.
            labels: source -> text for the hover, where it is not the source's label.
            limits, difference_limits: of the vertical axes; from the values when absent.

        Returns:
            The chart's key, for `Panel.chart`.
        """
        return self.chart(
            {
                "kind": "curves",
                "unit": UNITS[unit],
                "unit_label": unit,
                "digits": DIGITS[unit],
                "lines": [
                    {"source": i, "y": self.arrays.add(values), "label": (labels or {}).get(i, "")}
                    for i, values in lines.items()
                ],
                "range": list(limits or span(lines.values(), unit)),
                "differences": [
                    {"sources": [i, reference], "y": self.arrays.add(values), "label": label}
                    for i, reference, values, label in differences
                ],
                "difference_range": list(
                    difference_limits or span([d[2] for d in differences], unit, zero=True)
                ),
            }
        )

    def chart(self, spec: dict[str, Any]) -> str:
        """Any other chart by what its kind in charts.js needs."""
        key = f"c{len(self._charts)}"
        self._charts[key] = spec
        return key

    def plain(self) -> dict[str, Any]:
        """The payload as the page holds it."""
        return {
            "time": self._time,
            "sources": [asdict(source) | {"dash3d": source.dash3d} for source in self.sources],
            "figures": self._figures,
            "charts": self._charts,
            "shades": self._shades,
        }


def span(curves, unit: str, zero: bool = False) -> tuple[float, float]:
    """Limits of an axis that hold all curves, with some room, and not too close together."""
    seen = [values[np.isfinite(values)] for values in curves]
    seen = np.concatenate([*seen, np.zeros(int(zero))]) if len(seen) else np.zeros(1)
    low, high = (float(seen.min()), float(seen.max())) if len(seen) else (0.0, 0.0)
    room = max(0.06 * (high - low), (_MIN_SPAN[unit] / (4 if zero else 1) - (high - low)) / 2)
    return round(low - room, 4), round(high + room, 4)


def strip(figures: Sequence[tuple[Series, Figure]], time: np.ndarray) -> tuple[str, str]:
    """A row of poses as SVG, for paper and for browsers without WebGL, and its caption.

    Seen from the side that shows the person's way through the room best; every number in the SVG is ours.
    """
    posed = np.flatnonzero(np.any([np.isfinite(f.points[:, f.root, 0]) for _, f in figures], axis=0))
    if not len(posed):
        return "", "No frame has a pose."
    rows = np.unique(posed[np.linspace(0, len(posed) - 1, min(_STRIP_POSES, len(posed))).round().astype(int)])
    right, width = _view_direction(figures[0][1], posed), 1.15
    tops, floors = [], []
    for _, f in figures:
        tops.append(np.nanmax(f.points[rows, :, 2]))
        floors.append(np.nanmin(f.points[rows, :, 2]))
    top, floor = max(tops) + 0.08, min(floors) - 0.05
    lines = []
    for k, row in enumerate(rows):
        first = next(f for _, f in figures if np.isfinite(f.points[row, f.root, 0]))
        middle = first.points[row, first.root] @ right
        for source, f in figures:
            for a, b in f.links:
                if np.isfinite(f.points[row, [a, b]]).all():
                    x = (f.points[row, [a, b]] @ right - middle + (k + 0.5) * width) * 100
                    y = (top - f.points[row, [a, b], 2]) * 100
                    lines.append(
                        f'<line x1="{x[0]:.1f}" y1="{y[0]:.1f}" x2="{x[1]:.1f}" y2="{y[1]:.1f}" '
                        f'stroke="{source.colour}" stroke-dasharray="{source.dasharray}"/>'
                    )
        lines.append(
            f'<text x="{(k + 0.5) * width * 100:.0f}" y="{(top - floor) * 100 + 16:.0f}">'
            f"{time[row]:.2f} s</text>"
        )
    size = f"0 0 {len(rows) * width * 100:.0f} {(top - floor) * 100 + 22:.0f}"
    svg = (
        f'<svg viewBox="{size}" role="img" aria-label="{len(rows)} poses of the motion" fill="none" '
        'stroke-width="2.5" stroke-linecap="round" font-size="13" text-anchor="middle">'
        f"<style>text{{fill:currentColor;stroke:none}}</style>{''.join(lines)}</svg>"
    )
    return svg, "Poses over the trial, seen from the side."


def _view_direction(f: Figure, posed: np.ndarray) -> np.ndarray:
    """(3,) horizontal unit vector that points to the right of the picture: along the way, or sideways."""
    way = f.points[posed[-1], f.root] - f.points[posed[0], f.root]
    way[2] = 0
    if np.linalg.norm(way) < 0.5:
        # somebody who stays in place is seen half from the front: hips' line and its normal
        across = np.nanmean(f.points[posed].max(axis=1) - f.points[posed].min(axis=1), axis=0)
        way = np.array([across[0], across[1], 0.0])
    return way / max(float(np.linalg.norm(way)), 1e-9)
