"""One synthetic clip: a subject performs a motion before two cameras; rendered straight into crop cameras."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
import torch

from odah.bodies.open_body import OpenBody, Subject
from odah.motions.clips import Recording
from odah.motions.floor import stand_on_floor
from odah.motions.sampler import sample_motion
from odah.render.crowd import DressedPerson
from odah.scenes.cameras import crop_cameras, random_lights, two_cameras
from odah.scenes.people import dress
from odah.scenes.sampler import Posed
from odah.scenes.scene import SUBJECT

FPS = 60.0
SPREAD_FPS, SPREAD_FRAMES = 20.0, 80  # the motion that a sparse clip takes its frames from: 4 s
_BATCH = 32  # images rendered at once
_CROP_STRIDE = 4  # a quarter of the vertices bounds the person to within a pixel


@dataclass(frozen=True)
class RenderedClip:
    """Arrays of one clip, n frames; see `odah.crops` for their meaning."""

    rgb: np.ndarray
    mask: np.ndarray
    K: np.ndarray
    R: np.ndarray
    t: np.ndarray
    coordinates: np.ndarray
    frame: np.ndarray
    kind: str
    name: str


def stable_seed(*parts: object) -> int:
    """Seed from any printable parts, the same on every machine and run."""
    return zlib.crc32("/".join(map(str, parts)).encode("utf-8"))


def render_clip(
    body: OpenBody,
    subject: Subject,
    split: str,
    recordings: list[Recording],
    seed: int,
    frames: int,
    dense: bool,
    size: int,
) -> RenderedClip:
    """Draw a motion, an outfit, cameras and light from `seed`, and render.

    Args:
        recordings: those of the split.  frames: n.  dense: consecutive at 60 Hz, else spread over 4 s.
        size: side of the square crops in pixels.
    """
    rng = np.random.default_rng([seed, 0xC11B])
    skeleton = body.skeleton
    length = frames if dense else SPREAD_FRAMES
    fps = FPS if dense else SPREAD_FPS
    motion = sample_motion(rng, split, recordings, length, body.kinematics, fps, everyday=True)
    coordinates = stand_on_floor(motion.coordinates, motion.lift, body.kinematics, subject.scales.numpy())
    index = np.arange(frames)
    if not dense:
        step = length / frames
        index = np.minimum((index * step + rng.uniform(0, step, frames)).astype(int), length - 1)
    place = [skeleton.coordinate_index(f"pelvis_t{axis}") for axis in "xyz"]
    coordinates[:, place[0]] += rng.uniform(-2, 2)
    coordinates[:, place[2]] += rng.uniform(-2, 2)
    coordinates = coordinates[index].astype(np.float32)
    with torch.no_grad():
        q = torch.as_tensor(coordinates)
        bodies = body.kinematics(q, subject.scales)
        worn = dress(rng, body, subject, lambda rest: Posed(body.pose(subject, q, rest, bodies)), SUBJECT)
        person = DressedPerson(worn.meshes)
        # The floor was found from the skeleton's feet; let the lowest point stand on it.
        lift = torch.as_tensor(motion.lift[index].astype(np.float32))
        sink = (person.vertices[..., 2].amin(1) - lift).median()
        person.vertices[..., 2] -= sink
        coordinates[:, place[1]] -= float(sink)
        path = coordinates[:, [place[2], place[0], place[1]]].astype(np.float64)
        forward = bodies.rotation[0, 0, :, 0]  # the pelvis's X axis in ground (X, Y, Z) = world (Y, Z, X)
        heading = float(torch.atan2(forward[0], forward[2]))
        centers = two_cameras(rng, path, heading)
        crops = crop_cameras(centers, person.vertices[:, ::_CROP_STRIDE].double().numpy(), size)
        K, R, t = (
            torch.as_tensor(np.array([[getattr(c, name) for c in pair] for pair in crops], dtype=np.float32))
            for name in ("K", "R", "t")
        )
        lights = random_lights(rng, R.flatten(0, 1))
        rgb, mask = [], []
        seen = np.repeat(np.arange(frames), 2)
        for start in range(0, 2 * frames, _BATCH):
            part = slice(start, start + _BATCH)
            now = type(lights)(*(value[part] for value in lights))
            image = person.render(seen[part], *(x.flatten(0, 1)[part] for x in (K, R, t)), size, now)
            rgb.append((image.rgb * 255 + 0.5).to(torch.uint8))
            mask.append((image.mask > 0.5).to(torch.uint8))
    return RenderedClip(
        rgb=torch.cat(rgb).unflatten(0, (frames, 2)).numpy(),
        mask=torch.cat(mask).unflatten(0, (frames, 2)).numpy(),
        K=K.numpy(),
        R=R.numpy(),
        t=t.numpy(),
        coordinates=coordinates,
        frame=index.astype(np.int32),
        kind=motion.kind,
        name=motion.name,
    )
