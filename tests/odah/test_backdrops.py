"""What stands behind the people of training crops: drawn, read, and put behind them."""

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from figures import SKELETON, write_shard

from odah.augment import Augmentation, in_front_of, somebody_else
from odah.backdrops import Backdrops, draw, main, write_backdrops
from odah.dataset import ShardSet, find_shards
from odah.settings import read_settings, with_backdrops
from odah.windows import window_frames
from pose2sim_biokin.errors import BiokinError
from pose2sim_biokin.network.biokin import FrameEncoder
from pose2sim_biokin.network.heads import AngleLayout
from pose2sim_biokin.network.presets import FAST
from tests.network.test_architecture import batch

STILL = dict.fromkeys(
    "crop mask occlude light blur jpeg noise calibration camera crowd mirror swap drop".split(), 0.0
)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """Backdrops of which each is of one colour, none of it dark: 1, 2, ... times (10, 20, 3)."""
    path = tmp_path_factory.mktemp("backdrops") / "plain.npy"
    np.save(
        path,
        np.full((8, 80, 80, 3), [10, 20, 3]).astype(np.uint8)
        * np.arange(1, 9)[:, None, None, None].astype(np.uint8),
    )
    return path


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cache")
    write_shard(folder / "shard-00000", 8, 64, seed=1)
    return ShardSet(find_shards([folder]))


def test_backdrops_are_drawn_by_number_and_kept(tmp_path):
    photographs = tmp_path / "photographs"
    photographs.mkdir()
    assert main(["--output", str(tmp_path / "x.npy"), "--photographs", str(photographs)]) == 1  # none there
    assert not (tmp_path / "x.npy").exists()
    write_backdrops(tmp_path / "x.npy", 60, 40, 3, None, 2)
    found = np.load(tmp_path / "x.npy")
    assert found.shape == (60, 40, 40, 3) and found.dtype == np.uint8
    np.testing.assert_array_equal(draw([55, 2], 40, 3, []), found[[55, 2]])
    assert len({picture.tobytes() for picture in found}) == 60
    assert json.loads((tmp_path / "x.json").read_text("utf-8"))["count"] == 60
    with pytest.raises(BiokinError, match=r"\.npy"):
        write_backdrops(tmp_path / "x.json", 1, 40, 0, None, 1)
    with pytest.raises(BiokinError, match="exists"):
        write_backdrops(tmp_path / "x.npy", 1, 40, 0, None, 1)
    piece = Backdrops(tmp_path / "x.npy")(64, 0, np.random.default_rng(0))
    assert piece.shape == (64, 64, 3) and piece.dtype == np.uint8


def test_what_is_no_file_of_backdrops(tmp_path):
    np.save(tmp_path / "flat.npy", np.zeros((3, 4)))
    for name in ("none.npy", "flat.npy"):
        with pytest.raises(BiokinError, match=f"{name}.*odah backdrops|{name}.*make backdrops"):
            Backdrops(tmp_path / name)
    with pytest.raises(BiokinError, match="backdrops"):
        Augmentation(SKELETON, scene=0.5)
    (tmp_path / "x.toml").write_text('[augmentation]\nscene = 1.0\nbackdrops = "b.npy"\n', encoding="utf-8")
    settings = read_settings(tmp_path / "x.toml")
    assert settings.augmentation["backdrops"] == str(tmp_path / "b.npy")
    assert with_backdrops(settings, "other.npy").augmentation["backdrops"] == "other.npy"
    assert with_backdrops(settings, None) is settings


def test_a_person_stands_in_front():
    """Red in front of blue: their own within, the other's without, between the two along the outline."""
    mask = np.zeros((32, 32), np.uint8)
    mask[8:24, 10:20] = 1
    person = np.zeros((32, 32, 3), np.uint8)
    person[mask > 0] = (200, 0, 0)
    behind = np.full((32, 32, 3), (0, 0, 200), np.uint8)
    seen = in_front_of(behind, person, mask)
    np.testing.assert_array_equal(seen[9:23, 11:19], person[9:23, 11:19])
    far = np.ones_like(mask)
    far[7:25, 9:21] = 0
    np.testing.assert_array_equal(seen[far > 0], behind[far > 0])
    edge = seen[7, 12:18].astype(int)  # the row above the person: more of what is behind, none of it black
    assert (edge[:, 2] > edge[:, 0]).all() and (edge[:, 0] > 10).all()
    assert (np.abs(seen[..., 0].astype(int) + seen[..., 2] - 200) <= 2).all()
    for seed in range(6):  # somebody else is to one side, in part at least
        other = somebody_else(behind, person, mask, np.random.default_rng(seed))
        columns = np.nonzero(other[..., 0] > 150)[1]
        assert len(columns) < 200 and (len(columns) == 0 or abs(columns.mean() - 15.5) > 5)


def test_whole_pictures_and_blanked_ones(shards, file):
    raw = shards.rows(np.arange(8))
    whole = Augmentation(SKELETON, **STILL | {"scene": 1.0, "backdrops": str(file)})(
        raw, np.random.default_rng(0)
    )
    blanked = Augmentation(SKELETON, **STILL)(raw, np.random.default_rng(0))
    np.testing.assert_array_equal(whole.mask, raw.mask)
    for i in range(8):
        for v in range(2):
            rgb, mask = whole.rgb[i, v], raw.mask[i, v] > 0
            number = rgb[0, 0, 1] // 20
            far = np.ones_like(mask)
            y, x = np.nonzero(mask)
            far[max(y.min() - 2, 0) : y.max() + 3, max(x.min() - 2, 0) : x.max() + 3] = False
            assert 1 <= number <= 8 and (rgb[far] == np.array([10, 20, 3]) * number).all()
    assert not blanked.rgb[raw.mask == 0].any()
    seen_before = raw._replace(rgb=np.where(raw.mask[..., None] > 0, raw.rgb, 77))
    kept = Augmentation(SKELETON, **STILL | {"scene": 1.0, "backdrops": str(file)})(
        seen_before, np.random.default_rng(0)
    )
    np.testing.assert_array_equal(kept.rgb, seen_before.rgb)  # what the camera saw is no backdrop's place


def test_what_the_mask_lost_is_still_seen_and_what_is_hidden_is_not(shards, file):
    raw = shards.rows(np.arange(8))
    scene = {"scene": 1.0, "backdrops": str(file)}
    for change, seen in (({"mask": 1.0}, True), ({"occlude": 1.0}, False)):
        varied = Augmentation(SKELETON, **STILL | scene | change)(raw, np.random.default_rng(0))
        own = []
        for i, v in np.ndindex(8, 2):
            inner = cv2.erode(raw.mask[i, v], np.ones((3, 3), np.uint8))  # the outline is mixed
            lost = (inner > 0) & (varied.mask[i, v] == 0)
            own.append(np.abs(varied.rgb[i, v][lost].astype(int) - raw.rgb[i, v][lost]).max(-1) < 3)
        own = np.concatenate(own)
        assert len(own) > 100
        assert own.mean() > 0.99 if seen else own.mean() < 0.1


def test_cameras_of_a_window_stand_still(tmp_path, file):
    write_shard(tmp_path / "shard-00000", 12, 64, seed=3)
    shards = ShardSet(find_shards([tmp_path]))
    augmentation = Augmentation(SKELETON, **STILL | {"scene": 1.0, "backdrops": str(file)})
    different = set()
    for seed in range(4):
        frames, _ = window_frames(
            AngleLayout(SKELETON), 16, shards, np.arange(12), augmentation, np.random.default_rng(seed)
        )
        corners = frames.images[:, :, :, 0, 0]  # (12, 2, 3)
        assert (corners == corners[:1]).all()
        different.add(tuple(corners[0].flatten().tolist()))
    assert len(different) > 1


def test_the_network_sees_the_surroundings_or_not():
    frames = batch(FAST)
    masks = torch.zeros_like(frames.masks)
    masks[..., 30:100, 40:90] = 1
    other = frames.images + 2 * (masks == 0)
    for background, seen in ((True, True), (False, False)):
        torch.manual_seed(0)
        encoder = FrameEncoder(replace(FAST, background=background), SKELETON).eval()
        with torch.no_grad():
            maps = [
                encoder(frames._replace(images=i, masks=masks)).heatmaps[-1] for i in (frames.images, other)
            ]
        assert torch.allclose(*maps, atol=1e-6) != seen
    with pytest.raises(BiokinError, match="mask_channel"):
        FrameEncoder(FAST.override({"hourglass": {"mask_channel": False}}), SKELETON)
