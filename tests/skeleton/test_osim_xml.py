"""The .osim parser: every joint and function that it knows, against OpenSim; and what it refuses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import opensim
import pytest
import torch
from opensim_truth import Truth, random_poses, random_scales

from pose2sim_biokin.errors import BiokinError
from pose2sim_biokin.skeleton import ForwardKinematics, load_skeleton

PLAIN = (
    opensim.PinJoint,
    opensim.SliderJoint,
    opensim.UniversalJoint,
    opensim.BallJoint,
    opensim.GimbalJoint,
    opensim.PlanarJoint,
    opensim.WeldJoint,
)


def names(*words: str) -> opensim.ArrayStr:
    result = opensim.ArrayStr()
    for word in words:
        result.append(word)
    return result


def points(function, *pairs):
    for x, y in pairs:
        function.addPoint(x, y)
    return function


def linear(*coefficients: float):
    array = opensim.ArrayDouble()
    for coefficient in coefficients:
        array.append(coefficient)
    return opensim.LinearFunction(array)


def multiplied(function, scale: float):
    result = opensim.MultiplierFunction(function, scale)
    function._markAdopted()
    return result


def spatial_transform() -> opensim.SpatialTransform:
    """Every function, axes that are neither unit nor orthogonal nor positive."""
    transform = opensim.SpatialTransform()
    wave = ((-1.2, 0.1), (-0.3, -0.2), (0.4, 0.5), (1.0, 0.2), (1.3, -0.4))
    rows = {
        "rotation1": (["a"], (0.3, -1.0, 0.2), linear(0.8, 0.1)),
        "rotation2": (["a"], (1.0, 0.5, 0.0), points(opensim.SimmSpline(), *wave)),
        "rotation3": (["b"], (0.0, 0.1, -1.0), opensim.PolynomialFunction(opensim.Vector(3, 0.4))),
        "translation1": (
            ["b"],
            (0.0, -1.0, 0.0),
            multiplied(points(opensim.PiecewiseLinearFunction(), *wave), 0.3),
        ),
        "translation2": (["a", "b"], (0.0, 0.6, 0.8), linear(0.1, -0.2, 0.05)),
        "translation3": ([], (-2.0, 0.0, 0.5), opensim.Constant(0.1)),
    }
    for name, (coordinates, axis, function) in rows.items():
        transform_axis = getattr(transform, f"upd_{name}")()
        transform_axis.setCoordinateNames(names(*coordinates))
        transform_axis.setAxis(opensim.Vec3(*axis))
        transform_axis.set_function(function)
    return transform


@pytest.fixture(scope="module")
def every_joint(tmp_path_factory) -> Path:
    """A chain of every joint from nested offset frames, a second tree, a chain of couplers, odd markers."""
    rng = np.random.default_rng(1)

    def vector(size: float) -> opensim.Vec3:
        return opensim.Vec3(*rng.uniform(-size, size, 3))

    def offset(parent, name: str):
        frame = opensim.PhysicalOffsetFrame()
        frame.setName(name)
        frame.connectSocket_parent(parent)
        frame.set_translation(vector(0.3))
        frame.set_orientation(vector(1.5))
        return frame

    model = opensim.Model()
    model.setName("every_joint")
    parent = model.getGround()
    kinds = (opensim.FreeJoint, *PLAIN, opensim.CustomJoint)
    for i, kind in enumerate(kinds):
        body = opensim.Body(f"body{i}", 1.0 + i, vector(0.2), opensim.Inertia(1.0, 1.0, 1.0))
        model.addBody(body)
        outer = offset(parent, "nested")
        if i:
            parent.addComponent(outer)
        else:
            model.addComponent(outer)
        arguments = [f"joint{i}", outer, vector(0.3), vector(1.5), body, vector(0.3), vector(1.5)]
        if kind is opensim.CustomJoint:
            arguments.append(spatial_transform())
        model.addJoint(kind(*arguments))
        parent = body
    inner = offset(parent, "inner")
    parent.addComponent(inner)
    tip = offset(inner, "tip")
    inner.addComponent(tip)
    model.addMarker(opensim.Marker("on_tip", tip, vector(0.2)))
    model.addMarker(opensim.Marker("on_body", parent, vector(0.2)))
    second = opensim.Body("second", 1.0, opensim.Vec3(0), opensim.Inertia(1.0))
    model.addBody(second)
    model.addJoint(opensim.PinJoint("direct", model.getGround(), second))
    model.finalizeFromProperties()
    joints = model.getJointSet()
    pin = joints.get("joint1").get_coordinates(0).getName()
    direct = joints.get("direct").get_coordinates(0).getName()
    square = opensim.PolynomialFunction(opensim.Vector(3, 0.2))
    for name, dependent, independent, function in (
        ("later", direct, pin, linear(0.5, 0.1)),
        ("first", pin, "a", square),
    ):
        coupler = opensim.CoordinateCouplerConstraint()
        coupler.setName(name)
        coupler.setIndependentCoordinateNames(names(independent))
        coupler.setDependentCoordinateName(dependent)
        coupler.setFunction(function)
        model.addConstraint(coupler)
    joints.get("joint2").upd_coordinates(0).setDefaultLocked(True)
    joints.get("joint2").upd_coordinates(0).setDefaultValue(0.2)
    model.finalizeConnections()
    path = tmp_path_factory.mktemp("every") / "every.osim"
    model.printToXML(str(path))
    return path


@pytest.mark.parametrize("scaled", [False, True])
def test_every_joint_and_function(every_joint, scaled):
    skeleton = load_skeleton(every_joint)
    assert len(skeleton.body_names) == 10 and len(skeleton.couplings) == 2
    assert skeleton.locked.sum() == 1
    rng = np.random.default_rng(3)
    scales = random_scales(skeleton, rng) if scaled else None
    truth = Truth(every_joint, skeleton, scales)
    kinematics = ForwardKinematics(skeleton, torch.float64)
    s = torch.tensor(scales) if scaled else None
    for pose in random_poses(skeleton, 50, rng):
        pose[skeleton.locked] = skeleton.coordinate_defaults[skeleton.locked]
        pose = kinematics.constrain(torch.tensor(pose)).numpy()
        truth.set(pose)
        frames = kinematics(torch.tensor(pose), s)
        rotation, position = truth.frames()
        joints, masses, markers = truth.points()
        assert frames.rotation.numpy() == pytest.approx(rotation, abs=1e-9)
        assert frames.position.numpy() == pytest.approx(position, abs=1e-9)
        assert kinematics.joint_centers(frames, s).numpy() == pytest.approx(joints, abs=1e-9)
        assert kinematics.mass_centers(frames, s).numpy() == pytest.approx(masses, abs=1e-9)
        assert kinematics.markers(frames, s).numpy() == pytest.approx(markers, abs=1e-9)


def test_chained_couplers(every_joint):
    skeleton = load_skeleton(every_joint)
    assert [c.name for c in skeleton.couplings] == ["first", "later"]
    kinematics = ForwardKinematics(skeleton, torch.float64)
    pose = torch.zeros(len(skeleton.coordinate_names), dtype=torch.float64)
    pose[skeleton.coordinate_index("a")] = 0.7
    found = kinematics.constrain(pose)
    first, later = (found[coupling.dependent].item() for coupling in skeleton.couplings)
    assert first == pytest.approx(0.2 * (0.7**2 + 0.7 + 1.0))
    assert later == pytest.approx(0.5 * first + 0.1)
    assert found.numpy()[skeleton.locked] == pytest.approx(0.2)


OLD_MODEL = """<?xml version="1.0" encoding="UTF-8" ?>
<OpenSimDocument Version="30000">
 <Model name="old"><BodySet><objects>
  <Body name="ground"><mass>0</mass><mass_center>0 0 0</mass_center></Body>
  <Body name="rod"><mass>2</mass><mass_center>0 -0.5 0</mass_center>
   <inertia_xx>1</inertia_xx><inertia_yy>1</inertia_yy><inertia_zz>1</inertia_zz>
   <Joint><PinJoint name="hinge"><parent_body>ground</parent_body>
    <location_in_parent>0 1 0</location_in_parent><orientation_in_parent>0 0 0</orientation_in_parent>
    <location>0 0.2 0</location><orientation>0 0 0</orientation>
    <CoordinateSet><objects><Coordinate name="swing"><default_value>0.3</default_value>
     <range>-1 1</range></Coordinate></objects></CoordinateSet>
   </PinJoint></Joint></Body>
 </objects></BodySet></Model></OpenSimDocument>
"""


def test_models_from_before_opensim_4(tmp_path):
    path = tmp_path / "old.osim"
    path.write_text(OLD_MODEL, encoding="utf-8")
    skeleton = load_skeleton(path)
    assert skeleton.name == "old" and skeleton.coordinate_names == ("swing",)
    frames = ForwardKinematics(skeleton, torch.float64)(torch.tensor([np.pi / 2]))
    assert frames.position[0].tolist() == pytest.approx([0.2, 1.0, 0.0])


def edited(path: Path, folder: Path, old: str, new: str, count: int = -1) -> Path:
    text = path.read_text(encoding="utf-8")
    assert old in text
    result = folder / "edited.osim"
    result.write_text(text.replace(old, new, count), encoding="utf-8")
    return result


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("BallJoint", "EllipsoidJoint", ["joint4", "EllipsoidJoint", "BallJoint"]),
        ("SimmSpline", "GCVSpline", ["joint8", "rotation2", "GCVSpline", "SimmSpline"]),
        ("CoordinateCouplerConstraint", "PointConstraint", ["PointConstraint", "isEnforced"]),
        ('name="nested"', 'name="lost"', ["joint", "nested"]),
        ("<dependent_coordinate_name>", "<dependent_coordinate_name>no_", ["later", "no_direct"]),
        ('Version="', 'Version="x', ["Version", "40000"]),
        ("<mass>", "<mass>heavy ", ["body0", "mass", "heavy"]),
        ("OpenSimDocument", "Document", ["OpenSimDocument", "Document"]),
        ("</Model>", "", ["XML"]),
    ],
)
def test_refuses_with_reason(every_joint, tmp_path, old, new, words):
    path = edited(every_joint, tmp_path, old, new)
    with pytest.raises(BiokinError) as error:
        load_skeleton(path)
    for word in [*words, "edited.osim"][: len(words)]:
        assert word in str(error.value)


def test_missing_file_and_unknown_name(tmp_path):
    with pytest.raises(BiokinError, match="no such file"):
        load_skeleton(tmp_path / "absent.osim")
    with pytest.raises(BiokinError, match="rajagopal2016"):
        load_skeleton("gait2392")


def test_coupler_that_is_not_enforced_is_skipped(every_joint, tmp_path):
    path = edited(
        every_joint,
        tmp_path,
        "<dependent_coordinate",
        "<isEnforced>false</isEnforced>\n<dependent_coordinate",
    )
    assert load_skeleton(path).couplings == ()
