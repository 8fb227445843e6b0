"""Folders of OpenSim motion files (.mot, .sto): joint angles of this skeleton, at any rate, as recordings."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from odah.motions.clips import FPS, Recording, cut_recordings, resampled
from odah.motions.tracks import Tracks
from pose2sim_biokin.errors import BiokinError
from pose2sim_biokin.io.mot import in_degrees
from pose2sim_biokin.skeleton.angles import CONSTRAINED, FIXED, FREE, TRANSLATIONS
from pose2sim_biokin.skeleton.model import Skeleton

SUFFIXES = (".mot", ".sto")
# Coordinates of other models that mean the same, with the same sign. Pose2Sim's models turn the trunk at
# L5-S1 about the same axes in the same order; its model with more lumbar joints adds them up.
_TRUNK = {
    "lumbar_extension": r"(L5_S1|L[1-4]_L[2-5]|L1_T12)_Flex_Ext",
    "lumbar_bending": r"(L5_S1|L[1-4]_L[2-5]|L1_T12)_Lat_Bending",
    "lumbar_rotation": r"(L5_S1|L[1-4]_L[2-5]|L1_T12)_axial_rotation",
}
# Recorded joints go a little beyond a model's range; what goes farther is another convention or a bad fit.
RANGE_TOLERANCE_DEG = 15.0
# Forearms, which marker sets determine poorly: published motions go 30 degrees beyond the range.
_FOREARM_DEG = 35.0


@dataclass(frozen=True)
class Rejection:
    """A part of a motion that is not used, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class Storage:
    """An OpenSim storage file: time (T,) s, names (n), values (T, n) as they stand, header's inDegrees."""

    time: np.ndarray
    names: tuple[str, ...]
    values: np.ndarray
    degrees: bool


def read_storage(path: Path) -> Storage:
    """Read a .mot or .sto file of any content.

    Raises:
        BiokinError: missing, no header, no time column, or rows of different lengths.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    except OSError as error:
        raise BiokinError(f"{path}: cannot be read ({error}).") from error
    end = next((i for i, line in enumerate(lines) if line.strip().lower() == "endheader"), None)
    if end is None or end + 2 > len(lines):
        raise BiokinError(f"{path}: no 'endheader' line; expected an OpenSim .mot or .sto file.")
    keys = dict(re.split(r"\s*=\s*", line.strip(), maxsplit=1) for line in lines[:end] if "=" in line)
    rows = [line.split() for line in lines[end + 1 :] if line.strip()]
    names = tuple(rows[0]) if rows else ()
    if not names or names[0].lower() != "time":
        raise BiokinError(f"{path}: its first column is {names[:1]}; expected 'time'.")
    try:
        table = np.array([[float(v) for v in row] for row in rows[1:]]).reshape(-1, len(names))
    except ValueError as error:
        raise BiokinError(
            f"{path}: expected {len(names)} numbers in every row below the names, found otherwise ({error})."
        ) from error
    degrees = next((v for k, v in keys.items() if k.lower() == "indegrees"), "no").lower() == "yes"
    return Storage(table[:, 0], names[1:], table[:, 1:], degrees)


def storage_coordinates(storage: Storage, skeleton: Skeleton, source: str) -> np.ndarray:
    """Coordinates (T, nc) rad and m of a storage file; what the skeleton locks is zero if it is missing.

    States files ("/jointset/hip_r/hip_flexion_r/value") are read too.

    Raises:
        BiokinError: coordinates are missing or not finite.
    """
    columns: dict[str, list[int]] = {}
    for i, name in enumerate(storage.names):
        parts = name.split("/")
        short = parts[-2] if len(parts) > 1 and parts[-1] == "value" else parts[-1]
        if short in skeleton.coordinate_names and (len(parts) == 1 or parts[-1] == "value"):
            columns.setdefault(short, []).append(i)
    for name, pattern in _TRUNK.items():
        if name not in columns:
            found = [i for i, n in enumerate(storage.names) if re.fullmatch(pattern, n)]
            if found:
                columns[name] = found
    missing = [n for n in (*FREE, *CONSTRAINED) if n in skeleton.coordinate_names and n not in columns]
    if missing:
        arms = all(n.startswith(("arm_", "elbow_", "pro_sup_")) for n in missing)
        hint = " (without arms)" if arms else ""
        raise BiokinError(
            f"{source}: a motion of another model{hint}: {len(missing)} coordinates of {skeleton.name} are "
            f"missing ({', '.join(missing[:6])}{', ...' if len(missing) > 6 else ''}); it has "
            f"{', '.join(storage.names[:6])}, .... Run inverse kinematics with this skeleton, or rename the "
            "columns."
        )
    q = np.tile(skeleton.coordinate_defaults, (len(storage.time), 1))
    angles = dict(zip(skeleton.coordinate_names, in_degrees(skeleton), strict=True))
    for name, found in columns.items():
        values = storage.values[:, found].sum(1)
        bad = np.flatnonzero(~np.isfinite(values))
        if len(bad) and name not in FIXED:
            raise BiokinError(
                f"{source}: {name} is not a number in {len(bad)} frames, first in frame {bad[0]} "
                f"({storage.time[bad[0]]:g} s); expected finite values. Fill the gaps or cut the motion."
            )
        turned = storage.degrees and angles[name]
        q[:, skeleton.coordinate_index(name)] = np.deg2rad(values) if turned else values
    return q


def outside_ranges(
    coordinates: np.ndarray, skeleton: Skeleton, tolerance_deg: float = RANGE_TOLERANCE_DEG
) -> tuple[np.ndarray, str]:
    """(T,) bool: frames in which a joint is beyond its range by more than the tolerance; the worst in words.

    Free joints (pelvis, shoulders) have no range; locked ones are not used.
    """
    index = [i for i, n in enumerate(skeleton.coordinate_names) if n in CONSTRAINED]
    low, high = np.degrees(skeleton.coordinate_ranges[index]).T
    values = np.degrees(coordinates[:, index])
    forearm = np.array([skeleton.coordinate_names[i].startswith("pro_sup") for i in index])
    tolerance = np.where(forearm, max(_FOREARM_DEG, tolerance_deg), tolerance_deg)
    excess = np.maximum(low - values, values - high) - tolerance
    outside = (excess > 0).any(1)
    if not outside.any():
        return outside, ""
    frame, k = np.unravel_index(excess.argmax(), excess.shape)
    name = skeleton.coordinate_names[index[k]]
    text = (
        f"{int(outside.sum())} of {len(outside)} frames leave the ranges of {skeleton.name} by more than "
        f"{tolerance[k]:g} degrees: {name} is {values[frame, k]:.1f} in frame {frame}; expected "
        f"{low[k]:.0f} to {high[k]:.0f}"
    )
    if name.startswith("knee") and values[:, k].max() < low[k] + tolerance_deg:
        text += " (in gait2392 and its kin a bent knee is negative: change the sign)"
    return outside, text


def recordings_in_range(
    name: str,
    group: str,
    time: np.ndarray,
    coordinates: np.ndarray,
    skeleton: Skeleton,
    report: list[Rejection],
    *,
    shortest: int = 32,
    tolerance_deg: float = RANGE_TOLERANCE_DEG,
) -> list[Recording]:
    """Recordings of a motion: within the ranges, without jumps, at 60 Hz; the rest goes into the report.

    Args:
        time: (T,) s, increasing; the rate may be any, and uneven. coordinates: (T, nc) rad and m.
    """
    if len(time) < 2 or not (np.diff(time) > 0).all():
        raise BiokinError(f"{name}: expected at least two frames with increasing times, found {len(time)}.")
    outside, reason = outside_ranges(coordinates, skeleton, tolerance_deg)
    if reason:
        report.append(Rejection(name, reason))
    fps = float(1 / np.median(np.diff(time)))
    edges = np.flatnonzero(np.diff(np.concatenate([[1], outside.astype(int), [1]])))
    recordings = []
    for start, stop in edges.reshape(-1, 2):
        if stop - start < 2:
            continue
        t = time[start:stop]
        tracks = Tracks.from_coordinates(coordinates[start:stop], skeleton)
        if np.abs(np.diff(t) * fps - 1).max() > 0.02:  # an uneven rate becomes even
            at = np.interp(np.arange(t[0], t[-1], 1 / fps), t, np.arange(len(t)))
            tracks = resampled(tracks, at)
        found = cut_recordings(f"{name}@{start}" if start else name, group, tracks, fps, shortest)
        recordings += found
    if not recordings and not reason:
        length = f"{time[-1] - time[0]:.2f} s"
        report.append(Rejection(name, f"no smooth stretch of {shortest / FPS:.2f} s in {length}"))
    return recordings


def read_mot_file(
    path: Path, skeleton: Skeleton, report: list[Rejection], *, group: str | None = None, **options
) -> list[Recording]:
    """Recordings of one motion file; options as for `recordings_in_range`."""
    storage = read_storage(path)
    q = storage_coordinates(storage, skeleton, str(path))
    group = path.parent.as_posix() if group is None else group
    return recordings_in_range(path.stem, group, storage.time, q, skeleton, report, **options)


def read_mot_folder(
    folder: Path, skeleton: Skeleton, report: list[Rejection] | None = None, **options
) -> list[Recording]:
    """Recordings of all motion files in a folder and below; what lies in one folder was recorded together.

    Files without any coordinate of a skeleton (forces, states of muscles) are passed over, and reported.

    Raises:
        BiokinError: no motion file, one of another model or with values that are not finite, or nothing that
            can be used.
    """
    report = [] if report is None else report
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    if not files:
        raise BiokinError(f"{folder}: no .mot or .sto file in it; expected OpenSim motion files.")
    recordings = []
    for path in files:
        storage = read_storage(path)
        name = path.relative_to(folder).with_suffix("").as_posix()
        if not _is_motion(storage, skeleton):
            found = ", ".join(storage.names[:3])
            report.append(Rejection(name, f"no coordinates of a model, but {found}, ..."))
            continue
        q = storage_coordinates(storage, skeleton, str(path))
        group = (Path(folder.name) / path.relative_to(folder).parent).as_posix()
        recordings += recordings_in_range(name, group, storage.time, q, skeleton, report, **options)
    if not recordings:
        reasons = "; ".join(f"{r.name}: {r.reason}" for r in report[:3])
        raise BiokinError(f"{folder}: none of its {len(files)} motion files can be used ({reasons}).")
    return recordings


def _is_motion(storage: Storage, skeleton: Skeleton) -> bool:
    names = {part for name in storage.names for part in name.split("/")}
    return bool(names & (set(skeleton.coordinate_names) - set(TRANSLATIONS)))
