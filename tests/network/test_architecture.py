"""The published network's shapes and size, and the switches of the fast one."""

from dataclasses import replace

import pytest
import torch

from pose2sim_biokin.errors import BiokinError
from pose2sim_biokin.network.biokin import (
    BiokinNetwork,
    FrameBatch,
    Refiner,
    blank_background,
    normalize_images,
)
from pose2sim_biokin.network.checkpoint import parameters
from pose2sim_biokin.network.heads import Pose
from pose2sim_biokin.network.presets import FAST, PAPER, Preset, get_preset
from pose2sim_biokin.skeleton import load_skeleton

SKELETON = load_skeleton()


def batch(preset: Preset, count: int = 2) -> FrameBatch:
    generator = torch.Generator().manual_seed(0)
    size = preset.size
    K = torch.tensor([[2.0 * size, 0, size / 2], [0, 2.0 * size, size / 2], [0, 0, 1]])
    first = torch.tensor([[0.0, -1, 0], [0, 0, -1], [1, 0, 0]])
    second = torch.tensor([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
    return FrameBatch(
        torch.randn(count, 2, 3, size, size, generator=generator),
        torch.ones(count, 2, 1, size, size),
        K.expand(count, 2, 3, 3),
        torch.stack([first, second]).expand(count, 2, 3, 3),
        torch.tensor([0, 0, 4.0]).expand(count, 2, 3),
        0.3 * torch.randn(count, preset.points.count, 3, generator=generator),
    )


def test_paper_shapes_and_size():
    network = BiokinNetwork(PAPER, SKELETON)
    encoder, seen = network.encoder.eval(), {}
    encoder.hourglass.stem[-1].register_forward_hook(lambda m, i, o: seen.update(stem=o.shape))
    encoder.points.shared.register_forward_hook(lambda m, i, o: seen.update(input=i[0].shape, shared=o.shape))
    encoder.points.dense.register_forward_hook(lambda m, i, o: seen.update(flat=i[0].shape, dense=o.shape))
    with torch.no_grad():
        maps, heats, _ = encoder.hourglass(torch.zeros(1, 3, 256, 256), None)
        out = encoder(batch(PAPER, 1))
    assert [tuple(m.shape) for m in maps] == [(1, 128, 128, 128)] * 4
    assert heats == [] and out.heatmaps == [] and out.keypoints is None
    assert seen["stem"] == (2, 256, 128, 128)
    assert seen["input"] == (1, 500, 1027) and seen["shared"] == (1, 500, 32)
    assert seen["flat"] == (1, 16000) and seen["dense"] == (1, 128)
    assert (
        out.feature.shape == (1, 102) and out.angles.shape == (1, 36) and out.pose.scales.shape == (1, 22, 3)
    )
    # The authors' released program: 14.42 M + 0.13 M (1x1 convolutions to 128), 2.88 M.
    assert parameters(encoder.hourglass) == pytest.approx(14.42e6 + 4 * (256 * 128 + 128), rel=0.002)
    assert parameters(encoder.points) + parameters(encoder.head) == 2_883_206
    assert sum(block is not None for block in encoder.hourglass.stem) == 6


def test_paper_refinement_shapes_and_size():
    network = BiokinNetwork(PAPER, SKELETON)
    refiner, seen = network.refiner.eval(), {}
    refiner.net.latent.register_forward_hook(lambda m, i, o: seen.update(latent=o.shape))
    refiner.net.encoder2.register_forward_hook(lambda m, i, o: seen.update(two=o.shape))
    angles = torch.zeros(1, 64, 36)
    pose = network.layout.pose(angles, torch.ones(1, 64, 22, 3), None)
    with torch.no_grad():
        refined, raw = refiner(pose, None)
    assert seen["two"] == (1, 96, 32, 1) and seen["latent"] == (1, 384, 8, 1)
    assert raw.shape == (1, 64, 36) and refined.scales.shape == (1, 1, 22, 3)
    assert [len(level) for level in (refiner.net.encoder1, refiner.net.encoder2, refiner.net.latent)] == [
        2,
        4,
        6,
    ]
    # The released program has blocks [4, 6, 6] and 14.52 M.
    released = PAPER.override({"refinement": {"blocks": [4, 6, 6]}})
    assert parameters(Refiner(released, network.layout)) == pytest.approx(14.52e6, rel=0.006)


def test_fast_outputs():
    torch.manual_seed(0)
    network = BiokinNetwork(FAST, SKELETON).eval()
    with torch.no_grad():
        out = network.encoder(batch(FAST))
    assert out.keypoints.shape == (2, 44 + 66, 3) and out.heatmaps[-1].shape == (2, 2, 44, 32, 32)
    assert out.pose.rotations.shape == (2, 3, 3, 3) and out.pose.pelvis.shape == (2, 3)
    eye = out.pose.rotations @ out.pose.rotations.transpose(-1, -2)
    torch.testing.assert_close(eye, torch.eye(3).expand_as(eye), atol=1e-5, rtol=0)
    assert parameters(network) < 6e6


@pytest.mark.parametrize(
    "values",
    [
        {"hourglass": {"norm": "group", "groups": 8}},
        {"hourglass": {"stacks": 2, "lean": False, "out_channels": 16}},
        {"points": {"triangulate": False, "markers": False}, "hands": {"channels": 0}},
        {"hourglass": {"heatmaps": False}, "pelvis": False, "rotations": False, "angle_spread": 0.0},
        {"hourglass": {"block": "hierarchical", "mask_channel": False}, "background": False},
    ],
)
def test_switches(values):
    preset = replace(FAST, size=32).override(values)
    network = BiokinNetwork(preset, SKELETON).eval()
    with torch.no_grad():
        out = network.encoder(batch(preset))
        pose = Pose(*(None if p is None else p[None] for p in out.pose))
        held = Pose(*(None if p is None else p[:, [0] * 64] for p in pose))
        refined, _ = network.refiner(held, out.local[None, [0] * 64, :44])
    assert torch.isfinite(out.angles).all() and out.angles.shape == (2, 36)
    assert (out.pose.pelvis is None) == (values.get("pelvis") is False)
    torch.testing.assert_close(refined.constrained, held.constrained, atol=1e-5, rtol=0)


def test_points_may_come_in_any_order():
    torch.manual_seed(0)
    network = BiokinNetwork(FAST, SKELETON).eval()
    one = batch(FAST)
    other = one._replace(points=one.points[:, torch.randperm(one.points.shape[1])])
    with torch.no_grad():
        a, b = network.encoder(one), network.encoder(other)
    torch.testing.assert_close(a.keypoints, b.keypoints, atol=1e-5, rtol=0)
    torch.testing.assert_close(a.pose.constrained, b.pose.constrained, atol=1e-5, rtol=0)


def test_preset_round_trip_and_unknown():
    assert Preset.from_dict(FAST.to_dict()) == FAST and get_preset("paper") is PAPER
    with pytest.raises(BiokinError, match="paper, fast"):
        get_preset("quick")
    with pytest.raises(BiokinError, match="colour"):
        FAST.override({"hourglass": {"colour": 3}})


def test_background_is_black_before_normalisation():
    images = torch.full((1, 3, 2, 2), 255, dtype=torch.uint8)
    masks = torch.tensor([[[[1, 0], [0, 0]]]])
    normal = blank_background(normalize_images(images), masks[:, None, 0])
    torch.testing.assert_close(
        normal[0, :, 0, 0], torch.tensor([(1 - 0.485) / 0.229, (1 - 0.456) / 0.224, (1 - 0.406) / 0.225])
    )
    torch.testing.assert_close(
        normal[0, :, 1, 1], torch.tensor([-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225])
    )
