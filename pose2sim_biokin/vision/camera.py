"""A calibrated camera: OpenCV's pinhole or fisheye model with lens distortion, in the project's world."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property

import cv2
import numpy as np

_IDENTITY = np.eye(3)
_ZERO = np.zeros(3)


@dataclass(frozen=True, eq=False)
class Camera:
    """One calibrated camera; all arrays are float64.

    ``x_pixel = K distort((R X_world + t) / z)``; the world is Z up and in metres, the camera's axes are
    OpenCV's (x right, y down, z forward) and pixel centres lie at whole numbers.

    Attributes:
        name: as in the calibration file.
        width, height: image size in pixels.
        K: (3, 3) camera matrix, pixels.
        distortion: (k,) OpenCV coefficients: k1 k2 p1 p2 [k3 [k4 k5 k6 [...]]], or k1 k2 k3 k4 when
        ``fisheye``.
        R: (3, 3) rotation, world to camera.
        t: (3,) translation, metres, world to camera.
        fisheye: ``distortion`` is for OpenCV's ``cv2.fisheye`` model.
    """

    name: str
    width: int
    height: int
    K: np.ndarray
    distortion: np.ndarray
    R: np.ndarray
    t: np.ndarray
    fisheye: bool = field(default=False)

    def __post_init__(self) -> None:
        for key, shape in (("K", (3, 3)), ("distortion", (-1,)), ("R", (3, 3)), ("t", (3,))):
            object.__setattr__(self, key, np.asarray(getattr(self, key), dtype=np.float64).reshape(shape))
        count = len(self.distortion)
        # OpenCV takes these lengths only; the coefficients left out are zero
        lengths = [n for n in ((4,) if self.fisheye else (4, 5, 8, 12, 14)) if n >= count]
        if not lengths or (self.fisheye and count not in (0, 4)):
            kind = "fisheye camera has 4" if self.fisheye else "camera has at most 14"
            raise ValueError(f"{self.name}: a {kind} distortion coefficients, found {count}")
        object.__setattr__(self, "distortion", np.pad(self.distortion, (0, lengths[0] - count)))

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.width, self.height

    @property
    def center(self) -> np.ndarray:
        """(3,) optical centre in the world, metres."""
        return -self.R.T @ self.t

    @property
    def view_direction(self) -> np.ndarray:
        """(3,) unit vector of the optical axis in the world."""
        return self.R[2].copy()

    def world_to_camera(self, points: np.ndarray) -> np.ndarray:
        """World points (..., 3) in metres to the camera's axes (..., 3)."""
        return np.asarray(points, dtype=np.float64) @ self.R.T + self.t

    def project(self, points: np.ndarray) -> np.ndarray:
        """World points (..., 3) in metres to distorted pixels (..., 2); NaN for points behind the camera."""
        return self.directions_to_pixels(self.world_to_camera(points))

    def directions_to_pixels(self, directions: np.ndarray) -> np.ndarray:
        """Directions or points (..., 3) in the camera's axes to distorted pixels (..., 2); NaN behind it."""
        directions = np.asarray(directions, dtype=np.float64)
        # one plane at a time: much faster in numpy than products with 2x2 matrices over a whole picture
        scale = 1 / np.where(directions[..., 2] > 1e-9, directions[..., 2], np.nan)
        normalised = self._distort(directions[..., :2] * scale[..., None])
        x, y = normalised[..., 0], normalised[..., 1]
        pixels = np.empty_like(normalised)
        pixels[..., 0] = self.K[0, 0] * x + (self.K[0, 1] * y + self.K[0, 2])
        pixels[..., 1] = self.K[1, 1] * y + self.K[1, 2]
        return pixels

    def pixels_to_rays(self, pixels: np.ndarray) -> np.ndarray:
        """Distorted pixels (..., 2) to unit directions (..., 3) in the camera's axes, undistorted.

        OpenCV's fixed-point inversion starts it and Newton steps finish it, so that projecting the ray again
        gives the pixel back to about 1e-9 px wherever the lens model can be inverted.
        """
        pixels = np.asarray(pixels, dtype=np.float64)
        flat = pixels.reshape(-1, 2)
        y = (flat[:, 1] - self.K[1, 2]) / self.K[1, 1]
        x = (flat[:, 0] - self.K[0, 2] - self.K[0, 1] * y) / self.K[0, 0]
        target = np.stack([x, y], axis=1)
        normalised = self._undistort(target)
        rays = np.concatenate([normalised, np.ones((len(flat), 1))], axis=1)
        rays /= np.linalg.norm(rays, axis=1, keepdims=True)
        return rays.reshape(*pixels.shape[:-1], 3)

    def pixels_to_world_rays(self, pixels: np.ndarray) -> np.ndarray:
        """Distorted pixels (..., 2) to unit directions (..., 3) in the world, from :attr:`center`."""
        return self.pixels_to_rays(pixels) @ self.R

    def scaled(self, factor: float) -> Camera:
        """The same camera with its image resized by ``factor``, as ``cv2.resize`` does."""
        scaling = np.array([[factor, 0, (factor - 1) / 2], [0, factor, (factor - 1) / 2], [0, 0, 1]])
        size = {"width": round(self.width * factor), "height": round(self.height * factor)}
        return replace(self, K=scaling @ self.K, **size)

    @cached_property
    def field_radius(self) -> float:
        """Tangent of the largest angle to the optical axis that the image's border sees."""
        x = np.linspace(-0.5, self.width - 0.5, 33)
        y = np.linspace(-0.5, self.height - 0.5, 33)
        border = np.concatenate(
            [np.stack([x, np.full(33, v)], 1) for v in (y[0], y[-1])]
            + [np.stack([np.full(33, u), y], 1) for u in (x[0], x[-1])]
        )
        rays = self.pixels_to_rays(border)
        return float(np.max(np.hypot(rays[:, 0], rays[:, 1]) / rays[:, 2]))

    def _distort(self, normalised: np.ndarray) -> np.ndarray:
        """Undistorted to distorted normalised image coordinates, both (..., 2)."""
        if not np.any(self.distortion) and not self.fisheye:
            return normalised
        if normalised.size == 0:
            return normalised
        points = np.ones((normalised.size // 2, 1, 3))
        points[:, 0, :2] = normalised.reshape(-1, 2)
        function = cv2.fisheye.projectPoints if self.fisheye else cv2.projectPoints
        result = function(points, _ZERO, _ZERO, _IDENTITY, self.distortion)[0]
        return result.reshape(normalised.shape)

    def _undistort(self, target: np.ndarray) -> np.ndarray:
        """Distorted to undistorted normalised image coordinates, both (M, 2)."""
        if len(target) == 0 or (not np.any(self.distortion) and not self.fisheye):
            return target
        function = cv2.fisheye.undistortPoints if self.fisheye else cv2.undistortPoints
        start = function(target.reshape(-1, 1, 2), _IDENTITY, self.distortion).reshape(-1, 2)
        # cv2.fisheye marks what it could not invert with -1e6; such points start from the distorted position
        x = np.where(np.abs(start) < 1e3, start, target)
        step = 1e-6
        for _ in range(12):
            error = self._distort(x) - target
            if not np.max(np.abs(error)) > 1e-13:
                break
            dx = (self._distort(x + [step, 0]) - self._distort(x - [step, 0])) / (2 * step)
            dy = (self._distort(x + [0, step]) - self._distort(x - [0, step])) / (2 * step)
            determinant = dx[:, 0] * dy[:, 1] - dx[:, 1] * dy[:, 0]
            determinant = np.where(np.abs(determinant) < 1e-6, 1e-6, determinant)
            change_x = (error[:, 0] * dy[:, 1] - error[:, 1] * dy[:, 0]) / determinant
            change_y = (error[:, 1] * dx[:, 0] - error[:, 0] * dx[:, 1]) / determinant
            x = x - np.clip(np.stack([change_x, change_y], axis=1), -0.2, 0.2)
        return x
