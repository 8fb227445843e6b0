"""The still background of a camera that does not move, and better masks of the people in front of it.

Pose2Sim's cameras stand still: one calibration holds for a whole recording. What a pixel shows while nobody
is in front of it is therefore known (the *plate*), and a frame's difference to the plate tells a person from
the wall behind with the sharpness of the picture itself, where a segmentation network is blobby and leaks.
Neither is enough alone: the network says what is a person at all, and knows where the plate stays hidden; the
difference says where the person ends. Each pixel adds up the evidence of both, neighbours support one
another, and connected parts make a person.

All of this happens on pictures reduced to a long side of 480 pixels ("working size"), a few of whose pixels
make one of what the pose network sees.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from pose2sim_biokin.vision.masks import PackedMask, mask_box

LONG_SIDE = 480
SAMPLES = 40

_FEWEST = 8  # sampled frames that a plate is made of
_SAME = 10.0  # grey levels by which two looks at the same wall differ at most
_NOISE = 2.5  # least noise of a video, grey levels
_GAIN = (0.5, 2.0)
_LIGHT = (0.5, 1.2)  # the darkest shadow and the brightest reflection, as shares of the usual light
_RESTLESS = 0.08  # share of the free picture that may have moved in a usual frame
_KNOWN = 0.15  # least share of the people's whereabouts whose plate is known
_SOFT = 0.03  # a network's outline is wrong by about this part of a person's height
_REACH = 0.5  # a person goes on this part of a height beyond what the network saw of them
_SUPPORT = 3.0  # weight of the neighbours' opinion
_ROUNDS = 4


Window = tuple[slice, slice]  # rows and columns


class NotStill(Exception):
    """There is no still background to be had; the message says why, in a few words."""


@dataclass(frozen=True, eq=False)
class Background:
    """The plate of a view; arrays are (h, w), working size.

    Attributes:
        plate: (h, w, 3) float32 BGR, 0..255.
        noise: float32 grey levels, standard deviation over time.
        trust: float32, from 0 where the plate is unknown to 1.
    """

    plate: np.ndarray
    noise: np.ndarray
    trust: np.ndarray

    def __post_init__(self) -> None:
        length = np.maximum(np.sqrt(_sum(self.plate * self.plate)), 20.0)
        object.__setattr__(self, "_length", length)
        object.__setattr__(self, "_direction", self.plate / length[..., None])
        object.__setattr__(self, "_precision", 1 / (self.noise * self.noise))

    def evidence(self, image: np.ndarray, busy: np.ndarray, window: Window) -> np.ndarray:
        """Log odds float32 that a pixel is not background; 0 where the plate is unknown.

        Args:
            image: (h, w, 3) uint8 BGR at working size.
            busy: (h, w) bool, where people may be: left out when the exposure is compared.
            window: the part of the picture that is wanted.

        The difference is split along and across the plate's colour (Horprasert et al. 1999, "A statistical
        approach for real-time robust background subtraction"). Noise gives the odds of a Gaussian against an
        even distribution; what is only darker, or a little brighter, may be a shadow or a reflection and
        speaks for nobody.
        """
        gain = _gain(image, self.plate, (self.trust > 0.8) & ~busy)
        difference = cv2.subtract(image[window].astype(np.float32) / gain, self.plate[window])
        along = _sum(cv2.multiply(difference, self._direction[window]))
        along2 = along * along
        across2 = np.maximum(_sum(cv2.multiply(difference, difference)) - along2, 0)
        precision, length = self._precision[window], self._length[window]
        # light changes more often than colour; what one pixel can say is limited, lest it speak for the next
        n2 = np.minimum((along2 / 2.25 + across2) * precision, 14)
        odds = np.clip(cv2.blur(n2, (3, 3)) / 2 - 4, -4, 3)
        low, high = _LIGHT
        light = (along > (low - 1) * length) & (along < (high - 1) * length) & (across2 * precision < 6)
        return np.where(light, np.minimum(odds, -0.5), odds) * self.trust[window]


def working_size(size: tuple[int, int]) -> tuple[int, int]:
    """Width and height of the working picture of a frame of this width and height."""
    scale = min(1.0, LONG_SIDE / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def shrink(image: np.ndarray) -> np.ndarray:
    """A frame (H, W, 3) uint8 at working size."""
    size = working_size(image.shape[1::-1])
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def shrink_mask(mask: PackedMask) -> np.ndarray:
    """A mask at working size, (h, w) bool: what it is at the centre of each working pixel."""
    return mask.shrunk(working_size(mask.size[::-1]))


def build_background(images: Sequence[np.ndarray], masks: Sequence[np.ndarray]) -> Background:
    """The plate of a view from sampled frames.

    Args:
        images: (h, w, 3) uint8 BGR at working size, spread over the recording.
        masks: for each image (h, w) bool, everything that the network takes for people.

    The plate is the median of what a pixel shows while nobody is near. It is trusted where most of these
    looks agree, and not where the network mostly sees a person who, it seems, never moved. A second round
    takes the improved masks of the first, so that a limb that the network lost does not stay in the plate.

    Raises:
        NotStill: too few frames, or nearly everything moves, or people hide the background all the time.
    """
    if len(images) < _FEWEST:
        raise NotStill(f"only {len(images)} frames to learn it from")
    images, masks = np.stack(images), np.stack(masks)
    busy = np.stack([_around(mask) for mask in masks])
    images = _same_exposure(images, busy)
    background, moved = _plate(images, busy, masks)
    if moved > _RESTLESS:
        raise NotStill(f"{moved:.0%} of the picture changes from frame to frame")
    size = people_size(masks)
    refined = np.zeros_like(masks)
    for row, mask in enumerate(masks):
        if mask.any():
            window = window_around(mask, size)
            odds = background.evidence(images[row], busy[row], window)
            refined[row][window] = separate(odds, mask[window], size) > 0
    background, _ = _plate(images, np.stack([_around(mask) for mask in refined]), masks)
    people = refined.any(0)
    known = float((background.trust[people] > 0.5).mean()) if people.any() else 1.0
    if known < _KNOWN:
        raise NotStill("people hide it nearly all the time")
    return background


def people_size(masks: Sequence[np.ndarray]) -> float:
    """The longer side of a usual person's box, in pixels; 0 if there is nobody in the masks (h, w)."""
    sides = []
    for mask in masks:
        count, _, stats, _ = cv2.connectedComponentsWithStats(np.asarray(mask, np.uint8), connectivity=8)
        if count > 1:
            sides.append(stats[1 + stats[1:, cv2.CC_STAT_AREA].argmax(), 2:4].max())
    return float(np.median(sides)) if sides else 0.0


def separate(odds: np.ndarray, mask: np.ndarray, size: float) -> np.ndarray:
    """Log odds (h, w) float32 that a pixel belongs to the people of a mask.

    Args:
        odds: evidence (h, w) of the background's difference.
        mask: (h, w) bool, the network's opinion; counts for less near its outline.
        size: of a person, pixels; farther than half of it from the mask, nothing is added.

    Neighbours support one another: mean-field steps of a Potts model with a Gaussian neighbourhood.
    """
    if not mask.any():
        return np.full(odds.shape, -6, np.float32)
    inside, outside = distance_to(~mask), distance_to(mask)
    alone = odds + 2 * np.clip((inside - outside) / max(_SOFT * size, 1.0), -1, 1)
    alone[outside > _REACH * size] = -6
    values = alone
    for _ in range(_ROUNDS):
        values = alone + _SUPPORT * cv2.GaussianBlur(np.tanh(values / 2), (0, 0), 2.0)
    return values


def window_around(mask: np.ndarray, size: float) -> Window:
    """Where `separate` may find the people of a mask (h, w), not empty, of this size."""
    x0, y0, x1, y1 = mask_box(mask)
    reach = round(_REACH * size) + 8
    return slice(max(0, y0 - reach), y1 + reach), slice(max(0, x0 - reach), x1 + reach)


def distance_to(mask: np.ndarray) -> np.ndarray:
    """Pixels (h, w) float32 from each pixel to the nearest one of a mask (h, w) bool."""
    return cv2.distanceTransform((~mask).view(np.uint8), cv2.DIST_L2, 3)


def _sum(values: np.ndarray) -> np.ndarray:
    """Sum (h, w) over the three channels of (h, w, 3)."""
    return cv2.transform(values, np.ones((1, 3), np.float32))


def _over_channels(function: np.ufunc, values: np.ndarray) -> np.ndarray:
    """function.reduce of (..., 3) over the channels; NumPy's own is many times slower for so few."""
    return function(function(values[..., 0], values[..., 1]), values[..., 2])


def _around(mask: np.ndarray) -> np.ndarray:
    """The mask and a few pixels around it: outlines are soft, and a person's edge mixes with the wall."""
    return cv2.dilate(mask.view(np.uint8), np.ones((9, 9), np.uint8)).view(bool)


def _gain(image: np.ndarray, plate: np.ndarray, free: np.ndarray) -> np.ndarray:
    """How much brighter (3,) float32 each channel of an image is than the plate's, where it is free."""
    image, plate, free = image[::3, ::3], plate[::3, ::3], free[::3, ::3]
    now, then = image[free].astype(np.float32), plate[free]
    usable = (_over_channels(np.minimum, then) > 25) & (_over_channels(np.maximum, then) < 235)
    usable &= _over_channels(np.maximum, now) < 245
    if usable.sum() < 100:
        return np.ones(3, np.float32)
    return np.clip(np.median(now[usable] / then[usable], axis=0), *_GAIN).astype(np.float32)


def _same_exposure(images: np.ndarray, busy: np.ndarray) -> np.ndarray:
    """Images (n, h, w, 3) uint8 with each one's brightness brought to the middle one's."""
    middle = images[len(images) // 2].astype(np.float32)
    gains = [
        _gain(image, middle, ~near & ~busy[len(images) // 2])
        for image, near in zip(images, busy, strict=True)
    ]
    if max(np.abs(gain - 1).max() for gain in gains) < 0.01:
        return images
    return np.stack(
        [
            np.clip(image / gain + 0.5, 0, 255).astype(np.uint8)
            for image, gain in zip(images, gains, strict=True)
        ]
    )


def _plate(images: np.ndarray, busy: np.ndarray, masks: np.ndarray) -> tuple[Background, float]:
    """The background of images (n, h, w, 3), and the share of the free picture that moves in a usual one."""
    free = ~busy
    count = free.sum(0)
    last = np.maximum(count - 1, 0)
    # sorted by value with busy ones last: the median of the free ones is in the middle of their number
    looks = _sorted(np.where(free[..., None], images, 255))
    low, high = (np.take_along_axis(looks, (k // 2)[..., None, None], -1)[..., 0] for k in (last, last + 1))
    plate = (low.astype(np.float32) + high) / 2
    middle = np.round(plate).astype(np.uint8)
    apart = np.stack([_over_channels(np.maximum, cv2.absdiff(image, middle)) for image in images])
    same = apart <= _SAME
    agreeing = (same & free).sum(0)
    share = agreeing / np.maximum(count, 1)
    trust = np.clip((share - 0.5) / 0.3, 0, 1) * np.clip((agreeing - 1) / 2, 0, 1)
    # what the network takes for a person in most frames, and which never changes: a person who keeps still
    trust = trust * np.clip((0.5 - (same & masks).mean(0)) / 0.2, 0, 1)
    apart = _sorted(np.where(free, apart, 255))
    spread = np.take_along_axis(apart, (last // 2)[..., None], -1)[..., 0].astype(np.float32)
    noise = np.maximum(cv2.blur(spread, (3, 3)), _NOISE)
    moved = [(~s & f).sum() / max(f.sum(), 1) for s, f in zip(same, free, strict=True)]
    return Background(plate, noise, trust.astype(np.float32)), float(np.median(moved))


def _sorted(values: np.ndarray) -> np.ndarray:
    """uint8 values (n, ...) in order along a new last axis (..., n); int16, which NumPy sorts three times as
    fast.
    """
    values = np.moveaxis(values, 0, -1).astype(np.int16, order="C")
    values.sort(-1)
    return values
