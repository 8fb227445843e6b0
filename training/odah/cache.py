"""A cache of a data set of clips: the crops that the network would be shown of them, in shards.

    odah cache DATASET --output DIR --split train --every 3
    odah cache DATASET --output DIR --split val --dense

The films of a clip can only be read forwards; its crops, once cut out, in any order. They are cut out as in
`biokin run` (`pose2sim_biokin.vision.crops`), about the subject's true mask, and keep their background:
where training widens a mask, what was really behind the person leaks in. A shard is a clip (see
`odah.dataset`), with all pairs of its cameras; what is there already stays. `odah train` makes such a cache
by itself.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path

import numpy as np

from odah.clips import Clip, read_about, read_clip, sha256
from odah.datasets import SPLITS, read_dataset
from odah.whole import whole_folder
from pose2sim_biokin.errors import BiokinError
from pose2sim_biokin.io.atomic import atomic_path
from pose2sim_biokin.vision.camera import Camera
from pose2sim_biokin.vision.crops import mask_to_crop, warp_to_crop

FORMAT = "odah-cache-2"
_LEAST_PIXELS = 150  # of the person in a picture; less shows nothing


@dataclass(frozen=True)
class CacheSettings:
    """What is cut out of the clips.

    Attributes:
        split: "train", "val" or "test".
        size: side of the crops, pixels.
        every: each n-th frame is used.
    """

    split: str
    size: int
    every: int = 1


@dataclass(frozen=True)
class Crops:
    """What one camera sees of the person, by frame: image (S, S, 3) RGB, mask (S, S), K, R, t."""

    frames: dict[int, tuple[np.ndarray, ...]]


def camera_crops(clip: Clip, camera: int, settings: CacheSettings) -> Crops:
    """The crops of one camera; frames in which too little of the person is seen are left out."""
    wanted = range(0, clip.frames, settings.every)
    found = {}
    view: Camera = clip.cameras[camera]
    for frame, image, mask in zip(
        wanted, clip.images(camera, wanted), clip.masks(camera, wanted), strict=True
    ):
        if mask.sum() < _LEAST_PIXELS:
            continue
        try:
            crop = mask_to_crop(view, mask, settings.size)
        except ValueError:  # fills more than a picture can show
            continue
        cut, cover = warp_to_crop(view, crop, image, mask)
        if cover.any():
            found[frame] = (cut[..., ::-1], cover, crop.K, crop.R, crop.t)
    return Crops(found)


def cache_clip(folder: Path, name: str, number: int, settings: CacheSettings, output: Path) -> int:
    """Write the shard of a clip; the number of its pairs, 0 where no two cameras see the person at once.

    Args:
        folder: of the data set.  name: of the clip.  number: of the clip in the data set.
    """
    clip = read_clip(folder / name)
    views = [camera_crops(clip, k, settings) for k in range(len(clip.cameras))]
    columns: dict[str, list] = {key: [] for key in ("rgb", "mask", "K", "R", "t", "frame", "clip")}
    pairs = list(combinations(range(len(views)), 2))
    for k, (a, b) in enumerate(pairs):
        for frame in sorted(views[a].frames.keys() & views[b].frames.keys()):
            both = zip(views[a].frames[frame], views[b].frames[frame], strict=True)
            for key, values in zip(("rgb", "mask", "K", "R", "t"), both, strict=True):
                columns[key].append(np.stack(values))
            # counted as the refinement counts: neighbouring frames that are used differ by 1
            columns["frame"].append(frame // settings.every)
            columns["clip"].append(number * len(pairs) + k)
    count = len(columns["frame"])
    if not count:
        return 0
    rows = np.array(columns["frame"]) * settings.every
    arrays = {key: np.stack(columns[key]) for key in ("rgb", "mask")}
    arrays |= {key: np.stack(columns[key]).astype(np.float32) for key in ("K", "R", "t")}
    arrays |= {key: np.array(columns[key], dtype=np.int32) for key in ("frame", "clip")}
    arrays["coordinates"] = clip.motion.coordinates[rows].astype(np.float32)
    arrays["scales"] = np.broadcast_to(clip.motion.scales, (count, *clip.motion.scales.shape)).astype(
        np.float32
    )
    arrays["subject"] = np.full(count, int(clip.about["subject"]["seed"]), dtype=np.int32)
    pieces = clip.about["motion"]  # [{"frame": first, "kind": ..., "name": ...}, ...]
    labels = [f"{piece['kind']}: {piece['name']}" for piece in pieces]
    motions = list(dict.fromkeys(labels))
    first = np.array([piece["frame"] for piece in pieces])
    piece = np.searchsorted(first, rows, side="right") - 1
    arrays["motion"] = np.array([motions.index(labels[i]) for i in piece], dtype=np.int32)
    manifest = {"format": FORMAT, "frames": count, "split": settings.split, "motions": motions}
    manifest |= {"fps": clip.fps / settings.every, "background": True, "source": name}
    with whole_folder(output / _shard(name)) as partial:
        for key, array in arrays.items():
            np.save(partial / f"{key}.npy", array)
        (partial / "manifest.json").write_text(json.dumps(manifest, indent=1), encoding="utf-8")
    return count


def cache_dataset(
    folder: str | Path,
    output: str | Path,
    settings: CacheSettings,
    workers: int = 1,
    log: Callable[[str], None] = print,
) -> list[Path]:
    """Make what is missing of a data set's cache; the folders of its shards.

    Raises:
        BiokinError: no data set, none of the split's clips can be used, or the folder holds another cache.
    """
    folder, output = Path(folder), Path(output)
    dataset = read_dataset(folder)
    names = dataset.names(settings.split)
    if not names:
        raise BiokinError(
            f"{folder}: no clip of the split {settings.split!r}. Make a data set with such subjects."
        )
    about = {
        "format": FORMAT,
        **asdict(settings),
        # of what was drawn and seen: the same name in another data set is another clip
        "clips": {name: sha256(folder / name / "files.json") for name in names},
    }
    _check(output / "cache.json", about)
    numbers = {name: i for i, name in enumerate(dataset.names())}
    empty = output / "empty.json"
    without = set(json.loads(empty.read_text(encoding="utf-8"))) if empty.is_file() else set()
    missing = [n for n in names if n not in without and not (output / _shard(n) / "manifest.json").is_file()]
    tasks = [(folder, name, numbers[name], settings, output) for name in missing]
    for done, (name, count) in enumerate(_each(tasks, workers), 1):
        if not count:
            without.add(name)
            with atomic_path(empty) as path:
                path.write_text(json.dumps(sorted(without)), encoding="utf-8")
        if done % 10 == 0 or done == len(tasks):
            log(f"{output}: {done} of {len(tasks)} clips cut out")
    shards = [output / _shard(name) for name in names if name not in without]
    if not shards:
        raise BiokinError(f"{folder}: in no clip of {settings.split!r} two cameras see the person at once.")
    return shards


def _each(tasks: list[tuple], workers: int):
    if workers > 1 and len(tasks) > 1:
        with multiprocessing.get_context("spawn").Pool(min(workers, len(tasks))) as pool:
            yield from pool.imap_unordered(_task, tasks)
    else:
        yield from map(_task, tasks)


def _task(task: tuple) -> tuple[str, int]:
    return task[1], cache_clip(*task)


def _shard(name: str) -> str:
    return name.replace("/", "-")


def _check(path: Path, about: dict) -> None:
    """Write what a cache is of, or compare it with what is there; a data set may have grown."""
    if path.is_file():
        found = json.loads(path.read_text(encoding="utf-8"))
        for key, value in about.items():
            same = found.get(key) == value
            if key == "clips":
                same = all(value.get(name) == digest for name, digest in found.get(key, {}).items())
            if not same:
                what = "clips of another data set" if key == "clips" else f"{key} = {found.get(key)!r}"
                raise BiokinError(
                    f"{path.parent}: this cache was made with {what}. Give the same data set and settings to "
                    "go on with it, or another folder."
                )
    with atomic_path(path) as staged:
        staged.write_text(json.dumps(about, indent=1), encoding="utf-8")


def main(arguments: list[str] | None = None) -> int:
    """Command line; see the module docstring."""
    parser = argparse.ArgumentParser(description="Cut the crops out of a data set's clips.")
    parser.add_argument("dataset", type=Path, help="folder that `odah generate` made")
    parser.add_argument("--output", type=Path, required=True, help="folder of the cache")
    parser.add_argument("--split", default="train", choices=SPLITS)
    parser.add_argument(
        "--size", type=int, default=128, help="side of the crops, pixels (default: %(default)s)"
    )
    parser.add_argument("--every", type=int, default=3, help="use each n-th frame (default: %(default)s)")
    parser.add_argument(
        "--dense", action="store_true", help="consecutive frames at 60 Hz, for the refinement"
    )
    parser.add_argument("--workers", type=int, default=1, help="processes (default: %(default)s)")
    args = parser.parse_args(arguments)
    try:
        every = dense_step(args.dataset, args.split) if args.dense else args.every
        shards = cache_dataset(
            args.dataset, args.output, CacheSettings(args.split, args.size, every), args.workers
        )
    except BiokinError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    pairs = sum(len(np.load(shard / "frame.npy", mmap_mode="r")) for shard in shards)
    print(f"{args.output}: {pairs} pairs of {len(shards)} clips")
    return 0


def dense_step(folder: str | Path, split: str, rate: float = 60.0) -> int:
    """Each how many-th frame of a data set's clips gives frames at `rate` Hz.

    Raises:
        BiokinError: none does.
    """
    dataset = read_dataset(folder)
    names = dataset.names(split)
    fps = read_about(dataset.folder / names[0])["fps"] if names else rate
    step = round(fps / rate)
    if step < 1 or abs(fps / rate - step) > 1e-6:
        raise BiokinError(
            f"{folder}: clips of {fps:g} frames a second give none at {rate:g} Hz. Make a data set with "
            f"fps = {rate:g} for the refinement."
        )
    return step


if __name__ == "__main__":
    sys.exit(main())
