"""Mask storage gives the mask back; tracks follow people and stop where identities are uncertain."""

import numpy as np
import pytest

from pose2sim_biokin.vision.masks import PackedMask, PersonInstance, PersonTracker, box_iou, mask_box


def blob(x, y=20, w=12, h=40, size=(120, 200)):
    mask = np.zeros(size, bool)
    mask[y : y + h, x : x + w] = True
    return PersonInstance.from_mask(mask)


def test_packing_round_trip():
    rng = np.random.default_rng(0)
    mask = np.zeros((333, 471), bool)
    mask[40:301, 60:229] = rng.random((261, 169)) > 0.4
    packed = PackedMask.pack(mask, 0.7)
    np.testing.assert_array_equal(packed.unpack(), mask)
    assert packed.area == mask.sum() and packed.box == mask_box(mask) and packed.score == 0.7
    rows, columns = np.nonzero(mask)
    np.testing.assert_allclose(packed.centroid, (columns.mean(), rows.mean()))
    np.testing.assert_array_equal(packed.outline.min(0), (columns.min(), rows.min()))
    np.testing.assert_array_equal(packed.outline.max(0), (columns.max(), rows.max()))
    np.testing.assert_array_equal(PackedMask.pack(mask.astype(np.uint8) * 255).unpack(), mask)
    assert PackedMask.pack(np.zeros((5, 5))) is None and PersonInstance.from_mask(np.zeros((5, 5))) is None


def test_a_person_takes_kilobytes():
    y, x = np.mgrid[:1920, :1080]
    mask = ((x - 500) / 180.0) ** 2 + ((y - 900) / 600.0) ** 2 < 1
    assert len(PackedMask.pack(mask).data) < 5000


def test_box_iou():
    np.testing.assert_allclose(box_iou([(0, 0, 2, 2)], [(1, 1, 3, 3), (5, 5, 6, 6)]), [[1 / 7, 0]])
    assert box_iou([], [(0, 0, 1, 1)]).shape == (0, 1)


def test_tracks_follow_people_over_gaps():
    tracker = PersonTracker(max_gap=4)
    for frame in range(20):
        people = [blob(10 + 2 * frame)] if frame not in (5, 6) else []
        tracker.update(frame, [*people, blob(150)])
    mover = [next((t.track for t in tracker.frames[f] if t.mask.box[0] < 100), None) for f in range(20)]
    other = {t.track for f in range(20) for t in tracker.frames[f] if t.mask.box[0] == 150}
    assert mover[5] is None and len(set(mover) - {None}) == 1 and len(other) == 1 and not other & set(mover)


def test_tracks_end_where_people_cross():
    tracker = PersonTracker()
    for frame in range(30):
        tracker.update(frame, [blob(10 + 3 * frame), blob(100 - 3 * frame)])
    left_at_start, right_at_start = tracker.frames[0][0].track, tracker.frames[0][1].track
    last = {t.track for t in tracker.frames[29]}
    assert not last & {left_at_start, right_at_start}


def test_a_long_gap_starts_a_new_track_and_frames_must_rise():
    tracker = PersonTracker(max_gap=3)
    tracker.update(0, [blob(10)])
    tracker.update(10, [blob(10)])
    assert tracker.frames[0][0].track != tracker.frames[10][0].track
    with pytest.raises(ValueError, match="rise"):
        tracker.update(10, [])
