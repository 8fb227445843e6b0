"""Results on one time base: the common range, the lower rate, and the lag between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from pose2sim_biokin.compare.result import GAP, BackendResult
from pose2sim_biokin.errors import BiokinError

MAX_LAG_S = 0.5  # half a gait cycle: beyond that, a cyclic motion matches itself again
_MOVES_DEG = 5.0  # coordinates with less range of motion say nothing about lag
_SAME_RATE = 0.01  # relative difference of rates that counts as none
_SAME_TIME = 0.01  # times that differ by less than this share of a frame are the same


def interpolate(time: np.ndarray, values: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Values (T, n) over time (T,) at other times (S,): (S, n).

    Cubic splines through stretches without gaps (lines where a stretch has fewer than four rows). NaN
    outside, and inside gaps: where rows are not finite or steps are longer than 1.5 median steps.
    """
    from scipy.interpolate import CubicSpline, interp1d

    result = np.full((len(at), values.shape[1]), np.nan)
    rows = np.flatnonzero(np.isfinite(values).all(axis=1))
    if not len(rows):
        return result
    step = float(np.median(np.diff(time)))
    slack = _SAME_TIME * step
    for part in np.split(rows, np.flatnonzero(np.diff(time[rows]) > GAP * step) + 1):
        inside = (at >= time[part[0]] - slack) & (at <= time[part[-1]] + slack)
        wanted = np.clip(at[inside], time[part[0]], time[part[-1]])
        if len(part) == 1:
            result[inside] = values[part]
        elif len(part) < 4:
            result[inside] = interp1d(time[part], values[part], axis=0)(wanted)
        else:
            result[inside] = CubicSpline(time[part], values[part])(wanted)
    return result


def common_time(results: Sequence[BackendResult]) -> tuple[np.ndarray, list[str]]:
    """The times that all results are compared at, and what a reader must know about them.

    These are the times of the result with the lowest rate that lie in the range common to all.

    Returns:
        time (T,) s; flags: rates that differ, lengths that differ, gaps.

    Raises:
        BiokinError: the results have less than two of these times in common.
    """
    start = max(result.time[0] for result in results)
    end = min(result.time[-1] for result in results)
    slowest = min(results, key=lambda result: result.rate)
    slack = _SAME_TIME / slowest.rate
    time = slowest.time[(slowest.time >= start - slack) & (slowest.time <= end + slack)]
    spans = "; ".join(
        f"{r.label} {r.time[0]:.3f} to {r.time[-1]:.3f} s, {len(r.time)} frames at {r.rate:g} Hz"
        for r in results
    )
    if len(time) < 2:
        raise BiokinError(
            f"The results have no time in common: {spans}. Compare results of the same trial; times that "
            "only count from another start must be shifted in the .mot file."
        )
    # rows that a gap left out are times as well
    time = _filled(time, 1 / slowest.rate)
    flags = []
    if any(abs(r.rate / slowest.rate - 1) > _SAME_RATE for r in results):
        flags.append(
            f"Rates differ ({spans}): all are compared at the {slowest.rate:g} Hz of {slowest.label}; the "
            "others are interpolated."
        )
    ends = [(r.time[0], r.time[-1]) for r in results]
    if np.ptp(ends, axis=0).max() > GAP / slowest.rate:
        flags.append(
            f"Lengths differ ({spans}): compared from {time[0]:.3f} to {time[-1]:.3f} s, which all have."
        )
    for r in results:
        for before, after in r.gaps:
            flags.append(
                f"{r.label} has no pose between {before:.3f} and {after:.3f} s: these frames do not count."
            )
    return time, flags


def estimate_lag(
    values: Mapping[str, np.ndarray], reference: Mapping[str, np.ndarray], rate: float
) -> float | None:
    """How much later the values are than the reference, s: the peak of their mean cross-correlation.

    Each coordinate (T,), deg, that moves by more than 5 degrees in both counts the same; lags up to half a
    second and a quarter of the motion are tried, and a parabola through the three best tells fractions of a
    frame.

    Returns:
        None where nothing moves enough, or the peak is at the end of what was tried.
    """
    names = [
        name
        for name in values
        if name in reference and min(_range(values[name]), _range(reference[name])) > _MOVES_DEG
    ]
    if not names:
        return None
    x = np.stack([values[name] for name in names])  # (n, T)
    y = np.stack([reference[name] for name in names])
    most = int(min(MAX_LAG_S * rate, x.shape[1] / 4))
    if most < 2:
        return None
    score = np.array([_correlation(x, y, lag) for lag in range(-most, most + 1)])
    if not np.isfinite(score).any():
        return None
    best = int(np.nanargmax(score))
    if best in (0, len(score) - 1) or not np.isfinite(score[best - 1 : best + 2]).all():
        return None
    left, middle, right = score[best - 1 : best + 2]
    bend = left - 2 * middle + right
    fraction = 0.5 * (left - right) / bend if bend < 0 else 0.0
    return float((best - most + fraction) / rate)


def _correlation(x: np.ndarray, y: np.ndarray, lag: int) -> float:
    """Mean over coordinates of the correlation of x (n, T), taken `lag` frames later, with y (n, T)."""
    count = x.shape[1]
    a, b = x[:, max(lag, 0) : count + min(lag, 0)], y[:, max(-lag, 0) : count + min(-lag, 0)]
    seen = np.isfinite(a).all(axis=0) & np.isfinite(b).all(axis=0)
    if seen.sum() < 5:
        return np.nan
    a, b = (v[:, seen] - v[:, seen].mean(axis=1, keepdims=True) for v in (a, b))
    size = np.sqrt((a**2).sum(axis=1) * (b**2).sum(axis=1))
    return float(np.mean((a * b).sum(axis=1) / np.maximum(size, 1e-12)))


def _range(values: np.ndarray) -> float:
    seen = values[np.isfinite(values)]
    return float(np.ptp(seen)) if len(seen) else 0.0


def _filled(time: np.ndarray, step: float) -> np.ndarray:
    """The times, and evenly spaced ones where steps are longer than a frame: figures over time show gaps."""
    parts = [time[:1]]
    for before, after in zip(time[:-1], time[1:], strict=True):
        count = round((after - before) / step)
        parts.append(np.linspace(before, after, count + 1)[1:] if count > 1 else np.array([after]))
    return np.concatenate(parts)
