"""What is varied every time a cached pair is used: sides, views, crops, mask errors, light, sharpness,
cameras.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from pose2sim_biokin.skeleton.mirror import mirror_cameras, mirror_coordinates, mirror_indices
from pose2sim_biokin.skeleton.model import Skeleton

if TYPE_CHECKING:
    from odah.dataset import RawBatch


@dataclass(frozen=True)
class Augmentation:
    """Probabilities and sizes; call it with a RawBatch and a generator, get a new RawBatch.

    Attributes:
        skeleton: for mirroring.
        mirror, swap: probability of exchanging left and right, and the two views.
        crop: probability of another crop (scale 1 - 1.5 shift .. 1 + shift, offset up to shift of the side).
        mask: probability, each view, of mask errors.
        light: largest relative change of gain; a third of it for single colours.
        blur: probability, each view, of less sharpness.
        noise: deviation of the pixel noise, of 255.
        drop: probability, each view of a window, of missing frames (`odah.windows`).
        camera: deviation of the camera position error, m, and (times 50) of the principal point, pixels.
    """

    skeleton: Skeleton
    mirror: float = 0.5
    swap: float = 0.5
    crop: float = 0.5
    shift: float = 0.06
    mask: float = 0.5
    light: float = 0.4
    blur: float = 0.35
    noise: float = 4.0
    drop: float = 0.15
    camera: float = 0.005

    def __call__(self, raw: RawBatch, rng: np.random.Generator) -> RawBatch:
        """A varied copy of the batch; the same generator state gives the same."""
        rgb, mask = raw.rgb.copy(), raw.mask.copy()
        K, R, t = (np.array(a, dtype=np.float32) for a in (raw.K, raw.R, raw.t))
        coordinates, scales = raw.coordinates.astype(np.float32), raw.scales.astype(np.float32)
        count, size = len(rgb), rgb.shape[2]

        chosen = rng.random(count) < self.swap
        for array in (rgb, mask, K, R, t):
            array[chosen] = array[chosen, ::-1]

        chosen = rng.random(count) < self.mirror
        rgb[chosen], mask[chosen] = rgb[chosen, :, :, ::-1], mask[chosen, :, :, ::-1]
        K[chosen], R[chosen], t[chosen] = mirror_cameras(K[chosen], R[chosen], t[chosen], size)
        coordinates[chosen] = mirror_coordinates(coordinates[chosen], self.skeleton)
        scales[chosen] = scales[chosen][:, mirror_indices(self.skeleton.body_names)]

        for i in range(count):
            for v in range(2):
                rgb[i, v], mask[i, v], K[i, v] = self._view(rgb[i, v], mask[i, v], K[i, v], rng)
        gain = (
            1
            + self.light * rng.uniform(-1, 1, (count, 2, 1, 1, 1))
            + self.light / 3 * rng.uniform(-1, 1, (count, 2, 1, 1, 3))
        )
        lift = 255 * self.light / 5 * rng.uniform(-1, 1, (count, 2, 1, 1, 1))
        light = rgb * gain.astype(np.float32) + lift.astype(np.float32)
        # One sheet of noise, rolled: pixels of a pair still differ, at a fraction of the cost.
        sheet = (self.noise * rng.standard_normal((size, size, 3))).astype(np.float32)
        light += np.roll(sheet, int(rng.integers(size)), axis=0)
        rgb = np.clip(light, 0, 255).astype(np.uint8)
        t += (self.camera * rng.standard_normal(t.shape)).astype(np.float32)
        K[..., :2, 2] += (50 * self.camera * rng.standard_normal(K[..., :2, 2].shape)).astype(np.float32)
        return raw._replace(rgb=rgb, mask=mask, K=K, R=R, t=t, coordinates=coordinates, scales=scales)

    def _view(
        self, rgb: np.ndarray, mask: np.ndarray, K: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        size = rgb.shape[0]
        if rng.random() < self.crop:
            scale = 1 + self.shift * rng.uniform(-1.5, 1)
            middle = (size - 1) / 2 * (1 - scale)
            offset = middle + size * self.shift * rng.uniform(-1, 1, 2)
            warp = np.array([[scale, 0, offset[0]], [0, scale, offset[1]]])
            rgb = cv2.warpAffine(rgb, warp, (size, size))
            mask = cv2.warpAffine(mask, warp, (size, size), flags=cv2.INTER_NEAREST)
            K = (np.vstack([warp, [0, 0, 1]]) @ K).astype(np.float32)
        if rng.random() < self.blur:
            if rng.random() < 0.5:
                small = int(size * rng.uniform(0.35, 0.8))
                rgb = cv2.resize(rgb, (small, small), interpolation=cv2.INTER_AREA)
                rgb = cv2.resize(rgb, (size, size), interpolation=cv2.INTER_LINEAR)
            else:
                rgb = cv2.GaussianBlur(rgb, (5, 5), rng.uniform(0.4, 1.3))
        if rng.random() < self.mask:
            rgb, mask = self._mask_errors(rgb, mask, rng)
        return rgb, mask, K

    def _mask_errors(
        self, rgb: np.ndarray, mask: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Wider or narrower outlines, lumps of background and holes near the outline."""
        size = mask.shape[0]
        wrong = mask.copy()
        width = int(rng.integers(-1, 3))
        if width:
            kernel = np.ones((3, 3), np.uint8)
            wrong = cv2.dilate(wrong, kernel, iterations=width) if width > 0 else cv2.erode(wrong, kernel)
        places = np.flatnonzero(mask)
        for _ in range(int(rng.integers(0, 4))):
            if len(places) == 0:
                break
            y, x = divmod(int(places[rng.integers(len(places))]), size)
            offset = rng.normal(0, 4, 2)
            radius = int(size * rng.uniform(0.01, 0.045)) + 1
            value = 0 if rng.random() < 0.5 else int(mask.max())
            cv2.circle(wrong, (int(x + offset[0]), int(y + offset[1])), radius, value, -1)
        if not wrong.any():
            return rgb, mask
        leaked = (wrong > 0) & (mask == 0)
        if leaked.any():
            # What leaks in is background: one colour, with some texture.
            colour = rng.integers(0, 256, 3) + 25 * rng.standard_normal((int(leaked.sum()), 3))
            rgb = rgb.copy()
            rgb[leaked] = np.clip(colour, 0, 255).astype(np.uint8)
        return rgb, wrong
