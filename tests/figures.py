"""Stick figures: people of discs along the skeleton's bones, left and right of different colours, for
quick tests.
"""

from __future__ import annotations

import json

import cv2
import numpy as np
import torch

from pose2sim_biokin.skeleton import ForwardKinematics, load_skeleton
from pose2sim_biokin.skeleton.rotations import ground_to_world
from pose2sim_biokin.vision.crops import directions_to_crop

SKELETON = load_skeleton()
KINEMATICS = ForwardKinematics(SKELETON)


# An experiment of a network that trains in seconds on stick figures of 32 pixels.
TINY_EXPERIMENT = """
base = "fast"
[preset]
size = 32
[preset.hourglass]
channels = 16
widths = [16, 16, 16]
stem_channels = 8
[preset.points]
count = 48
hidden = [32, 32]
dense = [64]
[preset.refinement]
blocks = [1, 1, 1]
channels = [16, 16, 32]
heads = [1, 1, 1]
[train]
batch_size = 8
precision = "32-true"
refine_passes = 1
refine_batch = 2
joint_batch = 1
"""


def random_coordinates(count: int, rng: np.random.Generator, spread: float = 0.25) -> np.ndarray:
    """Poses (count, 39) in range, anywhere, facing anywhere."""
    low, high = SKELETON.coordinate_ranges.T
    low, high = np.maximum(low, -1.2), np.minimum(high, 1.5)
    middle = np.clip(SKELETON.coordinate_defaults, low, high)
    q = middle + (rng.uniform(low, high, (count, len(low))) - middle) * spread * 2
    names = SKELETON.coordinate_names
    q[:, names.index("pelvis_rotation")] = rng.uniform(-3, 3, count)
    q[:, [names.index("pelvis_tilt"), names.index("pelvis_list")]] *= 0.2
    for name, (a, b) in {"pelvis_tx": (-1, 1), "pelvis_ty": (0.9, 1.0), "pelvis_tz": (-1, 1)}.items():
        q[:, names.index(name)] = rng.uniform(a, b, count)
    return KINEMATICS.constrain(torch.from_numpy(q).float()).numpy()


def cameras_around(rng: np.random.Generator) -> np.ndarray:
    """Centres (2, 3) of two cameras about the world's origin, some 90 degrees apart."""
    angle = rng.uniform(0, 2 * np.pi)
    angles = np.array([angle, angle + rng.choice([-1, 1]) * rng.uniform(1.2, 1.9)])
    return np.stack([4 * np.cos(angles), 4 * np.sin(angles), rng.uniform(1, 1.8, 2)], 1)


def draw(coordinates: np.ndarray, scales: np.ndarray, centers: np.ndarray, size: int) -> dict:
    """Both views of one pose: rgb (2, S, S, 3), mask (2, S, S), K, R, t."""
    with torch.no_grad():
        q, s = torch.from_numpy(coordinates).float(), torch.from_numpy(scales).float()
        frames = KINEMATICS(q, s)
        joints = ground_to_world(KINEMATICS.joint_centers(frames, s)).numpy().astype(float)
    head = joints[SKELETON.body_index("torso")] + 0.65 * ground_to_world(
        frames.rotation[SKELETON.body_index("torso"), :, 1]
    ).numpy().astype(float)
    result: dict[str, list] = {name: [] for name in ("rgb", "mask", "K", "R", "t")}
    for center in centers:
        crop = directions_to_crop(center, np.vstack([joints, head]) - center, size, margin=1.25)
        rgb, mask = np.zeros((size, size, 3), np.uint8), np.zeros((size, size), np.uint8)
        pairs = [(head, joints[SKELETON.body_index("torso")], (230, 230, 60))]
        for i, parent in enumerate(SKELETON.joints.parents):
            if parent >= 0:
                name = SKELETON.body_names[i]
                colour = {"r": (220, 60, 60), "l": (60, 220, 60)}.get(
                    name[-1] if name[-2] == "_" else "", (90, 90, 220)
                )
                pairs.append((joints[i], joints[parent], colour))
        for a, b, colour in pairs:
            ends = [tuple(int(round(v)) for v in crop.project(p)) for p in (a, b)]
            cv2.line(rgb, *ends, colour, max(2, size // 16))
            cv2.line(mask, *ends, 1, max(2, size // 16))
        for name, value in zip(result, (rgb, mask, crop.K, crop.R, crop.t), strict=True):
            result[name].append(value)
    return {name: np.stack(values) for name, values in result.items()}


def write_shard(folder, count: int, size: int, seed: int = 0, dense: bool = False):
    """A shard of stick figures as `odah crops` would write it; dense: slow motion of one clip each
    64 frames.
    """
    rng = np.random.default_rng(seed)
    if dense:
        ends = random_coordinates(2 * (count // 64), rng).reshape(-1, 2, 1, 39)
        share = np.linspace(0, 1, 64)[None, :, None]
        coordinates = (ends[:, 0] * (1 - share) + ends[:, 1] * share).reshape(-1, 39).astype(np.float32)
    else:
        coordinates = random_coordinates(count, rng)
    scales = np.repeat(rng.uniform(0.9, 1.1, (max(1, count // 64), 1, 1)), 64, 0)[:count] * np.ones(
        (1, 22, 3)
    )
    scales = np.resize(scales, (count, 22, 3)).astype(np.float32)
    views, centers = [], cameras_around(rng)
    for i in range(count):
        if not dense or i % 64 == 0:
            centers = cameras_around(rng)
        views.append(draw(coordinates[i], scales[i], centers, size))
    arrays = {name: np.stack([v[name] for v in views]) for name in views[0]}
    arrays |= {name: arrays[name].astype(np.float32) for name in ("K", "R", "t")}
    index = np.arange(count, dtype=np.int32)
    arrays |= {"coordinates": coordinates, "scales": scales, "subject": index // 64, "clip": index // 64}
    arrays |= {"motion": np.zeros(count, np.int32), "frame": index % 64}
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    (folder / "manifest.json").write_text(
        json.dumps({"frames": count, "motions": ["action: random"]}), "utf-8"
    )
    return arrays
