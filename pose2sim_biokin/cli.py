"""The command line: ``biokin demo | run | backends | doctor``.

Exit codes: 0 done, 1 input that cannot be used or a problem that doctor found, 2 wrong command line,
130 Ctrl-C.
"""

from __future__ import annotations

import logging
import logging.handlers
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as RichProgress
from rich.table import Table

import pose2sim_biokin
from pose2sim_biokin.errors import BiokinError

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
    with _errors_told():
        with _logging_to(None, quiet=True) as console:
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
    with _errors_told():
        _run(project, _overrides(views, device, weights, segmentation), quiet)


@app.command()
def backends() -> None:
    """List the kinematics backends and person segmenters that are installed."""
    from pose2sim_biokin import plugins

    with _errors_told():
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
    config_dicts = _read_configs(project)
    root = project if project.is_dir() else project.parent
    custom = config_dicts[0].get("logging", {}).get("use_custom_logging", False)
    failed = []
    with _logging_to(None if custom else root / "logs.txt", quiet) as console:
        for config_dict in config_dicts:
            config_dict.setdefault("biokin", {}).update(overrides)
            folder = Path(config_dict["project"]["project_dir"]).resolve()
            try:
                _run_trial(folder, config_dict, console, quiet)
            except BiokinError as error:
                if len(config_dicts) == 1:
                    raise
                logging.error(f"{folder.name}: {error}")
                failed.append(folder.name)
    if failed:
        raise BiokinError(f"{len(failed)} of {len(config_dicts)} trials failed: {', '.join(failed)}.")


def _read_configs(project: Path) -> list[dict]:
    """One merged config per trial, as Pose2Sim reads them."""
    if not project.exists():
        raise BiokinError(f"{project}: no such folder.")
    if project.is_dir() and not next(project.rglob("Config.toml"), None):
        raise BiokinError(
            f"{project.resolve()}: no Config.toml in this folder or below. A Pose2Sim project needs one; "
            "copy it from Pose2Sim's Demo_SinglePerson, or try biokin demo."
        )
    from Pose2Sim.Pose2Sim import read_config_files

    try:
        _, config_dicts = read_config_files(str(project))
    except (
        ValueError,
        OSError,
    ) as error:  # not TOML, not readable, or a trial that is not where it should be
        raise BiokinError(f"{project}: Config.toml cannot be read: {error}") from error
    if not config_dicts:
        raise BiokinError(f"{project}: no trial to run: all are in [project] exclude_from_batch.")
    for config_dict in config_dicts:
        config_dict.setdefault("project", {}).setdefault("project_dir", str(project))
    return config_dicts


def _run_trial(folder: Path, config_dict: dict, console: Console, quiet: bool) -> None:
    from pose2sim_biokin.dispatch import BACKEND_KEY
    from pose2sim_biokin.plugins import get_backend

    backend = get_backend(config_dict.get("kinematics", {}).get(BACKEND_KEY, "biokin"))
    if backend.name != "biokin":
        logging.info(f"{folder.name}: kinematics backend {backend.name}.")
        backend.run(config_dict)
        return
    from pose2sim_biokin.pipeline import run_trial

    with _bars(console, quiet) as progress:
        result = run_trial(config_dict, progress=progress)
    if not quiet:
        Console().print(_closing_table(folder, result))


@contextmanager
def _bars(console: Console, quiet: bool) -> Iterator:
    """A `pose2sim_biokin.progress.Progress` that draws one bar per stage."""
    columns = (TextColumn("{task.description:<28}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with RichProgress(*columns, console=console, disable=quiet) as bars:
        tasks = {}

        def progress(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(escape(stage), total=total)
            bars.update(tasks[stage], completed=done, total=total)

        yield progress


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


@contextmanager
def _logging_to(file: Path | None, quiet: bool) -> Iterator[Console]:
    """Log lines go to the terminal, above the progress bars, and to Pose2Sim's logs.txt."""
    console = Console(stderr=True)
    handlers: list[logging.Handler] = [_ConsoleHandler(console, logging.WARNING if quiet else logging.INFO)]
    if file is not None:
        try:
            handlers.append(
                logging.handlers.TimedRotatingFileHandler(file, when="D", interval=7, encoding="utf-8")
            )
        except OSError as error:
            raise BiokinError(f"{file}: the log cannot be written ({error.strerror or error}).") from error
    root = logging.getLogger()
    before = root.level
    root.setLevel(logging.INFO)
    for handler in handlers:
        handler.setFormatter(logging.Formatter("%(message)s"))
        root.addHandler(handler)
    try:
        yield console
    finally:
        root.setLevel(before)
        for handler in handlers:
            root.removeHandler(handler)
            handler.close()


class _ConsoleHandler(logging.Handler):
    """Log lines on a rich console, which keeps them clear of the progress bars."""

    def __init__(self, console: Console, level: int) -> None:
        super().__init__(level)
        self.console = console

    def emit(self, record: logging.LogRecord) -> None:
        style = {logging.WARNING: "yellow", logging.ERROR: "red"}.get(record.levelno)
        self.console.print(escape(self.format(record)), style=style, highlight=False, soft_wrap=True)


@contextmanager
def _errors_told() -> Iterator[None]:
    """Errors that a user can do something about are said in one paragraph, not as a traceback."""
    try:
        yield
    except BiokinError as error:
        typer.echo(f"Error: {error}", err=True)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        typer.echo("Interrupted. Earlier results are as they were.", err=True)
        raise typer.Exit(130) from None
