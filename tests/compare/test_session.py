"""Trials and batches: results that are there, missing, or do not fit together; files and exit codes."""

import json

import numpy as np
import pandas as pd
import pytest
from compare_scenes import RATE, SIMPLE, result_of, sines, write_project, write_result
from typer.testing import CliRunner

import pose2sim_biokin
from pose2sim_biokin import cli, plugins
from pose2sim_biokin.compare.build import compare_results
from pose2sim_biokin.compare.figures import FIGURES, Curves, draw
from pose2sim_biokin.compare.output import read_comparison
from pose2sim_biokin.compare.result import read_result
from pose2sim_biokin.errors import BiokinError
from pose2sim_biokin.hookspecs import hookimpl
from pose2sim_biokin.quality import FORMAT, write_quality

TIME = np.arange(60) / RATE
NAMES = ("knee_angle_r", "knee_angle_l", "hip_flexion_r", "elbow_flex_l")


def trial(folder, offset_deg=4.0):
    """A trial with a result of upstream's and one of ours, whose right knee bends more."""
    write_project(folder)
    kinematics = folder / "kinematics"
    values = sines(TIME, NAMES)
    write_result(kinematics, f"{folder.name}_0-59_filt_butterworth", TIME, values, SIMPLE)
    values = dict(values, knee_angle_r=values["knee_angle_r"] + np.deg2rad(offset_deg))
    write_result(kinematics, f"{folder.name}_0-59_biokin", TIME, values)
    return folder


def biokin(*args):
    return CliRunner().invoke(cli.app, [str(arg) for arg in args], env={"COLUMNS": "200"})


def test_a_trial_whose_results_are_there(tmp_path):
    folder = trial(tmp_path / "walk")
    outcome = biokin("compare", folder, "--no-report")
    assert outcome.exit_code == 0, outcome.output
    assert "walk: biokin against opensim, 60 frames" in outcome.output
    assert "knee_angle_r" in outcome.output and "Traceback" not in outcome.output
    written = folder / "compare" / "opensim_vs_biokin"
    assert {p.name for p in written.iterdir()} == {"comparison.json", "comparison.csv"}
    content = read_comparison(written / "comparison.json")
    assert content["labels"] == ["opensim", "biokin"] and content["trial"] == "walk"
    knee = content["coordinates"]["knee_angle_r"]
    assert knee["metrics"]["biokin"]["bias"] == pytest.approx(4, abs=1e-3)
    assert knee["unit"] == "deg" and len(knee["values"]["opensim"]) == len(content["time_s"]) == 60
    assert content["provenance"]["results"]["biokin"]["mot"]["path"].endswith("walk_0-59_biokin.mot")
    table = pd.read_csv(written / "comparison.csv")
    row = table[table.coordinate == "knee_angle_r"].iloc[0]
    assert (row.result, row.reference, row.unit, row.matched_by) == ("biokin", "opensim", "deg", "name")
    assert row.mae == pytest.approx(4, abs=1e-3) and row.limit_lower == pytest.approx(4, abs=1e-2)

    # there already: an error, and nothing is touched, unless forced or named otherwise
    before = (written / "comparison.json").read_bytes()
    outcome = biokin("compare", folder, "--no-report")
    assert outcome.exit_code == 1 and "there is a comparison of this name already" in outcome.output
    assert (written / "comparison.json").read_bytes() == before
    assert biokin("compare", folder, "--no-report", "--force", "-q").exit_code == 0
    outcome = biokin("compare", folder, "--no-report", "--name", "again", "--reference", "biokin", "-q")
    assert outcome.exit_code == 0, outcome.output
    turned = read_comparison(folder / "compare" / "again" / "comparison.json")
    assert turned["labels"] == ["biokin", "opensim"]
    assert turned["coordinates"]["knee_angle_r"]["metrics"]["opensim"]["bias"] == pytest.approx(-4, abs=1e-3)


def test_pairs_are_the_reference_and_may_be_in_the_trial(tmp_path):
    folder = trial(tmp_path / "walk")
    osim, mot = write_result(folder / "markers", "lab", TIME, sines(TIME, NAMES))
    pair = "lab=markers/lab.osim,markers/lab.mot"
    outcome = biokin("compare", folder, "--pair", pair, "--backends", "biokin", "--no-report", "-q")
    assert outcome.exit_code == 0, outcome.output
    content = read_comparison(folder / "compare" / "lab_vs_biokin" / "comparison.json")
    assert content["reference"] == "lab"
    for text, exit_code, said in (
        ("lab", 2, "expected LABEL=model.osim,motion.mot"),
        (f"lab={osim},nowhere.mot", 1, "nowhere.mot: there is no such file"),
    ):
        outcome = biokin("compare", folder, "--pair", text, "--no-report", "-q")
        assert outcome.exit_code == exit_code and said in outcome.output
    with pytest.raises(BiokinError, match='no result "other" to be the reference. There are: a, b'):
        pose2sim_biokin.compare(
            folder, results={"a": (osim, mot), "b": (osim, mot)}, reference="other", report=False
        )
    with pytest.raises(BiokinError, match="One result cannot be compared"):
        pose2sim_biokin.compare(folder, ["biokin"])
    with pytest.raises(BiokinError, match="cannot be the name of a comparison"):
        pose2sim_biokin.compare(folder, name="../other")


def test_one_backend_missing(tmp_path):
    folder = trial(tmp_path / "walk")
    for path in (folder / "kinematics").glob("*_biokin.*"):
        path.unlink()
    outcome = biokin("compare", folder, "--no-report")  # there are no videos either, so it cannot run
    assert outcome.exit_code == 1
    assert "two results are needed, only opensim is there" in outcome.output
    assert "biokin is not compared" in outcome.output and not (folder / "compare").exists()
    unknown = biokin("compare", folder, "--backends", "opensim,nobody", "--no-report")
    assert unknown.exit_code == 1 and "'nobody', which is no kinematics backend" in unknown.output


def test_results_of_other_camera_pairs(tmp_path):
    """Found by the cameras that their quality files name; the newest of equal ones counts."""
    folder = trial(tmp_path / "walk")
    quality = {"format": FORMAT, "timings_s": {"total": 12.5}, "frames": {}}
    kinematics = folder / "kinematics"
    for place, cameras in (
        (kinematics, ("cam01", "cam04")),
        (folder / "compare" / "runs" / "biokin_cam02_cam03" / "kinematics", ("cam02", "cam03")),
    ):
        if place is not kinematics:
            write_result(place, "walk_0-59_biokin", TIME, sines(TIME, NAMES))
        views = [{"camera": camera} for camera in cameras]
        write_quality(place / "walk_0-59_biokin_quality.json", quality | {"views": views})
    outcome = biokin(
        *("compare", folder, "--views", "cam01,cam04", "--views", "cam02,cam03", "--no-report", "-q")
    )
    assert outcome.exit_code == 0, outcome.output
    (written,) = (folder / "compare").glob("*/comparison.json")
    content = read_comparison(written)
    assert content["labels"] == ["biokin cam01,cam04", "biokin cam02,cam03"]
    assert content["run_times_s"]["biokin cam01,cam04"] == 12.5
    bias = content["coordinates"]["knee_angle_r"]["metrics"]["biokin cam02,cam03"]["bias"]
    assert bias == pytest.approx(-4, abs=1e-3)
    assert biokin("compare", folder, "--views", "auto", "--views", "a,b").exit_code == 2


def test_a_third_partys_backend_is_run_and_found(tmp_path):
    folder = trial(tmp_path / "walk")
    calls = []

    class Other:
        name = "other"
        replaces = frozenset()

        def run(self, config_dict):
            calls.append(config_dict["project"]["project_dir"])
            write_result(folder / "kinematics", "walk_other", TIME, sines(TIME, NAMES, 0.2))

    class Plugin:
        @hookimpl
        def kinematics_backends(self):
            return [Other()]

    plugin = Plugin()
    plugins.plugin_manager().register(plugin)
    try:
        for name in ("first", "second"):
            (outcome,) = pose2sim_biokin.compare(folder, ["opensim", "other"], name=name, report=False)
    finally:
        plugins.plugin_manager().unregister(plugin)
    assert len(calls) == 1  # the second time its result is there
    assert outcome.comparison.labels == ("opensim", "other")
    assert outcome.comparison.results[0].mot.stem == "walk_0-59_filt_butterworth"
    knee = outcome.comparison.metrics["other"]["knee_angle_r"]
    assert knee.rom / knee.rom_reference == pytest.approx(2 / 3, rel=1e-3)


def test_rates_lengths_and_gaps_that_differ(tmp_path):
    slow = np.arange(10, 50) / RATE
    fast = np.arange(0, 160) / (2 * RATE)
    reference = result_of(tmp_path, "slow", slow, sines(slow, NAMES))
    holes = np.delete(fast, np.arange(60, 90))  # no pose from 0.6 to 0.9 s: the rows are not there
    other = result_of(tmp_path, "fast", holes, sines(holes, NAMES))
    assert other.gaps == ((pytest.approx(0.59), pytest.approx(0.9)),)
    comparison = compare_results([reference, other])
    np.testing.assert_allclose(comparison.time, slow, atol=1e-9)
    text = " ".join(comparison.flags)
    assert "Rates differ" in text and "compared at the 50 Hz of slow" in text
    assert "Lengths differ" in text and "fast has no pose between 0.590 and 0.900 s" in text
    row = comparison.metrics["fast"]["knee_angle_r"]
    inside = (slow > 0.595) & (slow < 0.895)
    assert row.frames == len(slow) - inside.sum()
    assert row.mae < 0.02  # cubic splines, at the ends of gaps too
    assert np.isnan(comparison.coordinate("knee_angle_r").values["fast"][inside]).all()
    points = comparison.points["fast"].mpjpe_frames
    assert (np.isnan(points) == inside).all() and np.nanmax(points) < 0.2

    # the gap is shown even where the file that sets the time base has it
    turned = compare_results([other, result_of(tmp_path, "whole", fast, sines(fast, NAMES))])
    assert len(turned.time) == 160 and turned.metrics["whole"]["knee_angle_r"].frames == 130

    late = result_of(tmp_path, "late", slow + 100, sines(slow, NAMES))
    with pytest.raises(BiokinError, match="no time in common: slow 0.200 to 0.980 s.*late 100.200"):
        compare_results([reference, late])
    with pytest.raises(BiokinError, match='Two results are called "slow"'):
        compare_results([reference, reference])
    with pytest.raises(BiokinError, match="two or more results to compare, found 1: slow"):
        compare_results([reference])


def test_motions_that_hold_nan_or_too_little(tmp_path):
    osim, mot = write_result(tmp_path, "walk", TIME, sines(TIME, NAMES))
    lines = mot.read_text(encoding="utf-8").splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith("time")) + 1
    broken = list(lines)
    for i in range(first + 20, first + 25):
        cells = broken[i].split("\t")
        broken[i] = "\t".join([cells[0], *["nan"] * (len(cells) - 1)])
    mot.write_text("\n".join(broken) + "\n", encoding="utf-8")
    result = read_result(osim, mot)
    assert (~result.posed).sum() == 5 and result.label == "walk"
    assert result.gaps == ((pytest.approx(19 / RATE), pytest.approx(25 / RATE)),)
    assert np.isnan(result.joint_centers["knee_r"][22]).all()
    whole = result_of(tmp_path, "whole", TIME, sines(TIME, NAMES))
    assert compare_results([whole, result]).metrics["walk"]["knee_angle_r"].frames == 55

    mot.write_text("\n".join(lines[: first + 1]) + "\n", encoding="utf-8")
    with pytest.raises(BiokinError, match="walk.mot: 1 rows.*expected two or more"):
        read_result(osim, mot)
    mot.write_text("\n".join([*lines[:first], lines[first + 3], lines[first]]) + "\n", encoding="utf-8")
    with pytest.raises(BiokinError, match="not increasing"):
        read_result(osim, mot)
    with pytest.raises(BiokinError, match="nothing.osim: there is no such file"):
        read_result(tmp_path / "nothing.osim", mot)


def test_a_batch_goes_on_after_a_trial_that_fails(tmp_path):
    session = write_project(tmp_path / "session")
    trial(session / "one", 4.0)
    trial(session / "three", 8.0)
    write_project(session / "two")  # nothing in it
    outcome = biokin("compare", session)
    assert outcome.exit_code == 1 and "1 of 3 trials failed: two" in outcome.output
    assert "All trials" in outcome.output and "two results are needed, there is none" in outcome.output
    for name, bias in (("one", 4.0), ("three", 8.0)):
        folder = session / name / "compare" / "opensim_vs_biokin"
        content = read_comparison(folder / "comparison.json")
        assert content["coordinates"]["knee_angle_r"]["metrics"]["biokin"]["bias"] == pytest.approx(
            bias, abs=1e-3
        )
        assert (folder / "report.html").stat().st_size > 1e5
    page = (session / "compare_opensim_vs_biokin.html").read_text(encoding="utf-8")
    assert all(name in page for name in ("one", "two", "three", "PA-MPJPE"))
    assert "one/compare/opensim_vs_biokin/report.html" in page


def test_plot(tmp_path):
    folder = trial(tmp_path / "walk")
    outcome = biokin("plot", folder)
    assert outcome.exit_code == 0, outcome.output
    drawn = sorted(p.name for p in (folder / "kinematics").glob("*.png"))
    assert drawn == ["angles_arms.png", "angles_legs.png"]  # the pelvis and the trunk stand still
    for name in drawn:
        data = (folder / "kinematics" / name).read_bytes()
        assert data.startswith(b"\x89PNG") and len(data) > 20000
    again = biokin("plot", folder)
    assert again.exit_code == 1 and "the figure is there already" in again.output
    assert biokin("plot", folder, "--force", "-q").exit_code == 0

    assert biokin("compare", folder, "--no-report", "-q").exit_code == 0
    written = folder / "compare" / "opensim_vs_biokin"
    assert biokin("plot", written / "comparison.json", "--output", tmp_path / "figures", "-q").exit_code == 0
    assert sorted(p.name for p in (tmp_path / "figures").iterdir()) == drawn
    assert biokin("plot", folder, "-q").exit_code == 0  # its newest comparison
    assert (written / "angles_legs.png").is_file()
    (tmp_path / "wrong.json").write_text(json.dumps({"format": "x"}), encoding="utf-8")
    wrong = biokin("plot", tmp_path / "wrong.json")
    assert wrong.exit_code == 1 and "its format is" in wrong.output
    assert biokin("plot", tmp_path / "nowhere.json").exit_code == 1


def test_a_side_that_stands_still_does_not_cut_the_other_off():
    time = np.arange(50) / RATE
    values = {"knee_angle_r": {"a": 0 * time + 20}, "knee_angle_l": {"a": 60 * np.sin(6 * time)}}
    figure = draw(Curves("walk", ("a",), time, values), FIGURES["legs"][3:4])
    right, left = figure.axes[:2]
    assert right.get_ylim() == left.get_ylim()
    low, high = left.get_ylim()
    assert low < -59 and high > 59
    (line,) = (line for line in left.get_lines() if line.get_label() == "a")
    np.testing.assert_allclose(line.get_ydata(), values["knee_angle_l"]["a"])
    still = draw(
        Curves("walk", ("a",), time, {"pelvis_tilt": {"a": 0 * time}}), FIGURES["pelvis_and_trunk"][:1]
    )
    assert np.ptp(still.axes[0].get_ylim()) >= 10


def test_report_of_a_trial(tmp_path):
    folder = trial(tmp_path / "walk")
    outcome = biokin("report", folder)
    assert outcome.exit_code == 0, outcome.output
    page = folder / "kinematics" / "walk_0-59_biokin_report.html"
    assert page.name in outcome.output.replace("\n", "") and "Knee flexion" in page.read_text(
        encoding="utf-8"
    )
    missing = biokin("report", write_project(tmp_path / "empty"))
    assert missing.exit_code == 1 and "no result of biokin" in missing.output


def test_python_finds_function_and_package():
    assert (
        callable(pose2sim_biokin.compare) and pose2sim_biokin.compare.build.compare_results is compare_results
    )
    assert pose2sim_biokin.read_result is read_result
