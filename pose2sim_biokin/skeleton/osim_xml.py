"""Any ``.osim`` file of the usual joints as a parameter table; the only module that knows the XML.

Formats from OpenSim 4.0 on are read directly. Older files have another structure; they are converted by
OpenSim itself, if it is installed.
"""

from __future__ import annotations

import tempfile
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import NoReturn
from xml.etree.ElementTree import Element

from pose2sim_biokin.errors import BiokinError
from pose2sim_biokin.skeleton.model import JOINT_TYPES

_FIRST_VERSION = 40000
_AXES = ("rotation1", "rotation2", "rotation3", "translation1", "translation2", "translation3")
_DEFAULT_AXES = dict(zip(_AXES, ([1, 0, 0], [0, 1, 0], [0, 0, 1]) * 2, strict=True))
_POINT_FUNCTIONS = {
    "SimmSpline": "natural_cubic_spline",
    "NaturalCubicSpline": "natural_cubic_spline",
    "natCubicSpline": "natural_cubic_spline",
    "PiecewiseLinearFunction": "piecewise_linear",
}
_FUNCTIONS = ("Constant", "LinearFunction", "MultiplierFunction", "PolynomialFunction", *_POINT_FUNCTIONS)


def read_osim_table(path: str | Path) -> tuple[str, dict]:
    """Name of the model and its parameter table (see `model.table_to_skeleton`).

    Bodies, joints, coordinates, couplers and markers, with the meshes that sit right on bodies; muscles and
    everything else is left out. Couplers that are not enforced are skipped.

    Raises:
        BiokinError: there is no such file, it is not an OpenSim model, or it has a joint, function or
            enforced constraint of a kind that is not supported.
    """
    path = Path(path)
    document = _parse(path)
    if document.tag == "OpenSimDocument" and _version(document, path) < _FIRST_VERSION:
        document = _convert(path)
    model = document.find("Model") if document.tag == "OpenSimDocument" else None
    if model is None:
        raise BiokinError(f"{path}: not an OpenSim model; expected <OpenSimDocument> with a <Model> in it.")
    return model.get("name") or path.stem, _Reader(path, model).table()


def _parse(path: Path) -> Element:
    try:
        return ElementTree.parse(path).getroot()
    except FileNotFoundError:
        raise BiokinError(f"{path}: there is no such file; give the path of an .osim model.") from None
    except ElementTree.ParseError as error:
        raise BiokinError(f"{path}: not readable as XML ({error}); export the model again.") from None
    except OSError as error:
        raise BiokinError(f"{path}: cannot be read ({error}).") from None


def _version(document: Element, path: Path) -> int:
    text = document.get("Version", "")
    if not text.isdigit():
        raise BiokinError(f"{path}: Version is {text!r}; expected a number such as 40000.")
    return int(text)


def _convert(path: Path) -> Element:
    """The document of an older file, as OpenSim writes it today."""
    try:
        import opensim
    except ImportError:
        raise BiokinError(
            f"{path}: a file from before OpenSim 4 needs the opensim package to be read; install it, or open "
            "the model in OpenSim 4 and save it again."
        ) from None
    with tempfile.TemporaryDirectory() as folder:
        converted = Path(folder) / "model.osim"
        try:
            model = opensim.Model(str(path))
            model.initSystem()
            model.printToXML(str(converted))
        except RuntimeError as error:
            raise BiokinError(f"{path}: OpenSim cannot read it: {error}") from None
        return _parse(converted)


class _Reader:
    """One model element on its way to a table."""

    def __init__(self, path: Path, model: Element):
        self.path = path
        self.model = model
        self.bodies = self._objects("BodySet", "Body")
        self.body_names = {body.get("name") for body in self.bodies}
        # Offset frames by the path of their component, and the path of what owns them.
        self.frames: dict[str, Element] = {}
        for body in self.bodies:
            self._collect(body.find("components"), f"/bodyset/{body.get('name')}")
        self.joints = [joint for joint in model.findall("JointSet/objects/*")]
        for joint in self.joints:
            self._collect(joint.find("frames"), f"/jointset/{joint.get('name')}")
        self._collect(model.find("components"), "")
        self._collect(model.find("ComponentSet/objects"), "/componentset")
        self._collect(model.find("Ground/components"), "/ground")

    def table(self) -> dict:
        for constraint in self.model.findall("ConstraintSet/objects/*"):
            if constraint.tag != "CoordinateCouplerConstraint" and self._flag(constraint, "isEnforced", True):
                self._fail(
                    f"constraint {constraint.get('name')}",
                    f"{constraint.tag} is not supported; only CoordinateCouplerConstraint is. Remove it or "
                    "set isEnforced to false",
                )
        return {
            "source": str(self.path.name),
            "units": "m, kg, kg m^2, rad",
            "bodies": [self._body(body) for body in self.bodies],
            "joints": [self._joint(joint) for joint in self.joints],
            "couplers": [
                self._coupler(coupler)
                for coupler in self._objects("ConstraintSet", "CoordinateCouplerConstraint")
                if self._flag(coupler, "isEnforced", True)
            ],
            "markers": [self._marker(marker) for marker in self._objects("MarkerSet", "Marker")],
        }

    def _body(self, body: Element) -> dict:
        name = body.get("name")
        return {
            "name": name,
            "mass": self._numbers(body, "mass", [0.0], 1)[0],
            "mass_center": self._numbers(body, "mass_center", [0.0] * 3, 3),
            "inertia": self._numbers(body, "inertia", [0.0] * 6, 6),
            "meshes": [
                {
                    "file": self._text(mesh, "mesh_file"),
                    "scale": self._numbers(mesh, "scale_factors", [1.0] * 3, 3),
                }
                for mesh in body.findall("attached_geometry/Mesh")
            ],
        }

    def _joint(self, joint: Element) -> dict:
        where = f"joint {joint.get('name')}"
        if joint.tag not in JOINT_TYPES:
            self._fail(where, f"{joint.tag} is not supported; known: {', '.join(JOINT_TYPES)}")
        row = {"name": joint.get("name"), "type": joint.tag}
        for side in ("parent", "child"):
            body, chain = self._resolve(
                self._text(joint, f"socket_{side}_frame"), f"/jointset/{joint.get('name')}", where
            )
            row[side] = {"body": body, "frames": chain}
        row["coordinates"] = [
            {
                "name": coordinate.get("name"),
                "default": self._numbers(coordinate, "default_value", [0.0], 1)[0],
                "range": self._numbers(coordinate, "range", [-10.0, 10.0], 2),
                "locked": self._flag(coordinate, "locked", False),
                "clamped": self._flag(coordinate, "clamped", False),
            }
            for coordinate in joint.findall("coordinates/Coordinate")
        ]
        if joint.tag == "CustomJoint":
            axes = {axis.get("name"): axis for axis in joint.findall("SpatialTransform/TransformAxis")}
            row["transform_axes"] = [self._transform_axis(name, axes.get(name), where) for name in _AXES]
        return row

    def _transform_axis(self, name: str, axis: Element | None, where: str) -> dict:
        if axis is None:
            axis = Element("TransformAxis")
        coordinates = self._text(axis, "coordinates").split()
        function = self._function(axis, f"{where}, {name}")
        if function is None:
            function = {"linear": [1.0, 0.0]} if coordinates else {"constant": 0.0}
        return {
            "name": name,
            "coordinates": coordinates,
            "axis": self._numbers(axis, "axis", _DEFAULT_AXES[name], 3),
            "function": function,
        }

    def _coupler(self, coupler: Element) -> dict:
        where = f"coupler {coupler.get('name')}"
        holder = coupler.find("coupled_coordinates_function")
        function = None if holder is None else self._function(holder, where)
        if function is None:
            self._fail(where, "has no coupled_coordinates_function")
        scale = self._numbers(coupler, "scale_factor", [1.0], 1)[0]
        if scale != 1.0:
            function = {"multiplier": {"scale": scale, "function": function}}
        return {
            "name": coupler.get("name"),
            "dependent": self._text(coupler, "dependent_coordinate_name"),
            "independent": self._text(coupler, "independent_coordinate_names").split(),
            "function": function,
        }

    def _marker(self, marker: Element) -> dict:
        where = f"marker {marker.get('name')}"
        body, chain = self._resolve(self._text(marker, "socket_parent_frame"), "/markerset", where)
        row = {
            "name": marker.get("name"),
            "body": body,
            "location": self._numbers(marker, "location", [0.0] * 3, 3),
        }
        return row | {"frames": chain} if chain else row

    def _function(self, holder: Element, where: str) -> dict | None:
        """The function below an element, directly or within <function>; None when there is none."""
        element = next((child for child in holder if child.tag in _FUNCTIONS), None)
        if element is None:
            inner = holder.find("function")
            if inner is not None:
                return self._function(inner, where)
            known = ("coordinates", "axis", "scale")
            other = next((child.tag for child in holder if child.tag not in known), None)
            if other is not None:
                self._fail(where, f"function {other} is not supported; known: {', '.join(_FUNCTIONS)}")
            return None
        if element.tag == "Constant":
            return {"constant": self._numbers(element, "value", [0.0], 1)[0]}
        if element.tag == "LinearFunction":
            return {"linear": self._numbers(element, "coefficients", [1.0, 0.0])}
        if element.tag == "PolynomialFunction":
            return {"polynomial": self._numbers(element, "coefficients", [1.0])}
        if element.tag == "MultiplierFunction":
            inner = self._function(element, where)
            if inner is None:
                self._fail(where, "a MultiplierFunction has no function in it")
            return {"multiplier": {"scale": self._numbers(element, "scale", [1.0], 1)[0], "function": inner}}
        x, y = (self._numbers(element, key, []) for key in "xy")
        return {_POINT_FUNCTIONS[element.tag]: {"x": x, "y": y}}

    def _resolve(self, socket: str, owner: str, where: str) -> tuple[str, list[dict]]:
        """Body (or "ground") that a frame sits on, and the chain of offset frames from the body to it."""
        chain: list[dict] = []
        visited: set[str] = set()
        while True:
            target = self._absolute(socket, owner)
            base = target.rsplit("/", 1)[-1]
            if target not in self.frames:
                if base in self.body_names or base == "ground":
                    return base, chain[::-1]
                # Sockets of copied components may be shorter than the full path: the name decides.
                named = [key for key in self.frames if key.rsplit("/", 1)[-1] == base]
                if len(named) != 1:
                    what = "more than one frame has that name" if named else "the model has no such frame"
                    self._fail(where, f"refers to the frame {socket!r}, but {what}")
                target = named[0]
            if target in visited:
                self._fail(where, f"its frame {socket!r} hangs on itself")
            visited.add(target)
            frame = self.frames[target]
            chain.append(
                {
                    "translation": self._numbers(frame, "translation", [0.0] * 3, 3),
                    "orientation": self._numbers(frame, "orientation", [0.0] * 3, 3),
                }
            )
            socket, owner = self._text(frame, "socket_parent"), target

    @staticmethod
    def _absolute(socket: str, owner: str) -> str:
        """Absolute path of a socket's target, written relative to the component that has the socket."""
        if socket.startswith("/"):
            return socket
        parts = owner.split("/")
        for part in socket.split("/"):
            if part == "..":
                parts = parts[:-1]
            elif part not in ("", "."):
                parts.append(part)
        return "/".join(parts)

    def _collect(self, holder: Element | None, owner: str) -> None:
        for frame in holder if holder is not None else ():
            if frame.tag == "PhysicalOffsetFrame":
                path = f"{owner}/{frame.get('name')}"
                self.frames[path] = frame
                self._collect(frame.find("components"), path)

    def _objects(self, group: str, tag: str) -> list[Element]:
        return self.model.findall(f"{group}/objects/{tag}")

    def _text(self, element: Element, key: str) -> str:
        return (element.findtext(key) or "").strip()

    def _flag(self, element: Element, key: str, default: bool) -> bool:
        text = self._text(element, key).lower()
        return text == "true" if text else default

    def _numbers(
        self, element: Element, key: str, default: list[float], count: int | None = None
    ) -> list[float]:
        text = self._text(element, key).strip("()~")
        if not text:
            return [float(value) for value in default]
        try:
            values = [float(word) for word in text.replace(",", " ").split()]
        except ValueError:
            values = None
        if values is None or (count is not None and len(values) != count):
            wanted = "numbers" if count is None else f"{count} number(s)"
            self._fail(f"{element.tag} {element.get('name')}", f"{key} is {text!r}; expected {wanted}")
        return values

    def _fail(self, where: str, message: str) -> NoReturn:
        raise BiokinError(f"{self.path}: {where}: {message}.")
