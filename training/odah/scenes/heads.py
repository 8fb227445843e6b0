"""Faces painted on skin, hair, caps."""

from __future__ import annotations

import cv2
import numpy as np

from odah.scenes.appearance import HAIR, SKIN_TONES
from odah.scenes.bodychart import PARTS, BodyChart
from odah.scenes.drape import folds, hang, smoothstep, stand_off
from odah.scenes.scene import Material
from odah.scenes.textures import Rng, Swatch, noise, shifted

_RADIUS_M = 0.13  # of the chart's trunk and head, see BodyChart.corner_uv
_HALF_WIDTH_M = np.pi * _RADIUS_M
_SIZE = (1024, 512)  # rows, columns of the skin's texture
# A face in its cylinder: angle from the middle (rad) and height (0 chin, 1 crown) of its features.
_EYE, _BROW, _MOUTH = (0.33, 0.465), (0.34, 0.55), (0.0, 0.155)


def head_height(chart: BodyChart, values: np.ndarray) -> np.ndarray:
    """Heights (any shape), m in the chart, as a share of the head: 0 chin, 1 crown."""
    head = chart.rest[chart.head > 0.5, 1]
    return (values - head.min()) / np.ptp(head)


def skin_uv(chart: BodyChart, corner_uv: np.ndarray) -> np.ndarray:
    """Chart coordinates in metres (F,3,2) to those of the skin's texture, which covers the body once."""
    low, high = chart.rest[:, 1].min() - 0.4, chart.rest[:, 1].max() + 0.02
    u = corner_uv[..., 0] / (2 * _HALF_WIDTH_M) + 0.5
    return np.stack([u, (corner_uv[..., 1] - low) / (high - low)], -1)


def skin_swatch(rng: Rng, chart: BodyChart, tone: np.ndarray, hair: np.ndarray, scalp: bool) -> Swatch:
    """Skin with a simple face.

    tone, hair: (3,) sRGB 0..255.  scalp: the hair is cropped so short that it is only a colour.
    """
    rows, columns = _SIZE
    tone = np.asarray(tone, float)
    blotch = cv2.resize(noise(rng, 256, (5, 11, 23, 41), 0.7), (columns, rows))
    picture = tone * (1 + 0.022 * blotch)[..., None]
    low, high = chart.rest[:, 1].min() - 0.4, chart.rest[:, 1].max() + 0.02
    height = high - (np.arange(rows) + 0.5) / rows * (high - low)
    angle = ((np.arange(columns) + 0.5) / columns - 0.5) * 2 * np.pi
    share = head_height(chart, height)
    head = picture[share > -0.2]  # the rows that are painted
    share = share[share > -0.2][:, None] * np.ones(columns)
    turn = np.ones((len(head), 1)) * angle

    def paint(mask: np.ndarray, colour: np.ndarray) -> None:
        head[:] = head + (np.asarray(colour, float) - head) * np.clip(mask, 0, 1)[..., None]

    def spot(at: tuple[float, float], width: float, tall: float, soft: float = 0.25) -> np.ndarray:
        """Both sides; width in rad, height in shares of the head."""
        across = (np.abs(turn) - at[0]) / width
        return smoothstep(-np.hypot(across, (share - at[1]) / tall), -1 - soft, -1 + soft)

    on_head = smoothstep(share, -0.12, -0.02)
    paint(0.25 * on_head * spot((0.5, 0.3), 0.35, 0.13, 1.0), tone * [1.0, 0.78, 0.74])  # cheeks
    paint(0.5 * spot(_EYE, 0.2, 0.06, 0.6), tone * 0.72)
    paint(spot(_EYE, 0.13, 0.022), [225, 222, 216])
    iris = [[60, 38, 24], [40, 26, 18], [88, 110, 128], [84, 98, 66]][rng.integers(4)]
    paint(spot(_EYE, 0.055, 0.026), iris)
    paint(0.8 * spot((_EYE[0], _EYE[1] + 0.022), 0.15, 0.008), tone * 0.25)
    paint(0.75 * spot(_BROW, 0.18, 0.014, 0.4), 0.6 * hair + 0.1 * tone)
    lips = tone * [0.86, rng.uniform(0.5, 0.72), rng.uniform(0.5, 0.75)]
    paint(0.8 * spot(_MOUTH, 0.27, 0.034, 0.3), lips)
    paint(0.8 * spot(_MOUTH, 0.25, 0.006, 0.5), lips * 0.45)
    if rng.random() < 0.3:  # beard
        chin = smoothstep(-share, -0.2 - 0.25 * smoothstep(np.abs(turn), 0.6, 1.3), -0.12)
        chin = np.maximum(chin, spot((0.0, 0.215), 0.35, 0.03, 0.5))
        chin *= on_head * smoothstep(-np.abs(turn), -1.6, -1.2) * (1 - spot(_MOUTH, 0.25, 0.03))
        paint(rng.uniform(0.25, 0.95) * chin, hair)
    if scalp:
        line = 0.8 - 0.35 * smoothstep(np.abs(turn), 0.7, 1.4) - 0.35 * smoothstep(np.abs(turn), 1.6, 2.2)
        paint(rng.uniform(0.4, 0.9) * smoothstep(share - line, -0.02, 0.03), 0.8 * hair + 0.2 * tone)
    picture[: len(head)] = head  # the top ones
    texture = np.clip(np.round(picture), 0, 255).astype(np.uint8)
    material = Material(texture, roughness=float(rng.uniform(0.45, 0.7)), specular=0.25)
    return Swatch(material, 1.0, {"tone": [int(round(c)) for c in tone]})


def draw_tone(rng: Rng) -> np.ndarray:
    """(3,) sRGB 0..255: a tone of the Monk scale, or between two, slightly varied."""
    at = rng.uniform(0, len(SKIN_TONES) - 1)
    low = int(at)
    first, second = np.array(SKIN_TONES[low], float), np.array(SKIN_TONES[min(low + 1, 9)], float)
    return shifted(rng, first + (second - first) * (at - low), 0.03)


def draw_hair(rng: Rng, tone: np.ndarray) -> np.ndarray:
    """(3,) sRGB 0..255: any natural colour; dark skin has dark or grey hair more often; a few are dyed."""
    if rng.random() < 0.03:
        return rng.uniform(30, 230, 3)
    weights = np.array([3, 3, 2, 2, 1.5, 0.7, 1.5])
    if tone.mean() < 110:
        weights = weights * [3, 2, 0.4, 0.1, 0.05, 0.05, 1]
    return shifted(rng, np.array(HAIR[rng.choice(7, p=weights / weights.sum())], float), 0.06)


def hair_field(chart: BodyChart, line: float, nape: float, ears: float) -> np.ndarray:
    """Field (V,) of hair, m.

    line: height of the hairline over the forehead (0 chin, 1 crown).  nape: height of its lower edge behind.
    ears: how far behind the middle of the head the hair falls beside the ears, m (negative covers them).
    """
    head = chart.rest[chart.part == PARTS.index("head")]
    tall = np.ptp(head[:, 1])
    share = head_height(chart, chart.rest[:, 1])
    middle = 0.5 * (head[:, 0].min() + head[:, 0].max())
    x = chart.rest[:, 0]
    temple = line - 0.27 * smoothstep(-x, -(middle + 0.05), -(middle - 0.01))
    over = (share - temple) * tall
    behind = np.minimum(middle - ears - x, (share - nape) * tall)
    field = np.maximum(over, behind)
    near = smoothstep(np.maximum(chart.head, chart.neck), 0.05, 0.3)
    if nape < -0.1:  # long hair lies on the back
        back = (np.abs(chart.rest[:, 2]) < 0.14) & (x < middle - 0.03) & (chart.arm < 0.2)
        near = np.maximum(near, back)
    return chart.smooth(np.where(near > 0.5, field, np.minimum(field, -0.03)), 2)


def hair_shape(
    chart: BodyChart, surface: np.ndarray, rng: Rng, field: np.ndarray, depth: float, falls: bool
) -> np.ndarray:
    """Rest mesh (V,3) with hair of a depth (m) over a surface (V,3); falls: straight down past the neck."""
    start = surface
    if falls:
        head = chart.head > 0.5
        low, high = surface[head].min(0), surface[head].max(0)
        centre = np.array([0.5 * (low[0] + high[0]), 0.0, 0.0])
        order = high[1] - surface[:, 1]
        mask = ((order < 0.55) & (field > -0.03)).astype(float) * smoothstep(order, 0.05, 0.12)
        start = hang(surface, centre, np.array([0.0, 1.0, 0.0]), order, mask, 0.8)
    ramp = smoothstep(field, -0.005, 0.035)
    lumps = np.maximum(1 + folds(rng, surface, 0.5, 0.06), 0.2)
    return stand_off(chart, surface, 0.003, depth * ramp * lumps, 0.012 + 0.5 * depth, start)


def cap_field(chart: BodyChart, line: float) -> np.ndarray:
    """Field (V,) of a cap or beanie, m: above a plane that rises to the front a little."""
    head = chart.rest[chart.part == PARTS.index("head")]
    share = head_height(chart, chart.rest[:, 1])
    slope = 0.35 * (chart.rest[:, 0] - head[:, 0].mean()) / np.ptp(head[:, 1])
    field = (share - line - slope) * np.ptp(head[:, 1])
    return np.where(chart.head > 0.5, field, np.minimum(field, -0.03))


def cap_brim(chart: BodyChart, cap: np.ndarray, field: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rest vertices (n,3) and faces of a cap's brim in front of a capped head (V,3)."""
    edge = (np.abs(field) < 0.02) & (chart.head > 0.5)
    ring = cap[edge]
    middle = ring.mean(0)
    angle = np.linspace(-1.15, 1.15, 13)
    around = np.arctan2(ring[:, 2] - middle[2], ring[:, 0] - middle[0])
    radius = np.hypot(ring[:, 2] - middle[2], ring[:, 0] - middle[0])
    order = np.argsort(around)
    at = np.interp(angle, around[order], radius[order])
    height = np.interp(angle, around[order], ring[order, 1])
    rows = []
    for out in np.linspace(-0.01, 0.075, 4):
        reach = out * np.cos(angle / 1.15 * np.pi / 2) ** 0.5 if out > 0 else np.full_like(angle, out)
        drop = -0.25 * np.maximum(out, 0) - 0.012 * (angle / 1.15) ** 2
        rows.append(
            np.stack(
                [
                    middle[0] + (at + reach) * np.cos(angle),
                    height + drop + 0.004,
                    middle[2] + (at + reach) * np.sin(angle),
                ],
                1,
            )
        )
    from odah.scenes.primitives import grid_faces

    return np.concatenate(rows), grid_faces(len(rows), len(angle))
