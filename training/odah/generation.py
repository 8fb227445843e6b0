"""Make a data set of clips.

    odah generate CONFIG --output DIR                       on all cores of this computer
    odah generate CONFIG --output DIR --workers 4
    odah generate CONFIG --output DIR --scheduler tcp://10.0.0.1:8786    on a Dask cluster that sees DIR

A clip is a task of its own and depends on the settings and its number alone (`odah.clip_factory`). A run that
was cut off, even by `kill -9`, goes on where it stopped; with a larger `clips` a data set grows. The manifest
(`odah.datasets`) holds

    complete    all clips are there or rejected
    version     of the generator; versions: of what the truth's bytes depend on
    config      all settings
    sources     SHA-256 of what the motions and bodies were read from
    splits      subjects, recordings ("motions") and actions that training never sees; decided beforehand
    clips       by name: split, index, subject, motion, residuals, rejected motions, SHA-256 of the files
    rejected    by name: why a clip could not be made
"""

from __future__ import annotations

import argparse
import hashlib
import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.progress import TimeElapsedColumn as Elapsed
from rich.progress import TimeRemainingColumn as Remaining
from rich.table import Table

import pose2sim_biokin
from odah import INTERRUPTED
from odah.clip_factory import Made, body_of, make_clip, recordings_of, versions
from odah.clips import read_files, sha256
from odah.datasets import (
    MANIFEST,
    SPLITS,
    clip_entry,
    is_dataset,
    read_dataset,
    read_rejected,
    verify,
    write_manifest,
)
from odah.generation_config import ClipPlan, Config, plan_clips, read_config
from odah.motions.sampler import HELD_OUT_ACTIONS
from odah.one_run import only_run
from odah.whole import remove_partial
from pose2sim_biokin.errors import BiokinError

_MODEL_FILES = ("SMPLX_*.npz", "SMPLX_*.pkl")


@dataclass(frozen=True)
class Summary:
    """What a run did.

    Attributes:
        made, found, rejected: clips of this run, of earlier runs, and given up in all.
        seconds: wall time of the run.
        manifest: of the complete data set.
    """

    made: int
    found: int
    rejected: int
    seconds: float
    manifest: dict


def generate(
    config: Config,
    output: str | Path,
    workers: int | None = None,
    scheduler: str | None = None,
    console: Console | None = None,
) -> Summary:
    """Make what is missing of a data set.

    Args:
        config: of the data set.
        output: its folder.
        workers: processes; one a core when absent; 1 works in this process.
        scheduler: address of a Dask scheduler whose workers see `output` under the same path.
        console: draws a progress bar.

    Raises:
        BiokinError: settings that cannot be used, a folder that holds another data set, a full disk.
    """
    started = time.monotonic()
    output = Path(output).resolve()
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BiokinError(f"{output}: cannot be made ({error.strerror}). Choose another --output.") from error
    manifest = _opening(config)
    with only_run(output):
        _check_resumable(manifest, output)
        remove_partial(output)
        plans = plan_clips(config)
        done = [plan for plan in plans if _is_done(output, plan)]
        write_manifest(output, manifest | _contents(output, done))
        todo = [plan for plan in plans if plan not in set(done)]
        made = 0
        with _bar(console, len(plans), len(done)) as advance:
            for result in _work(config, todo, output, workers, scheduler):
                made += result.done
                advance()
        contents = _contents(output, plans)
        manifest = manifest | contents | {"complete": True}
        write_manifest(output, manifest)
    rejected = len(contents["rejected"])
    return Summary(made, len(done), rejected, time.monotonic() - started, manifest)


def _opening(config: Config) -> dict:
    """The manifest before there is any clip; reads all sources, so that bad ones show at once."""
    plans = plan_clips(replace(config, dataset=replace(config.dataset, clips=config.subjects)))
    body = body_of(config, plans[0].subject)
    recordings = recordings_of(config, body.skeleton)
    paths = [*config.motion.sources, *([config.body.model_folder] if config.body.model_folder else [])]
    return {
        "complete": False,
        "version": pose2sim_biokin.__version__,
        "versions": versions(),
        "config": config.as_dict(),
        "sources": {path: _digest(config.path(path), path == config.body.model_folder) for path in paths},
        "splits": {
            "subjects": {s: [p.name.split("/")[0] for p in plans if p.split == s] for s in SPLITS},
            "motions": {s: sorted({r.group for r in recordings[s]}) for s in SPLITS},
            "held_out_actions": list(HELD_OUT_ACTIONS),
        },
    }


def _contents(output: Path, plans: list[ClipPlan]) -> dict:
    """The manifest's clips and rejected ones, from what lies on disk."""
    clips, rejected = {}, {}
    for plan in plans:
        reasons = read_rejected(output, plan.name)
        if reasons is not None:
            rejected[plan.name] = reasons
        else:
            known = asdict(plan)
            clips[known.pop("name")] = clip_entry(
                output, plan.name, {"split": plan.split, "index": plan.index}
            )
    return {"clips": clips, "rejected": rejected}


def _check_resumable(wanted: dict, output: Path) -> None:
    """Compare with the manifest that is there already."""
    if not is_dataset(output):
        other = [p.name for p in output.iterdir() if not p.name.startswith(".")]
        if other:
            raise BiokinError(
                f"{output}: not a data set (no {MANIFEST}), but it holds {other[0]!r}. Choose an empty "
                "--output."
            )
        return
    found = read_dataset(output).manifest
    for key in ("version", "sources", "splits"):
        if found.get(key) != wanted[key]:
            raise BiokinError(
                f"{output / MANIFEST}: this data set was made with {key} = {_short(found.get(key))}, not "
                f"{_short(wanted[key])}. Give the same to go on with it, or another --output."
            )
    for table, values in wanted["config"].items():
        for key, value in values.items():
            before = found.get("config", {}).get(table, {}).get(key)
            if table == "render" and key == "device":
                continue  # changes no truth
            if key == "clips" and isinstance(before, int) and value >= before:
                continue
            if before != value:
                raise BiokinError(
                    f"{output / MANIFEST}: this data set was made with [{table}] {key} = {before!r}, not "
                    f"{value!r}. Give the same settings to go on with it, or another --output."
                )


def _is_done(output: Path, plan: ClipPlan) -> bool:
    """The clip is there or was given up; raises BiokinError for a folder that is not whole."""
    if read_rejected(output, plan.name) is not None:
        return True
    folder = output / plan.name
    if not folder.exists():
        return False
    read_files(folder)
    return True


def _work(
    config: Config, todo: list[ClipPlan], output: Path, workers: int | None, scheduler: str | None
) -> Iterator[Made]:
    """Results as they come."""
    if workers is not None and workers < 1:
        raise BiokinError(f"--workers: expected 1 or more, found {workers}.")
    workers = min(workers or _cores(), len(todo))
    if not todo:
        return
    if scheduler is None and workers == 1:
        for plan in todo:
            yield make_clip(config, plan, output)
        return
    import distributed

    with _cluster(workers, scheduler) as client:
        futures = client.map(
            make_clip,
            [config] * len(todo),
            todo,
            [output] * len(todo),
            pure=False,
            key=[p.name for p in todo],
        )
        try:
            for future in distributed.as_completed(futures):
                try:
                    yield future.result()
                except distributed.scheduler.KilledWorker as error:
                    raise BiokinError(
                        f"{future.key}: the worker processes that made this clip were killed, several times. "
                        "Is there memory enough? Try fewer --workers."
                    ) from error
        finally:
            client.cancel(futures, force=True)


@contextmanager
def _cluster(workers: int, scheduler: str | None) -> Iterator:
    """A Dask client of local processes, or of a cluster that is there already."""
    import dask
    import distributed

    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    if scheduler is not None:
        try:
            client = distributed.Client(scheduler, timeout="20s")
        except (OSError, TimeoutError, ValueError) as error:
            raise BiokinError(
                f"--scheduler {scheduler}: no Dask scheduler answers there ({error}). Start one with "
                "`dask scheduler`, and workers with `dask worker ADDRESS`."
            ) from error
        with client:
            yield client
        return
    # Dask's own choice lets glibc hand memory back after every tensor: three times slower.
    environment = {f"{name}_NUM_THREADS": 1 for name in ("OMP", "MKL", "OPENBLAS")}
    with (
        dask.config.set({"distributed.nanny.pre-spawn-environ": environment}),
        distributed.LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            dashboard_address=":0",  # a free port: two runs at once do not warn of each other
            memory_limit=0,
            silence_logs=logging.CRITICAL,
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


@contextmanager
def _bar(console: Console | None, total: int, done: int) -> Iterator:
    """A function to call after each clip."""
    columns = (TextColumn("Making clips"), BarColumn(), MofNCompleteColumn(), Elapsed(), TextColumn("left"))
    with Progress(*columns, Remaining(), console=console, disable=console is None) as bar:
        # what was there already says nothing about the speed: the bar starts with it
        task = bar.add_task("", total=total, completed=done)
        yield lambda: bar.advance(task)


def closing_table(output: Path, summary: Summary) -> Table:
    """A run's figures, and the residuals over the whole data set."""
    table = Table(title=str(output), title_justify="left", show_header=False, box=None, pad_edge=False)
    clips = summary.manifest["clips"].values()
    table.add_row("made now", f"{summary.made} clips in {summary.seconds:.0f} s")
    table.add_row("made before", f"{summary.found} clips")
    again = sum(len(clip["rejected"]) for clip in clips)
    table.add_row("rejected", f"{summary.rejected} clips; {again} motions drawn again")
    for split in SPLITS:
        table.add_row(split, f"{sum(clip['split'] == split for clip in clips)} clips")
    for key, name in (("joint_rms_mm", "joint residual"), ("marker_rms_mm", "marker residual")):
        values = [clip["residuals"][key] for clip in clips]
        if values:
            text = f"median {np.median(values):.1f}, largest {max(values):.1f} mm RMS over a clip"
            table.add_row(name, text)
    return table


def _digest(path: Path, model: bool = False) -> str:
    """SHA-256 of a file, or of the names and contents of a folder's files (of a model folder, its models)."""
    if path.is_file():
        return sha256(path)
    files = [p for pattern in (_MODEL_FILES if model else ("*",)) for p in path.rglob(pattern) if p.is_file()]
    lines = [f"{p.relative_to(path).as_posix()} {sha256(p)}" for p in sorted(files)]
    return hashlib.sha256("\n".join(lines).encode("utf-8")).hexdigest()


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) < 80 else text[:77] + "..."


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def main(arguments: list[str] | None = None) -> int:
    """Command line; see the module docstring."""
    parser = argparse.ArgumentParser(description="Make a data set of synthetic clips.")
    parser.add_argument("config", type=Path, help="TOML file, as training/configs/data_tiny.toml")
    parser.add_argument("--output", type=Path, required=True, help="folder of the data set")
    parser.add_argument("--workers", type=int, help="processes; all cores without")
    parser.add_argument("--scheduler", help="address of a Dask scheduler, as tcp://10.0.0.1:8786")
    parser.add_argument("--clips", type=int, help="another number of clips than the config's")
    parser.add_argument("--verify", action="store_true", help="make nothing; check every file's checksum")
    args = parser.parse_args(arguments)
    console = Console(stderr=True)
    try:
        if args.verify:
            problems = verify(args.output)
            console.print("\n".join(problems) or "Every file is as it was written.", highlight=False)
            return 1 if problems else 0
        config = read_config(args.config)
        if args.clips is not None:
            config = replace(config, dataset=replace(config.dataset, clips=args.clips))
        summary = generate(config, args.output, args.workers, args.scheduler, console)
        Console().print(closing_table(args.output, summary))
    except BiokinError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Interrupted. Finished clips are kept; run again to go on.", file=sys.stderr)
        return INTERRUPTED
    return 0


if __name__ == "__main__":
    sys.exit(main())
