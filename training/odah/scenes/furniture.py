"""Things that stand about, of boxes, cylinders and balls; each within a circle about (0, 0)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from odah.scenes.primitives import box, cylinder, ellipsoid
from odah.scenes.scene import Material, Mesh
from odah.scenes.textures import THINGS, Rng, cloth, cloth_colour, plain_material, shifted, surface


class Builder:
    """Collects the parts of one thing at a place, turned by a yaw."""

    def __init__(self, rng: Rng, name: str):
        self.rng, self.name = rng, name
        self.parts: list[Mesh] = []
        first = surface(rng, THINGS, size=128)
        self.main, self.tile = first.material, first.metres
        dark = rng.random() < 0.5
        tone = rng.uniform(20, 80) if dark else rng.uniform(140, 220)
        self.metal = plain_material(shifted(rng, np.full(3, tone), 0.05), 0.35, 0.5)

    def box(self, centre, size, material: Material | None = None) -> None:
        """A box; centre of its base (3,), edges (3,), m."""
        middle = np.asarray(centre, float) + [0, 0, size[2] / 2]
        name = f"{self.name} {len(self.parts)}"
        self.parts.append(box(name, middle, size, material or self.main, tile=self.tile))

    def rod(
        self, base, top, radius, material: Material | None = None, top_radius: float | None = None
    ) -> None:
        """A cylinder or cone from base to top (3,)."""
        name = f"{self.name} {len(self.parts)}"
        self.parts.append(cylinder(name, base, top, radius, material or self.metal, top_radius, sides=12))

    def ball(self, centre, radii, material: Material) -> None:
        """An ellipsoid."""
        self.parts.append(ellipsoid(f"{self.name} {len(self.parts)}", centre, radii, material))

    def placed(self, place: np.ndarray, yaw: float) -> list[Mesh]:
        """The parts at (x, y) on the floor."""
        c, s = np.cos(yaw), np.sin(yaw)
        turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
        shift = np.array([place[0], place[1], 0])
        return [replace(p, vertices=(p.vertices @ turn.T + shift).astype(np.float32)) for p in self.parts]


def table(b: Builder) -> float:
    """Returns the footprint's radius, as all of these do."""
    x, y, z = b.rng.uniform(0.7, 1.6), b.rng.uniform(0.5, 0.8), b.rng.uniform(0.6, 0.95)
    b.box([0, 0, z - 0.03], [x, y, 0.03])
    for i in (-1, 1):
        for j in (-1, 1):
            b.rod(
                [i * (x / 2 - 0.05), j * (y / 2 - 0.05), 0],
                [i * (x / 2 - 0.05), j * (y / 2 - 0.05), z - 0.03],
                0.022,
            )
    for _ in range(b.rng.poisson(1.5)):  # something on it
        size = b.rng.uniform(0.08, 0.35, 3)
        at = b.rng.uniform(-0.3, 0.3, 2) * [x, y]
        b.box([*at, z], size, plain_material(cloth_colour(b.rng)))
    return 0.5 * np.hypot(x, y)


def chair(b: Builder) -> float:
    """Four legs, a seat, a back."""
    w, h = b.rng.uniform(0.38, 0.5), b.rng.uniform(0.42, 0.5)
    for i in (-1, 1):
        for j in (-1, 1):
            b.rod([i * w * 0.45, j * w * 0.45, 0], [i * w * 0.45, j * w * 0.45, h], 0.018)
    b.box([0, 0, h], [w, w, 0.04])
    b.box([-w * 0.46, 0, h + 0.1], [0.03, w, b.rng.uniform(0.25, 0.42)])
    return 0.7 * w


def shelf(b: Builder) -> float:
    """A rack with boxes and books."""
    x, y, z = b.rng.uniform(0.6, 1.6), b.rng.uniform(0.28, 0.4), b.rng.uniform(1.0, 2.1)
    boards = int(b.rng.integers(3, 6))
    for i in (-1, 1):
        b.box([i * x / 2, 0, 0], [0.03, y, z])
    for k in range(boards):
        height = 0.06 + k * (z - 0.1) / (boards - 1)
        b.box([0, 0, height], [x, y, 0.025])
        for _ in range(b.rng.poisson(1.6)):
            size = np.array([b.rng.uniform(0.05, 0.3), 0.7 * y, b.rng.uniform(0.1, 0.25)])
            b.box(
                [b.rng.uniform(-0.4, 0.4) * x, 0, height + 0.025], size, plain_material(cloth_colour(b.rng))
            )
    return 0.5 * np.hypot(x, y)


def cupboard(b: Builder) -> float:
    """A closed box on the floor."""
    x, y, z = b.rng.uniform(0.4, 1.3), b.rng.uniform(0.35, 0.6), b.rng.uniform(0.6, 2.0)
    b.box([0, 0, 0.03], [x, y, z])
    return 0.5 * np.hypot(x, y)


def boxes(b: Builder) -> float:
    """A stack of cartons."""
    z, reach = 0.0, 0.0
    for _ in range(int(b.rng.integers(1, 4))):
        size = b.rng.uniform(0.25, 0.6, 3)
        material = plain_material(shifted(b.rng, np.array([178, 140, 96.0]), 0.12), 0.95, 0.0)
        b.box([*b.rng.uniform(-0.04, 0.04, 2), z], size, material if b.rng.random() < 0.6 else None)
        z += size[2]
        reach = max(reach, 0.5 * np.hypot(*size[:2]) + 0.05)
    return reach


def sofa(b: Builder) -> float:
    """A seat with a back and arms."""
    cover = cloth(b.rng, {"plain": 0.6, "melange": 0.2, "checks": 0.1, "stripes along": 0.1}, 128)
    b.main, b.tile = cover.material, cover.metres
    x, y = b.rng.uniform(0.9, 2.0), b.rng.uniform(0.75, 0.95)
    b.box([0, 0, 0.08], [x, y, 0.34])
    b.box([0, -y / 2 + 0.1, 0.42], [x, 0.2, 0.4])
    for i in (-1, 1):
        b.box([i * (x / 2 - 0.09), 0, 0.42], [0.18, y, 0.2])
    return 0.5 * np.hypot(x, y)


def tripod(b: Builder) -> float:
    """A camera on three legs."""
    h = b.rng.uniform(0.9, 1.6)
    for k in range(3):
        a = 2 * np.pi * k / 3
        b.rod([0.35 * np.cos(a), 0.35 * np.sin(a), 0], [0, 0, h], 0.013)
    b.box([0, 0, h], [0.1, 0.16, 0.1], plain_material([30, 30, 32]))
    return 0.38


def trolley(b: Builder) -> float:
    """Lab equipment: a frame with boxes and a screen."""
    h = b.rng.uniform(0.7, 1.0)
    for z in (0.12, 0.45, h):
        b.box([0, 0, z], [0.55, 0.42, 0.025], b.metal)
    for i in (-1, 1):
        for j in (-1, 1):
            b.rod([i * 0.25, j * 0.18, 0], [i * 0.25, j * 0.18, h], 0.015)
    b.box([0, 0, 0.475], [0.42, 0.34, 0.16], plain_material(cloth_colour(b.rng)))
    b.box([0, 0.05, h + 0.12], [0.5, 0.04, 0.3], plain_material([24, 26, 30], 0.2, 0.5))
    b.rod([0, 0.05, h], [0, 0.05, h + 0.15], 0.02)
    return 0.38


def plant(b: Builder) -> float:
    """A pot with leaves."""
    r, h = b.rng.uniform(0.14, 0.24), b.rng.uniform(0.25, 0.4)
    b.rod([0, 0, 0], [0, 0, h], 0.8 * r, plain_material(cloth_colour(b.rng)), r)
    green = shifted(b.rng, np.array([62, 98, 48.0]), 0.2)
    top = b.rng.uniform(0.8, 1.7)
    b.rod([0, 0, h], [0, 0, top * 0.7], 0.02, plain_material([92, 70, 48]))
    for _ in range(int(b.rng.integers(5, 10))):
        at = [*b.rng.normal(0, 0.13, 2), b.rng.uniform(h + 0.15, top)]
        b.ball(
            at, b.rng.uniform([0.08, 0.08, 0.06], [0.2, 0.2, 0.2]), plain_material(shifted(b.rng, green, 0.1))
        )
    return 0.4


def pillar(b: Builder) -> float:
    """A post from the floor up, such as a frame for cameras."""
    r = b.rng.uniform(0.03, 0.15)
    b.rod([0, 0, 0], [0, 0, b.rng.uniform(1.5, 2.3)], r, b.main if r > 0.08 else b.metal)
    b.rod([0, 0, 0], [0, 0, 0.02], 2.2 * r)
    return 2.2 * r


def tree(b: Builder) -> float:
    """A trunk and a crown of balls."""
    h = b.rng.uniform(2.5, 7)
    bark = plain_material(shifted(b.rng, np.array([88, 70, 54.0]), 0.2), 1.0, 0.0)
    b.rod([0, 0, 0], [0, 0, 0.7 * h], 0.03 * h, bark, 0.015 * h)
    green = shifted(b.rng, np.array([66, 94, 46.0]), 0.25)
    for _ in range(int(b.rng.integers(5, 9))):
        at = b.rng.normal(0, 0.14 * h, 3) + [0, 0, 0.75 * h]
        leaf = plain_material(shifted(b.rng, green, 0.12), 1.0, 0.0)
        b.ball(at, b.rng.uniform(0.12, 0.24, 3) * h, leaf)
    return 0.35 * h


def block(b: Builder) -> float:
    """A building, a wall or a hedge."""
    x, y, z = b.rng.uniform(2, 10), b.rng.uniform(0.3, 5), b.rng.uniform(0.8, 6)
    b.box([0, 0, 0], [x, y, z])
    return 0.5 * np.hypot(x, y)


INDOORS = (table, chair, shelf, cupboard, boxes, sofa, tripod, trolley, plant, pillar)
OUTDOORS = (tree, tree, block, pillar, boxes, plant)
IN_FRONT = (table, chair, boxes, trolley, plant, pillar, cupboard)


def build(rng: Rng, kinds: tuple, name: str) -> tuple[Builder, float]:
    """A random thing of `kinds` and its footprint's radius, m."""
    builder = Builder(rng, name)
    radius = kinds[rng.integers(len(kinds))](builder)
    return builder, float(radius)
