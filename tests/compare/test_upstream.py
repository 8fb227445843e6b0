"""Pose2Sim's own stages on a project whose 2D poses are projections of a known motion."""

import json

import numpy as np
import opensim
import pytest
import rtoml
import torch
from compare_scenes import RATE, SETUP, SIMPLE, write_poses
from typer.testing import CliRunner

import pose2sim_biokin
from pose2sim_biokin import cli
from pose2sim_biokin.compare.upstream import missing_pose_weights, run_upstream, upstream_markers
from pose2sim_biokin.errors import BiokinError
from pose2sim_biokin.io.mot import write_mot
from pose2sim_biokin.skeleton import ForwardKinematics, load_skeleton
from pose2sim_biokin.skeleton.rotations import ground_to_world

TIME = np.arange(30) / RATE


def _truth(folder):
    """Pose2Sim's simple model with its markers, a motion of it, and where the markers are, in the world."""
    opensim.Logger.removeFileSink()
    opensim.ModelVisualizer.addDirToGeometrySearchPaths(str(SETUP / "Geometry"))
    model = opensim.Model(str(SIMPLE))
    model.updateMarkerSet(opensim.MarkerSet(str(SETUP / "Markers_Halpe26.xml")))
    model.finalizeConnections()
    folder.mkdir()
    model.printToXML(str(folder / "marker_based.osim"))
    skeleton = load_skeleton(folder / "marker_based.osim")
    q = np.zeros((len(TIME), len(skeleton.coordinate_names)))
    swing = np.sin(2 * np.pi * TIME)
    motion = {
        "pelvis_tx": 0.3 * TIME,
        "pelvis_ty": 0.95,
        "pelvis_rotation": 0.5,
        "hip_flexion_r": 0.4 * swing,
        "hip_flexion_l": -0.4 * swing,
        "knee_angle_r": 0.5 + 0.3 * swing,
        "knee_angle_l": 0.5 - 0.3 * swing,
        "arm_flex_r": -0.4 * swing,
        "arm_flex_l": 0.4 * swing,
        "elbow_flex_r": 0.6 + 0.3 * swing,
        "elbow_flex_l": 0.6,
        "L5_S1_Flex_Ext": -0.1 + 0.05 * swing,
    }
    for name, values in motion.items():
        q[:, skeleton.coordinate_index(name)] = values
    write_mot(folder / "marker_based.mot", TIME, q, skeleton)
    kinematics = ForwardKinematics(skeleton, dtype=torch.float64)
    markers = ground_to_world(kinematics.markers(kinematics(torch.from_numpy(q)))).numpy()
    return dict(zip(skeleton.marker_names, markers.transpose(1, 0, 2), strict=True))


def _project(folder):
    """The single-person demo's settings, without windows, augmentation or muscles."""
    config = rtoml.load(SETUP.parent / "Demo_SinglePerson" / "Config.toml")
    config["project"] |= {"frame_rate": int(RATE), "participant_height": 1.7, "frame_range": "all"}
    config["kinematics"] |= {"use_augmentation": False, "use_simple_model": True}
    folder.mkdir()
    (folder / "Config.toml").write_text(rtoml.dumps(config), encoding="utf-8")
    return folder


def _halpe26():
    from anytree import RenderTree
    from Pose2Sim.skeletons import HALPE_26

    return {node.name: node.id for _, _, node in RenderTree(HALPE_26) if node.id is not None}


def test_upstream_from_2d_poses_against_the_truth(tmp_path):
    folder = _project(tmp_path / "walk")
    points = _truth(folder / "kinematics_reference")
    write_poses(folder, points, _halpe26())
    # a result of ours is in the trial: upstream must not take its markers, nor write over it
    for name in ("pose-3d/walk_0-29_biokin.trc", "kinematics/walk_0-29_biokin.mot"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("ours", encoding="utf-8")

    pair = [f"kinematics_reference/marker_based.{ending}" for ending in ("osim", "mot")]
    (outcome,) = pose2sim_biokin.compare(folder, ["opensim"], {"markers": pair}, report=False)
    comparison = outcome.comparison
    assert comparison.labels == ("markers", "opensim")
    assert any("personAssociation, triangulation, filtering, kinematics ran" in f for f in comparison.flags)
    assert comparison.run_times_s["opensim"] > 0 and comparison.run_times_s["markers"] is None
    made = sorted(p.name for p in (folder / "kinematics").iterdir())
    (stem,) = {name.split(".")[0] for name in made if name.endswith(".osim")}
    assert {f"{stem}.mot", f"{stem}.osim"} <= set(made) and "biokin" not in stem
    assert (folder / "kinematics" / "walk_0-29_biokin.mot").read_text(encoding="utf-8") == "ours"
    assert [p.stem for p in upstream_markers(folder)] and list((folder / "pose-associated").iterdir())

    rows = comparison.metrics["opensim"]
    # the motion comes back; scaling by 26 points shifts the zeros, most where a segment hangs on two of them
    for name in ("hip_flexion_r", "hip_flexion_l", "knee_angle_r", "knee_angle_l", "elbow_flex_r"):
        row = rows[name]
        assert row.mae < 8 and row.mae_offset_corrected < 1 and row.pearson_r > 0.99, (name, row)
    assert rows["arm_flex_r"].mae < 5 and comparison.coordinate("arm_flex_r").how == "segment orientation"
    assert comparison.points["opensim"].pa_mpjpe < 15 and comparison.points["opensim"].pelvis_path < 15
    assert abs(comparison.lag_s["opensim"]) < 0.01
    for segment in ("thigh_r", "shank_l", "pelvis width"):
        lengths = comparison.segments[segment]
        assert lengths["opensim"] == pytest.approx(lengths["markers"], rel=0.03)

    # the second time the result is there: nothing runs, and its time is not known
    (again,) = pose2sim_biokin.compare(folder, ["opensim"], {"markers": pair}, name="again", report=False)
    assert again.comparison.run_times_s["opensim"] is None
    assert again.comparison.metrics["opensim"]["knee_angle_r"] == rows["knee_angle_r"]


def test_what_upstream_lacks_is_said(tmp_path, monkeypatch):
    """No markers, no 2D poses, and no weights to make them: named, one by one."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "no_weights"))
    folder = _project(tmp_path / "walk")
    truth = tmp_path / "truth"
    _truth(truth)
    result = CliRunner().invoke(
        cli.app,
        ["compare", str(folder), "--backends", "opensim", "--no-report", "--pair"]
        + [f"markers={truth / 'marker_based.osim'},{truth / 'marker_based.mot'}"],
    )
    assert result.exit_code == 1
    assert "only markers is there" in result.output and "holds no 2D poses" in result.output

    (folder / "videos").mkdir()
    for camera in ("cam01", "cam02"):
        (folder / "videos" / f"{camera}.mp4").write_bytes(b"")
    missing = missing_pose_weights(rtoml.load(folder / "Config.toml"))
    assert len(missing) == 2 and all(".onnx (from http" in text for text in missing)
    with pytest.raises(BiokinError) as told:
        pose2sim_biokin.compare(folder, ["opensim", "biokin"], report=False)
    assert "its weights are not on this machine" in str(told.value)
    assert all(text.split(" (from")[0] in str(told.value) for text in missing)
    assert not (folder / "compare").exists() and not (folder / "kinematics").exists()

    # with another pair the rest goes on, and the report says what is not in it
    pairs = {
        label: (truth / "marker_based.osim", truth / "marker_based.mot") for label in ("markers", "same")
    }
    (outcome,) = pose2sim_biokin.compare(folder, ["opensim"], pairs, name="rest", report=False)
    assert outcome.comparison.labels == ("markers", "same")
    content = json.loads(outcome.paths["json"].read_text(encoding="utf-8"))
    assert any("opensim is not compared" in flag and "rtmpose" in flag for flag in content["flags"])


def test_cameras_that_did_not_start_together_need_pose_sync(tmp_path):
    folder = _project(tmp_path / "walk")
    (folder / "pose" / "cam01_json").mkdir(parents=True)
    (folder / "pose" / "cam01_json" / "cam01_000000.json").write_text("{}", encoding="utf-8")
    config = rtoml.load(folder / "Config.toml") | {"biokin": {"sync_offsets": {"cam01": 3}}}
    config["project"]["project_dir"] = str(folder)
    with pytest.raises(BiokinError, match="no pose-sync. Run Pose2Sim.synchronization"):
        run_upstream(config)
