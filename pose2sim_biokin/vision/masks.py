"""Person masks: what a segmenter hands out, compact storage, and tracking within one view."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from scipy.optimize import linear_sum_assignment

from pose2sim_biokin.vision.crops import mask_outline

Box = tuple[float, float, float, float]

_SAME_IOU = 0.2  # least overlap of the boxes of one person in neighbouring frames
_AMBIGUOUS = 0.6  # a rival whose overlap is this share of the best one's makes identities uncertain


@dataclass(frozen=True, eq=False)
class PersonInstance:
    """One person in one image.

    Attributes:
        mask: (H, W) bool, of the whole image.
        box: x0, y0, x1, y1 in pixels; x1 and y1 lie just outside.
        score: the segmenter's confidence, 0..1.
    """

    mask: np.ndarray
    box: Box
    score: float

    @classmethod
    def from_mask(cls, mask: np.ndarray, score: float = 1.0) -> PersonInstance | None:
        """The person under a mask (H, W), non-zero on the person; None for an empty mask."""
        mask = np.ascontiguousarray(mask) != 0
        box = mask_box(mask)
        return None if box is None else cls(mask, box, score)


@dataclass(frozen=True, eq=False)
class PackedMask:
    """A mask in a few kilobytes: the bits of its box, compressed.

    Attributes:
        size: height and width of the image.
        box: x0, y0, x1, y1, whole pixels; x1 and y1 lie just outside.
        data: compressed bits of the box, row by row.
        area: pixels on the person.
        centroid: (2,) mean x, y of these.
        outline: (M, 2) x, y corners of the convex hull of these.
        score: the segmenter's confidence, 0..1.
    """

    size: tuple[int, int]
    box: tuple[int, int, int, int]
    data: bytes
    area: int
    centroid: np.ndarray
    outline: np.ndarray
    score: float

    @classmethod
    def pack(cls, mask: np.ndarray, score: float = 1.0) -> PackedMask | None:
        """Packs a mask (H, W), non-zero on the person; None for an empty one."""
        box = mask_box(mask)
        if box is None:
            return None
        x0, y0, x1, y1 = box
        inner = (np.asarray(mask)[y0:y1, x0:x1] != 0).astype(np.uint8)
        moments = cv2.moments(inner, binaryImage=True)
        area = moments["m00"]
        centroid = np.array([moments["m10"] / area + x0, moments["m01"] / area + y0])
        outline = mask_outline(inner) + (x0, y0)
        data = zlib.compress(np.packbits(inner).tobytes(), 1)
        return cls(mask.shape[:2], box, data, int(area), centroid, outline, float(score))

    def unpack(self) -> np.ndarray:
        """The mask (H, W) bool."""
        x0, y0, x1, y1 = self.box
        mask = np.zeros(self.size, bool)
        mask[y0:y1, x0:x1] = self.unpack_box()
        return mask

    def unpack_box(self) -> np.ndarray:
        """What is inside the box (y1 - y0, x1 - x0) bool."""
        x0, y0, x1, y1 = self.box
        bits = np.frombuffer(zlib.decompress(self.data), np.uint8)
        inner = np.unpackbits(bits, count=(y1 - y0) * (x1 - x0)).reshape(y1 - y0, x1 - x0)
        return inner.view(bool)

    def shrunk(self, size: tuple[int, int]) -> np.ndarray:
        """The mask in a picture of another size (width, height): what it is at the centre of each pixel."""
        (height, width), (w, h) = self.size, size
        small = np.zeros((h, w), bool)
        x0, y0, x1, y1 = self.box
        rows, columns = (
            ((np.arange(n) + 0.5) * full / n).astype(int) for n, full in ((h, height), (w, width))
        )
        y, x = np.flatnonzero((rows >= y0) & (rows < y1)), np.flatnonzero((columns >= x0) & (columns < x1))
        if len(y) and len(x):
            inner = self.unpack_box()[np.ix_(rows[y] - y0, columns[x] - x0)]
            small[y[0] : y[-1] + 1, x[0] : x[-1] + 1] = inner
        return small

    def inside(self, pixels: np.ndarray) -> np.ndarray:
        """Whether points (..., 2) x, y lie on the person: 1 or 0, and NaN for points outside the picture."""
        x, y = np.moveaxis(pixels, -1, 0)
        height, width = self.size
        seen = (x > -0.5) & (y > -0.5) & (x < width - 0.5) & (y < height - 0.5)  # False for NaN
        x0, y0, x1, y1 = self.box
        column, row = (np.round(np.where(seen, v, -1)).astype(int) for v in (x, y))
        boxed = (column >= x0) & (column < x1) & (row >= y0) & (row < y1)
        on = self.unpack_box()[(row - y0).clip(0, y1 - y0 - 1), (column - x0).clip(0, x1 - x0 - 1)]
        return np.where(seen, (boxed & on).astype(float), np.nan)


@dataclass(frozen=True, eq=False)
class TrackedMask:
    """A mask in one frame of one view, with the number of the track that it belongs to."""

    mask: PackedMask
    track: int


class PersonTracker:
    """Follows the people of one view from frame to frame by the overlap of their boxes.

    Tracks are cautious: where two people cross and identities become uncertain they end and new ones start;
    what belongs together is then decided by geometry over both views
    (:mod:`pose2sim_biokin.vision.subject`).
    """

    def __init__(self, max_gap: int = 15) -> None:
        self.max_gap = max_gap
        self.frames: dict[int, list[TrackedMask]] = {}
        self._last: dict[int, tuple[int, Box]] = {}  # track: frame and box where it was seen last
        self._next = 0

    def update(self, frame: int, people: Iterable[PersonInstance]) -> None:
        """Adds the people of the next frame; frame numbers must rise."""
        if self.frames and frame <= max(self.frames):
            raise ValueError(f"frames must rise, found {frame} after {max(self.frames)}")
        packed = [PackedMask.pack(person.mask, person.score) for person in people]
        packed = [mask for mask in packed if mask is not None]
        self._last = {k: v for k, v in self._last.items() if frame - v[0] <= self.max_gap}
        tracks = list(self._last)
        overlap = box_iou([mask.box for mask in packed], [self._last[k][1] for k in tracks])
        assigned: dict[int, int] = {}
        for row, column in zip(*linear_sum_assignment(-overlap), strict=True):
            best = overlap[row, column]
            rivals = np.concatenate([np.delete(overlap[row], column), np.delete(overlap[:, column], row)])
            if best >= _SAME_IOU and (rivals.size == 0 or rivals.max() < max(_AMBIGUOUS * best, _SAME_IOU)):
                assigned[row] = tracks[column]
        self.frames[frame] = []
        for row, mask in enumerate(packed):
            track = assigned.get(row)
            if track is None:
                track, self._next = self._next, self._next + 1
            self._last[track] = (frame, mask.box)
            self.frames[frame].append(TrackedMask(mask, track))
        # a track that an uncertain detection has taken over must not be picked up again
        for column, track in enumerate(tracks):
            if track not in assigned.values() and overlap.shape[0] and overlap[:, column].max() >= _SAME_IOU:
                del self._last[track]


def mask_box(mask: np.ndarray) -> tuple[int, int, int, int] | None:
    """x0, y0, x1, y1 of a mask (H, W), the last two just outside; None for an empty one."""
    mask = np.asarray(mask)
    rows = np.flatnonzero(mask.any(axis=1))
    if len(rows) == 0:
        return None
    columns = np.flatnonzero(mask[rows[0] : rows[-1] + 1].any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def box_iou(first: Sequence[Box], second: Sequence[Box]) -> np.ndarray:
    """Intersection over union (n, m) of boxes x0, y0, x1, y1."""
    a = np.asarray(first, dtype=np.float64).reshape(-1, 1, 4)
    b = np.asarray(second, dtype=np.float64).reshape(1, -1, 4)
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    common = np.prod(np.maximum(sides, 0), axis=-1)
    areas = np.prod(a[..., 2:] - a[..., :2], axis=-1) + np.prod(b[..., 2:] - b[..., :2], axis=-1)
    return common / np.maximum(areas - common, 1e-9)
