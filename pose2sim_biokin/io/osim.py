"""Writes a skeleton as an ``.osim`` file, scaled to a subject, through the OpenSim API.

Reading is `skeleton.load_skeleton(path)`.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pose2sim_biokin.errors import BiokinError
from pose2sim_biokin.io.atomic import atomic_path
from pose2sim_biokin.skeleton.model import Skeleton

if TYPE_CHECKING:
    import opensim

# The published model's mesh names -> those of the same bones in Pose2Sim/OpenSim_Setup/Geometry. Names that
# are not here are the same in both.
POSE2SIM_MESHES = {
    "r_femur.vtp": "femur_r.vtp",
    "l_femur.vtp": "femur_l.vtp",
    "r_tibia.vtp": "tibia_r.vtp",
    "l_tibia.vtp": "tibia_l.vtp",
    "r_fibula.vtp": "fibula_r.vtp",
    "l_fibula.vtp": "fibula_l.vtp",
    "r_talus.vtp": "talus_rv.vtp",
    "l_talus.vtp": "talus_lv.vtp",
    "r_foot.vtp": "foot.vtp",
    "r_bofoot.vtp": "bofoot.vtp",
}
for _side in "rl":
    for _bone in ("pelvis", "patella"):
        POSE2SIM_MESHES[f"{_side}_{_bone}.vtp"] = f"{_side}_{_bone}.vtp"


def pose2sim_geometry_dir() -> Path | None:
    """Folder of the bone meshes that the installed Pose2Sim ships; None when there is none."""
    spec = importlib.util.find_spec("Pose2Sim")
    for folder in spec.submodule_search_locations or [] if spec else []:
        geometry = Path(folder) / "OpenSim_Setup" / "Geometry"
        if geometry.is_dir():
            return geometry
    return None


def write_osim(
    path: str | Path,
    skeleton: Skeleton,
    scales: np.ndarray | None = None,
    mass_kg: float | None = None,
    name: str | None = None,
    geometry_dir: str | Path | None = None,
    preserve_mass_distribution: bool = True,
) -> Path:
    """Write a skeleton, scaled by OpenSim's own Model::scale, and replace the file in one step.

    Args:
        path: the file; its folder is made when missing. Whatever was there stays as it was if anything fails.
        skeleton: bodies, joints, coordinates, couplers, markers and meshes to write (no muscles).
        scales: (nb, 3) positive factors along each body's axes; ones when absent.
        mass_kg: mass of the subject: all masses are multiplied so that they add up to it. The model's own
            when absent.
        name: name of the model, blanks and slashes become underscores; the skeleton's when absent.
        geometry_dir: folder of the meshes. When given, meshes are written with their full path, and show
            without a search path on this machine; otherwise with their plain names in Pose2Sim's Geometry
            folder, as in Pose2Sim's own models.
        preserve_mass_distribution: bodies keep their shares of the total mass, as Pose2Sim scales;
            otherwise shares grow with the volume of the factors.

    Returns:
        The path written.

    Raises:
        BiokinError: scales or mass cannot be used, or the file cannot be written.
    """
    path = Path(path)
    scales = _checked_scales(skeleton, scales)
    if mass_kg is not None and not (np.isfinite(mass_kg) and mass_kg > 0):
        raise BiokinError(f"{path}: mass is {mass_kg!r} kg; expected a positive number.")
    import opensim

    # Without this OpenSim leaves an opensim.log wherever the program runs.
    opensim.Logger.removeFileSink()
    folder = Path(geometry_dir) if geometry_dir is not None else pose2sim_geometry_dir()
    if folder is not None:
        opensim.ModelVisualizer.addDirToGeometrySearchPaths(str(folder))
    model = _build(skeleton, name, Path(geometry_dir).resolve() if geometry_dir else None)
    state = model.initSystem()
    if scales is not None or mass_kg is not None:
        scale_set = opensim.ScaleSet()
        for body, factors in zip(skeleton.body_names, scales, strict=True) if scales is not None else ():
            scale = opensim.Scale()
            scale.setSegmentName(body)
            scale.setScaleFactors(opensim.Vec3(*map(float, factors)))
            scale.setApply(True)
            scale_set.cloneAndAppend(scale)
        model.scale(state, scale_set, preserve_mass_distribution, float(mass_kg or -1.0))
    _print_atomically(model, path)
    return path


def _build(skeleton: Skeleton, name: str | None = None, geometry_dir: Path | None = None) -> opensim.Model:
    """The unscaled skeleton as an OpenSim model, connections made; arguments as for `write_osim`."""
    import opensim

    table = skeleton.table
    model = opensim.Model()
    # OpenSim refuses these characters in names.
    model.setName(re.sub(r"[\\/*+\s]", "_", name or skeleton.name))
    model.set_credits(f"Skeleton without muscles. {table.get('source', '')}")
    frames: dict[str, opensim.PhysicalFrame] = {"ground": model.updGround()}
    for row in table["bodies"]:
        body = opensim.Body(
            row["name"],
            row["mass"],
            opensim.Vec3(*row["mass_center"]),
            opensim.Inertia(*row["inertia"]),
        )
        model.addBody(body)
        frames[row["name"]] = body
    joints = [_joint(row, frames) for row in table["joints"]]
    for joint in joints:
        model.addJoint(joint)
    # Custom joints have coordinates from here on.
    model.finalizeFromProperties()
    for row, joint in zip(table["joints"], joints, strict=True):
        _set_coordinates(joint, row)
    for row in table.get("couplers", []):
        coupler = opensim.CoordinateCouplerConstraint()
        coupler.setName(row["name"])
        independent = opensim.ArrayStr()
        for coordinate in row["independent"]:
            independent.append(coordinate)
        coupler.setIndependentCoordinateNames(independent)
        coupler.setDependentCoordinateName(row["dependent"])
        coupler.setFunction(_function(row["function"]))
        model.addConstraint(coupler)
    for row in table.get("markers", []):
        frame = _offset_frame(frames[row["body"]], row.get("frames", []), f"{row['name']}_frame")
        model.addMarker(opensim.Marker(row["name"], frame, opensim.Vec3(*row["location"])))
    model.finalizeConnections()
    for row in table["bodies"]:
        for mesh in row.get("meshes", []):
            file = POSE2SIM_MESHES.get(mesh["file"], mesh["file"])
            geometry = opensim.Mesh(str(geometry_dir / file) if geometry_dir else file)
            geometry.set_scale_factors(opensim.Vec3(*mesh["scale"]))
            frames[row["name"]].attachGeometry(geometry)
    model.finalizeConnections()
    return model


def _joint(row: dict, frames: dict[str, opensim.PhysicalFrame]) -> opensim.Joint:
    import opensim

    ends = []
    for side in ("parent", "child"):
        end = row[side]
        chain = end.get("frames", [end])
        last = chain[-1] if chain else {"translation": [0.0] * 3, "orientation": [0.0] * 3}
        frame = _offset_frame(frames[end["body"]], chain[:-1], f"{row['name']}_{side}")
        ends += [frame, opensim.Vec3(*last["translation"]), opensim.Vec3(*last["orientation"])]
    kind = getattr(opensim, row["type"])
    if row["type"] == "CustomJoint":
        return kind(row["name"], *ends, _spatial_transform(row["transform_axes"]))
    return kind(row["name"], *ends)


def _set_coordinates(joint: opensim.Joint, row: dict) -> None:
    if row["type"] != "CustomJoint":
        for i, values in enumerate(row["coordinates"]):
            joint.upd_coordinates(i).setName(values["name"])
    places = {joint.get_coordinates(i).getName(): i for i in range(joint.numCoordinates())}
    for values in row["coordinates"]:
        coordinate = joint.upd_coordinates(places[values["name"]])
        coordinate.setDefaultValue(values["default"])
        coordinate.setRangeMin(values["range"][0])
        coordinate.setRangeMax(values["range"][1])
        coordinate.setDefaultLocked(values["locked"])
        coordinate.setDefaultClamped(values["clamped"])


def _spatial_transform(rows: list[dict]) -> opensim.SpatialTransform:
    import opensim

    transform = opensim.SpatialTransform()
    for row in rows:
        axis: opensim.TransformAxis = getattr(transform, f"upd_{row['name']}")()
        names = opensim.ArrayStr()
        for coordinate in row["coordinates"]:
            names.append(coordinate)
        axis.setCoordinateNames(names)
        axis.setAxis(opensim.Vec3(*row["axis"]))
        axis.set_function(_function(row["function"]))
    return transform


def _function(function: dict) -> opensim.Function:
    """OpenSim's function of a table's; see `skeleton.functions`."""
    import opensim

    def points(make: Callable[[], opensim.Function]) -> opensim.Function:
        result = make()
        for x, y in zip(value["x"], value["y"], strict=True):
            result.addPoint(x, y)
        return result

    kind, value = next(iter(function.items()))
    if kind == "constant":
        return opensim.Constant(value)
    if kind == "multiplier":
        inner = _function(value["function"])
        result = opensim.MultiplierFunction(inner, value["scale"])
        inner._markAdopted()  # or Python frees it a second time
        return result
    if kind == "linear":
        coefficients = opensim.ArrayDouble()
        for coefficient in value:
            coefficients.append(coefficient)
        return opensim.LinearFunction(coefficients)
    if kind == "polynomial":
        return opensim.PolynomialFunction(opensim.Vector.createFromMat(np.asarray(value, dtype=float)))
    return points(opensim.SimmSpline if kind == "natural_cubic_spline" else opensim.PiecewiseLinearFunction)


def _offset_frame(base: opensim.PhysicalFrame, chain: list[dict], name: str) -> opensim.PhysicalFrame:
    """The last of a chain of offset frames, made on a body."""
    import opensim

    frame = base
    for i, offset in enumerate(chain):
        child = opensim.PhysicalOffsetFrame()
        child.setName(f"{name}_{i}")
        child.connectSocket_parent(frame)
        child.set_translation(opensim.Vec3(*offset["translation"]))
        child.set_orientation(opensim.Vec3(*offset["orientation"]))
        base.addComponent(child)
        frame = child
    return frame


def _checked_scales(skeleton: Skeleton, scales: np.ndarray | None) -> np.ndarray | None:
    if scales is None:
        return None
    scales = np.asarray(scales, dtype=np.float64)
    shape = (len(skeleton.body_names), 3)
    if scales.shape != shape or not (np.isfinite(scales) & (scales > 0)).all():
        raise BiokinError(
            f"Scales of skeleton {skeleton.name}: expected {shape} finite positive factors, found shape "
            f"{scales.shape} from {scales.min(initial=np.inf)} to {scales.max(initial=-np.inf)}."
        )
    return scales


def _print_atomically(model: opensim.Model, path: Path) -> None:
    """Print a model beside its place and move it there once it is whole."""
    with atomic_path(path) as staged:
        # Opened here first: OpenSim does not say why it cannot write.
        staged.open("w", encoding="utf-8").close()
        model.printToXML(str(staged))
        with staged.open("rb") as file:
            file.seek(max(staged.stat().st_size - 64, 0))
            if not file.read().rstrip().endswith(b"</OpenSimDocument>"):
                raise BiokinError(f"{path}: OpenSim wrote only part of the model; is the disk full?")
