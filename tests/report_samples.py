"""Trials with known motion on disk, as the pipeline leaves them, for tests of the report."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from pipeline_scene import FPS, camera_at, draw_person, walking

from pose2sim_biokin.compare.result import BackendResult, read_result
from pose2sim_biokin.io.calibration import write_calibration
from pose2sim_biokin.io.mot import write_mot
from pose2sim_biokin.io.osim import write_osim
from pose2sim_biokin.motion import FrameQuality, Motion
from pose2sim_biokin.overlay import stick_figure, write_overlay
from pose2sim_biokin.quality import build_quality, write_quality
from pose2sim_biokin.skeleton import load_skeleton
from pose2sim_biokin.vision.camera import Camera

VIEWS = ("cam01", "cam02")


def write_trial(
    folder: Path,
    count: int = 60,
    missing: tuple[int, ...] = (),
    interpolated: tuple[int, ...] = (),
    overlays: bool = False,
    recordings: bool = False,
    label: str = "biokin",
    change=None,
    warnings: tuple[str, ...] = (),
) -> BackendResult:
    """Write a walk as a run of the pipeline leaves it, and read it back.

    Args:
        missing: frames without a pose. interpolated: frames flagged as such.
        overlays: also both overlay videos. recordings: also calibration and videos of both cameras.
        label: of the result, and part of the files' names.
        change: (time, coordinates (T, nc), skeleton) -> coordinates, to make another backend's result.
    """
    skeleton = load_skeleton()
    motion = walking(count, skeleton)
    coordinates = motion.coordinates.copy()
    if change is not None:
        coordinates = change(motion.time, coordinates, skeleton)
    filmed = replace(motion, coordinates=coordinates.copy())
    coordinates[list(missing)] = np.nan
    motion = replace(motion, coordinates=coordinates)
    kinematics = folder / "kinematics"
    kinematics.mkdir(parents=True, exist_ok=True)
    stem = f"{folder.name}_0-{count - 1}_{label}"
    mot, osim = kinematics / f"{stem}.mot", kinematics / f"{stem}.osim"
    write_mot(mot, motion.time, motion.coordinates, skeleton)
    write_osim(osim, skeleton, motion.scales, 65.0, name=stem)
    if label == "biokin":
        quality = _quality(motion, list(interpolated), skeleton, folder, list(warnings))
        write_quality(kinematics / f"{stem}_quality.json", quality)
        if overlays:
            _overlays(kinematics, stem, motion, skeleton)
    if recordings:
        _recordings(folder, filmed, skeleton)
    return read_result(osim, mot, label)


def _quality(motion: Motion, interpolated, skeleton, folder, warnings) -> dict:
    count = len(motion.time)
    posed = np.isfinite(motion.coordinates).all(axis=1)
    flags = np.zeros(count, bool)
    flags[interpolated] = True
    overlap = np.full((count, 2), 0.96)
    overlap[count // 4, 1] = 0.61
    overlap[~posed] = np.nan
    evidence = FrameQuality(
        np.stack([posed, posed], 1), flags, np.where(posed, 0.9, np.nan), np.ones((count, 3)), overlap,
        np.zeros(count),
    )  # fmt: skip
    run = {
        "trial": folder.name,
        "project_dir": folder,
        "calibration": folder / "calibration" / "Calib.toml",
        "frame_range": [0, count - 1],
        "fps": FPS,
        "views": [{"camera": v, "video": f"{v}.avi", "size": [320, 240], "offset": 0} for v in VIEWS],
        "participant_mass_kg": 65.0,
        "segmentation": "masks of the test",
        "timings_s": {"joint angles": 1.25, "total": 4.5},
        "warnings": warnings,
    }
    info = {"weights": "fast.pt", "sha256": "0" * 64, "device": "cpu"}
    motion = replace(motion, quality=evidence, info=info)
    return build_quality(motion, np.arange(count), list(VIEWS), skeleton, run)


def cameras() -> list[Camera]:
    """The two cameras, 100 degrees apart."""
    return [camera_at(view, 100 * k) for k, view in enumerate(VIEWS)]


def _recordings(folder: Path, motion: Motion, skeleton) -> None:
    figure = stick_figure(motion, skeleton)
    (folder / "videos").mkdir()
    (folder / "calibration").mkdir()
    write_calibration(folder / "calibration" / "Calib.toml", cameras())
    for camera in cameras():
        path = folder / "videos" / f"{camera.name}.avi"
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), FPS, camera.size)
        for row in range(len(motion.time)):
            writer.write(draw_person(camera, figure, row, (120, 120, 120)))
        writer.release()


def _overlays(kinematics: Path, stem: str, motion: Motion, skeleton) -> None:
    figure = stick_figure(motion, skeleton)
    for camera in cameras():

        def images(camera=camera):
            for row in range(len(motion.time)):
                seen = np.isfinite(figure.points[row]).all()
                blank = np.full((camera.height, camera.width, 3), 25, np.uint8)
                yield row, draw_person(camera, figure, row, (40, 40, 200)) if seen else blank

        write_overlay(kinematics / f"{stem}_{camera.name}.mp4", images(), camera, figure, FPS)
