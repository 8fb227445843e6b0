"""Mask errors like those that a segmenter makes; their distribution is measured (`odah.mask_errors`).

A segmenter's mask is a smooth, coarse map that is cut off at a level: its outline is rounded, thin parts
fade, and it is a little too wide here and too narrow there. Beyond that, pieces of background cling to it,
pieces are missing, and hands and feet are cut off.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

import cv2
import numpy as np

from pose2sim_biokin.errors import BiokinError


@dataclass(frozen=True)
class MaskNoise:
    """Call it with a mask (S, S), non-zero on the person, and a generator.

    All lengths are pixels of crops of 128 and grow with the crop.

    Attributes:
        smooth: smallest and largest deviation of the smoothing.
        offset: mean and deviation of the outline's displacement, a whole mask's.
        wobble: deviation of the displacement along the outline.
        length: over which it changes.
        lumps, holes: mean number of pieces too much and too little.
        radius: median radius of these; `spread`: deviation of its logarithm.
        ends: probability of losing the end of a thin part (hand, foot, head).
    """

    smooth: tuple[float, float] = (0.8, 2.2)
    offset: tuple[float, float] = (0.0, 0.5)
    wobble: float = 0.8
    length: float = 9.0
    lumps: float = 0.4
    holes: float = 0.3
    radius: float = 4.0
    spread: float = 0.5
    ends: float = 0.15

    @classmethod
    def of(cls, values: Mapping) -> MaskNoise:
        """Some attributes, as in an experiment file's ``[augmentation] errors = { lumps = 0.5 }``.

        Raises:
            BiokinError: one that there is not.
        """
        known = {f.name for f in fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise BiokinError(
                f"[augmentation] errors: unknown key {', '.join(unknown)}; expected keys among "
                f"{', '.join(sorted(known))}."
            )
        return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})

    def __call__(self, mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """A varied mask (S, S) uint8 of 0 and 1; the mask itself where nothing would be left of it."""
        true = (mask > 0).astype(np.uint8)
        size = len(true)
        unit = size / 128
        sigma = rng.uniform(*self.smooth) * unit
        level = cv2.GaussianBlur(true.astype(np.float32), (0, 0), sigma)
        cells = max(2, round(size / (self.length * unit)))
        field = self.wobble * rng.standard_normal((cells, cells)) + rng.normal(*self.offset)
        field = cv2.resize(field.astype(np.float32), (size, size), interpolation=cv2.INTER_CUBIC)
        # Across a straight outline the smoothed mask falls as a normal distribution does.
        level += field * unit * np.float32(0.399 / sigma)
        found = ((level > 0.5) & (cv2.dilate(true, _disc(5 * unit)) > 0)).astype(np.uint8)
        for value, mean in ((1, self.lumps), (0, self.holes)):
            for _ in range(rng.poisson(mean)):
                self._piece(found, true, value, unit, rng)
        if rng.random() < self.ends:
            self._lose_end(found, true, unit, rng)
        return found if found.any() else true

    def _piece(self, found: np.ndarray, true: np.ndarray, value: int, unit: float, rng) -> None:
        """An ellipse on the outline, too much or too little."""
        outline = true & (cv2.erode(true, np.ones((3, 3), np.uint8), borderValue=0) == 0)
        places = np.flatnonzero(outline)
        if not len(places):
            return
        y, x = divmod(int(places[rng.integers(len(places))]), len(true))
        radius = self.radius * unit * np.exp(self.spread * rng.standard_normal(2))
        angle = rng.uniform(0, 180)
        cv2.ellipse(
            found, (x, y), tuple(np.maximum(1, radius.round()).astype(int).tolist()), angle, 0, 360, value, -1
        )

    def _lose_end(self, found: np.ndarray, true: np.ndarray, unit: float, rng) -> None:
        """Cut off what is thin about a random place."""
        thick = cv2.morphologyEx(true, cv2.MORPH_OPEN, _disc(5 * unit))
        thin = true & (thick == 0)
        places = np.flatnonzero(thin)
        if not len(places):
            return
        y, x = divmod(int(places[rng.integers(len(places))]), len(true))
        disc = np.zeros_like(true)
        cv2.circle(disc, (x, y), max(1, round(rng.uniform(4, 9) * unit)), 1, -1)
        found[(disc & (thick == 0)) > 0] = 0


def _disc(radius: float) -> np.ndarray:
    side = 2 * max(1, round(radius)) + 1
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
