"""The segmenter "masks": a folder of masks, or mask videos, that the user brings."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from pose2sim_biokin.errors import BiokinError
from pose2sim_biokin.io.video import VIDEO_SUFFIXES, VideoReader, list_images, read_image
from pose2sim_biokin.vision.masks import PersonInstance


class MasksFactory:
    """Makes the segmenter that reads masks the user brings."""

    name = "masks"

    def load(self, spec: str, *, device: str, batch_size: int, project_dir: Path) -> FolderSegmenter:
        """Opens a folder of masks.

        Args:
            spec: the folder, absolute or relative to the trial's; "masks" is both the name and the default.
            device: not used.
            batch_size: not used.
            project_dir: the trial's folder.

        Raises:
            BiokinError: no such folder.
        """
        folder = Path(project_dir) / spec
        if not folder.is_dir():
            raise BiokinError(
                f"{folder}: no such folder of masks. Expected one folder of mask images, or one mask video, "
                "named "
                "like each camera in it; [biokin] masks_dir says where."
            )
        return FolderSegmenter(folder)


class FolderSegmenter:
    """One person from masks on disk: white on the person, black elsewhere.

    ``<folder>/<camera>/`` holds images whose names end in the frame's number in the camera's own recording,
    counted from 0 (``cam01_000012.png``), or there is a video of masks, ``<folder>/<camera>.mp4``. A frame
    without an image, or with a black one, is a frame without the person.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        self.description = f"masks of {self.folder}"
        self._images: dict[str, dict[int, Path]] = {}
        self._feeds: dict[str, tuple[deque, Iterator, list[int]]] = {}

    def segment(self, images: list[np.ndarray], camera: str, frames: list[int]) -> list[list[PersonInstance]]:
        """The person in each frame; ``images`` only give the size."""
        place = self._place(camera)
        found = []
        for image, frame in zip(images, frames, strict=True):
            if place.is_dir():
                path = self._numbered(camera, place).get(frame)
                raw = None if path is None else read_image(path, grey=True)
            else:
                path, raw = place, self._video_frame(camera, place, frame)
            person = None
            if raw is not None:
                mask = _fit(raw > (127 if raw.max() > 1 else 0), image.shape[:2], path)
                person = PersonInstance.from_mask(mask)
            found.append([] if person is None else [person])
        return found

    def _place(self, camera: str) -> Path:
        """Folder or video of a camera's masks."""
        for child in sorted(self.folder.iterdir()):
            name = child.name if child.is_dir() else child.stem
            usable = child.is_dir() or child.suffix.lower() in VIDEO_SUFFIXES
            if usable and name.lower() == camera.lower():
                return child
        there = ", ".join(sorted(child.name for child in self.folder.iterdir())) or "nothing"
        raise BiokinError(
            f"{self.folder}: no masks for camera {camera!r}. Expected a folder or video named {camera!r}; "
            "there is: "
            f"{there}."
        )

    def _numbered(self, camera: str, place: Path) -> dict[int, Path]:
        """The mask images of a camera by frame number."""
        if camera not in self._images:
            numbered: dict[int, Path] = {}
            for path in list_images(place):
                digits = re.findall(r"\d+", path.stem)
                if not digits:
                    raise BiokinError(f"{path}: the name of a mask must end in the frame's number.")
                number = int(digits[-1])
                if number in numbered:
                    raise BiokinError(
                        f"{path}: a second mask for frame {number}, beside {numbered[number].name}."
                    )
                numbered[number] = path
            if not numbered:
                raise BiokinError(f"{place}: no mask images in this folder.")
            self._images[camera] = numbered
        return self._images[camera]

    def _video_frame(self, camera: str, place: Path, frame: int) -> np.ndarray | None:
        """One frame of a mask video; runs on through the stream while frames rise. None beyond its end."""
        queue, stream, last = self._feeds.get(camera, (None, None, [frame]))
        if stream is None or frame <= last[0]:
            reader = VideoReader(place)
            queue, last = deque(), [-1, reader.info.frame_count]
            stream = reader.frames(iter(queue.popleft, None))
            self._feeds[camera] = (queue, stream, last)
        if frame >= last[1]:
            return None
        queue.append(frame)
        last[0] = frame
        return next(stream)[1][..., 1]


def _fit(mask: np.ndarray, shape: tuple[int, int], path: Path) -> np.ndarray:
    """The mask in the frame's size (height, width); scaled masks of the same proportions will do."""
    if mask.shape == shape:
        return mask
    if abs(mask.shape[0] * shape[1] / (mask.shape[1] * shape[0]) - 1) > 0.01:
        raise BiokinError(
            f"{path}: the mask has {mask.shape[1]}x{mask.shape[0]} pixels, the video {shape[1]}x{shape[0]}."
        )
    scaled = cv2.resize(mask.astype(np.uint8) * 255, shape[::-1], interpolation=cv2.INTER_LINEAR)
    return scaled > 127
