"""Who is the subject: the same person in two views, found by geometry and followed through the recording.

Two silhouettes of one body touch the same planes through the two optical centres: turned about the baseline,
both reach from the same lowest to the same highest angle, whatever the body's shape and pose (epipolar
tangency). Pairs of masks that do, and whose centre rays meet in front of both cameras, are one person; a
bystander seen in one view only is never paired. Pairs are linked over time where the distance can be walked,
and the person who is largest and most present is the subject.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.optimize import linear_sum_assignment

from pose2sim_biokin.vision.camera import Camera
from pose2sim_biokin.vision.masks import PackedMask, TrackedMask

Tracked = Mapping[int, Sequence[TrackedMask]]

_AGREE = 0.65  # least agreement of two masks of one person
_MEET_M = 0.5  # farthest that the rays through the centres of two masks of one person may pass
_WALK_M_S = 4.0
_SLACK_M = 0.5
_LINK_S = 2.0  # a person who was not seen for longer starts anew
_HEIGHT_M = (0.4, 3.0)
_SAME_HEIGHT = 1.6


@dataclass(frozen=True, eq=False)
class Sighting:
    """One person in one frame, seen in both views: indexes of the masks, agreement 0..1 and where (3,) in
    metres.
    """

    frame: int
    first: int
    second: int
    agreement: float
    position: np.ndarray
    size: float
    tracks: tuple[int, int]


@dataclass(frozen=True, eq=False)
class Subject:
    """The subject's masks.

    Attributes:
        masks: for each of the two views, the mask of every frame in which the subject was found there.
        positions: where the person was, (3,) metres in the world, for the frames in which both views agree.
        people: how many people both views agree on, the subject included.
    """

    masks: tuple[dict[int, PackedMask], dict[int, PackedMask]]
    positions: dict[int, np.ndarray]
    people: int

    def found(self, frames: Sequence[int]) -> np.ndarray:
        """(T, 2) bool: the subject was found in these frames, in each view."""
        return np.array([[f in view for view in self.masks] for f in frames], bool).reshape(-1, 2)

    def frames_without_network(self, view: int) -> list[int]:
        """Frames in which only the difference to the background showed the subject in view 0 or 1."""
        return sorted(frame for frame, mask in self.masks[view].items() if mask.score == 0)


@dataclass(eq=False)
class _Person:
    sightings: list[Sighting] = field(default_factory=list)
    beside: set[tuple[int, int]] = field(
        default_factory=set
    )  # (view, track) seen at the same time: someone else

    @property
    def last(self) -> Sighting:
        return self.sightings[-1]

    @property
    def score(self) -> float:
        return sum(s.agreement * s.size for s in self.sightings)

    @property
    def frames(self) -> set[int]:
        return {s.frame for s in self.sightings}

    @property
    def tracks(self) -> set[tuple[int, int]]:
        return {(view, s.tracks[view]) for s in self.sightings for view in (0, 1)}


def choose_subject(cameras: Sequence[Camera], tracked: Sequence[Tracked], fps: float) -> Subject:
    """The subject's masks in two views.

    Args:
        cameras: the two cameras.
        tracked: for each view, the tracked masks of every frame (``PersonTracker.frames``); frame numbers are
            those of the synchronised recording.
        fps: frames a second, for how far a person can walk between frames.

    Returns:
        The person who is largest and most present among those that both views agree on. A frame in which only
        one view's mask carries on the subject's track is kept for that view.
    """
    if len(cameras) != 2 or len(tracked) != 2:
        raise ValueError("the subject is chosen over two views")
    geometry = PairGeometry(*cameras)
    people = _link(geometry, tracked, fps)
    if not people:
        return Subject(({}, {}), {}, 0)
    people.sort(key=lambda person: -person.score)
    subject = _without_strangers(_join(people, fps), tracked)
    sightings = {s.frame: s for s in subject.sightings}
    masks: tuple[dict[int, PackedMask], dict[int, PackedMask]] = ({}, {})
    for view, tracks in enumerate(_own_tracks(subject, people)):
        for frame, candidates in tracked[view].items():
            if frame in sightings:
                index = (sightings[frame].first, sightings[frame].second)[view]
                masks[view][frame] = candidates[index].mask
                continue
            carried = [c.mask for c in candidates if c.track in tracks]
            if len(carried) == 1:
                masks[view][frame] = carried[0]
    own = {id(s) for s in subject.sightings}
    others = [p for p in people if id(p.sightings[0]) not in own and p.frames & subject.frames]
    lasting = [p for p in others if len(p.sightings) > 0.1 * len(subject.sightings)]
    positions = {s.frame: s.position for s in subject.sightings}
    return Subject(masks, positions, 1 + len(lasting))


def pair_presence(cameras: Sequence[Camera], tracked: Sequence[Tracked]) -> np.ndarray:
    """(V, V) share of the frames in which two of V views agree on a person; the diagonal is each view's own.

    ``tracked`` as for :func:`choose_subject`, one a view; a sparse sample of frames will do.
    """
    frames = sorted(set().union(*(set(view) for view in tracked)))
    presence = np.zeros((len(cameras), len(cameras)))
    if not frames:
        return presence
    for i in range(len(cameras)):
        presence[i, i] = sum(bool(tracked[i].get(f)) for f in frames) / len(frames)
        for j in range(i + 1, len(cameras)):
            geometry = PairGeometry(cameras[i], cameras[j])
            seen = sum(
                bool(_sightings(geometry, f, tracked[i].get(f, ()), tracked[j].get(f, ()))) for f in frames
            )
            presence[i, j] = presence[j, i] = seen / len(frames)
    return presence


class PairGeometry:
    """How well masks of two cameras can show the same person."""

    def __init__(self, first: Camera, second: Camera) -> None:
        self.cameras = (first, second)
        self.centers = np.stack([first.center, second.center])
        baseline = self.centers[1] - self.centers[0]
        self.axis = baseline / max(np.linalg.norm(baseline), 1e-9)
        # two directions square to the baseline: planes through it are told apart by their angle
        helper = np.eye(3)[np.argmin(np.abs(self.axis))]
        self.across = np.cross(self.axis, helper)
        self.across /= np.linalg.norm(self.across)
        self.up = np.cross(self.axis, self.across)

    def describe(self, view: int, mask: PackedMask) -> tuple[np.ndarray, np.ndarray]:
        """World rays of a mask in view 0 or 1: outline (M, 3) and centre (3,)."""
        camera = self.cameras[view]
        rays = camera.pixels_to_world_rays(np.vstack([mask.outline, mask.centroid]))
        return rays[:-1], rays[-1]

    def compare(
        self, first: tuple[np.ndarray, np.ndarray], second: tuple[np.ndarray, np.ndarray]
    ) -> tuple[float, np.ndarray | None]:
        """Agreement 0..1 of two described masks, and where their centre rays meet (3,) in metres.

        The agreement is the overlap (intersection over union) of the two ranges of angles about the baseline;
        0 where the rays do not meet in front of both cameras within 0.5 m, or meet at a body of impossible
        height.
        """
        rays = np.stack([first[1], second[1]])
        depths, gap = rays_meeting(self.centers, rays)
        if depths.min() < 0.3 or gap > _MEET_M:
            return 0.0, None
        position = (self.centers + depths[:, None] * rays).mean(axis=0)
        heights = [
            depth * _span(outline) for depth, (outline, _) in zip(depths, (first, second), strict=True)
        ]
        if not (_HEIGHT_M[0] < max(heights) < _HEIGHT_M[1]) or max(heights) > _SAME_HEIGHT * 1.5 * min(
            heights
        ):
            return 0.0, None
        ranges = [self._range(*described) for described in (first, second)]
        if any(r is None for r in ranges):
            # the baseline runs through a silhouette (cameras that face each other): only the rays can tell
            return 1.0 - gap / _MEET_M, position
        # compare modulo a full turn
        (low0, high0), (low1, high1) = ranges
        turn = 2 * np.pi * np.round(((low0 + high0) - (low1 + high1)) / (4 * np.pi))
        low1, high1 = low1 + turn, high1 + turn
        common = min(high0, high1) - max(low0, low1)
        return max(0.0, common / (max(high0, high1) - min(low0, low1))), position

    def _range(self, outline: np.ndarray, center: np.ndarray) -> tuple[float, float] | None:
        """Lowest and highest angle about the baseline of an outline's rays; None if the baseline runs
        through it.
        """
        middle = np.arctan2(center @ self.up, center @ self.across)
        angles = np.arctan2(outline @ self.up, outline @ self.across) - middle
        angles = (angles + np.pi) % (2 * np.pi) - np.pi
        if angles.max() - angles.min() > np.pi * 0.75:
            return None
        return middle + angles.min(), middle + angles.max()


def rays_meeting(origins: np.ndarray, directions: np.ndarray) -> tuple[np.ndarray, float]:
    """Distances (2,) along two rays to where they pass closest, and how far apart they pass there, in metres.

    Args:
        origins: (2, 3).
        directions: (2, 3) unit vectors. Parallel rays give infinite distances.
    """
    between = origins[1] - origins[0]
    dot = float(directions[0] @ directions[1])
    denominator = 1 - dot * dot
    if denominator < 1e-9:
        return np.full(2, np.inf), np.inf
    along = directions @ between
    depths = np.array([along[0] - dot * along[1], dot * along[0] - along[1]]) / denominator
    points = origins + depths[:, None] * directions
    return depths, float(np.linalg.norm(points[0] - points[1]))


def _span(outline: np.ndarray) -> float:
    """Largest angle between two rays of an outline (M, 3), radians."""
    return float(np.arccos(np.clip((outline @ outline.T).min(), -1, 1)))


def _sightings(
    geometry: PairGeometry,
    frame: int,
    first: Sequence[TrackedMask],
    second: Sequence[TrackedMask],
    partners: Mapping[tuple[int, int], int] | None = None,
) -> list[Sighting]:
    """The people of one frame that both views agree on; each mask is used once.

    ``partners``: how often tracks were paired before: carries on where the geometry alone leaves it open.
    """
    if not first or not second:
        return []
    described = [[geometry.describe(v, c.mask) for c in view] for v, view in enumerate((first, second))]
    agreement = np.zeros((len(first), len(second)))
    positions = {}
    for i, one in enumerate(described[0]):
        for j, two in enumerate(described[1]):
            agreement[i, j], positions[i, j] = geometry.compare(one, two)
    bonus = np.zeros_like(agreement)
    for i, one in enumerate(first):
        for j, two in enumerate(second):
            bonus[i, j] = 0.2 * min(1.0, (partners or {}).get((one.track, two.track), 0) / 10)
    valid = agreement >= _AGREE
    rows, columns = linear_sum_assignment(-np.where(valid, agreement + bonus, 0))
    found = []
    for i, j in zip(rows.tolist(), columns.tolist(), strict=True):
        if valid[i, j]:
            one, two = first[i].mask, second[j].mask
            size = float(np.sqrt(one.area / np.prod(one.size) * two.area / np.prod(two.size)) ** 0.5)
            tracks = (first[i].track, second[j].track)
            found.append(Sighting(frame, i, j, float(agreement[i, j]), positions[i, j], size, tracks))
    return found


def _link(geometry: PairGeometry, tracked: Sequence[Tracked], fps: float) -> list[_Person]:
    """Sightings of all frames, linked into people by distance and by tracks."""
    people: list[_Person] = []
    active: list[_Person] = []
    partners: dict[tuple[int, int], int] = {}
    for frame in sorted(set(tracked[0]) & set(tracked[1])):
        seen = _sightings(geometry, frame, tracked[0][frame], tracked[1][frame], partners)
        active = [p for p in active if frame - p.last.frame <= _LINK_S * fps]
        cost = np.full((len(seen), len(active)), 1e6)
        for i, sighting in enumerate(seen):
            for j, person in enumerate(active):
                distance = np.linalg.norm(sighting.position - person.last.position)
                shared = sum(a == b for a, b in zip(sighting.tracks, person.last.tracks, strict=True))
                stranger = any((view, track) in person.beside for view, track in enumerate(sighting.tracks))
                if not stranger and distance <= _reach(frame - person.last.frame, fps):
                    cost[i, j] = distance - 0.5 * shared
        taken = dict(zip(*(a.tolist() for a in linear_sum_assignment(cost)), strict=True))
        for i, sighting in enumerate(seen):
            partners[sighting.tracks] = partners.get(sighting.tracks, 0) + 1
            if i in taken and cost[i, taken[i]] < 1e5:
                person = active[taken[i]]
                person.sightings.append(sighting)
            else:
                person = _Person([sighting])
                people.append(person)
                active.append(person)
            for view, track in enumerate(sighting.tracks):
                others = {(view, c.track) for c in tracked[view][frame] if c.track != track}
                person.beside |= others - person.tracks
    return people


def _without_strangers(person: _Person, tracked: Sequence[Tracked]) -> _Person:
    """The person without sightings whose track was, at another time, seen beside the person's main tracks."""
    kept = person.sightings
    for view in (0, 1):
        counts: dict[int, int] = {}
        for sighting in kept:
            counts[sighting.tracks[view]] = counts.get(sighting.tracks[view], 0) + 1
        together: dict[int, set[int]] = {}
        for candidates in tracked[view].values():
            tracks = {c.track for c in candidates} & set(counts)
            for track in tracks:
                together.setdefault(track, set()).update(tracks - {track})
        own: set[int] = set()
        for track in sorted(counts, key=lambda track: -counts[track]):
            if not together.get(track, set()) & own:
                own.add(track)
        kept = [s for s in kept if s.tracks[view] in own]
    return _Person(kept)


def _reach(frames: int, fps: float) -> float:
    """How far a person can get in so many frames, metres."""
    return _SLACK_M + _WALK_M_S * frames / fps


def _join(people: list[_Person], fps: float) -> _Person:
    """The first (best) person, with the pieces of other people that are the same person after a gap.

    A piece counts if it can be reached in time and was never seen beside the subject: neither itself, nor
    another piece that shares one of its tracks.
    """
    subject, rest = people[0], people[1:]
    beside = [p for p in rest if p.frames & subject.frames]
    foreign = set().union(*(p.tracks for p in beside)) - subject.tracks
    joined = list(subject.sightings)
    for piece in rest:
        frames = {s.frame for s in joined}
        if piece.frames & frames or piece.tracks & foreign:
            continue
        ends = (piece.sightings[0], piece.sightings[-1])
        before = [s for s in joined if s.frame < ends[0].frame]
        after = [s for s in joined if s.frame > ends[1].frame]
        links = [(before[-1], ends[0])] if before else []
        links += [(ends[1], after[0])] if after else []
        sizes = (np.median([s.size for s in joined]), np.median([s.size for s in piece.sightings]))
        if max(sizes) > 2 * min(sizes):
            continue
        if all(np.linalg.norm(a.position - b.position) <= _reach(b.frame - a.frame, fps) for a, b in links):
            joined = sorted(joined + piece.sightings, key=lambda s: s.frame)
    return _Person(joined)


def _own_tracks(subject: _Person, people: list[_Person]) -> tuple[set[int], set[int]]:
    """Tracks of each view that were paired as the subject in most of the frames in which they were paired."""
    own: tuple[set[int], set[int]] = (set(), set())
    for view in (0, 1):
        mine: dict[int, int] = {}
        total: dict[int, int] = {}
        for sighting in subject.sightings:
            mine[sighting.tracks[view]] = mine.get(sighting.tracks[view], 0) + 1
        for person in people:
            for sighting in person.sightings:
                total[sighting.tracks[view]] = total.get(sighting.tracks[view], 0) + 1
        own[view].update(track for track, count in mine.items() if count * 2 > total[track])
    return own
