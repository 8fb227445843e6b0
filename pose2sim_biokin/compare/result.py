"""One result as the comparison takes it: a scaled model and its motion, posed.

What the comparison gives is in `comparison`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pose2sim_biokin.compare.anatomy import SEGMENTS, common_bodies, common_joints
from pose2sim_biokin.compare.models import Model, load_model
from pose2sim_biokin.errors import BiokinError
from pose2sim_biokin.quality import read_quality

if TYPE_CHECKING:
    from pose2sim_biokin.skeleton.model import Skeleton

GAP = 1.5  # a step in time longer than so many periods is a gap


@dataclass(frozen=True, eq=False)
class BackendResult:
    """One result: a scaled model and its motion; T frames.

    Attributes:
        label: what it is called in tables and figures.
        osim, mot: the files that it was read from.
        model: the model, ready to be posed.
        time: (T,) s, increasing.
        coordinates: name -> (T,) rad or m, for every coordinate of the model; NaN where there is no pose.
            Angles are unwrapped: they do not jump by whole turns.
        assumed: coordinates that the motion file does not have; they are at the model's defaults.
        joint_centers: common name (`anatomy.common_joints`, and "pelvis" for the origin of that body) ->
            (T, 3) m in Pose2Sim's world, Z up.
        body_rotations: common name of the body (`anatomy.common_bodies`) -> (T, 3, 3), its axes as columns
            in Pose2Sim's world.
        body_positions: common name of the body -> (T, 3) m, its origin in Pose2Sim's world.
        segment_lengths: segment (`anatomy.SEGMENTS`) -> m between its joint centres, all coordinates zero.
        quality: what the quality file beside the motion says (`quality.read_quality`), if there is one.
        run_time_s: how long the backend took, where that is known.
        rows: (T,) index into the motion file's rows; -1 where a row lies between two of them.
    """

    label: str
    osim: Path
    mot: Path
    model: Model = field(repr=False)
    time: np.ndarray = field(repr=False)
    coordinates: dict[str, np.ndarray] = field(repr=False)
    assumed: tuple[str, ...]
    joint_centers: dict[str, np.ndarray] = field(repr=False)
    body_rotations: dict[str, np.ndarray] = field(repr=False)
    body_positions: dict[str, np.ndarray] = field(repr=False)
    segment_lengths: dict[str, float] = field(repr=False)
    quality: dict[str, Any] | None = field(repr=False, default=None)
    run_time_s: float | None = None
    rows: np.ndarray = field(repr=False, default_factory=lambda: np.zeros(0, np.int64))

    @property
    def skeleton(self) -> Skeleton | None:
        """The model as frozen arrays; None where only OpenSim can pose it."""
        return self.model.skeleton

    @property
    def trial_dir(self) -> Path:
        """Folder of the trial: the first above the motion file that has videos, else that of kinematics."""
        above = self.mot.resolve().parents
        return next((p for p in above[:5] if (p / "videos").is_dir()), self.mot.parent.parent)

    @property
    def rate(self) -> float:
        """Frames per second: the median over the motion."""
        return float(1 / np.median(np.diff(self.time)))

    @property
    def posed(self) -> np.ndarray:
        """(T,) bool: the frame has a pose."""
        return np.isfinite(np.stack(list(self.coordinates.values()))).all(axis=0)

    @property
    def gaps(self) -> tuple[tuple[float, float], ...]:
        """Stretches of time without a pose: the last time before and the first time after each."""
        at = self.time[self.posed]
        steps = np.diff(at)
        return tuple((float(at[i]), float(at[i + 1])) for i in np.flatnonzero(steps > GAP / self.rate))

    def is_angle(self, name: str) -> bool:
        """Whether a coordinate is an angle; BiokinError when the model does not have it."""
        if name not in self.model.coordinate_names:
            raise BiokinError(f"{self.label}: the model {self.osim} has no coordinate {name!r}.")
        return bool(self.model.rotational[self.model.coordinate_names.index(name)])

    def shifted(self, seconds: float) -> BackendResult:
        """The same motion, later by so many seconds."""
        return replace(self, time=self.time + seconds)

    def at(self, time: np.ndarray) -> BackendResult:
        """The motion at other times (S,), posed anew; see `alignment.interpolate`. NaN inside gaps."""
        from pose2sim_biokin.compare.alignment import interpolate

        values = np.stack([self.coordinates[name] for name in self.model.coordinate_names], axis=1)
        after = np.searchsorted(self.time, time).clip(1, len(self.time) - 1)
        nearest = after - (time - self.time[after - 1] < self.time[after] - time)
        hit = np.abs(self.time[nearest] - time) < 1e-3 / self.rate
        return replace(
            self,
            time=np.asarray(time, dtype=np.float64),
            rows=np.where(hit, self.rows[nearest], -1),
            **_posed(self.model, interpolate(self.time, values, time)),
        )


def read_result(
    osim: str | Path,
    mot: str | Path,
    label: str | None = None,
    *,
    quality: str | Path | None = None,
    run_time_s: float | None = None,
) -> BackendResult:
    """Read a scaled model and its motion, and pose the one by the other.

    Args:
        osim: any OpenSim model.
        mot: a motion file (.mot, .sto) with coordinates of that model; missing ones are at their default.
        label: of the result; the motion file's name without extension when absent.
        quality: the result's quality file; one that lies beside the motion is found by itself.
        run_time_s: how long the backend took; the quality file's total when absent.

    Raises:
        BiokinError: a file is missing or broken, the motion has no coordinate of the model, less than two
            frames, or times that do not increase.
    """
    osim, mot = Path(osim), Path(mot)
    model = load_model(osim)
    if not mot.is_file():
        raise BiokinError(f"{mot}: there is no such file; expected an OpenSim motion (.mot).")
    table = model.read_motion(mot)
    columns = {name: i for i, name in enumerate(table.names)}
    known = [name for name in model.coordinate_names if name in columns]
    if not known:
        raise BiokinError(
            f"{mot}: none of its columns ({', '.join(table.names[:6])}, ...) is a coordinate of {osim}. "
            "Give the model that the motion was made with."
        )
    if len(table.time) < 2 or not (np.diff(table.time) > 0).all():
        raise BiokinError(
            f"{mot}: {len(table.time)} rows, times {'not ' if len(table.time) > 1 else ''}increasing; "
            "expected two or more rows in order of time."
        )
    values = np.tile(model.defaults, (len(table.time), 1))
    for i, name in enumerate(model.coordinate_names):
        if name in columns:
            values[:, i] = table.coordinates[:, columns[name]]
            if model.rotational[i]:
                values[:, i] = _unwrapped(values[:, i])
    if quality is None:
        quality = _quality_beside(mot)
    about = read_quality(quality) if quality is not None else None
    if run_time_s is None and about is not None:
        run_time_s = (about.get("timings_s") or {}).get("total")
    return BackendResult(
        label=label or mot.stem,
        osim=osim,
        mot=mot,
        model=model,
        time=table.time,
        assumed=tuple(
            name
            for name, given in zip(model.coordinate_names, model.dependent, strict=True)
            if name not in columns and not given
        ),
        segment_lengths=_segment_lengths(model),
        quality=about,
        run_time_s=run_time_s,
        rows=np.arange(len(table.time)),
        **_posed(model, values),
    )


def _posed(model: Model, values: np.ndarray) -> dict[str, dict[str, np.ndarray]]:
    """Coordinates (T, nc) as the fields of a result; everything is NaN where a coordinate is."""
    found = np.isfinite(values).all(axis=1)
    frames = model.pose(np.where(found[:, None], values, model.defaults))
    blank = ~found
    rotation = _to_world(np.swapaxes(frames.rotation, -1, -2)).swapaxes(-1, -2)  # each column is a vector
    position, centers = _to_world(frames.position), _to_world(frames.joint_centers)
    for array in (rotation, position, centers):
        array[blank] = np.nan
    bodies, joints = common_bodies(model), common_joints(model)
    points = {name: centers[:, body] for name, body in joints.items()}
    if "pelvis" in bodies:
        points["pelvis"] = position[:, bodies["pelvis"]]
    return {
        "coordinates": {
            n: np.where(found, values[:, i], np.nan) for i, n in enumerate(model.coordinate_names)
        },
        "joint_centers": points,
        "body_rotations": {name: rotation[:, body] for name, body in bodies.items()},
        "body_positions": {name: position[:, body] for name, body in bodies.items()},
    }


def _segment_lengths(model: Model) -> dict[str, float]:
    centers = model.pose(np.zeros((1, len(model.coordinate_names)))).joint_centers[0]
    points = {name: centers[body] for name, body in common_joints(model).items()}
    if "shoulder_r" in points and "shoulder_l" in points:
        points["shoulder midpoint"] = (points["shoulder_r"] + points["shoulder_l"]) / 2
    return {
        name: float(np.linalg.norm(points[a] - points[b]))
        for name, (a, b) in SEGMENTS.items()
        if a in points and b in points
    }


def _to_world(points: np.ndarray) -> np.ndarray:
    """Points (..., 3) of OpenSim's ground in Pose2Sim's world: (X, Y, Z) -> (Z, X, Y)."""
    return points[..., [2, 0, 1]]


def _unwrapped(angles: np.ndarray) -> np.ndarray:
    """Angles (T,) without jumps of whole turns; NaN stay."""
    seen = np.isfinite(angles)
    result = angles.copy()
    result[seen] = np.unwrap(angles[seen])
    return result


def _quality_beside(mot: Path) -> Path | None:
    """The quality file of a motion: a filtered motion has that of the unfiltered one."""
    stem = mot.stem
    if "_biokin" in stem:
        stem = stem[: stem.rindex("_biokin") + len("_biokin")]
    path = mot.with_name(f"{stem}_quality.json")
    return path if path.is_file() else None
