"""What is around people: rooms with furniture and lamps, or open ground under a sky. World: Z up, m."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from odah.scenes.furniture import INDOORS, OUTDOORS, build
from odah.scenes.primitives import box, grid_faces, make_mesh, plane
from odah.scenes.scene import AreaLight, Material, Mesh, Sky, Sun
from odah.scenes.textures import (
    FLOORS,
    GROUNDS,
    WALL_SHARES,
    WALLS,
    Rng,
    noise,
    plain_material,
    print_blotches,
    shifted,
    surface,
)

CLEAR_M = 0.55  # furniture keeps this far from where a person is
_WALL_GAP_M = 0.5  # cameras and people keep this far from walls
_OPEN_M = 60.0  # half width of open ground


@dataclass(frozen=True)
class Surroundings:
    """All but people and cameras.

    Attributes:
        extent: (2,2) corners of the floor in its own axes; yaw: of these axes, rad; None and 0 outdoors.
        ambient: roughly what comes from all around besides the lamps, W/m2, for exposure.
    """

    meshes: tuple[Mesh, ...]
    lights: tuple[AreaLight, ...]
    sun: Sun | None
    sky: Sky
    notes: dict
    extent: np.ndarray | None = None
    yaw: float = 0.0
    ambient: float = 0.0

    def holds(self, place: np.ndarray, radius: float) -> bool:
        """Whether a thing of this radius at (x, y) is inside the room; outdoors always."""
        if self.extent is None:
            return True
        at = place @ _turn(self.yaw)
        return bool((at > self.extent[0] + radius).all() and (at < self.extent[1] - radius).all())


class Ground:
    """Where on the floor something may stand.

    Args:
        path: (n,2) where people are.  centres: (m,2) cameras.
    """

    def __init__(self, path: np.ndarray, centres: np.ndarray):
        self.path, self.centres = path, centres
        self.taken: list[tuple[np.ndarray, float]] = []

    def free(self, place: np.ndarray, radius: float, in_view: bool = False) -> bool:
        """Whether a thing of this radius fits; in_view: it may stand between a camera and people."""
        if np.linalg.norm(self.path - place, axis=1).min() < radius + CLEAR_M:
            return False
        if len(self.centres) and np.linalg.norm(self.centres - place, axis=1).min() < radius + 0.4:
            return False
        if any(np.linalg.norm(place - other) < radius + r for other, r in self.taken):
            return False
        return in_view or not any(self._between(place, radius, c) for c in self.centres)

    def _between(self, place: np.ndarray, radius: float, centre: np.ndarray) -> bool:
        """Whether the place hides anyone from a camera: it is nearer and in the same direction."""
        to_path, to_place = self.path - centre, place - centre
        distance = np.linalg.norm(to_place)
        lengths = np.linalg.norm(to_path, axis=1)
        cosine = to_path @ to_place / np.maximum(lengths * distance, 1e-9)
        wide = np.arcsin(min(1.0, (radius + 0.7) / max(distance, 1e-6)))
        return bool(((cosine > np.cos(min(wide + 0.1, 3.0))) & (lengths > distance - radius)).any())

    def covers(self, place: np.ndarray, half: float) -> bool:
        """Whether a thing of this half width, however tall, would hide the middle of people's way."""
        middle = self.path.mean(0)
        for centre in self.centres:
            way = middle - centre
            length = np.linalg.norm(way)
            along = (place - centre) @ way / length
            across = abs(way[0] * (place - centre)[1] - way[1] * (place - centre)[0]) / length
            if 0 < along < length and across / max(along, 1e-6) * length < half * length / along + 0.15:
                return True
        return False

    def take(self, place: np.ndarray, radius: float) -> None:
        """Remember that something stands there."""
        self.taken.append((place, radius))


def _turn(yaw: float) -> np.ndarray:
    return np.array([[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]])


def room(rng: Rng, path: np.ndarray, centres: np.ndarray, top: float) -> Surroundings:
    """A room about people and cameras, all of them inside.

    Args:
        path: (n,2) where people are; centres: (m,3) cameras; top: highest point of people, m.
    """
    yaw = rng.uniform(-np.pi, np.pi)
    turn = _turn(yaw)
    inside = np.concatenate([path, centres[:, :2]]) @ turn
    low = inside.min(0) - _WALL_GAP_M - rng.exponential(0.8, 2)
    high = inside.max(0) + _WALL_GAP_M + rng.exponential(0.8, 2)
    grow = np.maximum(3.5 - (high - low), 0) / 2
    low, high = low - grow, high + grow
    least = max(2.4, top + 0.15, centres[:, 2].max() + 0.25)
    height = least + rng.exponential(0.35)
    ceiling = bool(rng.random() < 0.65)
    swatches = {"floor": surface(rng, FLOORS), "walls": surface(rng, WALLS, WALL_SHARES)}
    meshes = [_flat("floor", low, high, 0.0, swatches["floor"], turn, up=True)]
    if ceiling:
        white = surface(rng, {"plaster": WALLS["plaster"], "tiles": FLOORS["tiles"]}, size=256)
        meshes.append(_flat("ceiling", low, high, height, white, turn, up=False))
    meshes += _walls(rng, low, high, height, swatches["walls"], turn)
    ground = Ground(path, centres[:, :2])
    things = 0
    for n in range(rng.poisson(4)):
        builder, radius = build(rng, INDOORS, f"thing {n}")
        for _ in range(12):
            place = _near_wall(rng, low, high, radius)
            if (high - low).min() > 2 * radius + 0.2 and ground.free(turn @ place, radius):
                ground.take(turn @ place, radius)
                quarter = yaw + rng.integers(4) * np.pi / 2 + rng.normal(0, 0.05)
                meshes += builder.placed(turn @ place, quarter)
                things += 1
                break
    lights, sky, ambient = _lamps(rng, low, high, height, turn, ceiling)
    notes = {
        "kind": "room",
        "size_m": [round(float(v), 2) for v in (*(high - low), height)],
        "floor": swatches["floor"].notes["kind"],
        "walls": swatches["walls"].notes["kind"],
        "ceiling": ceiling,
        "furniture": things,
        "lights": len(lights),
    }
    return Surroundings(tuple(meshes), lights, None, sky, notes, np.stack([low, high]), yaw, ambient)


def _flat(name: str, low, high, z: float, swatch, turn: np.ndarray, up: bool) -> Mesh:
    """A floor or a ceiling between two corners in turned axes."""
    u, v = turn @ [high[0] - low[0], 0], turn @ [0, high[1] - low[1]]
    start = np.append(turn @ low, z)
    u, v = np.append(u, 0), np.append(v, 0)
    return plane(name, start, *((u, v) if up else (v, u)), swatch.material, swatch.metres)


def _walls(rng: Rng, low, high, height: float, swatch, turn: np.ndarray) -> list[Mesh]:
    corners = np.array([low, [high[0], low[1]], high, [low[0], high[1]]]) @ turn.T
    skirting = plain_material(shifted(rng, np.full(3, rng.choice([60.0, 220.0])), 0.1), 0.6, 0.2)
    meshes = []
    for k in range(4):
        a, b = corners[k], corners[(k + 1) % 4]
        other = surface(rng, WALLS, WALL_SHARES, 256) if rng.random() < 0.25 else swatch
        start, along = np.append(b, 0), np.append(a - b, 0)
        up = np.array([0, 0, height])
        meshes.append(plane(f"wall {k}", start, along, up, other.material, other.metres))
        along, length = along / np.linalg.norm(along), np.linalg.norm(along)
        inward = np.cross(along, [0, 0, 1.0])
        angle = float(np.arctan2(along[1], along[0]))
        middle = start + along * length / 2 + inward * 0.008
        meshes.append(box(f"skirting {k}", middle + [0, 0, 0.04], [length, 0.014, 0.08], skirting, angle))
        at = rng.uniform(0.1, 0.6)
        while at < length - 0.9:
            width = float(rng.uniform(0.5, 1.8))
            if at + width > length - 0.1:
                break
            if rng.random() < 0.55:
                spot = start + along * (at + width / 2)
                meshes += _on_wall(rng, f"wall {k} at {len(meshes)}", spot, along, inward, width, height)
            at += width + rng.uniform(0.2, 1.5)
    return meshes


def _on_wall(rng: Rng, name: str, spot, along, inward, width: float, height: float) -> list[Mesh]:
    """A window, door, poster or board on a wall; spot: on the floor below its middle."""
    kind = rng.choice(["window", "door", "poster", "board"], p=[0.35, 0.2, 0.3, 0.15])
    if kind == "door":
        width, low, tall = 0.95, 0.0, min(2.05, height - 0.1)
        picture = surface(rng, {"panels": WALLS["panels"], "plaster": WALLS["plaster"]}, size=128).material
    elif kind == "window":
        low, tall = rng.uniform(0.5, 1.1), rng.uniform(0.9, 1.4)
        picture = Material(_outside(rng), 0.1, 0.5)
    else:
        low, tall = rng.uniform(0.9, 1.4), rng.uniform(0.4, 0.9)
        colours = rng.uniform(20, 240, (2, 3))
        poster = print_blotches(rng, 128, *colours)
        board = np.full((2, 2, 3), rng.choice([60, 240]))
        picture = Material((poster if kind == "poster" else board).astype(np.uint8), 0.5, 0.3)
    tall = min(tall, height - low - 0.05)
    if tall < 0.3:
        return []
    angle = float(np.arctan2(along[1], along[0]))
    frame = plain_material(shifted(rng, np.full(3, rng.choice([40.0, 130.0, 235.0])), 0.1), 0.5, 0.3)
    middle = spot + inward * 0.015 + [0, 0, low + tall / 2]
    back = box(f"{name} frame", middle, [width + 0.08, 0.03, tall + 0.08], frame, angle)
    corner = middle - along * width / 2 + inward * 0.02 - [0, 0, tall / 2]
    pane = plane(f"{name} {kind}", corner, along * width, np.array([0, 0, tall]), picture)
    span = np.array([width, tall])
    pane = make_mesh(pane.name, pane.vertices, pane.faces, pane.uv / span, picture)
    parts = [back, pane]
    if kind == "window":
        bar = [0.04, 0.03, tall]
        parts.append(box(f"{name} bar", middle + inward * 0.02, bar, frame, angle))
    return parts


def _outside(rng: Rng) -> np.ndarray:
    """A blurred view out of a window, (128,128,3) uint8."""
    y = np.linspace(1, 0, 128)[:, None, None]
    sky, land = np.array([205, 225, 248.0]), shifted(rng, np.array([110, 130, 96.0]), 0.3)
    horizon = rng.uniform(0.2, 0.5) + 0.06 * noise(rng, 128, (3, 7))[64][None, :, None]
    picture = np.where(y > horizon, sky * (0.85 + 0.15 * y), land * (0.7 + 0.5 * y))
    return np.clip(picture + 10 * noise(rng, 128, (7, 17))[..., None], 0, 255).astype(np.uint8)


def _near_wall(rng: Rng, low, high, radius: float) -> np.ndarray:
    """(2,) a place in turned axes, more often along a wall."""
    margin = np.minimum(radius + 0.05, (high - low) / 2 - 0.01)
    place = rng.uniform(low + margin, high - margin)
    if rng.random() < 0.8:
        axis = rng.integers(2)
        place[axis] = (low + margin)[axis] if rng.random() < 0.5 else (high - margin)[axis]
    return place


def _tint(rng: Rng, warm: float = 0.12) -> np.ndarray:
    """(3,) colour of a light of unit brightness, from warm to cold white."""
    t = rng.normal(0, warm)
    colour = np.array([1 + t, 1.0, 1 - t]).clip(0.5, 1.5)
    return colour / colour.mean()


def _lamps(
    rng: Rng, low, high, height: float, turn, ceiling: bool
) -> tuple[tuple[AreaLight, ...], Sky, float]:
    """Panels under the ceiling, sometimes a window's or a lamp's light from the side."""
    span = high - low
    tint = _tint(rng)
    count = np.clip(np.round(span / rng.uniform(2.0, 3.5)), 1, 3).astype(int)
    half = rng.uniform(0.12, 0.5, 2) if rng.random() < 0.7 else np.array([0.1, 0.6])
    lights = []
    for i in range(count[0]):
        for j in range(count[1]):
            if len(lights) and rng.random() < 0.15:
                continue
            at = low + span * (np.array([i, j]) + 0.5) / count
            u, v = np.append(turn @ [half[0], 0], 0), np.append(turn @ [0, -half[1]], 0)
            radiance = tint * rng.uniform(0.6, 1.4) * 10
            lights.append(AreaLight(np.append(turn @ at, height - 0.03), u, v, radiance))
    if rng.random() < 0.5:  # daylight from one side, or a studio lamp
        axis, sign = rng.integers(2), rng.choice([-1.0, 1.0])
        at = low + span * rng.uniform(0.3, 0.7, 2)
        at[axis] = (low + 0.06)[axis] if sign < 0 else (high - 0.06)[axis]
        inward = np.zeros(2)
        inward[axis] = -sign
        across = np.append(turn @ np.array([-inward[1], inward[0]]), 0) * rng.uniform(0.3, 0.7)
        up = np.array([0, 0, rng.uniform(0.3, 0.6)])
        middle = np.append(turn @ at, min(rng.uniform(1.4, 2.2), height - 0.7))
        lights.append(AreaLight(middle, across, up, _tint(rng, 0.2) * rng.uniform(4, 30)))
    flux = sum(np.pi * 4 * np.linalg.norm(np.cross(a.u, a.v)) * a.radiance for a in lights)
    surface_area = 2 * span.prod() + 2 * span.sum() * height
    share = 0.5 if ceiling else 0.35
    bounce = float(flux.mean() / surface_area * share / (1 - share))
    over = _tint(rng) * bounce / np.pi * (1.0 if ceiling else rng.uniform(1.5, 4))
    return tuple(lights), Sky(over, 0.9 * over, 0.5 * over), float(bounce if ceiling else 2 * bounce)


def outdoors(rng: Rng, path: np.ndarray, centres: np.ndarray) -> Surroundings:
    """Open ground, a few things far off, sun or clouds."""
    swatch = surface(rng, GROUNDS)
    middle = path.mean(0)
    reach = max(np.linalg.norm(centres[:, :2] - middle, axis=1).max(), np.abs(path - middle).max()) + 1.5
    fine = np.arange(-np.ceil(reach), np.ceil(reach) + 1)
    far = np.linspace(reach + 3, _OPEN_M, 7)
    lines = np.concatenate([-far[::-1], fine, far])
    a, b = np.meshgrid(lines, lines, indexing="ij")
    points = np.stack([a.ravel() + middle[0], b.ravel() + middle[1], np.zeros(a.size)], 1)
    faces = grid_faces(len(lines), len(lines))
    meshes = [make_mesh("ground", points, faces, points[:, :2] / swatch.metres, swatch.material)]
    ground = Ground(path, centres[:, :2])
    things = 0
    for n in range(rng.poisson(9)):
        builder, radius = build(rng, OUTDOORS, f"thing {n}")
        distance = reach + radius + rng.exponential(7)
        angle = rng.uniform(-np.pi, np.pi)
        place = middle + distance * np.array([np.cos(angle), np.sin(angle)])
        if distance < 0.8 * _OPEN_M and ground.free(place, radius):
            ground.take(place, radius)
            meshes += builder.placed(place, rng.uniform(-np.pi, np.pi))
            things += 1
    clouds = float(rng.beta(0.6, 0.9))
    elevation, azimuth = np.deg2rad(rng.uniform(12, 70)), rng.uniform(-np.pi, np.pi)
    direction = np.array(
        [np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)]
    )
    low_sun = 1 - np.sin(elevation)
    warm = np.array([1.0, 0.95 - 0.15 * low_sun**2, 0.88 - 0.35 * low_sun**2])
    blue, grey = np.array([0.35, 0.55, 1.0]), np.array([0.9, 0.93, 1.0])
    zenith = (blue * (1 - clouds) + grey * clouds) * rng.uniform(0.8, 1.2)
    horizon = (np.array([0.8, 0.9, 1.0]) * (1 - clouds) + grey * clouds) * rng.uniform(0.8, 1.2)
    tone = np.mean(np.array(swatch.notes["colour"]) / 255) ** 2.2
    sky = Sky(zenith, horizon, np.full(3, max(tone, 0.05)))
    sun = Sun(direction, warm * 10 * (1 - clouds) ** 1.5, float(0.01 + 0.15 * clouds))
    notes = {
        "kind": "outdoors",
        "floor": swatch.notes["kind"],
        "things": things,
        "clouds": round(clouds, 3),
        "sun_elevation_deg": round(float(np.rad2deg(elevation)), 1),
    }
    return Surroundings(tuple(meshes), (), sun if clouds < 0.85 else None, sky, notes, ambient=1.2)


def irradiance(around: Surroundings, point: np.ndarray, normal: np.ndarray) -> float:
    """Direct light and roughly what comes from all around on a small surface; W/m2, mean of RGB."""
    total = around.ambient
    for lamp in around.lights:
        steps = (np.arange(3) + 0.5) / 1.5 - 1
        a, b = np.meshgrid(steps, steps)
        points = lamp.centre + a.reshape(-1, 1) * lamp.u + b.reshape(-1, 1) * lamp.v
        area = np.cross(lamp.u, lamp.v)
        to = points - point
        squared = (to**2).sum(1)
        here = np.maximum(to @ normal, 0) / np.sqrt(squared)
        there = np.maximum(-to @ area, 0) / np.sqrt(squared)  # times the area of a quarter
        total += float((here * there * 4 / squared).mean() * np.mean(lamp.radiance))
    if around.sun is not None:
        total += float(max(around.sun.direction @ normal, 0) * np.mean(around.sun.irradiance))
    if not around.lights:
        total += np.pi * float(np.mean(around.sky.horizon + around.sky.zenith)) / 2 * (0.5 + 0.5 * normal[2])
    return total
