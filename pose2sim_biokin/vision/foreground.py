"""People in front of a still background: a network's masks, frame by frame, made better.

Leaks into the background are cut off, limbs that the network lost are added, pieces of one person become one
mask, and somebody whom the network loses for a moment is followed by what is left of the difference.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np

from pose2sim_biokin.vision.background import (
    Background,
    distance_to,
    separate,
    shrink,
    shrink_mask,
    window_around,
)
from pose2sim_biokin.vision.masks import Box, PackedMask, PersonInstance, mask_box

FOUND_WITHOUT_NETWORK = 0.0  # score of a person that only the background gives away

_REAL = 0.2  # least share of a network's mask that must stand out from the background
_GAP = 0.015  # parts this near to each other, in heights of a person, belong together
_SPECK = 0.02  # parts smaller than this share of a person are none
_SURE = 0.5  # score from which the network's people are people and not parts of one
_LOST_FRAMES = 15  # for so long a person is followed without the network
_LIKE = 0.4  # least overlap with where a lost person was, the frame before

# log odds (h, w), mask (h, w), score, and frames since the network saw the person
_Found = tuple[np.ndarray, np.ndarray, float, int]


@dataclass(eq=False)
class Foreground:
    """Makes the masks of one view better, frame by frame in the recording's order.

    Attributes:
        background: of this view.
        size: of a usual person, working pixels (:func:`background.people_size`).
    """

    background: Background
    size: float
    _before: list[tuple[np.ndarray, int]] = field(default_factory=list)

    def people(self, image: np.ndarray, masks: Sequence[PackedMask]) -> list[PersonInstance]:
        """The people in a frame.

        Args:
            image: (H, W, 3) uint8 BGR.
            masks: the network's, of the whole image.

        Returns:
            People with masks (H, W), best first. Those that the network saw shortly before but not in this
            frame have the score 0.
        """
        small = shrink(image)
        seen = [shrink_mask(mask) for mask in masks]
        where = np.zeros(small.shape[:2], bool)
        for mask in (*seen, *(mask for mask, _ in self._before)):
            where |= mask
        if not where.any():
            return []
        window = window_around(where, self.size)
        busy = cv2.dilate(where.view(np.uint8), np.ones((9, 9), np.uint8)).view(bool)
        odds = self.background.evidence(small, busy, window)
        seen = [np.ascontiguousarray(mask[window]) for mask in seen]
        union = np.any(seen, axis=0) if seen else np.zeros(odds.shape, bool)
        values = separate(odds, union, self.size)
        groups = self._groups(values, odds, seen, [mask.score for mask in masks])
        found = [(values, part, score, 0) for part, score in groups]
        found += self._lost(odds, [(mask[window], missed) for mask, missed in self._before], found)
        self._before, people = [], []
        for values, part, score, missed in found:
            place, odds_there = np.zeros_like(where), np.full(where.shape, -6, np.float32)
            place[window], odds_there[window] = part, values
            self._before.append((place, missed))
            people.append(PersonInstance.from_mask(_enlarge(odds_there, place, image.shape[:2]), score))
        return [person for person in people if person is not None]

    def _groups(
        self, values: np.ndarray, odds: np.ndarray, seen: list[np.ndarray], scores: list[float]
    ) -> list[tuple[np.ndarray, float]]:
        """Mask (h, w) and score of each person in log odds (h, w), all in all and of the difference alone."""
        labels = self._parts(values > 0)
        groups: list[_Group] = []
        order = sorted(range(len(seen)), key=lambda i: -scores[i] * np.sqrt(seen[i].sum()))
        for i in order:
            own = labels[seen[i]]
            if not len(own) or (own > 0).mean() < _REAL:
                continue  # it looks as it always does: not a person, or one who is part of the room
            counts = np.bincount(own, minlength=1)
            counts[0] = 0
            parts = set(np.flatnonzero(counts > 0.15 * counts.sum()).tolist())
            kept = seen[i] & (labels > 0)
            piece = _Group(kept, parts, scores[i], float((odds[kept] > 0.5).mean()))
            for group in groups:
                if group.parts & parts and _one_person(group, piece):
                    group.mask |= piece.mask
                    group.parts |= parts
                    break
            else:
                groups.append(piece)
        return [(mask, group.score) for group in groups if (mask := self._claim(group, groups, labels)).any()]

    def _parts(self, mask: np.ndarray) -> np.ndarray:
        """Numbers (h, w) of a mask's connected parts, small gaps bridged and specks left out; 0 elsewhere."""
        reach = 2 * max(1, round(_GAP * self.size)) + 1
        bridged = cv2.dilate(mask.view(np.uint8), np.ones((reach, reach), np.uint8))
        count, labels = cv2.connectedComponents(bridged)
        labels[~mask] = 0
        areas = np.bincount(labels.ravel(), minlength=count)
        # a person fills about a fifth of the square of their height
        labels[(areas < _SPECK * 0.2 * self.size**2)[labels]] = 0
        return labels

    def _claim(self, group: _Group, groups: list[_Group], labels: np.ndarray) -> np.ndarray:
        """The pixels of a person: parts are shared out to the nearest one where several meet."""
        mask = np.isin(labels, list(group.parts))
        rank = groups.index(group)
        rivals = [(k, other) for k, other in enumerate(groups) if k != rank and other.parts & group.parts]
        if rivals:
            mine = distance_to(group.mask)
            for k, rival in rivals:
                theirs = distance_to(rival.mask)
                mask &= mine <= theirs if rank < k else mine < theirs
        return mask

    def _lost(
        self, odds: np.ndarray, earlier: list[tuple[np.ndarray, int]], found: list[_Found]
    ) -> list[_Found]:
        """People of the frame before who are missing in this one, where the difference still shows them."""
        still = []
        for before, missed in earlier:
            if missed >= _LOST_FRAMES or any(_overlap(before, part) > 0.2 for _, part, _, _ in found):
                continue
            before = np.ascontiguousarray(before)
            values = separate(odds, before, self.size)
            # the place alone proves nothing: there must be a difference
            labels = self._parts((values > 0) & (cv2.blur(odds, (5, 5)) > 0.5))
            here = np.bincount(labels[before], minlength=1)
            here[0] = 0
            if here.any():
                part = labels == here.argmax()
                for _, other, _, _ in found:
                    part &= ~other
                if _overlap(before, part) > _LIKE:
                    still.append((values, part, FOUND_WITHOUT_NETWORK, missed + 1))
        return still


@dataclass(eq=False)
class _Group:
    """Masks of one person: where the network sees them, the connected parts, the best score, and the share
    that differs from the background."""

    mask: np.ndarray
    parts: set[int]
    score: float
    differs: float


def _one_person(one: _Group, two: _Group) -> bool:
    """Whether two masks that touch look like parts of one person.

    Not like two people next to each other; nor like a person and a thing that was there all the time.
    """
    if abs(one.differs - two.differs) > 0.5:
        return False
    (x0, y0, x1, y1), (u0, v0, u1, v1) = (_box(group.mask) for group in (one, two))
    heights, widths = (y1 - y0, v1 - v0), (x1 - x0, u1 - u0)
    upright = min(y1, v1) - max(y0, v0) > 0.6 * min(heights)
    apart = min(x1, u1) - max(x0, u0) < 0.5 * min(widths)
    alike = min(heights) > 0.6 * max(heights) or min(one.score, two.score) >= _SURE
    return not (upright and apart and alike)


def _box(mask: np.ndarray) -> Box:
    return mask_box(mask) or (0, 0, 0, 0)


def _overlap(one: np.ndarray, two: np.ndarray) -> float:
    return float((one & two).sum() / max((one | two).sum(), 1))


def _enlarge(values: np.ndarray, part: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """A part (h, w) bool as a mask (H, W) bool, with the smooth outline of the log odds (h, w)."""
    height, width = shape
    h, w = part.shape
    mask = np.zeros(shape, bool)
    box = mask_box(part)
    if box is None:
        return mask
    x0, y0, x1, y1 = max(box[0] - 2, 0), max(box[1] - 2, 0), min(box[2] + 2, w), min(box[3] + 2, h)
    inner = part[y0:y1, x0:x1]
    near = cv2.dilate(inner.view(np.uint8), np.ones((3, 3), np.uint8)) > 0
    # outside this person, others may have positive values
    smooth = np.where(near & (inner | (values[y0:y1, x0:x1] <= 0)), np.tanh(values[y0:y1, x0:x1] / 2), -1)
    X0, Y0, X1, Y1 = x0 * width // w, y0 * height // h, -(-x1 * width // w), -(-y1 * height // h)
    zoom_x, zoom_y = width / w, height / h
    affine = np.array(
        [
            [1 / zoom_x, 0, (X0 + 0.5) / zoom_x - 0.5 - x0],
            [0, 1 / zoom_y, (Y0 + 0.5) / zoom_y - 0.5 - y0],
        ]
    )
    large = cv2.warpAffine(
        smooth.astype(np.float32),
        affine,
        (X1 - X0, Y1 - Y0),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    mask[Y0:Y1, X0:X1] = large > 0
    return mask
