"""One synthetic clip: a subject performs a motion before two cameras; rendered straight into crop cameras."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from odah.bodies.open_body import OpenBody, Subject
from odah.motions.clips import Recording
from odah.motions.floor import stand_on_floor
from odah.motions.posture import shift_posture, tilt_pelvis
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
    motions: list[str]


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
    takes: int = 1,
    tilt: float = 0.0,
    shift: float = 0.0,
) -> RenderedClip:
    """Draw motions, an outfit, cameras and light from `seed`, and render.

    Args:
        recordings: those of the split.  frames: n.  dense: consecutive at 60 Hz, else spread over 4 s.
        size: side of the square crops in pixels.
        takes: parts of n / takes frames, each with a motion, cameras and light of its own. Dressing
            somebody costs as much as rendering ten frames: more takes show more for the same time.
        tilt: standard deviation, degrees, by which the pelvis is turned against thighs and trunk in each take
            (`odah.motions.posture`).
        shift: the same, by which every joint is turned in each take.

    Raises:
        ValueError: frames are no multiple of takes.
    """
    if frames % takes:
        raise ValueError(f"{frames} frames are no multiple of {takes} takes")
    rng = np.random.default_rng([seed, 0xC11B])
    skeleton = body.skeleton
    place = [skeleton.coordinate_index(f"pelvis_t{axis}") for axis in "xyz"]
    count = frames // takes
    drawn = [_motion(rng, body, subject, split, recordings, count, dense, tilt, shift) for _ in range(takes)]
    coordinates = np.concatenate([take.coordinates for take in drawn])
    lift = torch.as_tensor(np.concatenate([take.lift for take in drawn]))
    with torch.no_grad():
        q = torch.as_tensor(coordinates)
        bodies = body.kinematics(q, subject.scales)
        worn = dress(rng, body, subject, lambda rest: Posed(body.pose(subject, q, rest, bodies)), SUBJECT)
        person = DressedPerson(worn.meshes)
        rgb, mask, cameras = [], [], []
        for start in range(0, frames, count):
            take = slice(start, start + count)
            # The floor was found from the skeleton's feet; let the lowest point stand on it.
            sink = (person.vertices[take, :, 2].amin(1) - lift[take]).median()
            person.vertices[take, :, 2] -= sink
            coordinates[take, place[1]] -= float(sink)
            path = coordinates[take][:, [place[2], place[0], place[1]]].astype(np.float64)
            # the pelvis's X axis in ground (X, Y, Z) = world (Y, Z, X)
            forward = bodies.rotation[start, 0, :, 0]
            centers = two_cameras(rng, path, float(torch.atan2(forward[0], forward[2])))
            crops = crop_cameras(centers, person.vertices[take, ::_CROP_STRIDE].double().numpy(), size)
            K, R, t = (
                torch.as_tensor(np.array([[getattr(c, n) for c in pair] for pair in crops], dtype=np.float32))
                for n in ("K", "R", "t")
            )
            cameras.append((K, R, t))
            lights = random_lights(rng, R.flatten(0, 1))
            seen = np.repeat(np.arange(start, start + count), 2)
            for first in range(0, 2 * count, _BATCH):
                part = slice(first, first + _BATCH)
                now = type(lights)(*(value[part] for value in lights))
                image = person.render(seen[part], *(x.flatten(0, 1)[part] for x in (K, R, t)), size, now)
                rgb.append((image.rgb * 255 + 0.5).to(torch.uint8))
                mask.append((image.mask > 0.5).to(torch.uint8))
    K, R, t = (torch.cat(values).numpy() for values in zip(*cameras, strict=True))
    return RenderedClip(
        rgb=torch.cat(rgb).unflatten(0, (frames, 2)).numpy(),
        mask=torch.cat(mask).unflatten(0, (frames, 2)).numpy(),
        K=K,
        R=R,
        t=t,
        coordinates=coordinates,
        frame=np.concatenate([take.frame for take in drawn]),
        motions=[take.label for take in drawn for _ in range(count)],
    )


class _Take(NamedTuple):
    """A motion of n frames: coordinates (n, 39), lift (n,) above the floor, m, frame numbers, label."""

    coordinates: np.ndarray
    lift: np.ndarray
    frame: np.ndarray
    label: str


def _motion(
    rng: np.random.Generator,
    body: OpenBody,
    subject: Subject,
    split: str,
    recordings: list[Recording],
    frames: int,
    dense: bool,
    tilt: float,
    shift: float,
) -> _Take:
    """A motion somewhere in the room; see `render_clip`."""
    skeleton = body.skeleton
    length = frames if dense else SPREAD_FRAMES
    fps = FPS if dense else SPREAD_FPS
    motion = sample_motion(rng, split, recordings, length, body.kinematics, fps, everyday=True)
    coordinates = motion.coordinates
    if tilt:
        coordinates = tilt_pelvis(coordinates, np.radians(tilt) * rng.standard_normal(), skeleton)
    if shift:
        coordinates = shift_posture(coordinates, rng, np.radians(shift), skeleton)
    coordinates = stand_on_floor(coordinates, motion.lift, body.kinematics, subject.scales.numpy())
    index = np.arange(frames)
    if not dense:
        step = length / frames
        index = np.minimum((index * step + rng.uniform(0, step, frames)).astype(int), length - 1)
    coordinates[:, skeleton.coordinate_index("pelvis_tx")] += rng.uniform(-2, 2)
    coordinates[:, skeleton.coordinate_index("pelvis_tz")] += rng.uniform(-2, 2)
    return _Take(
        coordinates[index].astype(np.float32),
        motion.lift[index].astype(np.float32),
        index.astype(np.int32),
        f"{motion.kind}: {motion.name}",
    )
