"""Procedural textures: cloth and the surfaces of rooms, as uint8 sRGB pictures that repeat seamlessly.

A `Swatch` says how large its picture is, so that a mesh whose uv is in metres divides by `metres`.
Row 0 of a picture is v = 1.
"""

from __future__ import annotations

import colorsys
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from odah.scenes.scene import Material

Rng = np.random.Generator


@dataclass(frozen=True)
class Swatch:
    """A texture with its size.

    Attributes:
        material: the surface.
        metres: size of one repeat.
        notes: kind and main colour (sRGB 0..255), for truth.json.
    """

    material: Material
    metres: float
    notes: dict


def noise(rng: Rng, size: int, cells: tuple[int, ...] = (3, 7, 17, 41), roughness: float = 0.6) -> np.ndarray:
    """(size, size) float32 of about unit variance: octaves of smooth noise that repeat without a seam."""
    out = np.zeros((size, size), np.float32)
    amplitude, power = 1.0, 0.0
    for count in cells:
        grid = rng.standard_normal((count, count)).astype(np.float32)
        out += amplitude * _stretch(grid, size, size)
        power += amplitude**2
        amplitude *= roughness
    return out / np.float32(0.6 * np.sqrt(power))


def _stretch(grid: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize a periodic grid smoothly; the result is periodic too."""
    rows, columns = grid.shape[:2]
    edge = 3
    wide = np.pad(grid, [(edge, edge), (edge, edge)], mode="wrap")
    scale_y, scale_x = rows / height, columns / width
    y = ((np.arange(height) + 0.5) * scale_y - 0.5 + edge).astype(np.float32)
    x = ((np.arange(width) + 0.5) * scale_x - 0.5 + edge).astype(np.float32)
    return cv2.remap(wide, *np.meshgrid(x, y), interpolation=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)


def _blur(values: np.ndarray, width: int, height: int) -> np.ndarray:
    """Mean over a box of odd sides of a periodic picture (h,w)."""
    wide = np.pad(values.astype(np.float32), ((height, height), (width, width)), mode="wrap")
    return cv2.blur(wide, (width, height))[height:-height, width:-width]


def _grid(size: int) -> tuple[np.ndarray, np.ndarray]:
    y, x = np.mgrid[0:size, 0:size].astype(np.float32) / size
    return x, 1 - y


def _picture(values: np.ndarray) -> np.ndarray:
    return np.clip(np.round(values), 0, 255).astype(np.uint8)


def _mix(first: np.ndarray, second: np.ndarray, weight: np.ndarray) -> np.ndarray:
    return first + (second - first) * weight[..., None]


def cloth_colour(rng: Rng) -> np.ndarray:
    """(3,) sRGB 0..255: a third greys (black to white), the rest any hue."""
    if rng.random() < 0.35:
        return np.clip(rng.uniform(12, 245) + rng.normal(0, 4, 3), 0, 255)
    return 255 * np.array(colorsys.hsv_to_rgb(rng.random(), rng.uniform(0.15, 1), rng.uniform(0.1, 0.95)))


def shifted(rng: Rng, colour: np.ndarray, amount: float) -> np.ndarray:
    """A colour (3,) near another, 0..255."""
    return np.clip(colour * np.exp(rng.normal(0, amount)) + rng.normal(0, 60 * amount, 3), 3, 252)


# Patterns: (rng, size, first colour, second colour) -> (size, size, 3) float, one repeat.


def plain(rng: Rng, size: int, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """One colour."""
    return np.broadcast_to(first, (size, size, 3)).astype(np.float32)


def stripes_across(rng: Rng, size: int, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Rings around the body, of one or two widths."""
    _, v = _grid(size)
    count = rng.integers(3, 18)
    duty = rng.uniform(0.2, 0.6)
    weight = (np.mod(v * count, 1) < duty).astype(np.float32)
    if rng.random() < 0.3:  # a thin line between
        weight = np.maximum(weight, 0.7 * (np.abs(np.mod(v * count, 1) - (0.5 + duty / 2)) < 0.04))
    return _mix(first, second, weight)


def stripes_along(rng: Rng, size: int, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Pinstripes or bars along the body."""
    u, _ = _grid(size)
    count = rng.integers(5, 24)
    return _mix(first, second, (np.mod(u * count, 1) < rng.uniform(0.08, 0.5)).astype(np.float32))


def checks(rng: Rng, size: int, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Chess board, gingham or tartan."""
    u, v = _grid(size)
    count = 2 * rng.integers(2, 8)
    across, along = np.mod(u * count, 1) < 0.5, np.mod(v * count, 1) < 0.5
    kind = rng.choice(["chess", "gingham", "tartan"])
    if kind == "chess":
        return _mix(first, second, (across != along).astype(np.float32))
    out = _mix(first, second, 0.5 * across.astype(np.float32) + 0.5 * along)
    if kind == "tartan":
        third = cloth_colour(rng)
        thin = (np.mod(u * count + 0.2, 1) < 0.1) | (np.mod(v * count + 0.2, 1) < 0.1)
        out = _mix(out, third, 0.7 * thin.astype(np.float32))
    return out


def dots(rng: Rng, size: int, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Dots in staggered rows."""
    u, v = _grid(size)
    count = 2 * rng.integers(2, 8)
    row = np.floor(v * count)
    x, y = np.mod(u * count + 0.5 * np.mod(row, 2), 1) - 0.5, np.mod(v * count, 1) - 0.5
    return _mix(first, second, (np.hypot(x, y) < rng.uniform(0.12, 0.36)).astype(np.float32))


def print_blotches(rng: Rng, size: int, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Soft blotches or a batik."""
    weight = 1 / (1 + np.exp(-rng.uniform(1.5, 8) * noise(rng, size, (4, 9, 21), 0.5)))
    return _mix(first, second, weight)


def print_flowers(rng: Rng, size: int, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Scattered flowers of three colours."""
    out = plain(rng, size, first, second).copy()
    palette = [second, cloth_colour(rng), cloth_colour(rng)]
    for _ in range(rng.integers(12, 45)):
        centre, radius = rng.uniform(0, size, 2), size * rng.uniform(0.015, 0.06)
        colour = palette[rng.integers(3)]
        petals, turn = rng.integers(4, 7), rng.uniform(0, 6.3)
        for k in range(petals):
            angle = turn + 2 * np.pi * k / petals
            spot = centre + radius * np.array([np.cos(angle), np.sin(angle)])
            _disc(out, spot, 0.6 * radius, colour)
        _disc(out, centre, 0.45 * radius, palette[(rng.integers(3))])
    return out


def _disc(image: np.ndarray, centre: np.ndarray, radius: float, colour: np.ndarray) -> None:
    size = image.shape[0]
    for dx in (-size, 0, size):
        for dy in (-size, 0, size):
            place = np.round(centre + [dx, dy]).astype(int).tolist()
            cv2.circle(
                image, place, max(1, round(radius)), np.asarray(colour, float).tolist(), -1, cv2.LINE_AA
            )


def camouflage(rng: Rng, size: int, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Four tones in patches."""
    usual = np.array([[96, 100, 62], [150, 134, 98], [70, 84, 96]])
    tone = first if rng.random() < 0.4 else usual[rng.integers(3)]
    out = plain(rng, size, tone, second).copy()
    for factor in (0.6, 1.35, 0.35):
        patch = noise(rng, size, (5, 11, 23), 0.45) > rng.uniform(0.3, 0.9)
        out[patch] = np.clip(tone * factor, 0, 255)
    return out


def denim(rng: Rng, size: int, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Blue, grey or black twill: fine diagonal threads, washed patches."""
    base = np.array(
        [[38, 52, 84], [70, 92, 130], [120, 140, 165], [40, 42, 46], [92, 94, 98]][rng.integers(5)], float
    )
    u, v = _grid(size)
    twill = np.sin(2 * np.pi * (u + v) * (size // 8)).astype(np.float32)
    fine = rng.standard_normal((size, size)).astype(np.float32)
    washed = noise(rng, size, (2, 4, 9), 0.6)
    weight = 1 + 0.06 * twill + 0.10 * fine + 0.10 * washed
    return shifted(rng, base, 0.08) * weight[..., None]


def knit(rng: Rng, size: int, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Columns of stitches, now and then with a patterned band."""
    u, v = _grid(size)
    count = 2 * rng.integers(12, 26)
    column = np.abs(np.mod(u * count, 1) - 0.5) * 2
    stitch = np.mod(v * count + 0.6 * column, 1)
    shade = 0.78 + 0.22 * np.sqrt(np.clip(1 - column, 0, 1)) * (0.6 + 0.4 * np.sin(np.pi * stitch))
    base = plain(rng, size, first, second)
    if rng.random() < 0.3:
        band = (np.mod(v * 4, 1) < 0.35) & ((np.floor(u * count / 2) + np.floor(v * count / 2)) % 2 == 0)
        base = _mix(base, second, band.astype(np.float32))
    return base * shade[..., None]


def melange(rng: Rng, size: int, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Heathered yarn."""
    threads = _blur(rng.standard_normal((size, size)), 9, 1)
    return first * (1 + 0.35 * threads[..., None])


PATTERNS: dict[str, tuple[Callable, float]] = {
    "plain": (plain, 0.36),
    "stripes across": (stripes_across, 0.11),
    "stripes along": (stripes_along, 0.07),
    "checks": (checks, 0.09),
    "dots": (dots, 0.04),
    "blotches": (print_blotches, 0.06),
    "flowers": (print_flowers, 0.06),
    "camouflage": (camouflage, 0.03),
    "denim": (denim, 0.05),
    "knit": (knit, 0.06),
    "melange": (melange, 0.07),
}


def cloth(rng: Rng, patterns: dict[str, float] | None = None, size: int = 256) -> Swatch:
    """A random cloth.

    Args:
        patterns: shares by name of PATTERNS; the usual ones when absent.
        size: pixels of its side.
    """
    shares = patterns or {name: share for name, (_, share) in PATTERNS.items()}
    weights = np.array(list(shares.values()))
    name = str(rng.choice(list(shares), p=weights / weights.sum()))
    first, second = cloth_colour(rng), cloth_colour(rng)
    picture = PATTERNS[name][0](rng, size, first, second)
    # weave and wear, so that nothing is perfectly flat
    picture = picture * (1 + 0.025 * rng.standard_normal((size, size)) + 0.03 * noise(rng, size))[..., None]
    shiny = rng.random() < 0.15
    material = Material(
        _picture(picture),
        roughness=float(rng.uniform(0.35, 0.6) if shiny else rng.uniform(0.7, 1.0)),
        specular=float(rng.uniform(0.2, 0.5) if shiny else rng.uniform(0.0, 0.15)),
    )
    notes = {"pattern": name, "colour": _mean(picture)}
    return Swatch(material, 0.25 if name == "denim" else float(rng.uniform(0.25, 0.6)), notes)


def plain_material(colour: np.ndarray, roughness: float = 0.7, specular: float = 0.2, metallic: float = 0.0):
    """A material of one colour (3,) sRGB 0..255."""
    return Material(_picture(np.asarray(colour, float).reshape(1, 1, 3)), roughness, specular, metallic)


def _mean(picture: np.ndarray) -> list[int]:
    return [int(round(float(c))) for c in np.clip(picture.reshape(-1, 3).mean(0), 0, 255)]


# Surfaces of rooms: (rng, size) -> picture, metres of one repeat, roughness, specular.


def wood(rng: Rng, size: int) -> tuple[np.ndarray, float, float, float]:
    """Planks with grain."""
    tones = [[180, 140, 98], [140, 98, 62], [96, 66, 44], [205, 178, 140], [150, 135, 120]]
    tone = shifted(rng, np.array(tones[rng.integers(5)], float), 0.1)
    planks = int(rng.integers(6, 14))
    grain = _stretch(rng.standard_normal((12, size // 2)).astype(np.float32), size, size)
    shade = 1 + 0.07 * grain + 0.04 * noise(rng, size)
    u, v = _grid(size)
    plank = np.floor(u * planks).astype(int) % planks
    shade *= rng.normal(1, 0.09, planks).astype(np.float32)[plank]
    shift = rng.random(planks).astype(np.float32)[plank]
    joint = (np.mod(u * planks, 1) < 0.03) | (np.mod(v + shift, 1) < 0.004)
    picture = tone * (shade * np.where(joint, 0.55, 1))[..., None]
    return picture, planks * rng.uniform(0.08, 0.16), rng.uniform(0.3, 0.7), rng.uniform(0.1, 0.4)


def tiles(rng: Rng, size: int) -> tuple[np.ndarray, float, float, float]:
    """Tiles with joints, of one tone or two."""
    tone = rng.uniform(90, 235) + rng.normal(0, 12, 3)
    count = 2 * int(rng.integers(1, 4))
    u, v = _grid(size)
    cell = (np.floor(u * count) % count * count + np.floor(v * count) % count).astype(int)
    tint = rng.normal(1, 0.04, count * count).astype(np.float32)
    if rng.random() < 0.3:
        tint *= np.where(
            np.add.outer(np.arange(count), np.arange(count)).ravel() % 2, rng.uniform(0.3, 0.9), 1
        )
    width = rng.uniform(0.01, 0.035)
    joint = (np.mod(u * count, 1) < width) | (np.mod(v * count, 1) < width)
    picture = tone * (tint[cell] * (1 + 0.03 * noise(rng, size)))[..., None]
    picture[joint] = np.clip(tone * rng.uniform(0.5, 1.1), 0, 240)
    return picture, count * rng.uniform(0.2, 0.6), rng.uniform(0.15, 0.6), rng.uniform(0.2, 0.5)


def carpet(rng: Rng, size: int) -> tuple[np.ndarray, float, float, float]:
    """Short fibres, sometimes with a weave of two colours."""
    first, second = cloth_colour(rng), cloth_colour(rng)
    weight = np.clip(0.5 + 0.5 * noise(rng, size, (8, 19, 41), 0.6), 0, 1) * rng.uniform(0, 0.4)
    picture = _mix(0.75 * first + 20, second, weight)
    picture = picture * (1 + 0.10 * rng.standard_normal((size, size)))[..., None]
    return picture, rng.uniform(1.0, 2.0), 1.0, 0.0


def concrete(rng: Rng, size: int) -> tuple[np.ndarray, float, float, float]:
    """Grey with stains and pores."""
    tone = rng.uniform(95, 190) + rng.normal(0, 5, 3)
    shade = 1 + 0.035 * noise(rng, size) + 0.03 * rng.standard_normal((size, size))
    return tone * shade[..., None], rng.uniform(1.5, 4), rng.uniform(0.5, 0.95), 0.1


def rubber(rng: Rng, size: int) -> tuple[np.ndarray, float, float, float]:
    """Sports floor with flecks, or plain linoleum."""
    tone = np.array(
        [[60, 62, 66], [150, 70, 50], [70, 105, 140], [90, 120, 90], [190, 190, 185]][rng.integers(5)]
    )
    picture = np.broadcast_to(shifted(rng, tone.astype(float), 0.12), (size, size, 3)).copy()
    fleck = noise(rng, size, (61, 97), 0.8) > 1.6
    picture[fleck] = cloth_colour(rng)
    return picture * (1 + 0.02 * noise(rng, size))[..., None], 1.5, rng.uniform(0.3, 0.8), 0.25


def grass(rng: Rng, size: int) -> tuple[np.ndarray, float, float, float]:
    """Lawn or dry meadow."""
    tone = np.array([[88, 112, 48], [110, 120, 66], [66, 96, 52], [150, 140, 90]][rng.integers(4)], float)
    blade = _blur(rng.standard_normal((size, size)), 1, 5) * 0.55
    shade = 1 + blade + 0.06 * noise(rng, size, (3, 7, 17, 41), 0.9)
    picture = tone * shade[..., None] + noise(rng, size, (5, 13))[..., None] * np.array([5, 2, 0])
    return picture, rng.uniform(2, 4), 1.0, 0.0


def asphalt(rng: Rng, size: int) -> tuple[np.ndarray, float, float, float]:
    """Asphalt, gravel or sand."""
    tone = np.array([[92, 92, 94], [150, 142, 130], [196, 176, 140]][rng.integers(3)], float)
    grit = 0.12 * rng.standard_normal((size, size)) + 0.07 * noise(rng, size, (5, 23, 61), 0.9)
    return tone * (1 + grit)[..., None], rng.uniform(2, 4), 0.95, 0.05


def plaster(rng: Rng, size: int) -> tuple[np.ndarray, float, float, float]:
    """A painted wall."""
    pale = 255 * np.array(colorsys.hsv_to_rgb(rng.random(), rng.beta(1, 4), rng.uniform(0.35, 0.97)))
    return pale * (1 + 0.015 * noise(rng, size))[..., None], 2.0, rng.uniform(0.7, 1.0), 0.05


def wallpaper(rng: Rng, size: int) -> tuple[np.ndarray, float, float, float]:
    """A pale pattern of stripes, dots or flowers."""
    first = 255 * np.array(colorsys.hsv_to_rgb(rng.random(), rng.uniform(0, 0.3), rng.uniform(0.6, 0.95)))
    second = shifted(rng, first, 0.15)
    pattern = (stripes_along, dots, print_blotches, checks)[rng.integers(4)]
    return pattern(rng, size, first, second), rng.uniform(0.6, 1.5), 0.9, 0.03


def bricks(rng: Rng, size: int) -> tuple[np.ndarray, float, float, float]:
    """A brick or block wall."""
    tone = np.array(
        [[150, 82, 62], [175, 160, 140], [110, 104, 100], [214, 210, 204]][rng.integers(4)], float
    )
    u, v = _grid(size)
    rows, columns = 12, 4
    row = np.floor(v * rows).astype(int) % rows
    x = np.mod(u * columns + 0.5 * (row % 2), columns)
    tint = rng.normal(1, 0.1, (rows, columns)).astype(np.float32)[row, np.floor(x).astype(int) % columns]
    picture = tone * (tint * (1 + 0.06 * noise(rng, size)))[..., None]
    joint = (np.mod(x, 1) < 0.04) | (np.mod(v * rows, 1) < 0.12)
    picture[joint] = rng.uniform(120, 210)
    return picture, 0.95, 0.9, 0.05


def panels(rng: Rng, size: int) -> tuple[np.ndarray, float, float, float]:
    """Cupboard fronts or a rack, for what stands about."""
    tone = shifted(rng, cloth_colour(rng), 0.1)
    u, v = _grid(size)
    nu, nv = rng.integers(1, 4, 2)
    line = (np.mod(u * nu, 1) < 0.02) | (np.mod(v * nv, 1) < 0.02)
    picture = np.broadcast_to(tone, (size, size, 3)).copy()
    picture[line] = tone * 0.45
    return picture * (1 + 0.02 * noise(rng, size))[..., None], 1.0, rng.uniform(0.2, 0.8), 0.25


FLOORS = {"wood": wood, "tiles": tiles, "carpet": carpet, "concrete": concrete, "rubber": rubber}
GROUNDS = {"grass": grass, "asphalt": asphalt, "concrete": concrete}
WALLS = {"plaster": plaster, "wallpaper": wallpaper, "bricks": bricks, "concrete": concrete, "panels": panels}
WALL_SHARES = {"plaster": 0.6, "wallpaper": 0.15, "bricks": 0.1, "concrete": 0.1, "panels": 0.05}
THINGS = {"wood": wood, "panels": panels, "plaster": plaster, "rubber": rubber, "carpet": carpet}


def surface(rng: Rng, kinds: dict, shares: dict[str, float] | None = None, size: int = 512) -> Swatch:
    """A random surface of `kinds` (FLOORS, GROUNDS, WALLS or THINGS)."""
    names = list(kinds)
    weights = np.array([1.0 if shares is None else shares[n] for n in names])
    name = str(rng.choice(names, p=weights / weights.sum()))
    picture, metres, roughness, specular = kinds[name](rng, size)
    notes = {"kind": name, "colour": _mean(picture)}
    return Swatch(Material(_picture(picture), float(roughness), float(specular)), float(metres), notes)
