"""Where on a body a vertex is: positions along limbs, heights, parts; the coordinates that garments use.

All on the mean rest mesh of a body, so that a garment's cut is the same for every subject of that body.
"""

from __future__ import annotations

import numpy as np

from odah.scenes.shells import cylinder_uv, neighbour_mean

PARTS = ("trunk", "head", "arm_r", "arm_l", "leg_r", "leg_l")


class BodyChart:
    """Scalar fields (V,) of a body's mean rest mesh; ground axes, m.

    Attributes:
        rest: (V,3); faces: (F,3); mean: sparse (V,V) neighbour average.
        arm, hand, leg, foot, head, neck: shares of the skinning weights.
        down_arm, down_leg: 0 shoulder or hip, 1 elbow or knee, 2 wrist or ankle.
        part: (V,) index into PARTS.
        angle, height: (P,V) cylinder coordinates of every vertex in every part: rad, m; the seam is at the
            back of trunk and head and on the inside of limbs.
        neck_height: (V,) m above the base of the neck.
    """

    def __init__(self, body):
        names = body.skeleton.body_names
        weights = body.weights.numpy()

        def share(*parts: str) -> np.ndarray:
            return weights[:, [i for i, n in enumerate(names) if n.split("_")[0] in parts]].sum(1)

        self.rest = body.rest_mean.numpy().astype(np.float64)
        self.faces = body.faces.numpy()
        self.mean = neighbour_mean(self.faces, len(self.rest))
        self.right = self.rest[:, 2] > 0
        self.arm = share("humerus", "ulna", "radius", "hand")
        self.hand, self.leg = share("hand"), share("femur", "tibia", "patella", "talus", "calcn", "toes")
        self.foot = share("talus", "calcn", "toes")
        self.head, self.neck = body.head.numpy(), body.neck.numpy()
        self.along = {name: values.numpy().astype(np.float64) for name, values in body.along.items()}
        self.down_arm = self._down("upper_arm", "forearm")
        self.down_leg = self._down("thigh", "shank")
        self.down_each_leg = {side: self._down("thigh", "shank", side) for side in "rl"}
        self.part = self._parts()
        self.angle, self.height = self._cylinders()
        self.neck_height = self._neck_height()

    def _down(self, first: str, second: str, side: str | None = None) -> np.ndarray:
        if side is None:
            right = self._down(first, second, "r")
            return np.where(self.right, right, self._down(first, second, "l"))
        a, b = self.along[f"{first}_{side}"], self.along[f"{second}_{side}"]
        return np.where(b > 0, 1 + b, np.minimum(a, 1.0))

    def _parts(self) -> np.ndarray:
        part = np.zeros(len(self.rest), int)
        part[self.head > 0.5] = PARTS.index("head")
        for name, share in (("arm", self.arm), ("leg", self.leg)):
            mine = share > 0.5
            part[mine] = np.where(self.right[mine], PARTS.index(f"{name}_r"), PARTS.index(f"{name}_l"))
        return part

    def segment(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Proximal end (3,) and vector (3,) of a segment ("thigh_r") of the mean shape.

        Its position along the segment is linear in space: s = (v - a) . d / d . d; a least-squares fit of
        that plane gives direction, length and a; the point on the axis is the middle of the vertices there.
        """
        s = self.along[name]
        design = np.column_stack([self.rest, np.ones(len(s))])
        slope = np.linalg.lstsq(design, s, rcond=None)[0]
        direction = slope[:3] / (slope[:3] @ slope[:3])
        limb = {"upper_arm": self.arm, "forearm": self.arm, "thigh": self.leg, "shank": self.leg}
        mine = (limb[name[:-2]] > 0.5) & (self.right == name.endswith("r"))
        ring = mine & (np.abs(s - 0.5) < 0.15)
        middle = 0.5 * (self.rest[ring].min(0) + self.rest[ring].max(0))
        at = s[ring].mean() if not ring.any() else (np.append(middle, 1.0) @ slope)
        return middle - at * direction, direction

    def _cylinders(self) -> tuple[np.ndarray, np.ndarray]:
        """Angle and height (P,V) of every vertex in the cylinder of every part."""
        angle = np.zeros((len(PARTS), len(self.rest)))
        height = np.tile(self.rest[:, 1], (len(PARTS), 1))
        for part, name in enumerate(PARTS):
            if name in ("trunk", "head"):
                mine = self.part == part
                middle = 0.5 * (self.rest[mine, 0].min() + self.rest[mine, 0].max()) if mine.any() else 0.0
                angle[part] = np.arctan2(self.rest[:, 2], self.rest[:, 0] - middle)
                continue
            limb, side = name.split("_")
            first = self.segment(("upper_arm_" if limb == "arm" else "thigh_") + side)
            second = self.segment(("forearm_" if limb == "arm" else "shank_") + side)
            down = self.down_arm if limb == "arm" else self.down_each_leg[side]
            inward = np.array([0.0, 0.0, -1.0 if side == "r" else 1.0])
            for (start, vector), rows in ((first, down <= 1), (second, down > 1)):
                along = vector / np.linalg.norm(vector)
                seam = inward - (inward @ along) * along
                seam /= np.linalg.norm(seam)
                offset = self.rest[rows] - start
                angle[part, rows] = np.arctan2(offset @ np.cross(along, -seam), offset @ -seam)
            lengths = np.linalg.norm(first[1]), np.linalg.norm(second[1])
            height[part] = -np.where(down <= 1, down * lengths[0], lengths[0] + (down - 1) * lengths[1])
        return angle, height

    def _neck_height(self) -> np.ndarray:
        """(V,) m above the base of the neck along its axis; 0 where head and neck begin to hold the skin."""
        base = self.rest[(self.neck > 0.4) & (self.neck < 0.6)]
        if len(base) == 0:
            base = self.rest[(self.head + self.neck) > 0.5]
            return self.rest[:, 1] - base[:, 1].min()
        return self.rest[:, 1] - base[:, 1].mean()

    def metres_down_arm(self) -> np.ndarray:
        """(V,) distance from the shoulder along the arm, m."""
        return self._metres(self.down_arm, "upper_arm_r", "forearm_r")

    def metres_down_leg(self) -> np.ndarray:
        """(V,) distance from the hip along the leg, m."""
        return self._metres(self.down_leg, "thigh_r", "shank_r")

    def _metres(self, down: np.ndarray, first: str, second: str) -> np.ndarray:
        a, b = (float(np.linalg.norm(self.segment(name)[1])) for name in (first, second))
        return np.where(down <= 1, down * a, a + (down - 1) * b)

    def smooth(self, values: np.ndarray, times: int, rate: float = 0.5) -> np.ndarray:
        """Values (V,) or (V,C) averaged with their neighbours `times` times."""
        for _ in range(times):
            values = values + rate * (self.mean @ values - values)
        return values

    def corner_uv(self, piece, radius: float = 0.13) -> np.ndarray:
        """Texture coordinates (F,3,2) in metres of a cut piece: every part its own cylinder.

        radius: of trunk and head, m; limbs take their own.
        """
        faces = piece.faces
        owner = np.where(piece.share < 0.5, piece.first, piece.second)
        part = np.sort(self.part[owner][faces], axis=1)[:, 1]  # of three corners, that of the middle one
        radii = np.array([radius, 0.1, 0.05, 0.05, 0.075, 0.075])[part]
        waves = np.concatenate([np.cos(self.angle), np.sin(self.angle), self.height])  # (3P, V)
        at = piece.apply(waves.T)  # (n, 3P)
        count = len(PARTS)
        cosine, sine, height = (at[faces, (part + k * count)[:, None]] for k in range(3))
        return cylinder_uv(np.arctan2(sine, cosine), height, radii)
