"""Training pictures for the segmenter: cut-out or rendered people on made-up or real backgrounds.

A sprite is a picture of one person alone: (h, w, 4) uint8, BGR + coverage. ``Composer`` turns sprites,
background pictures and whole labelled frames into ever new training samples; everything follows the seed.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from odah.segmenter.backgrounds import Rng, add_object, background, noise, recolour
from odah.segmenter.frames import CUT_OUT_ONLY_VIDEOS, Frame, clean_plate, plausible_cut_out

POOL = 600  # backgrounds drawn once each and kept (0.3 MB each at 320 pixels)
GREY = 114  # ultralytics pads with this value
CLOSE_UP = (0.6, 0.92)  # longer side of a person in a close-up, of the picture's


class Sample(NamedTuple):
    """image (S, S, 3) uint8 BGR; instances (n, S, S) bool, disjoint, what is visible of every person."""

    image: np.ndarray
    instances: np.ndarray


def cut_out(frame: Frame, margin: int = 6) -> np.ndarray:
    """Sprite of a real frame's person; the coverage is drawn in by a pixel: no old background stays."""
    mask = frame.mask.astype(np.uint8)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask)
    if count > 2:
        mask = (labels == 1 + np.argmax(stats[1:, cv2.CC_STAT_AREA])).astype(np.uint8)
    alpha = cv2.erode(mask, np.ones((3, 3), np.uint8)) * 255
    alpha = cv2.GaussianBlur(alpha, (0, 0), 0.7)
    rows, columns = np.nonzero(mask)
    y0, y1 = max(rows.min() - margin, 0), rows.max() + margin + 1
    x0, x1 = max(columns.min() - margin, 0), columns.max() + margin + 1
    return np.dstack([frame.image, alpha])[y0:y1, x0:x1].copy()


def read_sprites(folder: Path) -> list[np.ndarray]:
    """Sprites written as four-channel PNG files, sorted by name."""
    sprites = [cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in sorted(folder.glob("*.png"))]
    return [s for s in sprites if s is not None and s.ndim == 3 and s.shape[2] == 4]


def read_photographs(folder: Path, longest: int = 640) -> list[np.ndarray]:
    """The pictures of a folder and its subfolders, (h, w, 3) uint8 BGR, made smaller; sorted by path."""
    pictures = []
    for path in sorted(p for p in folder.rglob("*") if p.suffix.lower() in (".jpg", ".jpeg", ".png")):
        picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if picture is not None:
            scale = min(1.0, longest / max(picture.shape[:2]))
            pictures.append(cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA))
    return pictures


def plates_of(frames: list[Frame]) -> list[np.ndarray]:
    """One empty background picture a video (the cameras stand still)."""
    by_video: dict[str, list[Frame]] = {}
    for frame in frames:
        by_video.setdefault(frame.video, []).append(frame)
    plates = []
    for video, group in sorted(by_video.items()):
        plate = clean_plate(group)
        # the second person of this video stands in the upper half in every frame
        plates.append(plate[plate.shape[0] // 2 :] if video in CUT_OUT_ONLY_VIDEOS else plate)
    return plates


class Composer:
    """Draws samples. ``real`` and ``rendered`` are lists of sprites, ``frames`` whole labelled frames."""

    def __init__(
        self,
        frames: list[Frame],
        rendered: list[np.ndarray] | None = None,
        photographs: list[np.ndarray] | None = None,
        *,
        size: int = 320,
        rendered_share: float = 0.6,
        frame_share: float = 0.15,
    ):
        self.size = size
        self.real = [cut_out(f) for f in frames if plausible_cut_out(f)]
        self.rendered = rendered or []
        self.rendered_share = rendered_share if self.rendered else 0.0
        self.frames = [f for f in frames if f.video not in CUT_OUT_ONLY_VIDEOS]
        self.frame_share = frame_share if self.frames else 0.0
        self.pictures = (plates_of(frames) if frames else []) + (photographs or [])
        self._backgrounds: dict[int, np.ndarray] = {}

    def sample(self, seed: int) -> Sample:
        """The sample of a seed."""
        rng = np.random.default_rng(seed)
        # half are close-ups, as the segmenter's second look at a person
        close = rng.random() < 0.5
        if rng.random() < self.frame_share:
            image, instances = self._whole_frame(rng, close)
        else:
            image, instances = self._composite(rng, close)
        image = self._degrade(rng, image, instances)
        return Sample(image, instances[instances.sum((1, 2)) > 0.0006 * self.size**2])

    def _whole_frame(self, rng: Rng, close: bool) -> tuple[np.ndarray, np.ndarray]:
        """A random crop of a real frame, scaled and mirrored, the person at least half inside."""
        frame = self.frames[rng.integers(len(self.frames))]
        rows, columns = np.nonzero(frame.mask)
        longer = max(np.ptp(rows), np.ptp(columns)) + 1
        part = rng.uniform(*CLOSE_UP) if close else np.exp(rng.uniform(np.log(0.3), np.log(0.95)))
        scale = self.size * part / longer
        turn = np.deg2rad(rng.normal(0, 6))
        a, b = scale * np.cos(turn), scale * np.sin(turn)
        matrix = np.array([[a, -b, 0], [b, a, 0]])
        if rng.random() < 0.5:
            matrix[:, 0] *= -1
        person = matrix[:, :2] @ np.array([columns.min() + columns.max(), rows.min() + rows.max()]) / 2
        matrix[:, 2] = self.size * (0.5 + (0.06 if close else 0.3) * rng.uniform(-1, 1, 2)) - person
        size = (self.size, self.size)
        smooth = cv2.GaussianBlur(frame.image, (0, 0), 0.45 / scale) if scale < 0.8 else frame.image
        image = cv2.warpAffine(smooth, matrix, size, flags=cv2.INTER_LINEAR, borderValue=(GREY,) * 3)
        mask = cv2.warpAffine(frame.mask.astype(np.float32), matrix, size) > 0.5
        return recolour(rng, image.astype(np.float32), 0.8), mask[None]

    def _composite(self, rng: Rng, close: bool) -> tuple[np.ndarray, np.ndarray]:
        image = self._background(rng)
        count = rng.choice(4, p=[0.06, 0.4, 0.32, 0.22])
        instances: list[np.ndarray] = []
        for k in range(count):
            placed = self._place(rng, image, close and k == count - 1)
            instances = [m & ~placed for m in instances] + [placed]
        for _ in range(rng.poisson(0.5)):
            cover = add_object(rng, image, self.pictures, 0.3)
            instances = [m & ~cover for m in instances]
        return image, np.stack(instances) if instances else np.zeros((0, self.size, self.size), bool)

    def _background(self, rng: Rng) -> np.ndarray:
        """One of ``POOL`` backgrounds, mirrored, recoloured and with other objects in it."""
        index = int(rng.integers(POOL))
        if index not in self._backgrounds:
            drawn = background(np.random.default_rng([7, index]), self.size, self.pictures)
            self._backgrounds[index] = np.clip(drawn, 0, 255).astype(np.uint8)
        image = self._backgrounds[index]
        if rng.random() < 0.5:
            image = image[:, ::-1]
        image = recolour(rng, np.ascontiguousarray(image), 0.5)
        for _ in range(rng.poisson(0.7)):
            add_object(rng, image, self.pictures, 0.35)
        return image

    def _place(self, rng: Rng, image: np.ndarray, close: bool) -> np.ndarray:
        """Blend one person into ``image`` in place, near its middle if ``close``; returns the mask."""
        pool = self.rendered if rng.random() < self.rendered_share else self.real
        sprite = pool[rng.integers(len(pool))]
        size = self.size
        height = size * (rng.uniform(*CLOSE_UP) if close else np.exp(rng.uniform(np.log(0.17), np.log(1.05))))
        scale = height / max(sprite.shape[0], 0.7 * sprite.shape[1])
        if scale < 0.75:
            fine = (max(2, round(sprite.shape[1] * scale)), max(2, round(sprite.shape[0] * scale)))
            sprite, scale = cv2.resize(sprite, fine, interpolation=cv2.INTER_AREA), 1.0
        turn = np.deg2rad(rng.normal(0, 16 if rng.random() < 0.85 else 45))  # cameras lean, people bend
        linear = scale * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        linear = linear @ np.array([[np.exp(rng.normal(0, 0.08)), rng.normal(0, 0.06)], [0, 1]])
        if rng.random() < 0.5:
            linear[:, 0] *= -1
        middle = np.array([sprite.shape[1], sprite.shape[0]]) / 2
        spread = 0.5 if rng.random() < 0.2 else max(0.08, 0.5 - 0.45 * height / size)
        centre = size * np.array([rng.uniform(0.05, 0.95), 0.5 + rng.uniform(-spread, spread)])
        if close:
            centre = size * (0.5 + rng.uniform(-0.08, 0.08, 2))
        matrix = np.concatenate([linear, (centre - linear @ middle)[:, None]], 1)
        colour = recolour(rng, sprite[..., :3].astype(np.float32), 0.9)
        ramp = 1 + rng.normal(0, 0.25) * np.linspace(-1, 1, sprite.shape[1], dtype=np.float32)[None, :, None]
        premultiplied = np.dstack([colour * ramp, np.ones(sprite.shape[:2], np.float32)])
        premultiplied *= sprite[..., 3:].astype(np.float32) / 255
        warped = cv2.warpAffine(premultiplied, matrix, (size, size), flags=cv2.INTER_LINEAR)
        alpha = warped[..., 3:]
        if rng.random() < 0.4:  # contact shadow
            foot = matrix @ np.array([middle[0], sprite.shape[0] * 0.97, 1])
            shadow = np.zeros((size, size), np.float32)
            axes = (int(height * rng.uniform(0.1, 0.4)) + 1, int(height * rng.uniform(0.02, 0.1)) + 1)
            at = np.clip(foot, -size, 2 * size).astype(int).tolist()
            cv2.ellipse(shadow, at, axes, float(rng.normal(0, 15)), 0, 360, float(rng.uniform(0.2, 0.7)), -1)
            image *= 1 - cv2.GaussianBlur(shadow, (0, 0), size * 0.012)[..., None]
        image[:] = image * (1 - alpha) + warped[..., :3]
        return alpha[..., 0] > 0.5

    def _degrade(self, rng: Rng, image: np.ndarray, instances: np.ndarray) -> np.ndarray:
        """Light, lens, sensor and codec; grey bars like those of the letterbox now and then."""
        size = self.size
        image = image * np.exp(rng.normal(0, 0.08, 3)).astype(np.float32) * np.exp(rng.normal(0, 0.25))
        if rng.random() < 0.2:
            image = image * (1 + 0.25 * noise(rng, size, 0.1))[..., None]
        if rng.random() < 0.15:
            image = cv2.cvtColor(np.clip(image, 0, 255).astype(np.uint8), cv2.COLOR_BGR2GRAY)
            image = np.repeat(image[..., None], 3, -1).astype(np.float32)
        if rng.random() < 0.35:
            image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.3, 1.3))
        elif rng.random() < 0.12:
            length = int(rng.integers(2, 6))
            kernel = np.zeros((2 * length + 1,) * 2, np.float32)
            along = np.array([np.cos(a := rng.uniform(0, np.pi)), np.sin(a)]) * length
            ends = np.round(np.stack([length - along, length + along])).astype(int)
            cv2.line(kernel, ends[0].tolist(), ends[1].tolist(), 1.0)
            image = cv2.filter2D(image, -1, kernel / kernel.sum())
        if rng.random() < 0.5:
            image = image + rng.standard_normal(image.shape, np.float32) * rng.uniform(1, 12)
        out = np.clip(image, 0, 255).astype(np.uint8)
        if rng.random() < 0.5:
            quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(25, 95))]
            out = cv2.imdecode(cv2.imencode(".jpg", out, quality)[1], cv2.IMREAD_COLOR)
        if rng.random() < 0.2:
            bar = int(rng.integers(1, size // 5))
            sides = (np.s_[:, :bar], np.s_[:, -bar:]) if rng.random() < 0.6 else (np.s_[:bar], np.s_[-bar:])
            for side in sides:
                out[side] = GREY
                for mask in instances:
                    mask[side] = False
        return out
