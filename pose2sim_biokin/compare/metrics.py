"""Figures of merit of one motion against another: angles, points, smoothness. NumPy in, plain numbers out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

# Limb joint centres, which models of a body agree about; trunks are divided differently from model to model.
JOINTS = tuple(
    f"{joint}_{side}"
    for joint in ("hip", "knee", "ankle", "subtalar", "mtp", "shoulder", "elbow", "wrist")
    for side in "rl"
)
_STILL = 1e-9  # a standard deviation or speed below this counts as none


@dataclass(frozen=True)
class CoordinateMetrics:
    """One coordinate of one result against the reference's: error = result - reference, short way round.

    In the coordinate's unit (deg or mm); NaN where a figure is not defined.

    Attributes:
        frames: how many both have.
        mae, rmse, bias: mean absolute error, root mean square error, mean error.
        mae_offset_corrected: mean absolute error once the bias is taken out.
        pearson_r: correlation; NaN where one does not move.
        rom, rom_reference: range of motion, largest minus smallest.
        worst: the largest error in size, signed. worst_frame: its row on the common time base.
        worst_time: s.
        sd: standard deviation of the error (n - 1).
        limits: Bland-Altman 95 % limits of agreement, bias -+ 1.96 sd; the mean is `bias`.
    """

    frames: int
    mae: float
    rmse: float
    bias: float
    mae_offset_corrected: float
    pearson_r: float
    rom: float
    rom_reference: float
    worst: float
    worst_frame: int
    worst_time: float
    sd: float
    limits: tuple[float, float]


@dataclass(frozen=True, eq=False)
class PointMetrics:
    """Shared joint centres of one result against the reference's; mm; T frames on the common time base.

    Attributes:
        joints: names of the joint centres that both have.
        mpjpe: mean distance once the midpoints of the hips coincide.
        mpjpe_world: mean distance as they stand in the world.
        pa_mpjpe: mean distance after the best similarity transform of each frame (Procrustes).
        per_joint: joint -> mean distance, hips' midpoints coinciding.
        mpjpe_frames, pa_mpjpe_frames, pelvis_path_frames: (T,) the same by frame.
        pelvis_path: mean distance of the hips' midpoints. pelvis_path_max: the largest.
        pelvis_path_offset_corrected: once their mean difference is taken out.
    """

    joints: tuple[str, ...]
    mpjpe: float
    mpjpe_world: float
    pa_mpjpe: float
    per_joint: dict[str, float]
    mpjpe_frames: np.ndarray = field(repr=False)
    pa_mpjpe_frames: np.ndarray = field(repr=False)
    pelvis_path_frames: np.ndarray = field(repr=False)
    pelvis_path: float
    pelvis_path_max: float
    pelvis_path_offset_corrected: float


@dataclass(frozen=True)
class Smoothness:
    """How jerky one result's coordinate is: see `metrics.smoothness`.

    Attributes:
        rms_jerk: root mean square of the third derivative, deg/s^3 or mm/s^3.
        log_dimensionless_jerk: the nearer to zero the smoother; NaN where nothing moves.
    """

    rms_jerk: float
    log_dimensionless_jerk: float


def wrapped(angles: np.ndarray, turn: float = 360.0) -> np.ndarray:
    """Angles brought into -turn/2 .. turn/2: differences the short way round."""
    return angles - turn * np.round(angles / turn)


def coordinate_metrics(
    values: np.ndarray, reference: np.ndarray, time: np.ndarray, *, angle: bool = True
) -> CoordinateMetrics:
    """Figures of one coordinate (T,) against the reference (T,); frames without either do not count.

    Bland-Altman limits as in Bland and Altman 1986 (Lancet): bias -+ 1.96 standard deviations of the
    differences. Frames of one motion are not independent of one another: the limits describe this trial.

    Args:
        values, reference: in the same unit; degrees where `angle` is set, differences are then wrapped.
        time: (T,) s.
    """
    error = values - reference
    if angle:
        error = wrapped(error)
    rows = np.flatnonzero(np.isfinite(error))
    nan = float("nan")
    if not len(rows):
        return CoordinateMetrics(0, *[nan] * 8, -1, nan, nan, (nan, nan))
    error, x, y = error[rows], values[rows], reference[rows]
    bias = float(error.mean())
    sd = float(error.std(ddof=1)) if len(rows) > 1 else nan
    moves = len(rows) > 2 and min(x.std(), y.std()) > _STILL
    worst = int(np.abs(error).argmax())
    return CoordinateMetrics(
        frames=len(rows),
        mae=float(np.abs(error).mean()),
        rmse=float(np.sqrt((error**2).mean())),
        bias=bias,
        mae_offset_corrected=float(np.abs(error - bias).mean()),
        pearson_r=float(np.corrcoef(x, y)[0, 1]) if moves else nan,
        rom=float(np.ptp(x)),
        rom_reference=float(np.ptp(y)),
        worst=float(error[worst]),
        worst_frame=int(rows[worst]),
        worst_time=float(time[rows[worst]]),
        sd=sd,
        limits=(bias - 1.96 * sd, bias + 1.96 * sd),
    )


def point_metrics(
    points: Mapping[str, np.ndarray], reference: Mapping[str, np.ndarray]
) -> PointMetrics | None:
    """Figures of shared joint centres, name -> (T, 3) m; None where fewer than four, or a hip, are shared."""
    joints = tuple(name for name in JOINTS if name in points and name in reference)
    if len(joints) < 4 or not {"hip_r", "hip_l"} <= set(joints):
        return None
    a = 1000 * np.stack([points[name] for name in joints], axis=1)  # (T, J, 3) mm
    b = 1000 * np.stack([reference[name] for name in joints], axis=1)
    hips = [joints.index("hip_r"), joints.index("hip_l")]
    root_a, root_b = (x[:, hips].mean(axis=1, keepdims=True) for x in (a, b))
    distances = np.linalg.norm((a - root_a) - (b - root_b), axis=-1)  # (T, J)
    seen = np.isfinite(distances).all(axis=1)
    if not seen.any():
        return None
    aligned = np.full(len(a), np.nan)
    aligned[seen] = procrustes_error(a[seen], b[seen])
    path = (root_a - root_b)[:, 0]
    pelvis = np.linalg.norm(path, axis=-1)
    return PointMetrics(
        joints=joints,
        mpjpe=float(distances[seen].mean()),
        mpjpe_world=float(np.linalg.norm(a - b, axis=-1)[seen].mean()),
        pa_mpjpe=float(aligned[seen].mean()),
        per_joint=dict(zip(joints, distances[seen].mean(axis=0).tolist(), strict=True)),
        mpjpe_frames=distances.mean(axis=1),
        pa_mpjpe_frames=aligned,
        pelvis_path_frames=pelvis,
        pelvis_path=float(pelvis[seen].mean()),
        pelvis_path_max=float(pelvis[seen].max()),
        pelvis_path_offset_corrected=float(
            np.linalg.norm(path[seen] - path[seen].mean(axis=0), axis=-1).mean()
        ),
    )


def procrustes_aligned(points: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Points (B, M, 3) after the rotation, scale and shift, no reflection, that bring each frame nearest to
    the truth (B, M, 3): Umeyama 1991.
    """
    mean_p, mean_t = points.mean(1, keepdims=True), truth.mean(1, keepdims=True)
    p, t = points - mean_p, truth - mean_t
    u, s, vt = np.linalg.svd(np.swapaxes(p, 1, 2) @ t)
    sign = np.ones_like(s)
    sign[:, 2] = np.sign(np.linalg.det(u @ vt))
    rotation = (u * sign[:, None]) @ vt
    scale = (s * sign).sum(1) / np.maximum((p**2).sum((1, 2)), 1e-12)
    return scale[:, None, None] * p @ rotation + mean_t


def procrustes_error(points: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Mean distance (B,) of points (B, M, 3) from the truth after `procrustes_aligned` (PA-MPJPE)."""
    return np.linalg.norm(procrustes_aligned(points, truth) - truth, axis=-1).mean(1)


def rotation_angle(rotations: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Angle (...), degrees, of the turn that takes one rotation (..., 3, 3) to the other."""
    # by the distance of the matrices, which is exact for small angles too: |A - B|^2 = 8 sin^2(angle / 2)
    squared = ((rotations - reference) ** 2).sum((-1, -2)) / 8
    return np.rad2deg(2 * np.arcsin(np.sqrt(np.clip(squared, 0, 1))))


def smoothness(values: np.ndarray, time: np.ndarray) -> Smoothness:
    """Jerkiness of one coordinate (T,) at evenly spaced times (T,) s; frames without it break it up.

    The log dimensionless jerk is that of Balasubramanian, Melendez-Calderon and Burdet 2012 (IEEE Trans.
    Biomed. Eng. 59:2126): ``-ln(D^3 / v_peak^2 * integral of jerk^2 dt)`` with duration D, speed v and its
    peak. Derivatives are central differences. Of the stretches without gap, the longest one counts.
    """
    values, time = _longest_stretch(values, time)
    nan = float("nan")
    if len(values) < 5:
        return Smoothness(nan, nan)
    step = float(np.mean(np.diff(time)))
    velocity = (values[2:] - values[:-2]) / (2 * step)
    jerk = (values[4:] - 2 * values[3:-1] + 2 * values[1:-3] - values[:-4]) / (2 * step**3)
    mean_square, peak = float((jerk**2).mean()), float(np.abs(velocity).max())
    if peak < _STILL or mean_square == 0:
        return Smoothness(float(np.sqrt(mean_square)), nan)
    duration = step * (len(values) - 1)
    return Smoothness(float(np.sqrt(mean_square)), float(-np.log(duration**4 * mean_square / peak**2)))


def _longest_stretch(values: np.ndarray, time: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    seen = np.isfinite(values)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], seen, [False]]).astype(int))).reshape(-1, 2)
    if not len(edges):
        return values[:0], time[:0]
    start, stop = max(edges, key=lambda edge: edge[1] - edge[0])
    return values[start:stop], time[start:stop]
