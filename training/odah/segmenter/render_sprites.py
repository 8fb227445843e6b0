"""Rendered people as sprites: ``python -m odah.segmenter.render_sprites --output DIR --subjects 300``.

Random subjects of the built-in body in random poses, simply dressed (labels per vertex, offset along the
normals), seen from anywhere, one four-channel PNG each: BGR + coverage. All follows the subject's seed.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F

from odah.bodies.open_body import OpenBody, Subject
from odah.motions.actions import ACTIONS, perform
from odah.motions.explore import explore
from odah.motions.gait import gait
from odah.render.rasterizer import Lights, interpolate, render, srgb_to_linear, vertex_normals
from odah.segmenter.backgrounds import Rng, random_colour, texture

SKIN, HAIR, UPPER, LOWER, SHOES = range(5)
HAIR_COLOURS = np.array(  # BGR
    [[20, 22, 25], [25, 38, 60], [60, 95, 140], [150, 190, 215], [170, 170, 170], [30, 50, 130]]
)
ARM = ((("humerus",), "upper_arm"), (("ulna", "radius"), "forearm"), (("hand",), None))
LEG = ((("femur",), "thigh"), (("tibia",), "shank"), (("calcn", "toes", "talus"), None))
PATCH = 96  # pixels of a garment's texture; it repeats over the body


def coordinates(rng: Rng, body: OpenBody, count: int) -> torch.Tensor:
    """(count, 39) poses: moments of one random motion, or of several."""
    rows = []
    while sum(len(r) for r in rows) < count:
        kind = rng.random()
        if kind < 0.35:
            tracks = explore(rng, 120, 20.0)
        elif kind < 0.5:
            tracks = gait(rng, 60, 20.0)
        else:
            tracks = perform(str(rng.choice(list(ACTIONS))), rng, 100, 20.0)
        motion = tracks.coordinates(body.skeleton)
        rows.append(motion[rng.choice(len(motion), 4, replace=False)])
    return torch.as_tensor(np.concatenate(rows)[:count], dtype=torch.float32)


def labels(rng: Rng, body: OpenBody, subject: Subject) -> torch.Tensor:
    """(V,) int64 what covers every vertex: skin, hair, a garment above, one below, shoes."""
    names = body.skeleton.body_names
    part = body.weights.argmax(1)
    rest = subject.vertices
    height = (rest[:, 1] - rest[:, 1].min()) / subject.stature

    def of(*bodies: str) -> torch.Tensor:
        return torch.stack([part == names.index(n) for n in bodies]).any(0)

    arm, leg = torch.full_like(height, -1.0), torch.full_like(height, -1.0)
    for side in "rl":
        for out, segments in (
            (arm, ARM),
            (leg, LEG),
        ):  # 0..1 along the first segment, 1..2 the second, then 2.5
            for start, (bodies, along) in enumerate(segments):
                inside = of(*(f"{b}_{side}" for b in bodies))
                out[inside] = (start + body.along[f"{along}_{side}"])[inside] if along else 2.5
    trunk = of("torso", "pelvis")
    limb = (arm > 0) | (leg > 0)
    label = torch.full_like(part, SKIN)
    sleeve = rng.choice([-1.0, 0.15, 0.6, 1.0, 2.0], p=[0.2, 0.2, 0.3, 0.1, 0.2]) + rng.normal(0, 0.06)
    trouser = rng.choice([0.25, 0.6, 1.1, 1.95], p=[0.25, 0.25, 0.1, 0.4]) + rng.normal(0, 0.06)
    hem, neck = rng.uniform(0.47, 0.6), rng.uniform(0.8, 0.84)
    if rng.random() < 0.15:
        hem = rng.uniform(0.62, 0.7)  # a short top
    label[(trunk & (height < rng.uniform(0.54, 0.61))) | ((leg >= -0.5) & (leg < trouser))] = LOWER
    if sleeve > 0:
        covered = (trunk & (height > hem) & (height < neck)) | ((arm >= -0.5) & (arm < sleeve))
        label[covered] = UPPER
    if rng.random() < 0.75:
        label[leg > rng.choice([2.2, 1.85])] = SHOES
    head = trunk & (height > 0.885) & ~limb
    front = rest[:, 0] - rest[head, 0].mean() if bool(head.any()) else rest[:, 0]
    low = rng.uniform(0.86, 0.93)
    label[
        trunk & (height > low) & ((front < rng.uniform(-0.03, 0.03)) | (height > rng.uniform(0.955, 0.975)))
    ] = HAIR
    return label


def dress(rng: Rng, body: OpenBody, subject: Subject, label: torch.Tensor) -> torch.Tensor:
    """(V, 3) rest vertices with cloth, shoes and hair standing off the skin."""
    looseness = torch.tensor(
        [
            0.0,
            rng.uniform(0.004, 0.035),
            rng.choice([0.003, 0.012, 0.025]),
            rng.choice([0.003, 0.01, 0.025]),
            0.009,
        ],
        dtype=torch.float32,
    )
    offset = looseness[label]
    for _ in range(2):  # cloth does not end in a step
        total = torch.zeros_like(offset)
        count = torch.zeros_like(offset)
        for a, b in ((0, 1), (1, 2), (2, 0)):
            total.index_add_(0, body.faces[:, a], offset[body.faces[:, b]])
            count.index_add_(0, body.faces[:, a], torch.ones(len(body.faces)))
        offset = 0.5 * offset + 0.5 * total / count.clamp_min(1)
    return subject.vertices + vertex_normals(subject.vertices[None], body.faces)[0] * offset[:, None]


def skin_colour(rng: Rng) -> np.ndarray:
    """(3,) BGR 0..255, from pale to dark."""
    stops = np.array(
        [[200, 215, 240], [150, 185, 225], [110, 150, 205], [70, 105, 160], [40, 62, 100], [25, 38, 60]]
    )
    position = rng.uniform(0, len(stops) - 1.001)
    low = int(position)
    return stops[low] + (position - low) * (stops[low + 1] - stops[low]) + rng.normal(0, 6, 3)


def materials(rng: Rng) -> torch.Tensor:
    """(5, PATCH, PATCH, 3) linear RGB texture of every label."""
    out = []
    for label in range(5):
        if label == SKIN:
            patch = np.ones((PATCH, PATCH, 3)) * skin_colour(rng) * rng.normal(1, 0.03, (PATCH, PATCH, 1))
        elif label == HAIR and rng.random() < 0.8:
            patch = np.ones((PATCH, PATCH, 3)) * HAIR_COLOURS[rng.integers(len(HAIR_COLOURS))]
            patch = patch * rng.normal(1, 0.15, (PATCH, PATCH, 1))
        elif rng.random() < 0.6:
            grey = rng.uniform(10, 240) if rng.random() < 0.5 else None
            colour = np.full(3, grey) if grey is not None else random_colour(rng)
            patch = np.ones((PATCH, PATCH, 3)) * colour * rng.normal(1, 0.04, (PATCH, PATCH, 1))
        else:
            patch = texture(rng, PATCH, [])
        out.append(np.clip(patch[..., ::-1], 0, 255) / 255)
    return srgb_to_linear(torch.as_tensor(np.stack(out), dtype=torch.float32))


def cameras(rng: Rng, vertices: torch.Tensor, size: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """K, R, t, one camera an item of vertices (n, V, 3; ground, Y up); the person fills its image."""
    ks, rs, ts = [], [], []
    for points in vertices.numpy():
        middle = (points.min(0) + points.max(0)) / 2
        azimuth, distance = rng.uniform(-np.pi, np.pi), rng.uniform(1.8, 6.5)
        height = rng.uniform(0.3, 2.8) - 1.0
        eye = middle + np.array([np.cos(azimuth) * distance, height, np.sin(azimuth) * distance])
        forward = (middle - eye) / np.linalg.norm(middle - eye)
        right = np.cross(forward, [0, 1, 0])
        right /= np.linalg.norm(right)
        rotation = np.stack([right, np.cross(forward, right), forward])
        camera = (points - eye) @ rotation.T
        plane = camera[:, :2] / np.maximum(camera[:, 2:], 0.1)
        low, high = plane.min(0), plane.max(0)
        focal = 0.94 * size / (high - low).max()
        centre = (size - 1) / 2 - focal * (low + high) / 2
        ks.append([[focal, 0, centre[0]], [0, focal, centre[1]], [0, 0, 1]])
        rs.append(rotation)
        ts.append(-rotation @ eye)
    return tuple(torch.as_tensor(np.array(x), dtype=torch.float32) for x in (ks, rs, ts))


def random_lights(rng: Rng, up: torch.Tensor) -> Lights:
    """A key light from above somewhere, one or two weaker ones, a hemisphere."""
    n = len(up)
    direction = torch.as_tensor(rng.normal(size=(n, 3, 3)), dtype=torch.float32)
    direction[:, 0] += 1.5 * up
    direction[..., 2] -= 0.5  # rather from the camera's side
    strength = torch.as_tensor(rng.uniform([0.3, 0.0, 0.0], [1.2, 0.5, 0.3], (n, 3)), dtype=torch.float32)
    tint = torch.as_tensor(rng.normal(1, 0.08, (n, 3, 3)), dtype=torch.float32)

    def ambient(low: float, high: float) -> torch.Tensor:
        return torch.as_tensor(
            rng.uniform(low, high, (n, 1)) * rng.normal(1, 0.05, (n, 3)), dtype=torch.float32
        )

    return Lights(
        F.normalize(direction, dim=-1),
        strength[..., None] * tint,
        up,
        ambient(0.2, 0.7),
        ambient(0.05, 0.4),
        torch.as_tensor(rng.uniform(0, 0.15, n), dtype=torch.float32),
        torch.as_tensor(rng.uniform(5, 40, n), dtype=torch.float32),
    )


def sprites_of(body: OpenBody, subject: Subject, poses: int, size: int) -> list[np.ndarray]:
    """Sprites (h, w, 4) of one subject in one outfit."""
    rng = np.random.default_rng([subject.seed, 0x5E6])
    label = labels(rng, body, subject)
    rest = dress(rng, body, subject, label)
    vertices = body.pose(subject, coordinates(rng, body, poses), rest)
    K, R, t = cameras(rng, vertices, size)
    maps = materials(rng)
    turn = torch.tensor(rng.uniform(-1, 1, 2), dtype=torch.float32)
    attributes = torch.cat([F.one_hot(label, 5).float(), subject.vertices], -1)[None]
    repeat = rng.uniform(0.25, 0.9)  # m a texture spans

    def albedo(fragments, faces):
        values = interpolate(fragments, faces, attributes)
        kind = values[..., :5].argmax(-1)
        x, y, z = values[..., 5:].unbind(-1)
        u = torch.remainder((z + turn[0] * x) / repeat, 1) * (PATCH - 1)
        v = torch.remainder((y + 0.2 * turn[1] * x) / repeat, 1) * (PATCH - 1)
        return maps[kind, v.long(), u.long()]

    up = R[:, :, 1]
    lights = random_lights(rng, up)
    image = render(
        vertices,
        body.faces,
        K,
        R,
        t,
        height=size,
        width=size,
        albedo=albedo,
        lights=lights,
        smooth=True,
        supersample=2,
    )
    out = []
    for rgb, mask in zip(image.rgb.numpy(), image.mask.numpy(), strict=True):
        sprite = np.dstack([rgb[..., ::-1], mask])
        rows, columns = np.nonzero(mask)
        sprite = sprite[
            max(rows.min() - 2, 0) : rows.max() + 3, max(columns.min() - 2, 0) : columns.max() + 3
        ]
        out.append(np.round(sprite * 255).astype(np.uint8))
    return out


@torch.no_grad()
def main() -> None:
    """Read the command line and render; sprites that are there already are kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--subjects", type=int, default=300)
    parser.add_argument("--first", type=int, default=0, help="seed of the first subject")
    parser.add_argument("--poses", type=int, default=12, help="sprites a subject")
    parser.add_argument("--size", type=int, default=288)
    parser.add_argument("--mesh", choices=("coarse", "fine"), default="fine")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    body = OpenBody(options.mesh)
    seeds = list(range(options.first, options.first + options.subjects))
    for start in range(0, len(seeds), 32):
        part = [s for s in seeds[start : start + 32] if not (options.output / f"{s:05d}_00.png").exists()]
        for subject in body.sample_subjects(part) if part else []:
            for k, sprite in enumerate(sprites_of(body, subject, options.poses, options.size)):
                path = options.output / f"{subject.seed:05d}_{k:02d}.png"
                path.with_suffix(".part").write_bytes(cv2.imencode(".png", sprite)[1].tobytes())
                path.with_suffix(".part").replace(path)
        print(f"{min(start + 32, len(seeds))} of {len(seeds)} subjects", flush=True)


if __name__ == "__main__":
    main()
