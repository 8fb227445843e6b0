"""Cameras meet their videos, frames their numbers; what does not fit together is said."""

import json
import logging
import re
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from pose2sim_biokin.errors import BiokinError
from pose2sim_biokin.io.calibration import write_calibration
from pose2sim_biokin.io.project import pair_cameras, read_trial
from pose2sim_biokin.vision.camera import Camera

SIZE = (96, 64)


def camera(name, angle=0.0, size=SIZE):
    """A camera 4 m from the origin, looking at it horizontally."""
    forward = -np.array([np.cos(angle), np.sin(angle), 0.0])
    right = np.cross(forward, [0.0, 0.0, 1.0])
    R = np.array([right, np.cross(forward, right), forward])
    K = np.array([[80.0, 0, size[0] / 2], [0, 80.0, size[1] / 2], [0, 0, 1]])
    return Camera(name, *size, K, np.zeros(4), R, -R @ (-4 * forward))


def write_video(path, frames=6, fps=30, size=SIZE):
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), fps, size)
    assert writer.isOpened()
    for i in range(frames):
        writer.write(np.full((size[1], size[0], 3), 5 * i, np.uint8))
    writer.release()


@pytest.fixture
def trial(tmp_path):
    """make(names, ...) -> config dict of a trial with one short video per name."""
    folder = tmp_path / "walk"

    def make(names=("cam1", "cam2"), cameras=None, frames=None, fps=None, sizes=None, **config):
        (folder / "calibration").mkdir(parents=True, exist_ok=True)
        found = cameras or [camera(name, i) for i, name in enumerate(names)]
        write_calibration(folder / "calibration" / "Calib.toml", found)
        for i, name in enumerate(names):
            write_video(
                folder / "videos" / f"{name}.avi",
                frames[i] if frames else 6,
                fps[i] if fps else 30,
                sizes[i] if sizes else SIZE,
            )
        return {"project": {"project_dir": str(folder), **config.pop("project", {})}, **config}

    return make


def write_pose(config, name, numbers, offset=None):
    """Pose files of a camera, and their copies as Pose2Sim.synchronization() makes them."""
    root = Path(config["project"]["project_dir"])
    for parent, shift in (("pose", 0), ("pose-sync", offset)):
        if shift is None:
            continue
        folder = root / parent / f"{name}_json"
        folder.mkdir(parents=True)
        for number in numbers:
            if parent == "pose" or number - shift > 0:
                (folder / f"{name}_{number - shift:06d}.json").write_text(json.dumps({"people": []}))


def test_a_trial(trial):
    found = read_trial(trial())
    assert found.name == "walk" and found.fps == 30.0
    assert [(v.name, v.video.name, v.offset) for v in found.views] == [
        ("cam1", "cam1.avi", 0),
        ("cam2", "cam2.avi", 0),
    ]
    frames = found.frames(found.views)
    assert frames == range(6) and found.stem(frames) == "walk_0-5_biokin"
    assert found.kinematics_dir == found.project_dir / "kinematics"
    assert found.pose3d_dir == found.project_dir / "pose-3d"


def test_project_dir_may_be_a_path_and_the_calibration_one_level_up(trial):
    config = trial()
    folder = Path(config["project"]["project_dir"])
    (folder / "calibration").rename(folder.parent / "Calibration_new")
    config["project"]["project_dir"] = folder
    assert read_trial(config).calibration.parent.name == "Calibration_new"


def test_views_are_named_by_camera_or_by_video_and_keep_their_order(trial):
    cameras = [camera(name, i) for i, name in enumerate(["left", "middle", "right"])]
    config = trial(("v1", "v2", "v3"), cameras, biokin={"views": ["right", "v1"]})
    found = read_trial(config)
    assert [(v.name, v.video.stem) for v in found.views] == [("right", "v3"), ("left", "v1")]


def test_a_view_that_does_not_exist(trial):
    with pytest.raises(BiokinError, match='"cam3".*no such camera.*Did you mean "cam[12]".*cam1, cam2'):
        read_trial(trial(biokin={"views": ["cam1", "cam3"]}))


def test_a_view_named_twice(trial):
    cameras = [camera("left"), camera("right", 1)]
    with pytest.raises(BiokinError, match='both names are the same camera "left"'):
        read_trial(trial(("v1", "v2"), cameras, biokin={"views": ["left", "v1"]}))


def test_pairs_by_name_whatever_the_order():
    cameras = [camera(name) for name in ("cam10", "cam2", "CAM1")]
    videos = [Path("cam1.mp4"), Path("cam10.mp4"), Path("cam2.mp4")]
    pairs = pair_cameras(cameras, videos, Path("Calib.toml"))
    assert [(c.name, v.name) for c, v in pairs] == [
        ("cam10", "cam10.mp4"),
        ("cam2", "cam2.mp4"),
        ("CAM1", "cam1.mp4"),
    ]


def test_pairs_by_order_of_the_last_number_as_pose2sim_does():
    cameras = [camera(f"int_cam{i}_img") for i in (1, 2, 10)]
    videos = [Path("b10.mp4"), Path("c2.mp4"), Path("d1.mp4")]
    pairs = pair_cameras(cameras, videos, Path("Calib.toml"))
    assert [v.name for _, v in pairs] == ["d1.mp4", "c2.mp4", "b10.mp4"]


def test_a_camera_without_video_is_left_out_when_names_tell(trial, caplog):
    caplog.set_level(logging.WARNING)
    found = read_trial(trial(cameras=[camera("cam1"), camera("cam2", 1), camera("cam3", 2)]))
    assert [view.name for view in found.views] == ["cam1", "cam2"]
    assert 'Camera "cam3"' in caplog.text and "has no video" in caplog.text


def test_a_video_without_camera_is_left_out_when_names_tell(trial, caplog):
    found = read_trial(trial(("cam1", "cam2", "cam3"), [camera("cam1"), camera("cam2", 1)]))
    assert [view.name for view in found.views] == ["cam1", "cam2"]
    assert "cam3.avi: no camera" in caplog.text


def test_a_chosen_camera_without_video(trial):
    cameras = [camera("cam1"), camera("cam2", 1), camera("cam3", 2)]
    with pytest.raises(BiokinError, match='camera "cam3", which has no video.*cam1.avi, cam2.avi'):
        read_trial(trial(cameras=cameras, biokin={"views": ["cam1", "cam3"]}))


def test_counts_that_differ_with_names_that_do_not_tell(trial):
    with pytest.raises(BiokinError, match="3 cameras .a, b, c.*2 videos .cam1.avi, cam2.avi"):
        read_trial(trial(cameras=[camera("a"), camera("b", 1), camera("c", 2)]))


def test_no_videos(trial):
    config = trial()
    for video in Path(config["project"]["project_dir"], "videos").iterdir():
        video.unlink()
    with pytest.raises(BiokinError, match="videos: no videos. Expected one video file"):
        read_trial(config)


def test_only_one_video(trial):
    config = trial()
    Path(config["project"]["project_dir"], "videos", "cam2.avi").unlink()
    with pytest.raises(BiokinError, match="only one video .cam1.avi"):
        read_trial(config)


def test_an_empty_video_is_named(trial):
    config = trial()
    Path(config["project"]["project_dir"], "videos", "cam2.avi").write_bytes(b"")
    with pytest.raises(BiokinError, match="cam2.avi.*empty"):
        read_trial(config)


def test_no_calibration(tmp_path):
    write_video(tmp_path / "walk" / "videos" / "cam1.avi")
    with pytest.raises(BiokinError, match="no calibration folder"):
        read_trial({"project": {"project_dir": str(tmp_path / "walk")}})


def test_no_such_folder(tmp_path):
    with pytest.raises(BiokinError, match="nowhere: no such folder"):
        read_trial({"project": {"project_dir": str(tmp_path / "nowhere")}})


def test_video_of_another_size(trial):
    with pytest.raises(BiokinError, match="cam2.avi.*192x128.*96x64"):
        read_trial(trial(sizes=[SIZE, (192, 128)]))


def test_a_turned_phone(trial):
    with pytest.raises(BiokinError, match="cam1.avi.*64x96.*96x64.*turned"):
        read_trial(trial(sizes=[SIZE[::-1], SIZE]))


def test_sizes_of_cameras_that_are_not_used_do_not_matter(trial):
    names = ("cam1", "cam2", "cam3")
    config = trial(names, sizes=[SIZE, SIZE, SIZE[::-1]], biokin={"views": ["cam1", "cam2"]})
    assert len(read_trial(config).views) == 2


def test_rates_that_differ(trial):
    with pytest.raises(BiokinError, match="cam1 has 30 frames per second, cam2 has 60"):
        read_trial(trial(fps=[30, 60]))


def test_rates_that_differ_a_little(trial, caplog):
    found = read_trial(trial(fps=[29.97, 30]))
    assert found.fps == 30.0 and "differ a little" in caplog.text


def test_the_configs_frame_rate_wins(trial):
    assert read_trial(trial(project={"frame_rate": 240})).fps == 240.0


def test_folders_of_images(trial, caplog):
    config = trial(())
    folder = Path(config["project"]["project_dir"])
    write_calibration(folder / "calibration" / "Calib.toml", [camera("cam1"), camera("cam2", 1)])
    for name in ("cam1", "cam2"):
        (folder / "videos" / name).mkdir(parents=True)
        for i in range(3):
            image = np.zeros((SIZE[1], SIZE[0], 3), np.uint8)
            cv2.imwrite(str(folder / "videos" / name / f"image{i}.png"), image)
    found = read_trial(config)
    assert [v.info.frame_count for v in found.views] == [3, 3]
    assert found.fps == 30.0 and "set to 30 fps" in caplog.text


def test_videos_of_different_length_share_the_common_frames(trial, caplog):
    found = read_trial(trial(frames=[6, 4]))
    assert found.frames(found.views) == range(4)
    assert "different length: cam1 0-5 (offset 0), cam2 0-3 (offset 0)" in caplog.text


def test_frame_range_is_half_open_and_kept_within_the_recordings(trial, caplog):
    config = trial(project={"frame_range": [2, 5]})
    found = read_trial(config)
    assert found.frames(found.views) == range(2, 5) and found.stem(range(2, 5)) == "walk_2-4_biokin"
    config["project"]["frame_range"] = [4, 100]
    found = read_trial(config)
    assert found.frames(found.views) == range(4, 6) and "Using frames 4-5" in caplog.text
    config["project"]["frame_range"] = [50, 100]
    found = read_trial(config)
    with pytest.raises(BiokinError, match=r"frame_range in Config.toml is \[50, 100\].*frames 0-5"):
        found.frames(found.views)


def test_offsets_of_the_config(trial):
    config = trial(frames=[6, 9], biokin={"sync_offsets": {"cam2": 2}})
    found = read_trial(config)
    assert [view.offset for view in found.views] == [0, 2]
    assert found.frames(found.views) == range(6)  # cam2: frames 2 to 7 of 0 to 8
    config["biokin"]["sync_offsets"] = {"cam1": -2}
    found = read_trial(config)
    assert found.views[0].frames == range(2, 8)  # its frame 0 is synchronised frame 2
    config["biokin"]["sync_offsets"] = {"cam9": 1}
    with pytest.raises(BiokinError, match='sync_offsets.*"cam9".*Known: cam1, cam2'):
        read_trial(config)


def test_recordings_that_do_not_overlap(trial):
    found = read_trial(trial(biokin={"sync_offsets": {"cam1": -20}}))
    with pytest.raises(BiokinError, match="no frame in common: cam1 20-25 .offset -20., cam2 0-5"):
        found.frames(found.views)


@pytest.mark.parametrize("offset", [3, 0, -4])
def test_offsets_of_pose2sims_pose_files(trial, caplog, offset):
    caplog.set_level(logging.INFO)
    config = trial(frames=[10, 12])
    write_pose(config, "cam1", range(10), 0)
    write_pose(config, "cam2", range(12), offset)
    found = read_trial(config)
    assert [view.offset for view in found.views] == [0, offset]
    assert f"cam1 +0, cam2 {offset:+d}" in caplog.text and "several" not in caplog.text
    # The same frame of the scene: upstream's synchronised number + offset is the number it had.
    assert found.views[1].frames[0] + offset == max(0, offset)


def test_offsets_of_pose2sims_own_synchronization(trial, monkeypatch, caplog):
    """The files that upstream itself renames, for a recording that started 4 frames earlier."""
    caplog.set_level(logging.INFO)
    config = trial(frames=[40, 44], project={"frame_rate": 30, "frame_range": "all"})
    folder = Path(config["project"]["project_dir"])
    (folder / "Config.toml").write_text("")
    rng = np.random.default_rng(0)
    height = 300 + 100 * np.cumsum(rng.normal(size=60))  # a random walk up and down: one best alignment
    for name, shift, count in (("cam1", 4, 40), ("cam2", 0, 44)):
        pose = folder / "pose" / f"{name}_json"
        pose.mkdir(parents=True)
        for i in range(count):
            points = [c for _ in range(26) for c in (200.0, float(height[i + shift]), 0.9)]
            person = {"person_id": [-1], "pose_keypoints_2d": points}
            (pose / f"{name}_{i:06d}.json").write_text(json.dumps({"people": [person]}))
    from Pose2Sim.synchronization import synchronize_cams_all

    monkeypatch.setattr("matplotlib.pyplot.show", lambda *args, **kwargs: None)
    settings = {"synchronization_gui": False, "display_sync_plots": False, "save_sync_plots": False}
    synchronize_cams_all(config | {"synchronization": settings, "pose": {"pose_model": "HALPE_26"}})
    (said,) = re.findall(r"Camera cam1 and cam2: (-?\d+) frames offset", caplog.text)
    assert [view.offset for view in read_trial(config).views] == [0, int(said)]
    assert abs(int(said) - 4) <= 1  # upstream's own estimate is a frame off at times


def test_pose_files_of_several_synchronizations_are_noticed(trial, caplog):
    config = trial()
    write_pose(config, "cam1", range(6), 0)
    write_pose(config, "cam2", range(6), 2)
    folder = Path(config["project"]["project_dir"], "pose-sync", "cam2_json")
    (folder / "cam2_000009.json").write_text("{}")
    read_trial(config)
    assert "perhaps of several synchronizations" in caplog.text


def test_synchronized_pose_files_without_the_originals(trial):
    config = trial()
    write_pose(config, "cam1", range(6), 0)
    write_pose(config, "cam2", range(6), 2)
    for path in Path(config["project"]["project_dir"], "pose", "cam2_json").iterdir():
        path.unlink()
    with pytest.raises(BiokinError, match='no pose files of "cam2".*sync_offsets'):
        read_trial(config)


def test_a_calibration_in_millimetres(trial):
    cameras = [camera("cam1"), replace(camera("cam2", 1), t=np.array([0, 0, 4000.0]))]
    with pytest.raises(BiokinError, match="millimetres"):
        read_trial(trial(cameras=cameras))
