"""Lens distortion of synthetic pictures: points straight through the lens, or a pinhole picture re-sampled.

A renderer that draws small triangles projects their vertices with `project_through_lens` and is done. One
that knows pinholes only (Blender) draws a wide enough picture with `pinhole_for`; `PinholeToLens` bends it.
"""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from pose2sim_biokin.vision.camera import Camera


def is_bent(camera: Camera) -> bool:
    """The camera is not a pinhole."""
    return camera.fisheye or bool(np.any(camera.distortion))


def project_through_lens(camera: Camera, points: np.ndarray) -> np.ndarray:
    """Points (..., 3) in the camera's axes, z > 0, to pixels (..., 2).

    The same as `Camera.directions_to_pixels` for all that the picture shows. Beyond the picture's corners
    lens polynomials may turn back towards the middle; there the image goes on straight outwards instead, so
    that what is outside stays outside.
    """
    points = np.asarray(points, dtype=np.float64)
    if not is_bent(camera):
        return camera.directions_to_pixels(points)
    limit = 1.02 * camera.field_radius
    slope = points[..., :2] / points[..., 2:]
    radius = np.hypot(slope[..., 0], slope[..., 1])
    beyond = np.maximum(radius / limit, 1.0)
    near = np.concatenate([slope / beyond[..., None], np.ones_like(slope[..., :1])], -1)
    pixels = camera.directions_to_pixels(near)
    principal = camera.K[:2, 2]
    return principal + (pixels - principal) * beyond[..., None]


def pinhole_for(camera: Camera, margin: int = 2) -> Camera:
    """A pinhole camera at the same place that sees all the camera sees, at its focal length.

    Its picture is as large as that takes (plus ``margin`` pixels a side); the principal point need not be its
    middle. A camera without distortion and skew is returned unchanged.
    """
    if not is_bent(camera) and camera.K[0, 1] == 0:
        return camera
    x, y = np.linspace(-0.5, camera.width - 0.5, 65), np.linspace(-0.5, camera.height - 0.5, 65)
    border = np.concatenate(
        [np.stack([x, np.full(65, v)], 1) for v in (y[0], y[-1])]
        + [np.stack([np.full(65, u), y], 1) for u in (x[0], x[-1])]
    )
    rays = camera.pixels_to_rays(border)
    slope = rays[:, :2] / rays[:, 2:]
    focal = np.array([camera.K[0, 0], camera.K[1, 1]])
    low = np.floor((slope * focal).min(0)).astype(int) - margin
    high = np.ceil((slope * focal).max(0)).astype(int) + margin
    K = np.array([[focal[0], 0, -low[0]], [0, focal[1], -low[1]], [0, 0, 1.0]])
    width, height = (int(n) for n in high - low + 1)
    return replace(camera, width=width, height=height, K=K, distortion=np.zeros(0), fisheye=False)


class PinholeToLens:
    """Re-samples pictures of `pinhole_for(camera)` to those of ``camera``.

    The inverse of ``cv2.undistort``: each of the camera's pixels looks up the pinhole pixel on its ray.
    """

    def __init__(self, camera: Camera, pinhole: Camera | None = None):
        self.camera = camera
        self.pinhole = pinhole or pinhole_for(camera)
        self._map = None
        if self.pinhole is not camera:
            y, x = np.mgrid[: camera.height, : camera.width].astype(np.float64)
            rays = camera.pixels_to_rays(np.stack([x, y], -1))
            self._map = self.pinhole.directions_to_pixels(rays).astype(np.float32)

    def __call__(self, picture: np.ndarray) -> np.ndarray:
        """(h, w[, C]) uint8 or float32 of the pinhole -> (H, W[, C]) of the camera, bilinear, same type."""
        if self._map is None:
            return picture
        expected = (self.pinhole.height, self.pinhole.width)
        if picture.shape[:2] != expected:
            raise ValueError(
                f"{self.camera.name}: expected a pinhole picture {expected}, found {picture.shape[:2]}"
            )
        return cv2.remap(picture, self._map, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
