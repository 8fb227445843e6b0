"""How often each coordinate takes which values: histograms over its range, as a table and as a picture.

python -m odah.motions.coverage [SOURCE ...] [--procedural 200] [--output coverage.png]
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pose2sim_biokin.io.atomic import atomic_path
from pose2sim_biokin.io.mot import in_degrees
from pose2sim_biokin.skeleton.angles import FIXED, FREE, TRANSLATIONS
from pose2sim_biokin.skeleton.model import Skeleton

BINS = 18
# A bin counts as covered with at least this share of the frames.
_SEEN = 0.0005
_LEVELS = " .:-=+*#%@"
_TURN_DEG = (-180.0, 180.0)  # free joints turn all the way round


@dataclass(frozen=True)
class Coverage:
    """Histogram of one coordinate.

    Attributes:
        name: coordinate.
        edges: (BINS + 1,) deg or m, over the coordinate's range.
        shares: (BINS,) share of the frames; they sum to one less what lies outside.
        outside: share of the frames outside the range.
        low, high: 1st and 99th percentile, deg or m.
    """

    name: str
    edges: np.ndarray
    shares: np.ndarray
    outside: float
    low: float
    high: float

    @property
    def covered(self) -> float:
        """Share of the bins that occur."""
        return float((self.shares > _SEEN).mean())


def coverage(coordinates: np.ndarray, skeleton: Skeleton, bins: int = BINS) -> list[Coverage]:
    """Histograms of all coordinates but the pelvis translation and those that are locked or coupled.

    Args:
        coordinates: (T, nc) rad and m. Angles of free joints are counted within half a turn to either side.
    """
    q = np.asarray(coordinates, dtype=np.float64)
    if q.ndim != 2 or q.shape[1] != len(skeleton.coordinate_names) or not len(q):
        raise ValueError(f"coordinates: expected (T, {len(skeleton.coordinate_names)}), found {q.shape}")
    found = []
    for i in np.flatnonzero(~skeleton.locked & ~skeleton.dependent):
        name = skeleton.coordinate_names[i]
        if name in TRANSLATIONS or name in FIXED:
            continue
        angle = in_degrees(skeleton)[i]
        values = np.degrees(q[:, i]) if angle else q[:, i]
        low, high = np.degrees(skeleton.coordinate_ranges[i]) if angle else skeleton.coordinate_ranges[i]
        if name in FREE:
            low, high = _TURN_DEG
            values = (values + 180.0) % 360.0 - 180.0
        edges = np.linspace(low, high, bins + 1)
        # the ends belong to the range, also after rounding
        inside = (values >= low - 1e-6) & (values <= high + 1e-6)
        counts, _ = np.histogram(np.clip(values[inside], low, high), edges)
        ends = np.percentile(values, [1, 99])
        found.append(Coverage(name, edges, counts / len(q), float(1 - inside.mean()), *map(float, ends)))
    return found


def coverage_text(coordinates: np.ndarray, skeleton: Skeleton) -> str:
    """The histograms as text: one row a coordinate, darker where there is more."""
    rows = coverage(coordinates, skeleton)
    width = max(len(row.name) for row in rows)
    lines = [f"{'coordinate':{width}}  {'range':>12}  {'1..99 %':>12}  covered  outside  histogram"]
    for row in rows:
        scale = max(row.shares.max(), 1e-12)
        # the square root shows what is rare; a bin that occurs is never blank
        level = np.ceil(np.sqrt(row.shares / scale) * (len(_LEVELS) - 1)).astype(int)
        bars = "".join(_LEVELS[k] for k in level)
        ends = f"{row.edges[0]:.0f}..{row.edges[-1]:.0f}"
        usual = f"{row.low:.0f}..{row.high:.0f}"
        lines.append(
            f"{row.name:{width}}  {ends:>12}  {usual:>12}  {row.covered:7.0%}  {row.outside:7.1%}  |{bars}|"
        )
    return "\n".join(lines)


def coverage_picture(coordinates: np.ndarray, skeleton: Skeleton, path: str | Path) -> Path:
    """Write the histograms as a PNG, one panel a coordinate; the left side's lie on the right's.

    Raises:
        BiokinError: the file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = {row.name: row for row in coverage(coordinates, skeleton)}
    panels = [name for name in rows if not (name.endswith("_l") and f"{name[:-2]}_r" in rows)]
    columns = 5
    lines = -(-len(panels) // columns)
    figure = Figure(figsize=(3 * columns, 2 * lines))
    FigureCanvasAgg(figure)
    axes = np.atleast_1d(figure.subplots(lines, columns)).ravel()
    for axis, name in zip(axes, panels, strict=False):
        right = name.endswith("_r")
        for key, colour, label in (
            (name, "tab:orange" if right else "tab:gray", "right" if right else None),
            (f"{name[:-2]}_l" if right else "", "tab:blue", "left"),
        ):
            if key in rows:
                row = rows[key]
                axis.stairs(100 * row.shares, row.edges, fill=True, alpha=0.5, color=colour, label=label)
        axis.set_title(name[:-2] if right else name, fontsize=9)
        axis.tick_params(labelsize=7)
        axis.set_xlim(rows[name].edges[0], rows[name].edges[-1])
    if any(name.endswith("_r") for name in panels):
        handles = next(a for a, n in zip(axes, panels, strict=False) if n.endswith("_r"))
        handles.legend(fontsize=7)
    for axis in axes[len(panels) :]:
        axis.set_axis_off()
    figure.subplots_adjust(0.03, 0.05, 0.99, 0.92, wspace=0.2, hspace=0.45)
    figure.suptitle(f"Share of {len(coordinates)} frames (%) over each coordinate's range (deg)", fontsize=10)
    path = Path(path)
    with atomic_path(path) as staged:
        figure.savefig(staged, format="png", dpi=100)
    return path


def procedural_coordinates(clips: int, skeleton: Skeleton, seed: int = 0, frames: int = 120) -> np.ndarray:
    """Coordinates (clips * frames, nc) of random procedural motions, each ``frames`` long at 30 Hz."""
    from odah.motions.sampler import sample_motion
    from pose2sim_biokin.skeleton.kinematics import ForwardKinematics

    fk = ForwardKinematics(skeleton)
    motions = [
        sample_motion(np.random.default_rng([seed, i]), "test", [], frames, fk, 30.0, everyday=True)
        for i in range(clips)
    ]
    return np.concatenate([m.coordinates for m in motions])


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the histograms of sources or of procedural motion."""
    from pose2sim_biokin.errors import BiokinError
    from pose2sim_biokin.skeleton.model import load_skeleton

    parser = argparse.ArgumentParser(prog="python -m odah.motions.coverage", description=__doc__)
    parser.add_argument("sources", nargs="*", help="files or folders of motion, see odah.motions.sources")
    parser.add_argument("--procedural", type=int, default=0, help="number of random procedural motions")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, help="also write the histograms as a PNG")
    options = parser.parse_args(arguments)
    skeleton = load_skeleton()
    if not options.sources and options.procedural < 1:
        parser.error("give a source, or --procedural N")
    parts = []
    try:
        for source in options.sources:
            from odah.motions.sources import read_motion_source

            parts += [r.tracks.coordinates(skeleton) for r in read_motion_source(source, skeleton)]
    except BiokinError as error:
        print(error)
        return 1
    if options.procedural:
        parts.append(procedural_coordinates(options.procedural, skeleton, options.seed))
    coordinates = np.concatenate(parts)
    print(f"{len(coordinates)} frames")
    print(coverage_text(coordinates, skeleton))
    if options.output:
        print(coverage_picture(coordinates, skeleton, options.output))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
