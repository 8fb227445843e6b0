"""Render a cache of synthetic training pairs.

    python -m odah.crops --output DIR --split train --subjects 600 --clips 2250 --frames-per-clip 16 \
        --motions motions.npz --workers 2
    python -m odah.crops --output DIR --split val --subjects 40 --clips 40 --frames-per-clip 64 --dense ...

A cache is a folder of shards. A shard is a folder of arrays, n frames of several whole clips in a row:

    rgb.npy         (n,2,S,S,3) uint8   RGB, zero outside the person
    mask.npy        (n,2,S,S)   uint8   1 on the person
    K.npy R.npy t.npy (n,2,3,3) (n,2,3,3) (n,2,3) float32   crop cameras, world (Z up, m) to camera
    coordinates.npy (n,39)      float32 rad and m, of OpenSim ground (X, Y, Z) = world (Y, Z, X)
    scales.npy      (n,22,3)    float32
    subject.npy clip.npy frame.npy motion.npy (n,) int32   frame counts at 60 Hz (dense) or 20 Hz;
                                        motion indexes manifest.json's "motions"
    manifest.json   written last

What is rendered depends on --seed, --split and the clip's number alone, not on workers or shards. Subjects
never appear in two splits, nor do recordings or the actions held out (see `odah.motions`). A run that was cut
off goes on where it stopped: finished shards are kept.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shutil
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from pose2sim_biokin.errors import BiokinError

SUBJECT_BASE = {"train": 0, "val": 1_000_000, "test": 2_000_000}
CLIPS_IN_A_ROW = 2  # of one subject, so that a shard fits half as many subjects as it has clips
FORMAT = "odah-cache-2"


@dataclass(frozen=True)
class Settings:
    """What a cache is made of; stored in its manifest and compared on resuming."""

    split: str
    subjects: int
    clips: int
    frames_per_clip: int
    dense: bool
    seed: int
    size: int
    shard_clips: int
    motions: str
    takes: int = 1
    tilt: float = 0.0
    shift: float = 0.0
    format: str = FORMAT


def subject_seed(settings: Settings, clip: int) -> int:
    """Seed, and id, of the subject of a clip; the splits' seeds are disjoint."""
    return SUBJECT_BASE[settings.split] + 10_000 * settings.seed + clip // CLIPS_IN_A_ROW % settings.subjects


def shard_clips(settings: Settings, shard: int) -> range:
    """Numbers of the clips in a shard."""
    first = shard * settings.shard_clips
    return range(first, min(first + settings.shard_clips, settings.clips))


def load_recordings(motions: str, skeleton, split: str) -> list:
    """The split's recordings of an archive; none without an archive."""
    from odah.motions.clips import read_clips, split_by_group

    return split_by_group(read_clips(Path(motions), skeleton))[split] if motions else []


def render_shard(settings: Settings, shard: int, output: Path) -> Path:
    """Render one shard, atomically: the folder appears when it is complete."""
    body, recordings = _workshop(settings)
    from odah.clip_render import render_clip, stable_seed

    clips = shard_clips(settings, shard)
    seeds = [subject_seed(settings, clip) for clip in clips]
    subjects = dict(zip(dict.fromkeys(seeds), body.sample_subjects(list(dict.fromkeys(seeds))), strict=True))
    columns: dict[str, list[np.ndarray]] = {}
    motions: list[str] = []
    for clip, seed in zip(clips, seeds, strict=True):
        subject = subjects[seed]
        rendered = render_clip(
            body,
            subject,
            settings.split,
            recordings,
            stable_seed(settings.seed, settings.split, "dense" if settings.dense else "spread", clip),
            settings.frames_per_clip,
            settings.dense,
            settings.size,
            settings.takes,
            settings.tilt,
            settings.shift,
        )
        n = settings.frames_per_clip
        motions += [label for label in dict.fromkeys(rendered.motions) if label not in motions]
        rows = {
            name: getattr(rendered, name) for name in ("rgb", "mask", "K", "R", "t", "coordinates", "frame")
        }
        rows["scales"] = np.broadcast_to(subject.scales.numpy(), (n, *subject.scales.shape))
        rows["subject"] = np.full(n, seed, dtype=np.int32)
        rows["clip"] = np.full(n, clip, dtype=np.int32)
        rows["motion"] = np.array([motions.index(label) for label in rendered.motions], dtype=np.int32)
        for name, values in rows.items():
            columns.setdefault(name, []).append(values)
    final = output / f"shard-{shard:05d}"
    partial = output / f".shard-{shard:05d}.{os.getpid()}"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        for name, parts in columns.items():
            np.save(partial / f"{name}.npy", np.concatenate(parts))
        manifest = {"format": FORMAT, "shard": shard, "frames": len(clips) * settings.frames_per_clip}
        manifest |= {"split": settings.split, "dense": settings.dense, "motions": motions}
        (partial / "manifest.json").write_text(json.dumps(manifest, indent=1), encoding="utf-8")
        os.replace(partial, final)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return final


_WORKSHOP: dict[Settings, tuple] = {}


def _workshop(settings: Settings) -> tuple:
    """Body and recordings of this process, made once."""
    if settings not in _WORKSHOP:
        import torch

        from odah.bodies.body import load_body

        if multiprocessing.parent_process() is not None:
            torch.set_num_threads(1)
        body = load_body("open", mesh="coarse")
        recordings = load_recordings(settings.motions, body.skeleton, settings.split)
        _WORKSHOP[settings] = (body, recordings)
    return _WORKSHOP[settings]


def _render_task(task: tuple[Settings, int, Path]) -> Path:
    return render_shard(*task)


def _check_resumable(settings: Settings, output: Path) -> None:
    """Write the cache's manifest, or compare it with the one that is there."""
    path = output / "manifest.json"
    wanted = asdict(settings) | {"motions": Path(settings.motions).name}
    if path.is_file():
        older = {"takes": Settings.takes, "tilt": Settings.tilt, "shift": Settings.shift}  # do not say
        found = older | json.loads(path.read_text(encoding="utf-8"))
        different = [key for key, value in wanted.items() if key != "clips" and found.get(key) != value]
        if different:
            key = different[0]
            raise BiokinError(
                f"{path}: this cache was made with {key} = {found.get(key)!r}, not {wanted[key]!r}. "
                "Give the same settings to go on with it, or another --output."
            )
    output.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}.tmp")
    partial.write_text(json.dumps(wanted, indent=1), encoding="utf-8")
    os.replace(partial, path)


def generate(settings: Settings, output: Path, workers: int = 1) -> list[Path]:
    """Render what is missing of a cache; the paths of all its shards.

    Raises:
        BiokinError: bad settings, or the folder holds a cache made with others.
    """
    if settings.dense and settings.takes != 1:
        raise BiokinError("--dense: consecutive frames are one take; leave --takes out.")
    if settings.takes > 0 and settings.frames_per_clip % settings.takes:
        raise BiokinError(
            f"--takes: expected a divisor of --frames-per-clip {settings.frames_per_clip}, found "
            f"{settings.takes}."
        )
    if settings.split not in SUBJECT_BASE:
        raise BiokinError(f"--split: expected one of {', '.join(SUBJECT_BASE)}, found {settings.split!r}.")
    for key in ("subjects", "clips", "frames_per_clip", "size", "shard_clips", "takes"):
        if getattr(settings, key) < 1:
            raise BiokinError(
                f"--{key.replace('_', '-')}: expected a positive number, found {getattr(settings, key)}."
            )
    output = Path(output)
    _check_resumable(settings, output)
    shards = range(-(-settings.clips // settings.shard_clips))
    paths = [output / f"shard-{shard:05d}" for shard in shards]
    tasks = [(settings, s, output) for s in shards if not (paths[s] / "manifest.json").is_file()]
    started = time.monotonic()

    def report(done: int, path: Path) -> None:
        clips = done * settings.shard_clips
        rate = 2 * clips * settings.frames_per_clip / (time.monotonic() - started)
        print(f"{path.name}: {done} of {len(tasks)} shards, {rate:.0f} crops/s", flush=True)

    if workers > 1 and len(tasks) > 1:
        with multiprocessing.get_context("spawn").Pool(workers) as pool:
            for done, path in enumerate(pool.imap_unordered(_render_task, tasks), 1):
                report(done, path)
    else:
        for done, task in enumerate(tasks, 1):
            report(done, render_shard(*task))
    return paths


def main(arguments: list[str] | None = None) -> int:
    """Command line; see the module docstring."""
    parser = argparse.ArgumentParser(description="Render a cache of synthetic training pairs.")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--split", default="train", choices=list(SUBJECT_BASE))
    parser.add_argument("--subjects", type=int, default=600)
    parser.add_argument("--clips", type=int, default=2250)
    parser.add_argument("--frames-per-clip", type=int, default=16)
    parser.add_argument(
        "--takes", type=int, default=1, help="motions of a clip, each seen by cameras of its own"
    )
    parser.add_argument(
        "--tilt",
        type=float,
        default=0.0,
        help="degrees (standard deviation) by which the pelvis is turned against thighs and trunk",
    )
    parser.add_argument(
        "--shift",
        type=float,
        default=0.0,
        help="degrees (standard deviation) by which every joint is turned, the same all through a take",
    )
    parser.add_argument("--dense", action="store_true", help="consecutive frames at 60 Hz")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--shard-clips", type=int, default=64)
    parser.add_argument(
        "--motions", default="", help=".npz archive of recorded clips; procedural only without"
    )
    parser.add_argument("--workers", type=int, default=2)
    args = vars(parser.parse_args(arguments))
    output, workers = args.pop("output"), args.pop("workers")
    try:
        generate(Settings(**args), output, workers)
    except BiokinError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
