"""Cameras and the light of a clip. World: Z up, metres, floor at 0.

For the cache of training crops: where two cameras stand (`two_cameras`, `crop_cameras`). For whole pictures:
cameras with size, lens and roll, in the published set-up (`paper_cameras`) or put up by anyone
(`anywhere_cameras`); they stand still and look at where the person moves.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from odah.render.rasterizer import Lights
from pose2sim_biokin.vision.camera import Camera
from pose2sim_biokin.vision.crops import CropCamera, directions_to_crop, look_rotation

HEIGHT_M = (0.5, 3.0)
DISTANCE_M = (2.0, 7.0)
APART_DEG = (30.0, 150.0)
STUDIO_SHARE = 0.15  # of clips with the published frontal and sagittal set-up
PAPER_HEIGHT_M, PAPER_HEIGHT_SPREAD_M = 1.1, 0.1
PAPER_FOCAL_MM, SENSOR_MM = 33.0, 36.0  # the sensor's longer side
PAPER_DISTANCE_M = (3.5, 5.0)
PAPER_ANGLE_SPREAD_DEG = 5.0
ROLL_DEG = 45.0
FOCAL_MM = (20.0, 75.0)  # as on a 36 mm sensor: wide phones and action cameras to machine-vision lenses
LEAST_HEIGHT = 0.4
IN_VIEW = 0.97  # share of the sampled points of the person that a camera must see
_MARGIN = 0.02  # of the picture, kept free at its border where that is possible


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


def paper_cameras(
    rng: np.random.Generator,
    points: np.ndarray,
    heading: float,
    size: tuple[int, int] = (1080, 720),
    views: int = 2,
) -> list[Camera]:
    """The published set-up: frontal and sagittal, at hip height, 33 mm on a 36 mm sensor, perturbed.

    A distance is drawn; where the person would leave the picture the camera steps back.

    Args:
        points: (T,P,3) points of the person over time, world, m.
        heading: horizontal direction the person faces at first, rad from world X towards world Y.
        views: the third camera and those after it stand at other sides, evenly.
    """
    middle = _middle(points)
    side = rng.choice([-1.0, 1.0]) * 90.0
    angles = [0.0, side, -side, 180.0, 45.0, -45.0, 135.0, -135.0][:views]
    focal = PAPER_FOCAL_MM / SENSOR_MM * max(size)
    cameras = []
    for n, degrees in enumerate(angles):
        bearing = heading + np.deg2rad(degrees + rng.uniform(-1, 1) * PAPER_ANGLE_SPREAD_DEG)
        height = PAPER_HEIGHT_M + rng.uniform(-1, 1) * PAPER_HEIGHT_SPREAD_M
        aim = middle * [1, 1, 0] + [0, 0, 0.95] + rng.normal(0, 0.03, 3)
        distance = rng.uniform(*PAPER_DISTANCE_M)
        K = _matrix(focal * rng.uniform(0.98, 1.02), size, rng.normal(0, 0.003, 2))
        for _ in range(40):
            centre = middle * [1, 1, 0] + _around(bearing, distance, height)
            camera = _camera(f"cam{n + 1:02d}", size, K, np.zeros(4), centre, aim, 0.0)
            if share_in_view(camera, points) >= IN_VIEW:
                break
            distance *= 1.06
        cameras.append(camera)
    return cameras


def anywhere_cameras(
    rng: np.random.Generator,
    points: np.ndarray,
    sizes: tuple[tuple[int, int], ...] = ((1080, 720),),
    views: int = 2,
) -> list[Camera]:
    """Cameras at any height, distance, angle apart, roll and lens, upright and on their side.

    Heights, distances and angles apart lie within HEIGHT_M, DISTANCE_M and APART_DEG of the middle of the
    person's way; the lens is the longest up to the one drawn that keeps the person in view.

    Args:
        points, views: see :func:`paper_cameras`.
        sizes: pictures (width, height) to choose from, each turned on its side by chance.
    """
    middle = _middle(points)
    reach = np.linalg.norm(points[..., :2] - middle[:2], axis=-1).max()
    tall = float(np.median(np.ptp(points[..., 2], axis=1)))
    bearings = [rng.uniform(-np.pi, np.pi)]
    apart = np.deg2rad(rng.uniform(*APART_DEG)) * rng.choice([-1.0, 1.0])
    bearings += [bearings[0] + apart * (n if n % 2 else -n / 2) for n in range(1, views)]
    cameras = []
    for n, bearing in enumerate(bearings):
        width, height = sizes[rng.integers(len(sizes))]
        size = (height, width) if rng.random() < 0.3 else (width, height)
        distance = np.exp(rng.uniform(*np.log(DISTANCE_M)))
        distance = min(max(distance, reach + 0.8), DISTANCE_M[1])
        centre = middle * [1, 1, 0] + _around(bearing, distance, rng.uniform(*HEIGHT_M))
        aim = middle + rng.normal(0, 0.06, 3)
        # most people hold a camera level, some do not
        roll = np.deg2rad(rng.choice([rng.normal(0, 2), rng.uniform(-ROLL_DEG, ROLL_DEG)], p=[0.55, 0.45]))
        focal = np.exp(rng.uniform(*np.log(FOCAL_MM))) / SENSOR_MM * max(size)
        shift = rng.normal(0, 0.01, 2)
        lens = rng.normal(0, 1, 5)
        # nobody films from afar with a wide lens: the person is LEAST_HEIGHT of the picture's shorter side
        focal = max(focal, LEAST_HEIGHT * min(size) * distance / tall)
        for _ in range(60):
            K = _matrix(focal, size, shift)
            camera = _camera(f"cam{n + 1:02d}", size, K, lens_distortion(lens, K, size), centre, aim, roll)
            if share_in_view(camera, points) >= IN_VIEW:
                break
            focal *= 0.95
        cameras.append(camera)
    return cameras


def lens_distortion(draw: np.ndarray, K: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """OpenCV coefficients k1 k2 p1 p2 k3 of a lens that can be inverted over its whole picture.

    draw: (5,) standard normal numbers. Wide lenses distort more; what would fold back before 1.2 times the
    corner's field is weakened until it does not.
    """
    half = 0.5 * np.array(size) + np.abs(K[:2, 2] - (np.array(size) - 1) / 2)
    corner = np.linalg.norm(half / np.diag(K)[:2])
    # distortion at the corner, as a share of the radius: barrel more often than pincushion
    bend = -0.05 + 0.06 * draw[0]
    k1 = np.clip(bend, -0.2, 0.08) / corner**2
    k2 = -0.25 * k1 / corner**2 * (1 + 0.5 * draw[1])
    k3 = 0.02 * draw[4] * abs(k1) / corner**4
    coefficients = np.array([k1, k2, 3e-4 * draw[2], 3e-4 * draw[3], k3])
    radius = np.linspace(0, 1.0, 64)
    while True:
        # undistorted radii reach further out than the corner for a barrel lens: find them by its own curve
        r = radius * 1.5 * corner
        curve = _radial(coefficients, r)
        slope = np.gradient(curve, r)
        good = slope > 0.25
        if good.all() or (curve[: int(np.argmin(good))].max() > 1.2 * corner):
            return coefficients
        coefficients = coefficients * 0.8


def _radial(coefficients: np.ndarray, r: np.ndarray) -> np.ndarray:
    k1, k2, _, _, k3 = coefficients
    return r * (1 + k1 * r**2 + k2 * r**4 + k3 * r**6)


def share_in_view(camera: Camera, points: np.ndarray) -> float:
    """Share of points (...,3), world, that lie in front of a camera and inside its picture."""
    flat = points.reshape(-1, 3)
    directions = camera.world_to_camera(flat)
    pixels = camera.directions_to_pixels(directions)
    with np.errstate(invalid="ignore", divide="ignore"):
        radius = np.linalg.norm(directions[:, :2], axis=1) / directions[:, 2]
        margin = _MARGIN * min(camera.size)
        inside = (pixels > margin).all(1) & (pixels < np.array(camera.size) - 1 - margin).all(1)
    # beyond the picture's own field the lens polynomial may fold back into it
    return float((inside & (directions[:, 2] > 0.1) & (radius < 1.05 * camera.field_radius)).mean())


def look_at(centre: np.ndarray, aim: np.ndarray, roll: float) -> np.ndarray:
    """Rotation (3,3), world to camera, of a camera at `centre` looking at `aim`, rolled about its axis."""
    R = look_rotation(aim - centre)
    c, s = np.cos(roll), np.sin(roll)
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]]) @ R


def _camera(name, size, K, distortion, centre, aim, roll) -> Camera:
    R = look_at(centre, aim, roll)
    return Camera(name, int(size[0]), int(size[1]), K, distortion, R, -R @ centre)


def _matrix(focal: float, size: tuple[int, int], shift: np.ndarray) -> np.ndarray:
    """Camera matrix; shift: of the principal point from the middle, in widths."""
    middle = (np.array(size) - 1) / 2 + shift * max(size)
    return np.array([[focal, 0, middle[0]], [0, focal, middle[1]], [0, 0, 1.0]])


def _middle(points: np.ndarray) -> np.ndarray:
    """(3,) centre of the box about a person's way."""
    flat = points.reshape(-1, 3)
    return 0.5 * (flat.min(0) + flat.max(0))


def _around(bearing: float, distance: float, height: float) -> np.ndarray:
    return np.array([np.cos(bearing) * distance, np.sin(bearing) * distance, height])
