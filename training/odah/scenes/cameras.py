"""Where the two cameras of a clip stand, and the light. World: Z up, metres, floor at 0."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from odah.render.rasterizer import Lights
from pose2sim_biokin.vision.crops import CropCamera, directions_to_crop

HEIGHT_M = (0.5, 3.0)
DISTANCE_M = (2.0, 7.0)
APART_DEG = (30.0, 150.0)
STUDIO_SHARE = 0.15  # of clips with the published frontal and sagittal set-up


def two_cameras(rng: np.random.Generator, path: np.ndarray, heading: float) -> np.ndarray:
    """Optical centres (2,3) of a pair of cameras about the place where a person moves.

    Roll, lens and aim need no drawing: they are gone in a crop camera, which looks at the person itself.

    Args:
        path: (T,3) a point of the person over time (pelvis), world.
        heading: horizontal direction the person faces at first, rad from world X towards world Y.
    """
    middle = path.mean(0)
    reach = np.linalg.norm(path[:, :2] - middle[:2], axis=1).max()
    if rng.random() < STUDIO_SHARE:
        angles = heading + np.deg2rad([0.0, rng.choice([-90.0, 90.0])]) + rng.normal(0, np.deg2rad(4), 2)
        distances, heights = rng.uniform(3, 5, 2), np.repeat(rng.uniform(0.9, 1.5), 2)
    else:
        first = rng.uniform(-np.pi, np.pi)
        apart = np.deg2rad(rng.uniform(*APART_DEG)) * rng.choice([-1.0, 1.0])
        angles = np.array([first, first + apart])
        distances = np.exp(rng.uniform(*np.log(DISTANCE_M), 2))
        heights = rng.uniform(*HEIGHT_M, 2)
    if rng.random() < 0.5:
        angles, distances, heights = angles[::-1], distances[::-1], heights[::-1]
    distances = np.maximum(distances, 1.2 + reach)
    flat = middle[:2] + np.stack([np.cos(angles), np.sin(angles)], 1) * distances[:, None]
    return np.concatenate([flat, heights[:, None]], 1)


def crop_cameras(centers: np.ndarray, vertices: np.ndarray, size: int) -> list[list[CropCamera]]:
    """Crop cameras [frame][view] that look at vertices (T,V,3) in the world from centers (2,3)."""
    return [[directions_to_crop(c, frame - c, size) for c in centers] for frame in vertices]


def random_lights(rng: np.random.Generator, R: Tensor) -> Lights:
    """One random light set-up of a clip, in the camera space of each image; R (B,3,3) world to camera.

    A key light from above, a fill from elsewhere, a hemisphere; strengths and tints vary.
    """
    batch = len(R)
    key = rng.normal(0, 1, 3) + np.array([0, 0, 0.9])
    fill = rng.normal(0, 1, 3) + np.array([0, 0, 0.2])
    directions = np.stack([key / np.linalg.norm(key), fill / np.linalg.norm(fill)])
    tint = np.clip(1 + rng.normal(0, 0.06, (4, 3)), 0.7, 1.3)
    strength = np.array([rng.uniform(a, b) for a, b in ((0.2, 0.9), (0.0, 0.4), (0.2, 0.55), (0.06, 0.35))])
    colours = torch.as_tensor((tint * strength[:, None]).astype(np.float32))
    world = torch.as_tensor(directions.astype(np.float32))
    return Lights(
        direction=torch.einsum("bij,lj->bli", R, world),
        colour=colours[:2].expand(batch, 2, 3),
        up=R[:, :, 2],
        sky=colours[2].expand(batch, 3),
        ground=colours[3].expand(batch, 3),
        specular=torch.full((batch,), float(rng.uniform(0, 0.12))),
        shininess=torch.full((batch,), float(rng.uniform(5, 40))),
    )
