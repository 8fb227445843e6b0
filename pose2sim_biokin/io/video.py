"""Videos as streams of frames: never a whole video in memory.

Video files (mp4, mov, avi, mkv) and folders of images look the same to the caller. Frames come through
OpenCV, as in Pose2Sim, so that frame numbers and the treatment of rotation flags (applied) are upstream's.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from pose2sim_biokin.errors import BiokinError

log = logging.getLogger(__name__)

VIDEO_SUFFIXES = (".mp4", ".mov", ".avi", ".mkv", ".m4v", ".mpg", ".mpeg", ".mts", ".webm", ".wmv")
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
# Jumping to a frame decodes from the keyframe before it; short ways are faster to walk.
_WALK_FRAMES = 64


@dataclass(frozen=True)
class VideoInfo:
    """What a video is.

    Attributes:
        path: video file or folder of images.
        width, height: pixels of the frames that are handed out (rotation flags applied).
        fps: frames a second; None for a folder of images.
        frame_count: frames the container announces (the number of images for a folder). The stream may end
            earlier when the file is damaged.
    """

    path: Path
    width: int
    height: int
    fps: float | None
    frame_count: int


class VideoReader:
    """A video file or a folder of images as a stream of frames, BGR uint8 (H, W, 3).

    Raises:
        BiokinError: missing, empty, truncated or unreadable, naming the file.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._images = list_images(self.path) if self.path.is_dir() else None
        if self._images is not None:
            if not self._images:
                raise BiokinError(
                    f"{self.path}: no image in this folder. Expected {', '.join(IMAGE_SUFFIXES)}."
                )
            height, width = read_image(self._images[0]).shape[:2]
            self.info = VideoInfo(self.path, width, height, None, len(self._images))
            return
        if not self.path.is_file():
            raise BiokinError(f"{self.path}: no such video.")
        if self.path.stat().st_size == 0:
            raise BiokinError(f"{self.path}: the video is empty (0 bytes). Copy it from the camera again.")
        capture = _open(self.path)
        try:
            found, frame = capture.read()
            count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
            fps = float(capture.get(cv2.CAP_PROP_FPS))
        finally:
            capture.release()
        if not found or frame is None:
            raise _unreadable(self.path)
        if not np.isfinite(fps) or fps <= 0:
            fps = None
        if count <= 0:  # some containers do not say
            count = _count_frames(self.path)
        self.info = VideoInfo(self.path, frame.shape[1], frame.shape[0], fps, count)

    def frames(self, indexes: Iterable[int] | None = None) -> Iterator[tuple[int, np.ndarray]]:
        """(index, frame) for increasing frame ``indexes`` (a range, or any rising sequence; all by default).

        Raises:
            BiokinError: an index lies beyond the video, or the video ends before it (truncated file).
            ValueError: indexes do not rise.
        """
        indexes = range(self.info.frame_count) if indexes is None else indexes
        walk = self._image_frames(indexes) if self._images is not None else self._video_frames(indexes)
        size = (self.info.height, self.info.width)
        for index, frame in walk:
            if frame.shape[:2] != size:
                raise BiokinError(
                    f"{self.path}: frame {index} is {frame.shape[1]}x{frame.shape[0]} pixels, the first one "
                    f"is {size[1]}x{size[0]}. All frames of a camera must have one size."
                )
            yield index, frame

    def _checked(self, indexes: Iterable[int]) -> Iterator[int]:
        previous = -1
        for index in indexes:
            if index <= previous:
                raise ValueError(f"frame indexes must rise, found {index} after {previous}")
            if index >= self.info.frame_count:
                raise BiokinError(
                    f"{self.path}: frame {index} was asked for, but the video has only frames 0 to "
                    f"{self.info.frame_count - 1}. Check frame_range and the synchronisation offsets."
                )
            previous = index
            yield index

    def _image_frames(self, indexes: Iterable[int]) -> Iterator[tuple[int, np.ndarray]]:
        for index in self._checked(indexes):
            yield index, read_image(self._images[index])

    def _video_frames(self, indexes: Iterable[int]) -> Iterator[tuple[int, np.ndarray]]:
        capture = _open(self.path)
        position = 0
        try:
            for index in self._checked(indexes):
                if index - position > _WALK_FRAMES:
                    capture.set(cv2.CAP_PROP_POS_FRAMES, index)
                    # without a usable index the jump fails: start over and walk
                    if int(round(capture.get(cv2.CAP_PROP_POS_FRAMES))) != index:
                        capture.release()
                        capture, position = _open(self.path), 0
                    else:
                        position = index
                while position < index and capture.grab():
                    position += 1
                found, frame = capture.read() if position == index else (False, None)
                if not found or frame is None:
                    raise BiokinError(
                        f"{self.path}: the video breaks off after {position} frames, though it announces "
                        f"{self.info.frame_count}: the file is truncated or damaged. Copy it again, or set "
                        f"frame_range to end before {position}."
                    )
                position += 1
                yield index, frame
        finally:
            capture.release()


class VideoWriter:
    """Writes an mp4 that browsers and players open: H.264 where PyAV has it, else MPEG-4 (``codec`` says).

    Frames are BGR uint8 (H, W, 3), all of ``size`` (width, height); odd sizes lose their last row or column,
    which H.264 cannot hold. Use it as a context manager: on an error the half-written file is removed.

    Args:
        path: the file.  fps: frames a second.  size: width and height.
        crf: quality of H.264, 0 (without loss; OpenCV reads it, browsers do not) to 51 (worst).
        threads: of the encoder; 0 for as many as it likes. The bytes written depend on it.
    """

    def __init__(
        self, path: Path | str, fps: float, size: tuple[int, int], crf: int = 23, threads: int = 0
    ) -> None:
        self.path = Path(path)
        self._crf, self._threads = crf, threads
        self.size = (size[0] // 2 * 2, size[1] // 2 * 2)
        self._stream = self._container = self._opencv = None
        try:
            self.path.open("wb").close()
        except OSError as error:
            raise BiokinError(f"{self.path}: the video cannot be written ({error.strerror}).") from error
        self.codec = "H.264" if self._open_h264(fps) else "MPEG-4"
        if self._stream is None:
            self._opencv = cv2.VideoWriter(str(self.path), cv2.VideoWriter_fourcc(*"mp4v"), fps, self.size)
            if not self._opencv.isOpened():
                raise BiokinError(
                    f"{self.path}: no video can be written here. Check that the folder is writable."
                )

    def _open_h264(self, fps: float) -> bool:
        try:
            import av
            from av.codec import Codec

            Codec("libx264", "w")
        except Exception as error:  # no PyAV, or one built without x264
            log.info("Overlay videos are written as MPEG-4: no H.264 encoder (%s).", error)
            return False
        self._container = av.open(str(self.path), "w", options={"movflags": "+faststart"})
        rate = Fraction(fps).limit_denominator(1001)
        self._stream = self._container.add_stream("libx264", rate=rate)
        self._stream.width, self._stream.height = self.size
        self._stream.pix_fmt = "yuv420p"
        self._stream.options = {"crf": str(self._crf), "preset": "veryfast"}
        self._stream.codec_context.thread_count = self._threads
        return True

    def write(self, frame: np.ndarray) -> None:
        """Appends one frame."""
        frame = np.ascontiguousarray(frame[: self.size[1], : self.size[0]])
        if frame.shape[:2] != self.size[::-1]:
            raise ValueError(
                f"frame is {frame.shape[1]}x{frame.shape[0]}, the video {self.size[0]}x{self.size[1]}"
            )
        if self._opencv is not None:
            self._opencv.write(frame)
            return
        import av

        for packet in self._stream.encode(av.VideoFrame.from_ndarray(frame, format="bgr24")):
            self._container.mux(packet)

    def close(self) -> None:
        """Finishes the file."""
        if self._opencv is not None:
            self._opencv.release()
        elif self._container is not None:
            for packet in self._stream.encode():
                self._container.mux(packet)
            self._container.close()
            self._container = None

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(self, kind: type | None, *_: object) -> None:
        if kind is None:
            self.close()
            return
        if self._opencv is not None:
            self._opencv.release()
        elif self._container is not None:
            self._container.close()
        self.path.unlink(missing_ok=True)


def list_videos(folder: Path | str) -> list[Path]:
    """Videos of a trial's ``videos`` folder: video files, and sub-folders that hold images, sorted by name.

    Empty when there are none, or no such folder.
    """
    folder = Path(folder)
    if not folder.is_dir():
        return []
    found = [
        child
        for child in folder.iterdir()
        if not child.name.startswith(".")
        and (
            (child.is_file() and child.suffix.lower() in VIDEO_SUFFIXES)
            or (child.is_dir() and bool(list_images(child)))
        )
    ]
    return sorted(found, key=lambda path: path.name)


def list_images(folder: Path | str) -> list[Path]:
    """Images of a folder in natural order (img2 before img10)."""
    with os.scandir(folder) as entries:
        paths = [
            Path(e.path)
            for e in entries
            if os.path.splitext(e.name)[1].lower() in IMAGE_SUFFIXES and e.is_file()
        ]
    return sorted(paths, key=natural_key)


def natural_key(path: Path) -> list[tuple[int, int, str]]:
    """Sorting key of a path by its name, with runs of digits compared as numbers."""
    parts = re.split(r"(\d+)", path.name.lower())
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in parts if part]


def read_image(path: Path, grey: bool = False) -> np.ndarray:
    """One image, (H, W, 3) BGR or (H, W) grey uint8; reads names that are not ASCII on every platform.

    Raises:
        BiokinError: it cannot be read.
    """
    try:
        way = cv2.IMREAD_GRAYSCALE if grey else cv2.IMREAD_COLOR
        frame = cv2.imdecode(np.fromfile(path, np.uint8), way)
    except (OSError, cv2.error) as error:
        raise BiokinError(f"{path}: the image cannot be read ({error}).") from error
    if frame is None:
        raise BiokinError(f"{path}: the image is damaged or not an image.")
    return frame


def _open(path: Path) -> cv2.VideoCapture:
    capture = cv2.VideoCapture(str(path))
    if not capture.isOpened():
        raise _unreadable(path)
    return capture


def _unreadable(path: Path) -> BiokinError:
    return BiokinError(
        f"{path}: not a single frame can be read: the video is truncated, damaged or of an unknown kind. "
        "Copy it from the camera again, or convert it to mp4 (H.264)."
    )


def _count_frames(path: Path) -> int:
    """Counts by walking through the file."""
    capture = _open(path)
    count = 0
    while capture.grab():
        count += 1
    capture.release()
    return count
