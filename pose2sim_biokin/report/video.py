"""Results over what the cameras saw: pictures for the page, and a video of backends side by side."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from pose2sim_biokin.compare.comparison import Comparison
from pose2sim_biokin.compare.result import BackendResult
from pose2sim_biokin.errors import BiokinError
from pose2sim_biokin.io.atomic import atomic_path
from pose2sim_biokin.io.calibration import find_calibration, match_video_size, read_calibration
from pose2sim_biokin.io.project import View, read_trial
from pose2sim_biokin.io.video import VideoReader, VideoWriter
from pose2sim_biokin.overlay import draw_figure, draw_legend
from pose2sim_biokin.progress import Progress, no_progress
from pose2sim_biokin.report.figures import Figure, figure
from pose2sim_biokin.report.page import Series
from pose2sim_biokin.report.stills import Still, encode, spread
from pose2sim_biokin.vision.camera import Camera

_STILLS = 6
_PANEL = 720  # long side of one panel of the video, px
_DASH_PX = 11


def views_of(comparison: Comparison, config: Mapping[str, Any] | None = None) -> list[View]:
    """Two cameras with recordings that are still there: those that a result was made from.

    Where no quality file names any, the first two of the project.

    Args:
        comparison: its results' quality files name cameras and videos.
        config: the trial's merged Config.toml, for results without a quality file.

    Returns:
        The views; empty, with a line in the log, where calibration or videos are gone.
    """
    try:
        for result in comparison.results:
            if (result.quality or {}).get("views"):
                return _named_views(result)
        return list(read_trial(dict(config)).views[:2]) if config else []
    except BiokinError as error:
        logging.warning(f"No pictures of the cameras in the report of {comparison.name}: {error}")
        return []


def _named_views(result: BackendResult) -> list[View]:
    trial, named = result.trial_dir, Path(str(result.quality.get("calibration", "")))
    calibration = named if named.is_file() else find_calibration(trial)
    cameras = {camera.name: camera for camera in read_calibration(calibration)}
    views = []
    for view in result.quality["views"]:
        name, video = str(view.get("camera")), trial / "videos" / str(view.get("video"))
        if name not in cameras:
            raise BiokinError(f"{calibration}: has no camera {name}, which {result.mot.name} was made from.")
        info = VideoReader(video).info
        camera = match_video_size(cameras[name], info.width, info.height, video)
        views.append(View(camera, video, info, int(view.get("offset", 0))))
    return views


def comparison_stills(comparison: Comparison, styles: Sequence[Series], views: Sequence[View]) -> list[Still]:
    """All results in one picture, at the same moments in every view; not frames that cannot be read."""
    figures = [figure(result) for result in comparison.aligned]
    posed = np.all([result.posed for result in comparison.aligned], axis=0)
    if not views or not any(figures):
        return []
    moments = spread(max(1, _STILLS // len(views)), np.flatnonzero(posed))
    by_view = []
    for view in views:
        found = {}
        frames = _recorded(comparison, view)
        wanted = {int(frames[row]): row for row in moments if 0 <= frames[row] < view.info.frame_count}
        try:
            for frame, image in VideoReader(view.video).frames(sorted(wanted)):
                row = wanted[frame]
                image, camera = _resized(image, view.camera, 960)
                for style, drawn in zip(styles, figures, strict=True):
                    if drawn is not None:
                        _draw(image, camera, drawn, row, style)
                time = comparison.time[row]
                words = (
                    f"Skeletons of {' and '.join(comparison.labels)} over the picture of camera {view.name}"
                )
                found[row] = encode(image, f"{words} at {time:.2f} s", f"{view.name}, {time:.2f} s")
        except BiokinError as error:
            logging.warning(f"The report shows no pictures of {view.name}: {error}")
        by_view.append(found)
    return [found[row] for row in moments for found in by_view if row in found]


def write_side_by_side(
    comparison: Comparison, view: View, path: str | Path, progress: Progress = no_progress
) -> str:
    """Write a video of one camera with one panel a result, each with that result's skeleton.

    Right is orange, left blue and the trunk white, as in the overlay videos.

    Args:
        comparison: with results in the project's world.
        view: the camera with its recording; its frames are those nearest to the comparison's times.
        path: an .mp4 file, replaced in one step.

    Returns:
        The codec that was used.

    Raises:
        BiokinError: the recording does not hold these times or cannot be read, or the video cannot be
            written.
    """
    frames = _recorded(comparison, view)
    inside = (frames >= 0) & (frames < view.info.frame_count)
    if not inside.any():
        raise BiokinError(
            f"{view.video}: has frames 0 to {view.info.frame_count - 1}, but the comparison's times need "
            f"{frames[0]} to {frames[-1]}. Check that the results and the video are of the same trial."
        )
    figures = [figure(result) for result in comparison.aligned]
    rows = np.flatnonzero(inside)
    rate = 1 / float(np.median(np.diff(comparison.time)))
    with atomic_path(path) as staged:
        writer = None
        try:
            for done, (row, image) in enumerate(_images(view, rows, frames), start=1):
                image, camera = _resized(image, view.camera, _PANEL)
                panels = []
                for result, drawn in zip(comparison.aligned, figures, strict=True):
                    panel = image.copy()
                    seen = drawn is not None and bool(result.posed[row])
                    if seen:
                        draw_figure(panel, camera.project(drawn.points[row]), _sided(drawn))
                    legend = f"{result.label}  {comparison.time[row]:.2f} s"
                    draw_legend(panel, _ascii(legend), "" if seen else "no pose")
                    panels.append(panel)
                sheet = cv2.hconcat(panels)
                if writer is None:
                    writer = VideoWriter(staged, rate, (sheet.shape[1], sheet.shape[0])).__enter__()
                writer.write(sheet)
                progress("Drawing backends side by side", done, len(rows))
        except BaseException as error:
            if writer is not None:
                writer.__exit__(type(error), error, None)
            raise
        writer.__exit__(None, None, None)
    return writer.codec


def write_side_by_sides(
    comparison: Comparison,
    folder: str | Path,
    views: Sequence[View] | None = None,
    config: Mapping[str, Any] | None = None,
    progress: Progress = no_progress,
) -> dict[str, Path]:
    """One video side by side for each view (`views_of` when absent): ``side_by_side_<camera>.mp4``.

    Returns:
        "video <camera>" -> where it is.

    Raises:
        BiokinError: see `write_side_by_side`.
    """
    found = {}
    for view in views_of(comparison, config) if views is None else views:
        path = found[f"video {view.name}"] = Path(folder) / f"side_by_side_{view.name}.mp4"
        write_side_by_side(comparison, view, path, progress)
    return found


def _images(view: View, rows: np.ndarray, frames: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """(row, image) for each row; a frame that two rows share is read once."""
    distinct = np.unique(frames[rows])
    reader = VideoReader(view.video).frames([int(frame) for frame in distinct])
    current, image = next(reader)
    for row in rows:
        while current < frames[row]:
            current, image = next(reader)
        yield int(row), image


def _recorded(comparison: Comparison, view: View) -> np.ndarray:
    """(T,) frame of the recording at each common time: synchronised frame + offset, at the trial's rate."""
    known: Iterator[BackendResult] = (r for r in comparison.results if (r.quality or {}).get("fps"))
    first = next(known, None)
    fps = first.quality["fps"] if first is not None else view.info.fps or comparison.results[0].rate
    return np.round(comparison.time * fps).astype(int) + view.offset


def _resized(image: np.ndarray, camera: Camera, long_side: int) -> tuple[np.ndarray, Camera]:
    factor = long_side / max(camera.size)
    if factor >= 1:
        return image.copy(), camera
    smaller = camera.scaled(factor)
    return cv2.resize(image, smaller.size, interpolation=cv2.INTER_AREA), smaller


def _sided(drawn: Figure) -> tuple[tuple[int, int, str], ...]:
    return tuple((a, b, side) for (a, b), side in zip(drawn.links, drawn.sides, strict=True))


def _draw(image: np.ndarray, camera: Camera, drawn: Figure, row: int, style: Series) -> None:
    """A whole skeleton in one source's colour and dash, in place."""
    colour = tuple(int(style.colour[i : i + 2], 16) for i in (5, 3, 1))
    pixels = camera.project(drawn.points[row])
    limit = 4 * max(image.shape[:2])
    width = max(2, round(max(image.shape[:2]) / 320))
    for edge, shade in ((width + 2, (25, 25, 25)), (width, colour)):
        for a, b in drawn.links:
            ends = pixels[[a, b]]
            if not (np.isfinite(ends).all() and (np.abs(ends) < limit).all()):
                continue
            length = float(np.linalg.norm(ends[1] - ends[0]))
            pieces = 1 if style.dash == "solid" else max(1, round(length / _DASH_PX)) * 2 - 1
            at = np.linspace(0, 1, pieces + 1)[:, None] * (ends[1] - ends[0]) + ends[0]
            for start, stop in zip(at[:-1:2], at[1::2], strict=True):
                cv2.line(
                    image, *(tuple(np.round(p).astype(int)) for p in (start, stop)), shade, edge, cv2.LINE_AA
                )


def _ascii(text: str) -> str:
    """OpenCV's letters are ASCII only."""
    return text.encode("ascii", "replace").decode("ascii")
