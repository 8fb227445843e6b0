from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch

from odah.crops import Settings, generate, shard_clips, subject_seed
from odah.motions.sampler import HELD_OUT_ACTIONS
from odah.scenes.cameras import two_cameras
from pose2sim_biokin.errors import BiokinError
from pose2sim_biokin.skeleton import ForwardKinematics, load_skeleton

SMALL = Settings("train", 2, 6, 3, False, 5, 48, 3, "")


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cache")
    return folder, generate(SMALL, folder)


def _load(shard) -> dict[str, np.ndarray]:
    return {path.stem: np.load(path) for path in shard.glob("*.npy")}


def test_shards_hold_what_they_say(cache):
    folder, shards = cache
    assert len(shards) == 2
    for shard in shards:
        manifest = json.loads((shard / "manifest.json").read_text(encoding="utf-8"))
        data = _load(shard)
        n = manifest["frames"]
        assert n == 9
        shapes = {"rgb": (n, 2, 48, 48, 3), "mask": (n, 2, 48, 48), "K": (n, 2, 3, 3), "R": (n, 2, 3, 3)}
        shapes |= {"t": (n, 2, 3), "coordinates": (n, 39), "scales": (n, 22, 3)}
        shapes |= {name: (n,) for name in ("subject", "clip", "frame", "motion")}
        assert {name: values.shape for name, values in data.items()} == shapes
        assert data["motion"].max() < len(manifest["motions"])
        assert set(np.unique(data["mask"])) == {0, 1}
        assert not data["rgb"][data["mask"] == 0].any()
        assert 0.04 < data["mask"].mean() < 0.6


def test_the_saved_skeleton_projects_onto_the_person(cache):
    """Coordinates, scales and cameras as written, through the kinematics, against the rendered masks."""
    skeleton = load_skeleton()
    fk = ForwardKinematics(skeleton)
    inner = [
        skeleton.body_index(n)
        for n in ("femur_r", "femur_l", "tibia_r", "tibia_l", "torso", "ulna_r", "ulna_l")
    ]
    inside = []
    for shard in cache[1]:
        data = _load(shard)
        q, scales = torch.as_tensor(data["coordinates"]), torch.as_tensor(data["scales"])
        frames = fk(q, scales)
        world = fk.joint_centers(frames, scales)[:, inner][..., [2, 0, 1]].numpy()
        camera = np.einsum("nvij,nkj->nvki", data["R"], world) + data["t"][:, :, None]
        pixels = np.einsum("nvij,nvkj->nvki", data["K"], camera)
        pixels = np.rint(pixels[..., :2] / pixels[..., 2:]).astype(int)
        assert pixels.min() >= 0 and pixels.max() < 48
        n, v = np.ogrid[: len(q), :2]
        inside.append(data["mask"][n[..., None], v[..., None], pixels[..., 1], pixels[..., 0]])
    assert np.concatenate(inside).mean() > 0.93


def test_person_fills_the_crop_and_stands_on_the_floor(cache):
    skeleton = load_skeleton()
    fk = ForwardKinematics(skeleton)
    feet = [skeleton.marker_index(f"{s}{m}") for s in "RL" for m in ("CAL", "TOE", "MT5")]
    for shard in cache[1]:
        data = _load(shard)
        rows, columns = data["mask"].any(3), data["mask"].any(2)
        extent = np.maximum(rows.sum(-1), columns.sum(-1))
        assert extent.min() >= 40 and extent.max() <= 46  # 48 / 1.1
        scales = torch.as_tensor(data["scales"])
        frames = fk(torch.as_tensor(data["coordinates"]), scales)
        lowest = fk.markers(frames, scales)[:, feet, 1].amin(1)
        assert lowest.median() < 0.08 and lowest.min() > -0.05


def test_ranges_locked_and_coupled_coordinates(cache):
    skeleton = load_skeleton()
    for shard in cache[1]:
        q = _load(shard)["coordinates"]
        for name in ("hip_flexion_r", "knee_angle_l", "ankle_angle_r", "elbow_flex_l", "pro_sup_r"):
            i = skeleton.coordinate_index(name)
            low, high = skeleton.coordinate_ranges[i]
            assert q[:, i].min() >= low - 1e-5 and q[:, i].max() <= high + 1e-5
        assert not q[:, skeleton.locked].any()
        knee, beta = (skeleton.coordinate_index(f"knee_angle_r{s}") for s in ("", "_beta"))
        assert np.array_equal(q[:, knee], q[:, beta])


def test_a_broken_run_goes_on_and_gives_the_same(cache):
    folder, shards = cache
    before = _load(shards[1])
    untouched = (shards[0] / "rgb.npy").stat().st_mtime_ns
    shutil.rmtree(shards[1])
    (folder / ".shard-00001.123").mkdir()  # what a killed run leaves
    generate(SMALL, folder)
    assert (shards[0] / "rgb.npy").stat().st_mtime_ns == untouched
    after = _load(shards[1])
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_other_settings_do_not_mix(cache):
    with pytest.raises(BiokinError, match="seed"):
        generate(Settings("train", 2, 6, 3, False, 6, 48, 3, ""), cache[0])
    with pytest.raises(BiokinError, match="--split"):
        generate(Settings("training", 2, 6, 3, False, 6, 48, 3, ""), cache[0])


def test_takes_are_motions_with_cameras_of_their_own(tmp_path):
    settings = Settings("train", 1, 1, 6, False, 5, 48, 1, "", takes=3)
    (shard,) = generate(settings, tmp_path / "takes")
    data = _load(shard)
    origins = -np.einsum("nvji,nvj->nvi", data["R"], data["t"]).reshape(3, 2, 2, 3)  # take, frame, view
    np.testing.assert_allclose(origins[:, 0], origins[:, 1], atol=1e-4)
    assert all(np.abs(origins[i] - origins[j]).max() > 0.1 for i, j in ((0, 1), (0, 2), (1, 2)))
    assert (data["frame"].reshape(3, 2)[:, 0] < 40).all() and (data["frame"].reshape(3, 2)[:, 1] >= 40).all()
    assert (data["scales"] == data["scales"][0]).all() and len(set(data["clip"])) == 1
    fk = ForwardKinematics(load_skeleton())
    frames = fk(torch.as_tensor(data["coordinates"]), torch.as_tensor(data["scales"]))
    world = fk.joint_centers(frames, torch.as_tensor(data["scales"])).mean(1)[:, [2, 0, 1]].numpy()
    camera = np.einsum("nvij,nj->nvi", data["R"], world) + data["t"]
    pixels = np.einsum("nvij,nvj->nvi", data["K"], camera)
    assert (
        np.abs(pixels[..., :2] / pixels[..., 2:] - 23.5).max() < 10
    )  # every take's cameras look at its person
    with pytest.raises(BiokinError, match="divisor"):
        generate(Settings("train", 1, 1, 6, False, 5, 48, 1, "", takes=4), tmp_path / "no")
    with pytest.raises(BiokinError, match="--dense"):
        generate(Settings("train", 1, 1, 6, True, 5, 48, 1, "", takes=2), tmp_path / "no")


def test_splits_are_disjoint():
    def subjects(split):
        settings = Settings(split, 900, 5000, 16, False, 3, 128, 64, "")
        return {subject_seed(settings, clip) for clip in range(settings.clips)}

    assert len(subjects("train")) == 900
    assert not subjects("train") & subjects("val") and not subjects("val") & subjects("test")
    assert len(HELD_OUT_ACTIONS) >= 2
    settings = Settings("train", 2, 7, 3, False, 5, 48, 3, "")
    assert [clip for shard in range(3) for clip in shard_clips(settings, shard)] == list(range(7))


def test_camera_pairs_keep_their_distance_and_angle():
    for seed in range(200):
        rng = np.random.default_rng(seed)
        path = np.cumsum(rng.normal(0, 0.02, (60, 3)), axis=0)
        centers = two_cameras(rng, path, 0.4)
        flat = centers[:, :2] - path.mean(0)[:2]
        distance = np.linalg.norm(flat, axis=1)
        angle = np.degrees(np.arccos(flat[0] @ flat[1] / distance.prod()))
        assert 29 < angle < 151
        assert distance.min() > 1.2 and 0.4 < centers[:, 2].min() and centers[:, 2].max() < 3.1
