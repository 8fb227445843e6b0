"""Joint angles over time as figures for a paper: PNG, all results overlaid, right and left side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pose2sim_biokin.compare.result import BackendResult
from pose2sim_biokin.errors import BiokinError
from pose2sim_biokin.io.atomic import OutputSet

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Colours of Okabe and Ito, which colour-blind readers can tell apart; dashes for print without colour.
_STYLES = (("#0072b2", "-"), ("#d55e00", "--"), ("#009e73", ":"), ("#cc79a7", "-."), ("#000000", (0, (1, 1))))
_WIDTH_MM, _ROW_MM, _DPI = 180.0, 32.0, 200
_LEAST_DEG = 10.0  # height of a panel

# Figure -> rows of panels; each row is the coordinates of its columns.
FIGURES: dict[str, tuple[tuple[str, str], ...]] = {
    "pelvis_and_trunk": (
        ("pelvis_tilt", "lumbar_extension"),
        ("pelvis_list", "lumbar_bending"),
        ("pelvis_rotation", "lumbar_rotation"),
    ),
    "legs": tuple(
        (f"{name}_r", f"{name}_l")
        for name in (
            *("hip_flexion", "hip_adduction", "hip_rotation"),
            *("knee_angle", "ankle_angle", "subtalar_angle", "mtp_angle"),
        )
    ),
    "arms": tuple(
        (f"{name}_r", f"{name}_l")
        for name in ("arm_flex", "arm_add", "arm_rot", "elbow_flex", "pro_sup", "wrist_flex", "wrist_dev")
    ),
}


@dataclass(frozen=True)
class Curves:
    """Joint angles to draw.

    Attributes:
        title: of the trial.
        labels: of the results, in order of the legend.
        time: (T,) s.
        values: coordinate -> label -> (T,) deg; NaN where there is no pose.
        fixed: coordinates that move in no result; they are left out.
    """

    title: str
    labels: tuple[str, ...]
    time: np.ndarray
    values: Mapping[str, Mapping[str, np.ndarray]]
    fixed: frozenset[str] = frozenset()


def comparison_curves(content: Mapping[str, Any]) -> Curves:
    """What a comparison.json (`output.read_comparison`) has to draw."""
    rows = {name: row for name, row in content["coordinates"].items() if row["unit"] == "deg"}
    return Curves(
        title=content["trial"] or content["name"],
        labels=tuple(content["labels"]),
        time=np.asarray(content["time_s"], dtype=np.float64),
        values={
            name: {label: np.array(values, dtype=np.float64) for label, values in row["values"].items()}
            for name, row in rows.items()
        },
        fixed=frozenset(name for name, row in rows.items() if set(row["values"]) <= set(row["fixed"])),
    )


def result_curves(result: BackendResult, title: str) -> Curves:
    """What a single result has to draw: the model's own coordinates."""
    angles = [name for name in result.coordinates if result.is_angle(name)]
    values = {name: {result.label: np.rad2deg(result.coordinates[name])} for name in angles}
    still = [n for n in angles if not np.nanmax(values[n][result.label]) > np.nanmin(values[n][result.label])]
    return Curves(title, (result.label,), result.time, values, frozenset(still))


def write_figures(curves: Curves, folder: Path, force: bool = False) -> list[Path]:
    """Write angles_pelvis_and_trunk.png, angles_legs.png and angles_arms.png, all or none.

    Rows of panels that no result moves in are left out, and figures without any.

    Raises:
        BiokinError: a figure is there already and `force` is not set, there is nothing to draw, or a file
            cannot be written.
    """
    shown = {
        name: [row for row in rows if any(c in curves.values and c not in curves.fixed for c in row)]
        for name, rows in FIGURES.items()
    }
    targets = {name: folder / f"angles_{name}.png" for name, rows in shown.items() if rows}
    if not targets:
        raise BiokinError(f"{folder}: {', '.join(curves.labels)} have no joint angle that is known by name.")
    there = next((path for path in targets.values() if path.exists()), None)
    if there is not None and not force:
        raise BiokinError(f"{there}: the figure is there already. Let it be written over (--force).")
    with OutputSet() as outputs:
        for name, target in targets.items():
            draw(curves, shown[name]).savefig(outputs.stage(target), dpi=_DPI)
        outputs.commit()
    return list(targets.values())


def draw(curves: Curves, rows: Sequence[tuple[str, str]]) -> Figure:
    """One figure: a row of two panels for every two coordinates, a joint's right and left or two others."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    from pose2sim_biokin.report import names

    sided = all(names.side(name) for row in rows for name in row)
    style = {
        "font.family": "sans-serif",
        "font.size": 8,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.linewidth": 0.6,
        "lines.linewidth": 1.1,
        "xtick.major.width": 0.6,
        "ytick.major.width": 0.6,
    }
    with rc_context(style):
        height = (_ROW_MM * len(rows) + 18) / 25.4
        figure = Figure(figsize=(_WIDTH_MM / 25.4, height), layout="constrained")
        # sides of a joint are read against one another, so they share their scale; pelvis and trunk do not
        panels = figure.subplots(len(rows), 2, sharex=True, sharey="row" if sided else False, squeeze=False)
        for panel_row, row in zip(panels, rows, strict=True):
            for panel, name in zip(panel_row, row, strict=True):
                _panel(panel, curves, name)
                if not sided or panel is panel_row[0]:
                    panel.set_ylabel(f"{names.title(name)}\n(°)")
        if sided:
            for panel, side in zip(panels[0], ("Right", "Left"), strict=True):
                panel.set_title(side, fontsize=9)
        for panel in panels[-1]:
            panel.set_xlabel("Time (s)")
            panel.set_xlim(curves.time[0], curves.time[-1])
        # once all is drawn: limits that are set do not grow with what a row's other panel holds
        for panel in panels.flat:
            low, high = panel.get_ylim()
            if high - low < _LEAST_DEG:  # what hardly moves is not blown up
                low, high = (low + high - _LEAST_DEG) / 2, (low + high + _LEAST_DEG) / 2
            if low < 0 < high:
                panel.axhline(0, color="0.8", linewidth=0.5, zorder=0)
            panel.set_ylim(low, high)
        handles: dict[str, Any] = {}
        for panel in panels.flat:
            lines, labels = panel.get_legend_handles_labels()
            handles |= {
                label: line for label, line in zip(labels, lines, strict=True) if label not in handles
            }
        order = [label for label in curves.labels if label in handles]
        figure.legend(
            [handles[label] for label in order],
            order,
            loc="outside upper center",
            ncols=len(order),
            frameon=False,
            title=curves.title,
        )
        figure.align_ylabels(panels)
    return figure


def _panel(panel, curves: Curves, name: str) -> None:
    values = curves.values.get(name, {})
    for label, (colour, dash) in zip(curves.labels, _STYLES * len(curves.labels), strict=False):
        if label in values:
            panel.plot(curves.time, values[label], color=colour, linestyle=dash, label=label)
    if not values:
        panel.text(
            0.5, 0.5, "not in common", ha="center", va="center", transform=panel.transAxes, color="0.5"
        )
