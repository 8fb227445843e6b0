"""Marker trials (.c3d, .trc): read, named as the skeleton's markers, and solved by OpenSim's own tools."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from scipy.interpolate import PchipInterpolator

from odah.motions.clips import Recording
from odah.motions.mot_folder import Rejection, recordings_in_range
from odah.motions.opensim_tools import MARKER_LIMIT_M, MarkerFit, scale_and_solve
from pose2sim_biokin.errors import BiokinError
from pose2sim_biokin.io.trc import MarkerTable, read_trc
from pose2sim_biokin.skeleton.model import Skeleton

SUFFIXES = (".c3d", ".trc")
# Gaps up to this long are filled in between; longer ones stay, and OpenSim leaves the marker out there.
_GAP_S = 0.2
# Names of other marker sets -> the skeleton's, for the right side (R... and r...): Vicon's Plug-in Gait, and
# the markers that Pose2Sim's augmenter makes.
_ALIASES = {
    **{"KNE": "LFC", "KNM": "MFC", "ANK": "LMAL", "MED": "MMAL", "HEE": "CAL", "SHO": "ACR"},
    **{"ELB": "LEL", "ELBM": "MEL", "WRA": "FAradius", "WRB": "FAulna"},
    **{".ASIS_study": "ASI", ".PSIS_study": "PSI", "_knee_study": "LFC", "_mknee_study": "MFC"},
    **{"_ankle_study": "LMAL", "_mankle_study": "MMAL", "_calc_study": "CAL", "_toe_study": "TOE"},
    **{"_5meta_study": "MT5", "_shoulder_study": "ACR", "_lelbow_study": "LEL", "_melbow_study": "MEL"},
    **{"_lwrist_study": "FAradius", "_mwrist_study": "FAulna", "HJC_study": "HJC"},
}
_FEET = tuple(f"{s}{n}" for s in "RL" for n in ("CAL", "TOE", "MT5", "LMAL", "MMAL"))
_SHOULDERS = ("RACR", "LACR", "C7", "CLAV", "RSJC", "LSJC")


def read_c3d(path: Path) -> MarkerTable:
    """Markers of a .c3d file in metres, in the laboratory's own axes; NaN where one was not seen.

    Raises:
        BiokinError: the file is missing, is not a .c3d file, or has no markers.
    """
    import c3d

    try:
        with path.open("rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            reader = c3d.Reader(file)
            names = tuple(label.strip() for label in reader.point_labels)
            rate, units = float(reader.point_rate), "mm"
            if "POINT" in reader and "UNITS" in reader.get("POINT"):
                units = reader.get("POINT:UNITS").string_value.strip() or units
            rows, frames = [], []
            for number, points, _ in reader.read_frames(copy=True):
                frames.append(number)
                rows.append(np.where(points[:, 3:4] < 0, np.nan, points[:, :3]))
    except Exception as error:  # the package raises whatever a broken file leads it to
        raise BiokinError(f"{path}: cannot be read as a .c3d file ({error!r}).") from error
    if not rows or not names:
        raise BiokinError(f"{path}: {len(names)} markers in {len(rows)} frames; expected some of both.")
    factor = {"mm": 0.001, "cm": 0.01, "m": 1.0}.get(units)
    if factor is None:
        raise BiokinError(f"{path}: POINT:UNITS is {units!r}; expected mm, cm or m.")
    points = factor * np.stack(rows)[:, : len(names)]
    frames = np.array(frames)
    return MarkerTable(frames, (frames - frames[0]) / rate, names[: points.shape[1]], points)


def read_markers(path: Path, name_map: Mapping[str, str] | None = None, up: str | None = None) -> MarkerTable:
    """Markers of a trial, named as the skeleton's and in ground axes (Y up), m.

    Args:
        path: .c3d or .trc (m or mm).
        name_map: names of the trial -> names of the skeleton's markers. What it leaves out keeps its name, or
            gets the skeleton's by the names that are in common use; prefixes ("Anna:RASI") do not count.
        up: the axis that points up: "X", "Y", "Z", or with a minus. Without it shoulders and feet tell.

    Raises:
        BiokinError: the file cannot be read, a mapped name is not in it, or nothing tells where up is.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise BiokinError(f"{path}: expected a .c3d or .trc file.")
    table = read_c3d(path) if suffix == ".c3d" else read_trc(path)
    table = table._replace(names=_named(table.names, dict(name_map or {}), path))
    axis, sign = _up(table, up, path)
    # X, Y, Z in turn: a rotation, so that left stays left
    points = table.points[..., [(axis + 2) % 3, axis, (axis + 1) % 3]]
    if sign < 0:
        points = points * np.array([1.0, -1.0, -1.0])
    return table._replace(points=_filled(table.time, points))


def solve_trial(
    path: Path,
    skeleton: Skeleton,
    static: Path | None = None,
    *,
    name_map: Mapping[str, str] | None = None,
    up: str | None = None,
    weights: Mapping[str, float] | None = None,
) -> MarkerFit:
    """Scaling and inverse kinematics of a trial file; arguments as `read_markers` and `scale_and_solve`."""
    trial = read_markers(path, name_map, up)
    standing = read_markers(static, name_map, up) if static else None
    return scale_and_solve(trial, skeleton, standing, weights=weights, source=str(path))


def read_marker_trial(
    path: Path,
    skeleton: Skeleton,
    report: list[Rejection] | None = None,
    static: Path | None = None,
    *,
    group: str | None = None,
    limit_m: float = MARKER_LIMIT_M,
    shortest: int = 32,
    **options,
) -> list[Recording]:
    """Recordings of a marker trial; none, and a line in the report, when its markers do not fit the model.

    Args:
        limit_m: RMS distance of markers and model over the clip beyond which it is not used, m.
        options: name_map, up, weights of `solve_trial`.
    """
    report = [] if report is None else report
    fit = solve_trial(path, skeleton, static, **options)
    group = path.parent.as_posix() if group is None else group
    return fit_recordings(fit, path.stem, group, skeleton, report, limit_m, shortest)


def fit_recordings(
    fit: MarkerFit,
    name: str,
    group: str,
    skeleton: Skeleton,
    report: list[Rejection],
    limit_m: float = MARKER_LIMIT_M,
    shortest: int = 32,
) -> list[Recording]:
    """Recordings of a solved trial, unless its markers are farther from the model's than the limit."""
    if fit.marker_rms_m > limit_m:
        worst = int(fit.frame_rms_m.argmax())
        report.append(
            Rejection(
                name,
                f"marker RMS {1000 * fit.marker_rms_m:.1f} mm (frame {worst}: "
                f"{1000 * fit.frame_rms_m[worst]:.1f} mm); expected at most {1000 * limit_m:.0f} mm",
            )
        )
        return []
    return recordings_in_range(name, group, fit.time, fit.coordinates, skeleton, report, shortest=shortest)


def _named(names: tuple[str, ...], name_map: dict[str, str], path: Path) -> tuple[str, ...]:
    plain = [name.rsplit(":", 1)[-1].strip() for name in names]
    absent = [n for n in name_map if n not in names and n not in plain]
    if absent:
        raise BiokinError(
            f"{path}: the name map has {', '.join(absent[:5])}, which the trial has not; it has "
            f"{', '.join(plain[:12])}{', ...' if len(plain) > 12 else ''}."
        )
    result: list[str] = []
    for full, name in zip(names, plain, strict=True):
        if full in name_map or name in name_map:
            name = name_map.get(full, name_map.get(name, name))
        elif name[:1] in "RrLl" and name[1:] in _ALIASES:
            name = name[0].upper() + _ALIASES[name[1:]]
        elif name == "C7_study":
            name = "C7"
        # the first of two markers of one name counts
        result.append(name if name not in result else f"{name}#{len(result)}")
    return tuple(result)


def _up(table: MarkerTable, up: str | None, path: Path) -> tuple[int, float]:
    """Axis and sign of up."""
    if up is not None:
        letters = up.strip().upper()
        if letters.lstrip("+-") not in ("X", "Y", "Z"):
            raise BiokinError(f"{path}: up is {up!r}; expected X, Y or Z, or one of them with a minus.")
        return "XYZ".index(letters[-1]), -1.0 if letters.startswith("-") else 1.0
    at = {name: i for i, name in enumerate(table.names)}
    high, low = ([at[n] for n in group if n in at] for group in (_SHOULDERS, _FEET))
    if high and low:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # frames without any of the markers
            above = np.nanmean(table.points[:, high], axis=1) - np.nanmean(table.points[:, low], axis=1)
            way = np.nanmean(above, axis=0)
        axis = int(np.abs(way).argmax())
        if np.isfinite(way).all() and abs(way[axis]) > 0.8 * np.linalg.norm(way):
            return axis, float(np.sign(way[axis]))
    if path.suffix.lower() == ".trc" and not (high and low):
        return 1, 1.0  # OpenSim's convention
    raise BiokinError(f"{path}: its markers do not show which axis points up; say so with up='Z' (or X, Y).")


def _filled(time: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Points with short gaps filled by monotone cubics."""
    filled = points.copy()
    for m in range(points.shape[1]):
        seen = np.isfinite(points[:, m]).all(-1)
        if seen.all() or seen.sum() < 4:
            continue
        known = np.flatnonzero(seen)
        curve = PchipInterpolator(time[known], points[known, m])
        for before, after in zip(known[:-1], known[1:], strict=True):
            if after - before > 1 and time[after] - time[before] <= _GAP_S:
                filled[before + 1 : after, m] = curve(time[before + 1 : after])
    return filled
