"""Recorded joint angles: clips in an .npz file or folders of .mot files, cut, cleaned and split by recording.

The .npz holds one array (frames, coordinates) a clip at 60 Hz, in radians and metres, and an array
``coordinates`` with the names of the columns. A .json of the same stem with a list of ``clip`` and ``file``
says which clips were recorded together.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.interpolate import CubicSpline
from scipy.spatial.transform import Rotation, Slerp

from odah.motions.tracks import Tracks
from pose2sim_biokin.errors import BiokinError
from pose2sim_biokin.io.atomic import OutputSet
from pose2sim_biokin.skeleton.model import Skeleton

FPS = 60.0
SPLITS = {"train": 0.7, "val": 0.1, "test": 0.2}
# A joint that turns faster than this between two frames has jumped: the recording is cut there.
_JUMP_RAD_S = 25.0


@dataclass(frozen=True)
class Recording:
    """A clean stretch of recorded motion at 60 Hz; ``group`` names what was recorded together."""

    name: str
    group: str
    tracks: Tracks


def read_clips(path: Path, skeleton: Skeleton, shortest: int = 32) -> list[Recording]:
    """Clean stretches of at least ``shortest`` frames of all clips of an .npz file.

    Raises:
        BiokinError: the file has no ``coordinates``, or they are not the skeleton's.
    """
    with np.load(path, allow_pickle=False) as archive:
        names = [str(n) for n in archive["coordinates"]] if "coordinates" in archive else []
        if sorted(names) != sorted(skeleton.coordinate_names):
            missing = ", ".join(sorted(set(skeleton.coordinate_names) - set(names))[:5]) or "none"
            raise BiokinError(
                f"{path}: its array 'coordinates' has {len(names)} names; expected the "
                f"{len(skeleton.coordinate_names)} of {skeleton.name} (missing: {missing}). "
                "Convert the motion to this skeleton."
            )
        order = [names.index(n) for n in skeleton.coordinate_names]
        clips = {
            key: archive[key][:, order].astype(np.float64) for key in archive.files if key != "coordinates"
        }
    groups = _groups(path, list(clips))
    recordings = []
    for name, q in clips.items():
        recordings += cut_recordings(name, groups[name], Tracks.from_coordinates(q, skeleton), FPS, shortest)
    return recordings


def cut_recordings(name: str, group: str, tracks: Tracks, fps: float, shortest: int = 32) -> list[Recording]:
    """The stretches without jumps of a motion at any rate, at FPS, of at least ``shortest`` frames there."""
    recordings = []
    for start, stop in _smooth_stretches(tracks, fps):
        count = int(np.floor((stop - 1 - start) * FPS / fps + 1e-6)) + 1
        if stop - start > 1 and count >= shortest:
            part = _cut(tracks, start, stop)
            if fps != FPS:
                part = resampled(part, fps / FPS * np.arange(count))
            recordings.append(Recording(f"{name}[{start}:{stop}]", group, part))
    return recordings


def resampled(tracks: Tracks, at: np.ndarray) -> Tracks:
    """The motion at ``at`` (T,) frames, between them by cubic splines, shoulders along the shortest arcs."""
    frames = np.arange(tracks.frames)
    at = np.minimum(at, tracks.frames - 1)
    curves = {n: CubicSpline(frames, c)(at) for n, c in tracks.curves.items()}
    shoulders = {
        side: Slerp(frames, Rotation.from_matrix(m))(at).as_matrix() for side, m in tracks.shoulders.items()
    }
    return Tracks(len(at), curves, shoulders)


def write_clips(path: Path, recordings: list[Recording], skeleton: Skeleton) -> Path:
    """Write recordings as an .npz that `read_clips` reads, and the .json that says what belongs together.

    Raises:
        BiokinError: there are none, the name does not end in .npz, or a file cannot be written.
    """
    if not recordings or path.suffix.lower() != ".npz":
        raise BiokinError(f"{path}: expected recordings and a name that ends in .npz.")
    clips = {f"{i:05d}_{r.name}": r for i, r in enumerate(recordings)}
    arrays = {
        name.replace("/", "_"): r.tracks.coordinates(skeleton).astype(np.float32) for name, r in clips.items()
    }
    listing = [
        {"clip": name, "file": f"{r.group}/{name}"} for name, r in zip(arrays, clips.values(), strict=True)
    ]
    with OutputSet() as outputs:
        np.savez_compressed(outputs.stage(path), coordinates=np.array(skeleton.coordinate_names), **arrays)
        outputs.stage(path.with_suffix(".json")).write_text(json.dumps(listing, indent=1), encoding="utf-8")
        outputs.commit()
    return path


def split_by_group(recordings: list[Recording]) -> dict[str, list[Recording]]:
    """Recordings by split; what was recorded together stays together. Shares follow SPLITS by frames."""
    frames: dict[str, int] = {}
    for r in recordings:
        frames[r.group] = frames.get(r.group, 0) + r.tracks.frames
    order = sorted(frames, key=lambda g: hashlib.sha256(g.encode("utf-8")).hexdigest())
    room = {split: SPLITS[split] * sum(frames.values()) for split in ("test", "val")}
    of_group = {}
    for group in order:
        # the split that lacks most takes the group, unless that would overshoot by much
        fits = [
            split
            for split in room
            if frames[group] <= room[split] + 0.15 * SPLITS[split] * sum(frames.values())
        ]
        of_group[group] = max(fits, key=lambda s: room[s] / SPLITS[s], default="train")
        if fits:
            room[of_group[group]] -= frames[group]
    return {split: [r for r in recordings if of_group[r.group] == split] for split in SPLITS}


def window(recording: Recording, start: float, frames: int, step: float) -> Tracks:
    """``frames`` frames from frame ``start`` on, ``step`` recorded frames apart; the ends are held."""
    at = np.clip(start + step * np.arange(frames), 0, recording.tracks.frames - 1)
    low = np.minimum(at.astype(int), recording.tracks.frames - 2)
    mix = at - low

    def blend(values: np.ndarray) -> np.ndarray:
        w = mix.reshape(-1, *[1] * (values.ndim - 1))
        return values[low] * (1 - w) + values[low + 1] * w

    curves = {n: blend(c) for n, c in recording.tracks.curves.items()}
    # the mean of two near rotations, made orthonormal again
    shoulders = {}
    for side, matrices in recording.tracks.shoulders.items():
        u, _, vt = np.linalg.svd(blend(matrices))
        shoulders[side] = u @ vt
    return Tracks(frames, curves, shoulders)


def _cut(tracks: Tracks, start: int, stop: int) -> Tracks:
    return Tracks(
        stop - start,
        {n: c[start:stop] for n, c in tracks.curves.items()},
        {s: m[start:stop] for s, m in tracks.shoulders.items()},
    )


def _smooth_stretches(tracks: Tracks, fps: float) -> list[tuple[int, int]]:
    speed = np.zeros(tracks.frames - 1)
    for curve in tracks.curves.values():
        speed = np.maximum(speed, np.abs(np.diff(np.radians(curve))) * fps)
    for matrices in tracks.shoulders.values():
        turned = np.einsum("tij,tij->t", matrices[1:], matrices[:-1])
        speed = np.maximum(speed, np.arccos(np.clip((turned - 1) / 2, -1, 1)) * fps)
    ends = [0, *(np.flatnonzero(speed > _JUMP_RAD_S) + 1).tolist(), tracks.frames]
    return list(zip(ends[:-1], ends[1:], strict=True))


def _groups(path: Path, names: list[str]) -> dict[str, str]:
    listing = path.with_suffix(".json")
    if not listing.exists():
        return {name: name for name in names}
    entries = json.loads(listing.read_text(encoding="utf-8"))
    folder = {e["clip"]: f"{e.get('source', '')}/{str(Path(e['file']).parent.as_posix())}" for e in entries}
    return {name: folder.get(name, name) for name in names}
