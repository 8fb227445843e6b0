"""Analytic scenes: cameras anywhere, and ellipsoids whose silhouettes are known in closed form."""

from __future__ import annotations

import cv2
import numpy as np

from pose2sim_biokin.vision.camera import Camera
from pose2sim_biokin.vision.crops import look_rotation


def camera_at(
    center,
    target,
    name="cam",
    size=(1080, 1920),
    focal=1500.0,
    distortion=(0.0, 0.0, 0.0, 0.0),
    roll_degrees=0.0,
    fisheye=False,
) -> Camera:
    """A camera at ``center`` that looks at ``target``, rolled about its optical axis."""
    center, target = np.asarray(center, float), np.asarray(target, float)
    roll = cv2.Rodrigues(np.array([0, 0, np.radians(roll_degrees)]))[0]
    R = roll @ look_rotation(target - center)
    K = np.array([[focal, 0, size[0] / 2 + 7.3], [0, focal * 1.01, size[1] / 2 - 4.1], [0, 0, 1]])
    return Camera(name, size[0], size[1], K, np.asarray(distortion), R, -R @ center, fisheye)


def ellipsoid_mask(camera, center, radii, chunk=200) -> np.ndarray:
    """Silhouette (H, W) of an axis-aligned ellipsoid: pixels whose (undistorted) ray meets it.

    ``camera`` is a Camera or anything with K, R, t and a ``size`` (a crop camera).
    """
    if isinstance(camera, Camera):
        width, height = camera.size
        unproject = camera.pixels_to_rays
    else:
        width = height = camera.size
        inverse = np.linalg.inv(camera.K)

        def unproject(pixels):
            return np.concatenate([pixels, np.ones((*pixels.shape[:-1], 1))], -1) @ inverse.T

    origin = (-camera.R.T @ camera.t - center) / radii
    mask = np.zeros((height, width), bool)
    # only the neighbourhood of the projected ellipsoid, to stay fast
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, 9)] * 3), -1).reshape(-1, 3) * radii * 1.05 + center
    around = camera.project(grid)
    x0, y0 = np.clip(np.floor(np.nanmin(around, axis=0)) - 5, 0, (width, height)).astype(int)
    x1, y1 = np.clip(np.ceil(np.nanmax(around, axis=0)) + 5, 0, (width, height)).astype(int)
    for row in range(y0, y1, chunk):
        last = min(row + chunk, y1)
        u, v = np.meshgrid(np.arange(x0, x1, dtype=float), np.arange(row, last, dtype=float))
        d = unproject(np.stack([u, v], -1)) @ camera.R / radii
        a, b, c = (d * d).sum(-1), d @ origin, origin @ origin - 1
        mask[row:last, x0:x1] = (b * b - a * c >= 0) & (b < 0)
    return mask
