"""Mask errors like those that a segmenter makes; their distribution is measured (`odah.mask_errors`).

A segmenter's mask is a smooth, coarse map that is cut off at a level: its outline is rounded, thin parts
fade, and it is a little too wide here and too narrow there. Beyond that, pieces of background cling to it,
pieces are missing, and hands, feet and limbs are cut off. The defaults were found by
``python -m odah.mask_errors DATASET --fit 130`` for the bundled segmenter, with and without a still
background.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

import cv2
import numpy as np

from pose2sim_biokin.errors import BiokinError

_MOST = 6  # pieces of a kind in a mask


@dataclass(frozen=True)
class MaskNoise:
    """Call it with a mask (S, S), non-zero on the person, and a generator.

    All lengths are pixels of crops of 128 and grow with the crop.

    Attributes:
        smooth: smallest and largest deviation of the smoothing that rounds the outline.
        offset: mean and deviation of the outline's displacement, a whole mask's.
        wobble: deviation of the displacement along the outline.
        length: over which it changes.
        lumps, holes: mean number of pieces too much and too little.
        lump_radius, hole_radius: their median radii; `spread`: deviation of the logarithm.
        ends: probability of losing a thin part (hand, foot, a whole limb), and smallest and largest
            `end_radius` about a place in it within which it is lost.
        limbs: mean number of whole limbs lost besides, however right the rest is; smallest and largest
            `limb_radius`. The bundled segmenter does that to real people, not to rendered ones.
        clutter: mean number of boxes of background (a cupboard, a shelf) that cling to the person; smallest
            and largest `clutter_side`.
        uneven: deviation of the logarithm of what wobble, lumps, holes and ends of a mask are multiplied by:
            some masks are nearly right, others are bad all over.
    """

    smooth: tuple[float, float] = (1.0, 1.5)
    offset: tuple[float, float] = (-0.55, 0.35)
    wobble: float = 0.6
    length: float = 18.0
    lumps: float = 0.2
    holes: float = 0.2
    lump_radius: float = 9.0
    hole_radius: float = 10.5
    spread: float = 0.45
    ends: float = 0.6
    end_radius: tuple[float, float] = (6.0, 13.0)
    limbs: float = 0.0
    limb_radius: tuple[float, float] = (14.0, 40.0)
    clutter: float = 0.0
    clutter_side: tuple[float, float] = (10.0, 45.0)
    uneven: float = 0.85

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
        if not true.any():
            return true
        outside, inside = (
            cv2.distanceTransform(m, cv2.DIST_L2, 3) for m in ((true == 0).astype(np.uint8), true)
        )
        # The distance to the outline, smoothed: corners are rounded, and what is thin is lost first.
        distance = outside - inside + true.astype(np.float32) - 0.5
        distance = cv2.GaussianBlur(distance, (0, 0), rng.uniform(*self.smooth) * unit)
        severity = float(np.exp(self.uneven * rng.standard_normal()))
        cells = max(2, round(size / (self.length * unit)))
        field = severity * self.wobble * rng.standard_normal((cells, cells)) + rng.normal(*self.offset)
        field = cv2.resize(field.astype(np.float32), (size, size), interpolation=cv2.INTER_CUBIC)
        found = (distance < field * unit).astype(np.uint8)
        pieces = (1, self.lumps, self.lump_radius), (0, self.holes, self.hole_radius)
        for value, mean, radius in pieces:
            for _ in range(min(rng.poisson(severity * mean), _MOST)):
                self._piece(found, true, value, radius * unit, rng)
        if rng.random() < severity * self.ends:
            self._lose_end(found, true, self.end_radius, unit, rng)
        for _ in range(_number(self.limbs, rng)):
            self._lose_end(found, true, self.limb_radius, unit, rng)
        for _ in range(_number(self.clutter, rng)):
            place = _on_outline(true, rng)
            if place is not None:
                sides = rng.uniform(*self.clutter_side, 2) * unit
                middle = np.add(place, rng.uniform(-0.5, 0.5, 2) * sides)
                corners = cv2.boxPoints((middle.tolist(), sides.tolist(), rng.uniform(-15, 15)))
                cv2.fillConvexPoly(found, corners.round().astype(np.int32), 1)
        return found if found.any() else true

    def _piece(self, found: np.ndarray, true: np.ndarray, value: int, radius: float, rng) -> None:
        """An ellipse on the outline, too much or too little."""
        place = _on_outline(true, rng)
        if place is None:
            return
        radii = np.maximum(1, radius * np.exp(self.spread * rng.standard_normal(2)))
        axes = tuple(radii.round().astype(int).tolist())
        cv2.ellipse(found, place, axes, rng.uniform(0, 180), 0, 360, value, -1)

    def _lose_end(
        self, found: np.ndarray, true: np.ndarray, radius: tuple[float, float], unit: float, rng
    ) -> None:
        """Cut off what is thin within a radius (smallest, largest) about a random place."""
        # opened at half the size: the same, at a fraction of the cost
        half = cv2.resize(true, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_NEAREST)
        thick = cv2.morphologyEx(half, cv2.MORPH_OPEN, _disc(4 * unit))
        thick = cv2.dilate(cv2.resize(thick, true.shape[::-1], interpolation=cv2.INTER_NEAREST), _disc(1))
        places = np.flatnonzero(true & (thick == 0))
        if not len(places):
            return
        y, x = divmod(int(places[rng.integers(len(places))]), len(true))
        disc = np.zeros_like(true)
        cv2.circle(disc, (x, y), max(1, round(rng.uniform(*radius) * unit)), 1, -1)
        found[(disc & (thick == 0)) > 0] = 0


def _number(mean: float, rng: np.random.Generator) -> int:
    """How many pieces of a kind. Nothing is drawn from rng for a mean of 0."""
    return min(rng.poisson(mean), _MOST) if mean else 0


def _on_outline(mask: np.ndarray, rng: np.random.Generator) -> tuple[int, int] | None:
    """A random place (x, y) on a mask's outline."""
    outline = mask & (cv2.erode(mask, np.ones((3, 3), np.uint8), borderValue=0) == 0)
    places = np.flatnonzero(outline)
    if not len(places):
        return None
    y, x = divmod(int(places[rng.integers(len(places))]), len(mask))
    return x, y


def _disc(radius: float) -> np.ndarray:
    side = 2 * max(1, round(radius)) + 1
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
