"""Sheets of clips and data sets: what they show, and where."""

from __future__ import annotations

from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch

from odah import inspect
from odah.clips import read_clip, write_clip
from odah.datasets import clip_entry, write_manifest
from odah.inspect import TILE_PX, annotated, choose_clips, main
from pose2sim_biokin.motion import Motion
from pose2sim_biokin.skeleton import ForwardKinematics, load_skeleton
from pose2sim_biokin.skeleton.rotations import ground_to_world
from pose2sim_biokin.vision.camera import Camera
from pose2sim_biokin.vision.crops import look_rotation

FRAMES, SIZE = 4, (240, 160)
RESIDUALS = {"joint_rms_mm": 2.5, "marker_rms_mm": 7.0}


def make(folder, clip: str, seed: int):
    """A person who stands still, seen as white discs on the joints before black."""
    skeleton = load_skeleton()
    coordinates = np.zeros((FRAMES, len(skeleton.coordinate_names)))
    coordinates[:, skeleton.coordinate_index("pelvis_ty")] = 0.95
    scales = np.full((len(skeleton.body_names), 3), 1 + 0.02 * seed)
    motion = Motion(np.arange(FRAMES) / 30, coordinates, scales, skeleton.name)
    fk = ForwardKinematics(skeleton)
    s = torch.as_tensor(scales, dtype=torch.float32)
    centers = fk.joint_centers(fk(torch.as_tensor(coordinates[:1], dtype=torch.float32), s), s)
    world = ground_to_world(centers)[0].numpy()
    cameras, views = [], []
    for k, angle in enumerate((0.3, 1.7)):
        center = np.array([4 * np.cos(angle), 4 * np.sin(angle), 1.2])
        R = look_rotation(np.array([0.0, 0.0, 0.9]) - center)
        K = np.array([[220.0, 0, 120], [0, 220.0, 80], [0, 0, 1]])
        cameras.append(Camera(f"cam0{k + 1}", *SIZE, K, np.array([-0.15, 0.02, 0, 0]), R, -R @ center))
        mask = np.zeros((SIZE[1], SIZE[0]), np.uint8)
        for x, y in cameras[-1].project(world):
            cv2.circle(mask, (round(x), round(y)), 7, 1, -1)
        image = np.repeat(mask[..., None] * np.uint8(255), 3, axis=2)
        views.append([SimpleNamespace(image=image, mask=mask > 0)] * FRAMES)
    about = {"clip": clip, "split": "train", "residuals": RESIDUALS, "rejected": []}
    about["motion"] = [{"frame": 0, "kind": "action", "name": "stand"}]
    size = {"fps": 30, "mass_kg": 70, "height_m": 1.7, "crf": 10}
    write_clip(folder / clip, cameras, views, motion, skeleton, about, **size)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("set")
    names = ["S0001/clip_0001", "S0002/clip_0001", "S0001/clip_0002"]
    for seed, name in enumerate(names):
        make(folder, name, seed)
    clips = {name: clip_entry(folder, name, {"split": "train"}) for name in names}
    write_manifest(folder, {"complete": True, "clips": clips, "rejected": {}})
    return folder


@pytest.mark.parametrize("close", [False, True])
def test_the_skeleton_is_drawn_on_the_person(dataset, close, monkeypatch):
    """Projected points, as they reach the drawing, fall on the discs of the picture itself."""
    drawn = []
    monkeypatch.setattr(
        inspect, "draw_figure", lambda tile, points, links: drawn.append((tile.copy(), points))
    )
    monkeypatch.setattr(inspect, "draw_outline", lambda *_: None)
    clip, skeleton = read_clip(dataset / "S0002/clip_0001"), load_skeleton()
    tiles = annotated(clip, 1, [1, 3], skeleton, close)
    assert len(tiles) == len(drawn) == 2
    assert tiles[0].shape == ((TILE_PX, TILE_PX, 3) if close else (TILE_PX * 160 // 240, TILE_PX, 3))
    for tile, points in drawn:
        joints = points[: len(skeleton.body_names)]
        x, y = np.rint(joints).astype(int).T
        assert (tile[y, x] > 150).all()
        assert (tile > 150).all(2).mean() < 0.5  # which a white picture would also pass
    if close:
        assert np.ptp(joints[:, 1]) > 0.55 * TILE_PX


def test_both_sheets_and_the_coverage_are_written(dataset, tmp_path, capsys):
    clip = dataset / "S0001/clip_0001"
    assert main([str(clip), "--output", str(tmp_path / "clip.png"), "--count", "3"]) == 0
    assert main([str(dataset), "--output", str(tmp_path / "set.png")]) == 0
    text = capsys.readouterr().out
    assert "S0002/clip_0001" in text and "largest" in text and "7.0" in text
    first, second = (cv2.imread(str(tmp_path / f"{name}.png")) for name in ("clip", "set"))
    assert first.shape[1] == 3 * TILE_PX and second.shape[1] == 3 * 2 * TILE_PX
    for image in (first, second):
        orange = (np.abs(image.astype(int) - (0, 140, 255)) < 25).all(2).sum()
        blue = (np.abs(image.astype(int) - (255, 150, 30)) < 25).all(2).sum()
        assert orange > 300 and blue > 300
    for name in ("clip", "set"):
        assert cv2.imread(str(tmp_path / f"{name}_coverage.png")) is not None


def test_other_subjects_come_first():
    names = [f"S{s:04d}/clip_{c:04d}" for s in range(1, 11) for c in range(1, 4)]
    chosen = choose_clips(names, 5)
    assert len({name.split("/")[0] for name in chosen}) == 5 and len(chosen) == 5
    chosen = choose_clips(names, 12)
    assert len({name.split("/")[0] for name in chosen}) == 10 and len(set(chosen)) == 12
    assert choose_clips(names, 99) == names and choose_clips([], 4) == []


def test_what_cannot_be_looked_at(dataset, tmp_path, capsys):
    assert main([str(tmp_path), "--output", str(tmp_path / "a.png")]) == 1
    assert "not a whole clip: truth.json is missing" in capsys.readouterr().err
    assert main([str(dataset), "--output", str(tmp_path / "a.txt")]) == 1
    assert "expected a .png file" in capsys.readouterr().err
    write_manifest(tmp_path, {"complete": False, "clips": {}, "rejected": {}})
    assert main([str(tmp_path), "--output", str(tmp_path / "a.png")]) == 1
    assert "no clips yet" in capsys.readouterr().err
