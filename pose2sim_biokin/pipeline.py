"""One trial, from config to files: the whole story on one page."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from pose2sim_biokin import perception
from pose2sim_biokin.check import Check, check_motion, judged_views
from pose2sim_biokin.errors import BiokinError
from pose2sim_biokin.io.atomic import OutputSet
from pose2sim_biokin.io.filters import ik_filter_type
from pose2sim_biokin.io.project import Trial, View, read_trial
from pose2sim_biokin.meshes import posed_bones, posed_surface
from pose2sim_biokin.motion import Motion
from pose2sim_biokin.overlay import stick_figure, write_overlay
from pose2sim_biokin.parallel import for_each
from pose2sim_biokin.predictor import Predictor
from pose2sim_biokin.progress import Progress, no_progress
from pose2sim_biokin.quality import build_quality, write_quality
from pose2sim_biokin.results import write_motion
from pose2sim_biokin.skeleton.model import Skeleton, load_skeleton
from pose2sim_biokin.vision.masks import PackedMask
from pose2sim_biokin.vision.subject import Subject


@dataclass(frozen=True)
class TrialResult:
    """What a run made.

    Attributes:
        paths: what each file is ("mot", "osim", "trc", "c3d", "bvh", "filtered mot", "quality",
            "overlay <camera>", "report") -> where it is.
        timings: stage -> wall time in seconds, in order; "total" last.
        motion: the joint angles and scales that the files hold.
    """

    paths: dict[str, Path]
    timings: dict[str, float]
    motion: Motion = field(repr=False)


def run_trial(
    config_dict: dict[str, Any], progress: Progress | None = None, output_dir: Path | None = None
) -> TrialResult:
    """Joint angles and segment scales of one trial, written as Pose2Sim writes them.

    The videos are read as streams: once to find the person, once to cut the person out, and once more for
    the overlay videos. All files appear together at the end; a run that fails or is interrupted leaves
    earlier results as they were.

    Args:
        config_dict: the trial's config as Pose2Sim merged it, with ``["project"]["project_dir"]``.
        progress: told how far the run is.
        output_dir: folder of the results' folders, kinematics and pose-3d; the trial's own when absent.

    Raises:
        BiokinError: something in the project cannot be used; the message says what to do.
    """
    progress = progress or no_progress
    clock = Stopwatch()
    with recorded_warnings() as warnings, OutputSet() as outputs:
        with clock("reading the project"):
            trial = replace(read_trial(config_dict), output_dir=output_dir)
            filter_type = ik_filter_type(config_dict)
            for folder in (trial.kinematics_dir, trial.pose3d_dir):
                outputs.prepare(folder)  # a folder that cannot be written shows now, not after the work
        with clock("loading the networks"):
            config = trial.config
            predictor = Predictor(trial.weights, config.device, config.batch_size, config.seed)
            segmenter = perception.load_segmenter(trial, predictor.device)
            skeleton = load_skeleton(predictor.skeleton)

        with clock("finding the person"):
            views, looked = perception.choose_views(trial, segmenter, progress)
            frames = trial.frames(views)
            logging.info(f"Frames {frames[0]}-{frames[-1]} at {trial.fps:g} fps.")
            people = perception.find_people(views, frames, segmenter, config.batch_size, progress, looked)
        with clock("sharpening the masks"):
            backgrounds = ["not used"] * 2
            # masks that the user brings are the user's
            if config.static_background and config.segmentation != "masks":
                people, backgrounds = perception.sharpen(views, frames, people, progress)
            subject = perception.choose_subject(views, people, frames, trial.fps)
        with clock("cutting the person out"):
            crops = perception.cut_out(views, subject, frames, predictor.image_size, progress)
        with clock("joint angles"):
            times = np.asarray(frames) / trial.fps
            motion = predictor.predict(crops, times, max_gap_s=config.max_gap_s, progress=progress)
            _report_gaps(motion, frames)

        check = None
        if config.check_views:
            with clock("checking the result"):
                others = trial.unused(views)
                batch = config.batch_size
                # who it is there, the used views say, not the network
                elsewhere = perception.people_at(
                    others, subject.positions, segmenter, batch, progress, looked
                )
                masks = [*subject.masks, *elsewhere]
                check = _check(trial, (*views, *others), frames, motion, skeleton, masks, progress)

        with clock("writing the motion"):
            paths = write_motion(outputs, trial, frames, motion, skeleton, config_dict, filter_type)
        if config.overlay_video:
            with clock("writing the overlays"):
                paths |= _overlays(outputs, trial, views, frames, motion, skeleton, subject, progress)

        timings = clock.timings()
        paths["quality"] = trial.kinematics_dir / f"{trial.stem(frames)}_quality.json"
        run = _about(trial, views, frames, segmenter, timings, warnings)
        for k, about in enumerate(run["views"]):
            about["background"] = backgrounds[k]
            about["found_without_network"] = subject.frames_without_network(k)
        names = [view.name for view in views]
        quality = build_quality(motion, np.asarray(frames), names, skeleton, run, check)
        write_quality(outputs.stage(paths["quality"]), quality)
        outputs.commit()
    logging.info(f"Joint angles of {trial.name} are in {paths['mot']}.")
    if config.report:
        with clock("writing the report"):
            paths |= _report(paths, config_dict)
    return TrialResult(paths, clock.timings(), motion)


def _report(paths: Mapping[str, Path], config_dict: dict[str, Any]) -> dict[str, Path]:
    """The trial's page, made of the files that are in place; whatever is wrong with it, they stay."""
    target = paths["mot"].with_name(f"{paths['mot'].stem}_report.html")
    try:
        from pose2sim_biokin.compare.result import read_result
        from pose2sim_biokin.report import write_trial_report

        result = read_result(paths["osim"], paths["mot"], "biokin", quality=paths["quality"])
        return {"report": write_trial_report(result, target, config_dict)}
    except Exception as error:  # not only ours: the results are done, a page must not make the run fail
        stale = " The one that is there is of an earlier run." if target.exists() else ""
        logging.warning(f"The report {target.name} was not written: {error}.{stale}")
        return {}


def _check(
    trial: Trial,
    views: Sequence[View],
    frames: range,
    motion: Motion,
    skeleton: Skeleton,
    masks: Sequence[Mapping[int, PackedMask]],
    progress: Progress,
) -> Check:
    """The motion against the masks, frame -> mask, of the two used views and of the others."""
    used = [view.name for view in views[:2]]
    judged = judged_views([view.camera for view in views], masks, frames, used)
    check = check_motion(motion, skeleton, trial.fps, judged, progress)
    for view in check.views:
        what = "used" if view.used else "not used"
        if len(view.rows) and np.isfinite(view.iou).any():
            logging.info(
                f"{view.camera} ({what}): the body overlaps the person's mask by {np.nanmean(view.iou):.0%} "
                f"(intersection over union, {len(view.rows)} frames)."
            )
    return check


def _overlays(
    outputs: OutputSet,
    trial: Trial,
    views: Sequence[View],
    frames: range,
    motion: Motion,
    skeleton: Skeleton,
    subject: Subject,
    progress: Progress,
) -> dict[str, Path]:
    figure = stick_figure(motion, skeleton)
    posed = np.isfinite(motion.coordinates).all(axis=1)
    kind = trial.config.overlay
    make = {"surface": posed_surface, "bones": posed_bones}.get(kind)
    mesh = make(motion, skeleton) if make is not None else None
    filled = motion.quality.interpolated if motion.quality is not None else np.zeros(len(frames), bool)
    targets = [trial.kinematics_dir / f"{trial.stem(frames)}_{view.name}.mp4" for view in views]
    staged = [outputs.stage(target) for target in targets]

    def caption(row: int) -> str:
        return "" if posed[row] and not filled[row] else "interpolated" if posed[row] else "no pose"

    def draw(k: int, view: View, step: Callable[[], None]) -> None:
        def images() -> Iterator[tuple[int, np.ndarray]]:
            for row, (_, image) in enumerate(perception.stream(view, frames)):
                yield row, image
                step()

        def mask(row: int) -> np.ndarray | None:
            packed = subject.masks[k].get(frames[row])
            return None if packed is None else packed.unpack()

        write_overlay(
            *(staged[k], images(), view.camera, figure, trial.fps, mask, caption),
            first_frame=frames.start,
            mesh=mesh,
            kind=kind,
        )

    for_each(draw, views, progress, "Drawing the overlays", len(views) * len(frames))
    return {f"overlay {view.name}": target for view, target in zip(views, targets, strict=True)}


def _report_gaps(motion: Motion, frames: range) -> None:
    posed = np.isfinite(motion.coordinates).all(axis=1)
    if not posed.any():
        raise BiokinError(
            "No frame gave a pose: the person was never found by both cameras. Look at the videos, try other "
            "[biokin] views or segmentation in Config.toml, and check the cameras' synchronization."
        )
    filled = int(motion.quality.interpolated.sum()) if motion.quality is not None else 0
    if filled:
        logging.warning(f"The person was missing in {filled} of {len(frames)} frames: interpolated.")
    if not posed.all():
        logging.warning(
            f"{int((~posed).sum())} of {len(frames)} frames have no pose: the person was missing for longer "
            "than [biokin] max_gap_s, or at the start or end. The .mot leaves them out."
        )


def _about(trial: Trial, views, frames: range, segmenter, timings: dict, warnings: list[str]) -> dict:
    return {
        "trial": trial.name,
        "project_dir": trial.project_dir,
        "calibration": trial.calibration,
        "frame_range": [frames[0], frames[-1]],
        "fps": trial.fps,
        "views": [
            {"camera": v.name, "video": v.video.name, "size": list(v.camera.size), "offset": v.offset}
            for v in views
        ],
        "participant_mass_kg": trial.config.mass_kg,
        "segmentation": segmenter.description,
        "timings_s": {stage: round(seconds, 3) for stage, seconds in timings.items()},
        "warnings": list(warnings),
    }


class Stopwatch:
    """``with clock("stage"): ...`` adds up wall time by stage."""

    def __init__(self) -> None:
        self._start = time.perf_counter()
        self._stages: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self._stages[stage] = self._stages.get(stage, 0.0) + time.perf_counter() - start

    def timings(self) -> dict[str, float]:
        """Seconds by stage, and in total so far."""
        return {**self._stages, "total": time.perf_counter() - self._start}


@contextmanager
def recorded_warnings() -> Iterator[list[str]]:
    """The warnings that are logged meanwhile, each once; they go on to the log as well."""
    texts: list[str] = []

    class Recorder(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            text = record.getMessage()
            if text not in texts:
                texts.append(text)

    recorder = Recorder(logging.WARNING)
    logging.getLogger().addHandler(recorder)
    try:
        yield texts
    finally:
        logging.getLogger().removeHandler(recorder)
