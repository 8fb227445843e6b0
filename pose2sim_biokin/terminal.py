"""What commands say: log lines, progress bars, errors in one paragraph."""

from __future__ import annotations

import logging
import logging.handlers
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as RichProgress

from pose2sim_biokin.errors import BiokinError


@contextmanager
def bars(console: Console, quiet: bool) -> Iterator:
    """A `pose2sim_biokin.progress.Progress` that draws one bar per stage."""
    columns = (TextColumn("{task.description:<28}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with RichProgress(*columns, console=console, disable=quiet) as drawn:
        tasks = {}

        def progress(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = drawn.add_task(escape(stage), total=total)
            drawn.update(tasks[stage], completed=done, total=total)

        yield progress


@contextmanager
def logging_to(file: Path | None, quiet: bool) -> Iterator[Console]:
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
def errors_told() -> Iterator[None]:
    """Errors that a user can do something about are said in one paragraph, not as a traceback."""
    try:
        yield
    except BiokinError as error:
        typer.echo(f"Error: {error}", err=True)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        typer.echo("Interrupted. Earlier results are as they were.", err=True)
        raise typer.Exit(130) from None
