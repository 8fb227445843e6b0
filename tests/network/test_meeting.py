"""Two views that look at each other in the encoder."""

import torch

from pose2sim_biokin.network.biokin import FrameBatch, FrameEncoder
from pose2sim_biokin.network.meeting import cell_rays
from pose2sim_biokin.network.points import project
from pose2sim_biokin.network.presets import FAST
from pose2sim_biokin.skeleton import load_skeleton
from tests.network.test_architecture import batch

ALONE = FAST.override({"hourglass": {"meeting": {"layers": 0}}})


def heatmaps(preset, frames: FrameBatch) -> torch.Tensor:
    torch.manual_seed(0)
    encoder = FrameEncoder(preset, load_skeleton()).eval()
    for name, weights in encoder.named_parameters():
        if "meeting.leave" in name:
            torch.nn.init.normal_(weights)
    with torch.no_grad():
        return encoder(frames).heatmaps[-1]


def test_one_view_is_read_in_the_light_of_the_other():
    frames = batch(FAST)
    images = frames.images.clone()
    images[:, 1] += 1
    other = frames._replace(images=images)
    for preset, moved in ((FAST, True), (ALONE, False)):
        difference = (heatmaps(preset, frames) - heatmaps(preset, other)).abs().amax((0, 2, 3, 4))
        assert difference[1] > 1e-3  # what is seen in a view changes its own maps
        assert (difference[0] > 1e-3) == moved


def test_the_order_of_the_views_does_not_matter_to_the_maps():
    frames = batch(FAST)
    swapped = FrameBatch(*(part.flip(1) for part in frames[:-1]), frames.points)
    torch.testing.assert_close(heatmaps(FAST, frames), heatmaps(FAST, swapped).flip(1), atol=1e-4, rtol=1e-4)


def test_cells_see_along_their_rays():
    """Points along a cell's ray are projected to its middle; the nearest point is square to the ray."""
    frames = batch(FAST)
    side, size = 4, FAST.size
    rays = cell_rays(frames.K, frames.R, frames.t, size, side)
    direction, nearest = rays.unflatten(1, (2, side * side)).split(3, -1)  # (B, 2, 16, 3)
    torch.testing.assert_close((direction * nearest).sum(-1), torch.zeros(2, 2, 16), atol=1e-5, rtol=0)
    middle = (torch.arange(side) + 0.5) * size / side - 0.5
    for view in range(2):
        for along in (-0.5, 0.7):
            pixels = project((nearest + along * direction)[:, view], frames.K, frames.R, frames.t)[:, view]
            torch.testing.assert_close(pixels[..., 0], middle.repeat(side).expand(2, -1), atol=1e-2, rtol=0)
            torch.testing.assert_close(
                pixels[..., 1], middle.repeat_interleave(side).expand(2, -1), atol=1e-2, rtol=0
            )
