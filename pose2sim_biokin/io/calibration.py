"""Calibration files: the ``Calib*.toml`` that Pose2Sim, caliscope and anipose write, to and from Cameras."""

from __future__ import annotations

import logging
import math
import os
import tomllib
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from pose2sim_biokin.errors import BiokinError
from pose2sim_biokin.vision.camera import Camera

log = logging.getLogger(__name__)

NOT_CAMERAS = ("metadata", "capture_volume", "charuco", "checkerboard")
REQUIRED = ("size", "matrix", "distortions", "rotation", "translation")
# No two-camera set-up for one person is this wide: larger numbers are millimetres or centimetres.
_WIDEST_SETUP_M = 150.0
# Codecs pad pictures to whole 16-pixel blocks (1080 -> 1088); sizes this near are the same picture, cropped.
_BLOCK_PX = 16


def find_calibration(folder: Path | str, levels: int = 2) -> Path:
    """The calibration file of a trial: the newest ``*.toml`` in the first folder whose name holds "calib".

    Looks in ``folder`` (the trial), then in the ``levels`` - 1 folders above it (the session), as Pose2Sim
    does.

    Raises:
        BiokinError: no such folder, or no ``.toml`` in it.
    """
    folder = Path(folder).resolve()
    empty: list[Path] = []
    for place in [folder, *folder.parents][:levels]:
        if not place.is_dir():
            continue
        for child in sorted(place.iterdir()):
            if not child.is_dir() or "calib" not in child.name.lower():
                continue
            files = [f for f in child.iterdir() if f.suffix.lower() == ".toml" and f.is_file()]
            if files:
                return max(files, key=lambda f: (f.stat().st_ctime, f.name))
            empty.append(child)
    if empty:
        raise BiokinError(
            f"{empty[0]}: no calibration file (*.toml) in this folder. Run Pose2Sim.calibration() to "
            "convert or calculate one first."
        )
    raise BiokinError(
        f"{folder}: no calibration folder here or above. Expected a folder whose name holds 'calib', with "
        "the *.toml that Pose2Sim.calibration() writes."
    )


def read_calibration(path: Path | str) -> list[Camera]:
    """Cameras of a calibration file, in the file's order.

    One table a camera with ``size`` [width, height] px, ``matrix`` (3, 3), ``distortions`` (4 to 14 numbers,
    OpenCV's order), ``rotation`` (Rodrigues vector or 3x3 matrix, world to camera), ``translation`` (metres,
    world to camera), and perhaps ``name`` (else the table's) and ``fisheye``. Tables under a common
    ``[cameras]`` are found too.

    Raises:
        BiokinError: unreadable file, missing or malformed keys, NaN, fewer than two cameras, cameras without
            a position, positions that are evidently not in metres.
    """
    path = Path(path)
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise BiokinError(f"{path}: the calibration cannot be read ({error.strerror or error}).") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BiokinError(
            f"{path}: not a valid TOML file ({error}). Run Pose2Sim.calibration() again."
        ) from error
    if isinstance(tables.get("cameras"), dict):
        tables = {**tables, **tables["cameras"]}
        del tables["cameras"]
    cameras = [
        _camera(path, key, table)
        for key, table in tables.items()
        if key not in NOT_CAMERAS and isinstance(table, dict)
    ]
    names = [camera.name for camera in cameras]
    if len(cameras) < 2:
        found = f"only {names[0]!r}" if cameras else "none"
        raise BiokinError(f"{path}: at least two calibrated cameras are needed, found {found}.")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise BiokinError(f"{path}: two cameras are named {twice[0]!r}. Give each its own name.")
    _check_positions(path, cameras)
    return cameras


def write_calibration(path: Path | str, cameras: list[Camera]) -> None:
    """Writes cameras as Pose2Sim's calibration file (UTF-8); :func:`read_calibration` gives the same
    cameras back.
    """
    lines = []
    for camera in cameras:
        rotation = cv2.Rodrigues(camera.R)[0].ravel()
        key = camera.name if camera.name.replace("_", "").replace("-", "").isalnum() else _quoted(camera.name)
        matrix = ", ".join(_numbers(row) for row in camera.K)
        lines += [
            f"[{key}]",
            f"name = {_quoted(camera.name)}",
            f"size = {_numbers((camera.width, camera.height))}",
            f"matrix = [ {matrix}]",
            f"distortions = {_numbers(camera.distortion)}",
            f"rotation = {_numbers(rotation)}",
            f"translation = {_numbers(camera.t)}",
            f"fisheye = {'true' if camera.fisheye else 'false'}",
            "",
        ]
    lines += ["[metadata]", "adjusted = false", "error = 0.0", ""]
    path = Path(path)
    partial = path.with_name(path.name + ".part")
    partial.write_text("\n".join(lines), encoding="utf-8")
    os.replace(partial, path)


def match_video_size(camera: Camera, width: int, height: int, video: Path | str) -> Camera:
    """The camera for a video of ``width`` x ``height`` pixels.

    Sizes that differ by less than a codec block (1080 for 1088) are the same picture and the camera takes the
    video's size; K is kept, since codecs crop at the right and bottom. Anything else would put every pixel in
    the wrong place.

    Raises:
        BiokinError: the sizes differ, with what was found and what to do.
    """
    if camera.size == (width, height):
        return camera
    found = f"{video}: the video is {width}x{height} pixels, but camera {camera.name!r} was calibrated"
    found = f"{found} at {camera.width}x{camera.height}."
    if abs(camera.width - width) < _BLOCK_PX and abs(camera.height - height) < _BLOCK_PX:
        log.info("%s Taken as the same picture, cropped at the right and bottom by the codec.", found)
        return replace(camera, width=width, height=height)
    if abs(camera.width - height) < _BLOCK_PX and abs(camera.height - width) < _BLOCK_PX:
        raise BiokinError(
            f"{found} Width and height are swapped: the camera or phone was turned between calibration and "
            "recording, or the video carries a rotation flag. Calibrate and record in the same orientation."
        )
    if abs(camera.width / camera.height - width / height) < 0.01 * width / height:
        raise BiokinError(f"{found} Scale matrix and size of the calibration by {width / camera.width:.4g}.")
    raise BiokinError(
        f"{found} Check that videos and cameras are in the same (alphabetical) order, and that the "
        "calibration was made with these camera settings."
    )


def _camera(path: Path, key: str, table: dict) -> Camera:
    """One table of a calibration file as a Camera."""
    name = str(table.get("name") or key)
    where = f"{path}: camera {name!r}"
    missing = [k for k in REQUIRED if k not in table]
    if missing:
        raise BiokinError(
            f"{where} lacks {', '.join(missing)}. Expected {', '.join(REQUIRED)}: run "
            "Pose2Sim.calibration() again."
        )
    size = _array(where, "size", table["size"], (2,))
    K = _array(where, "matrix", table["matrix"], (3, 3))
    distortion = _array(where, "distortions", table["distortions"], None)
    t = _array(where, "translation", table["translation"], (3,))
    rotation = _array(where, "rotation", table["rotation"], None)
    if rotation.size == 3:
        R = cv2.Rodrigues(rotation.reshape(3))[0]
    elif rotation.size == 9:
        R = rotation.reshape(3, 3)
        if np.abs(R @ R.T - np.eye(3)).max() > 1e-3 or np.linalg.det(R) < 0:
            raise BiokinError(f"{where}: rotation is a 3x3 matrix, but not a rotation matrix.")
    else:
        raise BiokinError(
            f"{where}: rotation has {rotation.size} numbers, expected 3 (a Rodrigues vector) or 3x3."
        )
    if min(size) < 1:
        raise BiokinError(f"{where}: size is {size.tolist()}, expected [width, height] in pixels.")
    if K[0, 0] <= 0 or K[1, 1] <= 0 or np.abs(K[2] - (0, 0, 1)).max() > 1e-6:
        raise BiokinError(f"{where}: matrix is not a camera matrix [[fx, 0, cx], [0, fy, cy], [0, 0, 1]].")
    fisheye = bool(table.get("fisheye", False))
    if distortion.size > 14 or (fisheye and distortion.size not in (0, 4)):
        expected = "4 for a fisheye lens" if fisheye else "at most 14"
        raise BiokinError(f"{where}: {distortion.size} distortions, expected {expected}.")
    return Camera(name, round(size[0]), round(size[1]), K, distortion, R, t, fisheye)


def _array(where: str, key: str, value: object, shape: tuple[int, ...] | None) -> np.ndarray:
    """The numbers of a key as float64; a BiokinError names what is wrong with them."""
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise BiokinError(f"{where}: {key} is {value!r}, expected numbers.") from error
    if shape is not None and array.size != math.prod(shape):
        raise BiokinError(f"{where}: {key} has {array.size} numbers, expected {math.prod(shape)}.")
    if not np.isfinite(array).all():
        raise BiokinError(
            f"{where}: {key} holds NaN or infinite numbers ({value!r}): the calibration failed. Run it again."
        )
    return array.reshape(shape) if shape is not None else array.ravel()


def _check_positions(path: Path, cameras: list[Camera]) -> None:
    """Refuses cameras that are all in one place, and positions that are evidently not in metres."""
    centers = np.array([camera.center for camera in cameras])
    distances = np.linalg.norm(centers[:, None] - centers[None], axis=-1)
    widest = distances.max()
    if widest < 1e-3:
        raise BiokinError(
            f"{path}: all cameras are in the same place: only the lenses were calibrated. Calculate the "
            "extrinsic parameters with Pose2Sim.calibration()."
        )
    if widest > _WIDEST_SETUP_M:
        unit, factor = (
            ("millimetres", 1000) if widest > 10 * _WIDEST_SETUP_M else ("millimetres or centimetres", None)
        )
        what = "Divide them by 1000." if factor else "Convert them to metres."
        raise BiokinError(
            f"{path}: the cameras are up to {widest:.0f} m apart: the translations are evidently in {unit}, "
            f"expected metres. {what}"
        )


def _numbers(values: object) -> str:
    """A TOML array of floats that read back exactly."""
    return "[ " + ", ".join(repr(float(v)) for v in np.ravel(values)) + "]"


def _quoted(text: str) -> str:
    """A TOML basic string."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
