"""A trial or a whole batch: results found or made, compared, written. What `biokin compare` does."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pose2sim_biokin.compare.build import compare_results
from pose2sim_biokin.compare.comparison import Comparison
from pose2sim_biokin.compare.result import BackendResult
from pose2sim_biokin.compare.sources import RUNS, backend_result, pair_results, views_result
from pose2sim_biokin.errors import BiokinError
from pose2sim_biokin.progress import Progress, no_progress
from pose2sim_biokin.trials import read_configs, trial_folder

DEFAULT_BACKENDS = ("opensim", "biokin")
Pairs = Mapping[str, tuple[str | Path, str | Path]]


@dataclass(frozen=True)
class TrialOutcome:
    """What became of one trial.

    Attributes:
        trial: its name. folder: its folder.
        comparison: None where the trial failed.
        paths: "json", "csv", "report" -> files that were written.
        error: why the trial failed.
    """

    trial: str
    folder: Path
    comparison: Comparison | None = field(repr=False, default=None)
    paths: dict[str, Path] = field(default_factory=dict)
    error: str | None = None


def compare_project(
    project: str | Path,
    backends: Sequence[str] | None = None,
    results: Pairs | None = None,
    *,
    views: Sequence[Sequence[str]] = (),
    reference: str | None = None,
    name: str | None = None,
    align: bool = False,
    force: bool = False,
    rerun: bool = False,
    report: bool = True,
    video: bool = False,
    overrides: Mapping[str, Any] | None = None,
    progress: Callable[[], AbstractContextManager[Progress]] | None = None,
) -> tuple[TrialOutcome, ...]:
    """Compare the results of two or more backends, camera pairs or files, trial by trial.

    Results that are in a trial already are taken; what is missing is run. What cannot be run is reported, and
    the rest is compared. Everything goes to ``<trial>/compare/<name>/``: comparison.json, comparison.csv and
    report.html. A trial of a batch that fails does not stop the others.

    Args:
        project: folder of a trial or of a batch, or a Config.toml.
        backends: names of installed backends. When absent: opensim (Pose2Sim's own) and biokin, unless
            `results` and `views` are two or more by themselves.
        results: label -> (model.osim, motion.mot) of any origin, such as a marker-based reference; paths may
            be relative to each trial.
        views: pairs of cameras; biokin's results from each are compared.
        reference: label that the others are measured against; by default the first of `results`, else of
            `backends`, else of `views`.
        name: of the comparison's folder; made of the labels when absent.
        align: shift results in time by their estimated lag.
        force: write into a folder that exists.
        rerun: run biokin and third-party backends even if there are results.
        report: write the page as well.
        video: write a video of both views with all results side by side as well.
        overrides: keys of [biokin] that win over Config.toml.
        progress: gives a context with a `Progress`, for each trial.

    Returns:
        One outcome a trial.

    Raises:
        BiokinError: the project cannot be read, or it has one trial and that one failed.
    """
    project = Path(project)
    results = dict(results or {})
    if backends is None:
        backends = () if len(results) + len(views) >= 2 else DEFAULT_BACKENDS
    if len(backends) + len(results) + len(views) < 2:
        raise BiokinError(
            "One result cannot be compared: name two or more backends, pairs of model and motion, or pairs "
            "of cameras."
        )
    if name is not None and (name == RUNS or folder_name(name) != name):
        raise BiokinError(
            f'"{name}" cannot be the name of a comparison: expected letters, digits and . , _ -, and not '
            f'"{RUNS}".'
        )

    def job(config_dict: dict[str, Any], folder: Path) -> TrialOutcome:
        config_dict.setdefault("biokin", {}).update(overrides or {})
        with progress() if progress is not None else nullcontext(no_progress) as bars:
            found, notes = _collect(config_dict, backends, results, views, rerun, bars, folder, name, force)
        comparison = compare_results(
            _reference_first(found, reference),
            name=name or default_name([r.label for r in found]),
            trial=folder.name,
            align=align,
            notes=notes,
            provenance={"project_dir": str(folder), "biokin_config": config_dict["biokin"]},
        )
        return _write(comparison, folder, force, report, video, config_dict)

    outcomes = each_trial(project, job)
    if len(outcomes) > 1 and report:
        _session_page(outcomes, project if project.is_dir() else project.parent)
    return outcomes


def each_trial(
    project: Path, job: Callable[[dict[str, Any], Path], TrialOutcome]
) -> tuple[TrialOutcome, ...]:
    """The job, given config and folder, for every trial; of several, one that fails does not stop the others.

    Raises:
        BiokinError: the project cannot be read, or it has one trial and that one failed.
    """
    config_dicts = read_configs(project)
    outcomes = []
    for config_dict in config_dicts:
        folder = trial_folder(config_dict)
        try:
            outcomes.append(job(config_dict, folder))
        except BiokinError as error:
            if len(config_dicts) == 1:
                raise
            logging.error(f"{folder.name}: {error}")
            outcomes.append(TrialOutcome(folder.name, folder, error=str(error)))
    return tuple(outcomes)


def folder_name(label: str) -> str:
    """A label as the name of a folder on any system."""
    return re.sub(r"[^\w.,-]+", "_", label).strip("._") or "comparison"


def default_name(labels: Sequence[str]) -> str:
    """Name of a comparison of these results."""
    return folder_name("_vs_".join(labels))


def _collect(
    config_dict: dict[str, Any],
    backends: Sequence[str],
    results: Pairs,
    views: Sequence[Sequence[str]],
    rerun: bool,
    progress: Progress,
    folder: Path,
    name: str | None,
    force: bool,
) -> tuple[list[BackendResult], list[str]]:
    """Results of one trial, pairs first; what is missing is in the notes."""
    labels = [*results, *backends, *(f"biokin {','.join(pair)}" for pair in views)]
    _check_free(folder / "compare" / (name or default_name(labels)), force)
    found, notes = pair_results(results, folder), []
    jobs: list[tuple[str, Callable[[], BackendResult]]] = []
    for backend in backends:

        def take(backend: str = backend) -> BackendResult:
            result, said = backend_result(backend, config_dict, rerun=rerun, progress=progress)
            notes.extend(said)
            return result

        jobs.append((backend, take))
    for pair in views:

        def take_views(pair: Sequence[str] = pair) -> BackendResult:
            return views_result(pair, config_dict, rerun=rerun, progress=progress)

        jobs.append((f"biokin {','.join(pair)}", take_views))
    missing = []
    for label, job in jobs:
        try:
            found.append(job())
        except BiokinError as error:
            missing.append(f"{label} is not compared: {error}")
            logging.warning(missing[-1])
    if len(found) < 2:
        have = f"only {found[0].label} is there" if found else "there is none"
        raise BiokinError(f"{folder}: two results are needed, {have}. {' '.join(missing)}")
    return found, [*missing, *notes]


def _reference_first(results: list[BackendResult], reference: str | None) -> list[BackendResult]:
    if reference is None:
        return results
    first = [r for r in results if r.label == reference]
    if not first:
        raise BiokinError(
            f'There is no result "{reference}" to be the reference. There are: '
            f"{', '.join(r.label for r in results)}."
        )
    return first + [r for r in results if r.label != reference]


def _check_free(folder: Path, force: bool) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())) and not force:
        raise BiokinError(
            f"{folder}: there is a comparison of this name already. Give another name (--name), or let it be "
            "written over (--force)."
        )


def _write(
    comparison: Comparison, folder: Path, force: bool, report: bool, video: bool, config_dict: dict[str, Any]
) -> TrialOutcome:
    target = folder / "compare" / comparison.name
    _check_free(target, force)
    paths = comparison.write(target)
    videos: dict[str, Path] = {}
    if video:
        from pose2sim_biokin.report import write_side_by_sides

        paths |= (videos := write_side_by_sides(comparison, target, config=config_dict))
    if report:
        from pose2sim_biokin.report import write_comparison_report

        page, files = target / "report.html", list(videos.values())
        paths["report"] = write_comparison_report(comparison, page, config=config_dict, files=files)
    logging.info(f"{folder.name}: the comparison is in {target}.")
    return TrialOutcome(folder.name, folder, comparison, paths)


def key_figures(comparison: Comparison) -> dict[str, float | str | None]:
    """Name with unit -> figure, of every result against the reference, for tables of many trials."""
    figures: dict[str, float | str | None] = {}
    several = len(comparison.labels) > 2
    for label in comparison.labels[1:]:
        summary, end = comparison.summary(label), f" ({label})" if several else ""
        figures |= {
            f"MAE, deg{end}": summary["mae_deg"],
            f"offset-corrected MAE, deg{end}": summary["mae_offset_corrected_deg"],
            f"r{end}": summary["pearson_r"],
            f"PA-MPJPE, mm{end}": summary["pa_mpjpe_mm"],
            f"pelvis path, mm{end}": summary["pelvis_path_mm"],
            f"worst{end}": ", ".join(summary["worst_coordinates"][:1]),
        }
    return figures


def _session_page(outcomes: Sequence[TrialOutcome], root: Path) -> None:
    from pose2sim_biokin.report import SessionEntry, write_session_page

    entries = [
        SessionEntry(
            trial=o.trial,
            page=o.paths.get("report"),
            figures=key_figures(o.comparison) if o.comparison else {},
            note=o.error or "",
        )
        for o in outcomes
    ]
    names = {o.comparison.name for o in outcomes if o.comparison}
    if names:
        path = root / f"compare_{sorted(names)[0]}.html"
        write_session_page(entries, path)
        logging.info(f"The session's page is {path}.")
