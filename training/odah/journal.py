"""What a run says of itself: metrics.csv, validation.jsonl, TensorBoard, pictures, a progress bar."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import cv2
import numpy as np

from pose2sim_biokin.io.atomic import atomic_path

METRICS, VALIDATION, PICTURE = "metrics.csv", "validation.jsonl", "validation.png"


class Journal:
    """The log of one run's folder; what was written after the step that the run goes on from is taken back.

    Args:
        output: the folder.
        step: done so far.
        tensorboard: also write TensorBoard's files, if it is there.
        interactive: a progress bar instead of lines; None: on a terminal.
    """

    def __init__(
        self, output: Path, step: int, tensorboard: bool = True, interactive: bool | None = None
    ) -> None:
        self.output = output
        self._writer = _tensorboard(output / "tensorboard", step) if tensorboard else None
        _rewind(output, step)
        interactive = sys.stderr.isatty() if interactive is None else interactive
        self._bar = _bar() if interactive else None
        self._task = None
        self._deg, self._step = "", 0

    def say(self, text: str) -> None:
        """A line for people."""
        if self._bar is not None:
            self._bar.console.print(text, highlight=False, markup=False)
        else:
            print(text, flush=True)

    def progress(self, share: float, step: int) -> None:
        """A share 0..1 of the run is done."""
        if self._bar is None:
            return
        if self._task is None:
            self._bar.start()
            # what was done before says nothing about the speed: the bar starts with it
            self._task = self._bar.add_task("Training", total=1.0, completed=share, note="")
        self._bar.update(self._task, completed=min(share, 1.0), note=f"step {step} {self._deg}")

    def metrics(self, values: dict[str, float]) -> None:
        """A row of metrics.csv; its "step" is the place in TensorBoard."""
        append_row(self.output / METRICS, values)
        self._scalars("train", values)
        if self._bar is None:
            print(" ".join(f"{k} {v:.4g}" for k, v in values.items()), flush=True)

    def validation(self, summary: dict, picture: np.ndarray | None = None, text: str = "") -> None:
        """A line of validation.jsonl, and a picture (H, W, 3) uint8 RGB."""
        with (self.output / VALIDATION).open("a", encoding="utf-8") as file:
            file.write(json.dumps(summary) + "\n")
        self._scalars("validation", summary)
        if "constrained_mae_deg" in summary:
            self._deg = f"{summary['constrained_mae_deg']:.2f} deg"
        if picture is not None:
            with atomic_path(self.output / PICTURE) as path:
                path.write_bytes(cv2.imencode(".png", picture[..., ::-1])[1].tobytes())
            if self._writer is not None:
                self._writer.add_image("validation", picture, summary["step"], dataformats="HWC")
        if text:
            self.say(text)

    def close(self) -> None:
        """Finish TensorBoard's file and the bar."""
        if self._writer is not None:
            self._writer.close()
        if self._bar is not None:
            self._bar.stop()

    def _scalars(self, group: str, values: dict, prefix: str = "") -> None:
        if self._writer is None:
            return
        step = values.get("step", 0) if not prefix else self._step
        self._step = step
        for name, value in values.items():
            if isinstance(value, dict):
                self._scalars(f"{group}_{name}", value, name)
            elif isinstance(value, int | float) and not isinstance(value, bool) and name != "step":
                self._writer.add_scalar(f"{group}/{name}", value, step)


def append_row(path: Path, values: dict[str, float]) -> None:
    """Add a row to a CSV file; columns that are new are added to the file."""
    row = {name: f"{value:.9g}" if isinstance(value, float) else str(value) for name, value in values.items()}
    names = _header(path)
    if not set(row) <= set(names):
        names, rows = _read_rows(path)
        names = [*names, *(name for name in row if name not in names)]
        _write_rows(path, names, rows)
    with path.open("a", newline="", encoding="utf-8") as file:
        csv.DictWriter(file, names, restval="").writerow(row)


def _rewind(output: Path, step: int) -> None:
    """Take back what was logged after a step."""
    path = output / METRICS
    names, rows = _read_rows(path)
    kept = [row for row in rows if float(row["step"]) <= step]
    if len(kept) != len(rows):
        _write_rows(path, names, kept)
    path = output / VALIDATION
    if path.is_file():
        lines = path.read_text(encoding="utf-8").splitlines()
        kept_lines = [line for line in lines if json.loads(line)["step"] <= step]
        if kept_lines != lines:
            with atomic_path(path) as staged:
                staged.write_text("".join(f"{line}\n" for line in kept_lines), encoding="utf-8")


def _header(path: Path) -> list[str]:
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return next(csv.reader(file), [])


def _read_rows(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    if not path.is_file():
        return [], []
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        rows = [row for row in reader if None not in row.values()]  # the last one may be cut off
        return list(reader.fieldnames or []), rows


def _write_rows(path: Path, names: list[str], rows: list[dict[str, str]]) -> None:
    with atomic_path(path) as staged, staged.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names, restval="")
        writer.writeheader()
        writer.writerows(rows)


def _tensorboard(folder: Path, step: int):
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        print(
            "TensorBoard is not installed: no scalars and pictures for it (pip install tensorboard, or "
            "pose2sim_biokin[train]). metrics.csv, validation.jsonl and validation.png are written.",
            file=sys.stderr,
        )
        return None
    return SummaryWriter(str(folder), purge_step=step + 1)


def _bar():
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
    from rich.progress import TimeElapsedColumn as Elapsed
    from rich.progress import TimeRemainingColumn as Remaining

    columns = ("Training", BarColumn(), TaskProgressColumn(), Elapsed(), "left", Remaining())
    return Progress(*columns, TextColumn("{task.fields[note]}"), console=Console(stderr=True))
