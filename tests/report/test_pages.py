"""The pages hold what the results say, and nothing of a project's text becomes markup."""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import re
from dataclasses import replace
from html.parser import HTMLParser
from urllib.parse import unquote

import cv2
import numpy as np
import pytest
from report_samples import VIEWS, cameras, write_trial

from pose2sim_biokin import pipeline
from pose2sim_biokin.compare.build import compare_results
from pose2sim_biokin.errors import BiokinError
from pose2sim_biokin.io.video import VideoReader
from pose2sim_biokin.report import (
    SessionEntry,
    trial_figures,
    write_comparison_report,
    write_session_page,
    write_side_by_side,
    write_side_by_sides,
    write_trial_report,
)
from pose2sim_biokin.report import trial as trial_page
from pose2sim_biokin.report.names import full_title, grouped
from pose2sim_biokin.report.page import number
from pose2sim_biokin.report.video import views_of

HOSTILE = "walk & <b>run"
WARNING = 'Odd <script>alert(1)</script> "warning"'


class Page(HTMLParser):
    """A page as a browser's parser sees it: texts by element, ids, links, the embedded data."""

    def __init__(self, path):
        super().__init__()
        self.ids, self.links, self.tags, self.sources, self.keys = set(), [], [], [], {}
        self._open, self.texts = [], {}
        self.feed(path.read_text(encoding="utf-8"))
        self.payload = json.loads(self.texts["report-data"]) if "report-data" in self.texts else None

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.tags.append(tag)
        self.ids |= {attributes["id"]} if "id" in attributes else set()
        self.links += [attributes["href"]] if tag == "a" else []
        self.sources += [attributes[k] for k in ("src", "href") if k in attributes and tag != "a"]
        self._open.append((tag, attributes.get("id"), attributes.get("data-key")))

    def handle_endtag(self, tag):
        while self._open and self._open.pop()[0] != tag:
            pass

    def handle_data(self, data):
        for tag, name, _ in self._open:
            for place in {name, "h1" if tag == "h1" else None} - {None}:
                self.texts[place] = self.texts.get(place, "") + data
        if self._open and self._open[-1][2]:
            self.keys[self._open[-1][2]] = data

    def array(self, reference):
        offset, length = reference
        numbers = np.frombuffer(base64.b64decode(self.texts["report-arrays"]), dtype="<f4")
        return numbers[offset : offset + length]


def other(time, coordinates, skeleton):
    """Another backend: 6 degrees more right hip flexion, 9 degrees of swing in the left knee."""
    coordinates = coordinates.copy()
    coordinates[:, skeleton.coordinate_index("hip_flexion_r")] += np.deg2rad(6)
    coordinates[:, skeleton.coordinate_index("knee_angle_l")] += np.deg2rad(9) * np.sin(5 * time)
    return coordinates


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A trial with gaps, flags and both kinds of videos, and a second backend's result of it."""
    folder = tmp_path_factory.mktemp("project") / HOSTILE
    ours = write_trial(folder, 40, (20, 21, 22), (8, 9), overlays=True, recordings=True, warnings=(WARNING,))
    theirs = write_trial(folder, 40, label="opensim", change=other)
    return folder, ours, theirs


@pytest.fixture(scope="module")
def comparison(project):
    folder, ours, theirs = project
    return compare_results([theirs, ours], trial=folder.name)


@pytest.fixture(scope="module")
def trial_report(project):
    folder, ours, _ = project
    config = {"biokin": {"views": ["cam01", "<i>cam02"]}, "project": {"project_dir": folder}}
    return Page(write_trial_report(ours, folder / "kinematics" / "report.html", config))


@pytest.fixture(scope="module")
def comparison_report(project, comparison):
    folder = project[0] / "compare"
    comparison.write(folder)
    return Page(write_comparison_report(comparison, folder / "report.html"))


@pytest.mark.parametrize("which", ["trial_report", "comparison_report"])
def test_pages_stand_alone_and_their_links_lead_somewhere(request, which, project):
    page = request.getfixturevalue(which)
    assert all(source.startswith("data:") for source in page.sources)
    inside = [link[1:] for link in page.links if link.startswith("#")]
    assert len(inside) >= 9 and set(inside) <= page.ids
    folder = project[0] / ("kinematics" if which == "trial_report" else "compare")
    beside = [link for link in page.links if not link.startswith("#")]
    assert beside and all((folder / unquote(link)).is_file() for link in beside)


@pytest.mark.parametrize("which", ["trial_report", "comparison_report"])
def test_text_of_the_project_stays_text(request, which):
    page = request.getfixturevalue(which)
    assert page.tags.count("script") == 4  # data, arrays, Plotly, ours
    assert page.texts["h1"] == HOSTILE
    assert WARNING in page.texts["quality"] and "i" not in page.tags


def test_a_trial_has_every_frame_with_gaps_where_there_is_no_pose(trial_report, project):
    _, ours, _ = project
    assert len(ours.time) == 37  # the .mot leaves three frames out
    time = trial_report.array(trial_report.payload["time"])
    np.testing.assert_allclose(time, np.arange(40) / 30, atol=1e-5)
    charts = [c for c in trial_report.payload["charts"].values() if c["kind"] == "curves"]
    lines = [trial_report.array(line["y"]) for chart in charts for line in chart["lines"]]
    for line in lines:
        assert np.flatnonzero(np.isnan(line)).tolist() == [20, 21, 22]
    # right hip flexion of the walk: 0.4 rad of sine at 1 Hz, in degrees
    wanted = np.rad2deg(0.4 * np.sin(2 * np.pi * np.arange(40) / 30))
    assert min(np.nanmax(np.abs(line - wanted)) for line in lines) < 1e-3
    start, stop = trial_report.payload["shades"][0]
    assert start == pytest.approx(7.5 / 30, abs=1e-3) and stop == pytest.approx(9.5 / 30, abs=1e-3)


def test_a_trial_shows_its_skeleton_where_it_is(trial_report, project):
    _, ours, _ = project
    figures = trial_report.payload["figures"]
    assert len(figures) == 3 and sum(len(f["links"]) for f in figures) == len(
        {tuple(link) for f in figures for link in f["links"]}
    )
    points = trial_report.array(figures[0]["points"]).reshape(40, -1, 3)
    marks = {mark: [int(i) for i, m in figures[0]["marks"].items() if m == mark] for mark in "RL"}
    assert len(marks["R"]) == len(marks["L"]) == 2
    wrist = ours.joint_centers["wrist_r"][0]
    assert min(np.linalg.norm(points[0, i] - wrist) for i in marks["R"]) < 1e-5
    pelvis = ours.joint_centers["pelvis"]
    np.testing.assert_allclose(points[np.r_[:20, 23:40], figures[0]["root"]], pelvis, atol=1e-5)


def test_a_trial_says_what_to_look_at(trial_report):
    summary = trial_report.texts["summary"]
    assert "Frames without a pose. 3 of 40" in " ".join(summary.split())
    assert "Interpolated frames." in summary and "The skeleton leaves the mask of cam02." in summary
    assert trial_report.keys["frames_with_pose"] == "37"
    assert trial_report.keys["run_time_s"] == "4.5"


def test_pictures_of_both_views_are_inside(trial_report, comparison_report):
    for page in (trial_report, comparison_report):
        pictures = [s for s in page.sources if s.startswith("data:image/jpeg")]
        assert len(pictures) == 6
        for picture in pictures:
            image = cv2.imdecode(np.frombuffer(base64.b64decode(picture.split(",")[1]), np.uint8), 1)
            assert image.shape == (240, 320, 3) and image.max() > 150
        assert all(view in page.texts["overlays"] for view in VIEWS)


def test_provenance_has_hashes_of_inputs_weights_and_settings(trial_report, project):
    folder, ours, _ = project
    text = trial_report.texts["provenance"]
    files = (ours.mot, ours.osim, folder / "videos" / "cam01.avi", folder / "calibration" / "Calib.toml")
    for file in files:
        assert hashlib.sha256(file.read_bytes()).hexdigest() in text
    assert "fast.pt" in text and "0" * 64 in text and "[biokin]" in text and "<i>cam02" in text


def test_the_comparison_shows_the_numbers_of_its_json(comparison_report, project):
    content = json.loads((project[0] / "compare" / "comparison.json").read_text(encoding="utf-8"))
    shown = {key: text for key, text in comparison_report.keys.items() if key.startswith("summary.biokin.")}
    digits = {"lag_s": 3, "pearson_r": 2, "pa_mpjpe_mm": 0, "pelvis_path_mm": 0}
    assert len(shown) == 6
    for key, text in shown.items():
        value = content["summary"]["biokin"][key.rsplit(".", 1)[1]]
        places = digits.get(key.rsplit(".", 1)[1], 1)
        assert float(text.replace("−", "-")) == pytest.approx(value, abs=0.5001 * 10**-places)
    table = comparison_report.texts["numbers"]
    for name, row in content["coordinates"].items():
        mae = number(row["metrics"]["biokin"]["mae"])
        assert re.search(rf"{name}\s*{row['unit']}\s*{re.escape(mae)}", table), name


def test_differences_are_result_minus_reference(comparison_report):
    charts = comparison_report.payload["charts"].values()
    found = {}
    for chart in charts:
        if chart["kind"] == "curves":
            (difference,) = chart["differences"]
            values = comparison_report.array(difference["y"])
            found[round(float(np.nanmean(values)), 3)] = difference["label"]
    assert found[-6.0] == "biokin − opensim"  # opensim has 6 degrees more
    agreement = [c for c in charts if c["kind"] == "agreement"]
    biases = [round(c["bias"], 3) for c in agreement]
    assert -6.0 in biases and all(c["lower"] <= c["bias"] <= c["upper"] for c in agreement)


def test_a_comparison_says_what_to_look_at(comparison_report):
    summary = " ".join(comparison_report.texts["summary"].split())
    worst = max(("Hip flexion, right", 6.0), ("Knee flexion, left", 9 * 2 / np.pi), key=lambda w: w[1])
    assert f"{worst[0]} differs most." in summary
    assert "Frames without a pose." in summary
    assert "biokin 3; the first at 0.67 s" in summary


def test_coordinates_of_one_result_only_have_their_curve(comparison, tmp_path):
    alone = replace(comparison, unmatched={"opensim": ("knee_angle_r", "wrist_dev_r"), "biokin": ()})
    page = Page(write_comparison_report(alone, tmp_path / "report.html"))
    assert "curve-knee_angle_r" in page.ids and "alone-knee_angle_r-opensim" in page.ids
    assert "alone-wrist_dev_r-opensim" not in page.ids  # it does not move
    (chart,) = [c for c in page.payload["charts"].values() if c["kind"] == "curves" and not c["differences"]]
    shown = page.array(chart["lines"][0]["y"])
    wanted = np.rad2deg(0.4 - 0.3 * np.sin(2 * np.pi * comparison.time))  # the walk's right knee
    np.testing.assert_allclose(shown, wanted, atol=1e-3)


def test_both_backends_side_by_side_on_video(comparison, project, tmp_path):
    views = views_of(comparison)
    assert [view.name for view in views] == list(VIEWS)
    path = tmp_path / "side.mp4"
    codec = write_side_by_side(comparison, views[0], path)
    assert codec in ("H.264", "MPEG-4")
    reader = VideoReader(path)
    assert (reader.info.width, reader.info.height, reader.info.frame_count) == (640, 240, 40)
    frames = dict(reader.frames())
    left, right = frames[10][:, :320].astype(int), frames[10][:, 320:].astype(int)
    camera = cameras()[0]
    shank = project[1].joint_centers
    middle = (shank["knee_r"][10] + shank["ankle_r"][10]) / 2
    u, v = np.round(camera.project(middle)).astype(int)
    blue, _, red = right[v - 2 : v + 3, u - 2 : u + 3].reshape(-1, 3)[12]
    assert red > blue + 60  # orange: the right shank of biokin in the right panel
    assert np.abs(left - right).max() > 60  # opensim's leg is elsewhere
    assert (
        np.abs(frames[21][:, 320:].astype(int) - frames[21][:, :320]).max() > 60
    )  # no pose: said, not drawn


def test_cameras_are_found_by_the_project_where_no_result_names_them(project, tmp_path, caplog):
    folder, _, theirs = project
    double = replace(theirs, label="again")
    pair = compare_results([theirs, double], trial=folder.name)
    assert views_of(pair) == []
    config = {"project": {"project_dir": str(folder)}}
    made = write_side_by_sides(pair, tmp_path, config=config)
    assert set(made) == {"video cam01", "video cam02"} and all(p.is_file() for p in made.values())
    assert views_of(pair, {"project": {"project_dir": str(tmp_path)}}) == []
    assert "No pictures of the cameras" in caplog.text


def test_side_by_side_needs_a_video_of_the_trial(comparison, tmp_path):
    view = views_of(comparison)[0]
    with pytest.raises(BiokinError, match="of the same trial"):
        write_side_by_side(comparison, replace(view, offset=1000), tmp_path / "side.mp4")
    assert not list(tmp_path.iterdir())


def test_results_without_quality_or_videos_have_a_page(tmp_path):
    result = write_trial(tmp_path / "bare", 10, (4,), label="opensim")
    page = Page(write_trial_report(result, tmp_path / "report.html"))
    assert len(page.array(page.payload["time"])) == 10
    assert "No quality file." in page.texts["quality"] and "overlays" not in page.ids
    assert len(re.findall("See|Go|Compare", page.texts["summary"])) == 3


def test_the_check_against_the_masks_is_told(project, tmp_path):
    _, ours, _ = project
    check = {"iou_used": 0.53, "iou_unused": None, "flips": 2, "facing_jumps": 0}
    check |= {"worst_limb": {"limb": "forearm_r", "camera": "cam02", "inside": 0.2}}
    check |= {"feet": {"sliding_m_s": 0.28}}
    result = replace(ours, quality=ours.quality | {"check": check})
    text = Page(write_trial_report(result, tmp_path / "report.html")).texts["quality"]
    for part in ("53 %", "forearm r, 20 %", "in cam02", "In 2 frames", "In 0 frames", "28 cm/s"):
        assert part in text
    figures = trial_figures(result)
    assert figures["frames"] == 40 and figures["without a pose"] == 3 and figures["interpolated"] == 2
    assert figures["body over the masks (IoU), %"] == pytest.approx(53)


def test_a_session_lists_its_trials(tmp_path):
    (tmp_path / "a b").mkdir()
    report = tmp_path / "a b" / "report.html"
    report.write_text("x", "utf-8")
    entries = [
        SessionEntry("a <b>", report, {"MAE, deg": 3.456, "frames": 12}),
        SessionEntry("c", None, {"MAE, deg": None}, "No video."),
    ]
    page = Page(write_session_page(entries, tmp_path / "session.html"))
    assert page.links == ["a%20b/report.html"] and "b" not in page.tags
    text = (tmp_path / "session.html").read_text("utf-8")
    assert "3.46" in text and "No video." in text and "2 trials, 1 with a report" in text
    with pytest.raises(BiokinError, match="no trial"):
        write_session_page([], tmp_path / "empty.html")


def test_a_report_that_fails_loses_nothing(project, monkeypatch, caplog):
    _, ours, _ = project
    paths = {
        "mot": ours.mot,
        "osim": ours.osim,
        "quality": ours.mot.with_name(f"{ours.mot.stem}_quality.json"),
    }
    made = pipeline._report(paths, {})
    assert made["report"].name == f"{ours.mot.stem}_report.html" and made["report"].is_file()
    before = made["report"].read_bytes()

    def fail(*_):
        raise RuntimeError("out of ink")

    monkeypatch.setattr(trial_page, "write_page", fail)
    with caplog.at_level(logging.WARNING):
        assert pipeline._report(paths, {}) == {}
    assert "out of ink" in caplog.text and "earlier run" in caplog.text
    assert made["report"].read_bytes() == before


def test_coordinates_are_grouped_with_their_sides():
    names = ["pelvis_tilt", "hip_flexion_r", "knee_angle_r", "hip_flexion_l", "L5_S1_FE", "odd_l_thing"]
    groups = grouped(names)
    assert list(groups) == ["Pelvis", "Trunk", "Hip", "Knee", "Other coordinates"]
    assert groups["Hip"][0].names == {"r": "hip_flexion_r", "l": "hip_flexion_l"}
    assert full_title("knee_angle_r") == "Knee flexion, right" and full_title("L5_S1_FE") == "L5 S1 FE"
    assert number(-0.04) == "0.0" and number(-1.25, 2, True) == "−1.25" and number(float("nan")) == "–"
