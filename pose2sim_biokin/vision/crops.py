"""Virtual crop cameras: square, distortion-free pinhole cameras that look at the person, level with gravity.

A crop camera shares the source camera's optical centre, so the picture it sees is the source picture
re-sampled, whatever the scene's depth: lens distortion, camera roll and the person's place in the picture are
gone, and its K, R, t are exact. Training renders straight into such cameras, so that training and inference
see the same kind of picture.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from pose2sim_biokin.vision.camera import Camera

MARGIN = 1.1
_UP = np.array([0.0, 0.0, 1.0])


@dataclass(frozen=True, eq=False)
class CropCamera:
    """A pinhole camera without distortion and with a square picture; float64.

    Attributes:
        K: (3, 3) camera matrix, pixels; pixel centres at whole numbers.
        R: (3, 3) rotation, world (Z up) to camera (OpenCV axes).
        t: (3,) translation, metres: x_pixel = K (R X_world + t).
        size: side of the picture in pixels.
    """

    K: np.ndarray
    R: np.ndarray
    t: np.ndarray
    size: int

    @property
    def center(self) -> np.ndarray:
        """(3,) optical centre in the world, metres."""
        return -self.R.T @ self.t

    def project(self, points: np.ndarray) -> np.ndarray:
        """World points (..., 3) in metres to pixels (..., 2); NaN behind the camera."""
        camera = np.asarray(points, dtype=np.float64) @ self.R.T + self.t
        z = camera[..., 2:]
        front = z > 1e-9
        pixels = (camera / np.where(front, z, 1.0)) @ self.K[:2].T
        return np.where(front, pixels, np.nan)


def look_rotation(forward: np.ndarray, fallback_right: np.ndarray | None = None) -> np.ndarray:
    """Rotation (3, 3), world to camera, of a level camera that looks along ``forward`` (3,) in a Z-up world.

    The camera's x axis is horizontal. Looking straight up or down (within 0.6 degrees) leaves that open:
    ``fallback_right`` (3,), the source camera's x axis, then decides (world X without one).
    """
    z = np.asarray(forward, dtype=np.float64)
    z = z / np.linalg.norm(z)
    x = np.cross(z, _UP)
    if np.linalg.norm(x) < 1e-2:
        right = np.asarray((1.0, 0.0, 0.0) if fallback_right is None else fallback_right, dtype=np.float64)
        x = right - (right @ z) * z
    x = x / np.linalg.norm(x)
    return np.stack([x, np.cross(z, x), z])


def directions_to_crop(
    camera_center: np.ndarray,
    directions_world: np.ndarray,
    size: int,
    margin: float = MARGIN,
    fallback_right: np.ndarray | None = None,
) -> CropCamera:
    """The crop camera that looks at a silhouette.

    Args:
        camera_center: (3,) optical centre in the world, metres.
        directions_world: (M, 3) directions from the centre to a sample of the silhouette (boundary pixels, or
            the vertices of a mesh minus the centre); need not be unit vectors.
        size: side of the picture in pixels.
        margin: side of the square over the longer side of the silhouette's box.
        fallback_right: see :func:`look_rotation`.

    Raises:
        ValueError: no direction, one that is not finite, or directions that span 160 degrees or more.
    """
    directions = np.asarray(directions_world, dtype=np.float64).reshape(-1, 3)
    if len(directions) == 0 or not np.isfinite(directions).all():
        raise ValueError("directions_to_crop needs at least one direction, all of them finite")
    norms = np.linalg.norm(directions, axis=1, keepdims=True)
    unit = directions / np.maximum(norms, 1e-12)
    axis = unit.mean(axis=0)
    half = 1e-4
    # turning the camera to the box's centre changes the box a little; four turns leave it centred within
    # ~1e-3 px
    for _ in range(4):
        R = look_rotation(axis, fallback_right)
        camera = unit @ R.T
        if camera[:, 2].min() < 0.17:
            raise ValueError("the silhouette spans too wide an angle for one picture")
        plane = camera[:, :2] / camera[:, 2:]
        low, high = plane.min(axis=0), plane.max(axis=0)
        half = max(float(np.abs(plane).max()), 1e-4)
        middle = (low + high) / 2
        axis = middle[0] * R[0] + middle[1] * R[1] + R[2]
    focal = size / (2 * margin * half)
    principal = (size - 1) / 2
    K = np.array([[focal, 0, principal], [0, focal, principal], [0, 0, 1.0]])
    return CropCamera(K=K, R=R, t=-R @ np.asarray(camera_center, dtype=np.float64), size=int(size))


def mask_outline(mask: np.ndarray) -> np.ndarray:
    """Corners of the convex hull of a mask (H, W), as (M, 2) x, y; (0, 2) if it is empty."""
    mask = np.asarray(mask)
    rows = np.flatnonzero(mask.any(axis=1))
    if len(rows) == 0:
        return np.zeros((0, 2))
    inner = mask[rows] != 0
    left, right = inner.argmax(axis=1), mask.shape[1] - 1 - inner[:, ::-1].argmax(axis=1)
    points = np.stack([np.concatenate([left, right]), np.concatenate([rows, rows])], axis=1)
    return cv2.convexHull(points[:, None].astype(np.int32))[:, 0].astype(np.float64)


def mask_to_crop(camera: Camera, mask: np.ndarray, size: int, margin: float = MARGIN) -> CropCamera:
    """The crop camera that looks at the person under ``mask`` (H, W) bool or uint8 of the camera's picture.

    Raises:
        ValueError: the mask is empty.
    """
    outline = mask_outline(mask)
    if len(outline) == 0:
        raise ValueError(f"{camera.name}: empty mask")
    return boundary_to_crop(camera, outline, size, margin)


def boundary_to_crop(camera: Camera, outline: np.ndarray, size: int, margin: float = MARGIN) -> CropCamera:
    """As :func:`mask_to_crop` from pixels (M, 2) x, y, among them the corners of the mask's convex hull."""
    directions = camera.pixels_to_world_rays(outline)
    return directions_to_crop(camera.center, directions, size, margin, fallback_right=camera.R[0])


def crop_map(camera: Camera, crop: CropCamera) -> np.ndarray:
    """Where each crop pixel lies in the source picture: (S, S, 2) x, y; -1e4 where it sees nothing."""
    size = crop.size
    turn = camera.R @ crop.R.T @ np.linalg.inv(crop.K)
    columns = (
        np.arange(size)[:, None] * turn[:, 0]
    )  # (S, 3), then rows: ray of pixel (u, v) = columns[u] + rows[v]
    rows = np.arange(size)[:, None] * turn[:, 1] + turn[:, 2]
    rays = rows[:, None] + columns[None]
    pixels = camera.directions_to_pixels(rays)
    # beyond the picture's own field the lens polynomial may fold back into it
    limit = (1.02 * camera.field_radius * np.maximum(rays[..., 2], 0)) ** 2
    outside = rays[..., 0] ** 2 + rays[..., 1] ** 2 > limit
    pixels[outside | (rays[..., 2] <= 1e-9)] = -1e4
    return pixels


def _quick_map(camera: Camera, crop: CropCamera) -> np.ndarray:
    """:func:`crop_map`, interpolated from every fourth pixel: within 0.02 crop pixels for usual lenses."""
    size, nodes = crop.size, crop.size // 4 + 1
    step = (size - 1) / (nodes - 1)
    coarse_K = np.diag([1 / step, 1 / step, 1.0]) @ crop.K
    coarse = crop_map(camera, CropCamera(coarse_K, crop.R, crop.t, nodes))
    if coarse[..., 0].min() < -9e3:
        return crop_map(camera, crop)
    position = np.arange(size) / step
    left = np.minimum(position.astype(int), nodes - 2)
    weights = np.zeros((size, nodes))
    weights[np.arange(size), left] = 1 - (position - left)
    weights[np.arange(size), left + 1] = position - left
    return np.stack([weights @ coarse[..., axis] @ weights.T for axis in (0, 1)], axis=-1)


def warp_to_crop(
    camera: Camera, crop: CropCamera, image: np.ndarray, mask: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Re-sample a picture and the person's mask into the crop camera.

    Args:
        camera: the source camera.
        crop: a crop camera at the same optical centre.
        image: (H, W, 3) uint8 of the source camera; the channel order is kept.
        mask: (H, W) bool or uint8, non-zero on the person.

    Returns:
        image (S, S, 3) uint8, black where the source saw nothing, and mask (S, S) uint8 of 0 and 1. Where the
        crop is coarser than the source, source pixels are averaged first, so that nothing aliases.
    """
    height, width = mask.shape[:2]
    if image.shape[:2] != (height, width):
        found = f"{image.shape[1]}x{image.shape[0]}"
        raise ValueError(f"picture {found} and mask {width}x{height} differ in size")
    mapping = _quick_map(camera, crop)
    seen = mapping[..., 0] > -9e3
    size = crop.size
    if not seen.any():
        return np.zeros((size, size, 3), np.uint8), np.zeros((size, size), np.uint8)
    shrink = _shrink(mapping, seen)
    x0, y0 = np.maximum(np.floor(mapping[seen].min(axis=0)).astype(int) - shrink, 0)
    x1, y1 = np.minimum(np.ceil(mapping[seen].max(axis=0)).astype(int) + shrink + 1, (width, height))
    if x1 <= x0 or y1 <= y0:
        return np.zeros((size, size, 3), np.uint8), np.zeros((size, size), np.uint8)
    picture = image[y0:y1, x0:x1]
    cover = cv2.convertScaleAbs((mask[y0:y1, x0:x1] != 0).view(np.uint8), alpha=255)
    local = mapping - (x0, y0)
    if shrink > 1:
        h, w = -(-picture.shape[0] // shrink), -(-picture.shape[1] // shrink)
        bottom, right = h * shrink - picture.shape[0], w * shrink - picture.shape[1]
        picture = cv2.copyMakeBorder(picture, 0, bottom, 0, right, cv2.BORDER_REPLICATE)
        cover = cv2.copyMakeBorder(cover, 0, bottom, 0, right, cv2.BORDER_CONSTANT)
        picture = cv2.resize(picture, (w, h), interpolation=cv2.INTER_AREA)
        cover = cv2.resize(cover, (w, h), interpolation=cv2.INTER_AREA)
        local = (local - (shrink - 1) / 2) / shrink
    local = local.astype(np.float32)
    crop_image = cv2.remap(picture, local, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
    crop_mask = cv2.remap(cover, local, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
    return crop_image, (crop_mask > 127).astype(np.uint8)


def _shrink(mapping: np.ndarray, seen: np.ndarray) -> int:
    """Source pixels per crop pixel near the picture's middle, as a whole number of at least 1."""
    both = seen[:, 1:] & seen[:, :-1]
    if not both.any():
        return 1
    steps = np.linalg.norm(np.diff(mapping, axis=1), axis=-1)[both]
    return max(1, int(round(float(np.median(steps)))))
