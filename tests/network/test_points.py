"""Projection, sampling, heatmap peaks and intersection against closed forms."""

import torch

from pose2sim_biokin.network.points import (
    heatmap_peaks,
    intersect_rays,
    pixel_rays,
    project,
    sample_maps,
    solve3,
)
from pose2sim_biokin.network.unet import fold_time, unfold_time

K = torch.tensor([[200.0, 0, 31.5], [0, 200, 31.5], [0, 0, 1]]).expand(1, 2, 3, 3)
R = torch.stack(
    [torch.tensor([[0.0, -1, 0], [0, 0, -1], [1, 0, 0]]), torch.tensor([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])]
)[None]
T = torch.tensor([[[0, 0, 4.0], [0, 0, 5.0]]])


def test_project_by_hand():
    pixels = project(torch.tensor([[[0.0, 0.5, 0.25]]]), K, R, T)
    # View 0: camera (-0.5, -0.25, 4); view 1: camera (0, -0.25, 5.5).
    expected = torch.tensor([[[[31.5 - 25, 31.5 - 12.5]], [[31.5, 31.5 - 200 * 0.25 / 5.5]]]])
    torch.testing.assert_close(pixels, expected)


def test_sampling_a_linear_map_gives_its_value():
    size, side = 64, 16
    x = torch.arange(side, dtype=torch.float32) * (size - 1) / (side - 1)
    maps = torch.stack([x.expand(side, side), x[:, None].expand(side, side)])[None, None].expand(
        1, 2, 2, side, side
    )
    pixels = torch.tensor([[[[3.0, 50.0], [62.9, 0.1]], [[31.5, 31.5], [10.0, 20.0]]]])
    torch.testing.assert_close(sample_maps(maps, pixels, size), pixels, atol=1e-4, rtol=0)


def test_rays_of_a_point_meet_in_it():
    points = torch.randn(1, 20, 3, generator=torch.Generator().manual_seed(1)) * 0.5
    pixels = project(points, K, R, T)
    weights = torch.full((1, 2, 20), 0.5)
    met, miss = intersect_rays(pixels, weights, K, R, T, prior=points + 1.0, strength=0.0)
    torch.testing.assert_close(met, points, atol=2e-4, rtol=0)
    assert miss.max() < 1e-3
    # Half way between two rays that pass each other at 0.2 m, one above the other.
    apart = pixels[:, :, :1].clone()
    apart[:, 0, :, 1] -= 200 * 0.2 / 4
    met, miss = intersect_rays(apart, weights[..., :1], K, R, T, prior=points[:, :1], strength=0.0)
    assert torch.allclose(miss[0, 0], miss[0, 1], rtol=0.02) and 0.05 < miss[0, 0, 0] < 0.15


def test_solve3():
    a = torch.randn(5, 3, 3, generator=torch.Generator().manual_seed(0)) + 2 * torch.eye(3)
    b = torch.randn(5, 3, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(solve3(a, b), torch.linalg.solve(a, b), atol=1e-4, rtol=1e-4)


def test_peaks_of_a_gaussian():
    side, size, sigma = 32, 128, 1.5
    cells = torch.arange(side, dtype=torch.float32)
    logits = -((cells - 12.3) ** 2 + (cells[:, None] - 20.6) ** 2) / (2 * sigma**2)
    peaks = heatmap_peaks(logits.expand(1, 2, 1, side, side), size)
    torch.testing.assert_close(
        peaks.pixels[0, 0, 0], torch.tensor([12.3, 20.6]) * 127 / 31, atol=1e-2, rtol=0
    )
    torch.testing.assert_close(peaks.spread[0, 0, 0], torch.tensor(sigma * 2**0.5), atol=1e-2, rtol=0)


def test_folding_time_is_reversible():
    x = torch.randn(2, 6, 16, 1)
    folded = fold_time(x, 4)
    assert folded.shape == (2, 24, 4, 1)
    assert torch.equal(unfold_time(folded, 4), x)
    assert torch.equal(folded[0, :4, 0, 0], x[0, 0, :4, 0])


def test_geometry_keeps_its_digits_under_autocast():
    """Pixels of a point 4 m away, as in full precision: bfloat16 has a step of 0.03 m there."""
    K = torch.tensor([[180.0, 0, 63.5], [0, 180.0, 63.5], [0, 0, 1]]).expand(1, 2, 3, 3)
    R = torch.eye(3).expand(1, 2, 3, 3)
    t = torch.tensor([0.1234, -0.0567, 4.0123]).expand(1, 2, 3)
    points = torch.tensor([[[0.3217, 0.4321, 0.0987]]])
    with torch.autocast("cpu", torch.bfloat16):
        assert (points @ R[:, 0]).dtype == torch.bfloat16  # it is on
        pixels = project(points, K, R, t)
        direction, center = pixel_rays(pixels, K, R, t)
    x, y, z = 0.3217 + 0.1234, 0.4321 - 0.0567, 0.0987 + 4.0123
    wanted = torch.tensor([180 * x / z + 63.5, 180 * y / z + 63.5]).expand(1, 2, 1, 2)
    torch.testing.assert_close(pixels, wanted, atol=1e-4, rtol=0)
    ray = torch.tensor([x, y, z]) / (x * x + y * y + z * z) ** 0.5
    torch.testing.assert_close(direction, ray.expand(1, 2, 1, 3), atol=1e-6, rtol=0)
    torch.testing.assert_close(center[0, 0, 0], -t[0, 0])
