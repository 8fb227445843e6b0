"""Calibration files: what Pose2Sim writes is read, and the other way round; bad files are named."""

import os

import cv2
import numpy as np
import pytest

from pose2sim_biokin.errors import BiokinError
from pose2sim_biokin.io.calibration import (
    find_calibration,
    match_video_size,
    read_calibration,
    write_calibration,
)
from pose2sim_biokin.vision.camera import Camera

GOOD = """
[cam01]
name = "left"
size = [ 1088.0, 1920.0]
matrix = [ [ 1681.24, 0.0, 532.97], [ 0.0, 1681.07, 948.13], [ 0.0, 0.0, 1.0]]
distortions = [ -0.00072, 0.0021, 9.5e-06, 1.07e-05]
rotation = [ 1.688, 1.048, -0.419]
translation = [ 0.321, 0.956, 2.89]
fisheye = false

[cam02]
size = [ 1088, 1920]
matrix = [ [ 1673.72, 0.0, 534.49], [ 0.0, 1673.79, 963.22], [ 0.0, 0.0, 1.0]]
distortions = [ -0.00074, 0.0021, 1.5e-05, 4.5e-06, 0.01]
rotation = [ 1.349, 1.596, -1.198]
translation = [ -0.111, 0.776, 3.067]

[metadata]
adjusted = false
error = 0.0

[capture_volume]
stage = 1
"""


def read_text(tmp_path, text):
    path = tmp_path / "Calib_test.toml"
    path.write_text(text, encoding="utf-8")
    return read_calibration(path)


def test_reads_what_pose2sim_writes(tmp_path):
    left, cam02 = read_text(tmp_path, GOOD)
    assert (left.name, cam02.name, left.size, left.fisheye) == ("left", "cam02", (1088, 1920), False)
    np.testing.assert_allclose(left.R, cv2.Rodrigues(np.array([1.688, 1.048, -0.419]))[0], atol=1e-12)
    np.testing.assert_allclose(left.t, (0.321, 0.956, 2.89))
    assert left.K[0, 2] == 532.97 and cam02.distortion[4] == 0.01


def test_reads_nested_tables_matrices_and_fisheye(tmp_path):
    text = GOOD.replace("[cam0", "[cameras.cam0").replace("fisheye = false", "fisheye = true")
    text = text.replace("[ 1.349, 1.596, -1.198]", "[[1.0, 0, 0], [0, 0, -1], [0, 1, 0]]")
    left, cam02 = read_text(tmp_path, text)
    assert left.fisheye and not cam02.fisheye
    np.testing.assert_allclose(cam02.R, [[1, 0, 0], [0, 0, -1], [0, 1, 0]])


def test_round_trip_and_pose2sim_reads_it(tmp_path):
    cameras = read_text(tmp_path, GOOD)
    eye = Camera("eye 3", 640, 480, cameras[0].K, (0.1, 0.02, 0, 0.003), cameras[1].R, (1, 2, 3), True)
    cameras.append(eye)
    path = tmp_path / "Calib_written.toml"
    write_calibration(path, cameras)
    again = read_calibration(path)
    for one, two in zip(cameras, again, strict=True):
        assert (one.name, one.size, one.fisheye) == (two.name, two.size, two.fisheye)
        for key in ("K", "distortion", "R", "t"):
            np.testing.assert_allclose(getattr(one, key), getattr(two, key), atol=1e-12)
    upstream = pytest.importorskip("Pose2Sim.common").retrieve_calib_params(path)
    for index, camera in enumerate(cameras):
        np.testing.assert_allclose(upstream["K"][index], camera.K)
        np.testing.assert_allclose(upstream["R_mat"][index], camera.R, atol=1e-12)
        np.testing.assert_allclose(upstream["T"][index], camera.t)
        np.testing.assert_allclose(upstream["S"][index], camera.size)


def test_projections_are_pose2sims_own(tmp_path):
    """The same pixels as Pose2Sim's reprojection: cv2.projectPoints with its own reading of the file."""
    common = pytest.importorskip("Pose2Sim.common")
    cameras = read_text(tmp_path, GOOD)
    upstream = common.retrieve_calib_params(tmp_path / "Calib_test.toml")
    for index, camera in enumerate(cameras):
        points = (
            camera.center + 3 * camera.view_direction + np.random.default_rng(0).uniform(-0.5, 0.5, (9, 3))
        )
        truth = cv2.projectPoints(points, *(upstream[k][index] for k in ("R", "T", "K", "dist")))[0][:, 0]
        np.testing.assert_allclose(camera.project(points), truth, atol=1e-8)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("translation = [ 0.321, 0.956, 2.89]\n", ""), "'left' lacks translation"),
        (("9.5e-06", "nan"), "'left': distortions holds NaN"),
        (("[ 1.688, 1.048, -0.419]", "[ 1.688, 1.048]"), "rotation has 2 numbers"),
        (("[ 1.688, 1.048, -0.419]", "[[1, 0, 0], [0, 2, 0], [0, 0, 1]]"), "not a rotation matrix"),
        (("[ 0.321, 0.956, 2.89]", "[ 321.0, 956.0, 2890.0]"), "millimetres.*Divide them by 1000"),
        (("[ 1088.0, 1920.0]", '["wide", 2]'), "size is .* expected numbers"),
        (("[ 1088.0, 1920.0]", "[0, 1920.0]"), "size is"),
        (("[ 1681.24, 0.0, 532.97]", "[ 0.0, 0.0, 532.97]"), "not a camera matrix"),
        (("fisheye = false\n", "fisheye = true\n[cam05]"), "'cam05' lacks size"),
        (('name = "left"', 'name = "cam02"'), "two cameras are named 'cam02'"),
        (("[cam02]", "[checkerboard]"), "at least two .* found only 'left'"),
        (("[metadata]", "[metadata"), "not a valid TOML file"),
    ],
)
def test_bad_files_are_named(tmp_path, change, message):
    assert change[0] in GOOD
    with pytest.raises(BiokinError, match=message) as caught:
        read_text(tmp_path, GOOD.replace(*change))
    assert "Calib_test.toml" in str(caught.value)


def test_lenses_only_and_missing_file(tmp_path):
    text = GOOD
    for numbers in ("[ 1.688, 1.048, -0.419]", "[ 0.321, 0.956, 2.89]", "[ 1.349, 1.596, -1.198]"):
        text = text.replace(numbers, "[0.0, 0.0, 0.0]")
    with pytest.raises(BiokinError, match="same place"):
        read_text(tmp_path, text.replace("[ -0.111, 0.776, 3.067]", "[0.0, 0.0, 0.0]"))
    with pytest.raises(BiokinError, match="nowhere.toml.*cannot be read"):
        read_calibration(tmp_path / "nowhere.toml")


def test_find_calibration_looks_in_the_trial_then_in_the_session(tmp_path):
    trial = tmp_path / "session" / "Trial_1"
    trial.mkdir(parents=True)
    with pytest.raises(BiokinError, match="no calibration folder"):
        find_calibration(trial)
    session = tmp_path / "session" / "Calibration_2"
    session.mkdir()
    with pytest.raises(BiokinError, match="no calibration file"):
        find_calibration(trial)
    (session / "old.toml").write_text("", encoding="utf-8")
    (session / "new.TOML").write_text("", encoding="utf-8")
    (session / "Calib.qca.txt").write_text("", encoding="utf-8")
    os.utime(session / "old.toml")
    assert find_calibration(trial).parent == session
    own = trial / "calib"
    own.mkdir()
    (own / "own.toml").write_text("", encoding="utf-8")
    assert find_calibration(trial) == own / "own.toml"


def test_match_video_size(tmp_path):
    camera = read_text(tmp_path, GOOD)[0]
    assert match_video_size(camera, 1088, 1920, "v.mp4") is camera
    cropped = match_video_size(camera, 1080, 1920, "v.mp4")
    assert cropped.size == (1080, 1920) and np.array_equal(cropped.K, camera.K)
    with pytest.raises(BiokinError, match="v.mp4.*swapped"):
        match_video_size(camera, 1920, 1080, "v.mp4")
    with pytest.raises(BiokinError, match="by 0.5"):
        match_video_size(camera, 544, 960, "v.mp4")
    with pytest.raises(BiokinError, match="order"):
        match_video_size(camera, 640, 480, "v.mp4")
