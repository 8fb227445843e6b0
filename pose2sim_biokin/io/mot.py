"""OpenSim motion files (.mot): joint angles over time."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from pose2sim_biokin.errors import BiokinError
from pose2sim_biokin.io.atomic import atomic_path
from pose2sim_biokin.skeleton.model import Skeleton

# As OpenSim's InverseKinematicsTool writes it; Pose2Sim's read_mot keeps these lines as they are.
_HEADER = """\
Coordinates
version=1
nRows={rows}
nColumns={columns}
inDegrees={degrees}

Units are S.I. units (second, meters, Newtons, ...)
If the header above contains a line with 'inDegrees', this indicates whether rotational values are in \
degrees (yes) or radians (no).

endheader
"""


class MotionTable(NamedTuple):
    """Coordinates over time: time (T,) s; names (nc); coordinates (T, nc), rad and m."""

    time: np.ndarray
    names: tuple[str, ...]
    coordinates: np.ndarray


def in_degrees(skeleton: Skeleton) -> np.ndarray:
    """(nc,) bool: the coordinates that OpenSim writes in degrees in a file with ``inDegrees=yes``.

    Those that turn a joint about an axis by their own value. One that only drives a curve (the kneecaps'
    ``knee_angle_r_beta``, motion type "coupled") stays as it is: SimbodyEngine::convertRadiansToDegrees.
    """
    flags = np.zeros(len(skeleton.coordinate_names), dtype=bool)
    for joint in skeleton.joints.terms:
        for terms in joint[:3]:
            if terms.constant == 0 and not terms.curves and len(terms.linear) == 1:
                flags[terms.linear[0][0]] = True
    return flags


def write_mot(path: str | Path, time: np.ndarray, coordinates: np.ndarray, skeleton: Skeleton) -> Path:
    """Write coordinates as an OpenSim motion file, angles in degrees.

    Frames in which a coordinate is not finite are left out: OpenSim interpolates between the others, but
    cannot draw a pose that is not a number.

    Args:
        path: the file; replaced in one step.
        time: (T,) seconds, increasing.
        coordinates: (T, nc) in the skeleton's order, rad and m.
        skeleton: says which coordinates are angles.

    Raises:
        BiokinError: no frame is finite, or the file cannot be written.
    """
    time = np.asarray(time, dtype=np.float64)
    coordinates = np.asarray(coordinates, dtype=np.float64)
    if coordinates.shape != (len(time), len(skeleton.coordinate_names)):
        raise ValueError(
            f"coordinates: expected {(len(time), len(skeleton.coordinate_names))}, found {coordinates.shape}"
        )
    kept = np.isfinite(coordinates).all(axis=1)
    if not kept.any():
        raise BiokinError(f"{path}: no frame holds a pose; nothing to write.")
    values = np.where(in_degrees(skeleton), np.rad2deg(coordinates), coordinates)
    table = np.column_stack([time, values])[kept]
    header = _HEADER.format(rows=len(table), columns=table.shape[1], degrees="yes")
    with atomic_path(path) as staged, staged.open("w", encoding="utf-8", newline="\n") as file:
        file.write(header)
        file.write("\t".join(("time", *skeleton.coordinate_names)) + "\n")
        np.savetxt(file, table, fmt="%.9g", delimiter="\t")
    return Path(path)


def read_mot(path: str | Path, skeleton: Skeleton) -> MotionTable:
    """Read an OpenSim motion file, angles back to radians whatever the header says.

    Columns that the skeleton does not have stay in the file's own unit.

    Raises:
        BiokinError: the file is missing, has no header, or rows of different lengths.
    """
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BiokinError(f"{path}: cannot be read as a motion file ({error}).") from error
    end = next((i for i, line in enumerate(lines) if line.strip().lower() == "endheader"), None)
    if end is None or end + 1 >= len(lines):
        raise BiokinError(f"{path}: no 'endheader' line; expected an OpenSim .mot file.")
    keys = dict(line.split("=", 1) for line in lines[:end] if "=" in line)
    degrees = keys.get("inDegrees", "no").strip().lower() == "yes"
    names = tuple(lines[end + 1].split())
    try:
        table = np.array([[float(v) for v in line.split()] for line in lines[end + 2 :] if line.strip()])
        table = table.reshape(-1, len(names))
    except ValueError as error:
        raise BiokinError(
            f"{path}: expected {len(names)} numbers in every row below the names, found otherwise ({error})."
        ) from error
    values = table[:, 1:]
    if degrees:
        angles = dict(zip(skeleton.coordinate_names, in_degrees(skeleton), strict=True))
        turned = np.array([bool(angles.get(name, False)) for name in names[1:]])
        values = np.where(turned, np.deg2rad(values), values)
    return MotionTable(table[:, 0], names[1:], values)
