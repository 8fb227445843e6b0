"""The skeleton as frozen arrays.

A skeleton comes from a *table*: plain dicts and lists with the numbers of bodies, joints, couplers and
markers, as ``data/rajagopal2016.json`` has them. A parsed ``.osim`` file gives the same table, so there is
one path from table to arrays and nothing else knows the file format.

Every joint becomes one form: a frame on the parent, three rotations about fixed axes, three translations
along fixed axes, a frame on the child; the six amounts are functions of the coordinates (`functions.Terms`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pose2sim_biokin.errors import BiokinError
from pose2sim_biokin.skeleton.functions import Terms, function_terms

DATA_DIR = Path(__file__).resolve().parent.parent / "data"
BUILT_IN = ("rajagopal2016",)

_UNIT_AXES = {"x": [1.0, 0.0, 0.0], "y": [0.0, 1.0, 0.0], "z": [0.0, 0.0, 1.0]}
# What each joint's coordinates move, in order: rotations about (r) and translations along (t) the axes of the
# joint's frame, as Simbody's mobilizers of these names do (balls by body-fixed x-y-z angles).
_PLAIN_JOINTS = {
    "WeldJoint": "",
    "PinJoint": "rz",
    "SliderJoint": "tx",
    "UniversalJoint": "rx ry",
    "BallJoint": "rx ry rz",
    "GimbalJoint": "rx ry rz",
    "PlanarJoint": "rz tx ty",
    "FreeJoint": "rx ry rz tx ty tz",
}
JOINT_TYPES = ("CustomJoint", *_PLAIN_JOINTS)


@dataclass(frozen=True, eq=False)
class Joints:
    """Joint i carries body i; nb bodies.

    An offset matrix M gives the origin of a joint frame in its body's frame as ``M @ s``, where s are the
    body's scale factors: for a frame right on the body it is diag(translation).

    Attributes:
        names: joint of each body.
        types: OpenSim's class of each joint.
        parents: (nb,) index of the parent body, -1 for ground.
        order: (nb,) indices of the bodies, parents before children.
        parent_offsets, child_offsets: (nb, 3, 3) offset matrices, m.
        parent_rotations, child_rotations: (nb, 3, 3) joint frame to body frame.
        axes: (nb, 6, 3) unit axes of three rotations, then three translations, in the joint frame.
        terms: nb x 6 functions of the coordinates: the amounts about and along the axes.
        translation_weights: (nb, 3, 3) the factor of a translation is ``weights . parent's factors``, as in
            OpenSim's SpatialTransform::scale: the axis as it is written, without signs; zeros where a
            translation is not scaled.
        coordinates: indices of each joint's own coordinates.
    """

    names: tuple[str, ...]
    types: tuple[str, ...]
    parents: np.ndarray
    order: np.ndarray
    parent_offsets: np.ndarray
    parent_rotations: np.ndarray
    child_offsets: np.ndarray
    child_rotations: np.ndarray
    axes: np.ndarray
    terms: tuple[tuple[Terms, ...], ...]
    translation_weights: np.ndarray
    coordinates: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, eq=False)
class Coupling:
    """``q[dependent] = terms(q)``, times the x factor of `scale_body` (unless -1) for a translation."""

    name: str
    dependent: int
    terms: Terms
    scale_body: int = -1


@dataclass(frozen=True, eq=False, repr=False)
class Skeleton:
    """Bodies, joints, coordinates and markers of a model; nb bodies, nc coordinates, nm markers.

    Units m, kg, kg m^2, rad. Mass centres and markers are in their body's frame, unscaled.

    Attributes:
        name: built-in name, or the model's own.
        body_names, parent_names: nb each; the parent is a body or "ground".
        coordinate_names: nc, in OpenSim's order of coordinates.
        coordinate_ranges: (nc, 2) lower and upper bound.
        coordinate_defaults: (nc,).
        locked, is_rotational: (nc,) bool.
        couplings: in an order in which each needs only the ones before it.
        joints: see `Joints`.
        masses: (nb,).
        mass_centers: (nb, 3).
        inertias: (nb, 6) xx yy zz xy xz yz about the mass centre.
        meshes: nb tuples of (file name, (3,) scale).
        marker_names: nm.
        marker_bodies: (nm,) index of the body.
        marker_locations: (nm, 3) in the body's frame.
        marker_offsets: (nm, 3, 3) offset matrices, see `Joints`.
        table: the table that all this was made of.
    """

    name: str
    body_names: tuple[str, ...]
    parent_names: tuple[str, ...]
    coordinate_names: tuple[str, ...]
    coordinate_ranges: np.ndarray
    coordinate_defaults: np.ndarray
    locked: np.ndarray
    is_rotational: np.ndarray
    couplings: tuple[Coupling, ...]
    joints: Joints
    masses: np.ndarray
    mass_centers: np.ndarray
    inertias: np.ndarray
    meshes: tuple[tuple[tuple[str, tuple[float, ...]], ...], ...]
    marker_names: tuple[str, ...]
    marker_bodies: np.ndarray
    marker_locations: np.ndarray
    marker_offsets: np.ndarray
    table: dict

    def __repr__(self) -> str:
        counts = (len(self.body_names), len(self.coordinate_names), len(self.marker_names))
        return "Skeleton({!r}: {} bodies, {} coordinates, {} markers)".format(self.name, *counts)

    @property
    def mass(self) -> float:
        """Mass of the unscaled model, kg."""
        return float(self.masses.sum())

    @property
    def dependent(self) -> np.ndarray:
        """(nc,) bool: the coordinate is given by others through a coupling."""
        flags = np.zeros(len(self.coordinate_names), dtype=bool)
        flags[[coupling.dependent for coupling in self.couplings]] = True
        return flags

    def body_index(self, name: str) -> int:
        """Index of a body; BiokinError when there is none of that name."""
        return _index(self.body_names, name, "body", self.name)

    def coordinate_index(self, name: str) -> int:
        """Index of a coordinate; BiokinError when there is none of that name."""
        return _index(self.coordinate_names, name, "coordinate", self.name)

    def marker_index(self, name: str) -> int:
        """Index of a marker; BiokinError when there is none of that name."""
        return _index(self.marker_names, name, "marker", self.name)


def load_skeleton(source: str | Path = "rajagopal2016") -> Skeleton:
    """Skeleton of a built-in name, or of any ``.osim`` file with the usual joints.

    Raises:
        BiokinError: no such name or file, or the file cannot be used (a joint or function of another kind,
            a loop of joints, a broken reference).
    """
    if str(source) in BUILT_IN:
        text = (DATA_DIR / f"{source}.json").read_text(encoding="utf-8")
        return table_to_skeleton(json.loads(text), str(source))
    path = Path(source)
    if path.suffix.lower() != ".osim":
        raise BiokinError(
            f"Skeleton {str(source)!r}: expected a built-in name ({', '.join(BUILT_IN)}) or the path of an "
            ".osim file."
        )
    from pose2sim_biokin.skeleton.osim_xml import read_osim_table

    name, table = read_osim_table(path)
    return table_to_skeleton(table, name)


def table_to_skeleton(table: dict, name: str) -> Skeleton:
    """Frozen arrays of a parameter table; see the module's docstring.

    Raises:
        BiokinError: the table contradicts itself or holds something unknown.
    """
    bodies = table["bodies"]
    body_names = _unique([body["name"] for body in bodies], "body", name)
    coordinates = [c for joint in table["joints"] for c in joint["coordinates"]]
    coordinate_names = _unique([c["name"] for c in coordinates], "coordinate", name)
    body_index = {body: i for i, body in enumerate(body_names)} | {"ground": -1}
    coordinate_index = {c: i for i, c in enumerate(coordinate_names)}

    joints, is_rotational = _joints(table["joints"], body_index, coordinate_index, name)
    markers = table.get("markers", [])
    marker_names = _unique([marker["name"] for marker in markers], "marker", name)
    marker_bodies = [_lookup(body_index, m["body"], f"{name}: marker {m['name']}") for m in markers]
    marker_offsets = np.zeros((len(markers), 3, 3))
    for i, marker in enumerate(markers):
        offset = {"translation": marker["location"], "orientation": [0.0, 0.0, 0.0]}
        marker_offsets[i], _ = _frame(marker.get("frames", []) + [offset])
    return Skeleton(
        name=name,
        body_names=body_names,
        parent_names=tuple("ground" if p < 0 else body_names[p] for p in joints.parents),
        coordinate_names=coordinate_names,
        coordinate_ranges=_frozen([c["range"] for c in coordinates], (-1, 2)),
        coordinate_defaults=_frozen([c["default"] for c in coordinates]),
        locked=_frozen([c["locked"] for c in coordinates], dtype=bool),
        is_rotational=_frozen(is_rotational, dtype=bool),
        couplings=_couplings(table.get("couplers", []), coordinate_index, is_rotational, joints, name),
        joints=joints,
        masses=_frozen([body["mass"] for body in bodies]),
        mass_centers=_frozen([body["mass_center"] for body in bodies], (-1, 3)),
        inertias=_frozen([body["inertia"] for body in bodies], (-1, 6)),
        meshes=tuple(
            tuple((mesh["file"], tuple(mesh["scale"])) for mesh in body.get("meshes", [])) for body in bodies
        ),
        marker_names=marker_names,
        marker_bodies=_frozen(marker_bodies, dtype=np.int64),
        marker_locations=_frozen(marker_offsets.sum(-1), (-1, 3)),
        marker_offsets=_frozen(marker_offsets),
        table=table,
    )


def _joints(
    rows: list[dict], body_index: dict[str, int], coordinate_index: dict[str, int], name: str
) -> tuple[Joints, np.ndarray]:
    nb = len(body_index) - 1
    by_child: list[dict | None] = [None] * nb
    for row in rows:
        where = f"{name}: joint {row['name']}"
        child = _lookup(body_index, row["child"]["body"], where)
        _lookup(body_index, row["parent"]["body"], where)
        if child < 0:
            raise BiokinError(f"{where}: ground is its child; swap parent and child.")
        if by_child[child] is not None:
            raise BiokinError(
                f"{where}: body {row['child']['body']} already hangs on joint {by_child[child]['name']}; "
                "loops of joints are not supported."
            )
        by_child[child] = row
    lone = [body for body, i in body_index.items() if i >= 0 and by_child[i] is None]
    if lone:
        raise BiokinError(f"{name}: no joint carries the bodies {', '.join(lone)}; give each a joint.")

    parents = np.array([body_index[row["parent"]["body"]] for row in by_child], dtype=np.int64)
    is_rotational = np.zeros(len(coordinate_index), dtype=bool)
    offsets = np.zeros((2, nb, 3, 3))
    rotations = np.zeros((2, nb, 3, 3))
    axes = np.zeros((nb, 6, 3))
    weights = np.zeros((nb, 3, 3))
    terms, own = [], []
    for i, row in enumerate(by_child):
        where = f"{name}: joint {row['name']}"
        for side, key in enumerate(("parent", "child")):
            frames = row[key].get("frames", [row[key]])
            offsets[side, i], rotations[side, i] = _frame(frames)
        own.append(tuple(coordinate_index[c["name"]] for c in row["coordinates"]))
        motion = _transform_axes(row, where)
        amounts = []
        for k, transform in enumerate(motion):
            indices = [_lookup(coordinate_index, c, where) for c in transform["coordinates"]]
            axis = np.asarray(transform["axis"], dtype=np.float64)
            axes[i, k] = axis / np.linalg.norm(axis)
            # A translation that is a coordinate itself is a degree of freedom, and not scaled.
            if k >= 3 and row["type"] == "CustomJoint" and transform["function"] != {"linear": [1.0, 0.0]}:
                weights[i, k - 3] = np.abs(axis)
            amounts.append(function_terms(transform["function"], indices, where))
            if k < 3:
                is_rotational[indices] = True
        terms.append(tuple(amounts))
    return (
        Joints(
            names=tuple(row["name"] for row in by_child),
            types=tuple(row["type"] for row in by_child),
            parents=_frozen(parents, dtype=np.int64),
            order=_frozen(_topological(parents, name), dtype=np.int64),
            parent_offsets=_frozen(offsets[0]),
            parent_rotations=_frozen(rotations[0]),
            child_offsets=_frozen(offsets[1]),
            child_rotations=_frozen(rotations[1]),
            axes=_frozen(axes),
            terms=tuple(terms),
            translation_weights=_frozen(weights),
            coordinates=tuple(own),
        ),
        is_rotational,
    )


def _transform_axes(row: dict, where: str) -> list[dict]:
    """Three rotations, then three translations, of any joint."""
    if row["type"] == "CustomJoint":
        if len(row["transform_axes"]) != 6:
            raise BiokinError(f"{where}: expected 6 transform axes, found {len(row['transform_axes'])}.")
        return row["transform_axes"]
    if row["type"] not in _PLAIN_JOINTS:
        raise BiokinError(f"{where}: {row['type']} is not supported; known: {', '.join(JOINT_TYPES)}.")
    motions = _PLAIN_JOINTS[row["type"]].split()
    if len(motions) != len(row["coordinates"]):
        raise BiokinError(
            f"{where}: a {row['type']} has {len(motions)} coordinates, found {len(row['coordinates'])}."
        )
    still = {"coordinates": [], "axis": _UNIT_AXES["x"], "function": {"constant": 0.0}}
    transforms: dict[str, list[dict]] = {"r": [], "t": []}
    for (kind, axis), coordinate in zip(motions, row["coordinates"], strict=True):
        transforms[kind].append(
            {
                "coordinates": [coordinate["name"]],
                "axis": _UNIT_AXES[axis],
                "function": {"linear": [1.0, 0.0]},
            }
        )
    return [t for moving in transforms.values() for t in moving + [still] * (3 - len(moving))]


def _couplings(
    rows: list[dict], index: dict[str, int], is_rotational: np.ndarray, joints: Joints, name: str
) -> tuple[Coupling, ...]:
    pending = []
    for row in rows:
        where = f"{name}: coupler {row['name']}"
        dependent = _lookup(index, row["dependent"], where)
        independent = [_lookup(index, c, where) for c in row["independent"]]
        terms = function_terms(row["function"], independent, where)
        body = -1
        if not is_rotational[dependent]:
            body = next(
                int(joints.parents[i]) for i, own in enumerate(joints.coordinates) if dependent in own
            )
        pending.append((Coupling(row["name"], dependent, terms, body), set(independent)))
    dependents = [coupling.dependent for coupling, _ in pending]
    if len(set(dependents)) < len(dependents):
        raise BiokinError(f"{name}: a coordinate depends on others through two couplers; keep one of them.")
    ordered: list[Coupling] = []
    while pending:
        waiting = {coupling.dependent for coupling, _ in pending}
        ready = [item for item in pending if not item[1] & waiting]
        if not ready:
            names = ", ".join(coupling.name for coupling, _ in pending)
            raise BiokinError(f"{name}: the couplers {names} depend on one another in a circle.")
        ordered += [coupling for coupling, _ in ready]
        pending = [item for item in pending if item[1] & waiting]
    return tuple(ordered)


def _frame(frames: Sequence[dict]) -> tuple[np.ndarray, np.ndarray]:
    """Offset matrix and rotation of a chain of frames, the first on the body.

    Each translation is scaled by the body's factors along the axes of the frame it is written in, as
    OpenSim's PhysicalOffsetFrame does.
    """
    offset, rotation = np.zeros((3, 3)), np.eye(3)
    for frame in frames:
        offset = offset + rotation * np.asarray(frame["translation"], dtype=np.float64)
        rotation = rotation @ _euler_xyz(frame["orientation"])
    return offset, rotation


def _euler_xyz(angles: Sequence[float]) -> np.ndarray:
    """(3, 3) matrix of body-fixed x-y-z angles, rad; in double precision, which joint frames deserve."""
    (cx, cy, cz), (sx, sy, sz) = map(math.cos, angles), map(math.sin, angles)
    x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return x @ y @ z


def _topological(parents: np.ndarray, name: str) -> list[int]:
    order: list[int] = []
    placed = {-1}
    while len(order) < len(parents):
        ready = [i for i in range(len(parents)) if i not in placed and int(parents[i]) in placed]
        if not ready:
            raise BiokinError(f"{name}: some bodies are not connected to ground; check the joints' parents.")
        order += ready
        placed.update(ready)
    return order


def _frozen(values, shape: tuple[int, ...] | None = None, dtype=np.float64) -> np.ndarray:
    array = np.array(values, dtype=dtype)
    if shape is not None:
        array = array.reshape(shape)
    array.setflags(write=False)
    return array


def _unique(names: list[str], what: str, where: str) -> tuple[str, ...]:
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice:
        raise BiokinError(f"{where}: {what} names must be unique, found twice: {', '.join(twice)}.")
    return tuple(names)


def _lookup(index: dict[str, int], key: str, where: str) -> int:
    if key not in index:
        raise BiokinError(f"{where}: refers to {key!r}, which the model does not have.")
    return index[key]


def _index(names: tuple[str, ...], key: str, what: str, where: str) -> int:
    if key not in names:
        raise BiokinError(f"Skeleton {where} has no {what} {key!r}; it has: {', '.join(names)}.")
    return names.index(key)
