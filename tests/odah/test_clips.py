"""A clip on disk: what other programs read in it, that it is whole or absent, and what broken ones say."""

from __future__ import annotations

import errno
import json
import shutil
import tomllib
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from odah import clips
from odah.clips import read_clip, sha256, write_clip
from odah.whole import PARTIAL, remove_partial, whole_folder
from pose2sim_biokin.errors import BiokinError
from pose2sim_biokin.io.project import read_trial
from pose2sim_biokin.motion import Motion
from pose2sim_biokin.segmentation_masks import MasksFactory
from pose2sim_biokin.skeleton import load_skeleton
from pose2sim_biokin.vision.camera import Camera
from pose2sim_biokin.vision.crops import look_rotation

FRAMES, FPS, SIZE = 12, 60, (128, 96)


def camera(name: str, angle: float) -> Camera:
    center = np.array([4 * np.cos(angle), 4 * np.sin(angle), 1.3])
    R = look_rotation(np.array([0.0, 0.0, 0.95]) - center)
    K = np.array([[120.0, 0, 64], [0, 120.0, 48], [0, 0, 1]])
    return Camera(name, *SIZE, K, np.array([-0.2, 0.03, 0.001, -0.002, 0.0]), R, -R @ center)


def picture(k: int, frame: int) -> SimpleNamespace:
    """A light square that moves with the frame, on a ground of the camera's own grey."""
    image = np.full((SIZE[1], SIZE[0], 3), 40 + 60 * k, np.uint8)
    mask = np.zeros((SIZE[1], SIZE[0]), bool)
    mask[20:50, 10 + 5 * frame : 40 + 5 * frame] = True
    image[mask] = (30, 60, 200)
    return SimpleNamespace(image=image, mask=mask)


def make_motion(skeleton) -> Motion:
    rng = np.random.default_rng(0)
    low, high = np.clip(skeleton.coordinate_ranges, -1.5, 1.5).T
    coordinates = low + (high - low) * rng.uniform(0.1, 0.9, (FRAMES, len(low)))
    for side in "rl":  # the kneecap follows the knee
        knee, beta = (skeleton.coordinate_index(f"knee_angle_{side}{end}") for end in ("", "_beta"))
        coordinates[:, beta] = coordinates[:, knee]
    scales = rng.uniform(0.9, 1.1, (len(skeleton.body_names), 3))
    return Motion(np.arange(FRAMES) / FPS, coordinates, scales, skeleton.name)


def make_clip(folder, views=None, **more):
    skeleton = load_skeleton()
    cameras = [camera("cam01", 0.0), camera("cam02", 1.4)]
    views = views or [[picture(k, frame) for frame in range(FRAMES)] for k in range(2)]
    values = {"fps": FPS, "mass_kg": 61.5, "height_m": 1.68, "crf": 12} | more
    write_clip(folder, cameras, views, make_motion(skeleton), skeleton, {"seed": 3}, **values)
    return cameras


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data set") / "S0001" / "clip_0001"
    return folder, make_clip(folder)


@pytest.fixture
def copy(clip, tmp_path):
    return shutil.copytree(clip[0], tmp_path / "clip")


def test_what_is_read_is_what_was_written(clip):
    folder, cameras = clip
    read = read_clip(folder, checksums=True)
    motion = make_motion(load_skeleton())
    assert np.abs(read.motion.coordinates - motion.coordinates).max() < 1e-8
    assert np.array_equal(read.motion.scales, motion.scales) and np.allclose(read.motion.time, motion.time)
    assert read.fps == FPS and read.frames == FRAMES and read.about["seed"] == 3
    for ours, theirs in zip(cameras, read.cameras, strict=True):
        points = np.random.default_rng(1).uniform(-1, 1, (20, 3))
        assert np.abs(ours.project(points) - theirs.project(points)).max() < 1e-6
    for k in range(2):
        masks, images = list(read.masks(k)), list(read.images(k))
        assert len(masks) == len(images) == FRAMES
        for frame in range(FRAMES):
            assert np.array_equal(masks[frame], picture(k, frame).mask)
            assert np.abs(images[frame].astype(int) - picture(k, frame).image).mean() < 6
        assert np.array_equal(next(read.masks(k, [7])), masks[7])


def test_opensim_poses_the_truth_where_the_points_are(clip):
    """truth.osim driven by truth.mot in OpenSim itself, against truth.trc."""
    opensim = pytest.importorskip("opensim")
    read = read_clip(clip[0])
    model = opensim.Model(str(clip[0] / "kinematics" / "truth.osim"))
    state = model.initSystem()
    table = opensim.TimeSeriesTable(str(clip[0] / "kinematics" / "truth.mot"))
    opensim.Model.getSimbodyEngine(model).convertDegreesToRadians(table)
    assert model.getTotalMass(state) == pytest.approx(61.5, rel=1e-6)
    row = 5
    values = table.getRowAtIndex(row).to_numpy()
    for name, value in zip(table.getColumnLabels(), values, strict=True):
        coordinate = model.updCoordinateSet().get(name)
        coordinate.setLocked(state, False)
        coordinate.setValue(state, float(value), False)
    model.realizePosition(state)
    for name in ("LASI", "RTOE", "C7", "RLEL"):
        place = model.getMarkerSet().get(name).getLocationInGround(state).to_numpy()
        assert np.abs(place - read.points[row, read.names.index(name)]).max() < 1e-5
    for name in ("torso", "hand_l"):
        body = model.getBodySet().get(name)
        place = body.findStationLocationInGround(state, body.getMassCenter()).to_numpy()
        assert np.abs(place - read.points[row, read.names.index(f"{name}_com")]).max() < 1e-5


def test_it_is_a_trial_for_pose2sim_and_for_biokin(clip):
    from Pose2Sim.Pose2Sim import read_config_files

    folder, cameras = clip
    level, configs = read_config_files(str(folder))
    assert level == 1 and configs[0]["kinematics"]["kinematics_backend"] == "biokin"
    assert configs[0]["project"]["participant_mass"] == 61.5
    trial = read_trial(configs[0])
    assert [view.name for view in trial.views] == ["cam01", "cam02"] and trial.fps == FPS
    assert [view.video.stem for view in trial.views] == ["cam01", "cam02"]
    segmenter = MasksFactory().load("masks", device="cpu", batch_size=4, project_dir=folder)
    blank = np.zeros((SIZE[1], SIZE[0], 3), np.uint8)
    people = segmenter.segment([blank, blank], "cam02", [0, 4])
    assert [len(p) for p in people] == [1, 1]
    assert np.array_equal(people[1][0].mask, picture(1, 4).mask)


def test_pose2sims_own_calibration_reader_gives_the_same_camera(clip):
    from Pose2Sim.common import retrieve_calib_params

    folder, cameras = clip
    params = retrieve_calib_params(folder / "calibration" / "Calib.toml")
    points = np.random.default_rng(2).uniform(-0.8, 0.8, (10, 3))
    for k, ours in enumerate(cameras):
        rotation = np.asarray(params["R"][k], dtype=float)
        theirs, _ = cv2.projectPoints(
            points, rotation, np.array(params["T"][k]), np.array(params["K"][k]), np.array(params["dist"][k])
        )
        assert np.abs(ours.project(points) - theirs[:, 0]).max() < 1e-3
        assert list(params["S"][k]) == list(ours.size)


def test_same_input_same_bytes(clip, tmp_path):
    make_clip(tmp_path / "again" / "clip_0001")
    first, second = (
        json.loads((f / "files.json").read_text("utf-8")) for f in (clip[0], tmp_path / "again/clip_0001")
    )
    assert first == second
    assert {*clips.TRUTH_FILES, "videos/cam01.mp4", "masks/cam02.mp4"} <= set(first)
    for name, digest in first.items():
        assert sha256(clip[0] / name) == digest


def test_a_clip_is_whole_or_absent(tmp_path):
    def broken():
        yield picture(0, 0)
        raise RuntimeError("renderer")

    views = [broken(), broken()]
    with pytest.raises(RuntimeError, match="renderer"):
        make_clip(tmp_path / "S0001" / "clip_0001", views)
    assert list((tmp_path / "S0001").iterdir()) == []
    with pytest.raises(ValueError, match="1 frames were rendered, the motion has 12"):
        make_clip(tmp_path / "S0001" / "clip_0001", [[picture(0, 0)]] * 2)
    assert list((tmp_path / "S0001").iterdir()) == []


def test_a_full_disk_is_said_and_leaves_nothing(tmp_path):
    def full():
        yield picture(0, 0)
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(BiokinError, match="clip_0001: the disk is full.*finished clips are kept"):
        make_clip(tmp_path / "S0001" / "clip_0001", [full(), full()])
    assert list((tmp_path / "S0001").iterdir()) == []
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(BiokinError, match="cannot be written"):
        make_clip(tmp_path / "file" / "clip_0001")


def test_a_finished_clip_is_not_replaced_and_leftovers_go(tmp_path):
    target = tmp_path / "clip"
    with whole_folder(target) as first:
        (first / "a").write_text("first", encoding="utf-8")
        with whole_folder(target) as second:
            (second / "a").write_text("second", encoding="utf-8")
    assert (target / "a").read_text("utf-8") == "second" and [p.name for p in tmp_path.iterdir()] == ["clip"]
    (tmp_path / "S0001" / f"{PARTIAL}clip_0001-00" / "videos").mkdir(parents=True)
    assert remove_partial(tmp_path) == 1
    assert list((tmp_path / "S0001").iterdir()) == [] and target.is_dir()


@pytest.mark.parametrize(
    "name",
    ["truth.json", "kinematics/truth.mot", "videos/cam02.mp4", "masks/cam01.mp4", "calibration/Calib.toml"],
)
def test_a_clip_that_is_half_there(copy, name):
    (copy / name).unlink()
    with pytest.raises(BiokinError, match=f"not a whole clip: {name} is missing.*odah generate"):
        read_clip(copy)


def test_damaged_clips(copy, clip):
    with pytest.raises(BiokinError, match="truth.json is missing"):
        read_clip(copy.parent)
    trc = (copy / "pose-3d/truth.trc").read_text("utf-8").splitlines()
    (copy / "pose-3d/truth.trc").write_text("\n".join(trc[:-3]), encoding="utf-8")
    with pytest.raises(BiokinError, match="truth.trc has 9 frames, not 12"):
        read_clip(copy)
    with pytest.raises(BiokinError, match="truth.trc is not what was written"):
        read_clip(copy, checksums=True)
    about = json.loads((copy / "truth.json").read_text("utf-8"))
    (copy / "truth.json").write_text(json.dumps(about | {"format": "odah-clip-0"}), encoding="utf-8")
    with pytest.raises(BiokinError, match="format 'odah-clip-0'; expected 'odah-clip-1'"):
        read_clip(copy)
    (copy / "truth.json").write_text('{"format": "odah', encoding="utf-8")
    with pytest.raises(BiokinError, match="truth.json cannot be read"):
        read_clip(copy)


def test_odd_sizes_are_refused(tmp_path):
    skeleton, odd = load_skeleton(), camera("cam01", 0)
    object.__setattr__(odd, "width", 127)
    with pytest.raises(BiokinError, match="cam01 has \\(127, 96\\) pixels; H.264 needs even"):
        write_clip(
            tmp_path / "c", [odd], [[]], make_motion(skeleton), skeleton, {}, fps=60, mass_kg=1, height_m=1
        )


def test_config_is_complete_toml(clip):
    config = tomllib.loads((clip[0] / "Config.toml").read_text("utf-8"))
    assert config["biokin"]["views"] == ["cam01", "cam02"] and config["project"]["frame_rate"] == FPS
