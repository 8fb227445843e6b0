"""A trial's films through the code that serves real recordings: `biokin run` without its files."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from pose2sim_biokin import perception
from pose2sim_biokin.hookspecs import PersonSegmenter
from pose2sim_biokin.io.project import Trial, View
from pose2sim_biokin.motion import Motion
from pose2sim_biokin.predictor import Predictor
from pose2sim_biokin.progress import Progress, no_progress
from pose2sim_biokin.vision.subject import Subject


class Prediction(NamedTuple):
    """The motion, in the trial's world, and the views, frames and masks that it comes from."""

    motion: Motion
    views: tuple[View, View]
    frames: range
    subject: Subject


def predict_trial(
    trial: Trial, predictor: Predictor, segmenter: PersonSegmenter, progress: Progress = no_progress
) -> Prediction:
    """Joint angles of the person in a trial, by the steps of `pose2sim_biokin.pipeline.run_trial`.

    Raises:
        BiokinError: the films cannot be used, or nobody is found in them.
    """
    config = trial.config
    views, _ = perception.choose_views(trial, segmenter, progress)
    frames = trial.frames(views)
    people = perception.find_people(views, frames, segmenter, config.batch_size, progress)
    if config.static_background and config.segmentation != "masks":
        people, _ = perception.sharpen(views, frames, people, progress)
    subject = perception.choose_subject(views, people, frames, trial.fps)
    crops = perception.cut_out(views, subject, frames, predictor.image_size, progress)
    times = np.asarray(frames) / trial.fps
    motion = predictor.predict(crops, times, max_gap_s=config.max_gap_s, progress=progress)
    return Prediction(motion, views, frames, subject)
