"""From two views of one person to a Motion: owns the device, the batches, the frame rate and the windows.

``Predictor(weights="default", device="auto", batch_size=32, seed=0)`` loads a checkpoint;
``Predictor.predict(views, time, *, max_gap_s=0.5, progress=None)`` takes two :class:`ViewCrops` and the frame
times and returns a :class:`pose2sim_biokin.motion.Motion` at the same times.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class ViewCrops:
    """One view of a trial, as virtual crop cameras that look at the person; every array has T rows.

    Attributes:
        images: (T, S, S, 3) uint8, **RGB** (turn OpenCV's BGR round first); the background may be there or not,
            it is blanked with the mask.
        masks: (T, S, S) uint8 or bool, non-zero on the person.
        K: (T, 3, 3) crop camera matrices, pixels, pixel centres at whole numbers, no lens distortion.
        R: (T, 3, 3) rotations of the crop cameras, world (Z up) to camera (OpenCV axes).
        t: (T, 3) translations, metres: x_pixel = K (R X_world + t).
        found: (T,) bool, whether the person was found in this frame; rows that are False may hold anything finite
            (zeros will do).
    """

    images: np.ndarray
    masks: np.ndarray
    K: np.ndarray
    R: np.ndarray
    t: np.ndarray
    found: np.ndarray
