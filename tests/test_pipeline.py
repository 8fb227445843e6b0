"""The pipeline on a filmed scene whose motion is known; only the two networks are stand-ins."""

from __future__ import annotations

import errno
import logging

import cv2
import numpy as np
import pytest
from pipeline_scene import FPS, ColourSegmenter, KnowingPredictor, make_scene

from pose2sim_biokin import perception, pipeline, plugins
from pose2sim_biokin.errors import BiokinError
from pose2sim_biokin.hookspecs import hookimpl
from pose2sim_biokin.io.mot import read_mot
from pose2sim_biokin.io.trc import read_trc
from pose2sim_biokin.quality import read_quality
from pose2sim_biokin.skeleton import load_skeleton


@pytest.fixture
def segmenter():
    """A segmenter plugin, installed while the test runs."""
    tool = ColourSegmenter()

    class Plugin:
        @hookimpl
        def person_segmenters(self):
            return [tool]

    manager = plugins.plugin_manager()
    plugin = Plugin()
    manager.register(plugin)
    yield tool
    manager.unregister(plugin)


@pytest.fixture
def run(monkeypatch, segmenter):
    """Run a scene with the stand-ins; gives the result and the predictor."""

    def run(scene, **kwargs):
        predictor = KnowingPredictor(scene)
        monkeypatch.setattr(pipeline, "Predictor", lambda *args, **_: predictor)
        return pipeline.run_trial(scene.config_dict, **kwargs), predictor

    return run


def _files(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_from_videos_to_files(tmp_path, run, caplog):
    scene = make_scene(tmp_path / "walk", count=24)
    stages = {}
    with caplog.at_level(logging.INFO):
        result, predictor = run(
            scene, progress=lambda stage, done, total: stages.update({stage: (done, total)})
        )
    # cam01 and cam02 are 100 degrees apart, the other pairs 100 and 160
    assert "Views cam01 and cam02, 100 degrees apart" in caplog.text
    assert all(done == total for done, total in stages.values()) and len(stages) >= 5

    made = set(_files(tmp_path / "walk")) - {"calibration/Calib.toml"}
    made = {name for name in made if not name.startswith("videos/")}
    assert made == {
        "kinematics/walk_0-23_biokin.mot",
        "kinematics/walk_0-23_biokin.osim",
        "kinematics/walk_0-23_biokin.bvh",
        "kinematics/walk_0-23_biokin_quality.json",
        "kinematics/walk_0-23_biokin_report.html",
        "kinematics/walk_0-23_biokin_cam01.mp4",
        "kinematics/walk_0-23_biokin_cam02.mp4",
        "pose-3d/walk_0-23_biokin.trc",
        "pose-3d/walk_0-23_biokin.c3d",
    }
    assert {p.relative_to(tmp_path / "walk").as_posix() for p in result.paths.values()} == made
    assert not [p for p in (tmp_path / "walk").rglob(".biokin-*")]
    assert list(result.timings)[-1] == "total" and result.timings["total"] >= result.timings["joint angles"]

    skeleton = load_skeleton()
    table = read_mot(result.paths["mot"], skeleton)
    np.testing.assert_allclose(table.coordinates, scene.motion.coordinates, atol=1e-6)
    np.testing.assert_allclose(table.time, np.arange(24) / FPS, atol=1e-6)

    # what the network was shown: the skeleton projects into the crops' masks
    points = scene.figure.points[:, : len(skeleton.body_names)]
    for view in predictor.shown.views:
        assert view.found.all() and view.images.shape == (24, 64, 64, 3)
        for row in (0, 12, 23):
            pixels = (points[row] @ view.R[row].T + view.t[row]) @ view.K[row].T
            x, y = np.round(pixels[:, :2] / pixels[:, 2:]).astype(int).T
            assert view.masks[row][y, x].mean() > 0.9
            colour = view.images[row][view.masks[row] > 0].mean(axis=0)
            assert colour[0] > 150 > 100 > colour[2]  # RGB, not BGR

    quality = read_quality(result.paths["quality"])
    assert quality["trial"] == "walk" and quality["fps"] == FPS and quality["frame_range"] == [0, 23]
    assert quality["segmentation"] == "colours, for the tests"
    assert quality["frames"]["mask_found"]["cam01"] == [True] * 24
    assert quality["timings_s"]["joint angles"] >= 0
    assert [v["camera"] for v in quality["views"]] == ["cam01", "cam02"]


def test_the_result_is_checked_in_all_cameras(tmp_path, run, segmenter):
    """The stand-in for the network knows the motion: joints lie in all masks, also of the unused camera."""
    scene = make_scene(tmp_path / "walk", count=24, views=["cam01", "cam02"], overlay_video=False)
    result, _ = run(scene)
    assert len([camera for camera, _ in segmenter.seen if camera == "cam03"]) == perception.UNUSED_FRAMES
    quality = read_quality(result.paths["quality"])
    check = quality["check"]
    assert {camera: view["used"] for camera, view in check["views"].items()} == {
        "cam01": True,
        "cam02": True,
        "cam03": False,
    }
    for view in check["views"].values():
        assert view["joints_inside"] > 0.9 and view["limbs"]["thigh_r"] > 0.9
        assert view["iou_mean"] > 0.5  # a figure of sticks 16 cm thick
    assert check["views"]["cam01"]["frames"] == 24
    assert check["views"]["cam03"]["frames"] == perception.UNUSED_FRAMES
    iou = quality["frames"]["iou"]
    assert sum(value is not None for value in iou["cam03"]) == perception.UNUSED_FRAMES
    assert all(value > 0.4 for value in iou["cam01"])
    assert check["flips"] == 0 and check["facing_jumps"] == 0


def test_the_subject_is_judged_by_his_own_mask_elsewhere(tmp_path, run):
    """The unused camera also sees a bystander of the same size."""
    scene = make_scene(
        tmp_path / "walk", count=8, views=["cam01", "cam02"], bystander_in=(2,), overlay_video=False
    )
    result, _ = run(scene)
    assert read_quality(result.paths["quality"])["check"]["views"]["cam03"]["joints_inside"] > 0.9


def test_a_camera_that_cannot_be_used_does_not_stop_the_check(tmp_path, run, caplog):
    scene = make_scene(tmp_path / "walk", count=6, views=["cam01", "cam02"], overlay_video=False)
    (tmp_path / "walk" / "videos" / "cam03.avi").write_bytes(b"no video")
    with caplog.at_level(logging.INFO):
        result, _ = run(scene)
    assert "cam03 is not used to check the result" in caplog.text
    assert set(read_quality(result.paths["quality"])["check"]["views"]) == {"cam01", "cam02"}


def test_no_check(tmp_path, run):
    scene = make_scene(tmp_path / "walk", count=4, overlay_video=False, check_views=False)
    result, _ = run(scene)
    quality = read_quality(result.paths["quality"])
    assert "check" not in quality and "iou" not in quality["frames"]


def test_trc_stands_where_the_cameras_see_the_person(tmp_path, run):
    """World to .trc: the points of the file, turned back to the world, project onto the filmed person."""
    scene = make_scene(tmp_path / "walk", angles=(20, 110), count=4)
    result, _ = run(scene)
    points = read_trc(result.paths["trc"]).points  # TRC (X, Y, Z) = world (Y, Z, X)
    world = points[..., [2, 0, 1]][:, :22]
    for camera in scene.cameras:
        capture = cv2.VideoCapture(str(tmp_path / "walk" / "videos" / f"{camera.name}.avi"))
        for row in range(4):
            image = capture.read()[1]
            x, y = np.round(camera.project(world[row])).astype(int).T
            assert (image[y, x, 2] > 120).mean() > 0.9


def test_offsets_range_and_names(tmp_path, run, segmenter):
    scene = make_scene(
        tmp_path / "walk", angles=(0, 90), count=20, views=["cam02", "cam01"], sync_offsets={"cam01": 3}
    )
    scene.config_dict["project"]["frame_range"] = [4, 12]
    result, predictor = run(scene)
    assert result.paths["mot"].name == "walk_4-11_biokin.mot"
    np.testing.assert_allclose(predictor.shown.time, np.arange(4, 12) / FPS)
    assert [f for c, f in segmenter.seen if c == "cam01"] == list(range(7, 15))
    assert [f for c, f in segmenter.seen if c == "cam02"] == list(range(4, 12))
    table = read_trc(result.paths["trc"])
    assert list(table.frames) == list(range(4, 12))


def test_no_frame_is_looked_at_twice(tmp_path, run, segmenter):
    """What the choice of views has seen is not looked for again, and the network is shown the same."""
    scene = make_scene(tmp_path / "walk", count=20, overlay_video=False, check_views=False)
    _, predictor = run(scene)
    chosen = predictor.shown.views
    assert len(segmenter.seen) == len(set(segmenter.seen))
    cameras = {camera for camera, _ in segmenter.seen}
    counts = {camera: sum(seen == camera for seen, _ in segmenter.seen) for camera in cameras}
    used = sorted(camera for camera, count in counts.items() if count == 20)
    assert len(cameras) == 3 and len(used) == 2
    named = make_scene(tmp_path / "named", count=20, views=used, overlay_video=False, check_views=False)
    _, other = run(named)
    for one, two in zip(chosen, other.shown.views, strict=True):
        assert one.found.all()
        for name in ("images", "masks", "K", "R", "t"):
            np.testing.assert_array_equal(getattr(one, name), getattr(two, name))


def test_views_that_are_named_are_not_searched_for(tmp_path, run, segmenter):
    scene = make_scene(
        tmp_path / "walk", count=6, views=["cam03", "cam01"], overlay_video=False, check_views=False
    )
    result, _ = run(scene)
    assert {camera for camera, _ in segmenter.seen} == {"cam01", "cam03"}
    assert not [key for key in result.paths if key.startswith("overlay")]


def test_a_camera_that_does_not_see_the_person_is_not_chosen(tmp_path, run):
    scene = make_scene(tmp_path / "walk", angles=(0, 90, 130), count=6)
    dark = cv2.VideoWriter(
        str(tmp_path / "walk" / "videos" / "cam02.avi"), cv2.VideoWriter_fourcc(*"MJPG"), FPS, (320, 240)
    )
    for _ in range(6):
        dark.write(np.full((240, 320, 3), 25, np.uint8))
    dark.release()
    result, _ = run(scene)
    assert "overlay cam01" in result.paths and "overlay cam03" in result.paths


def test_a_bystander_in_one_view_is_never_the_subject(tmp_path, run):
    scene = make_scene(tmp_path / "walk", angles=(0, 90), count=10, bystander_in=(0,))
    _, predictor = run(scene)
    for view in predictor.shown.views:
        assert view.found.all()
        colours = view.images[view.masks > 0].mean(axis=0)
        assert colours[0] > 150 > 100 > colours[2]


def test_short_absence_is_interpolated_and_long_absence_flagged(tmp_path, run, caplog):
    scene = make_scene(
        tmp_path / "walk", angles=(0, 90), count=24, absent=(5, 6, *range(12, 20)), max_gap_s=0.1
    )
    result, predictor = run(scene)
    assert predictor.shown.max_gap_s == 0.1
    quality = read_quality(result.paths["quality"])
    assert [i for i, v in enumerate(quality["frames"]["interpolated"]) if v] == [5, 6]
    assert [i for i, v in enumerate(quality["frames"]["pose"]) if not v] == list(range(12, 20))
    assert any("interpolated" in text for text in quality["warnings"])
    assert any("no pose" in text for text in quality["warnings"]) and "no pose" in caplog.text
    assert len(read_mot(result.paths["mot"], load_skeleton()).time) == 16
    assert np.isnan(read_trc(result.paths["trc"]).points[12:20]).all()


def test_absent_in_all_frames(tmp_path, run):
    scene = make_scene(tmp_path / "walk", angles=(0, 90), count=5, absent=range(5))
    with pytest.raises(BiokinError, match=r"Nobody is found.*cam01: 0 of 5 frames.*segmentation"):
        run(scene)
    assert not (tmp_path / "walk" / "kinematics").exists()


def test_views_that_never_agree(tmp_path, run):
    scene = make_scene(tmp_path / "walk", angles=(0, 90), count=5)
    videos = tmp_path / "walk" / "videos"
    (videos / "cam02.avi").unlink()
    # somebody else, up on a ladder
    elsewhere = make_scene(
        tmp_path / "other", angles=(0, 90), count=5, absent=range(5), bystander_in=(1,), bystander_up=0.75
    )
    (elsewhere.project_dir / "videos" / "cam02.avi").rename(videos / "cam02.avi")
    with pytest.raises(BiokinError, match="No person is seen by both cameras at once.*calibration"):
        run(scene)


def test_cameras_that_face_each_other_are_warned_about(tmp_path, run):
    scene = make_scene(tmp_path / "walk", angles=(0, 165), count=4)
    result, _ = run(scene)
    assert any("165 degrees" in text for text in read_quality(result.paths["quality"])["warnings"])


def test_filtered_angles_join_the_others(tmp_path, run):
    scene = make_scene(tmp_path / "walk", angles=(0, 90), count=24, overlay_video=False)
    scene.config_dict["kinematics"] |= {"filter_ik": True, "ik_filter_type": "butterworth"}
    result, _ = run(scene)
    assert result.paths["filtered mot"].name == "walk_0-23_biokin_filt_butterworth.mot"
    filtered = read_mot(result.paths["filtered mot"], load_skeleton()).coordinates
    assert 1e-6 < np.abs(filtered - scene.motion.coordinates).max() < 0.2
    scene.config_dict["kinematics"]["ik_filter_type"] = "boxcar"
    with pytest.raises(BiokinError, match="boxcar"):
        run(scene)


def test_interrupted_or_failed_runs_leave_earlier_results(tmp_path, run, segmenter, monkeypatch):
    scene = make_scene(tmp_path / "walk", angles=(0, 90), count=8)
    run(scene)
    before = _files(tmp_path / "walk")

    segmenter.interrupt_at = 12
    with pytest.raises(KeyboardInterrupt):
        run(scene)
    segmenter.interrupt_at = None
    assert _files(tmp_path / "walk") == before

    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "write_quality", interrupted)  # after all other files are written aside
    with pytest.raises(KeyboardInterrupt):
        run(scene)
    assert _files(tmp_path / "walk") == before

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pipeline, "write_quality", full)
    with pytest.raises(BiokinError, match="disk is full.*Earlier results are as they were"):
        run(scene)
    assert _files(tmp_path / "walk") == before
    assert not list((tmp_path / "walk").rglob(".biokin-*"))


def test_output_folder_that_cannot_be_written_shows_before_the_work(tmp_path, run, segmenter):
    scene = make_scene(tmp_path / "walk", angles=(0, 90), count=4)
    (tmp_path / "walk" / "kinematics").write_text("in the way")
    with pytest.raises(BiokinError, match=r"kinematics: a file is in the place of a folder"):
        run(scene)
    assert segmenter.seen == []


def test_a_corrupt_checkpoint_shows_before_the_work(tmp_path, segmenter):
    scene = make_scene(tmp_path / "walk", angles=(0, 90), count=4)
    (tmp_path / "walk" / "broken.pt").write_bytes(b"not a checkpoint")
    scene.config_dict["biokin"]["weights"] = "broken.pt"
    with pytest.raises(BiokinError, match=r"broken\.pt"):
        pipeline.run_trial(scene.config_dict)
    assert segmenter.seen == [] and not (tmp_path / "walk" / "kinematics").exists()


def test_masks_that_the_user_brings(tmp_path, run, segmenter, caplog):
    scene = make_scene(
        tmp_path / "walk",
        angles=(0, 90, 200),
        count=6,
        views=["cam01", "cam02"],
        overlay_video=False,
        segmentation="masks",
        masks_dir="mine",
    )
    for camera in scene.cameras[:2]:  # of the third there are none: it does not judge, and stops nothing
        folder = tmp_path / "walk" / "mine" / camera.name
        folder.mkdir(parents=True)
        capture = cv2.VideoCapture(str(tmp_path / "walk" / "videos" / f"{camera.name}.avi"))
        for row in range(6):
            mask = 255 * (capture.read()[1][..., 2] > 120).astype(np.uint8)
            cv2.imwrite(str(folder / f"{row:04d}.png"), mask)
    with caplog.at_level(logging.INFO):
        result, predictor = run(scene)
    assert all(view.found.all() for view in predictor.shown.views) and segmenter.seen == []
    quality = read_quality(result.paths["quality"])
    assert "mine" in quality["segmentation"]
    assert quality["check"]["views"]["cam03"]["frames"] == 0 and quality["check"]["iou_unused"] is None
    assert "cam03 is not used to check the result" in caplog.text


def test_a_single_frame_in_a_folder_with_an_awkward_name(tmp_path, run):
    import opensim

    scene = make_scene(tmp_path / "Größe 1.5 m", angles=(0, 90), count=4)
    scene.config_dict["project"]["frame_range"] = [2, 3]
    result, _ = run(scene)
    assert "bvh" not in result.paths and result.paths["mot"].name == "Größe 1.5 m_2-2_biokin.mot"
    model = opensim.Model(str(result.paths["osim"]))
    state = model.initSystem()
    assert model.getTotalMass(state) == pytest.approx(65.0)
    assert opensim.TimeSeriesTable(str(result.paths["mot"])).getNumRows() == 1
    capture = cv2.VideoCapture(str(result.paths["overlay cam02"]))
    assert capture.read()[0] and not capture.read()[0]


def test_with_a_real_network_that_has_learnt_nothing(tmp_path, segmenter):
    """The true predictor in its place: everything it needs arrives, everything it gives is written."""
    import torch

    from pose2sim_biokin.network.biokin import BiokinNetwork
    from pose2sim_biokin.network.checkpoint import save_checkpoint
    from pose2sim_biokin.network.presets import get_preset

    torch.manual_seed(0)
    scene = make_scene(
        tmp_path / "walk",
        angles=(0, 90),
        count=14,
        absent=(3, 4, 9, 10, 11, 12),
        max_gap_s=0.08,
        weights="w.pt",
    )
    digest = save_checkpoint(
        BiokinNetwork(get_preset("fast"), load_skeleton()), tmp_path / "walk" / "w.pt", {"note": "untrained"}
    )
    result = pipeline.run_trial(scene.config_dict)
    quality = read_quality(result.paths["quality"])
    assert [i for i, v in enumerate(quality["frames"]["interpolated"]) if v] == [3, 4]
    assert [i for i, v in enumerate(quality["frames"]["pose"]) if not v] == [9, 10, 11, 12]
    assert quality["network"]["weights_sha256"] == digest
    assert all(0 < size < 3 for size in quality["frames"]["hull_extent_m"][0])
    assert quality["frames"]["overlap"]["cam01"][3] is None
    table = read_mot(result.paths["mot"], load_skeleton())
    assert len(table.time) == 10 and np.isfinite(table.coordinates).all()
    # the pelvis is found relative to the hull: near the person, whatever the angles
    pelvis = read_trc(result.paths["trc"]).points[0, 0]
    assert np.linalg.norm((pelvis - scene.figure.points[0, 0][[1, 2, 0]])[[0, 2]]) < 1.0
