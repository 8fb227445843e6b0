"""Several motions one after the other, blended, by somebody who stays within the room."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from odah.motions.clips import Recording
from odah.motions.floor import stand_on_floor
from odah.motions.sampler import sample_motion
from odah.motions.tracks import Tracks
from pose2sim_biokin.skeleton.kinematics import ForwardKinematics

REACH_M = 1.5  # a motion that would lead farther than this from the middle is turned back
TRAVEL_M = 3.0  # a motion that goes farther from where it began ends there
_BLEND_S = 0.6
_TURN_S = 1.2  # more time to blend for half a turn
_SHORTEST_S = 1.0
_STILL = 1e-9  # rad a frame: the held end of a recording that was too short


@dataclass(frozen=True)
class Sequence:
    """A motion of several pieces.

    Attributes:
        coordinates: (T, nc) rad and m, pelvis at the origin.
        lift: (T,) m, height of the lowest point above the floor.
        pieces: (first frame, kind, name) of each.
    """

    coordinates: np.ndarray
    lift: np.ndarray
    pieces: tuple[tuple[int, str, str], ...]


def sample_sequence(
    rng: np.random.Generator,
    split: str,
    recordings: list[Recording],
    frames: int,
    fk: ForwardKinematics,
    fps: float,
    piece_s: tuple[float, float] = (2.0, 5.0),
    shares: dict[str, float] | None = None,
) -> Sequence:
    """Random motions of a split until `frames` are full.

    Args:
        rng, split, recordings, fk, shares: see `sample_motion`.
        fps: Hz.
        piece_s: shortest and longest time of one motion, s.
    """
    joined: Tracks | None = None
    pieces: list[tuple[int, str, str]] = []
    while joined is None or joined.frames < frames:
        room = frames - (0 if joined is None else joined.frames)
        length = round(fps * rng.uniform(*piece_s))
        length = room if room - length < fps * piece_s[0] else length  # no short rest at the end
        spare = round(fps * (_BLEND_S + _TURN_S))
        drawn = sample_motion(rng, split, recordings, length + spare, fk, fps, shares, everyday=True)
        tracks = Tracks.from_coordinates(drawn.coordinates, fk.skeleton)
        tracks.lift = drawn.lift
        tracks = _cut(tracks, 0, max(_moving(drawn.coordinates), round(fps * _SHORTEST_S)))
        path = _path(tracks, fk)
        path = path - path[0]
        far = np.flatnonzero(np.linalg.norm(path, axis=1) > TRAVEL_M)
        if len(far):
            tracks = _cut(tracks, 0, max(int(far[0]), round(fps * _SHORTEST_S)))
        if joined is None:
            joined, start = _cut(tracks, 0, length), 0
        else:
            turn = _towards_the_middle(rng, _path(joined, fk)[-1], path[tracks.frames - 1], tracks)
            before = joined.get("turn")[-1]
            change = 0.0 if turn is None else (turn + tracks.get("turn")[0] - before + 180) % 360 - 180
            tracks.curves["turn"] = tracks.get("turn") - tracks.get("turn")[0] + before + change
            overlap = round(fps * (_BLEND_S + _TURN_S * abs(change) / 180))
            overlap = min(overlap, joined.frames // 2, tracks.frames // 2)
            start = joined.frames - overlap // 2
            joined = _joined(joined, _cut(tracks, 0, length + overlap), overlap)
        pieces.append((start, drawn.kind, drawn.name))
    joined = _cut(joined, 0, frames)
    kept = tuple(piece for piece in pieces if piece[0] < frames)
    return Sequence(joined.coordinates(fk.skeleton), joined.lift, kept)


def _towards_the_middle(
    rng: np.random.Generator, place: np.ndarray, way: np.ndarray, tracks: Tracks
) -> float | None:
    """Degrees to turn a motion so that it leads back; None if it may go wherever it goes.

    Args:
        place, way: (2,) ground (X, Z): where it begins, and how far it goes if it is not turned.
    """
    length = np.linalg.norm(way)
    if length < 0.5 or np.linalg.norm(place) + length < REACH_M:
        return None
    back = np.arctan2(place[1], -place[0])  # turning about Y takes X to -Z
    return float(np.degrees(back - np.arctan2(-way[1], way[0])) + rng.normal(0, 20))


def _path(tracks: Tracks, fk: ForwardKinematics) -> np.ndarray:
    """(T, 2) ground X and Z of the pelvis about their mean, m; of the unscaled skeleton."""
    q = stand_on_floor(
        tracks.coordinates(fk.skeleton), tracks.lift, fk, np.ones((len(fk.skeleton.body_names), 3))
    )
    return q[:, [fk.skeleton.coordinate_index("pelvis_tx"), fk.skeleton.coordinate_index("pelvis_tz")]]


def _moving(coordinates: np.ndarray) -> int:
    """Frames until nothing moves any more."""
    moves = np.flatnonzero(np.abs(np.diff(coordinates, axis=0)).max(1) > _STILL)
    return int(moves[-1]) + 2 if len(moves) else 0


def _cut(tracks: Tracks, start: int, stop: int) -> Tracks:
    stop = min(stop, tracks.frames)
    curves = {name: curve[start:stop] for name, curve in tracks.curves.items()}
    shoulders = {side: matrices[start:stop] for side, matrices in tracks.shoulders.items()}
    return Tracks(stop - start, curves, shoulders, tracks.lift[start:stop])


def _joined(first: Tracks, second: Tracks, overlap: int) -> Tracks:
    """Two motions as one; over the overlap the first gives way to the second."""
    s = (np.arange(overlap) + 1) / (overlap + 1)
    weight = s**3 * (10 - 15 * s + 6 * s * s)  # as `splines.ease`
    head = first.frames - overlap

    def blend(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.concatenate([a[:head], a[head:] + weight * (b[:overlap] - a[head:]), b[overlap:]])

    names = set(first.curves) | set(second.curves)
    curves = {name: blend(first.get(name), second.get(name)) for name in sorted(names)}
    shoulders = {}
    for side in first.shoulders:
        a, b = first.shoulders[side], second.shoulders[side]
        start = Rotation.from_matrix(a[head:])
        way = (start.inv() * Rotation.from_matrix(b[:overlap])).as_rotvec()
        middle = (start * Rotation.from_rotvec(way * weight[:, None])).as_matrix()
        shoulders[side] = np.concatenate([a[:head], middle, b[overlap:]])
    return Tracks(first.frames + second.frames - overlap, curves, shoulders, blend(first.lift, second.lift))
