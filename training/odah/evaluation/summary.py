"""From errors of frames to the figures of a report: means, percentiles, groups of frames, the worst clips."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from odah.evaluation.errors import ANGLES, COLUMNS
from odah.metrics import mean_pose_baseline
from pose2sim_biokin.skeleton.angles import CONSTRAINED, FREE

MAIN = "mae_17_deg"  # what percentiles and the order of the worst clips go by
FALLBACK = "pa_mpjpe_mm"  # where a model lacks some of the 17 angles
PERCENTILES = {"median": 50, "p90": 90, "p95": 95, "p99": 99, "worst": 100}
# Cameras' viewing directions, degrees apart.
SEPARATIONS = (30, 60, 90, 120, 150)


@dataclass(frozen=True)
class Scored:
    """A method's errors in one clip.

    Attributes:
        data: what the clip belongs to (a data set, a cache).
        clip: its name there.
        method: the checkpoint or the program.
        errors: see `odah.evaluation.errors.frame_errors`.
        groups: kind of grouping ("motion", "separation", ...) -> (T,) name of each frame's group.
        wanted: (T, 17) true constrained angles, rad, or None.
        notes: how angles of different models were matched, what was aligned.
    """

    data: str
    clip: str
    method: str
    errors: dict[str, np.ndarray]
    groups: dict[str, np.ndarray] = field(default_factory=dict)
    wanted: np.ndarray | None = None
    notes: tuple[str, ...] = ()

    @property
    def frames(self) -> int:
        """Number of frames."""
        return len(self.errors["missing"])

    def mean(self, column: str) -> float | None:
        """Mean of a column over the frames that have it; None where none has."""
        return _mean(self.errors.get(column))

    @property
    def worst_frame(self) -> int:
        """The frame with the largest error."""
        for column in (MAIN, FALLBACK):
            values = self.errors[column]
            if np.isfinite(values).any():
                return int(np.nanargmax(values))
        return 0


def separation_name(degrees: float) -> str:
    """The bin of an angle between two cameras: "30-60", ..., or "below 30", "150 and more"."""
    if degrees < SEPARATIONS[0]:
        return f"below {SEPARATIONS[0]}"
    for low, high in zip(SEPARATIONS[:-1], SEPARATIONS[1:], strict=True):
        if degrees < high:
            return f"{low}-{high}"
    return f"{SEPARATIONS[-1]} and more"


def motion_name(kind: str, name: str) -> str:
    """Group of a motion: "action: squat"; recordings all together."""
    return "recorded" if kind == "recorded" else f"{kind}: {name}"


def summarize(scored: Sequence[Scored], worst: int = 8) -> dict:
    """Everything a report says of one method on one set of data; frames count alike, whatever their clip.

    The keys that were there before there were clips keep their names (checkpoints carry them).
    """
    table = {c: np.concatenate([_column(s, c) for s in scored]) for c in COLUMNS}
    angles = np.concatenate([s.errors["angles"] for s in scored])
    missing = np.concatenate([s.errors["missing"] for s in scored])
    per_angle = {name: _mean(angles[:, k]) for k, name in enumerate(ANGLES)}
    known = {name: v for name, v in per_angle.items() if v is not None and name in CONSTRAINED}
    main = table[MAIN] if np.isfinite(table[MAIN]).any() else table[FALLBACK]
    result = {
        "frames": len(missing),
        "clips": len(scored),
        "frames_missing": int(missing.sum()),
        **{column: _mean(values) for column, values in table.items()},
        "percentiles": {c: _percentiles(table[c]) for c in (MAIN, FALLBACK, "pelvis_mm", "pelvis_deg")},
        "constrained_mae_deg": _mean(table[MAIN]),
        "constrained_median_frame_deg": _percentiles(table[MAIN])["median"],
        "constrained_p95_frame_deg": _percentiles(table[MAIN])["p95"],
        "constrained_worst_frame_deg": _percentiles(table[MAIN])["worst"],
        "worst_angle": max(known, key=known.get) if known else None,
        "constrained_deg": {name: _rounded(per_angle[name]) for name in CONSTRAINED},
        "free_deg": {name: _rounded(per_angle[name]) for name in FREE},
        "rotation_deg": {
            name: _rounded(_mean(table[column]))
            for name, column in (
                ("pelvis", "pelvis_deg"),
                ("humerus_r", "humerus_r_deg"),
                ("humerus_l", "humerus_l_deg"),
            )
        },
        "scale_mae": _mean(table["scale"]),
        "angle_speed_error_deg_s": _mean(table["angle_speed_deg_s"]),
    }
    groups = {kind: grouped(scored, kind) for kind in dict.fromkeys(k for s in scored for k in s.groups)}
    result["groups"] = groups
    if "subject" in groups:
        result["subjects"] = len(groups["subject"])
    if "motion" in groups:
        result["by_group_deg"] = {name: g[MAIN] for name, g in groups["motion"].items()}
    wanted = [s.wanted[~s.errors["missing"]] for s in scored if s.wanted is not None]
    if len(wanted) == len(scored) and sum(map(len, wanted)):
        truth = torch.from_numpy(np.concatenate(wanted))
        truth = truth[torch.isfinite(truth).all(1)]
        result["mean_pose_baseline_deg"] = mean_pose_baseline(truth, truth)
    order = MAIN if main is table[MAIN] else FALLBACK
    ranked = sorted((s for s in scored if s.mean(order) is not None), key=lambda s: -s.mean(order))
    result["worst_clips"] = [
        {
            "clip": s.clip,
            **{c: s.mean(c) for c in (MAIN, FALLBACK, "pelvis_mm")},
            "worst_frame": s.worst_frame,
        }
        for s in ranked[:worst]
    ]
    result["notes"] = list(dict.fromkeys(note for s in scored for note in s.notes))
    return result


def grouped(scored: Sequence[Scored], kind: str) -> dict[str, dict]:
    """Means of each group of frames of a kind of grouping; largest groups first."""
    with_kind = [s for s in scored if kind in s.groups]
    labels = np.concatenate([s.groups[kind] for s in with_kind])
    clips = np.repeat(np.arange(len(with_kind)), [s.frames for s in with_kind])
    columns = (MAIN, FALLBACK, "mpjpe_mm", "pa_mpjve_mm_s", "pelvis_mm", "pelvis_deg", "iou_unused")
    table = {c: np.concatenate([_column(s, c) for s in with_kind]) for c in columns}
    names, counts = np.unique(labels, return_counts=True)
    return {
        str(names[i]): {
            "frames": int(counts[i]),
            "clips": len(np.unique(clips[labels == names[i]])),
            **{c: _mean(values[labels == names[i]]) for c, values in table.items()},
        }
        for i in np.argsort(-counts, kind="stable")
    }


def _column(scored: Scored, column: str) -> np.ndarray:
    return scored.errors.get(column, np.full(scored.frames, np.nan))


def _mean(values: np.ndarray | None) -> float | None:
    finite = values[np.isfinite(values)] if values is not None else ()
    return float(np.mean(finite)) if len(finite) else None


def _percentiles(values: np.ndarray) -> dict[str, float | None]:
    finite = values[np.isfinite(values)]
    return {k: float(np.percentile(finite, p)) if len(finite) else None for k, p in PERCENTILES.items()}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
