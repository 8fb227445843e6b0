"""What is varied every time a cached pair is used: sides, views, crops, surroundings, occluders, mask errors,
light, sharpness, compression, cameras.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import cv2
import numpy as np
from scipy.spatial.transform import Rotation

from odah.backdrops import Backdrops, StillBackdrops
from odah.mask_noise import MaskNoise
from pose2sim_biokin.errors import BiokinError
from pose2sim_biokin.skeleton.mirror import mirror_cameras, mirror_coordinates, mirror_indices
from pose2sim_biokin.skeleton.model import Skeleton

if TYPE_CHECKING:
    from odah.dataset import RawBatch


_BLACK = 0.1  # share of coloured pixels around a person up to which the camera saw nothing there


@dataclass(frozen=True)
class Augmentation:
    """Probabilities and sizes; call it with a RawBatch and a generator, get a new RawBatch.

    Attributes:
        skeleton: for mirroring.
        mirror, swap: probability of exchanging left and right, and the two views.
        crop: probability of another crop (scale 1 - 1.5 shift .. 1 + shift, offset up to shift of the side).
        mask: probability, each view, of mask errors; `errors`: which ones, see MaskNoise.
        scene: probability, each pair, that the network sees what is around the person: what the camera saw,
            or, where that is black, a backdrop. Else it is blanked by the mask.
        backdrops: what may be there, or the file of it that `odah backdrops` wrote.
        crowd: probability, each view in front of a backdrop, of somebody else in it.
        occlude: probability, each view, of a box that hides a part of the person.
        light: largest relative change of gain; a third of it for single colours.
        blur: probability, each view, of less sharpness.
        jpeg: probability, each view, of compression.
        noise: deviation of the pixel noise, of 255.
        drop: probability, each view of a window, of missing frames (`odah.windows`).
        calibration: probability, each view, of a wrong calibration, see `wrong_calibration`.
        camera: deviation of the camera position error, m, and (times 50) of the principal point, pixels.
    """

    skeleton: Skeleton
    mirror: float = 0.5
    swap: float = 0.5
    crop: float = 0.5
    shift: float = 0.06
    mask: float = 0.5
    errors: MaskNoise = field(default_factory=MaskNoise)
    scene: float = 0.0
    backdrops: Backdrops | StillBackdrops | str | None = None
    crowd: float = 0.2
    occlude: float = 0.1
    light: float = 0.4
    blur: float = 0.35
    jpeg: float = 0.15
    noise: float = 4.0
    drop: float = 0.15
    calibration: float = 0.15
    camera: float = 0.005

    def __post_init__(self) -> None:
        if isinstance(self.errors, Mapping):  # a table of an experiment file
            object.__setattr__(self, "errors", MaskNoise.of(self.errors))
        if self.scene and self.backdrops is None:
            raise BiokinError(
                f"[augmentation] scene is {self.scene:g}, but there are no backdrops: make some with `odah "
                'backdrops` and name their file (--backdrops, or backdrops = "..."), or set scene = 0.'
            )
        if isinstance(self.backdrops, str):
            object.__setattr__(self, "backdrops", Backdrops(self.backdrops))

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

        whole = rng.random(count) < self.scene
        people = rgb.copy() if whole.any() else rgb
        silhouettes = mask.copy() if whole.any() else mask
        for i in range(count):
            for v in range(2):
                behind = None
                if whole[i]:
                    behind = self.backdrops(size, v, rng)
                    if count > 1 and rng.random() < self.crowd:
                        other = (i + int(rng.integers(1, count))) % count, int(rng.integers(2))
                        behind = somebody_else(behind, people[other], silhouettes[other], rng)
                rgb[i, v], mask[i, v], K[i, v] = self._view(rgb[i, v], mask[i, v], K[i, v], behind, rng)
        gain = (
            1
            + self.light * rng.uniform(-1, 1, (count, 2, 1, 1, 1))
            + self.light / 3 * rng.uniform(-1, 1, (count, 2, 1, 1, 3))
        )
        lift = 255 * self.light / 5 * rng.uniform(-1, 1, (count, 2, 1, 1, 1))
        light = rgb * gain.astype(np.float32)
        light += lift.astype(np.float32)
        # One sheet of noise, rolled: pixels of a pair still differ, at a fraction of the cost.
        sheet = (self.noise * rng.standard_normal((size, size, 3))).astype(np.float32)
        light += np.roll(sheet, int(rng.integers(size)), axis=0)
        rgb = np.clip(light, 0, 255, out=light).astype(np.uint8)
        rgb[~whole] *= mask[~whole, ..., None] > 0
        chosen = rng.random((count, 2)) < self.calibration
        K[chosen], R[chosen], t[chosen] = wrong_calibration(K[chosen], R[chosen], t[chosen], size, rng)
        t += (self.camera * rng.standard_normal(t.shape)).astype(np.float32)
        K[..., :2, 2] += (50 * self.camera * rng.standard_normal(K[..., :2, 2].shape)).astype(np.float32)
        return raw._replace(rgb=rgb, mask=mask, K=K, R=R, t=t, coordinates=coordinates, scales=scales)

    def _view(
        self,
        rgb: np.ndarray,
        mask: np.ndarray,
        K: np.ndarray,
        behind: np.ndarray | None,
        rng: np.random.Generator,
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
        if behind is not None and _background_is_black(rgb, mask):
            rgb = in_front_of(behind, rgb, mask)
        if rng.random() < self.occlude:
            box = hiding_box(mask, rng)
            if box is not None:
                mask[box] = 0
                if behind is not None:
                    rgb[box] = np.roll(behind, size // 2, axis=1)[box]
        if rng.random() < self.blur:
            if rng.random() < 0.5:
                small = int(size * rng.uniform(0.35, 0.8))
                rgb = cv2.resize(rgb, (small, small), interpolation=cv2.INTER_AREA)
                rgb = cv2.resize(rgb, (size, size), interpolation=cv2.INTER_LINEAR)
            else:
                rgb = cv2.GaussianBlur(rgb, (5, 5), rng.uniform(0.4, 1.3))
        if rng.random() < self.jpeg:
            quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(15, 70))]
            rgb = cv2.imdecode(cv2.imencode(".jpg", rgb, quality)[1], cv2.IMREAD_COLOR)
        if rng.random() < self.mask:
            found = self.errors(mask, rng)
            if behind is None:
                rgb = leaked(rgb, found & (mask == 0), rng)
            mask = found
        return rgb, mask, K


def in_front_of(behind: np.ndarray, rgb: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """A person, rgb (S, S, 3) uint8 where mask (S, S) is not zero, in front of a picture (S, S, 3) uint8.

    The outline is a pixel soft, as a lens draws it; the person's own colours reach that far beyond the mask.
    """
    inside = (mask > 0).astype(np.uint8) * 255
    soft = cv2.GaussianBlur(inside.astype(np.float32) / 255, (3, 3), 0.6)
    own = cv2.copyTo(rgb, inside)
    known = cv2.GaussianBlur(inside, (5, 5), 1.0).clip(13)  # of 255; less is no colour
    person = cv2.divide(cv2.GaussianBlur(own, (5, 5), 1.0), cv2.merge([known] * 3), scale=255)
    cv2.copyTo(own, inside, person)
    return cv2.blendLinear(person, np.ascontiguousarray(behind), soft, 1 - soft)


def _background_is_black(rgb: np.ndarray, mask: np.ndarray) -> bool:
    """Whether the camera saw nothing around a person, by every third row and column."""
    few = np.s_[::3, ::3]
    around = mask[few] == 0
    return np.count_nonzero(rgb[few].max(-1)[around]) < _BLACK * np.count_nonzero(around)


def somebody_else(
    behind: np.ndarray, rgb: np.ndarray, mask: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """A picture (S, S, 3) with another person, rgb (S, S, 3) where mask (S, S), to one side of its middle."""
    size = len(mask)
    aside = size * rng.uniform(0.25, 0.7) * rng.choice([-1, 1])
    scale = rng.uniform(0.6, 1.1)
    middle = size / 2 * (1 - scale)
    warp = np.array([[scale, 0, middle + aside], [0, scale, middle + size * rng.uniform(-0.1, 0.15)]])
    rgb = cv2.warpAffine(rgb, warp, (size, size))
    return in_front_of(behind, rgb, cv2.warpAffine(mask, warp, (size, size), flags=cv2.INTER_NEAREST))


def hiding_box(mask: np.ndarray, rng: np.random.Generator) -> tuple[slice, slice] | None:
    """Rows and columns of a box that stands anywhere on the person of a mask (S, S); None if it would hide
    the most.
    """
    places = np.flatnonzero(mask)
    if not len(places):
        return None
    size = len(mask)
    y, x = divmod(int(places[rng.integers(len(places))]), size)
    height, width = (size * rng.uniform(0.05, 0.2, 2)).astype(int) + 1
    box = slice(max(y - height, 0), y + height), slice(max(x - width, 0), x + width)
    return box if np.count_nonzero(mask[box]) < 0.5 * len(places) else None


def leaked(rgb: np.ndarray, places: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A picture (S, S, 3) with something behind the person at `places` (S, S).

    What the camera saw there stays; where that was not kept (black) it is one colour with some texture.
    """
    unknown = (places > 0) & ~rgb.any(-1)
    if not unknown.any():
        return rgb
    colour = rng.integers(0, 256, 3) + 25 * rng.standard_normal((int(unknown.sum()), 3))
    rgb = rgb.copy()
    rgb[unknown] = np.clip(colour, 0, 255).astype(np.uint8)
    return rgb


def wrong_calibration(
    K: np.ndarray, R: np.ndarray, t: np.ndarray, size: int, rng: np.random.Generator, count: int | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cameras (n, 3, 3), (n, 3, 3), (n, 3) of pictures of side `size`, each off by some pixels.

    Standard deviations: 1.2 % of the picture's side by turning about the two axes across the view (a few
    pixels of the film, of which the crop has a part), 0.6 degrees about the view, 1 % of the focal length.
    The camera stays where it is.

    Args:
        count: draws so many errors, which are repeated over the cameras; by default n.
    """
    n = len(K) if count is None else count
    across = 0.012 * size / K[:n, 0, 0][:, None] * rng.standard_normal((n, 2))
    turn = np.concatenate([across, np.radians(0.6) * rng.standard_normal((n, 1))], 1)
    turn = Rotation.from_rotvec(turn).as_matrix().astype(np.float32)
    zoom = (1 + 0.01 * rng.standard_normal(n)).astype(np.float32)
    repeat = np.arange(len(K)) % n
    K = K.copy()
    K[:, 0, :2] *= zoom[repeat, None]
    K[:, 1, :2] *= zoom[repeat, None]
    return K, turn[repeat] @ R, (turn[repeat] @ t[..., None])[..., 0]
