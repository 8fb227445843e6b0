"""Batches: truth in the canonical frame, mirroring, and what decides the random numbers."""

import pickle

import numpy as np
import pytest
import torch
from figures import KINEMATICS, SKELETON, random_coordinates, write_shard

from odah.augment import Augmentation, leaked, wrong_calibration
from odah.dataset import FrameMaker, ShardSet, find_shards, ordered_batches
from odah.mask_noise import MaskNoise
from odah.mixture import Mixture, epoch_batches
from pose2sim_biokin.errors import BiokinError
from pose2sim_biokin.network.heads import AngleLayout
from pose2sim_biokin.network.points import project
from pose2sim_biokin.skeleton.angles import angles_to_coordinates
from pose2sim_biokin.skeleton.mirror import mirror_cameras, mirror_coordinates, mirror_indices
from pose2sim_biokin.skeleton.rotations import ground_to_world

LAYOUT = AngleLayout(SKELETON)
STILL = dict.fromkeys(
    ("crop", "mask", "occlude", "light", "blur", "jpeg", "noise", "calibration", "camera"), 0.0
)


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cache")
    write_shard(folder / "shard-00000", 12, 64, seed=1)
    write_shard(folder / "shard-00001", 8, 64, seed=2)
    return ShardSet(find_shards([folder]))


def test_another_process_maps_the_pictures_itself(shards):
    """What a spawned worker is sent is short, and shows the same pairs."""
    sent = pickle.dumps(shards)
    assert len(sent) < 1000 < shards.arrays[0]["rgb"].nbytes
    indices = np.array([13, 2, 7])
    for a, b in zip(shards.rows(indices), pickle.loads(sent).rows(indices), strict=True):
        np.testing.assert_array_equal(a, b)


def batch_of(shards, augmentation=None, seed=0):
    maker = FrameMaker(LAYOUT, 64, augmentation)
    return maker(shards.rows(np.arange(len(shards))), np.random.default_rng(seed))


def share_on_person(batch, truth):
    """Share of joint centres that project on the mask: the figure is drawn along them."""
    pixels = project(ground_to_world(truth.keypoints[:, :22]), batch.K, batch.R, batch.t).round().long()
    size = batch.masks.shape[-1]
    inside = ((pixels >= 0) & (pixels < size)).all(-1)
    pixels = pixels.clamp(0, size - 1)
    index = pixels[..., 1] * size + pixels[..., 0]
    return (batch.masks.flatten(2).gather(2, index) * inside).mean().item()


def test_rows_come_in_the_order_asked(shards):
    raw = shards.rows(np.array([13, 2, 19, 0]))
    whole = shards.column("coordinates")
    np.testing.assert_array_equal(raw.coordinates, whole[[13, 2, 19, 0]])
    assert len(shards) == 20


def test_no_shards_and_broken_shard(tmp_path):
    with pytest.raises(BiokinError, match="odah crops"):
        find_shards([tmp_path])
    write_shard(tmp_path / "s", 3, 16)
    np.save(tmp_path / "s" / "clip.npy", np.zeros(2))
    with pytest.raises(BiokinError, match="different length"):
        ShardSet([tmp_path / "s"])


def test_truth_projects_on_the_person(shards):
    assert share_on_person(*batch_of(shards)) > 0.99


def test_truth_is_upright_and_consistent(shards):
    batch, truth = batch_of(shards)
    # FK of the canonical angles, put at the canonical pelvis, gives the canonical keypoints.
    coordinates = angles_to_coordinates(truth.angles, SKELETON)
    frames = KINEMATICS(coordinates, truth.pose.scales)
    found = KINEMATICS.keypoints(frames, truth.pose.scales)
    found = found - frames.position[:, :1] + truth.pose.pelvis[:, None]
    torch.testing.assert_close(found, truth.keypoints[:, :44], atol=1e-4, rtol=0)
    torch.testing.assert_close(frames.rotation[:, 0], truth.pose.rotations[:, 0], atol=1e-4, rtol=0)
    # The first view looks along the canonical X axis; the hull's centre is the origin.
    forward = batch.R[:, 0, 2]
    assert forward[:, 1].abs().max() < 1e-5 and (forward[:, 0] > 0.8).all()
    assert batch.points.mean(1).abs().max() < 1e-5


def test_mirrored_coordinates_are_the_mirror_image():
    q = random_coordinates(50, np.random.default_rng(3), spread=0.5)
    scales = torch.from_numpy(np.random.default_rng(4).uniform(0.8, 1.2, (50, 22, 3))).float()
    sides = mirror_indices(SKELETON.body_names)
    a = KINEMATICS(torch.from_numpy(q), scales)
    b = KINEMATICS(torch.from_numpy(mirror_coordinates(q, SKELETON)), scales[:, sides])
    flip = torch.tensor([1.0, 1, -1])
    joints = KINEMATICS.joint_centers(a, scales)[:, sides] * flip
    torch.testing.assert_close(KINEMATICS.joint_centers(b, scales[:, sides]), joints, atol=2e-5, rtol=0)
    turned = flip[:, None] * a.rotation[:, sides] * flip
    torch.testing.assert_close(b.rotation, turned, atol=2e-5, rtol=0)


def test_mirrored_camera_sees_the_flipped_picture(shards):
    raw = shards.rows(np.arange(4))
    K, R, t = mirror_cameras(raw.K, raw.R, raw.t, 64)
    points = np.random.default_rng(0).normal(0, 0.5, (4, 5, 3)).astype(np.float32)
    args = [torch.from_numpy(x) for x in (points, raw.K, raw.R, raw.t)]
    there = project(*args)
    flipped = (points * np.array([-1, 1, 1])).astype(np.float32)
    mirrored = project(*(torch.from_numpy(x) for x in (flipped, K, R, t)))
    torch.testing.assert_close(mirrored[..., 0], 63 - there[..., 0], atol=1e-3, rtol=0)
    torch.testing.assert_close(mirrored[..., 1], there[..., 1], atol=1e-3, rtol=0)
    np.testing.assert_allclose(np.linalg.det(R), 1, atol=1e-5)


@pytest.mark.parametrize(
    "change", [{"mirror": 1.0, "swap": 0.0}, {"mirror": 0.0, "swap": 1.0}, {"mirror": 1.0, "swap": 1.0}]
)
def test_varied_truth_still_projects_on_the_person(shards, change):
    batch, truth = batch_of(shards, Augmentation(SKELETON, **(STILL | change)))
    assert share_on_person(batch, truth) > 0.99
    assert (batch.R[:, 0, 2, 0] > 0.8).all()  # the first view again looks along X


def test_moved_crop_keeps_the_cameras_right(shards):
    batch, truth = batch_of(
        shards, Augmentation(SKELETON, **(STILL | {"crop": 1.0, "mirror": 0.0, "swap": 0.0}))
    )
    assert share_on_person(batch, truth) > 0.97


def test_occluders_hide_a_part_and_never_the_most(shards):
    raw = shards.rows(np.arange(len(shards)))
    only = Augmentation(SKELETON, **(STILL | {"occlude": 1.0, "mirror": 0.0, "swap": 0.0}))
    varied = only(raw, np.random.default_rng(0))
    hidden = (raw.mask > 0) & (varied.mask == 0)
    assert not ((varied.mask > 0) & (raw.mask == 0)).any()
    share = hidden.sum((2, 3)) / raw.mask.astype(bool).sum((2, 3))
    assert share.max() <= 0.5 and share.mean() > 0.05
    for one in hidden.reshape(-1, 64, 64)[:6]:  # what is hidden is the person within a box
        y, x = np.nonzero(one)
        if len(y):
            assert y.max() - y.min() < 2 * (0.2 * 64 + 1) and x.max() - x.min() < 2 * (0.2 * 64 + 1)


def test_compression_changes_colours_a_little_and_masks_not(shards):
    raw = shards.rows(np.arange(4))
    only = Augmentation(SKELETON, **(STILL | {"jpeg": 1.0, "mirror": 0.0, "swap": 0.0}))
    varied = only(raw, np.random.default_rng(0))
    change = np.abs(varied.rgb.astype(int) - raw.rgb)[raw.mask > 0]
    assert 1 < change.mean() < 60
    np.testing.assert_array_equal(varied.mask, raw.mask)


def test_wrong_calibration_is_a_few_pixels(shards):
    """Points near the person move by pixels, the camera not at all; one error may serve many frames."""
    raw = shards.rows(np.arange(len(shards)))
    K, R, t = (a.reshape(-1, *a.shape[2:]) for a in (raw.K, raw.R, raw.t))
    wrong = wrong_calibration(K, R, t, 64, np.random.default_rng(0))
    centers = [-np.einsum("nji,nj->ni", r, v) for r, v in ((R, t), wrong[1:])]
    np.testing.assert_allclose(*centers, atol=1e-4)
    point = np.concatenate([raw.t * 0 + [0, 0, 1.0]]).reshape(-1, 3)

    def pixels(K, R, t):
        seen = np.einsum("nij,nj->ni", K, np.einsum("nij,nj->ni", R, point) + t)
        return seen[:, :2] / seen[:, 2:]

    moved = np.linalg.norm(pixels(*wrong) - pixels(K, R, t), axis=1)
    assert 0.4 < np.median(moved) < 2 and moved.max() < 6
    same = wrong_calibration(K, R, t, 64, np.random.default_rng(0), count=2)
    turns = same[1] @ R.transpose(0, 2, 1)
    np.testing.assert_allclose(turns[2:], np.tile(turns[:2], (len(K) // 2 - 1, 1, 1)), atol=1e-5)
    assert not np.allclose(turns[0], turns[1], atol=1e-4)


def test_what_leaks_in_is_the_background_where_it_is_known(shards):
    raw = shards.rows(np.arange(2))
    rgb, places = raw.rgb[0, 0].copy(), (raw.mask[0, 0] == 0).astype(np.uint8)
    filled = leaked(rgb, places, np.random.default_rng(0))
    np.testing.assert_array_equal(filled[places == 0], rgb[places == 0])
    assert filled[places > 0].any(-1).mean() > 0.9  # it was black
    rgb[places > 0] = (10, 20, 30)
    np.testing.assert_array_equal(leaked(rgb, places, np.random.default_rng(0)), rgb)


def test_mask_errors_of_an_experiment_file(shards):
    augmentation = Augmentation(SKELETON, errors={"lumps": 3.0, "smooth": [1.0, 1.5]})
    assert augmentation.errors == MaskNoise(lumps=3.0, smooth=(1.0, 1.5))
    with pytest.raises(BiokinError, match="unknown key bumps"):
        Augmentation(SKELETON, errors={"bumps": 1.0})


def test_everything_at_once_is_finite_and_repeats(shards):
    augmentation = Augmentation(SKELETON, mask=1.0, blur=1.0, jpeg=1.0, occlude=1.0, calibration=1.0)
    one, first = batch_of(shards, augmentation, seed=5)
    two, _ = batch_of(shards, augmentation, seed=5)
    three, _ = batch_of(shards, augmentation, seed=6)
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
    assert not torch.equal(one.images, three.images)
    assert all(torch.isfinite(part).all() for part in one) and torch.isfinite(first.keypoints).all()


def test_an_epoch_can_be_entered_anywhere(shards):
    maker = FrameMaker(LAYOUT, 16, Augmentation(SKELETON))
    mixture = Mixture([shards], 4, seed=3)
    whole = [b.images for b, _ in epoch_batches(mixture, maker, epoch=2)]
    rest = [b.images for b, _ in epoch_batches(mixture, maker, epoch=2, start=3)]
    assert len(whole) == len(mixture) == 5 and len(rest) == 2
    assert all(torch.equal(a, b) for a, b in zip(whole[3:], rest, strict=True))
    threads = [b.images for b, _ in epoch_batches(mixture, maker, epoch=2, ahead=2)]
    assert all(torch.equal(a, b) for a, b in zip(whole, threads, strict=True))
    workers = [b.images for b, _ in epoch_batches(mixture, maker, epoch=2, start=3, workers=2)]
    assert all(torch.equal(a, b) for a, b in zip(whole[3:], workers, strict=True))
    plain = FrameMaker(LAYOUT, 16)
    shares = [Mixture([shards], 4, 3, share=(i, 2)) for i in (0, 1)]
    parts = [[t.coordinates for _, t in epoch_batches(share, plain, epoch=2)] for share in shares]
    both = [t.coordinates for _, t in epoch_batches(mixture, plain, epoch=2)]
    for a, b, c in zip(*parts, both, strict=True):
        torch.testing.assert_close(torch.stack([a, b], 1).flatten(0, 1), c)
    # every pair once
    seen = torch.cat(both).numpy()
    assert len(np.unique(seen, axis=0)) == 20


class Counting:
    """A stream whose pairs say where in it they are."""

    def __init__(self, like):
        self.like, self.asked = like, []

    def rows(self, positions):
        self.asked += positions.tolist()
        raw = self.like.rows(np.zeros(len(positions), int))
        return raw._replace(coordinates=np.repeat(1000.0 + positions[:, None], 39, 1).astype(np.float32))


def test_shares_of_caches_and_of_rendered_pairs(shards):
    pools = [ShardSet([path]) for path in shards.paths]  # 12 and 8 pairs
    stream = Counting(shards)
    mixture = Mixture(pools, 5, 7, [3.0, 1.0], stream, 0.5)
    assert len(mixture) == 8  # 20 cached pairs, and as many rendered ones
    drawn = np.zeros(3)
    places = {row.tobytes(): 0 for row in pools[0].column("coordinates")}
    for epoch in range(40):
        for number in range(len(mixture)):
            for row in mixture.raw(epoch, number).coordinates:
                drawn[2 if row[0] >= 1000 else 0 if row.tobytes() in places else 1] += 1
                if row.tobytes() in places:
                    places[row.tobytes()] += 1
        mixture.finish(epoch)
    np.testing.assert_allclose(drawn / drawn.sum(), [0.375, 0.125, 0.5], atol=0.04)
    assert stream.asked == list(range(int(drawn[2])))  # nothing of the stream is left out or seen twice
    assert max(places.values()) - min(places.values()) <= 40  # within a pass of each epoch
    # The state goes on in another process's place.
    later = Mixture(pools, 5, 7, [3.0, 1.0], Counting(shards), 0.5)
    later.starts = mixture.starts
    np.testing.assert_array_equal(later.raw(40, 2).coordinates, mixture.raw(40, 2).coordinates)


def test_shares_that_are_none(shards):
    for pools, shares, live, message in (
        ([], None, 0.0, "expected less than 1"),
        ([shards], None, 1.0, "expected less than 1"),
        ([shards], [1.0, 2.0], 0.0, "one a folder"),
        ([shards], [-1.0], 0.0, "one a folder"),
    ):
        with pytest.raises(BiokinError, match=message):
            Mixture(pools, 4, 0, shares, None, live)
    with pytest.raises(BiokinError, match="fewer than a batch"):
        Mixture([shards], 21, 0)


def test_limited_validation_is_spread(shards):
    maker = FrameMaker(LAYOUT, 16)
    seen = torch.cat([t.coordinates for _, t in ordered_batches(shards, maker, 4, limit=5)])
    np.testing.assert_allclose(seen, shards.column("coordinates")[[0, 5, 10, 14, 19]], rtol=1e-6)
