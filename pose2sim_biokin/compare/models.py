"""Any ``.osim`` model that can be posed: with our own forward kinematics where it loads, else by OpenSim."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pose2sim_biokin.errors import BiokinError
from pose2sim_biokin.io.mot import MotionTable, read_mot
from pose2sim_biokin.io.osim import pose2sim_geometry_dir
from pose2sim_biokin.skeleton.model import Skeleton, load_skeleton


class Frames(NamedTuple):
    """Bodies of T poses in OpenSim's ground, m; nb bodies.

    Attributes:
        rotation: (T, nb, 3, 3) body axes as columns.
        position: (T, nb, 3) body origins.
        joint_centers: (T, nb, 3) origin of the child frame of the joint that carries each body.
    """

    rotation: np.ndarray
    position: np.ndarray
    joint_centers: np.ndarray


@dataclass(frozen=True, eq=False)
class Model:
    """A model as the comparison needs it; nb bodies, nc coordinates.

    Attributes:
        name: the model's own.
        coordinate_names: nc. defaults: (nc,) rad and m. rotational, locked, dependent: (nc,) bool.
        body_names: nb. parent_names: nb, a body or "ground".
        moving: (nb,) bool, the joint that carries the body has coordinates.
        skeleton: frozen arrays, where our own kinematics can pose the model; else None.
        pose: coordinates (T, nc) to `Frames`; couplers hold where there is a skeleton.
        read_motion: path of a motion file to a table in rad and m.
    """

    name: str
    coordinate_names: tuple[str, ...]
    defaults: np.ndarray
    rotational: np.ndarray
    locked: np.ndarray
    dependent: np.ndarray
    body_names: tuple[str, ...]
    parent_names: tuple[str, ...]
    moving: np.ndarray
    skeleton: Skeleton | None
    pose: Callable[[np.ndarray], Frames] = field(repr=False)
    read_motion: Callable[[Path], MotionTable] = field(repr=False)


def load_model(path: str | Path) -> Model:
    """A model from its ``.osim`` file.

    Raises:
        BiokinError: there is no such file, or neither our own reader nor OpenSim can read it.
    """
    path = Path(path)
    if not path.is_file():
        raise BiokinError(f"{path}: there is no such file; expected an .osim model.")
    try:
        return skeleton_model(load_skeleton(path))
    except BiokinError as error:
        try:
            model = _opensim_model(path)
        except (ImportError, RuntimeError) as other:
            reason = str(other).strip().splitlines()
            raise BiokinError(
                f"{error} OpenSim cannot read it either: {reason[0] if reason else other!r}"
            ) from error
        logging.info(f"{path.name} is posed by OpenSim itself, which is slower: {error}")
        return model


def skeleton_model(skeleton: Skeleton) -> Model:
    """A skeleton as a model, posed by our own forward kinematics in double precision."""
    import torch

    from pose2sim_biokin.skeleton.kinematics import ForwardKinematics

    kinematics = ForwardKinematics(skeleton, dtype=torch.float64)

    def pose(coordinates: np.ndarray) -> Frames:
        with torch.no_grad():
            frames = kinematics(torch.as_tensor(np.ascontiguousarray(coordinates), dtype=torch.float64))
            centers = kinematics.joint_centers(frames)
        return Frames(frames.rotation.numpy(), frames.position.numpy(), centers.numpy())

    return Model(
        name=skeleton.name,
        coordinate_names=skeleton.coordinate_names,
        defaults=skeleton.coordinate_defaults,
        rotational=skeleton.is_rotational,
        locked=skeleton.locked,
        dependent=skeleton.dependent,
        body_names=skeleton.body_names,
        parent_names=skeleton.parent_names,
        moving=np.array([len(own) > 0 for own in skeleton.joints.coordinates]),
        skeleton=skeleton,
        pose=pose,
        read_motion=lambda path: read_mot(path, skeleton),
    )


def _opensim_model(path: Path) -> Model:
    """A model with joints or constraints that our own kinematics does not know."""
    import opensim

    opensim.Logger.removeFileSink()
    geometry = pose2sim_geometry_dir()
    if geometry is not None:
        opensim.ModelVisualizer.addDirToGeometrySearchPaths(str(geometry))
    model = opensim.Model(str(path))
    model.updForceSet().clearAndDestroy()
    model.finalizeConnections()
    state = model.initSystem()
    rows = [model.getCoordinateSet().get(i) for i in range(model.getCoordinateSet().getSize())]
    names = tuple(row.getName() for row in rows)
    defaults = np.array([row.getDefaultValue() for row in rows])
    locked = np.array([row.getDefaultLocked() for row in rows])
    dependent = np.array([row.isDependent(state) for row in rows])
    for row in rows:
        row.setLocked(state, False)
    joints = [model.getJointSet().get(i) for i in range(model.getJointSet().getSize())]
    carriers = {joint.getChildFrame().findBaseFrame().getName(): joint for joint in joints}
    bodies = [model.getBodySet().get(i) for i in range(model.getBodySet().getSize())]
    body_names = tuple(body.getName() for body in bodies)
    carrying = [carriers[name] for name in body_names]
    child_frames = [joint.getChildFrame() for joint in carrying]
    axes = [opensim.Vec3(1, 0, 0), opensim.Vec3(0, 1, 0)]

    def pose(coordinates: np.ndarray) -> Frames:
        count, nb = len(coordinates), len(bodies)
        rotation, position, centers = np.empty((count, nb, 3, 3)), *np.empty((2, count, nb, 3))
        for t, values in enumerate(coordinates):
            # Not assembled: a motion that OpenSim wrote meets the constraints, and assembling moves others.
            for row, value in zip(rows, values, strict=True):
                row.setValue(state, float(value), False)
            model.realizePosition(state)
            for b, (body, child) in enumerate(zip(bodies, child_frames, strict=True)):
                x, y = (body.expressVectorInGround(state, axis).to_numpy() for axis in axes)
                rotation[t, b] = np.stack([x, y, np.cross(x, y)], -1)
                position[t, b] = body.getPositionInGround(state).to_numpy()
                centers[t, b] = child.getPositionInGround(state).to_numpy()
        return Frames(rotation, position, centers)

    def read_motion(motion: Path) -> MotionTable:
        try:
            table = opensim.TimeSeriesTable(str(motion))
            degrees = table.hasTableMetaDataKey("inDegrees") and (
                table.getTableMetaDataAsString("inDegrees").strip().lower() == "yes"
            )
        except RuntimeError as error:
            raise BiokinError(f"{motion}: cannot be read as a motion file ({error}).") from error
        if degrees:
            model.getSimbodyEngine().convertDegreesToRadians(table)
        return MotionTable(
            np.array(table.getIndependentColumn()),
            tuple(table.getColumnLabels()),
            table.getMatrix().to_numpy(),
        )

    return Model(
        name=model.getName() or path.stem,
        coordinate_names=names,
        defaults=defaults,
        rotational=np.array([row.getMotionType() == opensim.Coordinate.Rotational for row in rows]),
        locked=locked,
        dependent=dependent,
        body_names=body_names,
        parent_names=tuple(j.getParentFrame().findBaseFrame().getName() for j in carrying),
        moving=np.array([joint.numCoordinates() > 0 for joint in carrying]),
        skeleton=None,
        pose=pose,
        read_motion=read_motion,
    )
