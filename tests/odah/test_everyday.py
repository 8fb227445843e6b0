"""Everyday actions: within the ranges, smooth, doing what their names say; limbs through limbs are found."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from odah.motions.actions import ACTIONS, perform
from odah.motions.everyday import ALL_ACTIONS, EVERYDAY_ACTIONS
from odah.motions.floor import stand_on_floor
from odah.motions.limbs import limb_penetration
from odah.motions.sampler import HELD_OUT_ACTIONS, sample_motion
from odah.motions.tracks import Tracks
from pose2sim_biokin.skeleton.angles import CONSTRAINED
from pose2sim_biokin.skeleton.kinematics import ForwardKinematics
from pose2sim_biokin.skeleton.model import load_skeleton


@pytest.fixture(scope="module")
def fk() -> ForwardKinematics:
    return ForwardKinematics(load_skeleton(), dtype=torch.float64)


def test_the_papers_actions_are_there():
    asked = {
        "squat",
        "jump",
        "sit",
        "reach",
        "throw",
        "kick",
        "wave",
        "cross_arms",
        "turn",
        "lunge",
        "side_step",
    }
    asked |= {"balance", "stretch", "pick_up", "step_up", "drink", "clap", "crawl", "hop", "march"}
    assert asked <= set(ALL_ACTIONS)
    assert not set(ACTIONS) & set(EVERYDAY_ACTIONS)


@pytest.mark.parametrize("name", EVERYDAY_ACTIONS)
def test_actions_keep_to_the_ranges_and_are_smooth(fk, name):
    skeleton = fk.skeleton
    q = perform(name, np.random.default_rng(11), 60, 30.0, ALL_ACTIONS).coordinates(skeleton)
    index = [skeleton.coordinate_index(n) for n in CONSTRAINED]
    low, high = skeleton.coordinate_ranges[index].T
    assert (q[:, index] >= low - 1e-9).all() and (q[:, index] <= high + 1e-9).all()
    q = stand_on_floor(q, None, fk, np.ones((22, 3)))
    frames = fk(torch.from_numpy(q))
    positions = fk.joint_centers(frames).numpy()
    assert np.linalg.norm(np.diff(positions, axis=0), axis=-1).max() * 30 < 15, "m/s"
    lowest = min(positions[..., 1].min(), fk.markers(frames)[..., 1].min())
    assert lowest > -0.02, "below the floor"


def test_actions_do_what_their_names_say(fk):
    skeleton = fk.skeleton

    def centers(name: str, seed: int) -> dict[str, np.ndarray]:
        tracks = perform(name, np.random.default_rng(seed), 120, 30.0, ALL_ACTIONS)
        tracks.curves["turn"] = np.zeros(120)
        q = stand_on_floor(tracks.coordinates(skeleton), None, fk, np.ones((22, 3)))
        found = fk.joint_centers(fk(torch.from_numpy(q))).numpy()
        return {n: found[:, i] for i, n in enumerate(skeleton.body_names)}

    for seed in range(3):
        drink = centers("drink", seed)
        mouth = drink["humerus_r"][:, 1] + 0.02
        assert (np.abs(drink["hand_r"][:, 1] - mouth) < 0.15).any()
        assert centers("pick_up", seed)["hand_r"][:, 1].min() < 0.45
        clap = centers("clap", seed)
        apart = np.linalg.norm(clap["hand_r"] - clap["hand_l"], axis=1)
        assert apart.min() < 0.25 < 0.3 < apart.max()
        crawl = centers("crawl", seed)
        assert (np.abs(crawl["pelvis"][:, 1] - crawl["torso"][:, 1]).min()) < 0.15
        assert centers("stretch", seed)["hand_l"][:, 1].max() > 1.8


def test_legs_and_arms_through_each_other_are_found(fk):
    def depth(curves: dict[str, float], **arms: tuple[float, float, float]) -> float:
        from odah.motions.arms import shoulder_matrix

        shoulders = {s: shoulder_matrix(np.tile(a, (8, 1)).astype(float)) for s, a in arms.items()}
        tracks = Tracks(8, {n: np.full(8, float(v)) for n, v in curves.items()}, shoulders)
        return limb_penetration(tracks.coordinates(fk.skeleton), fk)

    assert depth({}) == 0.0
    # hips 17 cm apart, legs 85 cm long: 6 degrees each bring the ankles together, capsules 2 x 3.5 cm thick
    assert depth({"add_r": 6, "add_l": 6}) == pytest.approx(0.07, abs=0.02)
    assert depth({"add_r": 6, "add_l": 6, "hip_r": 30}) < 0.03  # one leg before the other
    straight = {"elbow_r": 90, "elbow_l": 90}
    assert depth(straight, r=(20, 80, 60), l=(20, 80, 60)) > 0.03  # forearms through each other
    assert depth(straight, r=(20, 80, 0), l=(20, 80, 0)) == 0.0


def test_data_sets_draw_more_and_crops_what_they_drew(fk):
    def names(split: str, everyday: bool) -> list[str]:
        shares = {"action": 1.0, "gait": 0.0, "explore": 0.0, "recorded": 0.0}
        return [
            sample_motion(np.random.default_rng(i), split, [], 8, fk, 4.0, shares, everyday=everyday).name
            for i in range(40)
        ]

    assert set(names("test", True)) & set(EVERYDAY_ACTIONS)
    assert not set(names("train", True)) & set(HELD_OUT_ACTIONS)
    assert set(names("test", False)) <= set(ACTIONS)


def test_drawn_motions_keep_their_legs_apart(fk):
    depths = [
        limb_penetration(
            sample_motion(np.random.default_rng(i), "test", [], 24, fk, 10.0, everyday=True).coordinates, fk
        )
        for i in range(20)
    ]
    before = [
        limb_penetration(sample_motion(np.random.default_rng(i), "test", [], 24, fk, 10.0).coordinates, fk)
        for i in range(20)
    ]
    assert np.mean(np.array(depths) < 0.03) > 0.8
    assert np.mean(depths) < 0.6 * np.mean(before)
