"""Look at a clip or a data set: frames with the true skeleton and masks drawn on, residuals, coverage.

    odah inspect CLIP --output sheet.png          frames of both views over time
    odah inspect DATASET --output sheet.png       one moment of many clips, other subjects first

Beside the sheet, `<name>_coverage.png` shows how often each coordinate takes which values. Right is orange,
left is blue, the mask's outline green; markers are small white dots.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from rich.console import Console
from rich.table import Table

from odah.clips import Clip, read_clip
from odah.datasets import SPLITS, is_dataset, read_dataset
from pose2sim_biokin.errors import BiokinError
from pose2sim_biokin.io.atomic import atomic_path
from pose2sim_biokin.overlay import draw_figure, draw_outline, stick_figure
from pose2sim_biokin.skeleton import Skeleton, load_skeleton
from pose2sim_biokin.vision.masks import mask_box

TILE_PX = 360  # longer side of a picture of the sheet
_CAPTION_PX = 18
_ROOM = 1.3  # side of a close picture, in sides of the person's box


def annotated(
    clip: Clip, camera: int, frames: Sequence[int], skeleton: Skeleton, close: bool = False
) -> list[np.ndarray]:
    """Frames of a clip, BGR uint8, with skeleton, markers and mask outline.

    Args:
        close: squares of TILE_PX about the person; else whole frames, the longer side TILE_PX.
    """
    figure = stick_figure(clip.motion, skeleton)
    view = clip.cameras[camera]
    first = len(clip.names) - len(skeleton.marker_names)
    tiles = []
    pictures = zip(frames, clip.images(camera, frames), clip.masks(camera, frames), strict=True)
    for frame, image, mask in pictures:
        points, markers = (view.project(p) for p in (figure.points[frame], clip.world_points[frame, first:]))
        # from pixels of the frame to pixels of the tile; pixel centres lie at whole numbers
        corner, side = _square(mask) if close else (np.zeros(2), float(max(view.size)))
        factor = TILE_PX / side
        size = (TILE_PX, TILE_PX) if close else tuple(round(factor * n) for n in view.size)
        shift = factor * (0.5 - corner) - 0.5
        to_tile = np.array([[factor, 0, shift[0]], [0, factor, shift[1]]])
        tile = cv2.warpAffine(image, to_tile, size, flags=cv2.INTER_AREA, borderValue=(30, 30, 30))
        shown = cv2.warpAffine(mask.astype(np.uint8), to_tile, size, flags=cv2.INTER_NEAREST)
        draw_outline(tile, shown)
        points, markers = factor * points + shift, factor * markers + shift
        draw_figure(tile, points, figure.links)
        for x, y in markers[np.isfinite(markers).all(1) & (np.abs(markers) < 1e4).all(1)]:
            cv2.circle(tile, (round(x), round(y)), 1, (255, 255, 255), -1, cv2.LINE_AA)
        tiles.append(tile)
    return tiles


def clip_sheet(clip: Clip, count: int = 6) -> np.ndarray:
    """A row of frames for each camera."""
    skeleton = load_skeleton(clip.motion.skeleton)
    frames = sorted(set(np.linspace(0, clip.frames - 1, count).round().astype(int).tolist()))
    rows = []
    for k, camera in enumerate(clip.cameras):
        tiles = annotated(clip, k, frames, skeleton)
        rows.append([captioned(t, f"{camera.name} {f}") for t, f in zip(tiles, frames, strict=True)])
    return grid([tile for row in rows for tile in row], len(frames))


def dataset_sheet(clips: Sequence[Clip], columns: int = 4) -> np.ndarray:
    """Both views of the person in the middle frame of each clip."""
    tiles = []
    for clip in clips:
        skeleton = load_skeleton(clip.motion.skeleton)
        views = [
            annotated(clip, k, [clip.frames // 2], skeleton, close=True)[0] for k in range(len(clip.cameras))
        ]
        height = max(view.shape[0] for view in views)
        pair = np.concatenate([_padded(view, height, view.shape[1]) for view in views], axis=1)
        residuals = clip.about["residuals"]
        joints, markers = residuals["joint_rms_mm"], residuals["marker_rms_mm"]
        tiles.append(captioned(pair, f"{clip.about['clip']}  {joints:.1f} / {markers:.1f} mm"))
    return grid(tiles, columns)


def choose_clips(names: Sequence[str], count: int) -> list[str]:
    """Up to `count` clips, as many different subjects as there are, evenly over the data set."""
    rounds: dict[str, list[str]] = {}
    for name in names:
        rounds.setdefault(name.split("/")[0], []).append(name)
    deepest = max(map(len, rounds.values()), default=0)
    turns = [[clips[turn] for clips in rounds.values() if turn < len(clips)] for turn in range(deepest)]
    chosen: list[str] = []
    for turn in turns:
        room = count - len(chosen)
        keep = np.linspace(0, len(turn) - 1, min(room, len(turn))).round().astype(int)
        chosen += [turn[i] for i in keep]
        if len(chosen) >= count:
            break
    return sorted(chosen)


def residual_table(title: str, entries: dict[str, dict]) -> Table:
    """Residuals of clips (name -> truth.json or the manifest's entry), one a row, and over all of them."""
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for name in ("clip", "split", "motion", "joints mm", "markers mm", "redrawn"):
        table.add_column(name, justify="right" if name.endswith("mm") or name == "redrawn" else "left")
    values = []
    for name, entry in entries.items():
        residuals = entry["residuals"]
        values.append((residuals["joint_rms_mm"], residuals["marker_rms_mm"]))
        motion = ", ".join(piece["name"] for piece in entry["motion"])
        numbers = [f"{value:.1f}" for value in values[-1]]
        table.add_row(name, entry["split"], motion[:60], *numbers, str(len(entry["rejected"])))
    if len(values) > 1:
        table.add_section()
        for label, reduce in (
            ("median", np.median),
            ("95 %", lambda v: np.percentile(v, 95)),
            ("largest", max),
        ):
            table.add_row(label, "", "", *(f"{reduce(v):.1f}" for v in np.transpose(values)), "")
    return table


def write_picture(path: Path, image: np.ndarray) -> None:
    """Write a picture (H, W, 3) BGR in one step."""
    done, data = cv2.imencode(path.suffix or ".png", image)
    if not done:
        raise BiokinError(f"{path}: cannot be written as a picture; name it .png.")
    with atomic_path(path) as staged:
        staged.write_bytes(data.tobytes())


def inspect(folder: Path, output: Path, count: int | None = None) -> Table:
    """Draw the sheets of a clip or a data set; the table of its residuals.

    Raises:
        BiokinError: neither a clip nor a data set, or one that is not whole.
    """
    from odah.motions.coverage import coverage_picture

    if output.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise BiokinError(f"--output: expected a .png file, found {output.name!r}.")
    if is_dataset(folder):
        dataset = read_dataset(folder)
        names = dataset.names()
        if not names:
            raise BiokinError(f"{folder}: the data set has no clips yet. Run `odah generate` to the end.")
        clips = {name: dataset.clip(name) for name in names}
        sheet = dataset_sheet([clips[name] for name in choose_clips(names, count or 24)])
        entries = dataset.manifest["clips"]
        numbers = ", ".join(f"{len(dataset.names(split))} {split}" for split in SPLITS)
        title = f"{folder}: {len(names)} clips ({numbers}), {len(dataset.manifest['rejected'])} rejected"
    else:
        clip = read_clip(folder)
        clips = {clip.about.get("clip", folder.name): clip}
        sheet = clip_sheet(clip, count or 6)
        entries = {name: c.about for name, c in clips.items()}
        title = f"{folder}: {clip.frames} frames at {clip.fps:g} Hz"
    write_picture(output, sheet)
    skeleton = load_skeleton(next(iter(clips.values())).motion.skeleton)
    coordinates = np.concatenate([clip.motion.coordinates for clip in clips.values()])
    coverage_picture(coordinates, skeleton, output.with_name(f"{output.stem}_coverage.png"))
    return residual_table(title, entries)


def _square(mask: np.ndarray) -> tuple[np.ndarray, float]:
    """Corner (2,) and side of a square about a mask (H, W) with some room, px; all if it is empty."""
    box = mask_box(mask)
    if box is None:
        return np.zeros(2), float(max(mask.shape))
    low, high = np.array(box[:2], float), np.array(box[2:], float)
    side = _ROOM * (high - low).max()
    return (low + high - side) / 2, side


def captioned(tile: np.ndarray, text: str) -> np.ndarray:
    """A picture (H, W, 3) with a line of text above it."""
    strip = np.full((_CAPTION_PX, tile.shape[1], 3), 30, np.uint8)
    cv2.putText(strip, text, (4, 13), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (230, 230, 230), 1, cv2.LINE_AA)
    return np.concatenate([strip, tile])


def _padded(tile: np.ndarray, height: int, width: int) -> np.ndarray:
    below, right = height - tile.shape[0], width - tile.shape[1]
    return cv2.copyMakeBorder(tile, 0, below, 0, right, cv2.BORDER_CONSTANT, value=(30, 30, 30))


def grid(tiles: list[np.ndarray], columns: int) -> np.ndarray:
    """Pictures of any size, in rows of so many."""
    columns = min(columns, len(tiles))
    height, width = (max(tile.shape[axis] for tile in tiles) for axis in (0, 1))
    blank = np.full((height, width, 3), 30, np.uint8)
    cells = [_padded(tile, height, width) for tile in tiles]
    cells += [blank] * (columns * math.ceil(len(cells) / columns) - len(cells))
    rows = [np.concatenate(cells[i : i + columns], axis=1) for i in range(0, len(cells), columns)]
    return np.concatenate(rows)


def main(arguments: list[str] | None = None) -> int:
    """Command line; see the module docstring."""
    parser = argparse.ArgumentParser(description="Look at a clip or a data set.")
    parser.add_argument("folder", type=Path, metavar="CLIP|DATASET")
    parser.add_argument("--output", type=Path, required=True, help="the sheet, a .png file")
    parser.add_argument("--count", type=int, help="frames of a clip (6), or clips of a data set (24)")
    args = parser.parse_args(arguments)
    try:
        table = inspect(args.folder, args.output, args.count)
    except BiokinError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    Console().print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
