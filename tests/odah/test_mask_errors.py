"""Mask errors: what is measured of masks whose errors are known, and what training makes of masks."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from odah.mask_errors import augmented, compare, measured, sheet, statistics, table
from odah.mask_noise import MaskNoise

NOWHERE = np.full((6, 2), np.nan)
STILL = MaskNoise((0.3, 0.3), (0.0, 0.0), 0.0, lumps=0.0, holes=0.0, ends=0.0, uneven=0.0)


def person(size: int = 128) -> np.ndarray:
    """A trunk with two thin arms, in pixels of 128."""
    mask = np.zeros((128, 128), np.uint8)
    mask[20:110, 50:80] = 1
    mask[40:46, 20:110] = 1
    return cv2.resize(mask, (size, size), interpolation=cv2.INTER_NEAREST)


def test_offsets_lumps_holes_and_lost_ends_by_their_size():
    true = person()
    wider = cv2.dilate(true, cv2.getStructuringElement(cv2.MORPH_RECT, (5, 5)))
    found = compare(true, wider, NOWHERE)
    assert np.median(found["offsets"]) == pytest.approx(1.5, abs=0.3)  # its outermost pixels: 2 further out
    assert found["area"] == pytest.approx(wider.sum() / true.sum()) and found["holes"] == 0
    assert found["iou"] == pytest.approx(true.sum() / wider.sum())
    other = true.copy()
    other[90:110, 80:100] = 1  # a lump of 400 pixels at the side, of which 2.5 columns are no lump yet
    other[60:75, 60:70] = 0
    found = compare(true, other, NOWHERE)
    assert (found["lumps"], found["holes"]) == (1, 1)
    assert 0.8 * 400 < found["lump_area"] * true.sum() < 400
    assert 0.3 * 150 < found["hole_area"] * true.sum() < 150
    short = true.copy()
    short[:, 100:] = 0
    ends = np.array([[106, 43], [24, 43], [65, 105], [np.nan, np.nan], [300, 20], [20, 90]], float)
    found = compare(true, short, ends)
    assert (found["ends_seen"], found["ends_lost"]) == (3, 1)


def test_a_mask_without_errors_has_none():
    rows = [{"true": person(), "ends": NOWHERE, "found": person()}] * 2 + [
        {"true": person(), "ends": NOWHERE}
    ]
    figures = statistics(measured(rows, "found"))
    assert figures["masks"] == 2 and figures["IoU, mean"] == 1 and figures["lumps a mask"] == 0
    assert figures["offset of the outline, 50 %"] == pytest.approx(-0.5, abs=0.1)
    np.testing.assert_array_equal(augmented(rows, STILL, 1)[0][1], person())
    lines = table({"found": figures, "again": figures}).splitlines()
    assert lines[0] == "| | found | again |" and "| IoU, mean | 1.000 | 1.000 |" in lines


def test_each_error_does_what_it_says():
    true, rng = person(), np.random.default_rng(0)

    def many(**values):
        noise = replace(STILL, **values)
        return statistics([(true, noise(true, rng), NOWHERE) for _ in range(60)])

    wider = many(offset=(1.5, 0.0), smooth=(1.0, 1.0))
    assert wider["offset of the outline, 50 %"] == pytest.approx(1.5, abs=0.6)
    assert wider["offset of a whole mask, deviation"] < 0.1
    uneven = many(wobble=1.5, smooth=(1.0, 1.0))
    assert uneven["offset within a mask, deviation"] > 0.6 > abs(uneven["offset of the outline, 50 %"] + 0.5)
    lumps = many(lumps=1.0, lump_radius=6.0)
    assert lumps["masks with lumps"] > 0.4 and lumps["area over the true one, mean"] > 1.005
    holes = many(holes=1.0, hole_radius=6.0)
    assert holes["masks with holes"] > 0.4 and holes["area over the true one, mean"] < 0.995
    noise = replace(STILL, ends=1.0)
    cut = noise(true, np.random.default_rng(1))
    gone = (true > 0) & (cut == 0)
    assert gone.sum() > 20 and not gone[:, 55:75].any()  # of an arm, not of the trunk


def test_errors_grow_with_the_crop_repeat_and_leave_something():
    noise = replace(STILL, offset=(1.0, 0.0), smooth=(1.0, 1.0))
    areas = [noise(person(s), np.random.default_rng(0)).mean() / person(s).mean() for s in (128, 256)]
    assert areas[0] == pytest.approx(areas[1], rel=0.03) and areas[0] > 1.02
    one, two = (MaskNoise()(person(), np.random.default_rng(5)) for _ in range(2))
    np.testing.assert_array_equal(one, two)
    speck = np.zeros((64, 64), np.uint8)
    speck[3, 3] = 1
    assert MaskNoise(smooth=(2.0, 2.0))(speck, np.random.default_rng(0)).any()
    assert not MaskNoise()(np.zeros((64, 64), np.uint8), np.random.default_rng(0)).any()


def test_the_sheet_is_coloured_by_what_is_wrong():
    true = person()
    narrow = cv2.erode(true, np.ones((3, 3), np.uint8))
    rows = [{"true": true, "ends": NOWHERE, "found": narrow, "sharpened": true}] * 3
    picture = sheet(rows, STILL, 2)
    green = (picture == (60, 200, 60)).all(-1)
    assert green.sum() == 2 * (true.sum() - narrow.sum())


def test_a_whole_limb_goes_while_trunk_and_the_rest_stay():
    true, noise = person(), replace(STILL, limbs=1.0, limb_radius=(45.0, 50.0))
    arms = np.zeros_like(true)
    arms[40:46, 20:50] = arms[40:46, 80:110] = 1
    lost = []
    for seed in range(40):
        found = noise(true, np.random.default_rng(seed))
        assert found[true & (1 - arms) > 0].mean() > 0.98  # but for the trunk's corners
        lost.append([1 - found[40:46, side].mean() for side in (slice(20, 48), slice(82, 110))])
    lost = np.array(lost)
    assert 0.2 < (lost.max(1) < 0.1).mean() < 0.6  # a Poisson number of 1: none in 37 % of the masks
    assert (lost > 0.9).any(0).all()  # one arm or the other


def test_clutter_clings_to_the_person_and_hides_nothing():
    true, noise = person(), replace(STILL, clutter=1.0, clutter_side=(20.0, 30.0))
    grown = []
    for seed in range(40):
        found = noise(true, np.random.default_rng(seed))
        assert found[true > 0].mean() > 0.98
        added = (found > 0) & (true == 0)
        grown.append(added.sum())
        assert cv2.connectedComponents(found)[0] == 2  # the background, and one piece
    assert 0.2 < (np.array(grown) < 30).mean() < 0.6 and max(grown) > 200
