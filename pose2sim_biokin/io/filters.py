"""Filtering of joint angles with Pose2Sim's own filters and settings."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np

from pose2sim_biokin.errors import BiokinError

FILTERS = (
    *("butterworth", "acc_minimizing", "kalman", "one_euro", "gcv_spline", "gaussian", "loess", "median"),
    "butterworth_on_speed",
)


def ik_filter_type(config_dict: dict[str, Any]) -> str | None:
    """Name of the filter for joint angles, None when `filter_ik` is not set: upstream's own keys.

    Raises:
        BiokinError: an unknown name.
    """
    kinematics = config_dict.get("kinematics", {})
    if not kinematics.get("filter_ik", False):
        return None
    found = kinematics.get("ik_filter_type", "acc_minimizing")
    name = str(found).lower()
    if name not in FILTERS:
        raise BiokinError(
            f"[kinematics] ik_filter_type = {found!r}: unknown filter; expected one of {', '.join(FILTERS)}."
        )
    return name


def filter_coordinates(
    coordinates: np.ndarray, frame_rate: float, config_dict: dict[str, Any], filter_type: str
) -> np.ndarray:
    """Filter joint angles as Pose2Sim's kinematics does with `filter_ik`.

    Hampel outlier rejection first when `[filtering] reject_outliers` is set, then the filter with its
    `[filtering.<type>]` settings, column by column, in the units of the .mot file. Stretches between frames
    that are not finite are filtered by themselves.

    Args:
        coordinates: (T, nc), as written to the .mot file (degrees and m).
        frame_rate: Hz.
        filter_type: one of FILTERS.

    Returns:
        (T, nc), filtered. A stretch too short for the filter stays as it is, with a warning in the log.
    """
    import pandas as pd
    from Pose2Sim.filtering import filter1d, hampel_filter

    filtering = config_dict.get("filtering", {})
    result = np.array(coordinates, dtype=np.float64)
    finite = np.isfinite(result).all(axis=1)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], finite, [0]])))
    for start, stop in edges.reshape(-1, 2):
        for k in range(result.shape[1]):
            column = pd.Series(result[start:stop, k])
            if np.ptp(column) == 0:
                continue  # locked coordinates; some filters divide by the variance
            try:
                if filtering.get("reject_outliers", False):
                    column = hampel_filter(column)
                if filtering.get("filter", True):
                    column = filter1d(column, config_dict, filter_type, frame_rate)
            except ValueError as error:
                logging.warning(f"{stop - start} frames are too few for the {filter_type} filter ({error}).")
                break
            result[start:stop, k] = np.asarray(column)
    return result
