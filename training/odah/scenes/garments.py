"""Garments of a body: where each covers the skin, how it hangs, what it is made of.

A garment is a field on the mean rest mesh, in metres, positive where the garment is and zero at its hems, and
a dressed rest mesh of the body's own topology. `Dresser` puts one on top of the other; `odah.scenes.outfits`
draws them at random and cuts them out.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from odah.scenes.bodychart import BodyChart
from odah.scenes.drape import folds, foot_hull, hang, ring_middles, smoothing_passes, smoothstep, stand_off
from odah.scenes.shells import normals
from odah.scenes.textures import Swatch

_FAR = 0.5  # m: a field's bonus where its edge does not apply


@dataclass(frozen=True)
class Layer:
    """One garment on one subject.

    Attributes:
        name: of the mesh.
        field: (V,) m, > 0 inside.
        vertices: (V,3) dressed rest mesh, ground axes, m; only inside the field and around its edge.
        swatch: cloth.
        hides: what lies under it is dropped this far inside its hems, m; None if it hides nothing.
        colour_only: drawn with another layer's shape (soles, collars): hides nothing, adds no thickness.
    """

    name: str
    field: np.ndarray
    vertices: np.ndarray
    swatch: Swatch
    hides: float | None = 0.03


@dataclass(frozen=True)
class Fit:
    """How a garment sits: thickness, m; ease, m of air; hang, 0 tight to 1 straight down; folds, m."""

    thickness: float = 0.003
    ease: float = 0.0
    hang: float = 0.0
    folds: float = 0.0


def upper_field(
    chart: BodyChart, hem: float, sleeve: float, collar: float, dip: float = 0.0, dip_width: float = 0.06
) -> np.ndarray:
    """Field (V,) of an upper garment.

    hem: height over the hips, m.  sleeve: length from the shoulder, m (below 0 leaves the shoulder bare).
    collar: height over the base of the neck, m.  dip, dip_width: depth and half width of the neckline, m.
    """
    arm = smoothstep(chart.arm, 0.25, 0.6)
    above_hem = chart.rest[:, 1] - hem + _FAR * arm
    sleeve_room = sleeve - chart.metres_down_arm() + _FAR * (1 - arm)
    front = smoothstep(np.cos(chart.angle[0]), -0.2, 0.5)
    neckline = dip * np.exp(-((chart.rest[:, 2] / dip_width) ** 2)) * (0.25 + 0.75 * front)
    below_collar = collar - neckline - chart.neck_height
    field = np.minimum(np.minimum(above_hem, sleeve_room), below_collar)
    return _soft(chart, np.where(chart.hand > 0.7, -0.1, field))


def lower_field(chart: BodyChart, waist: float, length: float) -> np.ndarray:
    """Field (V,) of trousers: from `waist` (height over the hips, m) to `length` (from the hip, m)."""
    leg = smoothstep(chart.leg, 0.3, 0.6)
    room = length - chart.metres_down_leg() + _FAR * (1 - leg)
    below_waist = waist - chart.rest[:, 1]
    field = np.minimum(below_waist, room)
    return _soft(chart, np.where(chart.arm > 0.3, -0.1, field))


def briefs_field(chart: BodyChart, waist: float, cut: float) -> np.ndarray:
    """Field (V,) of briefs: from `waist` to slanted leg openings; cut: their slope, 0.4 (boxer) to 1.2."""
    crotch = chart.rest[np.abs(chart.rest[:, 2]) < 0.015, 1].min() - 0.02
    side = np.maximum(np.abs(chart.rest[:, 2]) - 0.03, 0)
    field = np.minimum(waist - chart.rest[:, 1], chart.rest[:, 1] - crotch - cut * side)
    return _soft(chart, np.where(chart.arm > 0.3, -0.1, field))


def sock_field(chart: BodyChart, height: float) -> np.ndarray:
    """Field (V,) of socks, up to `height` over the floor, m."""
    low = height - (chart.rest[:, 1] - chart.rest[:, 1].min())
    return _soft(chart, np.where(chart.leg > 0.3, low, -0.1))


def _soft(chart: BodyChart, field: np.ndarray) -> np.ndarray:
    return chart.smooth(field, smoothing_passes(chart, 0.016))


class Dresser:
    """Puts garments on one subject, each over what is on already."""

    def __init__(self, chart: BodyChart, vertices: np.ndarray, rng: np.random.Generator):
        self.chart = chart
        self.skin = np.asarray(vertices, dtype=np.float64)
        self.surface = self.skin
        self.rng = rng
        self.layers: list[Layer] = []

    def wear(self, layer: Layer) -> None:
        """Put a garment on; later ones lie over it."""
        self.layers.append(layer)
        cover = smoothstep(layer.field, -0.02, 0.0)[:, None]
        self.surface = self.surface * (1 - cover) + layer.vertices * cover

    def upper(self, field: np.ndarray, fit: Fit) -> np.ndarray:
        """Dressed rest mesh (V,3) of an upper garment."""
        chart, start = self.chart, self.surface
        if fit.hang > 0:
            y = self.skin[:, 1]
            trunk = smoothstep(-chart.arm, -0.5, -0.2) * smoothstep(-y, -0.44, -0.34) * (chart.head < 0.1)
            waist = (chart.part == 0) & (np.abs(chart.rest[:, 1] - 0.2) < 0.06)
            centre = np.array([0.5 * (self.skin[waist, 0].min() + self.skin[waist, 0].max()), 0, 0])
            top = (chart.part == 0) & (y < 0.44) & (y > -0.2)
            start = hang(start, centre, np.array([0.0, 1.0, 0.0]), -y, trunk * top, fit.hang)
            down = chart.metres_down_arm()
            start = self._limbs(start, "arm", down, smoothstep(down, 0.04, 0.16), 0.7 * fit.hang)
        return self._finish(start, field, fit)

    def lower(self, field: np.ndarray, fit: Fit) -> np.ndarray:
        """Dressed rest mesh (V,3) of trousers."""
        start = self.surface
        if fit.hang > 0:
            down = self.chart.metres_down_leg()
            start = self._limbs(start, "leg", down, smoothstep(down, 0.02, 0.2), fit.hang)
        return self._apart(self._finish(start, field, fit))

    def _limbs(self, points, limb: str, down: np.ndarray, fade: np.ndarray, share: float) -> np.ndarray:
        chart = self.chart
        belongs = (chart.arm if limb == "arm" else chart.leg) > 0.5
        ends = chart.hand if limb == "arm" else chart.foot
        for right in (True, False):
            mine = belongs & (chart.right == right) & (ends < 0.5)
            middle = ring_middles(self.skin, down, mine)
            axis = self.skin[mine & (down > np.quantile(down[mine], 0.9))].mean(0)
            axis = axis - self.skin[mine & (down < np.quantile(down[mine], 0.1))].mean(0)
            points = hang(points, middle, axis / np.linalg.norm(axis), down, mine * fade, share)
        return points

    def _finish(self, start: np.ndarray, field: np.ndarray, fit: Fit) -> np.ndarray:
        inside = smoothstep(field, -0.01, 0.05)
        air = fit.ease * (0.55 + 0.45 * np.exp(-np.clip(field, 0, None) / 0.12))
        crease = folds(self.rng, self.skin, fit.folds) if fit.folds > 0 else 0.0
        extra = inside * np.maximum(air + crease, 0)
        reach = 0.018 + 0.8 * fit.ease + 0.03 * fit.hang
        return stand_off(self.chart, self.surface, fit.thickness, extra, reach, start)

    def _apart(self, cloth: np.ndarray) -> np.ndarray:
        """Trouser legs that do not reach over the middle."""
        chart = self.chart
        side = np.where(chart.right, 1.0, -1.0)
        leg = smoothstep(chart.metres_down_leg(), 0.10, 0.16) * (chart.leg > 0.5)
        across = cloth[:, 2] * side
        out = cloth.copy()
        out[:, 2] = np.where(
            leg > 0, side * np.maximum(across, 0.004 * leg + across * (1 - leg)), cloth[:, 2]
        )
        return out

    def shoes(self, thickness: float, rim: float) -> tuple[np.ndarray, np.ndarray]:
        """Field and dressed rest mesh of shoes up to `rim` over the floor, m."""
        chart = self.chart
        field = sock_field(chart, rim)
        surface = self.surface
        for side in "rl":
            surface = foot_hull(chart, surface, side)
        toes = smoothing_passes(chart, 0.025)
        surface = np.where((field > -0.02)[:, None], chart.smooth(surface, toes), surface)
        for side in "rl":
            surface = foot_hull(chart, surface, side)
        cloth = surface + normals(surface, chart.faces) * thickness
        cloth = np.where((field > -0.02)[:, None], chart.smooth(cloth, max(1, toes // 2)), cloth)
        floor = self.skin[:, 1].min()
        cloth[:, 1] = np.maximum(cloth[:, 1], floor - 0.002)
        return field, cloth

    def over(self, name: str, layer: Layer, field: np.ndarray, extra: np.ndarray, swatch: Swatch) -> Layer:
        """A part over a layer, such as a collar or a sole: `extra` (V,) m off its surface."""
        outward = normals(layer.vertices, self.chart.faces)
        moved = layer.vertices + outward * np.reshape(extra, (-1, 1))
        return replace(layer, name=name, field=field, vertices=moved, swatch=swatch, hides=None)
