"""Stick figures as a data set of clips, and as what a worker renders; importable by worker processes."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import torch
from figures import KINEMATICS, SKELETON, cameras_around, random_coordinates, write_shard

from odah.clips import write_clip
from odah.crops import Settings
from odah.datasets import clip_entry, write_manifest
from pose2sim_biokin.motion import Motion
from pose2sim_biokin.skeleton.rotations import ground_to_world
from pose2sim_biokin.vision.camera import Camera
from pose2sim_biokin.vision.crops import look_rotation

SIZE = (160, 120)


def render_sticks(settings: Settings, shard: int, output: Path) -> Path:
    """As `odah.crops.render_shard`; the shard's number is the scale of its people."""
    folder = output / f"shard-{shard:05d}"
    write_shard(folder, settings.shard_clips * settings.frames_per_clip, settings.size, seed=1000 + shard)
    path = folder / "scales.npy"
    np.save(path, np.full_like(np.load(path), 1 + shard / 1000))
    return folder


def camera(name: str, center: np.ndarray, target: np.ndarray) -> Camera:
    """A camera with some distortion that looks at a place."""
    R = look_rotation(target - center)
    K = np.array([[150.0, 0, 79.5], [0, 150.0, 59.5], [0, 0, 1]])
    return Camera(name, *SIZE, K, np.array([-0.1, 0.02, 0.001, -0.001, 0.0]), R, -R @ center)


def write_dataset(
    folder: Path, names: dict[str, str], frames: int = 6, fps: int = 60, cameras: int = 2
) -> Path:
    """Clips of stick figures: names and their splits."""
    entries = {}
    for number, (name, split) in enumerate(names.items()):
        rng = np.random.default_rng(number)
        ends = random_coordinates(2, rng)
        share = np.linspace(0, 0.5, frames)[:, None]
        coordinates = ends[:1] * (1 - share) + ends[1:] * share
        scales = np.full((22, 3), rng.uniform(0.95, 1.05))
        with torch.no_grad():
            s = torch.from_numpy(scales).float()
            joints = KINEMATICS.joint_centers(KINEMATICS(torch.from_numpy(coordinates).float(), s), s)
        joints = ground_to_world(joints).numpy().astype(float)
        centers = [c for _ in range(cameras) for c in cameras_around(rng)][:cameras]
        views = [camera(f"cam{k + 1:02d}", c, joints.mean((0, 1))) for k, c in enumerate(centers)]
        films = [[_picture(view, points) for points in joints] for view in views]
        motion = Motion(np.arange(frames) / fps, coordinates, scales, SKELETON.name)
        about = {"subject": {"seed": 10 + number, "id": name[:5]}}
        about["motion"] = [
            {"frame": 0, "kind": "action", "name": "a"},
            {"frame": 3, "kind": "gait", "name": "b"},
        ]
        more = {"fps": fps, "mass_kg": 70.0, "height_m": 1.7, "crf": 4}
        write_clip(folder / name, views, films, motion, SKELETON, about, **more)
        entries[name] = clip_entry(folder, name, {"split": split, "index": number})
    write_manifest(folder, {"complete": True, "clips": entries})
    return folder


def _picture(view: Camera, joints: np.ndarray) -> SimpleNamespace:
    """Thick red bones on blue ground."""
    image, mask = (
        np.full((SIZE[1], SIZE[0], 3), (160, 40, 20), np.uint8),
        np.zeros((SIZE[1], SIZE[0]), np.uint8),
    )
    pixels = np.rint(view.project(joints)).astype(int).tolist()
    for i, parent in enumerate(SKELETON.joints.parents):
        if parent >= 0:
            cv2.line(mask, pixels[i], pixels[parent], 1, 5)
    image[mask > 0] = (30, 30, 220)
    return SimpleNamespace(image=image, mask=mask > 0)
