"""A few frames of a video as small JPEG pictures inside the page."""

from __future__ import annotations

import base64
import logging
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from pose2sim_biokin.errors import BiokinError
from pose2sim_biokin.io.video import VideoReader

_LONG_SIDE = 640
_QUALITY = 78


@dataclass(frozen=True)
class Still:
    """A picture: a data URL, its size in pixels, words for those who cannot see it, a caption."""

    src: str
    width: int
    height: int
    alt: str
    caption: str


def stills(
    video: Path, view: str, rows: list[int], times: list[float], what: str = "skeleton"
) -> list[Still]:
    """Frames of an overlay video; none, with a line in the log, where it cannot be read.

    Args:
        video: of which frame i is row i of the motion.
        view: the camera's name.
        rows: increasing frames of the video. times: of each, s.
        what: is drawn on the picture, for the alternative text.
    """
    found = []
    try:
        reader = VideoReader(video)
        inside = [(row, time) for row, time in zip(rows, times, strict=True) if row < reader.info.frame_count]
        for (row, image), (_, time) in zip(reader.frames([r for r, _ in inside]), inside, strict=True):
            caption = f"{view}, {time:.2f} s (frame {row} of the video)"
            found.append(
                encode(image, f"{what} drawn over the picture of camera {view} at {time:.2f} s", caption)
            )
    except BiokinError as error:
        logging.warning(f"The report shows no frames of {video.name}: {error}")
    return found


def encode(image: np.ndarray, alt: str, caption: str) -> Still:
    """A BGR image (H, W, 3) as a still."""
    factor = min(1.0, _LONG_SIDE / max(image.shape[:2]))
    if factor < 1:
        image = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    text = base64.b64encode(data.tobytes()).decode("ascii")
    return Still(f"data:image/jpeg;base64,{text}", image.shape[1], image.shape[0], alt, caption)


def spread(count: int, rows: np.ndarray) -> list[int]:
    """Up to ``count`` of the rows, spread evenly, without the very ends."""
    if not len(rows):
        return []
    at = (np.arange(count) + 0.5) / count * (len(rows) - 1)
    return sorted({int(rows[i]) for i in at.round().astype(int)})
