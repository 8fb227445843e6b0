"""What OpenSim itself says about a model: the truth that the skeleton's tests compare with."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import opensim

from pose2sim_biokin.skeleton import Skeleton

opensim.Logger.removeFileSink()
opensim.Logger.setLevelString("Off")

SETUP = Path(importlib.util.find_spec("Pose2Sim").submodule_search_locations[0]) / "OpenSim_Setup"
opensim.ModelVisualizer.addDirToGeometrySearchPaths(str(SETUP / "Geometry"))


def shipped_model(file: str, folder: Path) -> Path:
    """A model that Pose2Sim ships, with Pose2Sim's markers added and without its forces."""
    model = opensim.Model(str(SETUP / file))
    model.updForceSet().clearAndDestroy()
    model.updateMarkerSet(opensim.MarkerSet(str(SETUP / "Markers_LSTM.xml")))
    model.finalizeConnections()
    path = folder / file
    model.printToXML(str(path))
    return path


class Truth:
    """A model in OpenSim, scaled by Model.scale, every coordinate unlocked."""

    def __init__(self, path: Path, skeleton: Skeleton, scales: np.ndarray | None = None, unlock: bool = True):
        self.model = opensim.Model(str(path))
        self.model.set_assembly_accuracy(1e-12)
        self.skeleton = skeleton
        self.state = self.model.initSystem()
        if scales is not None:
            self.model.scale(self.state, scale_set(skeleton, scales), True, -1.0)
        names = skeleton.coordinate_names
        self.coordinates = [self.model.getCoordinateSet().get(name) for name in names]
        self.bodies = [self.model.getBodySet().get(name) for name in skeleton.body_names]
        self.joints = [self.model.getJointSet().get(name) for name in skeleton.joints.names]
        self.markers = [self.model.getMarkerSet().get(name) for name in skeleton.marker_names]
        self.child_frames = [joint.getChildFrame() for joint in self.joints]
        self.mass_centers = [body.getMassCenter() for body in self.bodies]
        if unlock:
            for coordinate in self.coordinates:
                coordinate.setLocked(self.state, False)

    def set(self, values: np.ndarray, assemble: bool = False) -> np.ndarray:
        """Set the coordinates; the values that hold afterwards."""
        for coordinate, value in zip(self.coordinates, values, strict=True):
            coordinate.setValue(self.state, float(value), False)
        # The solver stops early; from where it stopped it gets closer each time.
        for _ in range(5 if assemble else 0):
            self.model.assemble(self.state)
        self.model.realizePosition(self.state)
        return np.array([coordinate.getValue(self.state) for coordinate in self.coordinates])

    def frames(self) -> tuple[np.ndarray, np.ndarray]:
        """Rotations (nb, 3, 3) and positions (nb, 3) of the bodies."""
        x, y = opensim.Vec3(1, 0, 0), opensim.Vec3(0, 1, 0)
        columns = [
            [body.expressVectorInGround(self.state, axis).to_numpy() for axis in (x, y)]
            for body in self.bodies
        ]
        first, second = np.array(columns).transpose(1, 0, 2)
        positions = [body.getPositionInGround(self.state).to_numpy() for body in self.bodies]
        return np.stack([first, second, np.cross(first, second)], -1), np.array(positions)

    def points(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Joint centres (nb, 3), mass centres (nb, 3) and markers (nm, 3)."""
        joints = [frame.getPositionInGround(self.state).to_numpy() for frame in self.child_frames]
        masses = [
            body.findStationLocationInGround(self.state, center).to_numpy()
            for body, center in zip(self.bodies, self.mass_centers, strict=True)
        ]
        markers = [marker.getLocationInGround(self.state).to_numpy() for marker in self.markers]
        return np.array(joints), np.array(masses), np.array(markers).reshape(-1, 3)


def scale_set(skeleton: Skeleton, scales: np.ndarray) -> opensim.ScaleSet:
    """Scale factors (nb, 3) as OpenSim wants them."""
    result = opensim.ScaleSet()
    for body, factors in zip(skeleton.body_names, scales, strict=True):
        scale = opensim.Scale()
        scale.setSegmentName(body)
        scale.setScaleFactors(opensim.Vec3(*map(float, factors)))
        scale.setApply(True)
        result.cloneAndAppend(scale)
    return result


def random_poses(skeleton: Skeleton, count: int, rng: np.random.Generator) -> np.ndarray:
    """(count, nc) over the coordinates' ranges and a tenth beyond; unlimited ones within half a turn."""
    low, high = np.clip(skeleton.coordinate_ranges, -3.1, 3.1).T
    margin = 0.1 * (high - low)
    return rng.uniform(low - margin, high + margin, (count, len(low)))


def random_scales(skeleton: Skeleton, rng: np.random.Generator) -> np.ndarray:
    """(nb, 3) factors, different along each axis."""
    return rng.uniform(0.7, 1.4, (len(skeleton.body_names), 3))
