"""A trial of a Pose2Sim project: which camera goes with which video, and which frames belong together."""

from __future__ import annotations

import difflib
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pose2sim_biokin.config import BiokinConfig
from pose2sim_biokin.errors import BiokinError
from pose2sim_biokin.io.calibration import find_calibration, match_video_size, read_calibration
from pose2sim_biokin.io.video import VideoInfo, VideoReader, list_videos
from pose2sim_biokin.vision.camera import Camera

_IMAGES_FPS = 30  # Pose2Sim's, for folders of images with frame_rate = 'auto'
_RATE_ERROR = 0.01  # relative difference of two videos' rates: a frame is lost every 100 frames
_RATE_WARNING = 0.0005


@dataclass(frozen=True)
class View:
    """One camera with its recording.

    Attributes:
        camera: the calibrated camera, of the video's size.
        video: video file or folder of images.
        info: of the video.
        offset: frame in this recording = synchronised frame + offset.
    """

    camera: Camera
    video: Path
    info: VideoInfo
    offset: int = 0

    @property
    def name(self) -> str:
        """The camera's name in the calibration file."""
        return self.camera.name

    @property
    def frames(self) -> range:
        """The synchronised frames, 0 or later, that this recording holds."""
        return range(max(0, -self.offset), max(0, self.info.frame_count - self.offset))


@dataclass(frozen=True)
class Trial:
    """One trial, read and checked.

    Attributes:
        name: of the trial's folder; outputs are named after it.
        project_dir: the trial's folder, absolute.
        calibration: the calibration file.
        views: the cameras that have a video, in the calibration's order; two or more. When ``config.views``
            names two, exactly these, in the order they are named there.
        spare: the other cameras with a video, when ``config.views`` names two: not for the network, but to
            check its result by; those that cannot be used are left out.
        fps: frames per second; time = synchronised frame / fps.
        config: checked settings.
        output_dir: folder of the results' folders, where that is not the trial's.
    """

    name: str
    project_dir: Path
    calibration: Path
    views: tuple[View, ...]
    fps: float
    config: BiokinConfig
    spare: tuple[View, ...] = ()
    output_dir: Path | None = None

    def unused(self, used: Sequence[View]) -> list[View]:
        """The cameras with a video that the network does not see when it sees `used`."""
        names = {view.name for view in used}
        return [view for view in (*self.views, *self.spare) if view.name not in names]

    @property
    def kinematics_dir(self) -> Path:
        """Where Pose2Sim keeps joint angles and models."""
        return (self.output_dir or self.project_dir) / "kinematics"

    @property
    def pose3d_dir(self) -> Path:
        """Where Pose2Sim keeps 3D points."""
        return (self.output_dir or self.project_dir) / "pose-3d"

    @property
    def masks_dir(self) -> Path:
        """Folder of the masks that the user brings."""
        return self.project_dir / self.config.masks_dir

    @property
    def weights(self) -> str:
        """ "default", or the path of a checkpoint: relative to the trial's folder if it is there."""
        weights = self.config.weights
        inside = self.project_dir / weights
        return str(inside) if weights != "default" and inside.is_file() else weights

    def frames(self, views: tuple[View, ...] | list[View]) -> range:
        """The synchronised frames to treat: in all of these views' recordings and in ``frame_range``.

        Raises:
            BiokinError: there are none.
        """
        common = range(max(v.frames.start for v in views), min(v.frames.stop for v in views))
        spans = ", ".join(f"{v.name} {_span(v.frames)} (offset {v.offset})" for v in views)
        if not common:
            raise BiokinError(
                f"{self.project_dir}: the recordings have no frame in common: {spans}. Check the "
                "synchronization offsets."
            )
        wanted = self.config.frame_range
        if wanted is None:
            if len({len(v.frames) for v in views}) > 1:
                logging.warning(f"Recordings of different length: {spans}. Using frames {_span(common)}.")
            return common
        chosen = range(max(common.start, wanted[0]), min(common.stop, wanted[1]))
        if not chosen:
            raise BiokinError(
                f"[project] frame_range in Config.toml is {list(wanted)}, but the recordings hold frames "
                f"{_span(common)}: {spans}. Choose a range within these."
            )
        if chosen != range(*wanted):
            logging.warning(
                f"[project] frame_range is {list(wanted)}, but the recordings hold frames {_span(common)} "
                f"only: {spans}. Using frames {_span(chosen)}."
            )
        return chosen

    def stem(self, frames: range) -> str:
        """Name of the outputs without extension, as Pose2Sim names its own: first and last frame included."""
        return f"{self.name}_{frames[0]}-{frames[-1]}_biokin"


def read_trial(config_dict: dict) -> Trial:
    """Read what a trial consists of, and check that it fits together.

    Args:
        config_dict: one trial's config as Pose2Sim merged it; ``["project"]["project_dir"]`` (str or Path) is
            its folder, with the ``videos`` in it and the calibration there or one folder above.

    Raises:
        BiokinError: config, calibration or videos are missing, broken, or contradict each other.
    """
    config = BiokinConfig.from_config_dict(config_dict)
    project_dir = Path(config_dict.get("project", {}).get("project_dir", ".")).resolve()
    if not project_dir.is_dir():
        raise BiokinError(f"{project_dir}: no such folder. Check [project] project_dir.")
    calibration = find_calibration(project_dir)
    cameras = read_calibration(calibration)
    videos = _videos(project_dir / "videos")
    pairs = pair_cameras(cameras, videos, calibration)
    spare = []
    if config.views != "auto":
        everybody, pairs = pairs, [_named(name, pairs, cameras, videos) for name in config.views]
        if pairs[0] == pairs[1]:
            raise BiokinError(
                f"[biokin] views in Config.toml is {list(config.views)}: both names are the same camera "
                f'"{pairs[0][0].name}". Name two different ones.'
            )
        spare = [pair for pair in everybody if pair not in pairs] if config.check_views else []
    views = []
    for camera, video in pairs:
        info = VideoReader(video).info
        views.append(View(match_video_size(camera, info.width, info.height, video), video, info))
    fps = _frame_rate(views, config)
    offsets = _offsets(views, pairs, config, project_dir, videos)
    views = [replace(view, offset=offset) for view, offset in zip(views, offsets, strict=True)]
    others = _spare_views(spare, views, config, project_dir, videos)
    return Trial(project_dir.name, project_dir, calibration, tuple(views), fps, config, others)


def _spare_views(
    pairs: list[tuple[Camera, Path]],
    views: list[View],
    config: BiokinConfig,
    project_dir: Path,
    videos: list[Path],
) -> tuple[View, ...]:
    """Cameras that the network does not need; one that cannot be used is told and left out."""
    spare = []
    for camera, video in pairs:
        try:
            info = VideoReader(video).info
            view = View(match_video_size(camera, info.width, info.height, video), video, info)
            _frame_rate([*views, view], config)
            offset = _offsets([view], [(camera, video)], config, project_dir, videos)[0]
        except BiokinError as error:
            logging.info(f"{camera.name} is not used to check the result: {error}")
        else:
            spare.append(replace(view, offset=offset))
    return tuple(spare)


def pair_cameras(cameras: list[Camera], videos: list[Path], calibration: Path) -> list[tuple[Camera, Path]]:
    """Which camera recorded which video.

    By name where a video (without its extension) is named like a camera, else, as Pose2Sim does, by order:
    the calibration file's, and that of the last number in the videos' names. A camera without video, or a
    video without camera, is left out with a warning if the rest can be told by name.

    Raises:
        BiokinError: it cannot be told which video belongs to which camera.
    """
    stems = {_video_name(video).lower(): video for video in videos}
    paired = {c.name: stems.pop(c.name.lower()) for c in cameras if c.name.lower() in stems}
    lone_cameras = [camera for camera in cameras if camera.name not in paired]
    lone_videos = sorted(stems.values(), key=_by_last_number)
    by_name = len(paired)
    if len(lone_cameras) == len(lone_videos):
        paired |= {c.name: video for c, video in zip(lone_cameras, lone_videos, strict=True)}
        if lone_cameras:
            table = ", ".join(f"{c.name} - {paired[c.name].name}" for c in lone_cameras)
            logging.info(f"Cameras and videos are paired by their order: {table}.")
    elif by_name >= 2:
        for camera in lone_cameras:
            logging.warning(f'Camera "{camera.name}" of {calibration} has no video: it is left out.')
        for video in lone_videos:
            logging.warning(f"{video}: no camera of {calibration} has this name: it is left out.")
    else:
        raise BiokinError(
            f"{calibration} has {len(cameras)} cameras ({', '.join(c.name for c in cameras)}), but "
            f"{videos[0].parent} has {len(videos)} videos ({', '.join(v.name for v in videos)}). Expected "
            "one video per camera, in the same order, or videos with the cameras' names."
        )
    return [(camera, paired[camera.name]) for camera in cameras if camera.name in paired]


def _videos(folder: Path) -> list[Path]:
    found = list_videos(folder)
    files = [path for path in found if path.is_file()]
    videos = files or found  # as Pose2Sim: folders of images count only where there is no video file
    if not videos:
        raise BiokinError(
            f"{folder}: no videos. Expected one video file (mp4, mov, avi, mkv) or one folder of images per "
            "camera."
        )
    names = [_video_name(video).lower() for video in videos]
    for name in set(names):
        if names.count(name) > 1:
            twice = [video.name for video in videos if _video_name(video).lower() == name]
            raise BiokinError(f"{folder}: {' and '.join(twice)} have the same name. Keep one per camera.")
    if len(videos) < 2:
        raise BiokinError(f"{folder}: only one video ({videos[0].name}). Two views are needed.")
    return videos


def _video_name(video: Path) -> str:
    return video.name if video.is_dir() else video.stem


def _by_last_number(path: Path) -> tuple:
    """Order of Pose2Sim's pose folders: by the last number in the name; names without one come last."""
    numbers = re.findall(r"\d+", _video_name(path))
    return (0, int(numbers[-1]), path.name) if numbers else (1, 0, path.name)


def _named(
    name: str, pairs: list[tuple[Camera, Path]], cameras: list[Camera], videos: list[Path]
) -> tuple[Camera, Path]:
    for camera, video in pairs:
        if name == camera.name:
            return camera, video
    for camera, video in pairs:
        if name == _video_name(video):
            return camera, video
    if name in [camera.name for camera in cameras]:
        raise BiokinError(
            f'[biokin] views in Config.toml names camera "{name}", which has no video in {videos[0].parent}. '
            f"There are: {', '.join(v.name for v in videos)}."
        )
    known = [camera.name for camera, _ in pairs]
    near = difflib.get_close_matches(name, known, n=1)
    hint = f'Did you mean "{near[0]}"? ' if near else ""
    raise BiokinError(
        f'[biokin] views in Config.toml names "{name}", but there is no such camera. {hint}Cameras with a '
        f"video: {', '.join(known)}."
    )


def _span(frames: range) -> str:
    return f"{frames[0]}-{frames[-1]}" if frames else "none"


def _frame_rate(views: list[View], config: BiokinConfig) -> float:
    """Frames per second of the trial; as in Pose2Sim, a video's is rounded to a whole number."""
    rates = {view.name: view.info.fps for view in views if view.info.fps}
    if rates:
        slowest, fastest = min(rates, key=rates.get), max(rates, key=rates.get)
        difference = rates[fastest] / rates[slowest] - 1
        text = f"{slowest} has {rates[slowest]:.6g} frames per second, {fastest} has {rates[fastest]:.6g}"
        if difference > _RATE_ERROR:
            raise BiokinError(
                f"{views[0].video.parent}: the videos' frame rates differ: {text}. Frames are paired by "
                "number: convert the videos to one rate, or choose two of the same rate with [biokin] views."
            )
        if difference > _RATE_WARNING:
            logging.warning(f"The videos' frame rates differ a little: {text}. Long recordings drift apart.")
    if config.frame_rate is not None:
        return config.frame_rate
    if not rates:
        logging.warning(
            f"The frame rate of {views[0].video} is not known: set to {_IMAGES_FPS} fps. If that is wrong, "
            "set [project] frame_rate in Config.toml."
        )
        return float(_IMAGES_FPS)
    rate = rates.get(views[0].name) or next(iter(rates.values()))
    return float(round(rate) or rate)


def _offsets(
    views: list[View],
    pairs: list[tuple[Camera, Path]],
    config: BiokinConfig,
    project_dir: Path,
    videos: list[Path],
) -> list[int]:
    """Offset of each view, from [biokin] sync_offsets, else from Pose2Sim's pose files, else 0."""
    if config.sync_offsets:
        known = {v.name for v in views} | {_video_name(v) for v in videos}
        known |= {camera.name for camera in read_calibration(find_calibration(project_dir))}
        unknown = sorted(set(config.sync_offsets) - known)
        if unknown:
            raise BiokinError(
                f'[biokin] sync_offsets in Config.toml names "{unknown[0]}", but there is no such camera. '
                f"Known: {', '.join(sorted(known))}."
            )
        get = config.sync_offsets.get
        offsets = [get(view.name, get(_video_name(view.video), 0)) for view in views]
        logging.info("Synchronization offsets are those of [biokin] sync_offsets.")
        return offsets
    synchronized = project_dir / "pose-sync"
    if not _json_folders(synchronized):
        return [0] * len(views)
    offsets = [_pose_offset(_video_name(v.video), videos, project_dir / "pose", synchronized) for v in views]
    logging.info(
        f"Synchronization offsets are read from {synchronized}: "
        + ", ".join(f"{view.name} {offset:+d}" for view, offset in zip(views, offsets, strict=True))
        + "."
    )
    return offsets


def _json_folders(folder: Path) -> list[Path]:
    found = [f for f in folder.iterdir() if f.is_dir() and "json" in f.name] if folder.is_dir() else []
    return sorted(found, key=_by_last_number)


def _pose_offset(name: str, videos: list[Path], pose: Path, synchronized: Path) -> int:
    """How far `Pose2Sim.synchronization()` moved the numbers of a camera's pose files.

    It copies each file to ``pose-sync`` under its number minus the offset, and leaves out those that come to
    0 or less: the last file's number tells.
    """
    folders = {folder.name: folder for folder in _json_folders(pose)}
    folder_name = f"{name}_json"
    if folder_name not in folders and len(folders) == len(videos):  # other pose estimators, other names
        order = [_video_name(video) for video in sorted(videos, key=_by_last_number)]
        folder_name = list(folders)[order.index(name)]
    numbers = [_json_numbers(parent / folder_name) for parent in (pose, synchronized)]
    if not all(numbers):
        missing = pose if not numbers[0] else synchronized
        raise BiokinError(
            f'{missing}: no pose files of "{name}" (expected folder {folder_name}), so its synchronization '
            "offset cannot be read. Run Pose2Sim.synchronization() again, or set [biokin] sync_offsets in "
            "Config.toml, or delete pose-sync if the cameras started together."
        )
    before, after = numbers
    offset = max(before) - max(after)
    if {number - offset for number in before if number > offset} != after:
        logging.warning(
            f"{synchronized / folder_name}: not simply the files of {pose / folder_name}, moved by {offset}: "
            "perhaps of several synchronizations. If the views do not fit, delete pose-sync and run "
            "Pose2Sim.synchronization() again."
        )
    return offset


def _json_numbers(folder: Path) -> set[int]:
    if not folder.is_dir():
        return set()
    digits = (re.findall(r"\d+", path.stem) for path in folder.glob("*.json"))
    return {int(found[-1]) for found in digits if found}
