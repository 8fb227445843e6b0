"""The quality file is plain JSON and says what the motion says."""

from __future__ import annotations

import json

import numpy as np
import pytest

from pose2sim_biokin.errors import BiokinError
from pose2sim_biokin.motion import FrameQuality, Motion
from pose2sim_biokin.quality import build_quality, read_quality, write_quality
from pose2sim_biokin.skeleton import load_skeleton


@pytest.fixture(scope="module")
def skeleton():
    return load_skeleton()


def _motion(skeleton, count=4):
    found = np.array([[True, True], [True, False], [False, False], [True, True]])
    overlap = np.array([[0.9, 0.8], [0.7, np.nan], [np.nan, np.nan], [1.0, 0.6]])
    quality = FrameQuality(
        mask_found=found,
        interpolated=np.array([False, True, False, False]),
        hull_fill=np.array([0.2, 0.0, np.nan, 0.4]),
        hull_extent_m=np.full((count, 3), 0.5),
        overlap=overlap,
        range_violation=np.deg2rad([0.0, 1.0, 0.0, 7.5]),
    )
    coordinates = np.zeros((count, len(skeleton.coordinate_names)))
    coordinates[2] = np.nan
    scales = np.ones((len(skeleton.body_names), 3))
    info = {"device": "cpu", "hash": np.str_("ab"), "steps": np.int64(3), "loss": np.float32(np.nan)}
    return Motion(np.arange(count) / 60, coordinates, scales, skeleton.name, quality, info)


def test_round_trip_and_contents(tmp_path, skeleton):
    run = {"trial": "walk", "warnings": ["é"], "path": tmp_path}
    built = build_quality(_motion(skeleton), np.arange(5, 9), ["cam01", "cam04"], skeleton, run)
    path = write_quality(tmp_path / "q.json", built)
    text = path.read_text(encoding="utf-8")
    assert "NaN" not in text and len(text.splitlines()) < 250
    quality = read_quality(path)
    assert quality == json.loads(text) == built
    assert quality["frames"]["frame"] == [5, 6, 7, 8]
    assert quality["frames"]["mask_found"] == {
        "cam01": [True, True, False, True],
        "cam04": [True, False, False, True],
    }
    assert quality["frames"]["overlap"]["cam04"] == [0.8, None, None, 0.6]
    assert quality["frames"]["pose"] == [True, True, False, True]
    summary = quality["summary"]
    assert summary["frames_without_pose"] == 1 and summary["frames_interpolated"] == 1
    assert summary["mask_found_share"] == {"cam01": 0.75, "cam04": 0.5}
    assert summary["overlap_worst"] == {"cam01": 0.7, "cam04": 0.6}
    assert summary["range_violation_deg_worst"] == pytest.approx(7.5)
    assert quality["network"] == {"device": "cpu", "hash": "ab", "steps": 3, "loss": None}
    assert set(quality["scales"]) == set(skeleton.body_names)
    assert quality["versions"]["pose2sim"] != "not installed"


@pytest.mark.parametrize("text", ["", "[]", '{"format": "other"}'])
def test_not_a_quality_file(tmp_path, text):
    (tmp_path / "q.json").write_text(text)
    with pytest.raises(BiokinError, match=r"q\.json"):
        read_quality(tmp_path / "q.json")
