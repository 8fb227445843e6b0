"""The command line: ``biokin demo | run | backends | doctor``.

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
from pose2sim_biokin.terminal import bars, errors_told, logging_to
from pose2sim_biokin.trials import read_configs, trial_folder

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="OpenSim joint angles and segment scales from two calibrated videos.",
)

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
    project: Annotated[
        Path, typer.Argument(help="Folder of a trial or of a batch, or a Config.toml.")
    ] = Path("."),
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
