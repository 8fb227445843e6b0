"""A check on real video, where no truth is known: the scaled body, as predicted, against the person's masks.

The body surface on the predicted skeleton is projected into cameras: those whose videos the network saw and,
better, those that it did not see, which are an honest judge of depth, facing and limbs. What the surface
cannot tell (it is bare and of mean girth) is left to the joints and the limbs' lines, which lie well inside a
person of any build. Feet, sides and jerk come from the motion alone (`pose2sim_biokin.plausibility`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pose2sim_biokin import plausibility
from pose2sim_biokin.errors import BiokinError
from pose2sim_biokin.meshes import PosedMesh, posed_surface
from pose2sim_biokin.motion import Motion
from pose2sim_biokin.overlay import StickFigure, stick_figure
from pose2sim_biokin.parallel import for_each
from pose2sim_biokin.progress import Progress, no_progress
from pose2sim_biokin.skeleton.model import Skeleton
from pose2sim_biokin.vision.camera import Camera
from pose2sim_biokin.vision.masks import PackedMask
from pose2sim_biokin.vision.silhouettes import mask_iou, project_in_field, silhouette

# Side of the pictures in which outlines are compared: a quarter of HD, where a person has some 5,000 pixels.
LONG_SIDE = 480
FRAMES = (
    200  # of each view, spread evenly, are compared with the masks: enough for any mean, and some seconds
)
# Limbs by their ends, as `pose2sim_biokin.overlay.stick_figure` names points.
LIMBS = {
    "trunk": ("torso", "C7"),
    "head": ("C7", "head"),
    **{
        f"{limb}_{side}": (f"{start}_{side}", f"{end}_{side}")
        for limb, start, end in (
            ("upper_arm", "humerus", "ulna"),
            ("forearm", "ulna", "hand"),
            ("thigh", "femur", "tibia"),
            ("shank", "tibia", "talus"),
            ("foot", "talus", "toes"),
        )
        for side in "rl"
    },
}
_SAMPLES = 10  # points along a limb, at the middles of ten equal parts
_LEGS, _ARMS = ("tibia", "talus", "toes"), ("ulna", "hand")


@dataclass(frozen=True)
class JudgedView:
    """A camera and the person's masks in it.

    Attributes:
        camera: calibrated, of the masks' size.
        masks: row of the motion -> mask; rows without one are not judged.
        used: the network saw this view.
    """

    camera: Camera
    masks: Mapping[int, PackedMask]
    used: bool


def judged_views(
    cameras: Sequence[Camera],
    masks: Sequence[Mapping[int, PackedMask]],
    frames: range,
    used: Collection[str],
) -> list[JudgedView]:
    """What is held against a motion with one row for each of `frames`.

    Args:
        cameras: calibrated.
        masks: for each camera, synchronised frame -> mask; others than `frames` are left out.
        used: names of the cameras that the network saw.
    """
    return [
        JudgedView(
            camera, {f - frames.start: mask for f, mask in seen.items() if f in frames}, camera.name in used
        )
        for camera, seen in zip(cameras, masks, strict=True)
    ]


@dataclass(frozen=True)
class ViewCheck:
    """One camera's verdict; n rows.

    Attributes:
        camera: its name.
        used: the network saw this view.
        rows: (n,) rows of the motion that were compared.
        iou: (n,) intersection over union of the body's outline and the mask; NaN without a surface.
        joints_inside: (n,) share of the joint centres in the picture that lie inside the mask.
        limbs: limb -> (n,) share of its line inside the mask.
    """

    camera: str
    used: bool
    rows: np.ndarray
    iou: np.ndarray
    joints_inside: np.ndarray
    limbs: dict[str, np.ndarray]


@dataclass(frozen=True)
class Check:
    """The whole check of a motion of T frames; see `check_motion` and `pose2sim_biokin.plausibility`.

    Attributes:
        views: one a camera.
        feet: how the soles stand; the soles are heel and forefoot, right and left.
        flips: (T,) bool, left and right legs or arms have swapped since the frame before.
        facing_jumps: (T,) bool, the pelvis has turned round since the frame before.
        backwards_share: of the walking frames.
        jerk_m_s3: (T,) of the joint centres.
    """

    views: tuple[ViewCheck, ...]
    feet: plausibility.Feet
    flips: np.ndarray
    facing_jumps: np.ndarray
    backwards_share: float
    jerk_m_s3: np.ndarray


def check_motion(
    motion: Motion,
    skeleton: Skeleton,
    fps: float,
    views: Sequence[JudgedView],
    progress: Progress = no_progress,
    floor_m: float | None = None,
) -> Check:
    """Hold a motion against masks, and against what bodies can do.

    Args:
        motion: in the project's world, T frames at a steady rate.
        skeleton: of the motion. If it cannot carry the body surface (`load_surface`), outlines are left out:
            iou is NaN, and the soles are the joint centres of calcn and toes.
        fps: frames a second.
        views: of each, up to FRAMES masks are compared.
        progress: told how far the comparison is.
        floor_m: height of the floor in the world where it is known.
    """
    figure = stick_figure(motion, skeleton)
    try:
        body = posed_surface(motion, skeleton)
    except BiokinError as error:
        body = None
        logging.info(f"The check has no outline. {error}")
    bodies = len(skeleton.body_names)
    rows = [_rows(view, np.isfinite(motion.coordinates).all(axis=1)) for view in views]

    def judge(k: int, view: JudgedView, step: Callable[[], None]) -> ViewCheck:
        return check_view(view, figure, bodies, body, rows[k], step)

    total = sum(len(r) for r in rows)
    judged = for_each(judge, views, progress, "Checking against the masks", total)
    index = {name: i for i, name in reversed(list(enumerate(figure.names)))}
    pairs = [
        [
            (index[f"{name}_r"], index[f"{name}_l"])
            for name in group
            if f"{name}_r" in index and f"{name}_l" in index
        ]
        for group in (_LEGS, _ARMS)
    ]
    points, pelvis = figure.points, figure.points[:, 0]
    if "femur_r" in index and "femur_l" in index:
        heading = plausibility.facing(points[:, index["femur_r"]], points[:, index["femur_l"]])
    else:
        heading = np.full(len(points), np.nan)
    return Check(
        views=tuple(judged),
        feet=plausibility.standing(_soles(body, figure, index), fps, floor_m),
        flips=plausibility.side_flips(points, pairs),
        facing_jumps=plausibility.facing_jumps(heading),
        backwards_share=plausibility.backwards_share(pelvis, heading, fps),
        jerk_m_s3=plausibility.jerk(points[:, :bodies], fps),
    )


def check_view(
    view: JudgedView,
    figure: StickFigure,
    bodies: int,
    body: PosedMesh | None,
    rows: np.ndarray,
    step: Callable[[], None] = lambda: None,
) -> ViewCheck:
    """One camera's verdict on some rows.

    Args:
        figure: the motion's; its first points are the joint centres of so many bodies.
        bodies: see above.
        body: the body surface, or None where there is none.
        rows: (n,) of the motion, each with a mask.
        step: called after each row.
    """
    camera = view.camera
    factor = min(1.0, LONG_SIDE / max(camera.size))
    small = camera.scaled(factor)
    index = {name: i for i, name in reversed(list(enumerate(figure.names)))}
    joints = [i for i, name in enumerate(figure.names[:bodies]) if not name.startswith("patella")]
    limbs = {n: (index[a], index[b]) for n, (a, b) in LIMBS.items() if a in index and b in index}
    share = ((np.arange(_SAMPLES) + 0.5) / _SAMPLES)[:, None]
    iou, inside = np.full(len(rows), np.nan), np.full(len(rows), np.nan)
    along = {name: np.full(len(rows), np.nan) for name in limbs}
    for n, row in enumerate(rows):
        mask, points = view.masks[int(row)], figure.points[row]
        lines = [points[a] + share * (points[b] - points[a]) for a, b in limbs.values()]
        hits = mask.inside(project_in_field(camera, np.concatenate([points[joints], *lines])))
        inside[n] = _mean(hits[: len(joints)])
        for k, name in enumerate(limbs):
            start = len(joints) + k * _SAMPLES
            along[name][n] = _mean(hits[start : start + _SAMPLES])
        if body is not None:
            outline = silhouette(small, body.vertices(int(row)), body.surface.faces)
            iou[n] = mask_iou(outline, mask.shrunk(small.size))
        step()
    return ViewCheck(camera.name, view.used, rows, iou, inside, along)


def _rows(view: JudgedView, posed: np.ndarray) -> np.ndarray:
    """Rows that have a mask and a pose: all, or FRAMES of them, evenly spread."""
    rows = np.array([row for row in sorted(view.masks) if posed[row]], dtype=np.int64)
    if len(rows) > FRAMES:
        rows = rows[np.linspace(0, len(rows) - 1, FRAMES).round().astype(int)]
    return rows


def _soles(body: PosedMesh | None, figure: StickFigure, index: Mapping[str, int]) -> np.ndarray:
    if body is not None:
        return body.soles
    joints = [f"{part}_{side}" for side in "rl" for part in ("calcn", "toes")]
    chosen = [index[name] for name in joints if name in index]
    return figure.points[:, chosen] if chosen else np.full((len(figure.points), 1, 3), np.nan)


def check_summary(check: Check, frames: np.ndarray) -> dict[str, Any]:
    """The check in a few numbers, for the quality file.

    Args:
        frames: (T,) frame numbers, to name the worst.

    Returns:
        iou_used, iou_unused: mean over the cameras that the network saw, and that it did not see.
        views: camera -> used, frames (compared), iou_mean, iou_worst, iou_worst_frame, joints_inside, limbs
            (mean share of each limb's line inside the mask).
        worst_limb: limb, camera and share of the least of these.
        feet: floor_m; planted_share of the frames; sliding_m_s (mean) and sliding_m_s_95 (95th percentile) of
            the planted soles; penetration_m (mean) and penetration_m_worst of the frames with a planted sole.
        flips, facing_jumps: numbers of frames. backwards_share: of the walking frames.
        jerk_m_s3: median over the frames.
    """
    views = {}
    for view in check.views:
        worst = int(np.nanargmin(view.iou)) if np.isfinite(view.iou).any() else None
        views[view.camera] = {
            "used": view.used,
            "frames": len(view.rows),
            "iou_mean": _rounded(_mean(view.iou)),
            "iou_worst": _rounded(view.iou[worst]) if worst is not None else float("nan"),
            "iou_worst_frame": int(frames[view.rows[worst]]) if worst is not None else None,
            "joints_inside": _rounded(_mean(view.joints_inside)),
            "limbs": {limb: _rounded(_mean(values)) for limb, values in view.limbs.items()},
        }
    shares = {(limb, v.camera): _mean(s) for v in check.views for limb, s in v.limbs.items()}
    shares = {at: share for at, share in shares.items() if np.isfinite(share)}
    worst_at = min(shares, key=shares.get) if shares else (None, None)
    feet = check.feet
    return {
        "iou_used": _rounded(_mean(np.array([_mean(v.iou) for v in check.views if v.used]))),
        "iou_unused": _rounded(_mean(np.array([_mean(v.iou) for v in check.views if not v.used]))),
        "views": views,
        "worst_limb": {
            "limb": worst_at[0],
            "camera": worst_at[1],
            "inside": _rounded(shares.get(worst_at, float("nan"))),
        },
        "feet": {
            "floor_m": _rounded(feet.floor_m),
            "planted_share": _rounded(float(feet.planted.any(axis=1).mean())),
            "sliding_m_s": _rounded(_mean(feet.sliding_m_s)),
            "sliding_m_s_95": _rounded(_percentile(feet.sliding_m_s, 95)),
            "penetration_m": _rounded(_mean(feet.penetration_m)),
            "penetration_m_worst": _rounded(_percentile(feet.penetration_m, 100)),
        },
        "flips": int(check.flips.sum()),
        "facing_jumps": int(check.facing_jumps.sum()),
        "backwards_share": _rounded(check.backwards_share),
        "jerk_m_s3": _rounded(_percentile(check.jerk_m_s3, 50), 1),
    }


def check_columns(check: Check) -> dict[str, Any]:
    """The check frame by frame, for the quality file: T values a quantity, NaN where nothing was compared."""
    count = len(check.flips)

    def spread(view: ViewCheck, values: np.ndarray) -> np.ndarray:
        column = np.full(count, np.nan)
        column[view.rows] = np.round(values, 4)
        return column

    columns = {
        "iou": {v.camera: spread(v, v.iou) for v in check.views},
        "joints_inside": {v.camera: spread(v, v.joints_inside) for v in check.views},
        "sliding_m_s": np.round(_row_means(check.feet.sliding_m_s), 4),
        "penetration_m": np.round(check.feet.penetration_m, 4),
        "sides_flipped": check.flips | check.facing_jumps,
        "jerk_m_s3": np.round(check.jerk_m_s3, 1),
    }
    return columns


def _mean(values: np.ndarray) -> float:
    values = values[np.isfinite(values)]
    return float(values.mean()) if values.size else float("nan")


def _row_means(values: np.ndarray) -> np.ndarray:
    return np.array([_mean(row) for row in values])


def _percentile(values: np.ndarray, q: float) -> float:
    values = values[np.isfinite(values)]
    return float(np.percentile(values, q)) if values.size else float("nan")


def _rounded(value: float, digits: int = 4) -> float:
    return float(np.round(value, digits))
