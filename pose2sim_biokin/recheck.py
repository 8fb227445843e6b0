"""A result that is there already, checked again: in more frames, in all cameras."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np

from pose2sim_biokin import perception
from pose2sim_biokin.check import check_motion, check_summary, judged_views
from pose2sim_biokin.errors import BiokinError
from pose2sim_biokin.io.atomic import atomic_path
from pose2sim_biokin.io.mot import read_mot
from pose2sim_biokin.io.project import read_trial
from pose2sim_biokin.motion import Motion
from pose2sim_biokin.overlay import stick_figure
from pose2sim_biokin.predictor import choose_device
from pose2sim_biokin.progress import Progress, no_progress
from pose2sim_biokin.quality import plain, read_quality
from pose2sim_biokin.skeleton.model import Skeleton, load_skeleton
from pose2sim_biokin.trials import read_configs, trial_folder

FRAMES = 24  # of each camera that are looked at when nothing else is said
_ENDING = "_biokin_quality.json"


def check_project(
    project: Path,
    overrides: dict[str, Any],
    count: int = FRAMES,
    json_file: Path | None = None,
    progress: Callable[[], AbstractContextManager[Progress]] | None = None,
) -> list[dict[str, Any]]:
    """Check the newest result of every trial; see `check_trial`.

    Args:
        project: folder of a trial or of a batch, or a Config.toml.
        overrides: keys of [biokin] that win over Config.toml.
        json_file: write what was found to this file, as a list; NaN becomes null.
        progress: opens the progress of one trial.

    Raises:
        BiokinError: trials that could not be checked are named once the others are done; nothing is written
            then.
    """
    config_dicts = read_configs(project)
    checks, failed = [], []
    for config_dict in config_dicts:
        config_dict.setdefault("biokin", {}).update(overrides)
        name = trial_folder(config_dict).name
        try:
            if progress is None:
                checks.append(check_trial(config_dict, count))
            else:
                with progress() as bar:
                    checks.append(check_trial(config_dict, count, bar))
        except BiokinError as error:
            if len(config_dicts) == 1:
                raise
            logging.error(f"{name}: {error}")
            failed.append(name)
    if failed:
        raise BiokinError(f"{len(failed)} of {len(config_dicts)} trials failed: {', '.join(failed)}.")
    if json_file is not None:
        text = json.dumps(plain(checks), ensure_ascii=False, indent=2)
        with atomic_path(json_file) as staged:
            staged.write_text(text + "\n", encoding="utf-8")
    return checks


def check_trial(
    config_dict: dict[str, Any], count: int = FRAMES, progress: Progress | None = None
) -> dict[str, Any]:
    """Check a trial's newest result of this backend in every camera that has a video.

    Unlike the check of a run, the person's masks are looked for where the result says the person is, in the
    used cameras too, and are not sharpened.

    Args:
        config_dict: the trial's config as Pose2Sim merged it.
        count: frames of each camera to look at.
        progress: told how far it is.

    Returns:
        ``{trial, result, **check_summary}``.

    Raises:
        BiokinError: there is no result, or something in the project cannot be used.
    """
    progress = progress or no_progress
    everything = {**config_dict, "biokin": {**config_dict.get("biokin", {}), "views": "auto"}}
    trial = read_trial(everything)
    skeleton = load_skeleton()
    path, quality = _newest(trial.kinematics_dir)
    first, last = quality["frame_range"]
    frames = range(first, last + 1)
    motion = read_motion(path, quality, skeleton)
    middle = stick_figure(motion, skeleton).points[:, : len(skeleton.body_names)].mean(axis=1)
    positions = {f: middle[f - first] for f in frames if np.isfinite(middle[f - first]).all()}

    segmenter = perception.load_segmenter(trial, str(choose_device(trial.config.device)))
    batch = trial.config.batch_size
    masks = perception.people_at(trial.views, positions, segmenter, batch, progress, count=count)
    used = {view["camera"] for view in quality["views"]}
    judged = judged_views([view.camera for view in trial.views], masks, frames, used)
    check = check_motion(motion, skeleton, trial.fps, judged, progress)
    return {"trial": trial.name, "result": path.name, **check_summary(check, np.asarray(frames))}


def read_motion(mot: Path, quality: dict[str, Any], skeleton: Skeleton) -> Motion:
    """A result of this backend, as it left the network: a row for every frame of its quality file.

    Args:
        mot: the motion file.
        quality: what the quality file beside it says; gives frames, rate and scales.
        skeleton: of both.

    Raises:
        BiokinError: the file cannot be read, or the two do not belong together.
    """
    table = read_mot(mot, skeleton)
    first, last = quality["frame_range"]
    rows = np.round(table.time * quality["fps"]).astype(int) - first
    fits = table.names == skeleton.coordinate_names and len(rows) > 0
    if not fits or rows.min() < 0 or rows.max() > last - first:
        raise BiokinError(
            f"{mot}: does not belong to the quality file beside it (frames {first} to {last} of "
            f"{skeleton.name}). Run the trial again."
        )
    coordinates = np.full((last - first + 1, len(skeleton.coordinate_names)), np.nan)
    coordinates[rows] = table.coordinates
    try:
        scales = np.array([quality["scales"][name] for name in skeleton.body_names], dtype=np.float64)
    except KeyError as error:
        raise BiokinError(f"{mot}: the quality file beside it has no scale of body {error}.") from error
    return Motion(np.arange(first, last + 1) / quality["fps"], coordinates, scales, skeleton.name)


def _newest(folder: Path) -> tuple[Path, dict[str, Any]]:
    """The motion file of the newest result in a kinematics folder, and what its quality file says."""
    found = sorted(folder.glob(f"*{_ENDING}"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise BiokinError(
            f"{folder}: no result of biokin (a file named like *{_ENDING}). Run biokin run first."
        )
    quality = read_quality(found[-1])
    mot = found[-1].with_name(found[-1].name.removesuffix("_quality.json") + ".mot")
    return mot, quality
