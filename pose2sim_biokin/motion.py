"""What leaves the network: the motion of one person, with its quality, in the project's world."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class FrameQuality:
    """Per-frame evidence for or against a prediction; every array has T rows.

    Attributes:
        mask_found: (T, 2) bool, the person's mask was found in each view.
        interpolated: (T,) bool, the frame was filled in from its neighbours.
        hull_fill: (T,) share of candidate points that fell in both masks, 0..1.
        hull_extent_m: (T, 3) size of the visual hull's points (95th minus 5th percentile) along world X, Y
            and Z.
        overlap: (T, 2) share of the skeleton's keypoints that project inside the mask of each view; NaN
            where there is no mask.
        range_violation: (T,) largest excess of a coordinate over its range, radians.
    """

    mask_found: np.ndarray
    interpolated: np.ndarray
    hull_fill: np.ndarray
    hull_extent_m: np.ndarray
    overlap: np.ndarray
    range_violation: np.ndarray


@dataclass(frozen=True)
class Motion:
    """Joint angles and segment scales of one person.

    Attributes:
        time: (T,) seconds, ``frame / fps``; need not start at 0.
        coordinates: (T, nc) in the skeleton's coordinate order, radians and metres, in OpenSim's ground
            (X forward, Y up, Z right) of the project's world: ground (X, Y, Z) = world (Y, Z, X).
        scales: (nb, 3) scale factors of the bodies along their own axes.
        skeleton: name of the skeleton, or the path of its .osim.
        quality: per-frame evidence.
        info: device, weights, hashes, timings: what the quality file reports about the run as a whole.
    """

    time: np.ndarray
    coordinates: np.ndarray
    scales: np.ndarray
    skeleton: str
    quality: FrameQuality | None = None
    info: dict = field(default_factory=dict)
