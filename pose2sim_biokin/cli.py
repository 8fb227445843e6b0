"""The command line: ``biokin demo | run | check | compare | report | plot | backends | doctor``.

Exit codes: 0 done, 1 input that cannot be used or a problem that doctor found, 2 wrong command line,
130 Ctrl-C.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

import pose2sim_biokin
from pose2sim_biokin.errors import BiokinError
from pose2sim_biokin.tables import check_table, comparison_tables, session_table
from pose2sim_biokin.terminal import bars, errors_told, logging_to
from pose2sim_biokin.trials import read_configs, trial_folder

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="OpenSim joint angles and segment scales from two calibrated videos.",
)

Project = Annotated[Path, typer.Argument(help="Folder of a trial or of a batch, or a Config.toml.")]
Views = Annotated[str | None, typer.Option(help="Two cameras, like cam01,cam04, or auto.")]
Device = Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:1, ... or mps.")]
Weights = Annotated[str | None, typer.Option(help='"default", or the path of a checkpoint.')]
Segmentation = Annotated[str | None, typer.Option(help="auto, masks, or the name or path of YOLO weights.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show warnings and errors only.")]


@app.callback(invoke_without_command=True)
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and stop.", is_eager=True)
    ] = False,
) -> None:
    if version:
        typer.echo(f"pose2sim_biokin {pose2sim_biokin.__version__}")
        raise typer.Exit


@app.command()
def demo(
    output: Annotated[Path, typer.Option(help="Folder to make the demo project in.")] = Path("biokin_demo"),
    views: Views = None,
    device: Device = None,
    weights: Weights = None,
    segmentation: Segmentation = None,
    quiet: Quiet = False,
) -> None:
    """Run on Pose2Sim's single-person demo: real videos, four cameras."""
    from pose2sim_biokin.demo import make_demo

    overrides = _overrides(views, device, weights, segmentation)
    chosen = overrides.get("views")
    with errors_told():
        with logging_to(None, quiet=True) as console:
            folder = make_demo(output, chosen if isinstance(chosen, list) else None)
        if not quiet:
            console.print(f"Demo project: {escape(str(folder))}", soft_wrap=True)
        _run(folder, overrides, quiet)


@app.command()
def run(
    project: Project = Path("."),
    views: Views = None,
    device: Device = None,
    weights: Weights = None,
    segmentation: Segmentation = None,
    quiet: Quiet = False,
) -> None:
    """Run the kinematics of a Pose2Sim project with biokin.

    Trials whose Config.toml names another kinematics_backend are run with that one. Options win over
    Config.toml.
    """
    with errors_told():
        _run(project, _overrides(views, device, weights, segmentation), quiet)


@app.command()
def check(
    project: Project = Path("."),
    frames: Annotated[int, typer.Option(min=1, help="Frames of each camera to look at.")] = 24,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write all figures to this file.")] = None,
    device: Device = None,
    segmentation: Segmentation = None,
    quiet: Quiet = False,
) -> None:
    """Hold results that are there against the person's masks in every camera, and against the floor."""
    from pose2sim_biokin.recheck import check_project

    overrides = _overrides(None, device, None, segmentation)
    with errors_told():
        with _logging_of(project, quiet) as console:
            checks = check_project(project, overrides, frames, json_file, lambda: bars(console, quiet))
        if not quiet:
            _print([check_table(found) for found in checks], {})


@app.command()
def compare(
    project: Project = Path("."),
    backends: Annotated[
        str | None,
        typer.Option(help="Backends, like opensim,biokin (the default); opensim is Pose2Sim's own."),
    ] = None,
    pair: Annotated[
        list[str] | None,
        typer.Option(
            help="A result of any origin, LABEL=model.osim,motion.mot; several times. The reference."
        ),
    ] = None,
    views: Annotated[
        list[str] | None, typer.Option(help="biokin from two cameras, like cam01,cam04; several times.")
    ] = None,
    reference: Annotated[
        str | None, typer.Option(help="Label that the others are measured against; the first when absent.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Folder in TRIAL/compare; made of the labels.")] = None,
    align: Annotated[bool, typer.Option("--align", help="Take the estimated lag in time out.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Write over a comparison of that name.")] = False,
    rerun: Annotated[bool, typer.Option("--rerun", help="Run biokin even if it has a result.")] = False,
    report: Annotated[bool, typer.Option(help="Make the page as well.")] = True,
    video: Annotated[bool, typer.Option("--video", help="Videos side by side as well.")] = False,
    device: Device = None,
    weights: Weights = None,
    segmentation: Segmentation = None,
    quiet: Quiet = False,
) -> None:
    """Compare the results of backends, camera pairs or files, side by side.

    Results that are there are taken, others are made. What cannot be made is said, and the rest compared.
    """
    from pose2sim_biokin.compare.session import compare_project

    names = None if backends is None else [b.strip() for b in backends.split(",") if b.strip()]
    cameras = [pair["views"] for pair in (_overrides(v, None, None, None) for v in views or [])]
    if "auto" in cameras:
        raise typer.BadParameter("auto: expected two cameras, like cam01,cam04", param_hint="--views")
    with errors_told():
        with _logging_of(project, quiet) as console:
            outcomes = compare_project(
                project,
                names,
                dict(_pair(text) for text in pair or []),
                views=cameras,
                reference=reference,
                name=name,
                align=align,
                force=force,
                rerun=rerun,
                report=report,
                video=video,
                overrides=_overrides(None, device, weights, segmentation),
                progress=lambda: bars(console, quiet),
            )
        if not quiet:
            for outcome in outcomes:
                if outcome.comparison is not None:
                    _print(comparison_tables(outcome.comparison), outcome.paths)
            if len(outcomes) > 1:
                _print([session_table(outcomes)], {})
        _fail_if_any(outcomes)


@app.command()
def report(
    project: Project = Path("."),
    backend: Annotated[str, typer.Option(help="Whose result.")] = "biokin",
    quiet: Quiet = False,
) -> None:
    """Make the page of a result that is there: one HTML file, to open in a browser."""
    from pose2sim_biokin.compare.pages import report_project

    with errors_told():
        with _logging_of(project, quiet):
            outcomes = report_project(project, backend)
        _print_paths(outcomes, quiet)
        _fail_if_any(outcomes)


@app.command()
def plot(
    source: Annotated[
        Path, typer.Argument(help="A trial, a batch, or a comparison.json or its folder.")
    ] = Path("."),
    output: Annotated[Path | None, typer.Option(help="Folder for the figures.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Write over figures that are there.")] = False,
    quiet: Quiet = False,
) -> None:
    """Draw joint angles over time as PNG figures for a paper, all results overlaid."""
    from pose2sim_biokin.compare.pages import plot_project

    with errors_told():
        with logging_to(None, quiet):
            outcomes = plot_project(source, output, force)
        _print_paths(outcomes, quiet)
        _fail_if_any(outcomes)


@app.command()
def backends() -> None:
    """List the kinematics backends and person segmenters that are installed."""
    from pose2sim_biokin import plugins

    with errors_told():
        table = Table("kinematics_backend", "from", "runAll() leaves out", box=None, pad_edge=False)
        for name, backend in plugins.backends().items():
            table.add_row(name, type(backend).__module__, ", ".join(sorted(backend.replaces)) or "nothing")
        other = Table("segmentation", "from", box=None, pad_edge=False)
        for name, segmenter in plugins.segmenters().items():
            other.add_row(name, type(segmenter).__module__)
    console = Console()
    console.print(table)
    console.print()
    console.print(other)


@app.command()
def doctor() -> None:
    """Show versions, devices, weights, plugins, and whether Pose2Sim is hooked."""
    from pose2sim_biokin.doctor import examine

    facts = examine()
    for fact in facts:
        mark = "!!" if fact.problem else "ok"
        typer.echo(f"{mark}  {fact.topic:16} {fact.text}")
    if any(fact.problem for fact in facts):
        raise typer.Exit(1)


def main() -> None:
    """Entry point of the ``biokin`` command."""
    app()


def _overrides(
    views: str | None, device: str | None, weights: str | None, segmentation: str | None
) -> dict[str, object]:
    """Options of the command line as keys of [biokin]."""
    names = None
    if views is not None:
        names = "auto" if views.strip() == "auto" else [name.strip() for name in views.split(",")]
        if names != "auto" and (len(names) != 2 or not all(names)):
            raise typer.BadParameter(
                f"{views!r}: expected two cameras, like cam01,cam04, or auto", param_hint="--views"
            )
    given = {"views": names, "device": device, "weights": weights, "segmentation": segmentation}
    if weights is not None and weights != "default":
        given["weights"] = str(Path(weights).resolve())  # relative to where the command was typed
    return {key: value for key, value in given.items() if value is not None}


def _pair(text: str) -> tuple[str, tuple[str, str]]:
    """``LABEL=model.osim,motion.mot`` as label and paths."""
    label, equals, files = text.partition("=")
    paths = [path.strip() for path in files.split(",")]
    if not equals or not label.strip() or len(paths) != 2 or not all(paths):
        raise typer.BadParameter(f"{text!r}: expected LABEL=model.osim,motion.mot", param_hint="--pair")
    return label.strip(), (paths[0], paths[1])


def _logging_of(project: Path, quiet: bool):
    """Log lines of a project, on the terminal and in its logs.txt, as `run` writes them."""
    root = project if project.is_dir() else project.parent
    return logging_to(root / "logs.txt" if project.exists() else None, quiet)


def _print(tables: list[Table], paths: dict[str, Path]) -> None:
    console = Console()
    for table in tables:
        console.print(table)
        console.print()
    for kind, path in paths.items():
        console.print(f"{kind}: {escape(str(path))}", soft_wrap=True, highlight=False)
    console.print()


def _print_paths(outcomes, quiet: bool) -> None:
    if not quiet:
        for path in (path for outcome in outcomes for path in outcome.paths.values()):
            typer.echo(path)


def _fail_if_any(outcomes) -> None:
    failed = [outcome.trial for outcome in outcomes if outcome.error is not None]
    if failed:
        raise BiokinError(f"{len(failed)} of {len(outcomes)} trials failed: {', '.join(failed)}.")


def _run(project: Path, overrides: dict[str, object], quiet: bool) -> None:
    """All trials of a project; one that fails does not keep the others from being done."""
    config_dicts = read_configs(project)
    root = project if project.is_dir() else project.parent
    custom = config_dicts[0].get("logging", {}).get("use_custom_logging", False)
    failed = []
    with logging_to(None if custom else root / "logs.txt", quiet) as console:
        for config_dict in config_dicts:
            config_dict.setdefault("biokin", {}).update(overrides)
            folder = trial_folder(config_dict)
            try:
                _run_trial(folder, config_dict, console, quiet)
            except BiokinError as error:
                if len(config_dicts) == 1:
                    raise
                logging.error(f"{folder.name}: {error}")
                failed.append(folder.name)
    if failed:
        raise BiokinError(f"{len(failed)} of {len(config_dicts)} trials failed: {', '.join(failed)}.")


def _run_trial(folder: Path, config_dict: dict, console: Console, quiet: bool) -> None:
    from pose2sim_biokin.dispatch import BACKEND_KEY
    from pose2sim_biokin.plugins import get_backend

    backend = get_backend(config_dict.get("kinematics", {}).get(BACKEND_KEY, "biokin"))
    if backend.name != "biokin":
        logging.info(f"{folder.name}: kinematics backend {backend.name}.")
        backend.run(config_dict)
        return
    from pose2sim_biokin.pipeline import run_trial

    with bars(console, quiet) as progress:
        result = run_trial(config_dict, progress=progress)
    if not quiet:
        Console().print(_closing_table(folder, result))


def _closing_table(folder: Path, result) -> Table:
    """Where the outputs are, and what took how long."""
    table = Table(
        title=escape(str(folder)), title_justify="left", show_header=False, box=None, pad_edge=False
    )
    for kind, path in result.paths.items():
        inside = path.is_relative_to(folder)
        table.add_row(escape(kind), escape(str(path.relative_to(folder) if inside else path)))
    table.add_section()
    for stage, seconds in result.timings.items():
        table.add_row(escape(stage), f"{seconds:.2f} s")
    table.columns[1].overflow = "fold"
    return table
