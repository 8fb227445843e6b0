"""A trial's films through the code that serves real recordings: `biokin run` without its files."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from pose2sim_biokin import perception
from pose2sim_biokin.check import check_motion, judged_views
from pose2sim_biokin.hookspecs import PersonSegmenter
from pose2sim_biokin.io.project import Trial, View
from pose2sim_biokin.motion import Motion
from pose2sim_biokin.predictor import Predictor
from pose2sim_biokin.progress import Progress, no_progress
from pose2sim_biokin.skeleton.model import load_skeleton
from pose2sim_biokin.vision.subject import Subject


class Prediction(NamedTuple):
    """The motion, in the trial's world, and the views, frames and masks that it comes from; people that were
    seen in some frames of all cameras when the views were chosen.
    """

    motion: Motion
    views: tuple[View, View]
    frames: range
    subject: Subject
    looked: dict[str, perception.People]


def predict_trial(
    trial: Trial, predictor: Predictor, segmenter: PersonSegmenter, progress: Progress = no_progress
) -> Prediction:
    """Joint angles of the person in a trial, by the steps of `pose2sim_biokin.pipeline.run_trial`.

    Raises:
        BiokinError: the films cannot be used, or nobody is found in them.
    """
    config = trial.config
    views, looked = perception.choose_views(trial, segmenter, progress)
    frames = trial.frames(views)
    people = perception.find_people(views, frames, segmenter, config.batch_size, progress)
    if config.static_background and config.segmentation != "masks":
        people, _ = perception.sharpen(views, frames, people, progress)
    subject = perception.choose_subject(views, people, frames, trial.fps)
    crops = perception.cut_out(views, subject, frames, predictor.image_size, progress)
    times = np.asarray(frames) / trial.fps
    motion = predictor.predict(crops, times, max_gap_s=config.max_gap_s, progress=progress)
    return Prediction(motion, views, frames, subject, looked)


def check_prediction(
    trial: Trial, prediction: Prediction, segmenter: PersonSegmenter, progress: Progress = no_progress
) -> dict[str, np.ndarray]:
    """The motion against the person's masks, as in `biokin run`: iou_used, iou_unused and joints_inside (T,),
    NaN in frames that are not compared.
    """
    motion, frames = prediction.motion, prediction.frames
    others = trial.unused(prediction.views)
    elsewhere = perception.people_at(
        others,
        prediction.subject.positions,
        segmenter,
        trial.config.batch_size,
        progress,
        prediction.looked,
    )
    cameras = [view.camera for view in (*prediction.views, *others)]
    masks = [*prediction.subject.masks, *elsewhere]
    judged = judged_views(cameras, masks, frames, [view.name for view in prediction.views])
    check = check_motion(motion, load_skeleton(motion.skeleton), trial.fps, judged, progress)
    columns = {}
    for name, quantity, kinds in (
        ("iou_used", "iou", (True,)),
        ("iou_unused", "iou", (False,)),
        ("joints_inside", "joints_inside", (True, False)),
    ):
        table = np.full((len(check.views), len(motion.time)), np.nan)
        for k, view in enumerate(check.views):
            if view.used in kinds:
                table[k, view.rows] = getattr(view, quantity)
        known = np.isfinite(table)
        sums = np.where(known, table, 0).sum(0)
        columns[name] = np.where(known.any(0), sums / np.maximum(known.sum(0), 1), np.nan)
    return columns
