"""Composites, batches and the measure of the person segmenter's training."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from odah.segmenter.composites import Composer, cut_out, read_sprites
from odah.segmenter.evaluate_segmenter import iou, mean_iou, measure
from odah.segmenter.frames import HELD_OUT_VIDEOS, Frame, clean_plate, read_frames, split_frames
from odah.segmenter.train_segmenter import collate, vary
from pose2sim_biokin.vision.masks import PersonInstance


def disc_frame(name: str, x: int, y: int, height: int = 120, width: int = 160) -> Frame:
    """A bright upright ellipse in front of a gradient."""
    ramp = np.linspace(40, 120, width, dtype=np.uint8)
    image = np.repeat(np.repeat(ramp[None], height, 0)[..., None], 3, -1).copy()
    mask = np.zeros((height, width), np.uint8)
    cv2.ellipse(mask, (x, y), (12, 30), 0, 0, 360, 1, -1)
    image[mask > 0] = (30, 200, 240)
    return Frame(name, image, mask > 0)


@pytest.fixture
def frames() -> list[Frame]:
    return [disc_frame(f"a_{k}", 30 + 20 * k, 60) for k in range(5)]


def test_frames_are_read_and_split_by_video(tmp_path, frames):
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    names = ["a_0001", "a_0002", *(f"{video}_0001" for video in HELD_OUT_VIDEOS)]
    for name, frame in zip(names, frames, strict=True):
        cv2.imwrite(str(tmp_path / "images" / f"{name}.jpg"), frame.image)
        cv2.imwrite(str(tmp_path / "masks" / f"{name}.png"), frame.mask.astype(np.uint8) * 255)
    train, held_out = split_frames(read_frames(tmp_path))
    assert [f.name for f in train] == ["a_0001", "a_0002"]
    assert {f.video for f in held_out} == set(HELD_OUT_VIDEOS)
    assert (train[0].mask == frames[0].mask).all()
    with pytest.raises(ValueError, match="no images"):
        read_frames(tmp_path / "masks")


def test_clean_plate_is_the_background_without_the_person(frames):
    empty = np.linspace(40, 120, 160, dtype=np.uint8)[None, :, None]
    plate = clean_plate(frames)
    assert np.abs(plate.astype(int) - empty).max() <= 3


def test_cut_out_holds_the_person_and_nothing_else(frames):
    sprite = cut_out(frames[0])
    covered = sprite[..., 3] > 250
    assert (sprite[..., 3] > 127).sum() == pytest.approx(frames[0].mask.sum(), rel=0.2)
    assert (sprite[covered][:, :3] == (30, 200, 240)).all()


def test_samples_follow_their_seed_and_mark_what_is_visible(tmp_path, frames):
    sprite = np.dstack([np.full((60, 20, 3), 250, np.uint8), np.full((60, 20), 255, np.uint8)])
    cv2.imwrite(str(tmp_path / "x.png"), sprite)
    composer = Composer(frames, read_sprites(tmp_path), size=64)
    again = Composer(frames, read_sprites(tmp_path), size=64)
    counts = []
    for seed in range(60):
        sample = composer.sample(seed)
        assert sample.image.shape == (64, 64, 3) and sample.image.dtype == np.uint8
        assert sample.instances.shape[1:] == (64, 64) and sample.instances.dtype == bool
        assert sample.instances.sum(0).max(initial=0) <= 1  # disjoint: one person hides another
        counts.append(len(sample.instances))
        if seed < 5:
            other = again.sample(seed)
            assert (other.image == sample.image).all() and (other.instances == sample.instances).all()
    assert 0 in counts and max(counts) >= 2


def test_collate_gives_boxes_and_masks_of_the_instances(frames):
    composer = Composer(frames, size=96, frame_share=0.0)
    samples = [composer.sample(seed) for seed in range(6)]
    batch = collate(samples, mask_stride=2)
    assert batch["img"].shape == (6, 3, 96, 96) and batch["img"].max() <= 1
    assert batch["masks"].shape == (6, 48, 48)
    assert len(batch["bboxes"]) == sum(len(s.instances) for s in samples) == len(batch["batch_idx"])
    row = 0
    for i, sample in enumerate(samples):
        for k, instance in enumerate(sample.instances):
            rows, columns = np.nonzero(instance)
            x, y, width, height = (batch["bboxes"][row] * 96).tolist()
            assert (x - width / 2, y - height / 2) == pytest.approx((columns.min(), rows.min()), abs=1e-3)
            assert (x + width / 2, y + height / 2) == pytest.approx(
                (columns.max() + 1, rows.max() + 1), abs=1e-3
            )
            assert int(batch["batch_idx"][row]) == i
            coarse = (batch["masks"][i] == k + 1).sum() * 4
            assert coarse == pytest.approx(instance.sum(), rel=0.25, abs=30)
            row += 1


def test_vary_mirrors_picture_and_masks_together(frames):
    sample = Composer(frames, size=96, frame_share=0.0).sample(1)
    mirrored = vary(np.random.default_rng(0), sample)
    assert (mirrored.instances == sample.instances[:, :, ::-1]).all()
    grey, other = (cv2.cvtColor(s.image, cv2.COLOR_BGR2GRAY).ravel() for s in (sample, mirrored))
    flipped = grey.reshape(96, 96)[:, ::-1].ravel()
    assert np.corrcoef(flipped, other)[0, 1] > 0.7


def test_measure_counts_best_instance_misses_and_extra_ones(frames):
    class Fake:
        """Answers with given masks."""

        def __init__(self, answers):
            self.answers = iter(answers)

        def segment(self, images, camera, numbers):
            return [[PersonInstance.from_mask(mask) for mask in next(self.answers)] for _ in images]

    half = frames[1].mask.copy()
    half[:60] = False
    answers = [[frames[0].mask], [half, frames[1].mask], []]
    tables = measure(Fake(answers), frames[:3])
    # three frames are too few to learn a background from
    assert tables["with_background"] == tables["network"]
    table = tables["network"]["a"]
    assert table["iou"] == pytest.approx(2 / 3, abs=1e-3)
    assert table["iou_top_score"] == pytest.approx((1 + iou(half, frames[1].mask)) / 3, abs=1e-3)
    assert table["misses"] == pytest.approx(1 / 3, abs=1e-3)
    assert table["more_than_one"] == pytest.approx(1 / 3, abs=1e-3)


def test_measure_tells_what_the_background_adds():
    """Ten frames of a moving person; the network's masks reach far into the wall."""
    frames = [disc_frame(f"a_{k:02d}", 20 + 13 * k, 60) for k in range(10)]

    class Leaky:
        def segment(self, images, camera, numbers):
            (frame,) = [f for f in frames if f.image is images[0]]
            leak = cv2.dilate(frame.mask.astype(np.uint8), np.ones((1, 31), np.uint8))
            return [[PersonInstance.from_mask(leak)]]

    tables = measure(Leaky(), frames)
    assert tables["network"]["a"]["iou"] < 0.65
    assert tables["with_background"]["a"]["iou"] > 0.9
    assert mean_iou(tables["network"]) == tables["network"]["a"]["iou"]
