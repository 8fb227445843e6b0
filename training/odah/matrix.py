"""Matrices of experiments: what `odah ablate` makes (see there), as read from TOML files."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from odah.settings import read_tables
from pose2sim_biokin.errors import BiokinError
from pose2sim_biokin.network.presets import merge_tables

STAGES = ("encoder", "refinement", "joint")
_TABLES = ("preset", "loss", "augmentation", "train")
_KEYS = {"name", "share", "stage", *_TABLES}
_LENGTHS = ("steps", "minutes", "refinement_minutes", "joint_minutes")


@dataclass(frozen=True)
class Run:
    """One row of a table.

    Attributes:
        name: of the row.
        settings: of the experiment file, base and differences together.
        share: of the training shards. stage: the last one of STAGES that is made.
    """

    name: str
    settings: dict = field(repr=False)
    share: float = 1.0
    stage: str = "encoder"


@dataclass(frozen=True)
class Matrix:
    """Tables of runs: titles and rows; how long their stages are; the weights they start from, if any."""

    tables: tuple[tuple[str, tuple[Run, ...]], ...]
    steps: int | None
    minutes: float
    refinement_minutes: float
    joint_minutes: float
    initial: str | None = None


def read_matrix(path: str | Path) -> Matrix:
    """A matrix of experiments; see `odah.ablate`.

    Raises:
        BiokinError: a file is missing or broken, or has keys that are not known.
    """
    path = Path(path)
    values = read_tables(path)  # on top of those of its base
    base = {name: values.pop(name) for name in ("base", "data", *_TABLES) if name in values}
    initial = values.pop("initial", None)
    if not isinstance(initial, str | None):
        raise BiokinError(f'{path}: initial is {initial}; expected a file of weights, or "default".')
    if initial not in (None, "default"):
        initial = str((path.parent / initial).resolve())
    tables = []
    for table in values.pop("table", []):
        title = str(table.get("title", "Runs"))
        rows = tuple(_run(path, base, row) for row in table.get("run", ()))
        names = [run.name for run in rows]
        if not rows or len(set(names)) < len(names):
            raise BiokinError(f"{path}: table {title!r}: expected runs of different names, found {names}.")
        tables.append((title, rows))
    lengths = {key: values.pop(key, None) for key in _LENGTHS}
    if values or not tables:
        what = f"unknown key {', '.join(values)}" if values else "no [[table]]"
        raise BiokinError(
            f"{path}: {what}; expected base, {', '.join(_TABLES)}, initial, {', '.join(_LENGTHS)}, and "
            "tables of runs."
        )
    steps, *minutes = (lengths[name] for name in _LENGTHS)
    minutes = (value or usual for value, usual in zip(minutes, (30.0, 8.0, 30.0), strict=True))
    return Matrix(tuple(tables), steps, *minutes, initial)


def _run(path: Path, base: dict, row: dict) -> Run:
    where = f"{path}: run {row.get('name')!r}"
    unknown = sorted(set(row) - _KEYS)
    if unknown or not isinstance(row.get("name"), str):
        raise BiokinError(
            f"{where}: {'unknown key ' + ', '.join(unknown) if unknown else 'no name'}; expected keys among "
            f"{', '.join(sorted(_KEYS))}."
        )
    share, stage = float(row.get("share", 1.0)), row.get("stage", "encoder")
    if not 0 < share <= 1 or stage not in STAGES:
        raise BiokinError(
            f"{where}: share {share:g}, stage {stage!r}; expected a share above 0 and at most 1, and a stage "
            f"of {', '.join(STAGES)}."
        )
    differences = {name: row[name] for name in _TABLES if name in row}
    return Run(row["name"], merge_tables(base, differences), share, stage)
