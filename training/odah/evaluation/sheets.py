"""Contact sheets of the worst clips: what the network saw, what it said (above), and the truth (below)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from odah.clips import truth_points
from odah.evaluation.predict import Prediction
from odah.evaluation.score import Outcome
from odah.evaluation.summary import FALLBACK, MAIN
from odah.inspect import annotated, captioned, grid, write_picture
from pose2sim_biokin import perception
from pose2sim_biokin.motion import Motion
from pose2sim_biokin.skeleton import load_skeleton
from pose2sim_biokin.vision.camera import Camera

_FRAMES = 4  # of a clip


@dataclass(frozen=True)
class Filmed:
    """A motion over the films of it, with what `odah.inspect.annotated` asks of a clip; frames are rows."""

    prediction: Prediction
    motion: Motion
    names: tuple[str, ...]
    world_points: np.ndarray

    @property
    def cameras(self) -> list[Camera]:
        """Of the views."""
        return [view.camera for view in self.prediction.views]

    def images(self, camera: int, rows: Sequence[int]) -> Iterator[np.ndarray]:
        """Frames (H, W, 3) uint8 BGR."""
        frames = [self.prediction.frames[row] for row in rows]
        for _, image in perception.stream(self.prediction.views[camera], frames):
            yield image

    def masks(self, camera: int, rows: Sequence[int]) -> Iterator[np.ndarray]:
        """The person's masks (H, W), all False where nobody was found."""
        for row in rows:
            packed = self.prediction.subject.masks[camera].get(self.prediction.frames[row])
            width, height = self.cameras[camera].size
            yield np.zeros((height, width), bool) if packed is None else packed.unpack()


def write_sheets(folder: Path, outcomes: Sequence[Outcome], count: int = 8) -> list[Path]:
    """Write sheets of the network's worst clips of each data set, `worst_<data>_<n>.png`; their paths.

    Args:
        count: clips of each data set.
    """
    paths = []
    for data in dict.fromkeys(outcome.case.data for outcome in outcomes):
        mine = [o for o in outcomes if o.case.data == data and o.prediction is not None]
        for n, outcome in enumerate(sorted(mine, key=_badness)[:count], 1):
            paths.append(folder / f"worst_{_file_name(data)}_{n}_{_file_name(outcome.case.name)}.png")
            write_picture(paths[-1], outcome_sheet(outcome))
    return paths


def outcome_sheet(outcome: Outcome) -> np.ndarray:
    """The worst frame of each quarter of a clip, both views: the network's skeleton, then the truth's."""
    values, unit = _figures(outcome)
    parts = np.array_split(np.arange(len(values)), _FRAMES)
    rows = sorted({_worst(part, values) for part in parts if len(part)})
    prediction = outcome.prediction
    skeleton = load_skeleton(prediction.motion.skeleton)
    motions = {"network": prediction.motion}
    if outcome.case.truth is not None:
        truth = outcome.case.truth()
        # .mot files have six digits or so: equal to within far less than a frame.
        if len(truth.time) == len(prediction.motion.time) and np.allclose(
            truth.time, prediction.motion.time, atol=1e-4
        ):
            motions["truth"] = truth
    tiles = []
    for name, motion in motions.items():
        points = truth_points(motion, skeleton)
        filmed = Filmed(prediction, motion, points.names, points.points[..., [2, 0, 1]])
        for k, view in enumerate(prediction.views):
            drawn = annotated(filmed, k, rows, skeleton, close=True)
            for tile, row in zip(drawn, rows, strict=True):
                figure = f": {values[row]:.0f} {unit}" if np.isfinite(values[row]) else ""
                tiles.append(captioned(tile, f"{name}, {view.name}, frame {prediction.frames[row]}{figure}"))
    return grid(tiles, len(rows))


def _figures(outcome: Outcome) -> tuple[np.ndarray, str]:
    """(T,) how bad each frame is, and in what: angles, else joints, else outlines where nothing is known."""
    errors = outcome.scored.errors
    for column, unit in ((MAIN, "deg"), (FALLBACK, "mm")):
        if np.isfinite(errors[column]).any():
            return errors[column], unit
    overlap = errors.get("iou_used", np.full(outcome.scored.frames, np.nan))
    return 100 * (1 - overlap), "% outside of mask or body"


def _worst(rows: np.ndarray, values: np.ndarray) -> int:
    return int(rows[np.argmax(np.nan_to_num(values[rows], nan=-1.0))])


def _badness(outcome: Outcome) -> float:
    values = _figures(outcome)[0]
    return -float(np.nanmean(values)) if np.isfinite(values).any() else 0.0


def _file_name(text: str) -> str:
    return "".join(c if c.isalnum() or c in "-." else "_" for c in text)
