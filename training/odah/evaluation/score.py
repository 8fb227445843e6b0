"""A case's errors: of the network, through its films, and of the results that lie beside the truth."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from odah.evaluation.cases import Case, Result
from odah.evaluation.errors import frame_errors, no_truth, pose_skeleton
from odah.evaluation.matched import matched_pair
from odah.evaluation.predict import Prediction, check_prediction, predict_trial
from odah.evaluation.summary import Scored
from pose2sim_biokin import perception
from pose2sim_biokin.compare.alignment import common_time, estimate_lag
from pose2sim_biokin.compare.matching import match
from pose2sim_biokin.compare.result import BackendResult, read_result
from pose2sim_biokin.errors import BiokinError
from pose2sim_biokin.hookspecs import PersonSegmenter
from pose2sim_biokin.io.mot import write_mot
from pose2sim_biokin.io.osim import write_osim
from pose2sim_biokin.io.project import Trial, View
from pose2sim_biokin.motion import Motion
from pose2sim_biokin.predictor import Predictor
from pose2sim_biokin.progress import Progress, no_progress
from pose2sim_biokin.skeleton.angles import CONSTRAINED
from pose2sim_biokin.skeleton.model import load_skeleton

_MASS_KG = 70.0  # of models that are written to be compared: angles do not depend on it


@dataclass(frozen=True)
class Outcome:
    """What was measured, and of the network's what it was seen in.

    Attributes:
        scored: see Scored. trial, prediction: None for results of other programs.
    """

    scored: Scored
    case: Case
    trial: Trial | None = None
    prediction: Prediction | None = None


class Evaluator:
    """Measures cases; keeps the networks loaded.

    Args:
        predictor: the network. method: what it is called in tables.
        results: also measure results that lie beside the truth.
        check: hold the network's motion against the person's masks, too; without a truth, always.

    Attributes:
        segmenters: those that serve all trials, by what [biokin] segmentation says.
    """

    def __init__(self, predictor: Predictor | None, method: str, results: bool = True, check: bool = False):
        self.predictor, self.method, self.results, self.check = predictor, method, results, check
        self.segmenters: dict[str, PersonSegmenter] = {}

    def outcomes(self, case: Case, progress: Progress = no_progress) -> Iterator[Outcome]:
        """Errors of the network, if the case has films, then of the results.

        Raises:
            BiokinError: films, truth or results cannot be used; the message begins with the case's name.
        """
        try:
            if case.trial is not None and self.predictor is not None:
                trial = case.trial()
                segmenter = self._segmenter(trial)
                prediction = predict_trial(trial, self.predictor, segmenter, progress)
                scored = score_motion(case, prediction.motion, self.method, prediction.views)
                if self.check or not case.has_truth:
                    scored.errors.update(check_prediction(trial, prediction, segmenter, progress))
                yield Outcome(scored, case, trial, prediction)
            for result in case.results if self.results else ():
                yield Outcome(score_result(case, result), case)
        except BiokinError as error:
            raise BiokinError(f"{case.data}, {case.name}: {error}") from error

    def _segmenter(self, trial: Trial) -> PersonSegmenter:
        spec = trial.config.segmentation
        if spec == "masks":  # belongs to one trial
            return perception.load_segmenter(trial, self.predictor.device)
        if spec not in self.segmenters:
            self.segmenters[spec] = perception.load_segmenter(trial, self.predictor.device)
        return self.segmenters[spec]


def score_motion(case: Case, motion: Motion, method: str, views: tuple[View, ...] = ()) -> Scored:
    """Errors of a motion of the built-in skeleton, in the world of the case's cameras."""
    if not case.has_truth:
        posed = np.isfinite(motion.coordinates).all(axis=1)
        groups = case.groups(motion.time, views)
        return Scored(case.data, case.name, method, no_truth(posed), groups, notes=case.notes)
    if case.truth is None:
        with tempfile.TemporaryDirectory(prefix="odah-evaluate-") as folder:
            found = _as_result(motion, method, Path(folder))
            return _score_pair(case, found, method, views)
    truth = case.truth()
    if truth.skeleton != motion.skeleton:
        raise BiokinError(f"the truth is of skeleton {truth.skeleton}, the network's is {motion.skeleton}.")
    skeleton = load_skeleton(motion.skeleton)
    wanted = _at(truth, motion.time)
    posed = pose_skeleton(skeleton, motion.coordinates, motion.scales)
    errors = frame_errors(posed, pose_skeleton(skeleton, wanted, truth.scales), _rate(motion.time))
    index = [skeleton.coordinate_index(name) for name in CONSTRAINED]
    groups = case.groups(motion.time, views)
    return Scored(case.data, case.name, method, errors, groups, wanted[:, index], case.notes)


def score_result(case: Case, result: Result) -> Scored:
    """Errors of a program's result."""
    return _score_pair(case, read_result(result.osim, result.mot, result.label), result.label)


def _score_pair(case: Case, found: BackendResult, method: str, views: tuple[View, ...] = ()) -> Scored:
    reference = read_result(case.reference.osim, case.reference.mot, "reference")
    notes = list(case.notes)
    if not case.same_clock:
        if views:  # times of the films, which the truth begins with
            reference = reference.shifted(-reference.time[0])
        lag = _lag(found, reference)
        if lag is not None:
            found = found.shifted(-lag)
        notes.append("lags of up to half a second, found by cross-correlation, are taken out clip by clip")
    time, flags = common_time([reference, found])
    if any(flag.startswith("Rates") for flag in flags):
        notes.append("rates differ: compared at the lower one")
    pair = matched_pair(found.at(time), reference.at(time), case.same_world)
    errors = frame_errors(pair.found, pair.wanted, _rate(time))
    groups = case.groups(time, views)
    return Scored(case.data, case.name, method, errors, groups, pair.constrained, (*notes, *pair.notes))


def _lag(found: BackendResult, reference: BackendResult) -> float | None:
    """How much later a result is than the reference, s; None where that cannot be told."""
    time, _ = common_time([reference, found])
    coordinates, _ = match([reference.at(time), found.at(time)])
    values = [{c.name: c.values[r.label] for c in coordinates if c.unit == "deg"} for r in (found, reference)]
    return estimate_lag(values[0], values[1], _rate(time))


def _as_result(motion: Motion, label: str, folder: Path) -> BackendResult:
    """A motion as others read it: from its files."""
    skeleton = load_skeleton(motion.skeleton)
    osim, mot = folder / "motion.osim", folder / "motion.mot"
    write_osim(osim, skeleton, motion.scales, _MASS_KG, name="motion")
    write_mot(mot, motion.time, motion.coordinates, skeleton)
    return read_result(osim, mot, label)


def _at(motion: Motion, time: np.ndarray) -> np.ndarray:
    """Coordinates (T, nc) of a motion at other times, s; NaN outside of it."""
    if len(time) == len(motion.time) and np.allclose(time, motion.time, atol=1e-6):
        return motion.coordinates
    columns = [
        np.interp(time, motion.time, values, left=np.nan, right=np.nan) for values in motion.coordinates.T
    ]
    return np.stack(columns, axis=1)


def _rate(time: np.ndarray) -> float | None:
    return float(1 / np.median(np.diff(time))) if len(time) > 1 else None
