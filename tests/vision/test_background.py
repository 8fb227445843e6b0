"""Masks sharpened by the still background: a figure whose silhouette is known walks before a known wall."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from pose2sim_biokin.vision.background import (
    NotStill,
    build_background,
    people_size,
    shrink,
    shrink_mask,
    working_size,
)
from pose2sim_biokin.vision.foreground import Foreground
from pose2sim_biokin.vision.masks import PackedMask

SIZE = (360, 480)  # width, height
STEPS = 20


def wall() -> np.ndarray:
    """A room: a striped wall, a floor, a dark cupboard."""
    x = np.arange(SIZE[0])
    picture = np.full((SIZE[1], SIZE[0], 3), (150, 160, 170), np.uint8)
    picture[:, x // 25 % 2 == 0] = (135, 150, 165)
    picture[330:] = (90, 100, 110)
    picture[80:330, 270:330] = (40, 50, 70)
    return picture


def figure(x: int, arm: float = 40.0) -> np.ndarray:
    """Silhouette (H, W) bool of somebody with the middle at x: head, trunk, legs, and one arm held out."""
    mask = np.zeros(SIZE[::-1], np.uint8)
    cv2.circle(mask, (x, 130), 22, 1, -1)
    cv2.rectangle(mask, (x - 26, 150), (x + 26, 270), 1, -1)
    cv2.rectangle(mask, (x - 24, 270), (x - 6, 390), 1, -1)
    cv2.rectangle(mask, (x + 6, 270), (x + 24, 390), 1, -1)
    cv2.line(mask, (x + 20, 170), (int(x + 20 + arm), 130), 1, 14)
    return mask > 0


def film(frame: int, silhouette: np.ndarray, light: float = 1.0, shift: int = 0) -> np.ndarray:
    """What the camera sees: wall, figure in front of it, noise."""
    rng = np.random.default_rng(frame)
    picture = wall().astype(np.float32)
    picture[silhouette] = (60, 120, 40)
    picture = np.roll(picture, shift, axis=1) * light + rng.normal(0, 1.5, picture.shape)
    return np.clip(picture, 0, 255).astype(np.uint8)


def iou(one: np.ndarray, two: np.ndarray) -> float:
    return float((one & two).sum() / (one | two).sum())


def walk() -> list[np.ndarray]:
    return [figure(60 + 11 * k, 30 + k) for k in range(STEPS)]


def leaky(mask: np.ndarray, frame: int) -> np.ndarray:
    """A network's opinion: blobby, without the raised arm and the head, with a leak into the wall."""
    blob = cv2.dilate(mask.astype(np.uint8), np.ones((7, 7), np.uint8)) > 0
    blob[:150] = False
    columns = np.flatnonzero(mask.any(0))
    blob[200:260, columns[0] - 30 : columns[0] + 10] = frame % 3 != 0
    return blob


@pytest.fixture(scope="module")
def sharpened():
    """Truth, the network's masks, and the sharpened ones, of a walk with changing exposure."""
    truth = walk()
    images = [film(k, mask, light=1 + 0.15 * np.sin(k)) for k, mask in enumerate(truth)]
    masks = [leaky(mask, k) for k, mask in enumerate(truth)]
    background = build_background(images, masks)
    foreground = Foreground(background, people_size(masks))
    people = [foreground.people(i, [PackedMask.pack(m, 0.8)]) for i, m in zip(images, masks, strict=True)]
    return background, truth, masks, people


def test_the_plate_is_the_wall(sharpened):
    background, _, _, _ = sharpened
    known = background.trust > 0.9
    assert known.mean() > 0.95
    # up to the exposure of the middle frame
    ratio = background.plate[known] / wall()[known]
    assert np.abs(ratio / np.median(ratio) - 1).max() < 0.08
    assert np.median(background.noise) < 4


def test_leaks_go_and_lost_limbs_come_back(sharpened):
    _, truth, masks, people = sharpened
    before = [iou(mask, true) for mask, true in zip(masks, truth, strict=True)]
    assert all(len(found) == 1 and found[0].score == 0.8 for found in people)
    after = [iou(found[0].mask, true) for found, true in zip(people, truth, strict=True)]
    assert np.mean(before) < 0.75
    assert np.mean(after) > 0.93 and min(after) > 0.92


def test_shadows_on_the_floor_are_not_the_person():
    truth = walk()
    images, masks = [], [leaky(mask, k) for k, mask in enumerate(truth)]
    for k, mask in enumerate(truth):
        image = film(k, mask)
        columns = np.flatnonzero(mask.any(0))
        shadow = np.zeros_like(mask)
        shadow[385:420, columns[0] : columns[-1] + 40] = True
        image[shadow & ~mask] = (image[shadow & ~mask] * 0.7).astype(np.uint8)
        images.append(image)
    foreground = Foreground(build_background(images, masks), people_size(masks))
    for k in range(STEPS):
        (person,) = foreground.people(images[k], [PackedMask.pack(masks[k])])
        assert person.mask[400:].sum() < 60
        assert iou(person.mask, truth[k]) > 0.9


def test_somebody_who_never_moves_is_kept_as_the_network_sees_them():
    """Seen by the network in four frames of five; the wall behind was never seen."""
    still = figure(150)
    images = [film(k, still) for k in range(20)]
    masks = [still if k % 5 else np.zeros_like(still) for k in range(20)]
    try:
        foreground = Foreground(build_background(images, masks), people_size(masks))
    except NotStill as reason:
        assert "hide" in str(reason)
    else:
        (person,) = foreground.people(images[1], [PackedMask.pack(still)])
        assert iou(person.mask, still) > 0.9


def test_furniture_that_the_network_takes_for_people_now_and_then_disappears():
    truth = walk()
    cupboard = np.zeros_like(truth[0])
    cupboard[80:330, 275:325] = True
    images = [film(k, mask) for k, mask in enumerate(truth)]
    masks = [mask | (cupboard if k % 4 == 0 and k < 16 else False) for k, mask in enumerate(truth)]
    foreground = Foreground(build_background(images, masks), people_size(masks))
    people = foreground.people(images[4], [PackedMask.pack(truth[4]), PackedMask.pack(cupboard)])
    assert len(people) == 1 and iou(people[0].mask, truth[4]) > 0.93


def test_somebody_the_network_loses_for_a_few_frames_is_followed_and_marked():
    truth = walk()
    images = [film(k, mask) for k, mask in enumerate(truth)]
    masks = [np.zeros_like(m) if 12 <= k < 17 else leaky(m, k) for k, m in enumerate(truth)]
    foreground = Foreground(build_background(images, masks), people_size(masks))
    found = []
    for image, mask in zip(images, masks, strict=True):
        found.append(foreground.people(image, [PackedMask.pack(mask, 0.7)] if mask.any() else []))
    for k in range(STEPS):
        (person,) = found[k]
        assert person.score == (0 if 12 <= k < 17 else 0.7)
        assert iou(person.mask, truth[k]) > 0.9


def test_nobody_is_followed_out_of_the_picture():
    truth = walk()[:16]
    images = [film(k, mask) for k, mask in enumerate(truth)] + [
        film(90 + k, truth[0] & False) for k in range(4)
    ]
    foreground = Foreground(build_background(images[:16], truth), people_size(truth))
    for image, mask in zip(images, truth, strict=False):
        foreground.people(image, [PackedMask.pack(mask)])
    assert all(foreground.people(image, []) == [] for image in images[16:])


def test_two_people_stay_two_and_pieces_of_one_become_one():
    truth = walk()
    other = [figure(320 - 11 * k) for k in range(STEPS)]
    images = [film(k, a | b) for k, (a, b) in enumerate(zip(truth, other, strict=True))]
    union = [a | b for a, b in zip(truth, other, strict=True)]
    foreground = Foreground(build_background(images, union), people_size(truth))
    apart, meeting = 3, 9
    people = foreground.people(images[apart], [PackedMask.pack(m[apart], 0.9) for m in (truth, other)])
    people.sort(key=lambda person: person.box[0])
    assert all(iou(p.mask, m) > 0.9 for p, m in zip(people, (truth[apart], other[apart]), strict=True))
    assert (truth[meeting] & other[meeting]).any()  # arm in front of the other
    foreground._before.clear()
    people = foreground.people(images[meeting], [PackedMask.pack(m[meeting], 0.9) for m in (truth, other)])
    assert len(people) == 2 and not (people[0].mask & people[1].mask).any()

    upper, lower = truth[apart].copy(), truth[apart].copy()
    upper[260:], lower[:275] = False, False
    foreground._before.clear()
    pieces = [PackedMask.pack(upper, 0.4), PackedMask.pack(lower, 0.3), PackedMask.pack(other[apart], 0.9)]
    people = foreground.people(images[apart], pieces)
    assert sorted(p.score for p in people) == [0.4, 0.9]
    assert max(iou(p.mask, truth[apart]) for p in people) > 0.9


def test_where_there_is_no_still_background_the_reason_is_told():
    truth = walk()
    with pytest.raises(NotStill, match="only 5 frames"):
        build_background([film(k, m) for k, m in enumerate(truth[:5])], truth[:5])
    shaken = [film(k, m, shift=int(6 * np.sin(2.4 * k))) for k, m in enumerate(truth)]
    with pytest.raises(NotStill, match="of the picture changes"):
        build_background(shaken, truth)


def test_masks_are_shrunk_to_the_place_where_the_picture_shrinks_to():
    width, height = 1080, 1920
    y, x = np.mgrid[:height, :width]
    mask = ((x - 400) / 150) ** 2 + ((y - 900) / 420) ** 2 < 1
    small = shrink_mask(PackedMask.pack(mask))
    picture = shrink(np.repeat(mask[..., None] * np.uint8(255), 3, axis=2))
    assert small.shape == picture.shape[:2] == working_size((width, height))[::-1] == (480, 270)
    assert (small != (picture[..., 0] > 127)).mean() < 0.002
