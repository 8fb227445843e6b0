"""Real frames with person masks, split by video: images/<video>_<frame>.jpg, masks/<video>_<frame>.png."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

# frames of one video look alike, so whole videos are held out
HELD_OUT_VIDEOS = ("s2d_demo4", "oc_walk", "oc_walk_ts")
# two people in the picture and one of them labelled: good for cut-outs, not as pictures
CUT_OUT_ONLY_VIDEOS = ("s2d_demoB",)


@dataclass(frozen=True)
class Frame:
    """One labelled picture. image (H, W, 3) uint8 BGR, mask (H, W) bool."""

    name: str
    image: np.ndarray
    mask: np.ndarray

    @property
    def video(self) -> str:
        """The part of the name before the last underscore."""
        return self.name.rsplit("_", 1)[0]


def read_frames(folder: Path) -> list[Frame]:
    """All frames of a folder with ``images`` and ``masks``, sorted by name."""
    frames = []
    for path in sorted((folder / "images").glob("*.jpg")):
        image = cv2.imread(str(path), cv2.IMREAD_COLOR)
        mask = cv2.imread(str(folder / "masks" / f"{path.stem}.png"), cv2.IMREAD_GRAYSCALE)
        if image is None or mask is None or image.shape[:2] != mask.shape:
            raise ValueError(f"{path}: image or mask cannot be read, or their sizes differ")
        frames.append(Frame(path.stem, image, mask > 127))
    if not frames:
        raise ValueError(f"{folder}: no images/*.jpg found")
    return frames


def split_frames(frames: list[Frame]) -> tuple[list[Frame], list[Frame]]:
    """(frames to train on, held-out frames)."""
    train = [f for f in frames if f.video not in HELD_OUT_VIDEOS]
    return train, [f for f in frames if f.video in HELD_OUT_VIDEOS]


def plausible_cut_out(frame: Frame) -> bool:
    """False where the label is evidently wrong: no single compact upright shape.

    In the one video with two people the label sometimes jumps to the background; its good ones are the
    walking person in the lower half.
    """
    rows, columns = np.nonzero(frame.mask)
    if len(rows) < 200:
        return False
    if frame.video in CUT_OUT_ONLY_VIDEOS:
        height, width = rows.max() - rows.min(), columns.max() - columns.min()
        return bool(rows.min() > 0.42 * frame.mask.shape[0] and height > 1.3 * width)
    return True


def clean_plate(frames: list[Frame]) -> np.ndarray:
    """The background (H, W, 3) uint8 of a static camera: median over the frames in which a pixel is free."""
    images = np.stack([f.image for f in frames]).astype(np.float32)
    kernel = np.ones((9, 9), np.uint8)
    busy = np.stack([cv2.dilate(f.mask.astype(np.uint8), kernel) > 0 for f in frames])
    images[busy] = np.nan
    never_free = busy.all(0)
    images[:, never_free] = 0
    plate = np.nanmedian(images, axis=0).astype(np.uint8)
    return cv2.inpaint(plate, never_free.astype(np.uint8), 5, cv2.INPAINT_TELEA)
