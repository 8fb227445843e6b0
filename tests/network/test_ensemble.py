"""One network asked several times: what it is shown, how its answers come back, how they are joined."""

import numpy as np
import pytest
import torch
from figures import SKELETON
from network_poses import LAYOUT, poses

from pose2sim_biokin.network.biokin import BiokinNetwork, FrameBatch
from pose2sim_biokin.network.ensemble import (
    PLAIN,
    VARIANTS,
    Answer,
    Variant,
    encode,
    join_answers,
    mirrored,
    shown,
    turned,
)
from pose2sim_biokin.network.hands import HandDirections, across, wrist_sides
from pose2sim_biokin.network.points import project
from pose2sim_biokin.network.presets import FAST, FitSize
from pose2sim_biokin.skeleton import ForwardKinematics
from pose2sim_biokin.skeleton.angles import angles_to_coordinates
from pose2sim_biokin.skeleton.mirror import mirror_markers
from pose2sim_biokin.skeleton.rotations import ground_to_world, world_to_ground
from pose2sim_biokin.vision.canonical import canonical_frame, to_canonical

KINEMATICS = ForwardKinematics(SKELETON)
OTHERS = Variant(True, True), Variant(True, False), Variant(False, True)


def frames(count: int = 3, size: int = 128, seed: int = 0) -> FrameBatch:
    """Noise before cameras 4 m away, in the canonical frame."""
    rng = np.random.default_rng(seed)
    R = np.empty((count, 2, 3, 3))
    for i, v in np.ndindex(count, 2):
        heading, down = rng.uniform(0, 6), rng.uniform(-0.3, 0.1)
        z = np.array([np.cos(heading), np.sin(heading), down]) / np.hypot(1, down)
        x = np.cross(z, [0, 0, 1.0]) / np.hypot(*z[:2])
        R[i, v] = [x, np.cross(z, x), z]
    K = np.array([[2.0 * size, 0, size / 2], [0, 2.0 * size, 0.45 * size], [0, 0, 1]])
    K, t = np.tile(K, (count, 2, 1, 1)), np.tile([0, 0, 4.0], (count, 2, 1))
    K, R, t = (torch.as_tensor(a, dtype=torch.float32) for a in (K, R, t))
    generator = torch.Generator().manual_seed(seed)
    points = 0.3 * torch.randn(count, 64, 3, generator=generator)
    R, t, points = to_canonical(canonical_frame(torch.zeros(count, 3), R[:, 0]), R, t, points)
    images = torch.randn(count, 2, 3, size, size, generator=generator)
    masks = (torch.rand(count, 2, 1, size, size, generator=generator) > 0.3).float()
    return FrameBatch(images, masks, K, R, t, points)


def posed(count: int, seed: int) -> Answer:
    """An answer that agrees with itself: the keypoints and hands are those of its pose."""
    pose = poses(count, seed)
    body = KINEMATICS(angles_to_coordinates(LAYOUT.angles(pose), SKELETON), pose.scales)
    points = [KINEMATICS.keypoints(body, pose.scales), KINEMATICS.markers(body, pose.scales)]
    keypoints = torch.cat(points, 1) - body.position[:, :1] + pose.pelvis[:, None]
    generator = torch.Generator().manual_seed(seed)
    doubt = 0.01 + 0.02 * torch.rand(keypoints.shape[:2], generator=generator)
    forearm = [SKELETON.body_index(f"{body}_{side}") for body in ("hand", "ulna") for side in "rl"]
    axis = torch.nn.functional.normalize(keypoints[:, forearm[:2]] - keypoints[:, forearm[2:]], dim=-1)
    hands = HandDirections(across(wrist_sides(keypoints, SKELETON), axis), axis, 1 + 5 * torch.rand(count, 2))
    return Answer(pose, keypoints, doubt, hands)


def test_markers_have_mirror_images():
    names = list(SKELETON.marker_names)
    image = mirror_markers(names)
    np.testing.assert_array_equal(image[image], np.arange(len(names)))
    assert names[image[names.index("RFAradius")]] == "LFAradius"
    assert names[image[names.index("L_tibial_plateau")]] == "R_tibial_plateau"
    assert {names[i] for i in np.flatnonzero(image == np.arange(len(names)))} == {"C7", "CLAV"}


@pytest.mark.parametrize("variant", OTHERS)
def test_what_is_shown(variant):
    """Points are seen where the mirrored, exchanged pictures show them; the frame is canonical."""
    batch = frames()
    other, turn = shown(batch, variant)
    pixels, there = (project(b.points, b.K, b.R, b.t) for b in (batch, other))
    images = batch.images
    if variant.mirror:
        pixels = torch.stack([127 - pixels[..., 0], pixels[..., 1]], -1)
        images = images.flip(-1)
    if variant.swap:
        pixels, images = pixels.flip(1), images.flip(1)
    torch.testing.assert_close(there, pixels, atol=2e-3, rtol=0)
    assert torch.equal(other.images, images)
    for R in (batch.R, other.R):  # the first view looks along X
        forward = R[:, 0, 2] / R[:, 0, 2, :2].norm(dim=-1, keepdim=True)
        torch.testing.assert_close(forward[:, :2], torch.tensor([[1.0, 0.0]]).expand(3, 2), atol=1e-5, rtol=0)
    assert (torch.linalg.det(other.R) > 0.99).all()
    # where its ground lies
    flip = torch.tensor([-1.0 if variant.mirror else 1.0, 1.0, 1.0])
    wanted = world_to_ground(batch.points * flip)
    found = world_to_ground(other.points) @ turn.transpose(-1, -2)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=0)
    torch.testing.assert_close(ground_to_world(wanted) * flip, batch.points)


def test_an_answer_in_a_mirror_still_agrees_with_itself():
    answer = posed(5, 1)
    other = mirrored(answer, SKELETON)
    body = KINEMATICS(angles_to_coordinates(LAYOUT.angles(other.pose), SKELETON), other.pose.scales)
    joints = KINEMATICS.keypoints(body, other.pose.scales)
    markers = KINEMATICS.markers(body, other.pose.scales)
    points = torch.cat([joints, markers], 1) - body.position[:, :1] + other.pose.pelvis[:, None]
    # the markers of the real model are not quite symmetric
    torch.testing.assert_close(points[:, :44], other.keypoints[:, :44], atol=2e-5, rtol=0)
    assert (points - other.keypoints)[:, 44:].norm(dim=-1).median() < 0.01
    assert (other.keypoints - answer.keypoints).norm(dim=-1).max() > 0.3
    sides = across(wrist_sides(other.keypoints, SKELETON), other.hands.axis)
    torch.testing.assert_close(other.hands.direction, sides, atol=1e-4, rtol=0)
    wrist, elbow = (other.keypoints[:, SKELETON.body_index(f"{body}_l")] for body in ("hand", "ulna"))
    along = torch.nn.functional.normalize(wrist - elbow, dim=-1)
    torch.testing.assert_close(other.hands.axis[:, 1], along, atol=1e-4, rtol=0)
    torch.testing.assert_close(other.hands.concentration[:, 1], answer.hands.concentration[:, 0])
    radius, left = (SKELETON.body_index(f"radius_{side}") for side in "rl")
    torch.testing.assert_close(other.doubt[:, left], answer.doubt[:, radius])
    for part, again in zip(answer, mirrored(other, SKELETON), strict=True):
        torch.testing.assert_close(again, part)


def test_joined_keypoints_are_weighted_by_how_sure_they_are():
    one = posed(2, 3)
    two = one._replace(keypoints=one.keypoints + 0.08, doubt=3 * one.doubt)
    joined = join_answers([one, two])
    torch.testing.assert_close(joined.keypoints, one.keypoints + 0.02)
    # a third of the distances 0.02 and 0.06 sqrt(3), weighted; and what both expect: 1.5 times the first's
    apart = 3 * (0.75 * 0.02**2 + 0.25 * 0.06**2) / 9
    torch.testing.assert_close(joined.doubt, ((1.5 * one.doubt).square() + apart).sqrt())


def test_joined_hands_are_the_product_of_their_distributions():
    """In units of one answer; on a grid of angles about an axis that both have, one of them reversed."""
    axis = torch.tensor([0.0, 0.6, 0.8])
    base = torch.stack([torch.tensor([1.0, 0, 0]), torch.linalg.cross(axis, torch.tensor([1.0, 0, 0]))])
    angle, k = torch.tensor([[0.3, -1.0], [1.2, -0.5]]), torch.tensor([[4.0, 1.0], [2.0, 3.0]])
    answers = []
    for i, sign in enumerate((1.0, -1.0)):
        direction = torch.stack([angle[i].cos(), angle[i].sin()], -1) @ base
        hands = HandDirections(direction[None], (sign * axis).expand(1, 2, 3), k[i : i + 1])
        answers.append(Answer(poses(1, 0), None, None, hands))
    joined = join_answers(answers).hands
    grid = torch.linspace(-np.pi, np.pi, 20001)
    for arm in range(2):
        log = (k[:, arm, None] * (grid - angle[:, arm, None]).cos()).mean(0)
        best = torch.stack([grid[log.argmax()].cos(), grid[log.argmax()].sin()]) @ base
        torch.testing.assert_close(joined.direction[0, arm], best, atol=1e-3, rtol=0)
        torch.testing.assert_close(joined.concentration[0, arm], log.max(), atol=1e-3, rtol=0)
        torch.testing.assert_close(joined.axis[0, arm], axis)


@pytest.fixture(scope="module")
def network() -> BiokinNetwork:
    """Untrained, with a look that moves keypoints and a fit."""
    torch.manual_seed(0)
    network = BiokinNetwork(FAST.override({"refinement": None, "fit": {}}), SKELETON).eval()
    assert network.fit.size == FitSize()
    for look in (network.encoder.look, *network.encoder.further):
        torch.nn.init.normal_(look.leave.weight, std=0.1)
    network.fit.keypoint_sigma.fill_(2.0)
    network.fit.pose_sigma.fill_(0.2)
    return network


@torch.no_grad()
def test_what_is_asked_in_all_ways_does_not_depend_on_the_first_one(network):
    """Frames, and the same in a mirror with the views exchanged, get the same answer."""
    batch = frames()
    ways = (PLAIN, *OTHERS)
    pose, local = encode(network, batch, ways)
    alone, _ = encode(network, batch, [PLAIN])
    # it makes a difference
    assert (alone.constrained - pose.constrained).abs().max() > 0.1
    assert (alone.rotations - pose.rotations).abs().max() > 0.1
    for variant in OTHERS:
        other, turn = shown(batch, variant)
        found, other_local = encode(network, other, ways)
        answer = turned(Answer(found, None, None, None), turn)
        if variant.mirror:
            answer = mirrored(answer, SKELETON)
        else:
            torch.testing.assert_close(other_local, local, atol=2e-3, rtol=0)
        for part, wanted in zip(answer.pose, pose, strict=True):
            torch.testing.assert_close(part, wanted, atol=1e-2, rtol=0)


@torch.no_grad()
def test_the_same_answer_twice_is_that_answer(network):
    batch = frames(2, seed=5)
    once, twice = (encode(network, batch, [PLAIN] * count) for count in (1, 2))
    for part, wanted in zip((*twice[0], twice[1]), (*once[0], once[1]), strict=True):
        torch.testing.assert_close(part, wanted, atol=1e-3, rtol=0)


@torch.no_grad()
def test_in_use_exchanging_and_mirroring_make_no_difference(network):
    batch = frames(2, seed=6)
    pose, _ = encode(network, batch)
    other, turn = shown(batch, VARIANTS[1])
    found, _ = encode(network, other)
    answer = mirrored(turned(Answer(found, None, None, None), turn), SKELETON)
    for part, wanted in zip(answer.pose, pose, strict=True):
        torch.testing.assert_close(part, wanted, atol=1e-2, rtol=0)
