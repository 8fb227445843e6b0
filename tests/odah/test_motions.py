"""Motions against closed forms, mirror images and the floor."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from odah.motions import actions, arms, splines
from odah.motions.clips import read_clips, split_by_group
from odah.motions.explore import explore
from odah.motions.floor import stand_on_floor
from odah.motions.gait import gait
from odah.motions.posture import shift_posture, tilt_pelvis
from odah.motions.sampler import HELD_OUT_ACTIONS, penetration, sample_motion
from odah.motions.tracks import Tracks
from pose2sim_biokin.errors import BiokinError
from pose2sim_biokin.skeleton.angles import CONSTRAINED, FIXED
from pose2sim_biokin.skeleton.kinematics import ForwardKinematics
from pose2sim_biokin.skeleton.model import load_skeleton


@pytest.fixture(scope="module")
def fk() -> ForwardKinematics:
    return ForwardKinematics(load_skeleton(), dtype=torch.float64)


@pytest.mark.parametrize(
    ("shoulder", "direction"),
    [
        ((0, 40, 20), (0, -1, 0)),  # hanging
        ((90, 0, 30), (0, 0, 1)),  # right arm out to the right
        ((90, 90, -20), (1, 0, 0)),  # forward
        ((180, 0, 0), (0, 1, 0)),  # overhead
    ],
)
def test_shoulder_points_where_it_says(fk, shoulder, direction):
    matrix = arms.shoulder_matrix(np.array([shoulder], dtype=float))
    np.testing.assert_allclose(matrix[0] @ [0, -1, 0], direction, atol=1e-12)
    tracks = Tracks(1, shoulders={"r": matrix, "l": matrix})
    frames = fk(torch.from_numpy(tracks.coordinates(fk.skeleton)))
    centers = fk.joint_centers(frames)[0].numpy()
    for side, flip in (("r", 1), ("l", -1)):
        upper_arm = fk.skeleton.body_index(f"humerus_{side}")
        axis = frames.rotation[0, upper_arm].numpy() @ [0, -1, 0]
        np.testing.assert_allclose(axis, np.array(direction) * [1, 1, flip], atol=1e-9)
        elbow = centers[fk.skeleton.body_index(f"ulna_{side}")] - centers[upper_arm]
        assert elbow @ axis > 0.95 * np.linalg.norm(elbow)


def test_mirrored_motion_is_the_mirror_image(fk):
    skeleton = fk.skeleton
    tracks = explore(np.random.default_rng(3), 40, 60.0)
    tracks.curves["turn"] = np.linspace(-40, 60, 40)
    centers, mirrored = (
        fk.joint_centers(fk(torch.from_numpy(t.coordinates(skeleton)))).numpy()
        for t in (tracks, tracks.mirrored())
    )
    swapped = [
        skeleton.body_index(n[:-2] + {"_r": "_l", "_l": "_r"}[n[-2:]] if n[-2:] in ("_r", "_l") else n)
        for n in skeleton.body_names
    ]
    # The skeleton itself is symmetric to a few tenths of a millimetre only in its joint frames' digits.
    np.testing.assert_allclose(mirrored, centers[:, swapped] * [1, 1, -1], atol=2e-3)


def test_coordinates_become_tracks_and_coordinates_again(fk):
    skeleton = fk.skeleton
    q = explore(np.random.default_rng(5), 50, 60.0).coordinates(skeleton)
    again = Tracks.from_coordinates(q, skeleton).coordinates(skeleton)
    a, b = (fk(torch.from_numpy(x)).rotation for x in (q, again))
    assert (a - b).abs().max() < 1e-9


@pytest.mark.parametrize("name", [*actions.ACTIONS, "gait", "explore"])
def test_motions_keep_to_the_ranges_and_are_smooth(fk, name):
    rng = np.random.default_rng(7)
    if name in ("gait", "explore"):
        tracks = {"gait": gait, "explore": explore}[name](rng, 90, 60.0)
    else:
        tracks = actions.perform(name, rng, 90, 60.0)
    skeleton = fk.skeleton
    q = tracks.coordinates(skeleton)
    assert np.isfinite(q).all() and q.shape == (90, 39)
    for coordinate in CONSTRAINED:
        i = skeleton.coordinate_index(coordinate)
        low, high = skeleton.coordinate_ranges[i]
        assert low - 1e-9 <= q[:, i].min() and q[:, i].max() <= high + 1e-9, coordinate
    for coordinate in FIXED:
        i = skeleton.coordinate_index(coordinate)
        expected = q[:, skeleton.coordinate_index(coordinate[:-5])] if coordinate.endswith("beta") else 0.0
        np.testing.assert_array_equal(q[:, i], np.broadcast_to(expected, 90))
    positions = fk.joint_centers(fk(torch.from_numpy(q))).numpy()
    speed = np.linalg.norm(np.diff(positions, axis=0), axis=-1).max() * 60
    assert speed < 20, f"{speed:.1f} m/s"
    assert np.abs(np.diff(q, axis=0)).max() > 1e-4, "nothing moves"


def test_feet_stand_on_the_floor_and_do_not_slide(fk):
    skeleton = fk.skeleton
    # The right leg swings under a pelvis that leans; the left foot stands, seen from the pelvis it moves.
    t = np.linspace(0, 1, 30)
    tracks = Tracks(
        30, {"hip_l": 20 * t, "knee_l": 10 * t, "hip_r": 60 + 10 * t, "knee_r": np.full(30, 80.0)}
    )
    q = stand_on_floor(tracks.coordinates(skeleton), None, fk, np.ones((22, 3)))
    frames = fk(torch.from_numpy(q))
    markers = fk.markers(frames).numpy()
    toe = markers[:, skeleton.marker_index("LTOE")]
    assert np.linalg.norm((toe - toe[0])[:, [0, 2]], axis=1).max() < 0.01
    foot = [skeleton.marker_index(m) for m in ("LCAL", "LTOE", "LMT5")]
    assert 0.015 < markers[:, foot, 1].min() < 0.035
    lifted = stand_on_floor(tracks.coordinates(skeleton), np.full(30, 0.2), fk, np.ones((22, 3)))
    ty = skeleton.coordinate_index("pelvis_ty")
    np.testing.assert_allclose(lifted[:, ty] - q[:, ty], 0.2)


def test_minimum_jerk_is_the_quintic_and_cycles_close():
    t = np.array([0.0, 0.25, 0.5, 1.0, 2.0])
    moved = splines.ease(np.array([0.0, 1.0]), np.array([2.0, 6.0]), t)
    np.testing.assert_allclose(moved, [2.0, 2 + 4 * (10 / 64 - 15 / 256 + 6 / 1024), 4.0, 6.0, 6.0])
    phases, values = np.array([0.1, 0.4, 0.8]), np.array([1.0, -2.0, 0.5])
    np.testing.assert_allclose(splines.cycle(phases, values, phases), values, atol=1e-12)
    np.testing.assert_allclose(
        splines.cycle(phases, values, np.array([0.05])), splines.cycle(phases, values, [1.05])
    )


def test_hands_in_the_trunk_are_found(fk):
    arm = np.tile(arms.shoulder_matrix(np.array([5.0, 0.0, 90.0])), (8, 1, 1))
    inside = Tracks(8, {"elbow_r": np.full(8, 90.0)}, {"r": arm})
    outside = Tracks(
        8, {"elbow_r": np.full(8, 20.0)}, {"r": arms.shoulder_matrix(np.tile([80.0, 0, 0], (8, 1)))}
    )
    assert penetration(inside.coordinates(fk.skeleton), fk) > 0.03
    assert penetration(outside.coordinates(fk.skeleton), fk) == 0.0


def test_samples_repeat_by_seed_and_training_never_sees_held_out_actions(fk):
    def draw(split, seed):
        rng = np.random.default_rng(seed)
        return [sample_motion(rng, split, [], 16, fk) for _ in range(25)]

    first, again = draw("train", 1), draw("train", 1)
    assert all(np.array_equal(a.coordinates, b.coordinates) for a, b in zip(first, again, strict=True))
    assert not {c.name for c in first} & set(HELD_OUT_ACTIONS)
    assert {c.kind for c in first} == {"action", "gait", "explore"}
    assert {c.name for c in draw("test", 2)} & set(HELD_OUT_ACTIONS)


def test_recordings_are_cut_at_jumps_and_split_by_group(tmp_path, fk):
    skeleton = fk.skeleton
    rng = np.random.default_rng(0)
    clips = {f"clip{i}": explore(rng, 120, 60.0).coordinates(skeleton) for i in range(12)}
    clips["clip0"][60:, skeleton.coordinate_index("knee_angle_r")] = 2.0  # a jump
    path = tmp_path / "motions.npz"
    np.savez(path, coordinates=np.array(skeleton.coordinate_names), **clips)
    listing = [{"clip": f"clip{i}", "source": "lab", "file": f"s{i // 2}/t{i}.mot"} for i in range(12)]
    path.with_suffix(".json").write_text(json.dumps(listing), encoding="utf-8")
    recordings = read_clips(path, skeleton)
    assert len([r for r in recordings if r.name.startswith("clip0[")]) == 2
    splits = split_by_group(recordings)
    groups = [{r.group for r in part} for part in splits.values()]
    assert sum(map(len, groups)) == 6 and len(set.union(*groups)) == 6
    assert sum(map(len, splits.values())) == len(recordings)
    sizes = {s: sum(r.tracks.frames for r in part) for s, part in splits.items()}
    assert sizes["train"] > sizes["test"] > 0


def test_motions_of_another_model_are_refused(tmp_path, fk):
    path = tmp_path / "other.npz"
    np.savez(path, coordinates=np.array(["knee", "hip"]), clip=np.zeros((10, 2)))
    with pytest.raises(BiokinError, match=r"other\.npz.*2 names.*39"):
        read_clips(path, fk.skeleton)


@pytest.mark.parametrize("degrees", [12.0, -8.0, 200.0])
def test_a_tilted_pelvis_leaves_thighs_and_trunk_as_they_are(degrees):
    skeleton = load_skeleton()
    rng = np.random.default_rng(0)
    fk = ForwardKinematics(skeleton, dtype=torch.float64)
    before = sample_motion(rng, "train", [], 30, fk, everyday=True).coordinates
    after = tilt_pelvis(before, np.radians(degrees), skeleton)
    frames = [fk(torch.from_numpy(q)) for q in (before, after)]
    for body in ("femur_r", "femur_l", "tibia_r", "torso", "hand_l"):
        one, other = (f.rotation[:, skeleton.body_index(body)] for f in frames)
        torch.testing.assert_close(one, other, atol=1e-6, rtol=0)
    pelvis = [f.rotation[:, skeleton.body_index("pelvis")] for f in frames]
    turn = (pelvis[0].transpose(1, 2) @ pelvis[1]).numpy()
    angle = np.degrees(np.arctan2(turn[:, 1, 0], turn[:, 0, 0]))
    np.testing.assert_allclose(turn[:, 2, 2], 1, atol=1e-9)  # about its own lateral axis
    np.testing.assert_allclose(angle, angle[0], atol=1e-6)
    if abs(degrees) < 100:
        np.testing.assert_allclose(angle, degrees, atol=1e-6)
    else:  # as far as the hips and the lumbar joint can follow
        columns = [
            skeleton.coordinate_index(n) for n in ("hip_flexion_r", "hip_flexion_l", "lumbar_extension")
        ]
        low, high = skeleton.coordinate_ranges[columns].T
        assert 0 < angle[0] < degrees
        assert np.isclose((after[:, columns] - low).min(), 0, atol=1e-6)
        assert ((after[:, columns] <= high + 1e-9) & (after[:, columns] >= low - 1e-9)).all()
    assert np.abs(np.diff(after, axis=0)).max() < np.abs(np.diff(before, axis=0)).max() + 0.1


def test_a_shifted_posture_moves_every_joint_by_the_same_in_all_frames():
    skeleton = load_skeleton()
    fk = ForwardKinematics(skeleton, dtype=torch.float64)
    sigma, shifts, turns = np.radians(6.0), [], []
    columns = [skeleton.coordinate_index(name) for name in CONSTRAINED]
    low, high = skeleton.coordinate_ranges[columns].T
    for seed in range(20):
        rng = np.random.default_rng(seed)
        before = sample_motion(rng, "train", [], 20, fk, everyday=True).coordinates
        after = shift_posture(before, rng, sigma, skeleton)
        change = (after - before)[:, columns]
        np.testing.assert_allclose(change, np.broadcast_to(change[0], change.shape), atol=1e-12)
        assert ((after[:, columns] <= high + 1e-9) & (after[:, columns] >= low - 1e-9)).all()
        frames = [fk(torch.from_numpy(q)) for q in (before, after)]
        humerus, torso = skeleton.body_index("humerus_r"), skeleton.body_index("torso")
        relative = [f.rotation[:, torso].transpose(1, 2) @ f.rotation[:, humerus] for f in frames]
        turn = relative[0].transpose(1, 2) @ relative[1]
        torch.testing.assert_close(turn, turn[:1].expand_as(turn), atol=1e-6, rtol=0)
        shifts.append(change[0])
        turns.append(np.arccos((np.trace(turn[0].numpy()) - 1) / 2))
        for name in ("pelvis_tilt", "pelvis_list", "pelvis_rotation", "pelvis_ty", "wrist_flex_r"):
            i = skeleton.coordinate_index(name)
            np.testing.assert_array_equal(after[:, i], before[:, i])
    # joints in the middle of their range are shifted by sigma, the others by less
    spread = np.std(shifts, axis=0)[[CONSTRAINED.index(n) for n in ("hip_adduction_r", "hip_flexion_l")]]
    assert (0.6 * sigma < spread).all() and (spread < 1.4 * sigma).all()
    assert 0.6 < np.sqrt(np.mean(np.square(turns)) / 3) / sigma < 1.4
