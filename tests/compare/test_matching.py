"""Coordinates of different models, matched: against OpenSim's own segment orientations on random poses."""

import copy

import numpy as np
import opensim
import pytest
import torch
from compare_scenes import FLEX, LUMBAR, RATE, SIMPLE, result_of, sines, write_result
from opensim_truth import Truth, random_poses
from scipy.spatial.transform import Rotation

from pose2sim_biokin.compare.build import compare_results
from pose2sim_biokin.compare.matching import match
from pose2sim_biokin.compare.models import load_model, skeleton_model
from pose2sim_biokin.compare.result import read_result
from pose2sim_biokin.errors import BiokinError
from pose2sim_biokin.io.mot import write_mot
from pose2sim_biokin.io.osim import write_osim
from pose2sim_biokin.skeleton import ForwardKinematics, load_skeleton
from pose2sim_biokin.skeleton.model import table_to_skeleton

TIME = np.arange(100) / RATE
# Group of three angles -> parent, child, signs of the three in the sequence z-x-y.
TRIPLES = {
    ("pelvis_tilt", "pelvis_list", "pelvis_rotation"): (None, "pelvis", (1, 1, 1)),
    ("hip_flexion_r", "hip_adduction_r", "hip_rotation_r"): ("pelvis", "femur_r", (1, 1, 1)),
    ("hip_flexion_l", "hip_adduction_l", "hip_rotation_l"): ("pelvis", "femur_l", (1, -1, -1)),
    ("lumbar_extension", "lumbar_bending", "lumbar_rotation"): ("pelvis", "torso", (1, 1, 1)),
    ("arm_flex_r", "arm_add_r", "arm_rot_r"): ("torso", "humerus_r", (1, 1, 1)),
    ("arm_flex_l", "arm_add_l", "arm_rot_l"): ("torso", "humerus_l", (1, -1, -1)),
}


def test_three_models_against_opensims_segment_orientations(tmp_path):
    """Whatever the joints are, the matched angles are the turn that OpenSim sees between the bodies."""
    rng = np.random.default_rng(5)
    results, truths = [], {}
    time = np.arange(6) / RATE
    for label, model in (("rajagopal", None), ("simple", SIMPLE), ("flex", FLEX)):
        osim, mot = write_result(tmp_path, label, time, {}, model)
        skeleton = load_skeleton(osim)
        poses = random_poses(skeleton, len(time), rng)
        q = ForwardKinematics(skeleton, dtype=torch.float64).constrain(torch.from_numpy(0.5 * poses)).numpy()
        write_mot(mot, time, q, skeleton)
        truth = Truth(osim, skeleton)
        names = skeleton.body_names
        turns = []
        for row in q:
            truth.set(row)
            turns.append(dict(zip(names, truth.frames()[0], strict=True)))
        truths[label] = turns
        results.append(read_result(osim, mot, label))
    matched, _ = match(results)
    found = {c.name: c for c in matched}
    for names, (parent, child, signs) in TRIPLES.items():
        for label, turns in truths.items():
            angles = np.stack(
                [sign * found[n].values[label] for n, sign in zip(names, signs, strict=True)], 1
            )
            ours = Rotation.from_euler("ZXY", angles, degrees=True)
            theirs = Rotation.from_matrix(
                [turn[child] if parent is None else turn[parent].T @ turn[child] for turn in turns]
            )
            assert np.rad2deg((ours * theirs.inv()).magnitude()).max() < 1e-3, (label, names)
    assert {found[n].how for n in ("lumbar_bending", "arm_rot_l")} == {"segment orientation"}
    assert {found[n].how for n in ("hip_flexion_r", "pelvis_tilt", "knee_angle_l")} == {"name"}
    # with six joints, the whole spine turns as OpenSim's does; one coordinate of it is not its angle
    assert found["lumbar_extension"].own_names["flex"] == "L5_S1_Flex_Ext"
    assert any("7.14 times" in note for note in found["lumbar_extension"].notes)
    assert "knee_angle_r_beta" not in found  # follows the knee
    assert "neck_flexion" not in found  # the reference has no neck


def test_the_same_motion_in_two_models_is_no_difference(tmp_path):
    own = sines(TIME, load_skeleton().coordinate_names)
    theirs = {next((k for k, v in LUMBAR.items() if v == name), name): value for name, value in own.items()}
    theirs |= {"neck_flexion": np.full(len(TIME), 0.2)}
    comparison = compare_results(
        [result_of(tmp_path, "simple", TIME, theirs, SIMPLE), result_of(tmp_path, "ours", TIME, own)]
    )
    assert max(row.mae for row in comparison.metrics["ours"].values()) < 1e-4
    assert len(comparison.joint_angles("ours")) == 3 + 2 * (3 + 2 + 3 + 2)
    assert comparison.unmatched["simple"] == ("neck_flexion", "neck_bending", "neck_rotation")
    # the pelvis's origin and the hips' width differ between the models: said in numbers
    zero = {name: comparison.coordinate(name).zero_difference["ours"] for name in ("pelvis_tx", "pelvis_ty")}
    truth = [_pelvis_origin(path) for path in (tmp_path / "ours.osim", tmp_path / "simple.osim")]
    np.testing.assert_allclose(list(zero.values()), (truth[0] - truth[1])[:2], atol=1e-3)
    assert any("pelvis_tx" in flag and "along X" in flag for flag in comparison.flags)


def _pelvis_origin(path):
    """mm from the midpoint of the hips to the pelvis's origin, as OpenSim has them."""
    truth = Truth(path, load_skeleton(path))
    truth.set(np.zeros(len(truth.coordinates)))
    centers, names = truth.points()[0], truth.skeleton.body_names
    hips = [centers[names.index(f"femur_{side}")] for side in "rl"]
    return 1000 * (truth.frames()[1][names.index("pelvis")] - np.mean(hips, axis=0))


def _changed(tmp_path, label, change):
    """A Rajagopal model with its table changed."""
    table = copy.deepcopy(load_skeleton().table)
    change({joint["name"]: joint for joint in table["joints"]})
    skeleton = table_to_skeleton(table, label)
    return write_osim(tmp_path / f"{label}.osim", skeleton), skeleton


def _turn(frame, rotation):
    """A joint frame turned, about its own axes, by a rotation."""
    last = frame["frames"][-1] if "frames" in frame else frame
    turned = Rotation.from_euler("XYZ", last["orientation"]) * rotation
    last["orientation"] = turned.as_euler("XYZ").tolist()


def test_sign_and_zero_are_found_and_stated(tmp_path):
    """An elbow that turns the other way round, a forearm whose zero is 30 degrees off."""

    def change(joints):
        for side in ("parent", "child"):
            _turn(joints["elbow_r"][side], Rotation.from_euler("x", np.pi))
        _turn(joints["radioulnar_r"]["parent"], Rotation.from_euler("z", 30, degrees=True))

    osim, skeleton = _changed(tmp_path, "changed", change)
    values = sines(TIME, ("elbow_flex_r", "pro_sup_r", "elbow_flex_l"), 0.4)
    reference = result_of(tmp_path, "reference", TIME, values)
    q = np.zeros((len(TIME), len(skeleton.coordinate_names)))
    for name, sign in (("elbow_flex_r", -1), ("elbow_flex_l", 1), ("pro_sup_r", 1)):
        q[:, skeleton.coordinate_index(name)] = sign * values[name]
    q[:, skeleton.coordinate_index("pro_sup_r")] -= np.deg2rad(30)
    mot = write_mot(tmp_path / "changed.mot", TIME, q, skeleton)
    comparison = compare_results([reference, read_result(osim, mot, "changed")])
    # the bodies move alike, so the bones agree; only what the coordinates are called differs
    assert comparison.points["changed"].mpjpe < 1e-3
    assert comparison.metrics["changed"]["elbow_flex_r"].mae < 1e-4
    assert "its sign is opposite" in " ".join(comparison.coordinate("elbow_flex_r").notes)
    assert not comparison.coordinate("elbow_flex_l").notes
    pronation = comparison.coordinate("pro_sup_r")
    assert pronation.zero_difference["changed"] == pytest.approx(30, abs=0.01)
    assert comparison.metrics["changed"]["pro_sup_r"].bias == pytest.approx(-30, abs=1e-3)  # not hidden
    assert comparison.metrics["changed"]["pro_sup_r"].mae_offset_corrected < 1e-4
    assert any("elbow_flex_r" in flag and "opposite" in flag for flag in comparison.flags)


def test_same_names_in_another_sequence_do_not_go_by_name(tmp_path):
    def change(joints):
        axes = joints["hip_r"]["transform_axes"]
        moved = {key: axes[0][key] for key in ("coordinates", "axis", "function")}
        for key in moved:
            axes[0][key], axes[2][key] = axes[2][key], moved[key]

    osim, skeleton = _changed(tmp_path, "yxz", change)
    values = sines(TIME, ("hip_flexion_r", "hip_adduction_r", "hip_rotation_r"), 0.5)
    reference = result_of(tmp_path, "reference", TIME, values)
    turn = Rotation.from_euler("ZXY", np.stack(list(values.values()), 1))
    q = np.zeros((len(TIME), len(skeleton.coordinate_names)))
    for name, angle in zip(
        ("hip_rotation_r", "hip_adduction_r", "hip_flexion_r"), turn.as_euler("YXZ").T, strict=True
    ):
        q[:, skeleton.coordinate_index(name)] = angle
    mot = write_mot(tmp_path / "yxz.mot", TIME, q, skeleton)
    comparison = compare_results([reference, read_result(osim, mot, "yxz")])
    names = [f"hip_{n}_r" for n in ("flexion", "adduction", "rotation")]
    assert {comparison.coordinate(n).how for n in names} == {"segment orientation"}
    assert comparison.coordinate("hip_flexion_l").how == "name"
    assert max(comparison.metrics["yxz"][n].mae for n in names) < 1e-3
    raw = np.abs(q[:, skeleton.coordinate_index(names[0])] - values[names[0]])
    assert np.rad2deg(raw).mean() > 2  # by name they would have differed


def test_arms_that_mean_the_same_in_other_numbers(tmp_path):
    """A raised arm has two triples of angles: the same orientation is no difference; lock is said."""
    values = sines(TIME, ("arm_flex_r", "arm_rot_r"), 0.3) | {"arm_add_r": 0.2 + 1.2 * TIME / TIME[-1]}
    other = {
        "arm_flex_r": values["arm_flex_r"] + np.pi,
        "arm_add_r": np.pi - values["arm_add_r"],
        "arm_rot_r": values["arm_rot_r"] - np.pi,
    }
    comparison = compare_results(
        [result_of(tmp_path, "plain", TIME, values), result_of(tmp_path, "other", TIME, other)]
    )
    assert max(comparison.metrics["other"][name].mae for name in values) < 1e-3
    np.testing.assert_allclose(
        comparison.coordinate("arm_add_r").values["plain"], np.rad2deg(values["arm_add_r"]), atol=1e-4
    )
    assert any("gimbal lock" in note for note in comparison.coordinate("arm_flex_r").notes)


def test_arms_that_differ_much_do_not_jump(tmp_path):
    """For a moment the other triple of angles is nearer: taking it would be a jump of half a turn."""
    peak = np.exp(-(((TIME - 1) / 0.1) ** 2))
    raised = {"arm_flex_l": 2.2 * peak, "arm_add_l": -0.3 - 1.0 * peak, "arm_rot_l": 2.2 * peak}
    hanging = {
        "arm_flex_l": 0.1 * np.sin(TIME),
        "arm_add_l": -0.8 + 0 * TIME,
        "arm_rot_l": 0.1 * np.cos(TIME),
    }
    comparison = compare_results(
        [result_of(tmp_path, "raised", TIME, raised), result_of(tmp_path, "hanging", TIME, hanging)]
    )
    for name, values in hanging.items():
        np.testing.assert_allclose(
            comparison.coordinate(name).values["hanging"], np.rad2deg(values), atol=1e-3
        )
    assert comparison.metrics["hanging"]["arm_flex_l"].worst == pytest.approx(
        np.rad2deg(0.1 * np.sin(1) - 2.2), abs=1
    )


def test_nothing_in_common(tmp_path):
    model = opensim.Model()
    model.setName("pendulum")
    rod = opensim.Body("rod", 1.0, opensim.Vec3(0), opensim.Inertia(1, 1, 1))
    joint = opensim.PinJoint("pivot", model.getGround(), rod)
    joint.updCoordinate().setName("swing")
    model.addBody(rod)
    model.addJoint(joint)
    model.finalizeConnections()
    model.printToXML(str(tmp_path / "pendulum.osim"))
    skeleton = load_skeleton(tmp_path / "pendulum.osim")
    mot = write_mot(tmp_path / "pendulum.mot", TIME, np.sin(TIME)[:, None], skeleton)
    pendulum = read_result(tmp_path / "pendulum.osim", mot, "pendulum")
    person = result_of(tmp_path, "person", TIME, {})
    with pytest.raises(BiokinError, match="no coordinate in common.*pendulum.osim .swing"):
        compare_results([person, pendulum])
    with pytest.raises(BiokinError, match="none of its columns .swing.*is a coordinate of .*person.osim"):
        read_result(tmp_path / "person.osim", mot)


def test_a_model_that_only_opensim_can_pose(tmp_path):
    """A constraint that our own kinematics does not know: OpenSim poses it, with the same outcome."""
    values = sines(TIME[:8], load_skeleton().coordinate_names)
    osim, mot = write_result(tmp_path, "plain", TIME[:8], values)
    model = opensim.Model(str(osim))
    bodies = model.getBodySet()
    rod = opensim.ConstantDistanceConstraint(
        bodies.get("hand_r"), opensim.Vec3(0), bodies.get("hand_l"), opensim.Vec3(0), 0.3
    )
    model.addConstraint(rod)
    model.finalizeConnections()
    model.printToXML(str(tmp_path / "rod.osim"))
    with pytest.raises(BiokinError):
        load_skeleton(tmp_path / "rod.osim")
    plain, rod = read_result(osim, mot, "plain"), read_result(tmp_path / "rod.osim", mot, "rod")
    assert rod.skeleton is None and plain.skeleton is not None
    for name, value in plain.coordinates.items():
        if "beta" not in name:
            np.testing.assert_allclose(rod.coordinates[name], value, atol=1e-9)
    for name in ("hip_r", "wrist_l", "mtp_r", "pelvis", "lumbar"):
        np.testing.assert_allclose(rod.joint_centers[name], plain.joint_centers[name], atol=1e-6)
    np.testing.assert_allclose(rod.body_rotations["radius_r"], plain.body_rotations["radius_r"], atol=1e-6)
    assert rod.segment_lengths == pytest.approx(plain.segment_lengths, abs=1e-6)


def test_joint_centres_stand_in_pose2sims_world(tmp_path):
    """OpenSim's ground (X forward, Y up, Z right) is the world's (Y, Z, X)."""
    values = {"pelvis_tx": np.full(100, 1.0), "pelvis_ty": np.full(100, 2.0), "pelvis_tz": np.full(100, 3.0)}
    result = result_of(tmp_path, "still", TIME, values)
    np.testing.assert_allclose(result.joint_centers["pelvis"], np.tile([3.0, 1.0, 2.0], (100, 1)))
    np.testing.assert_allclose(result.body_rotations["pelvis"][0] @ (0, 1, 0), (0, 0, 1), atol=1e-12)
    model = load_model(result.osim)
    assert skeleton_model(load_skeleton()).coordinate_names == model.coordinate_names
