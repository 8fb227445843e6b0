"""Marker files: .trc and .c3d, laid out as Pose2Sim's."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pose2sim_biokin.errors import BiokinError
from pose2sim_biokin.io.atomic import atomic_path


class MarkerTable(NamedTuple):
    """Points over time: frames (T,) int; time (T,) s; names (n); points (T, n, 3) m, OpenSim's ground."""

    frames: np.ndarray
    time: np.ndarray
    names: tuple[str, ...]
    points: np.ndarray


def write_trc(path: str | Path, table: MarkerTable, frame_rate: float) -> Path:
    """Write points as a .trc file: 5 header lines, tabs, metres, Y up, as Pose2Sim's triangulation does.

    Points that are not finite become empty cells, which OpenSim and Pose2Sim read as missing.

    Args:
        path: the file; replaced in one step.
        table: points in OpenSim's ground, X forward, Y up, Z right.
        frame_rate: Hz.

    Raises:
        BiokinError: the file cannot be written.
    """
    path = Path(path)
    count, names = len(table.time), list(table.names)
    points = np.asarray(table.points, dtype=np.float64)
    if points.shape != (count, len(names), 3):
        raise ValueError(f"points: expected {(count, len(names), 3)}, found {points.shape}")
    rate = f"{frame_rate:g}"
    first = int(table.frames[0]) if count else 0
    header = [
        f"PathFileType\t4\t(X/Y/Z)\t{path.name}",
        "DataRate\tCameraRate\tNumFrames\tNumMarkers\tUnits\tOrigDataRate\tOrigDataStartFrame\tOrigNumFrames",
        "\t".join(map(str, [rate, rate, count, len(names), "m", rate, first, count])),
        "Frame#\tTime\t" + "\t\t\t".join(names) + "\t\t\t",
        "\t\t" + "\t".join(f"X{i}\tY{i}\tZ{i}" for i in range(1, len(names) + 1)) + "\t",
    ]
    with atomic_path(path) as staged, staged.open("w", encoding="utf-8", newline="\n") as file:
        file.write("\n".join(header) + "\n")
        for frame, time, row in zip(table.frames, table.time, points.reshape(count, -1), strict=True):
            cells = [f"{v:.7f}" if np.isfinite(v) else "" for v in row]
            file.write("\t".join([str(int(frame)), f"{time:.9g}", *cells]) + "\n")
    return path


def read_trc(path: str | Path) -> MarkerTable:
    """Read a .trc file in metres or millimetres; empty cells are NaN.

    Raises:
        BiokinError: the file is missing or is not a .trc file.
    """
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        keys = dict(zip(lines[1].split("\t"), lines[2].split("\t"), strict=False))
        factor = {"m": 1.0, "mm": 0.001}[keys["Units"].strip()]
        names = tuple(name.strip() for name in lines[3].split("\t")[2::3] if name.strip())
        width = 2 + 3 * len(names)
        rows = []
        for line in lines[5:]:
            if line.strip():
                cells = line.split("\t")[:width]
                cells += [""] * (width - len(cells))
                rows.append([float(cell) if cell.strip() else np.nan for cell in cells])
        table = np.array(rows, dtype=np.float64).reshape(-1, width)
    except (OSError, UnicodeDecodeError, IndexError, KeyError, ValueError) as error:
        raise BiokinError(
            f"{path}: cannot be read as a .trc file ({error!r}); expected 5 header lines, tabs, units m "
            "or mm."
        ) from error
    points = factor * table[:, 2:].reshape(len(table), len(names), 3)
    return MarkerTable(table[:, 0].astype(int), table[:, 1], names, points)


def write_c3d(path: str | Path, table: MarkerTable, frame_rate: float) -> Path:
    """Write points as a .c3d file: mm, Y up and Z to the right on screen, as Pose2Sim's create_c3d_file.

    That function stores whole millimetres and writes missing points as if they had been seen; this one
    stores floating-point numbers and marks points that are not finite as missing (residual -1).

    Args:
        path: the file; replaced in one step.
        table: points in OpenSim's ground.
        frame_rate: Hz.

    Raises:
        BiokinError: no frame, or the file cannot be written.
    """
    import c3d

    if not len(table.time):
        raise BiokinError(f"{path}: no frame to write.")
    writer = c3d.Writer(
        point_rate=frame_rate, analog_rate=0, point_scale=-1.0, point_units="mm", gen_scale=-1.0
    )
    writer.set_point_labels(list(table.names))
    writer.set_screen_axis(X="+Z", Y="+Y")
    for row in np.asarray(table.points, dtype=np.float64):
        seen = np.isfinite(row).all(axis=1)
        points = np.zeros((len(row), 5))
        points[seen, :3] = 1000 * row[seen]
        points[~seen, 3] = -1
        writer.add_frames([(points, np.array([]))])
    writer.set_start_frame(max(int(table.frames[0]), 1))
    with atomic_path(path) as staged, staged.open("wb") as file, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="No analog data")  # there are none
        writer.write(file)
    return Path(path)


def motion_points(
    time: np.ndarray, frames: np.ndarray, joint_centers: np.ndarray, markers: np.ndarray, skeleton
) -> MarkerTable:
    """Joint centres, named after their joints, then the model's markers, as one table.

    Args:
        time: (T,) s. frames: (T,) frame numbers.
        joint_centers: (T, nb, 3), markers: (T, nm, 3), metres in OpenSim's ground.
        skeleton: gives the names.
    """
    names = (*skeleton.joints.names, *skeleton.marker_names)
    return MarkerTable(
        np.asarray(frames), np.asarray(time), names, np.concatenate([joint_centers, markers], axis=1)
    )
