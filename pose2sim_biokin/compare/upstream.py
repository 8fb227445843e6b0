"""Pose2Sim's own results of a trial, computed by its own stages from what there is of 2D poses or markers.

Upstream takes every ``.trc`` in pose-3d for its own, ours included, and writes over results of that name. So
its stages work on a copy of the trial that holds only what is theirs; what they make is then moved back.
"""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pose2sim_biokin.dispatch import unhooked
from pose2sim_biokin.errors import BiokinError
from pose2sim_biokin.io.atomic import OutputSet
from pose2sim_biokin.io.calibration import find_calibration
from pose2sim_biokin.io.video import VideoReader, list_videos

TRUTH = "truth"  # what the files of a synthetic trial (odah) are called that hold its own motion
_POSES = ("pose", "pose-sync", "pose-associated")


@dataclass(frozen=True)
class UpstreamRun:
    """What upstream's stages made.

    Attributes:
        osim, mot: in the trial's kinematics folder.
        seconds: wall time of the stages that ran.
        stages: their names, in order.
        start: what they began with: "videos", "2D poses" or "markers".
    """

    osim: Path
    mot: Path
    seconds: float
    stages: tuple[str, ...]
    start: str


def run_upstream(config_dict: dict[str, Any]) -> UpstreamRun:
    """Scaling and inverse kinematics as Pose2Sim does them, and the stages before them that are missing.

    Begins with the markers in pose-3d where there are some, else with the 2D poses, else with the videos,
    for which the weights of upstream's pose estimation must be on this machine. Marker and pose files that
    are made on the way stay in the trial, as after Pose2Sim's own calls. No window is opened.

    Raises:
        BiokinError: something is missing (the message says what), or a stage fails.
    """
    folder = Path(config_dict["project"]["project_dir"]).resolve()
    config_dict = _quiet(config_dict)
    config_dict["project"]["frame_rate"] = _frame_rate(config_dict, folder)
    stages: list[tuple[str, Callable[[dict], None]]] = []
    markers = upstream_markers(folder)
    start = "markers"
    if not markers:
        start = "2D poses"
        if not has_poses(folder):
            start = "videos"
            _estimate_poses(config_dict, folder)
        stages = _stages_from_poses(config_dict, folder)
    from Pose2Sim.kinematics import kinematics_all

    stages.append(("kinematics", unhooked(kinematics_all)))
    with tempfile.TemporaryDirectory(prefix="biokin-upstream-") as name:
        copy = Path(name) / folder.name
        _copy_inputs(folder, copy, markers)
        config_dict["project"]["project_dir"] = str(copy)
        begin = time.perf_counter()
        for stage, function in stages:
            _run_stage(stage, function, config_dict, folder)
        seconds = time.perf_counter() - begin
        osim, mot = _move_results(copy, folder)
    return UpstreamRun(osim, mot, seconds, tuple(stage for stage, _ in stages), start)


def upstream_markers(folder: Path) -> list[Path]:
    """Marker files (.trc) in a trial's pose-3d that this package did not write."""
    found = sorted((folder / "pose-3d").glob("*.trc"))
    return [p for p in found if "_biokin" not in p.stem and p.stem != TRUTH]


def has_poses(folder: Path) -> bool:
    """Whether a trial has 2D poses of any camera."""
    return any((folder / "pose").glob("*/*.json"))


def missing_pose_weights(config_dict: dict[str, Any]) -> list[str]:
    """Files that upstream's pose estimation would have to download: where they belong, and where from."""
    from Pose2Sim.poseEstimation import setup_model_class_mode
    from rtmlib.tools.file import _get_rtmhub_dir

    pose = config_dict.get("pose", {})
    _, model, mode = setup_model_class_mode(
        pose.get("pose_model", "Body_with_feet"), pose.get("mode", "balanced"), config_dict
    )
    settings = getattr(model, "keywords", None) or model.MODE[mode]
    missing = []
    for source in (settings.get("det"), settings.get("pose")):
        if source and not Path(source).exists():
            kept = Path(_get_rtmhub_dir()) / "checkpoints" / os.path.basename(source).replace(".zip", ".onnx")
            if not kept.is_file():
                missing.append(f"{kept} (from {source})")
    return missing


def _estimate_poses(config_dict: dict[str, Any], folder: Path) -> None:
    needs = f"{folder / 'pose'} holds no 2D poses, and {folder / 'pose-3d'} no markers of upstream's"
    try:
        list_videos(folder / "videos")
        missing = missing_pose_weights(config_dict)
    except BiokinError as error:
        raise BiokinError(f"{needs}; they cannot be made: {error}") from error
    except (ImportError, AttributeError, KeyError, NameError, ValueError) as error:
        raise BiokinError(f"{needs}; Pose2Sim's pose estimation cannot be set up ({error!r}).") from error
    if missing:
        raise BiokinError(
            f"{needs}. Pose2Sim.poseEstimation() makes them, but its weights are not on this machine: "
            f"{'; '.join(missing)}. Run it where there is a network, or put the files there, then compare "
            "again."
        )
    from Pose2Sim.poseEstimation import estimate_pose_all

    _run_stage("poseEstimation", estimate_pose_all, config_dict, folder)


def _stages_from_poses(config_dict: dict[str, Any], folder: Path) -> list[tuple[str, Callable]]:
    from Pose2Sim.filtering import filter_all
    from Pose2Sim.markerAugmentation import augment_markers_all
    from Pose2Sim.personAssociation import associate_all
    from Pose2Sim.triangulation import triangulate_all

    stages: list[tuple[str, Callable]] = []
    offsets = config_dict.get("biokin", {}).get("sync_offsets") or {}
    if any(offsets.values()) and not any((folder / "pose-sync").glob("*/*.json")):
        raise BiokinError(
            f"{folder}: the cameras did not start together ([biokin] sync_offsets is {offsets}), but the 2D "
            "poses are not synchronized: there is no pose-sync. Run Pose2Sim.synchronization() first."
        )
    if not any((folder / "pose-associated").glob("*/*.json")):
        stages.append(("personAssociation", associate_all))
    stages += [("triangulation", triangulate_all), ("filtering", filter_all)]
    if config_dict.get("kinematics", {}).get("use_augmentation", True):
        stages.append(("markerAugmentation", augment_markers_all))
    return stages


def _quiet(config_dict: dict[str, Any]) -> dict[str, Any]:
    """A copy of the config that opens no window and writes no plot."""
    config_dict = deepcopy(config_dict)
    config_dict.setdefault("pose", {}).update(display_detection=False, save_video="none")
    config_dict.setdefault("filtering", {}).update(display_figures=False, save_filt_plots=False)
    config_dict.setdefault("kinematics", {})
    return config_dict


def _frame_rate(config_dict: dict[str, Any], folder: Path) -> Any:
    """The config's rate, or that of the first video, which the copy does not have."""
    rate = config_dict["project"].get("frame_rate", "auto")
    if rate != "auto":
        return rate
    try:
        videos = list_videos(folder / "videos")
        found = VideoReader(videos[0]).info.fps if videos else None
    except BiokinError:
        found = None
    return round(found) if found else rate


def _copy_inputs(folder: Path, copy: Path, markers: list[Path]) -> None:
    copy.mkdir()
    # makes this folder the session's, to upstream
    (copy / "Config.toml").write_text("", encoding="utf-8")
    if markers:
        (copy / "pose-3d").mkdir()
        for path in markers:
            shutil.copy2(path, copy / "pose-3d")
        return
    for name in _POSES:
        if (folder / name).is_dir():
            shutil.copytree(folder / name, copy / name)
    calibration = find_calibration(folder)
    (copy / "calibration").mkdir()
    shutil.copy2(calibration, copy / "calibration")


def _run_stage(stage: str, function: Callable[[dict], None], config_dict: dict, folder: Path) -> None:
    import opensim

    logging.info(f"{folder.name}: Pose2Sim's own {stage}.")
    try:
        function(config_dict)
    except (Exception, SystemExit) as error:  # upstream raises whatever comes
        raise BiokinError(f"{folder}: Pose2Sim's own {stage} failed: {str(error) or repr(error)}") from error
    finally:
        opensim.Logger.removeFileSink()  # upstream leaves its log open, in a folder that goes away


def _move_results(copy: Path, folder: Path) -> tuple[Path, Path]:
    """Bring what was made back into the trial, where nothing of that name is; the model and its motion."""
    models = sorted(p for p in (copy / "kinematics").glob("*.osim") if p.with_suffix(".mot").is_file())
    if not models:
        raise BiokinError(
            f"{folder}: Pose2Sim's own kinematics wrote no model with a motion; see what it logged above."
        )
    if len(models) > 1:
        logging.warning(
            f"{folder.name}: Pose2Sim found {len(models)} people or marker files; comparing {models[0].stem}."
            " Name another with --pair."
        )
    with OutputSet() as outputs:
        for name in (*_POSES, "pose-3d", "kinematics"):
            for path in sorted((copy / name).rglob("*")):
                target = folder / path.relative_to(copy)
                if path.is_file() and not target.exists():
                    shutil.copy2(path, outputs.stage(target))
        outputs.commit()
    osim = folder / "kinematics" / models[0].name
    return osim, osim.with_suffix(".mot")
