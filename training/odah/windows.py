"""Windows of dense frames for the temporal refinement: what the frozen encoder says of them, kept on disk,
and the variations that need no new encoding.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from odah.augment import Augmentation, wrong_calibration
from odah.dataset import FrameMaker, RawBatch, ShardSet, Targets
from pose2sim_biokin.errors import BiokinError
from pose2sim_biokin.io.atomic import atomic_path
from pose2sim_biokin.network.biokin import BiokinNetwork, FrameBatch
from pose2sim_biokin.network.ensemble import VARIANTS, encode
from pose2sim_biokin.network.heads import AngleLayout, Pose
from pose2sim_biokin.network.mirror import mirror_keypoints, mirror_pose
from pose2sim_biokin.network.sequence import held_ends, turn_pose
from pose2sim_biokin.skeleton.model import Skeleton
from pose2sim_biokin.vision.canonical import ground_from_canonical_ground

SHORTEST = 8  # frames that a shortened window has left
_PART = 32  # windows a file
# What the strength of a window's augmentation multiplies.
_STRENGTHS = ("crop", "mask", "occlude", "light", "blur", "jpeg", "noise", "camera")


class Windows(NamedTuple):
    """Windows of T frames: what the encoder said, and the truth; poses (W, T, ...) in the world's ground.

    Attributes:
        pose: of the encoder.
        local: (W, T, 2 nb, 3 or 4) keypoints in the pelvis's estimated frame, or None; see FrameOutput.
        headings: (W, T, 3, 3) rotation of each frame's canonical ground in the world's ground.
        truth: see `pose`.
    """

    pose: Pose
    local: Tensor | None
    headings: Tensor
    truth: Pose

    def select(self, index) -> Windows:
        """Some windows."""
        return _map(lambda tensor: tensor[index], self)


def window_rows(shards: ShardSet, window: int, rate: float = 60.0) -> np.ndarray:
    """(W, window) rows of consecutive frames of one clip; clips that are longer give several windows.

    Raises:
        BiokinError: no clip is long enough, or frames are not at `rate` Hz.
    """
    for path in shards.paths:
        fps = json.loads((path / "manifest.json").read_text(encoding="utf-8")).get("fps", rate)
        if abs(fps - rate) > 1e-6:
            raise BiokinError(
                f"{path}: {fps:g} frames a second; windows need {rate:g} Hz (odah cache --dense)."
            )
    clip, frame = shards.column("clip"), shards.column("frame")
    shard = np.repeat(np.arange(len(shards.counts)), shards.counts)
    rows, first = [], 0
    for i in range(1, len(clip) + 1):
        going = (
            i < len(clip)
            and (clip[i], shard[i]) == (clip[i - 1], shard[i - 1])
            and frame[i] == frame[i - 1] + 1
        )
        if not going:
            rows += [np.arange(s, s + window) for s in range(first, i - window + 1, window)]
            first = i
    if not rows:
        raise BiokinError(f"No clip has {window} consecutive frames: run `odah crops --dense`.")
    return np.stack(rows)


def window_frames(
    layout: AngleLayout,
    points: int,
    shards: ShardSet,
    rows: np.ndarray,
    augmentation: Augmentation | None,
    rng: np.random.Generator,
) -> tuple[FrameBatch, Targets]:
    """The frames of one window, rows (T,), varied, as the encoder is shown them.

    Sides and views are exchanged, and what is behind and the strength of the rest are drawn, for the whole
    window; the rest itself differs from frame to frame. Frames that a camera has dropped show what it saw
    before.
    """
    raw = shards.rows(rows)
    if augmentation is not None:
        chances = augmentation.mirror, augmentation.swap, augmentation.scene
        mirror, swap, scene = (rng.random(3) < chances).astype(float)
        backdrops = augmentation.backdrops
        if scene:
            backdrops = backdrops.still(raw.rgb.shape[2], rng)
        strength = rng.random()
        weaker = {name: strength * getattr(augmentation, name) for name in _STRENGTHS}
        raw = drop_frames(raw, augmentation.drop, rng)
        if rng.random() < augmentation.calibration:
            size, flat = raw.rgb.shape[2], [np.concatenate(list(a)) for a in (raw.K, raw.R, raw.t)]
            wrong = wrong_calibration(*flat, size, rng, count=2)  # each view's, the same in all frames
            raw = raw._replace(
                **{n: a.reshape(getattr(raw, n).shape) for n, a in zip("KRt", wrong, strict=True)}
            )
        augmentation = replace(
            augmentation,
            mirror=mirror,
            swap=swap,
            scene=scene,
            backdrops=backdrops,
            crowd=0.0,  # who would jump about from frame to frame
            calibration=0.0,
            **weaker,
        )
    return FrameMaker(layout, points, augmentation)(raw, rng)


def drop_frames(raw: RawBatch, probability: float, rng: np.random.Generator) -> RawBatch:
    """A window in which, with a probability for each view, one to three times one to four frames are missing:
    the last picture before them is seen again, with its camera, while the truth goes on.
    """
    count = len(raw.rgb)
    parts = {name: getattr(raw, name).copy() for name in ("rgb", "mask", "K", "R", "t")}
    for view in range(2):
        if rng.random() >= probability:
            continue
        seen = np.arange(count)
        for _ in range(int(rng.integers(1, 4))):
            first, length = int(rng.integers(1, count)), int(rng.integers(1, 5))
            seen[first : first + length] = seen[first - 1]
        for array in parts.values():
            array[:, view] = array[seen, view]
    return raw._replace(**parts)


@torch.no_grad()
def encode_window(
    network: BiokinNetwork,
    shards: ShardSet,
    rows: np.ndarray,
    augmentation: Augmentation | None,
    rng: np.random.Generator,
    mixed: bool = False,
) -> Windows:
    """The encoder's poses (with the fit) of one window, rows (T,); no axis W. See `window_frames`."""
    network.eval()
    points = network.preset.points.in_use
    batch, truth = window_frames(network.layout, points, shards, rows, augmentation, rng)
    pose, local = encode(network, batch, mixed=mixed)
    turn, origin = ground_from_canonical_ground(truth.frame)
    return Windows(turn_pose(pose, turn, origin), local, turn, turn_pose(truth.pose, turn, origin))


def encode_windows(
    network: BiokinNetwork,
    shards: ShardSet,
    rows: np.ndarray,
    augmentation: Augmentation | None,
    seed: int,
    folder: Path,
    mixed: bool = False,
    log: Callable[[str], None] = print,
) -> Windows:
    """The encoder's poses of windows, rows (W, T), read from `folder` where they have been worked out before.

    A file holds the windows of 32 rows; its name is a hash of all that decides what is in it (weights,
    augmentation, seed, data), so a run that was cut off goes on, and other weights or data never meet.
    """
    folder.mkdir(parents=True, exist_ok=True)
    about = _digest_of_encoder(network) + _digest_of_augmentation(augmentation) + f"{seed} {mixed}"
    truth, cameras = shards.column("coordinates"), shards.column("t")
    parts = []
    for first in range(0, len(rows), _PART):
        chosen = rows[first : first + _PART]
        marks = [
            hashlib.sha256(truth[window].tobytes() + cameras[window].tobytes()).digest() for window in chosen
        ]
        path = folder / f"{hashlib.sha256(about.encode('utf-8') + b''.join(marks)).hexdigest()[:20]}.pt"
        if path.is_file():
            parts.append(_from_dict(torch.load(path, weights_only=True)))
            continue
        # The data themselves seed what varies: not their place among others, which may be added to.
        generators = [np.random.default_rng([seed, int.from_bytes(mark[:8], "big")]) for mark in marks]
        part = _stack(
            [
                encode_window(network, shards, window, augmentation, rng, mixed)
                for window, rng in zip(chosen, generators, strict=True)
            ]
        )
        with atomic_path(path) as partial:
            torch.save(_to_dict(part), partial)
        log(f"[windows] {first + len(chosen)} of {len(rows)} encoded")
        parts.append(part)
    return join_windows(parts)


def join_windows(parts: list[Windows]) -> Windows:
    """Several sets of windows as one."""
    return _combine(torch.cat, parts)


def mirrored(windows: Windows, skeleton: Skeleton) -> Windows:
    """The windows seen in a mirror: ground Z reversed, left and right exchanged.

    The encoder was trained on mirrored pictures, so it says nearly this of them (not exactly).
    """
    local = None if windows.local is None else mirror_keypoints(windows.local, skeleton)
    # In the mirror the first view still looks along the canonical ground's z, but its left, the canonical x
    # (vision.canonical), is where its right was.
    headings = windows.headings * torch.tensor([[1.0], [1.0], [-1.0]]) * torch.tensor([-1.0, 1.0, 1.0])
    return Windows(mirror_pose(windows.pose, skeleton), local, headings, mirror_pose(windows.truth, skeleton))


def reversed_in_time(windows: Windows) -> Windows:
    """The windows played backwards."""
    return _map(lambda tensor: tensor.flip(1), windows)


def turned(windows: Windows, rng: torch.Generator) -> Windows:
    """The windows with random headings of the frame they are refined in, as if filmed from elsewhere."""
    angle = torch.rand(len(windows.headings), 1, generator=rng) * 2 * math.pi
    c, s, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
    turn = torch.stack([c, zero, s, zero, zero + 1, zero, -s, zero, c], -1).unflatten(-1, (3, 3))
    return windows._replace(headings=turn @ windows.headings)


def shortened(windows: Windows, share: float, rng: torch.Generator) -> Windows:
    """A share of the windows cut to some of their frames, at least SHORTEST, the ends held as those of short
    sequences are.
    """
    count, window = windows.headings.shape[:2]
    index = torch.arange(window).repeat(count, 1)
    for row in torch.nonzero(torch.rand(count, generator=rng) < share)[:, 0]:
        frames = int(torch.randint(min(SHORTEST, window - 1), window, (), generator=rng))
        start = int(torch.randint(window - frames + 1, (), generator=rng))
        index[row] = start + held_ends(frames, window)[1]
    return _shown(windows, index)


def middle(windows: Windows, frames: int) -> tuple[Windows, slice]:
    """The windows cut to the frames in their middle, ends held; where these are, as before."""
    window = windows.headings.shape[1]
    before, index = held_ends(frames, window)
    return _shown(windows, (before + index).expand(len(windows.headings), -1)), slice(before, before + frames)


def varied(windows: Windows, skeleton: Skeleton, rng: torch.Generator) -> Windows:
    """A training batch: of the windows some mirrored, some played backwards, all turned."""
    index = torch.rand(2, len(windows.headings), generator=rng) < 0.5
    windows = _choose(index[0], mirrored(windows, skeleton), windows)
    windows = _choose(index[1], reversed_in_time(windows), windows)
    return turned(windows, rng)


def _shown(windows: Windows, index: Tensor) -> Windows:
    """Each window's frames `index` (W, T)."""
    rows = torch.arange(len(index))[:, None]
    return _map(lambda tensor: tensor[rows, index], windows)


def _choose(chosen: Tensor, yes: Windows, no: Windows) -> Windows:
    """Rows of `yes` where `chosen` (W,), rows of `no` elsewhere."""

    def pick(parts: list[Tensor]) -> Tensor:
        return torch.where(chosen.reshape(-1, *[1] * (parts[0].ndim - 1)), *parts)

    return _combine(pick, [yes, no])


def _digest_of_encoder(network: BiokinNetwork) -> str:
    digest = hashlib.sha256(f"{network.preset.fit} {network.preset.points.in_use} {VARIANTS}".encode())
    for name, value in network.state_dict().items():
        if name.startswith("refiner."):
            continue
        digest.update(name.encode("utf-8"))
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _digest_of_augmentation(augmentation: Augmentation | None) -> str:
    if augmentation is None:
        return " none "
    return str({f.name: getattr(augmentation, f.name) for f in fields(augmentation) if f.name != "skeleton"})


def _to_dict(windows: Windows) -> dict:
    return windows._asdict() | {name: getattr(windows, name)._asdict() for name in ("pose", "truth")}


def _from_dict(content: dict) -> Windows:
    return Windows(**content | {name: Pose(**content[name]) for name in ("pose", "truth")})


def _map(function, value):
    return _combine(lambda parts: function(parts[0]), [value])


def _stack(values):
    return _combine(torch.stack, values)


def _combine(function, values):
    """`function` of the list of tensors in each place of nested tuples that are alike; None stays None."""
    if values[0] is None:
        return None
    if isinstance(values[0], Tensor):
        return function(values)
    return type(values[0])(*(_combine(function, parts) for parts in zip(*values, strict=True)))
