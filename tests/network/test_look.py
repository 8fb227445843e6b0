"""The second look at keypoints: where it samples, how it moves, what does not matter to it."""

import numpy as np
import pytest
import torch
from figures import SKELETON

from pose2sim_biokin.errors import BiokinError
from pose2sim_biokin.network.biokin import FrameEncoder
from pose2sim_biokin.network.look import Looked, SecondLook
from pose2sim_biokin.network.points import project
from pose2sim_biokin.network.presets import FAST, PAPER
from tests.network.test_architecture import batch
from tests.network.test_hands import views

SIZE, KEYPOINTS = 128, 12


def a_look(seed: int = 0) -> SecondLook:
    """One that moves keypoints, as after some training."""
    torch.manual_seed(seed)
    look = SecondLook(FAST.look, 5, 7, KEYPOINTS).eval()
    torch.nn.init.normal_(look.leave.weight, std=0.05)
    return look


def maps(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Early and late maps of both views."""
    generator = torch.Generator().manual_seed(5)
    return (
        torch.randn(2 * count, 5, 64, 64, generator=generator),
        torch.randn(2 * count, 7, 32, 32, generator=generator),
    )


def keypoints(count: int) -> torch.Tensor:
    """(count, K, 3) m, about the point that the cameras look at."""
    return 0.3 * torch.randn(count, KEYPOINTS, 3, generator=torch.Generator().manual_seed(6))


@torch.no_grad()
def test_at_first_nothing_moves():
    look = SecondLook(FAST.look, 5, 7, KEYPOINTS)
    points = keypoints(2)
    moved, doubt, known = look(points, *maps(2), views(2), SIZE)
    torch.testing.assert_close(moved, points, atol=0, rtol=0)
    torch.testing.assert_close(doubt, torch.full((2, KEYPOINTS), 0.01))
    further = SecondLook(FAST.look, 5, 7, KEYPOINTS, further=True)
    before = Looked(points, doubt * torch.rand(2, KEYPOINTS), known)
    moved, doubt, _ = further(points, *maps(2), views(2), SIZE, before)
    torch.testing.assert_close(moved, points, atol=0, rtol=0)
    torch.testing.assert_close(doubt, before.doubt, atol=0, rtol=0)


@torch.no_grad()
def test_a_keypoint_moves_across_the_picture_that_says_so():
    """One output moves it to the right in the first view, one down in the second: so it is seen there."""
    look = SecondLook(FAST.look, 5, 7, KEYPOINTS)
    points, cameras = keypoints(3), views(3)
    before = project(points, *cameras)
    for output, view, axis in ((0, 0, 0), (3, 1, 1)):
        look.leave.bias.zero_()
        look.leave.bias[output] = 0.5
        moved = look(points, *maps(3), cameras, SIZE).keypoints
        way = (project(moved, *cameras) - before)[:, view]
        depth = (points @ cameras[1][:, view].transpose(-1, -2) + cameras[2][:, view, None])[..., 2]
        torch.testing.assert_close(way[..., axis], 180 * 0.05 / depth, atol=1e-3, rtol=0)  # 5 cm
        torch.testing.assert_close(way[..., 1 - axis], torch.zeros_like(depth), atol=1e-3, rtol=0)


@torch.no_grad()
def test_only_what_lies_about_a_keypoint_is_read():
    """Without the other keypoints' part (no attention), a change of the maps reaches those near it alone."""
    look = SecondLook(FAST.look, 5, 7, KEYPOINTS).eval()
    torch.nn.init.normal_(look.leave.weight)
    look.layers = torch.nn.ModuleList()
    points, cameras, (early, late) = keypoints(1), views(1), maps(1)
    pixels = project(points, *cameras)[0]
    for which, reach in ((0, 3.0), (1, 6.0)):
        changed = [early.clone(), late.clone()]
        cell = SIZE / changed[which].shape[-1]
        u, v = (pixels[1, 4] / cell).round().int().tolist()
        changed[which][1, :, v, u] += 3.0  # in the second view, where keypoint 4 is
        before, after = (look(points, *pair, cameras, SIZE)[0][0] for pair in ((early, late), changed))
        moved = (after - before).norm(dim=-1) > 1e-6
        away = (pixels[1] - pixels[1, 4]).norm(dim=-1)
        assert moved[4] and not moved[away > reach + 2.5 * cell].any()
        assert (away > reach + 2.5 * cell).sum() >= 4


@torch.no_grad()
def test_the_place_and_the_heading_of_the_world_do_not_matter():
    look, (K, R, t), points = a_look(), views(3), keypoints(3)
    angle = torch.tensor(1.1)
    turn = torch.tensor([[angle.cos(), -angle.sin(), 0], [angle.sin(), angle.cos(), 0], [0, 0, 1.0]])
    shift = torch.tensor([0.4, -2.0, 0.3])
    other = R @ turn.T, t - (R @ turn.T @ shift[:, None])[..., 0]
    here, doubt, _ = look(points, *maps(3), (K, R, t), SIZE)
    there, same, _ = look(points @ turn.T + shift, *maps(3), (K, *other), SIZE)
    assert (here - points).norm(dim=-1).min() > 1e-4
    torch.testing.assert_close(there, here @ turn.T + shift, atol=1e-4, rtol=0)
    torch.testing.assert_close(same, doubt, atol=1e-5, rtol=1e-3)


def test_all_keypoints_are_looked_at_and_what_they_say_reaches_the_pose():
    torch.manual_seed(0)
    encoder = FrameEncoder(FAST, SKELETON).eval()
    frames = batch(FAST)
    with torch.no_grad():
        before = encoder(frames)
        torch.nn.init.normal_(encoder.look.leave.weight, std=0.1)
        after = encoder(frames)
    assert after.doubt.shape == after.keypoints.shape[:2] == (2, 110)
    assert (after.keypoints - before.keypoints).norm(dim=-1).min() > 1e-3
    assert not np.allclose(after.pose.constrained, before.pose.constrained, atol=1e-6)
    unsure = (after.doubt[:, :44] / 0.01).log() / 2
    torch.testing.assert_close(after.local[..., 3], unsure)


@torch.no_grad()
def test_a_further_look_begins_where_the_one_before_ended_and_knows_what_it_knew():
    look, points, cameras = a_look(), keypoints(2), views(2)
    first = look(points, *maps(2), cameras, SIZE)
    torch.manual_seed(1)
    further = SecondLook(FAST.look, 5, 7, KEYPOINTS, further=True).eval()
    torch.nn.init.normal_(further.leave.weight, std=0.05)
    second = further(first.keypoints, *maps(2), cameras, SIZE, first)
    forgot = further(first.keypoints, *maps(2), cameras, SIZE, first._replace(known=0 * first.known))
    surer = further(first.keypoints, *maps(2), cameras, SIZE, first._replace(doubt=first.doubt / 2))
    for other in (first, forgot):
        assert (second.keypoints - other.keypoints).norm(dim=-1).min() > 1e-4
    torch.testing.assert_close(surer.doubt, second.doubt / 2)
    torch.testing.assert_close(surer.keypoints, second.keypoints)

    torch.manual_seed(0)
    encoder = FrameEncoder(FAST.override({"look": {"further": 2}}), SKELETON).eval()
    frames = batch(FAST)
    before = encoder(frames)
    for layer in encoder.further:
        torch.nn.init.normal_(layer.leave.weight, std=0.1)
    after = encoder(frames)
    assert (after.keypoints - before.keypoints).norm(dim=-1).min() > 1e-3
    assert not torch.allclose(after.doubt, before.doubt)


def test_a_look_needs_keypoints():
    with pytest.raises(BiokinError, match="look"):
        FrameEncoder(PAPER.override({"look": {"width": 8}}), SKELETON)
