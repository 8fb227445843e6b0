"""The subject over two views: ellipsoid people whose places are known."""

import numpy as np
import pytest
from scenes import camera_at, ellipsoid_mask

from pose2sim_biokin.vision.masks import PackedMask, PersonInstance, PersonTracker
from pose2sim_biokin.vision.subject import (
    PairGeometry,
    choose_subject,
    pair_presence,
    rays_meeting,
)
from pose2sim_biokin.vision.views import choose_views, viewing_angle, viewing_angle_warning

RADII = np.array([0.28, 0.22, 0.88])
FPS = 30


def cameras(angle=90, distance=4.0, **keywords):
    made = []
    for index, degrees in enumerate((-20, angle - 20)):
        a = np.radians(degrees)
        place = (distance * np.cos(a), distance * np.sin(a), 1.3 + 0.4 * index)
        made.append(camera_at(place, (0, 0, 0.9), f"cam{index}", size=(300, 240), focal=180, **keywords))
    return made


def person(camera, x, y, height=1.0):
    mask = ellipsoid_mask(camera, np.array([x, y, 0.88 * height]), RADII * height)
    return PersonInstance.from_mask(mask)


def record(pair, scene, frames):
    """Tracks of both views; ``scene(frame)`` gives {name: (x, y, height, views)}."""
    tracked, names = [], []
    for view, camera in enumerate(pair):
        tracker, name = PersonTracker(), {}
        for frame in frames:
            people = [
                (who, person(camera, x, y, h))
                for who, (x, y, h, views) in scene(frame).items()
                if view in views
            ]
            people = [(who, p) for who, p in people if p is not None]
            order = np.random.default_rng(frame).permutation(len(people))
            tracker.update(frame, [people[i][1] for i in order])
            name[frame] = {p.box: who for who, p in people}
        tracked.append(tracker.frames)
        names.append(name)
    return tracked, names


def who_is_it(subject, names):
    return [{f: names[v][f][m.box] for f, m in view.items()} for v, view in enumerate(subject.masks)]


@pytest.mark.parametrize("angle", [40, 90, 140, 178])
def test_masks_of_one_person_agree_and_of_two_do_not(angle):
    pair = cameras(angle, distortion=(-0.1, 0.02, 0, 0))
    geometry = PairGeometry(*pair)
    for x, y in ((0, 0), (0.6, 0.4), (-0.5, 0.7)):
        described = [geometry.describe(v, PackedMask.pack(person(pair[v], x, y).mask)) for v in (0, 1)]
        agreement, position = geometry.compare(*described)
        assert agreement > 0.85
        np.testing.assert_allclose(position, (x, y, 0.88), atol=0.15 if angle < 170 else 0.6)
        if angle < 170:
            other = geometry.describe(1, PackedMask.pack(person(pair[1], x - 0.8, y - 1.4).mask))
            assert geometry.compare(described[0], other)[0] < agreement - 0.1


def test_epipolar_agreement_does_not_mind_rolled_cameras():
    pair = [
        cameras(90)[0],
        camera_at((1.37, 3.76, 1.7), (0, 0, 0.9), size=(300, 240), focal=180, roll_degrees=90),
    ]
    geometry = PairGeometry(*pair)
    described = [geometry.describe(v, PackedMask.pack(person(pair[v], 0.1, 0).mask)) for v in (0, 1)]
    assert geometry.compare(*described)[0] > 0.9


def test_a_bystander_in_one_view_is_never_taken():
    """A bystander close to one camera, larger there than the subject, present when the subject is absent
    too.
    """

    def scene(frame):
        people = {"near": (2.4, -1.6, 1.0, (0,))}
        if not 10 <= frame < 16:
            people["subject"] = (-0.6 + 0.03 * frame, 0.2, 1.0, (0, 1))
        return people

    pair = cameras()
    tracked, names = record(pair, scene, range(40))
    subject = choose_subject(pair, tracked, FPS)
    for view in who_is_it(subject, names):
        assert set(view.values()) == {"subject"}
        assert sorted(view) == [f for f in range(40) if not 10 <= f < 16]
    assert subject.people == 1
    found = subject.found(range(40))
    assert found.shape == (40, 2) and found.sum() == 68
    np.testing.assert_allclose(subject.positions[0], (-0.6, 0.2, 0.88), atol=0.1)


def test_largest_and_most_present_wins_and_gaps_are_not_filled_by_another():
    def scene(frame):
        people = {"far": (-1.3, -1.3, 1.0, (0, 1))}
        if not 12 <= frame < 20:
            people["subject"] = (0.8, 0.7, 1.05, (0, 1))
        return people

    pair = cameras()
    tracked, names = record(pair, scene, range(40))
    subject = choose_subject(pair, tracked, FPS)
    for view in who_is_it(subject, names):
        assert set(view.values()) == {"subject"} and len(view) == 32
    assert subject.people == 2


def test_people_who_cross_are_kept_apart():
    """They pass in front of one another in view 0, not in space."""

    def scene(frame):
        return {
            "subject": (1.0, -1.0 + 0.05 * frame, 1.05, (0, 1)),
            "other": (-0.6, 1.0 - 0.05 * frame, 0.95, (0, 1)),
        }

    pair = [
        camera_at((4.5, 0, 1.4), (0, 0, 0.9), size=(300, 240), focal=180),
        camera_at((0, 4.5, 1.6), (0, 0, 0.9), size=(300, 240), focal=180),
    ]
    tracked, names = record(pair, scene, range(40))
    subject = choose_subject(pair, tracked, FPS)
    for view in who_is_it(subject, names):
        assert set(view.values()) == {"subject"} and len(view) >= 38


def test_a_bystander_who_fits_for_a_while_is_told_by_when_they_were_seen_together():
    """View 0 misses the subject at first and later on, while a bystander stands where the geometry allows
    it.
    """

    def scene(frame):
        missed = frame < 4 or 20 <= frame < 24
        return {
            "subject": (0.0, 0.0, 1.0, (1,) if missed else (0, 1)),
            "bystander": (-0.8, -0.3, 1.0, (0,)),
        }

    pair = cameras()
    tracked, names = record(pair, scene, range(40))
    geometry = PairGeometry(*pair)
    wrong = [geometry.describe(v, tracked[v][0][0].mask) for v in (0, 1)]
    assert geometry.compare(*wrong)[0] > 0.7  # the trap is real
    subject = choose_subject(pair, tracked, FPS)
    first, second = who_is_it(subject, names)
    assert set(first.values()) == {"subject"} and len(first) == 32
    assert set(second.values()) == {"subject"} and len(second) == 40


def test_one_view_carries_on_when_the_other_loses_the_subject():
    def scene(frame):
        return {"subject": (0.3, 0.1, 1.0, (0, 1) if not 8 <= frame < 12 else (0,))}

    pair = cameras()
    tracked, _ = record(pair, scene, range(20))
    found = choose_subject(pair, tracked, FPS).found(range(20))
    assert found[:, 0].all() and found[:, 1].sum() == 16


def test_nobody():
    pair = cameras()
    empty = {f: [] for f in range(5)}
    subject = choose_subject(pair, [empty, empty], FPS)
    assert subject.people == 0 and not subject.found(range(5)).any()
    tracked, _ = record(pair, lambda f: {"lone": (0.0, 0, 1.0, (0,))}, range(5))
    assert not choose_subject(pair, tracked, FPS).found(range(5)).any()


def test_views_nearest_to_a_right_angle_among_those_that_see_the_person():
    ring = [
        camera_at(
            (4 * np.cos(np.radians(d)), 4 * np.sin(np.radians(d)), 1.5),
            (0, 0, 0.9),
            f"c{d}",
            size=(300, 240),
            focal=180,
        )
        for d in (0, 95, 170, 200)
    ]
    assert viewing_angle(ring[0], ring[1]) == pytest.approx(95)
    assert viewing_angle(ring[0], ring[3]) == pytest.approx(160)
    assert choose_views(ring) == (0, 1)
    # camera 1 does not see the person
    tracked = []
    for index, camera in enumerate(ring):
        tracker = PersonTracker()
        for frame in (0, 10, 20):
            tracker.update(frame, [person(camera, 0.01 * frame, 0)] if index != 1 else [])
        tracked.append(tracker.frames)
    presence = pair_presence(ring, tracked)
    assert presence[0, 2] == 1 and presence[0, 1] == 0 and presence[1, 1] == 0
    assert choose_views(ring, presence) in ((0, 2), (2, 3), (0, 3))
    assert viewing_angle_warning(ring[0], ring[1]) is None
    assert "nearly opposite" in viewing_angle_warning(ring[0], ring[2])
    assert "170 degrees" in viewing_angle_warning(ring[0], ring[2])
    near = camera_at((4, 0.5, 1.5), (0, 0, 0.9))
    assert "nearly the same" in viewing_angle_warning(ring[0], near)


def test_rays_meeting_in_closed_form():
    depths, gap = rays_meeting(np.array([[0, 0, 0], [1, 0, 0.25]]), np.array([[0, 1.0, 0], [-0.6, 0.8, 0]]))
    np.testing.assert_allclose(depths, (4 / 3, 5 / 3))
    assert gap == pytest.approx(0.25)
    assert rays_meeting(np.zeros((2, 3)), np.array([[0, 1.0, 0], [0, 1, 0]]))[1] == np.inf
