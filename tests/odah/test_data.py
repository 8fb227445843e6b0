"""Where training pairs come from: clips cut out into caches, pairs that workers render, both mixed."""

import json

import numpy as np
import pytest
import torch
from figures import SKELETON
from stick_data import render_sticks, write_dataset

from odah.cache import CacheSettings, cache_dataset, dense_step
from odah.cache import main as cache_main
from odah.clips import read_clip
from odah.dataset import FrameMaker, ShardSet, find_shards
from odah.live import LiveSettings, LiveShards
from odah.mixture import Mixture
from odah.settings import read_settings
from odah.stages import cached_folders
from odah.windows import drop_frames, window_rows
from pose2sim_biokin.errors import BiokinError
from pose2sim_biokin.network.biokin import blank_background, normalize_images
from pose2sim_biokin.network.heads import AngleLayout
from pose2sim_biokin.network.points import project
from pose2sim_biokin.skeleton.rotations import ground_to_world

NAMES = {"S0001/clip_0001": "train", "S0002/clip_0001": "val", "S0001/clip_0002": "train"}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("data") / "set", NAMES)


def test_crops_of_clips_are_pairs_with_their_truth(dataset, tmp_path):
    shards = ShardSet(cache_dataset(dataset, tmp_path / "cache", CacheSettings("train", 64, 2), log=str))
    assert len(shards) == 6 and find_shards([tmp_path / "cache"]) == shards.paths
    assert shards.column("clip").tolist() == [0, 0, 0, 2, 2, 2]
    assert shards.column("subject").tolist() == [10] * 3 + [12] * 3
    clip = read_clip(dataset / "S0001/clip_0002")
    raw = shards.rows(np.arange(3, 6))
    np.testing.assert_allclose(raw.coordinates, clip.motion.coordinates[::2], rtol=1e-5, atol=1e-6)
    labels = json.loads((shards.paths[1] / "manifest.json").read_text("utf-8"))["motions"]
    assert [labels[i] for i in shards.column("motion")[3:]] == ["action: a", "action: a", "gait: b"]
    # The person is red, the ground blue: colours are RGB, and what is behind the person is kept.
    assert raw.rgb[raw.mask > 0].mean(0)[0] > 150 > 100 > raw.rgb[raw.mask > 0].mean(0)[2]
    assert raw.rgb[raw.mask == 0].mean(0)[2] > 100
    # The truth, through the crop cameras, is on the person; what is behind it is there, and can be blanked.
    batch, truth = FrameMaker(AngleLayout(SKELETON), 64)(raw, np.random.default_rng(0))
    pixels = project(ground_to_world(truth.keypoints[:, :22]), batch.K, batch.R, batch.t).round().long()
    assert 0 <= pixels.min() and pixels.max() < 64
    hits = batch.masks.flatten(2).gather(2, pixels[..., 1] * 64 + pixels[..., 0])
    assert hits.mean() > 0.97
    pictures = torch.from_numpy(raw.rgb).permute(0, 1, 4, 2, 3)
    torch.testing.assert_close(batch.images, normalize_images(pictures), atol=0, rtol=0)
    blanked = blank_background(batch.images, batch.masks).movedim(2, -1)
    outside = batch.masks[:, :, 0] == 0
    assert (blanked[outside] == normalize_images(torch.zeros(3, 1, 1)).flatten()).all()
    torch.testing.assert_close(blanked[~outside], batch.images.movedim(2, -1)[~outside], atol=0, rtol=0)


def test_a_cache_grows_but_is_of_one_data_set(dataset, tmp_path, capsys):
    target = tmp_path / "cache"
    shards = cache_dataset(dataset, target, CacheSettings("train", 32), log=str)
    first = (shards[0] / "rgb.npy").stat().st_mtime_ns
    (shards[1] / "manifest.json").unlink()
    (shards[1] / "rgb.npy").unlink()
    for file in shards[1].iterdir():
        file.unlink()
    shards[1].rmdir()
    assert cache_dataset(dataset, target, CacheSettings("train", 32), workers=2, log=str) == shards
    assert (shards[0] / "rgb.npy").stat().st_mtime_ns == first and (shards[1] / "rgb.npy").is_file()
    with pytest.raises(BiokinError, match="made with size = 32"):
        cache_dataset(dataset, target, CacheSettings("train", 48))
    other = write_dataset(tmp_path / "other", {"S0001/clip_0001": "train"}, frames=3)
    with pytest.raises(BiokinError, match="clips of another data set"):
        cache_dataset(other, target, CacheSettings("train", 32))
    with pytest.raises(BiokinError, match="no clip of the split 'test'"):
        cache_dataset(dataset, tmp_path / "none", CacheSettings("test", 32))
    assert cache_main([str(dataset), "--output", str(tmp_path / "c"), "--size", "32", "--dense"]) == 0
    assert "12 pairs of 2 clips" in capsys.readouterr().out
    assert cache_main([str(tmp_path), "--output", str(tmp_path / "d")]) == 1
    assert "no readable manifest" in capsys.readouterr().err


def test_all_pairs_of_cameras_and_the_rate_of_windows(tmp_path):
    data = write_dataset(tmp_path / "set", {"S0001/clip_0001": "train"}, frames=8, fps=120, cameras=3)
    assert dense_step(data, "train") == 2
    shards = ShardSet(cache_dataset(data, tmp_path / "cache", CacheSettings("train", 32, 2), log=str))
    np.testing.assert_array_equal(window_rows(shards, 4), np.arange(12).reshape(3, 4))
    slow = ShardSet(cache_dataset(data, tmp_path / "slow", CacheSettings("train", 32, 1), log=str))
    with pytest.raises(BiokinError, match="120 frames a second; windows need 60"):
        window_rows(slow, 4)
    odd = write_dataset(tmp_path / "odd", {"S0001/clip_0001": "train"}, frames=2, fps=50)
    with pytest.raises(BiokinError, match="50 frames a second give none at 60 Hz"):
        dense_step(odd, "train")


def test_folders_of_clips_become_caches_beside_the_run(dataset, tmp_path):
    settings = read_settings(None)
    folders = cached_folders([tmp_path / "shards", dataset], "val", tmp_path / "run", settings)
    assert folders == [str(tmp_path / "shards"), str(tmp_path / "run" / "cache" / "1-set-val")]
    found = ShardSet(find_shards(folders[1:]))
    assert len(found) == 2 and found.rows(np.array([0])).rgb.shape == (1, 2, 128, 128, 3)


def test_rendered_pairs_come_in_an_order_of_their_own(tmp_path):
    """Two processes that train share the shards; each starts anywhere and gets the same."""
    live = LiveSettings(seed=3, subjects=5, size=16, workers=1, block=2)
    stream = LiveShards(live, tmp_path / "a", (1, 2), render_sticks)
    try:
        block = stream.block_pairs
        assert block == 64
        first = stream.rows(np.arange(40))
        rest = stream.rows(np.arange(40, block + 10))
        shard = np.round(1000 * (np.concatenate([first.scales, rest.scales])[:, 0, 0] - 1)).astype(int)
        assert sorted(set(shard[:block].tolist())) == [1, 3] and set(shard[block:].tolist()) <= {5, 7}
        assert len(set(shard[:16].tolist())) == 2  # shuffled
        assert len(np.unique(np.concatenate([first.coordinates, rest.coordinates]), axis=0)) == block + 10
        assert sorted(p.name for p in (tmp_path / "a").iterdir())[0] == "shard-00005"  # used ones are gone
    finally:
        stream.close()
    assert not (tmp_path / "a").exists()
    again = LiveShards(live, tmp_path / "b", (1, 2), render_sticks)
    try:
        np.testing.assert_array_equal(again.rows(np.arange(block, block + 10)).rgb, rest.rgb[-10:])
        mixture = Mixture([], 8, 0, None, again, 1.0)
        mixture.starts = [block]
        np.testing.assert_array_equal(mixture.raw(0, 0).coordinates, rest.coordinates[block - 40 :][:8])
    finally:
        again.close()
    with pytest.raises(BiokinError, match="render_seed is 100"):
        LiveShards(LiveSettings(100, 5, 16), tmp_path / "c")


def test_dropped_frames_show_what_was_seen_before(dataset, tmp_path):
    shards = ShardSet(cache_dataset(dataset, tmp_path / "cache", CacheSettings("train", 32), log=str))
    raw = shards.rows(np.arange(6))
    assert drop_frames(raw, 0.0, np.random.default_rng(0)).rgb.tobytes() == raw.rgb.tobytes()
    dropped = drop_frames(raw, 1.0, np.random.default_rng(1))
    np.testing.assert_array_equal(dropped.coordinates, raw.coordinates)
    changed = 0
    for view in range(2):
        seen = 0
        for frame in range(6):
            same = [(dropped.t[frame, view] == raw.t[k, view]).all() for k in range(6)]
            assert any(same)
            k = int(np.argmax(same))
            np.testing.assert_array_equal(dropped.rgb[frame, view], raw.rgb[k, view])
            assert seen <= k <= frame  # never from the future, never backwards
            seen, changed = k, changed + (k != frame)
    assert changed >= 2
    assert torch.equal(torch.from_numpy(dropped.mask[0]), torch.from_numpy(raw.mask[0]))
