"""Skin, hair and clothes of the built-in body, as displaced and coloured vertices of its own mesh.

Garments are scalar fields on the mean rest mesh (positions along limbs, heights, skinning weights): inside
the field the skin moves out along its normal, tight or loose, more towards the hem, and takes the cloth's
colour and pattern. Patterns live in rest-pose coordinates, so they move with the cloth.
"""

from __future__ import annotations

import colorsys
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from odah.bodies.open_body import OpenBody, Subject
from odah.render.rasterizer import checks, interpolate, vertex_normals

# sRGB of the Monk skin tone scale (Monk 2019), light to dark.
SKIN_TONES = (
    (246, 237, 228),
    (243, 231, 219),
    (247, 234, 208),
    (234, 218, 186),
    (215, 189, 150),
    (160, 126, 86),
    (130, 92, 67),
    (96, 65, 52),
    (58, 49, 42),
    (41, 36, 32),
)
HAIR = (
    (20, 16, 14),
    (45, 30, 22),
    (80, 52, 34),
    (120, 84, 50),
    (176, 140, 92),
    (150, 70, 40),
    (150, 148, 146),
)


def looks_of(seed: int) -> np.random.Generator:
    """Draws what a person is born with, skin and hair: the same in every clip of the subject of this seed."""
    return np.random.default_rng([seed, 0x100C5])


@dataclass(frozen=True)
class Look:
    """One outfit on one subject.

    Attributes:
        vertices: (V,3) dressed rest mesh, m.
        colours: (V,8) base colour and second colour (linear RGB), then the pattern's two coordinates.
    """

    vertices: Tensor
    colours: Tensor

    def albedo(self, fragments, faces) -> Tensor:
        """Colour of each pixel (B,H,W,3), linear 0..1, for the rasteriser."""
        values = interpolate(fragments, faces, self.colours[None])
        pattern = checks(values[..., 6], values[..., 7], 1.0)[..., None]
        return torch.lerp(values[..., :3], values[..., 3:6], pattern)


class Wardrobe:
    """Garment fields of a body's mesh; dresses subjects at random."""

    def __init__(self, body: OpenBody):
        self.body = body
        names = body.skeleton.body_names

        def share(*parts: str) -> np.ndarray:
            return (
                body.weights[:, [i for i, n in enumerate(names) if n.split("_")[0] in parts]].sum(1).numpy()
            )

        self.rest = body.rest_mean.numpy()
        self.trunk, self.pelvis = share("torso", "pelvis"), share("pelvis")
        self.arm = share("humerus", "ulna", "radius", "hand")
        self.hand, self.leg = share("hand"), share("femur", "tibia", "talus", "calcn", "toes")
        self.foot = share("talus", "calcn", "toes")
        self.head, self.neck = body.head.numpy(), body.neck.numpy()
        # Positions down an arm (0 shoulder, 1 elbow, 2 wrist) and a leg (0 hip, 1 knee, 2 ankle).
        self.down_arm = self._down("upper_arm", "forearm")
        self.down_leg = self._down("thigh", "shank")

    def _down(self, first: str, second: str) -> np.ndarray:
        right = self.rest[:, 2] > 0
        a, b = (
            np.where(right, self.body.along[f"{part}_r"].numpy(), self.body.along[f"{part}_l"].numpy())
            for part in (first, second)
        )
        return np.where(b > 0, 1 + b, np.minimum(a, 1.0))

    def upper(self, hem: float, sleeve: float, neckline: float) -> np.ndarray:
        """(V,) position in an upper garment: > 0 inside, growing from its edges.

        hem: height over the hips, m.  sleeve: on the scale of `down_arm`; 0 leaves the arms bare.
        neckline: allowed share of the neck.
        """
        above_hem = (self.rest[:, 1] - hem) / 0.06
        sleeve_room = np.where(self.arm > 0.45, (sleeve - self.down_arm) / 0.15, 1.0)
        collar = (neckline - self.neck) / 0.3
        field = np.minimum(np.minimum(above_hem, sleeve_room), collar)
        legs = (self.leg > 0.5) & (self.down_leg > 0.0)
        field = np.where(legs & (self.rest[:, 1] < hem), -1.0, field)
        return np.where((self.head > 0.3) | (self.hand > 0.3), -1.0, field)

    def lower(self, waist: float, length: float) -> np.ndarray:
        """(V,) position in a lower garment: from `waist` (over the hips, m) to `length` (on `down_leg`)."""
        below_waist = (waist - self.rest[:, 1]) / 0.06
        room = np.where(self.leg > 0.4, (length - self.down_leg) / 0.12, 1.0)
        field = np.minimum(below_waist, room)
        return np.where((self.arm > 0.3) | (self.foot > 0.6), -1.0, field)

    def dress(self, subject: Subject, rng: np.random.Generator) -> Look:
        """A random outfit; skin and hair are the subject's own, the same in every clip."""
        count = len(self.rest)
        normals = vertex_normals(subject.vertices[None], self.body.faces)[0].numpy()
        offset = np.zeros(count)
        looks = looks_of(subject.seed)
        skin = _jitter(looks, SKIN_TONES[looks.integers(len(SKIN_TONES))], 0.05)
        colours = np.concatenate([np.tile(skin, (count, 2)), np.full((count, 2), 0.25)], 1)
        self._hair(looks, colours, offset)
        if rng.random() < 0.9:
            self._feet(rng, colours, offset)
        self._lower_body(rng, colours, offset)
        self._upper_body(rng, colours, offset)
        vertices = subject.vertices + torch.as_tensor((normals * offset[:, None]).astype(np.float32))
        return Look(vertices, torch.as_tensor(colours.astype(np.float32)))

    def _wear(
        self, rng, colours, offset, field: np.ndarray, ease: float, tight: float, kind: str = ""
    ) -> None:
        """Put cloth where field > 0: colour, pattern; offset `tight`, and `ease` where it hangs."""
        inside = field > 0
        colours[inside] = self._cloth(rng, kind)[inside]
        depth = np.clip(field, 0, 8)
        hang = np.exp(-depth / 3.0)  # 1 at an edge
        folds = sum(
            rng.uniform(0.2, 1.0) * np.sin(self.rest @ rng.normal(0, 30, 3) + rng.uniform(0, 6.3))
            for _ in range(3)
        )
        thickness = tight + ease * (0.55 + 0.45 * hang) + 0.15 * ease * folds
        ramp = np.clip(field / 0.2, 0, 1)
        offset[inside] = np.maximum(offset, thickness * ramp)[inside]

    def _cloth(self, rng, kind: str) -> np.ndarray:
        """(V,8) colours of one cloth over the whole mesh."""
        count = len(self.rest)
        first = _cloth_colour(rng)
        second = _cloth_colour(rng)
        u, v = np.full(count, 0.25), np.full(count, 0.25)
        choice = (
            "plain"
            if kind == "plain"
            else rng.choice(["plain", "rings", "bars", "checks", "print"], p=[0.6, 0.13, 0.09, 0.09, 0.09])
        )
        period = rng.uniform(0.03, 0.16)
        if choice in ("rings", "checks"):
            u = self.rest[:, 1] / period
        if choice in ("bars", "checks"):
            v = self.rest[:, 2] / (period * rng.uniform(0.7, 1.5))
        base = np.tile(first, (count, 1))
        if choice == "print":  # soft blotches
            noise = sum(np.sin(self.rest @ rng.normal(0, 25, 3) + rng.uniform(0, 6.3)) for _ in range(4))
            blend = 1 / (1 + np.exp(-3 * noise))[:, None]
            base = base * (1 - blend) + second * blend
        if choice in ("plain", "print"):
            return np.concatenate([base, base, np.full((count, 2), 0.25)], 1)
        return np.concatenate([base, np.tile(second, (count, 1)), u[:, None], v[:, None]], 1)

    def _upper_body(self, rng, colours, offset) -> None:
        kind = rng.choice(["bare", "band", "vest", "tee", "long"], p=[0.08, 0.05, 0.15, 0.45, 0.27])
        if kind == "bare":
            return
        if kind == "band":
            field = self.upper(rng.uniform(0.26, 0.34), 0.0, 0.05)
            field = np.where(self.rest[:, 1] > 0.50, -1.0, field)
            return self._wear(rng, colours, offset, field, 0.0, 0.003)
        sleeve = {"vest": 0.0, "tee": rng.uniform(0.25, 0.95), "long": rng.uniform(1.6, 2.0)}[kind]
        loose = rng.random() < 0.6
        ease = rng.uniform(0.008, 0.035) if loose else rng.uniform(0.0, 0.004)
        field = self.upper(rng.uniform(-0.14, 0.10), sleeve, rng.uniform(0.05, 0.75))
        return self._wear(rng, colours, offset, field, ease, rng.uniform(0.003, 0.008))

    def _lower_body(self, rng, colours, offset) -> None:
        kind = rng.choice(["briefs", "shorts", "trousers", "tights"], p=[0.07, 0.38, 0.35, 0.20])
        length = {
            "briefs": rng.uniform(0.02, 0.12),
            "shorts": rng.uniform(0.2, 1.1),
            "trousers": rng.uniform(1.7, 2.05),
            "tights": rng.uniform(1.3, 2.0),
        }[kind]
        ease = {
            "briefs": 0.0,
            "shorts": rng.uniform(0, 0.03),
            "trousers": rng.uniform(0.004, 0.03),
            "tights": 0.0,
        }
        field = self.lower(rng.uniform(0.04, 0.17), length)
        self._wear(rng, colours, offset, field, ease[kind], 0.003)

    def _feet(self, rng, colours, offset) -> None:
        sock = rng.uniform(1.6, 2.0)
        field = np.where(self.leg > 0.4, (self.down_leg - sock) / 0.1, -1.0)
        field = np.where(self.foot > 0.5, 1.0, field)
        self._wear(rng, colours, offset, field, 0.0, 0.002, "plain")
        if rng.random() < 0.88:
            field = np.where(self.down_leg > rng.uniform(1.93, 2.05), self.foot - 0.3, -1.0)
            self._wear(rng, colours, offset, field, 0.0, rng.uniform(0.006, 0.014), "plain")
            sole = (field > 0) & (self.rest[:, 1] < self.rest[:, 1].min() + 0.025)
            colours[sole, :6] = np.tile(_cloth_colour(rng), 2)

    def _hair(self, rng, colours, offset) -> None:
        if rng.random() < 0.06:
            return
        head = self.head > 0.5
        low, top = self.rest[head, 1].min(), self.rest[head, 1].max()
        middle = 0.5 * (self.rest[head, 0].min() + self.rest[head, 0].max())
        height = (self.rest[:, 1] - low) / (top - low)  # 0 chin, 1 crown
        behind = (middle - self.rest[:, 0]) / 0.1  # > 0 behind the ears
        line = rng.uniform(0.72, 0.8)
        nape = rng.uniform(-0.1, 0.45)
        field = np.maximum(height - line, np.where(behind > rng.uniform(-0.1, 0.2), height - nape, -1.0))
        field = np.where((self.head + self.neck > 0.5) & (height > nape), field, -1.0)
        inside = field > 0
        colours[inside, :6] = np.tile(_jitter(rng, HAIR[rng.integers(len(HAIR))], 0.03), 2)
        offset[inside] = (rng.uniform(0.002, 0.03) * np.clip(field / 0.1, 0, 1))[inside]


def _jitter(rng: np.random.Generator, srgb: tuple[int, int, int], amount: float) -> np.ndarray:
    """Linear RGB (3,) of a jittered sRGB 0..255 colour."""
    value = np.clip(np.array(srgb) / 255 + rng.normal(0, amount, 3) * 0.5 + rng.normal(0, amount), 0.01, 1)
    return value**2.2


def _cloth_colour(rng: np.random.Generator) -> np.ndarray:
    """Linear RGB (3,): a third greys (black to white), the rest any hue."""
    if rng.random() < 0.35:
        return np.clip(rng.uniform(0.03, 0.97) + rng.normal(0, 0.02, 3), 0, 1) ** 2.2
    return np.array(colorsys.hsv_to_rgb(rng.random(), rng.uniform(0.2, 1), rng.uniform(0.08, 0.95))) ** 2.2
