"""Where results come from: files that are there, backends that are run, pairs that the user names."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

from pose2sim_biokin.compare.result import BackendResult, read_result
from pose2sim_biokin.compare.upstream import TRUTH, run_upstream
from pose2sim_biokin.errors import BiokinError
from pose2sim_biokin.progress import Progress
from pose2sim_biokin.quality import read_quality

RUNS = "runs"  # folder in a trial's compare folder: results of ours for other camera pairs
UPSTREAM, OURS = "opensim", "biokin"


def backend_result(
    backend: str, config_dict: dict[str, Any], *, rerun: bool = False, progress: Progress | None = None
) -> tuple[BackendResult, list[str]]:
    """A backend's result of a trial: the one in its kinematics folder, else the backend is run.

    Args:
        backend: name of an installed backend; its label as well.
        config_dict: of the trial.
        rerun: run the backend even if there is a result. Not for upstream's, which writes over nothing.

    Returns:
        The result, and what a reader must know about where it comes from.

    Raises:
        BiokinError: no such backend, or it cannot run.
    """
    from pose2sim_biokin.plugins import backends, get_backend

    runner = get_backend(backend)
    folder = Path(config_dict["project"]["project_dir"]).resolve() / "kinematics"
    found = existing(folder, backend, list(backends()))
    if found and (not rerun or backend == UPSTREAM):
        notes = []
        if len(found) > 1:
            notes.append(
                f"{backend}: {len(found)} results are in {folder}; the newest, {found[0].name}, is compared."
            )
        logging.info(f"{backend}: taking the result that is there, {found[0].name}.")
        return read_result(found[0].with_suffix(".osim"), found[0], backend), notes
    logging.info(f"{backend}: no result in {folder}: running it.")
    if backend == UPSTREAM:
        run = run_upstream(config_dict)
        note = f"{backend}: {', '.join(run.stages)} ran, beginning with {run.start}; the run time is theirs."
        return read_result(run.osim, run.mot, backend, run_time_s=run.seconds), [note]
    if backend == OURS:
        return _run_biokin(config_dict, OURS, None, progress), []
    before = {path: path.stat().st_mtime_ns for path in folder.glob("*.mot")}
    begin = time.perf_counter()
    try:
        runner.run(deepcopy(config_dict))
    except BiokinError:
        raise
    except Exception as error:  # whatever a stranger's backend raises
        raise BiokinError(f'Backend "{backend}" failed: {error!r}') from error
    seconds = time.perf_counter() - begin
    made = [p for p in _motions(folder) if before.get(p) != p.stat().st_mtime_ns]
    if not made:
        raise BiokinError(
            f'Backend "{backend}" ran, but wrote no .mot with an .osim of the same name to {folder}. Give '
            f"its files with --pair {backend}=MODEL.osim,MOTION.mot."
        )
    return read_result(made[0].with_suffix(".osim"), made[0], backend, run_time_s=seconds), []


def views_result(
    views: Sequence[str],
    config_dict: dict[str, Any],
    *,
    rerun: bool = False,
    progress: Progress | None = None,
) -> BackendResult:
    """biokin's result from two named cameras: one that is there already, else it is run.

    New results go to ``compare/runs/<cameras>`` in the trial, so that those in kinematics stay as they are.

    Raises:
        BiokinError: the cameras or anything else in the trial cannot be used.
    """
    folder = Path(config_dict["project"]["project_dir"]).resolve()
    label = f"{OURS} {','.join(views)}"
    output = folder / "compare" / RUNS / "_".join((OURS, *views))
    for place in () if rerun else (output / "kinematics", folder / "kinematics"):
        for mot in existing(place, OURS, [OURS]):
            quality = mot.with_name(f"{mot.stem}_quality.json")
            if quality.is_file() and _cameras(quality) == set(views):
                logging.info(f"{label}: taking the result that is there, {mot}.")
                return read_result(mot.with_suffix(".osim"), mot, label)
    config_dict = deepcopy(config_dict)
    config_dict.setdefault(OURS, {})["views"] = list(views)
    logging.info(f"{label}: running it.")
    return _run_biokin(config_dict, label, output, progress)


def pair_results(pairs: Mapping[str, tuple[str | Path, str | Path]], folder: Path) -> list[BackendResult]:
    """Results of any origin: label -> model and motion, in the trial's folder or where the path says.

    Raises:
        BiokinError: a file is missing or broken.
    """
    return [
        read_result(*((folder / p) if (folder / p).is_file() else Path(p) for p in files), label)
        for label, files in pairs.items()
    ]


def existing(folder: Path, backend: str, known: Sequence[str]) -> list[Path]:
    """Motions of a backend in a kinematics folder, the newest first.

    A backend's files end in its name, upstream's in no backend's; filtered ones do not count, nor does the
    truth of a synthetic trial.
    """
    if backend == UPSTREAM:
        others = [name for name in known if name != UPSTREAM]
        return [p for p in _motions(folder) if p.stem != TRUTH and not any(_is_of(p, n) for n in others)]
    return [p for p in _motions(folder) if _is_of(p, backend)]


def _is_of(path: Path, backend: str) -> bool:
    return path.stem.endswith(f"_{backend}")


def _motions(folder: Path) -> list[Path]:
    """Motions that have a model of the same name beside them, the newest first."""
    found = [p for p in folder.glob("*.mot") if p.with_suffix(".osim").is_file()]
    return sorted(found, key=lambda p: (-p.stat().st_mtime_ns, p.name))


def _cameras(quality: Path) -> set[str]:
    try:
        return {view["camera"] for view in read_quality(quality)["views"]}
    except (BiokinError, KeyError, TypeError):
        return set()


def _run_biokin(
    config_dict: dict[str, Any], label: str, output: Path | None, progress: Progress | None
) -> BackendResult:
    from pose2sim_biokin.pipeline import run_trial

    result = run_trial(deepcopy(config_dict), progress=progress, output_dir=output)
    return read_result(
        result.paths["osim"], result.paths["mot"], label, run_time_s=result.timings.get("total")
    )
