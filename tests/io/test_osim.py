"""Models as OpenSim reads them back: contents, scaling, masses; and what happens when writing fails."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import opensim
import pytest
import torch
from opensim_truth import SETUP, Truth, random_poses, random_scales, shipped_model

from pose2sim_biokin.errors import BiokinError
from pose2sim_biokin.io.osim import POSE2SIM_MESHES, pose2sim_geometry_dir, write_osim
from pose2sim_biokin.skeleton import ForwardKinematics, load_skeleton
from pose2sim_biokin.skeleton.model import table_to_skeleton

SKELETON = load_skeleton()
SCALES = random_scales(SKELETON, np.random.default_rng(8))


@pytest.fixture(scope="module")
def unscaled(tmp_path_factory) -> Path:
    return write_osim(tmp_path_factory.mktemp("unscaled") / "model.osim", SKELETON)


@pytest.fixture(scope="module")
def scaled(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("scaled") / "new folder" / "model.osim"
    return write_osim(path, SKELETON, SCALES, mass_kg=62.5, name="Ann / left * 1")


def table_numbers(table: dict) -> dict:
    """What of a table the kinematics depend on, chains of frames and names of meshes aside."""
    joints = {}
    for joint in table["joints"]:
        ends = [joint[side].get("frames", [joint[side]])[-1] for side in ("parent", "child")]
        joints[joint["name"]] = (
            joint["type"],
            joint["parent"]["body"],
            joint["child"]["body"],
            [(end["translation"], end["orientation"]) for end in ends],
            joint["coordinates"],
            joint.get("transform_axes"),
        )
    bodies = {
        b["name"]: (b["mass"], b["mass_center"], b["inertia"], len(b["meshes"])) for b in table["bodies"]
    }
    return {"joints": joints, "bodies": bodies, "markers": table["markers"], "couplers": table["couplers"]}


def rounded(table: dict) -> dict:
    """OpenSim prints 17 digits, of which the last may differ."""
    return json.loads(json.dumps(table), parse_float=lambda text: round(float(text), 12))


def test_table_comes_back_from_the_file(unscaled):
    back = load_skeleton(unscaled)
    assert back.coordinate_names == SKELETON.coordinate_names
    assert table_numbers(rounded(back.table)) == table_numbers(rounded(SKELETON.table))


def test_contents_as_opensim_sees_them(unscaled):
    model = opensim.Model(str(unscaled))
    state = model.initSystem()
    assert model.getNumBodies() == 22 and model.getNumCoordinates() == 39
    assert model.getMarkerSet().getSize() == 66 and model.getMuscles().getSize() == 0
    assert model.getConstraintSet().getSize() == 2
    assert model.getTotalMass(state) == pytest.approx(75.337)
    assert model.getCoordinateSet().get("subtalar_angle_r").getLocked(state)
    assert "Rajagopal" in model.get_credits() and "MIT" in model.get_credits()


def meshes(path: Path) -> dict[str, list[tuple[float, ...]]]:
    """File name -> scale factors of the meshes in a model."""
    return {file: scale for body in load_skeleton(path).meshes for file, scale in body}


def test_every_bone_has_a_mesh_in_pose2sim(unscaled):
    geometry = pose2sim_geometry_dir()
    assert geometry == SETUP / "Geometry"
    files = meshes(unscaled)
    assert len(files) == 81
    assert [file for file in files if not (geometry / file).is_file()] == []
    assert set(POSE2SIM_MESHES) <= {file for body in SKELETON.meshes for file, _ in body}


def test_meshes_grow_with_their_bones(scaled):
    files = meshes(scaled)
    assert files["femur_r.vtp"] == pytest.approx(SCALES[SKELETON.body_index("femur_r")])
    assert files["capitate_lvs.vtp"] == pytest.approx(0.85 * SCALES[SKELETON.body_index("hand_l")])


def test_meshes_with_their_full_path(tmp_path):
    path = write_osim(tmp_path / "model.osim", SKELETON, geometry_dir=SETUP / "Geometry")
    files = [Path(file) for file in meshes(path)]
    assert len(files) == 81 and all(file.is_absolute() and file.is_file() for file in files)


def scale_tool(path: Path, folder: Path, scales: np.ndarray, mass: float) -> opensim.Model:
    """OpenSim's ScaleTool on a model, as Pose2Sim sets it up: manual factors, mass distribution kept."""
    entries = "".join(
        f"<Scale><scales>{' '.join(map(repr, map(float, factors)))}</scales><segment>{body}</segment>"
        "<apply>true</apply></Scale>"
        for body, factors in zip(SKELETON.body_names, scales, strict=True)
    )
    setup = folder / "setup.xml"
    setup.write_text(
        f"""<?xml version="1.0" encoding="UTF-8" ?>
        <OpenSimDocument Version="40000"><ScaleTool name="subject"><mass>{mass}</mass>
        <GenericModelMaker><model_file>{path}</model_file></GenericModelMaker>
        <ModelScaler><apply>true</apply><scaling_order>manualScale</scaling_order>
        <ScaleSet><objects>{entries}</objects></ScaleSet>
        <preserve_mass_distribution>true</preserve_mass_distribution>
        <output_model_file>{folder / "tool.osim"}</output_model_file></ModelScaler>
        <MarkerPlacer><apply>false</apply></MarkerPlacer></ScaleTool></OpenSimDocument>""",
        encoding="utf-8",
    )
    opensim.ScaleTool(str(setup)).run()  # false because no markers are placed
    return opensim.Model(str(folder / "tool.osim"))


def test_scaled_as_the_scale_tool_does(unscaled, scaled, tmp_path):
    tool = scale_tool(unscaled, tmp_path, SCALES, 62.5)
    ours = opensim.Model(str(scaled))
    for model in (tool, ours):
        model.initSystem()
    for body in SKELETON.body_names:
        a, b = (model.getBodySet().get(body) for model in (tool, ours))
        assert b.getMass() == pytest.approx(a.getMass(), rel=1e-9)
        assert b.get_mass_center().to_numpy() == pytest.approx(a.get_mass_center().to_numpy(), abs=1e-9)
        inertias = [[body.get_inertia().get(i) for i in range(6)] for body in (a, b)]
        assert inertias[1] == pytest.approx(inertias[0], rel=1e-6, abs=1e-12)
    pair = [Truth(tmp_path / "tool.osim", SKELETON), Truth(scaled, SKELETON)]
    for pose in random_poses(SKELETON, 20, np.random.default_rng(9)):
        for truth in pair:
            truth.set(pose)
        for a, b in zip(
            pair[0].frames() + pair[0].points(), pair[1].frames() + pair[1].points(), strict=True
        ):
            assert b == pytest.approx(a, abs=1e-9)


def test_scaled_file_agrees_with_scaled_kinematics(scaled):
    truth = Truth(scaled, SKELETON)
    kinematics = ForwardKinematics(SKELETON, torch.float64)
    from_file = load_skeleton(scaled)
    assert from_file.name == "Ann___left___1"
    s = torch.tensor(SCALES)
    for pose in random_poses(SKELETON, 20, np.random.default_rng(10)):
        q = kinematics.constrain(torch.tensor(pose))
        truth.set(q.numpy())
        frames = kinematics(q, s)
        again = ForwardKinematics(from_file, torch.float64)(q)
        rotation, position = truth.frames()
        assert frames.rotation.numpy() == pytest.approx(rotation, abs=1e-5)
        assert frames.position.numpy() == pytest.approx(position, abs=1e-5)
        assert kinematics.markers(frames, s).numpy() == pytest.approx(truth.points()[2], abs=1e-5)
        assert again.position.numpy() == pytest.approx(position, abs=1e-5)


def test_mass_of_the_subject(scaled, tmp_path):
    masses = load_skeleton(scaled).masses
    assert masses == pytest.approx(SKELETON.masses * 62.5 / SKELETON.mass, rel=1e-9)
    # No mass given: the model's own.
    kept = load_skeleton(write_osim(tmp_path / "kept.osim", SKELETON, SCALES))
    assert kept.masses == pytest.approx(SKELETON.masses, rel=1e-9)
    # Shares by volume.
    path = write_osim(tmp_path / "v.osim", SKELETON, SCALES, 62.5, preserve_mass_distribution=False)
    by_volume = SKELETON.masses * SCALES.prod(-1)
    assert load_skeleton(path).masses == pytest.approx(by_volume * 62.5 / by_volume.sum(), rel=1e-9)


@pytest.mark.parametrize("file", ["Model_Pose2Sim_simple.osim", "Model_Pose2Sim_muscles_flex.osim"])
def test_writes_what_was_read(file, tmp_path):
    original = load_skeleton(shipped_model(file, tmp_path))
    scales = random_scales(original, np.random.default_rng(11))
    path = write_osim(tmp_path / "again.osim", original, scales)
    truth = Truth(path, original)
    kinematics = ForwardKinematics(original, torch.float64)
    for pose in random_poses(original, 10, np.random.default_rng(12)):
        q = kinematics.constrain(torch.tensor(pose))
        truth.set(q.numpy())
        frames = kinematics(q, torch.tensor(scales))
        assert frames.position.numpy() == pytest.approx(truth.frames()[1], abs=1e-9)
        markers = kinematics.markers(frames, torch.tensor(scales)).numpy()
        assert markers == pytest.approx(truth.points()[2], abs=1e-9)


def test_writes_nested_frames_and_every_function(tmp_path):
    frame = {"translation": [0.1, -0.2, 0.3], "orientation": [0.4, 0.5, -0.6]}
    wave = {"x": [-1.0, 0.0, 0.5, 2.0], "y": [0.1, 0.3, -0.2, 0.4]}
    functions = [
        {"multiplier": {"scale": -0.7, "function": {"piecewise_linear": wave}}},
        {"polynomial": [0.2, -1.0, 0.3]},
        {"linear": [0.5, 0.1]},
        {"natural_cubic_spline": wave},
        {"constant": 0.2},
        {"multiplier": {"scale": 0.5, "function": {"linear": [1.0, 0.0]}}},
    ]
    names = ("rotation1", "rotation2", "rotation3", "translation1", "translation2", "translation3")
    axes = ([1, 0, 0], [0, 0, 1], [0, -1, 0]) * 2
    body = {"mass": 1.0, "mass_center": [0.1, 0, 0], "inertia": [1.0, 1.0, 1.0, 0, 0, 0]}
    coordinate = {"name": "q", "default": 0.1, "range": [-1.0, 1.0], "locked": False, "clamped": False}
    table = {
        "bodies": [body | {"name": "rod"}],
        "joints": [
            {
                "name": "joint",
                "type": "CustomJoint",
                "parent": {"body": "ground", "frames": [frame, frame]},
                "child": {"body": "rod", "frames": [frame, frame, frame]},
                "coordinates": [coordinate],
                "transform_axes": [
                    {"name": n, "axis": a, "function": f, "coordinates": [] if "constant" in f else ["q"]}
                    for n, a, f in zip(names, axes, functions, strict=True)
                ],
            }
        ],
        "markers": [{"name": "tip", "body": "rod", "location": [0.3, 0.2, 0.1], "frames": [frame, frame]}],
    }
    skeleton = table_to_skeleton(table, "nested")
    scales = np.array([[0.8, 1.1, 1.3]])
    truth = Truth(write_osim(tmp_path / "nested.osim", skeleton, scales), skeleton)
    kinematics = ForwardKinematics(skeleton, torch.float64)
    for q in (-1.4, -0.3, 0.7, 2.2):
        truth.set(np.array([q]))
        frames = kinematics(torch.tensor([q], dtype=torch.float64), torch.tensor(scales))
        rotation, position = truth.frames()
        assert frames.rotation.numpy() == pytest.approx(rotation, abs=1e-9)
        assert frames.position.numpy() == pytest.approx(position, abs=1e-9)
        markers = kinematics.markers(frames, torch.tensor(scales)).numpy()
        assert markers == pytest.approx(truth.points()[2], abs=1e-9)


@pytest.mark.parametrize(
    ("scales", "mass", "words"),
    [
        (np.ones((21, 3)), None, r"\(22, 3\)"),
        (np.where(np.arange(66).reshape(22, 3) == 5, np.nan, 1.0), None, "finite"),
        (np.where(np.arange(66).reshape(22, 3) == 5, 0.0, 1.0), None, "from 0.0"),
        (None, -3.0, "positive"),
        (None, float("nan"), "positive"),
    ],
)
def test_refuses_scales_and_masses_that_cannot_be(tmp_path, scales, mass, words):
    with pytest.raises(BiokinError, match=words):
        write_osim(tmp_path / "model.osim", SKELETON, scales, mass)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("failure", ["partial", "error"])
def test_a_failed_write_leaves_the_earlier_file(tmp_path, monkeypatch, failure):
    def fail(self, path):
        Path(path).write_text("<OpenSimDocument><Model", encoding="utf-8")
        if failure == "error":
            raise OSError(28, "No space left on device")
        return True

    path = tmp_path / "model.osim"
    path.write_text("earlier", encoding="utf-8")
    monkeypatch.setattr(opensim.Model, "printToXML", fail)
    with pytest.raises(BiokinError, match="disk"):
        write_osim(path, SKELETON)
    assert [file.name for file in tmp_path.iterdir()] == ["model.osim"]
    assert path.read_text(encoding="utf-8") == "earlier"


def test_a_fresh_interpreter_writes_the_model_and_nothing_else(tmp_path):
    code = (
        "from pose2sim_biokin.io.osim import write_osim\n"
        "from pose2sim_biokin.skeleton import load_skeleton\n"
        "write_osim('model.osim', load_skeleton(), mass_kg=70.0)\n"
    )
    root = str(Path(__file__).parents[2])
    run = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {root!r})\n{code}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout + run.stderr == ""
    assert [file.name for file in tmp_path.iterdir()] == ["model.osim"]
