"""Random outfits: what a person wears, drawn in the order it is put on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from odah.scenes import heads
from odah.scenes.appearance import looks_of
from odah.scenes.bodychart import BodyChart
from odah.scenes.drape import smoothstep
from odah.scenes.garments import Dresser, Fit, Layer, briefs_field, lower_field, sock_field, upper_field
from odah.scenes.scene import Material
from odah.scenes.textures import Swatch, cloth, cloth_colour, plain_material, shifted

Rng = np.random.Generator

UPPERS = {
    "bare": 0.07,
    "sports top": 0.06,
    "vest": 0.12,
    "T-shirt": 0.32,
    "polo": 0.1,
    "shirt": 0.1,
    "long sleeves": 0.15,
    "hoodie": 0.08,
}
LOWERS = {
    "briefs": 0.06,
    "shorts": 0.25,
    "bermudas": 0.12,
    "trousers": 0.25,
    "loose trousers": 0.12,
    "tights": 0.14,
    "skirt": 0.06,
}
WHOLE = {"dress": 0.05, "gown": 0.02}  # in place of an upper and a lower
FEET = {"barefoot": 0.2, "socks": 0.08, "shoes": 0.65, "boots": 0.07}
HAIRS = {"bald": 0.08, "cropped": 0.19, "short": 0.34, "afro": 0.05, "long": 0.23, "tied": 0.11}
CAP_SHARE = 0.13  # of clips; nobody forces one over an afro


@dataclass(frozen=True)
class Skirt:
    """A skirt to be hung on the posed body; see `odah.scenes.skirts.skirt`."""

    waist: float
    length: float
    ease: float
    flare: float
    waves: tuple[int, float, float]
    swatch: Swatch


def pick(rng: Rng, shares: dict[str, float]) -> str:
    """A name, as often as its share says."""
    weights = np.array(list(shares.values()))
    return str(rng.choice(list(shares), p=weights / weights.sum()))


class Outfit:
    """Draws the garments of one person in the order they are put on."""

    def __init__(self, rng: Rng, chart: BodyChart, vertices: np.ndarray, seed: int):
        """rng: of the clothes.  vertices: (V,3) bare rest mesh.  seed: of the person, for skin and hair."""
        self.rng, self.chart = rng, chart
        self.looks = looks_of(seed)
        self.dresser = Dresser(chart, vertices, rng)
        self.skirt: Skirt | None = None
        self.brim: tuple[np.ndarray, np.ndarray, Swatch] | None = None
        self.knot: tuple[np.ndarray, np.ndarray] | None = None  # centre and radii of tied hair
        self.notes: dict = {}
        leg, shank = (float(np.linalg.norm(chart.segment(n)[1])) for n in ("thigh_r", "shank_r"))
        arm, forearm = (float(np.linalg.norm(chart.segment(n)[1])) for n in ("upper_arm_r", "forearm_r"))
        self.leg, self.arm = (leg, shank), (arm, forearm)

    def put_on(
        self, whole: str | None = None, upper: str = "", lower: str = "", feet: str = "", hair: str = ""
    ):
        """Dress; what is not named is drawn. whole: "" for none."""
        rng = self.rng
        feet = feet or pick(rng, FEET)
        if whole is None:
            whole = pick(rng, {**WHOLE, "": 1 - sum(WHOLE.values())})
        if whole:
            self._feet(feet)
            self._dress(whole)
        else:
            upper, lower = upper or pick(rng, UPPERS), lower or pick(rng, LOWERS)
            self._feet(feet)
            tucked = lower == "skirt" or (
                upper in ("shirt", "polo", "vest", "T-shirt", "long sleeves") and rng.random() < 0.15
            )
            steps = [lambda: self._lower(lower), lambda: self._upper(upper, lower, tucked)]
            for step in reversed(steps) if tucked else steps:
                step()
            self.notes |= {"upper": upper, "lower": lower, "tucked": bool(tucked)}
        self.notes |= {"whole": whole, "feet": feet}
        return self

    def _wear(self, name: str, field, vertices, swatch: Swatch, hides: float = 0.03) -> Layer:
        layer = Layer(name, field, vertices, swatch, hides)
        self.dresser.wear(layer)
        self.notes[name] = swatch.notes
        return layer

    def _upper(self, kind: str, lower: str, tucked: bool) -> None:
        rng, arm = self.rng, self.arm
        if kind == "bare":
            return
        if kind == "sports top":
            field = upper_field(self.chart, rng.uniform(0.26, 0.33), -0.04, -0.03, 0.06, 0.07)
            self._wear("upper", field, self.dresser.upper(field, Fit(0.003)), cloth(rng), 0.02)
            return
        sleeve = {
            "vest": rng.uniform(-0.05, 0.0),
            "T-shirt": rng.uniform(0.35, 0.95) * arm[0],
            "polo": rng.uniform(0.45, 0.85) * arm[0],
            "shirt": rng.choice([rng.uniform(0.5, 0.85) * arm[0], arm[0] + rng.uniform(0.85, 1.0) * arm[1]]),
            "long sleeves": arm[0] + rng.uniform(0.6, 1.0) * arm[1],
            "hoodie": arm[0] + rng.uniform(0.9, 1.02) * arm[1],
        }[kind]
        loose = {"vest": 0.5, "hoodie": 1.0, "polo": 0.7, "shirt": 0.8}.get(kind, 0.6)
        if rng.random() < loose:
            ease = rng.uniform(0.012, 0.03) if kind == "hoodie" else rng.uniform(0.003, 0.016)
            fit = Fit(rng.uniform(0.004, 0.007), ease, rng.uniform(0.3, 0.95), rng.uniform(0.001, 0.006))
        else:
            fit = Fit(0.003, 0.0, 0.0, 0.0)
        # a hem below the hips would tie the legs together
        hem = -0.02 if tucked else rng.uniform(-0.05, 0.09)
        if lower == "skirt":
            hem = self.skirt_waist() - 0.04
        collar = rng.uniform(-0.015, 0.02)
        dip = rng.uniform(0.05, 0.11) if kind == "vest" else rng.choice([0.015, rng.uniform(0.02, 0.09)])
        if kind in ("polo", "shirt", "hoodie"):
            collar, dip = rng.uniform(0.005, 0.02), rng.uniform(0.02, 0.05)
        field = upper_field(self.chart, hem, sleeve, collar, dip, rng.uniform(0.035, 0.075))
        swatch = cloth(rng)
        layer = self._wear("upper", field, self.dresser.upper(field, fit), swatch, 0.03 + 1.2 * fit.ease)
        if kind in ("polo", "shirt", "hoodie"):
            self._collar(kind, layer, field, collar)

    def _collar(self, kind: str, layer: Layer, field: np.ndarray, collar: float) -> None:
        """A band about the neck: a collar, or a hood that lies on the back."""
        rng, chart = self.rng, self.chart
        depth = rng.uniform(0.028, 0.04)
        back = smoothstep(-np.cos(chart.angle[0]), -0.3, 0.6)
        if kind == "hoodie":
            depth = 0.05 + 0.05 * back
        near = (np.abs(chart.rest[:, 2]) < 0.1) | (chart.neck > 0.2)
        band = np.where(
            near, np.minimum(collar + 0.012 - chart.neck_height, chart.neck_height - collar + depth), -0.02
        )
        band = np.minimum(band, field + 0.012)
        bulge = 0.004 + (0.03 * back if kind == "hoodie" else 0.0)
        extra = 0.003 + bulge * smoothstep(band, -0.005, 0.02)
        same = kind == "hoodie" or rng.random() < 0.6
        swatch = layer.swatch if same else cloth(rng, {"plain": 1.0})
        self.dresser.layers.append(self.dresser.over("collar", layer, band, extra, swatch))

    def _lower(self, kind: str) -> None:
        rng, (thigh, shank) = self.rng, self.leg
        if kind == "skirt":
            self._skirt(self.skirt_waist(), rng.uniform(0.35, 0.75))
            return
        waist = rng.uniform(0.07, 0.15)
        if kind == "briefs":
            field = briefs_field(self.chart, rng.uniform(0.04, 0.1), rng.uniform(0.45, 1.1))
            self._wear("lower", field, self.dresser.lower(field, Fit(0.003)), cloth(rng), 0.015)
            return
        length = {
            "shorts": rng.uniform(0.25, 0.6) * thigh,
            "bermudas": rng.uniform(0.7, 1.0) * thigh + rng.uniform(0, 0.08) * shank,
            "trousers": thigh + rng.uniform(0.93, 1.02) * shank,
            "loose trousers": thigh + rng.uniform(0.95, 1.03) * shank,
            "tights": thigh + rng.uniform(0.35, 0.98) * shank,
        }[kind]
        fit = {
            "shorts": Fit(0.004, rng.uniform(0.0, 0.012), rng.uniform(0.0, 0.7), rng.uniform(0, 0.004)),
            "bermudas": Fit(0.004, rng.uniform(0.002, 0.012), rng.uniform(0.2, 0.7), rng.uniform(0, 0.004)),
            "trousers": Fit(0.004, rng.uniform(0.0, 0.006), rng.uniform(0.05, 0.3), rng.uniform(0, 0.003)),
            "loose trousers": Fit(
                0.005, rng.uniform(0.004, 0.012), rng.uniform(0.35, 0.7), rng.uniform(0.001, 0.005)
            ),
            "tights": Fit(0.0025),
        }[kind]
        patterns = None
        if kind in ("trousers", "shorts", "bermudas"):
            patterns = {
                "plain": 0.4,
                "denim": 0.25,
                "melange": 0.1,
                "checks": 0.06,
                "camouflage": 0.06,
                "stripes along": 0.05,
                "flowers": 0.04,
                "blotches": 0.04,
            }
        field = lower_field(self.chart, waist, length)
        self._wear(
            "lower",
            field,
            self.dresser.lower(field, fit),
            cloth(rng, patterns),
            0.03 + 1.2 * fit.ease + 0.04 * fit.hang,
        )

    def skirt_waist(self) -> float:
        """Height of a skirt's waist over the hips, m."""
        return 0.15

    def _skirt(self, waist: float, length: float, swatch: Swatch | None = None) -> None:
        rng = self.rng
        swatch = swatch or cloth(rng)
        flare = rng.choice([rng.uniform(0.0, 0.05), rng.uniform(0.08, 0.3)])
        waves = (
            int(rng.integers(5, 10)),
            float(rng.uniform(0.0, 0.35) * flare * length),
            float(rng.uniform(0, 6.3)),
        )
        self.skirt = Skirt(waist, length, rng.uniform(0.008, 0.012), float(flare), waves, swatch)
        self.notes["skirt"] = swatch.notes | {"length_m": round(float(length), 3)}

    def _dress(self, kind: str) -> None:
        rng, (arm, forearm), (thigh, shank) = self.rng, self.arm, self.leg
        waist = self.skirt_waist()
        sleeve = rng.choice(
            [rng.uniform(-0.05, 0.0), rng.uniform(0.3, 0.8) * arm, arm + rng.uniform(0.7, 1) * forearm]
        )
        swatch = cloth(rng)
        field = upper_field(
            self.chart, waist - 0.04, sleeve, rng.uniform(-0.02, 0.01), rng.uniform(0.02, 0.1)
        )
        fit = Fit(0.004, rng.uniform(0, 0.005), 0.0, rng.uniform(0, 0.002))
        self._wear("upper", field, self.dresser.upper(field, fit), swatch)
        length = waist + (
            thigh * rng.uniform(0.6, 1.1) if kind == "dress" else thigh + shank * rng.uniform(0.5, 0.92)
        )
        self._skirt(waist, length, swatch)

    def _feet(self, kind: str) -> None:
        rng = self.rng
        if kind == "barefoot":
            return
        if kind == "socks" or rng.random() < 0.7:
            field = sock_field(self.chart, rng.uniform(0.09, 0.3))
            vertices = (
                self.dresser.shoes(0.0015, 0.08)[1]
                if kind == "socks"
                else self.dresser.lower(field, Fit(0.002))
            )
            plain = cloth(rng, {"plain": 0.7, "stripes across": 0.2, "dots": 0.05, "checks": 0.05}, 128)
            self._wear("socks", field, vertices, plain, 0.02)
        if kind == "socks":
            return
        rim = rng.uniform(0.055, 0.085) if kind == "shoes" else rng.uniform(0.12, 0.3)
        field, vertices = self.dresser.shoes(rng.uniform(0.004, 0.009), rim)
        upper = cloth(rng, {"plain": 0.75, "melange": 0.1, "blotches": 0.1, "camouflage": 0.05}, 128)
        layer = self._wear("shoes", field, vertices, upper, 0.02)
        floor = self.dresser.skin[:, 1].min()
        sole = np.minimum(rng.uniform(0.014, 0.03) - (vertices[:, 1] - floor), field)
        tone = rng.choice([rng.uniform(225, 245), rng.uniform(15, 60), 0])
        colour = np.full(3, tone) if tone else cloth_colour(rng)
        sides = smoothstep(self.dresser.skin[:, 1] - floor, 0.0, 0.004)
        swatch = Swatch(plain_material(shifted(rng, colour, 0.03), 0.8, 0.1), 1.0, {})
        self.dresser.layers.append(self.dresser.over("soles", layer, sole, 0.003 + 0.003 * sides, swatch))

    def head(self, kind: str = "") -> Swatch:
        """Hair and perhaps a cap; returns the skin with its face.

        Skin, face and hair are the person's: the same in every clip. A cap is clothing.
        kind: a hair style, or "cap"; drawn when "".
        """
        looks, chart = self.looks, self.chart
        tone = heads.draw_tone(looks)
        colour = heads.draw_hair(looks, tone)
        hair = pick(looks, HAIRS)
        hair = kind if kind in HAIRS else hair
        cap = kind == "cap" or (not kind and hair != "afro" and self.rng.random() < CAP_SHARE)
        skin = heads.skin_swatch(looks, chart, tone, colour, hair in ("cropped", "afro"))
        self.notes |= {"hair style": hair, "hair colour": [int(c) for c in colour]}
        self.notes["skin tone"] = skin.notes["tone"]
        if hair in ("short", "long", "tied") or (hair == "afro" and not cap):
            self._hair(hair, colour, cap)
        if cap:
            self._cap()
        return skin

    def _cap(self) -> None:
        rng, chart = self.rng, self.chart
        field = heads.cap_field(chart, rng.uniform(0.66, 0.76))
        vertices = heads.hair_shape(chart, self.dresser.surface, rng, field + 0.05, 0.008, False)
        swatch = cloth(rng, {"plain": 0.7, "denim": 0.1, "knit": 0.15, "camouflage": 0.05}, 128)
        self._wear("cap", field, vertices, swatch, 0.02)
        if rng.random() < 0.7:
            self.brim = (*heads.cap_brim(chart, vertices, field), swatch)

    def _hair(self, kind: str, colour: np.ndarray, pressed: bool) -> None:
        """A person's hair, flatter where a cap presses it."""
        rng, chart = self.looks, self.chart
        line = rng.uniform(0.76, 0.86)
        nape = {"short": rng.uniform(0.05, 0.3), "afro": 0.1, "tied": 0.2, "long": rng.uniform(-0.9, -0.05)}[
            kind
        ]
        ears = rng.uniform(-0.03, 0.0) if kind == "long" else rng.uniform(0.018, 0.03)
        field = heads.hair_field(chart, line, nape, ears)
        depth = {
            "short": rng.uniform(0.004, 0.02),
            "afro": rng.uniform(0.03, 0.06),
            "tied": 0.004,
            "long": rng.uniform(0.008, 0.02),
        }[kind]
        depth = min(depth, 0.004) if pressed else depth
        vertices = heads.hair_shape(chart, self.dresser.surface, rng, field, depth, kind == "long")
        strands = cloth(rng, {"stripes along": 1.0}, 128).material.texture.astype(float).mean(-1)
        strands = (
            1
            + 0.12 * (strands - strands.mean()) / max(strands.std(), 1e-6)
            + rng.normal(0, 0.06, strands.shape)
        )
        texture = np.clip(colour * strands[..., None], 0, 255).astype(np.uint8)
        swatch = Swatch(Material(texture, 0.55, 0.25), 0.08, {"colour": [int(c) for c in colour]})
        self._wear("hair", field, vertices, swatch, 0.015)
        if kind == "tied":
            head = chart.head > 0.5
            low, high = self.dresser.skin[head].min(0), self.dresser.skin[head].max(0)
            at = rng.uniform(0.55, 0.85)
            if rng.random() < 0.5:  # a bun
                centre = np.array([low[0] - 0.015 + 0.02 * at, low[1] + at * (high[1] - low[1]), 0.0])
                radii = np.full(3, rng.uniform(0.03, 0.045))
            else:  # a ponytail
                long = rng.uniform(0.08, 0.16)
                centre = np.array([low[0] - 0.022, low[1] + at * (high[1] - low[1]) - 0.8 * long, 0.0])
                radii = np.array([0.022, long, 0.028])
            self.knot = centre, radii
