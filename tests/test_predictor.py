"""The predictor with a small untrained network on stick figures."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from figures import SKELETON, cameras_around, draw, random_coordinates

from pose2sim_biokin.errors import BiokinError
from pose2sim_biokin.network.biokin import BiokinNetwork
from pose2sim_biokin.network.checkpoint import save_checkpoint
from pose2sim_biokin.network.presets import FAST, Preset
from pose2sim_biokin.predictor import Predictor, ViewCrops, choose_device
from pose2sim_biokin.skeleton import ForwardKinematics
from pose2sim_biokin.skeleton.angles import FREE, free_angles_to_rotations
from pose2sim_biokin.skeleton.rotations import axis_angle_to_matrix

SIZE = 32
TINY = FAST.override(
    {
        "size": SIZE,
        "hourglass": {"channels": 16, "widths": [16, 16, 16]},
        "points": {"count": 48, "dense": [32]},
        "refinement": {"smoothing": 0},
    }
)


def weights(folder, preset: Preset = TINY, name: str = "tiny.pt", disturb: bool = False):
    torch.manual_seed(0)
    network = BiokinNetwork(preset, SKELETON)
    torch.manual_seed(1)  # the same with and without a refinement
    for parameter in network.encoder.head.out.parameters():
        torch.nn.init.normal_(parameter, std=0.05)  # answers that differ from frame to frame
    if disturb:
        torch.nn.init.normal_(network.refiner.net.out.weight, std=0.02)
    save_checkpoint(network, folder / name, {})
    return folder / name


def trial(frames: int, seed: int = 0) -> tuple[ViewCrops, ViewCrops]:
    rng = np.random.default_rng(seed)
    ends = random_coordinates(2, rng)
    ends[1, :3] = ends[0, :3] + 0.3
    share = np.linspace(0, 1, frames)[:, None]
    coordinates, centers = ends[0] * (1 - share) + ends[1] * share, cameras_around(rng)
    views = [draw(q.astype(np.float32), np.ones((22, 3)), centers, SIZE) for q in coordinates]
    return tuple(
        ViewCrops(
            *(np.stack([v[k][i] for v in views]) for k in ("rgb", "mask", "K", "R", "t")),
            np.ones(frames, bool),
        )
        for i in (0, 1)
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("weights")


@pytest.fixture(scope="module")
def predictor(folder):
    return Predictor(weights(folder), "cpu", batch_size=16)


@pytest.fixture(scope="module")
def views():
    return trial(90)


@pytest.fixture(scope="module")
def motion(predictor, views):
    return predictor.predict(views, np.arange(90) / 60)


def rotations(coordinates):
    index = [SKELETON.coordinate_index(name) for name in FREE]
    return free_angles_to_rotations(torch.from_numpy(coordinates[:, index]), SKELETON).numpy()


def test_shapes_and_quality(motion, predictor):
    assert motion.coordinates.shape == (90, 39) and motion.scales.shape == (22, 3)
    assert np.isfinite(motion.coordinates).all() and motion.skeleton == "rajagopal2016"
    quality = motion.quality
    assert quality.mask_found.all() and not quality.interpolated.any()
    assert ((quality.hull_fill > 0) & (quality.hull_fill <= 1)).all()
    assert (quality.hull_extent_m[:, 2] > 0.8).all() and quality.overlap.shape == (90, 2)
    assert ((quality.overlap >= 0) & (quality.overlap <= 1)).all() and (quality.range_violation >= 0).all()
    assert motion.info["weights_sha256"] == predictor.checkpoint.sha256
    assert predictor.image_size == SIZE


def test_locked_and_coupled_coordinates_hold(motion):
    q = torch.from_numpy(motion.coordinates)
    constrained = ForwardKinematics(SKELETON, torch.float64).constrain(q)
    torch.testing.assert_close(constrained, q, atol=1e-6, rtol=0)


def test_coordinates_are_continuous(motion):
    assert np.abs(np.diff(motion.coordinates[:, :3], axis=0)).max() < np.pi


def test_same_input_same_output(folder, views, motion):
    again = Predictor(folder / "tiny.pt", "cpu", batch_size=16).predict(views, np.arange(90) / 60)
    np.testing.assert_array_equal(again.coordinates, motion.coordinates)
    np.testing.assert_array_equal(again.scales, motion.scales)
    other = Predictor(folder / "tiny.pt", "cpu", batch_size=7).predict(views, np.arange(90) / 60)
    np.testing.assert_allclose(other.coordinates, motion.coordinates, atol=2e-3)


def test_identity_refinement_blends_to_the_frames_themselves(folder, views, motion):
    bare = weights(folder, replace(TINY, refinement=None), "bare.pt")
    frames = Predictor(bare, "cpu", batch_size=16).predict(views, np.arange(90) / 60)
    np.testing.assert_allclose(rotations(frames.coordinates), rotations(motion.coordinates), atol=1e-3)
    np.testing.assert_allclose(frames.coordinates[:, 3:9], motion.coordinates[:, 3:9], atol=1e-3)


@pytest.mark.parametrize("disturb", [False, True])
def test_turning_and_moving_the_scene_turns_and_moves_the_motion(folder, views, disturb):
    path = weights(folder, name=f"turn{disturb}.pt", disturb=disturb)
    model = Predictor(path, "cpu", batch_size=16)
    time = np.arange(90) / 60
    motion = model.predict(views, time)
    turn = axis_angle_to_matrix(torch.tensor([0.0, 0.0, 2.1], dtype=torch.float64)).numpy()
    move = np.array([3.0, -7.0, 0.4])
    moved = tuple(replace(v, R=v.R @ turn.T, t=v.t - (v.R @ turn.T) @ move) for v in views)
    other = model.predict(moved, time)
    # world to ground: (X, Y, Z) -> (Y, Z, X)
    P = np.array([[0, 1, 0], [0, 0, 1], [1, 0, 0.0]])
    before, after = rotations(motion.coordinates), rotations(other.coordinates)
    np.testing.assert_allclose(after[:, 0], P @ turn @ P.T @ before[:, 0], atol=3e-3)
    np.testing.assert_allclose(after[:, 1:], before[:, 1:], atol=3e-3)
    place = [SKELETON.coordinate_index(f"pelvis_t{c}") for c in "xyz"]
    expected = motion.coordinates[:, place] @ (P @ turn @ P.T).T + P @ move
    np.testing.assert_allclose(other.coordinates[:, place], expected, atol=3e-3)
    fixed = [
        SKELETON.coordinate_index(n) for n in ("hip_flexion_r", "knee_angle_l", "elbow_flex_r", "pro_sup_l")
    ]
    np.testing.assert_allclose(other.coordinates[:, fixed], motion.coordinates[:, fixed], atol=3e-3)


@pytest.mark.parametrize("frames", [1, 2, 13])
def test_short_sequences(predictor, views, frames):
    short = tuple(ViewCrops(*(getattr(v, n)[:frames] for n in v.__dataclass_fields__)) for v in views)
    motion = predictor.predict(short, np.arange(frames) / 60)
    assert motion.coordinates.shape == (frames, 39) and np.isfinite(motion.coordinates).all()


@pytest.mark.parametrize("rate", [25.0, 30.0, 59.94, 120.0])
def test_other_rates_come_back_at_their_own(predictor, views, rate):
    time = 12.5 + np.arange(90) / rate
    motion = predictor.predict(views, time)
    np.testing.assert_array_equal(motion.time, time)
    assert motion.coordinates.shape == (90, 39) and np.isfinite(motion.coordinates).all()


def test_short_gaps_are_filled_long_ones_are_not(predictor, views):
    found = np.ones(90, bool)
    found[[0, 1]] = False  # before the first sight
    found[20:30] = False  # 10 frames: 0.167 s
    found[50:75] = False  # 25 frames: 0.417 s
    second = replace(views[1], found=found)
    motion = predictor.predict((views[0], second), np.arange(90) / 60, max_gap_s=0.2)
    posed = np.isfinite(motion.coordinates).all(1)
    assert not posed[:2].any() and posed[2:50].all() and not posed[50:75].any() and posed[75:].all()
    np.testing.assert_array_equal(np.flatnonzero(motion.quality.interpolated), np.arange(20, 30))
    assert np.isnan(motion.quality.overlap[60]).all() and np.isnan(motion.quality.range_violation[60])
    longer = predictor.predict((views[0], second), np.arange(90) / 60, max_gap_s=0.5)
    assert np.isfinite(longer.coordinates[2:]).all()


def test_progress_is_told(predictor, views):
    calls = []
    predictor.predict(views, np.arange(90) / 60, progress=lambda *a: calls.append(a))
    assert calls[0] == ("Joint angles", 0, 90) and calls[-1] == ("Joint angles", 90, 90)


def test_never_seen(predictor, views):
    gone = replace(views[0], found=np.zeros(90, bool))
    with pytest.raises(BiokinError, match="never seen in both views"):
        predictor.predict((gone, views[1]), np.arange(90) / 60)


def test_wrong_input(predictor, views):
    with pytest.raises(BiokinError, match="rising"):
        predictor.predict(views, np.zeros(90))
    with pytest.raises(BiokinError, match="expected"):
        predictor.predict((views[0], replace(views[1], images=views[1].images[:, :16])), np.arange(90) / 60)
    with pytest.raises(BiokinError, match="two views"):
        predictor.predict(views[:1], np.arange(90) / 60)
    with pytest.raises(BiokinError, match="device"):
        choose_device("abacus")


def test_a_network_without_pelvis_stands_at_the_hull(folder, views):
    preset = replace(TINY, pelvis=False)
    motion = Predictor(weights(folder, preset, "nopelvis.pt"), "cpu", 16).predict(views, np.arange(90) / 60)
    kinematics = ForwardKinematics(SKELETON, torch.float64)
    q, s = torch.from_numpy(motion.coordinates), torch.from_numpy(motion.scales)
    frames = kinematics(q, s.expand(90, 22, 3))
    centers = kinematics.mass_centers(frames, s).numpy()
    center = (centers * SKELETON.masses[:, None]).sum(1) / SKELETON.masses.sum()
    # The person is drawn about the world's origin, 0.9 m up.
    assert np.abs(center[:, [0, 2]]).max() < 1.8 and np.abs(center[:, 1] - 0.9).max() < 0.6
