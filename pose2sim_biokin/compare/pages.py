"""Pages and figures of results that are there: what `biokin report` and `biokin plot` do."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pose2sim_biokin.compare.build import compare_results
from pose2sim_biokin.compare.figures import comparison_curves, result_curves, write_figures
from pose2sim_biokin.compare.output import comparison_json, read_comparison
from pose2sim_biokin.compare.result import BackendResult, read_result
from pose2sim_biokin.compare.session import DEFAULT_BACKENDS, TrialOutcome, each_trial
from pose2sim_biokin.compare.sources import existing
from pose2sim_biokin.errors import BiokinError


def report_project(project: str | Path, backend: str = "biokin") -> tuple[TrialOutcome, ...]:
    """Write a page for the newest result of a backend in each trial: ``kinematics/<result>_report.html``.

    A batch gets a page that lists its trials as well, ``report.html`` in its folder. Pages are replaced.

    Raises:
        BiokinError: the project cannot be read, or it has one trial and that one has no result.
    """
    from pose2sim_biokin.report import SessionEntry, trial_figures, write_session_page, write_trial_report

    figures = {}

    def page(config_dict: dict[str, Any], folder: Path) -> TrialOutcome:
        results = _existing_results(folder, [backend])
        if not results:
            raise BiokinError(
                f"{folder / 'kinematics'}: no result of {backend}. Make one: biokin run {folder}"
            )
        result = results[0]
        target = result.mot.with_name(f"{result.mot.stem}_report.html")
        path = write_trial_report(result, target, config_dict)
        figures[folder.name] = trial_figures(result)
        return TrialOutcome(folder.name, folder, paths={"report": path})

    outcomes = each_trial(Path(project), page)
    if len(outcomes) > 1 and any(o.error is None for o in outcomes):
        root = Path(project) if Path(project).is_dir() else Path(project).parent
        entries = [
            SessionEntry(o.trial, o.paths.get("report"), figures.get(o.trial, {}), o.error or "")
            for o in outcomes
        ]
        write_session_page(entries, root / "report.html")
    return outcomes


def plot_project(
    source: str | Path, output: str | Path | None = None, force: bool = False
) -> tuple[TrialOutcome, ...]:
    """Write PNG figures of joint angles: of a comparison, or of what there is in a trial or batch.

    Args:
        source: a comparison.json or its folder, or the folder of a trial or batch. Of a trial, its newest
            comparison is drawn; without any, the results in kinematics.
        output: folder for the figures; that of the comparison, or kinematics, when absent. Not for batches.
        force: write over figures that are there.

    Raises:
        BiokinError: nothing to draw, or figures that are there already.
    """
    source = Path(source)
    found = source / "comparison.json" if source.is_dir() else source
    if found.is_file() and found.suffix == ".json":
        folder = Path(output) if output is not None else found.parent
        paths = write_figures(comparison_curves(read_comparison(found)), folder, force)
        return (TrialOutcome(found.parent.name, found.parent, paths=_by_name(paths)),)
    if source.suffix == ".json":
        raise BiokinError(f"{source}: there is no such file; expected a comparison.json of biokin compare.")

    def draw(config_dict: dict[str, Any], folder: Path) -> TrialOutcome:
        comparisons = sorted(
            (folder / "compare").glob("*/comparison.json"), key=lambda p: (-p.stat().st_mtime_ns, p)
        )
        if comparisons:
            curves, place = comparison_curves(read_comparison(comparisons[0])), comparisons[0].parent
        else:
            place = folder / "kinematics"
            results = _existing_results(folder, DEFAULT_BACKENDS)
            if not results:
                raise BiokinError(f"{place}: there is no result to draw. Run one first: biokin run {folder}.")
            curves = (
                comparison_curves(comparison_json(compare_results(results, trial=folder.name)))
                if len(results) > 1
                else result_curves(results[0], folder.name)
            )
        paths = write_figures(curves, Path(output) if output is not None else place, force)
        return TrialOutcome(folder.name, folder, paths=_by_name(paths))

    return each_trial(source, draw)


def _existing_results(folder: Path, names: Sequence[str]) -> list[BackendResult]:
    """The newest result of each backend that has one."""
    from pose2sim_biokin.plugins import backends, get_backend

    results = []
    for name in names:
        get_backend(name)
        found = existing(folder / "kinematics", name, list(backends()))
        if found:
            results.append(read_result(found[0].with_suffix(".osim"), found[0], name))
    return results


def _by_name(paths: Sequence[Path]) -> dict[str, Path]:
    return {path.stem: path for path in paths}
