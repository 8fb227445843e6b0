"""Procedural rooms and textures: what may stand behind, beside and before a person."""

from __future__ import annotations

import cv2
import numpy as np

Rng = np.random.Generator


def random_colour(rng: Rng) -> np.ndarray:
    """(3,) float32 BGR 0..255, more often pale or dark than saturated."""
    saturation = rng.beta(1, 2.2) * 255
    hsv = np.array([[[rng.uniform(0, 180), saturation, rng.uniform(15, 250)]]], np.uint8)
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)[0, 0].astype(np.float32)


def noise(rng: Rng, size: int, roughness: float = 0.6) -> np.ndarray:
    """(size, size) float32 in about -1..1: several octaves of smooth noise."""
    out = np.zeros((size, size), np.float32)
    amplitude = 1.0
    for cells in (3, 7, 17, 41, 97):
        grid = rng.standard_normal((cells, cells)).astype(np.float32)
        out += amplitude * cv2.resize(grid, (size, size), interpolation=cv2.INTER_CUBIC)
        amplitude *= roughness
    return out / 2.5


def texture(rng: Rng, size: int, pictures: list[np.ndarray]) -> np.ndarray:
    """(size, size, 3) float32: plain, noisy, striped, checked, tiled, a gradient or a piece of a picture."""
    first, second = random_colour(rng), random_colour(rng)
    kind = rng.choice(
        ["plain", "noise", "stripes", "checks", "gradient", "tiles", "picture"],
        p=[0.27, 0.17, 0.1, 0.08, 0.12, 0.08, 0.18],
    )
    if kind == "picture" and pictures:
        return picture_crop(rng, pictures, size)
    y, x = np.mgrid[0:size, 0:size].astype(np.float32) / size
    angle = rng.uniform(0, np.pi)
    u, v = np.cos(angle) * x + np.sin(angle) * y, -np.sin(angle) * x + np.cos(angle) * y
    if kind == "noise":
        weight = np.clip(0.5 + rng.uniform(0.3, 1.2) * noise(rng, size, rng.uniform(0.4, 1.1)), 0, 1)
    elif kind == "stripes":
        weight = (np.mod(u * rng.uniform(3, 40), 1) < rng.uniform(0.1, 0.6)).astype(np.float32)
    elif kind == "checks":
        count = rng.uniform(2, 20)
        weight = np.float32((np.floor(u * count) + np.floor(v * count)) % 2)
    elif kind == "gradient":
        weight = np.clip(u, 0, 1)
    elif kind == "tiles":
        count, joint = rng.uniform(2, 14), rng.uniform(0.02, 0.1)
        weight = np.float32(
            (np.mod(x * count, 1) < joint) | (np.mod(y * count * rng.uniform(0.5, 2), 1) < joint)
        )
    else:
        weight = np.zeros_like(x)
    strength = rng.uniform(0.2, 1)
    out = first + (second - first) * (weight * strength)[..., None]
    return out + (noise(rng, size) * rng.uniform(0, 14))[..., None]


def picture_crop(rng: Rng, pictures: list[np.ndarray], size: int) -> np.ndarray:
    """A random piece (size, size, 3) float32 of one of the pictures, mirrored, turned and recoloured."""
    picture = pictures[rng.integers(len(pictures))]
    height, width = picture.shape[:2]
    side = rng.uniform(0.25, 1.0) * min(height, width)
    x, y = rng.uniform(0, width - side), rng.uniform(0, height - side)
    stretch = rng.uniform(0.75, 1.3)
    corners = np.float32([[x, y], [x + side * min(stretch, 1), y], [x, y + side / max(stretch, 1)]])
    target = np.float32([[0, 0], [size, 0], [0, size]])
    if rng.random() < 0.5:
        target[:, 0] = size - target[:, 0]
    matrix = cv2.getAffineTransform(corners, target)
    out = cv2.warpAffine(picture, matrix, (size, size), flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REFLECT)
    return recolour(rng, out.astype(np.float32), 0.7)


def recolour(rng: Rng, image: np.ndarray, strength: float) -> np.ndarray:
    """Change hue, saturation, brightness and contrast of a float32 BGR picture 0..255."""
    level = np.arange(256, dtype=np.float32)
    hue = np.mod(level + rng.normal(0, 25 * strength), 180)
    saturation = np.clip(level * np.exp(rng.normal(0, 0.4 * strength)), 0, 255)
    tables = np.stack([hue, saturation, level], -1).astype(np.uint8)[None]
    hsv = cv2.cvtColor(np.clip(image, 0, 255).astype(np.uint8), cv2.COLOR_BGR2HSV)
    out = cv2.cvtColor(cv2.LUT(hsv, tables), cv2.COLOR_HSV2BGR)
    curve = 255 * (level / 255) ** np.exp(rng.normal(0, 0.35 * strength))
    curve = curve * np.exp(rng.normal(0, 0.2 * strength)) + rng.normal(0, 12 * strength)
    return cv2.LUT(out, curve.astype(np.float32))


def _paste_quad(rng: Rng, image: np.ndarray, corners: np.ndarray, pictures: list[np.ndarray]) -> None:
    """Put a texture into a quadrilateral (4, 2) in place."""
    size = image.shape[0]
    source = np.float32([[0, 0], [128, 0], [128, 128], [0, 128]])
    matrix = cv2.getPerspectiveTransform(source, corners.astype(np.float32))
    patch = texture(rng, 128, pictures)
    warped = cv2.warpPerspective(patch, matrix, (size, size), flags=cv2.INTER_LINEAR)
    inside = np.zeros((size, size), np.uint8)
    cv2.fillConvexPoly(inside, np.round(corners).astype(np.int32), 1)
    image[inside > 0] = warped[inside > 0]


def add_object(rng: Rng, image: np.ndarray, pictures: list[np.ndarray], extent: float = 0.5) -> np.ndarray:
    """Draw a box, board, pole, ball, cable or limb-like thing; returns its mask (size, size) bool."""
    size = image.shape[0]
    mask = np.zeros((size, size), np.uint8)
    kind = rng.choice(["box", "board", "pole", "ball", "cable", "blob"], p=[0.25, 0.2, 0.2, 0.1, 0.1, 0.15])
    centre = rng.uniform(0, size, 2)
    if kind in ("box", "board"):
        half = size * rng.uniform(0.03, extent / 2, 2)
        corners = centre + half * np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
        corners = corners + rng.normal(0, 0.12, (4, 2)) * half
        cv2.fillPoly(mask, [np.round(corners).astype(np.int32)], 1)
    elif kind == "ball":
        axes = np.round(size * rng.uniform(0.02, extent / 2.5, 2)).astype(int) + 1
        cv2.ellipse(
            mask, centre.astype(int).tolist(), axes.tolist(), float(rng.uniform(0, 180)), 0, 360, 1, -1
        )
    elif kind == "blob":  # a bent thick line: a limb-like thing that is no person
        points = centre + np.cumsum(rng.normal(0, size * 0.08, (4, 2)), 0)
        cv2.polylines(mask, [np.round(points).astype(np.int32)], False, 1, int(rng.integers(2, size // 12)))
    else:
        angle = rng.normal(np.pi / 2, 0.25) if kind == "pole" else rng.uniform(0, np.pi)
        step = size * rng.uniform(0.1, 0.8) * np.array([np.cos(angle), np.sin(angle)])
        thickness = int(rng.integers(2, max(3, size // 20))) if kind == "pole" else int(rng.integers(1, 3))
        ends = np.round([centre - step, centre + step]).astype(int)
        cv2.line(mask, ends[0].tolist(), ends[1].tolist(), 1, thickness)
    inside = mask > 0
    x, y, width, height = cv2.boundingRect(mask)
    if width and height:
        small = max(16, min(128, max(width, height)))
        shading = 1 + 0.25 * np.linspace(-1, 1, small, dtype=np.float32)[None, :, None] * rng.normal()
        patch = cv2.resize(texture(rng, small, pictures) * np.float32(shading), (width, height))
        part = np.s_[y : y + height, x : x + width]
        image[part][inside[part]] = patch[inside[part]]
    return inside


def room(rng: Rng, size: int, pictures: list[np.ndarray]) -> np.ndarray:
    """A made-up room (size, size, 3) float32: wall, floor in perspective, side wall, objects, light."""
    image = texture(rng, size, pictures)
    horizon = size * rng.uniform(0.25, 0.8)
    lean = size * rng.normal(0, 0.08)
    if rng.random() < 0.85:  # floor
        far = size * rng.uniform(0.0, 0.9)
        _paste_quad(
            rng,
            image,
            np.array(
                [
                    [-far, horizon - lean],
                    [size + far, horizon + lean],
                    [3 * size, size + 9],
                    [-2 * size, size + 9],
                ]
            ),
            pictures,
        )
    if rng.random() < 0.4:  # side wall
        corner = size * rng.uniform(0.1, 0.9)
        side = np.array([[corner, -5], [size + 5, -size * 0.3], [size + 5, size * 1.1], [corner, horizon]])
        if rng.random() < 0.5:
            side[:, 0] = size - side[:, 0]
            side = side[::-1]
        _paste_quad(rng, image, side, pictures)
    for _ in range(rng.poisson(4)):
        add_object(rng, image, pictures)
    light = 1 + 0.35 * rng.uniform() * noise(rng, size, 0.15)
    return image * light[..., None]


def background(rng: Rng, size: int, pictures: list[np.ndarray]) -> np.ndarray:
    """(size, size, 3) float32: a room or a piece of a real background, with objects added."""
    if pictures and rng.random() < 0.4:
        image = picture_crop(rng, pictures, size)
        for _ in range(rng.poisson(1.5)):
            add_object(rng, image, pictures, 0.35)
        return image
    return room(rng, size, pictures)
