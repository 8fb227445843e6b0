"""From videos to what the network sees: which views, which person, and the crops; all in streams."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice

import numpy as np

from pose2sim_biokin.errors import BiokinError
from pose2sim_biokin.hookspecs import PersonSegmenter
from pose2sim_biokin.io.project import Trial, View
from pose2sim_biokin.io.video import VideoReader
from pose2sim_biokin.parallel import for_each
from pose2sim_biokin.plugins import get_segmenter, segmenters
from pose2sim_biokin.predictor import ViewCrops
from pose2sim_biokin.progress import Progress
from pose2sim_biokin.vision import subject as vision_subject
from pose2sim_biokin.vision import views as vision_views
from pose2sim_biokin.vision.background import (
    SAMPLES,
    NotStill,
    build_background,
    people_size,
    shrink,
    shrink_mask,
)
from pose2sim_biokin.vision.crops import boundary_to_crop, warp_to_crop
from pose2sim_biokin.vision.foreground import Foreground
from pose2sim_biokin.vision.masks import PackedMask, PersonInstance, PersonTracker, TrackedMask
from pose2sim_biokin.vision.subject import Subject, pair_presence

# Frames of each view in which the person is looked for when the views are chosen automatically.
_SAMPLE = 8
# Frames of each camera that was not used in which the result is checked.
UNUSED_FRAMES = 8
People = dict[int, list[TrackedMask]]


def load_segmenter(trial: Trial, device: str) -> PersonSegmenter:
    """The segmenter that ``[biokin] segmentation`` asks for: a plugin's name, "auto", or YOLO weights.

    Raises:
        BiokinError: it cannot be loaded.
    """
    spec = trial.config.segmentation
    factory = get_segmenter(spec if spec in segmenters() else "yolo")
    segmenter = factory.load(
        trial.config.masks_dir if spec == "masks" else spec,
        device=str(device),
        batch_size=trial.config.batch_size,
        project_dir=trial.project_dir,
    )
    logging.info(f"Person segmentation: {segmenter.description}.")
    return segmenter


def choose_views(
    trial: Trial, segmenter: PersonSegmenter, progress: Progress
) -> tuple[tuple[View, View], dict[str, People]]:
    """The two views to use: those that the config names, else the pair nearest to 90 degrees
    that sees somebody.

    Returns:
        The views; and of all cameras, if they were looked at, the people of some frames.

    Raises:
        BiokinError: two views are not to be had.
    """
    views, looked = trial.views, {}
    if trial.config.views == "auto" and len(views) > 2:
        frames = trial.frames(views)
        sample = _spread(frames, _SAMPLE)
        cameras = [view.camera for view in views]
        seen = _track(views, sample, segmenter, trial.config.batch_size, progress, "Looking at all views")
        looked = {view.name: people for view, people in zip(views, seen, strict=True)}
        presence = pair_presence(cameras, seen)
        views = tuple(views[i] for i in vision_views.choose_views(cameras, presence))
    first, second = views[:2]
    angle = vision_views.viewing_angle(first.camera, second.camera)
    logging.info(f"Views {first.name} and {second.name}, {angle:.0f} degrees apart.")
    warning = vision_views.viewing_angle_warning(first.camera, second.camera)
    if warning:
        logging.warning(f"Careful: {warning}")
    return (first, second), looked


def find_people(
    views: Sequence[View],
    frames: range,
    segmenter: PersonSegmenter,
    batch_size: int,
    progress: Progress,
    looked: Mapping[str, People] | None = None,
) -> list[People]:
    """Tracked masks of everybody in each view: synchronised frame -> people.

    Args:
        looked: camera -> people of frames that need no second look, as `choose_views` found them.
    """
    return _track(views, frames, segmenter, batch_size, progress, "Finding the person", looked)


def sharpen(
    views: Sequence[View], frames: range, people: Sequence[People], progress: Progress
) -> tuple[list[People], list[str]]:
    """Masks made better by what the cameras see while nobody is there; see `vision.background`.

    Args:
        people: of each view, from `find_people`.

    Returns:
        Tracked masks of everybody in each view, and for each view "still", or why its background cannot be
        used: such a view keeps the masks it had.

    The videos are read once more (and their sampled frames before that); a few dozen small frames a view are
    kept in memory meanwhile.
    """

    def work(k: int, view: View, step: Callable[[], None]) -> tuple[People, str]:
        seen = people[k]
        masks = {frame: [person.mask for person in seen.get(frame, ())] for frame in frames}
        try:
            foreground = _foreground(view, frames, masks, step)
        except NotStill as reason:
            logging.info(f"{view.name}: no still background ({reason}); the masks are used as they are.")
            return seen, str(reason)
        tracker = PersonTracker()
        for frame, image in stream(view, frames):
            tracker.update(frame, foreground.people(image, masks[frame]))
            step()
        logging.info(f"{view.name}: the masks are sharpened by the still background.")
        return tracker.frames, "still"

    total = len(views) * (len(frames) + len(_spread(frames, SAMPLES)))
    results = for_each(work, views, progress, "Sharpening the masks", total)
    progress("Sharpening the masks", total, total)  # also where a background could not be used
    return [people for people, _ in results], [note for _, note in results]


def _foreground(
    view: View, frames: range, masks: Mapping[int, Sequence[PackedMask]], step: Callable[[], None]
) -> Foreground:
    """Learns the background of a view from frames spread over the trial; NotStill if there is none."""
    images, seen = [], []
    for frame, image in stream(view, _spread(frames, SAMPLES)):
        images.append(shrink(image))
        everybody = np.zeros(images[-1].shape[:2], bool)
        for mask in masks[frame]:
            everybody |= shrink_mask(mask)
        seen.append(everybody)
        step()
    return Foreground(build_background(images, seen), people_size(seen))


def _spread(frames: range, count: int) -> list[int]:
    """Up to so many of the frames, evenly spread, first and last included."""
    return sorted({frames[i] for i in np.linspace(0, len(frames) - 1, count).round().astype(int)})


def choose_subject(views: Sequence[View], people: Sequence[People], frames: range, fps: float) -> Subject:
    """The one person whom both views agree on.

    Raises:
        BiokinError: there is nobody in any frame, or the views never agree.
    """
    cameras = [view.camera for view in views]
    subject = vision_subject.choose_subject(cameras, people, fps)
    if subject.positions:
        found = subject.found(frames)
        for view, share in zip(views, found.mean(axis=0), strict=True):
            logging.info(f"The person is found in {share:.0%} of the frames of {view.name}.")
        if subject.people > 1:
            logging.info(
                f"{subject.people} people are seen by both cameras; the largest and most present is taken."
            )
        return subject
    counts = ", ".join(
        f"{view.name}: {sum(map(bool, seen.values()))} of {len(frames)} frames with somebody"
        for view, seen in zip(views, people, strict=True)
    )
    if all(any(seen.values()) for seen in people):
        raise BiokinError(
            f"No person is seen by both cameras at once ({counts}): the rays of the masks do not meet. Check "
            "that the calibration belongs to these videos, that cameras and videos are paired rightly, and "
            "that the videos are synchronised ([biokin] sync_offsets)."
        )
    raise BiokinError(
        f"Nobody is found in the videos ({counts}). Expected one person, seen by both cameras. Try other "
        "weights with [biokin] segmentation, or other [biokin] views, or look whether frame_range holds the "
        "person."
    )


def people_at(
    views: Sequence[View],
    positions: Mapping[int, np.ndarray],
    segmenter: PersonSegmenter,
    batch: int,
    progress: Progress,
    looked: Mapping[str, People] | None = None,
    count: int = UNUSED_FRAMES,
) -> list[dict[int, PackedMask]]:
    """Masks of the person who is at a place that is known from elsewhere, in some frames of each view.

    Args:
        views: cameras in which the person has not been looked for.
        positions: synchronised frame -> (3,) where the person's middle is in the world, m.
        looked: camera -> people of some frames, where they are known.
        count: frames of each other camera to look at, evenly spread.

    Returns:
        For each view, synchronised frame -> mask; empty where the segmenter has no masks of that camera.
    """
    known = sorted(positions)
    everybody: list[People] = []
    for view in views:
        people = (looked or {}).get(view.name)
        if people is None:
            seen = [frame for frame in known if frame in view.frames]
            sample = [seen[i] for i in _spread(range(len(seen)), count)] if seen else []
            try:
                title = f"Looking at {view.name}"
                (people,) = _track([view], sample, segmenter, batch, progress, title) if sample else [{}]
            except BiokinError as error:
                logging.info(f"{view.name} is not used to check the result: {error}")
                people = {}
        everybody.append(people)
    masks = []
    for view, people in zip(views, everybody, strict=True):
        found = {frame: _at(view, people[frame], positions[frame]) for frame in known if frame in people}
        masks.append({frame: mask for frame, mask in found.items() if mask is not None})
    return masks


def _at(view: View, people: Sequence[TrackedMask], place: np.ndarray) -> PackedMask | None:
    """The person nearest to where a place (3,) in the world projects, if that is inside the person's box."""
    x, y = view.camera.project(place)
    around = [
        person.mask
        for person in people
        if person.mask.box[0] <= x < person.mask.box[2] and person.mask.box[1] <= y < person.mask.box[3]
    ]
    return min(around, key=lambda mask: np.hypot(*(mask.centroid - (x, y))), default=None)


def cut_out(
    views: Sequence[View], subject: Subject, frames: range, size: int, progress: Progress
) -> tuple[ViewCrops, ViewCrops]:
    """What the network sees: in each view and frame a virtual camera that looks at the person.

    Memory: 4 bytes a pixel, 65 KB a frame and view at 128 x 128.
    """

    def cut(k: int, view: View, step: Callable[[], None]) -> ViewCrops:
        return _cut_out_view(view, subject.masks[k], frames, size, step)

    first, second = for_each(cut, views, progress, "Cutting the person out", 2 * len(frames))
    return first, second


def stream(view: View, frames: Sequence[int]) -> Iterator[tuple[int, np.ndarray]]:
    """(synchronised frame, image) of a view, BGR uint8; frames must rise."""
    for index, image in VideoReader(view.video).frames(frame + view.offset for frame in frames):
        yield index - view.offset, image


def _track(
    views: Sequence[View],
    frames: Sequence[int],
    segmenter: PersonSegmenter,
    batch: int,
    progress: Progress,
    title: str,
    looked: Mapping[str, People] | None = None,
) -> list[People]:
    """People of all views in these frames; one view after the other, in batches of images.

    Args:
        looked: camera -> people of frames that are known already.
    """
    done, total = 0, len(views) * len(frames)
    progress(title, 0, total)
    everybody = []
    for view in views:
        tracker = PersonTracker()
        images = stream(view, frames)
        known = (looked or {}).get(view.name, {})
        while chunk := list(islice(images, batch)):
            new = [(frame, image) for frame, image in chunk if frame not in known]
            pictures, numbers = [image for _, image in new], [frame + view.offset for frame, _ in new]
            found = segmenter.segment(pictures, view.name, numbers) if new else []
            if len(found) != len(new):
                raise BiokinError(
                    f"The segmenter ({segmenter.description}) gave {len(found)} results for "
                    f"{len(new)} images."
                )
            people = {frame: seen for (frame, _), seen in zip(new, found, strict=True)}
            for frame, _ in chunk:
                if frame in known:
                    masks = [person.mask for person in known[frame]]
                    people[frame] = [PersonInstance(mask.unpack(), mask.box, mask.score) for mask in masks]
                tracker.update(frame, people[frame])
            done += len(chunk)
            progress(title, done, total)
        everybody.append(tracker.frames)
    return everybody


def _cut_out_view(
    view: View, people: Mapping[int, PackedMask], frames: range, size: int, step: Callable[[], None]
) -> ViewCrops:
    count = len(frames)
    images = np.zeros((count, size, size, 3), np.uint8)
    masks = np.zeros((count, size, size), np.uint8)
    K, R = np.tile(np.eye(3), (count, 1, 1)), np.tile(np.eye(3), (count, 1, 1))
    t = np.zeros((count, 3))
    found = np.zeros(count, bool)
    for row, (frame, image) in enumerate(stream(view, frames)):
        packed = people.get(frame)
        if packed is not None:
            try:
                crop = boundary_to_crop(view.camera, packed.outline, size)
            except ValueError as error:  # fills more than a picture can show
                logging.warning(f"{view.name}, frame {frame}: the person is left out ({error}).")
            else:
                cut, masks[row] = warp_to_crop(view.camera, crop, image, packed.unpack())
                images[row] = cut[..., ::-1]  # BGR to RGB
                K[row], R[row], t[row] = crop.K, crop.R, crop.t
                found[row] = masks[row].any()
        step()
    return ViewCrops(images, masks, K, R, t, found)
