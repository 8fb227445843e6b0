"""The page of a session: its trials with their key figures and links."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pose2sim_biokin.errors import BiokinError
from pose2sim_biokin.report.page import NONE, Table, number, write_page
from pose2sim_biokin.report.sources import beside, footer


@dataclass(frozen=True)
class SessionEntry:
    """One trial of the session.

    Attributes:
        trial: its name.
        page: its report; None where there is none.
        figures: name with unit ("MAE, deg") -> number or text; every trial may have others.
        note: why something is missing, or a warning.
    """

    trial: str
    page: Path | None
    figures: Mapping[str, float | str | None] = field(default_factory=dict)
    note: str = ""


def write_session_page(entries: Sequence[SessionEntry], path: str | Path, title: str = "") -> Path:
    """Write a page that lists trials, each with its key figures and a link to its report.

    Args:
        entries: the trials, in the order to show.
        path: the .html file, in the session's folder: links are relative to it. Replaced in one step.
        title: the session's name; the folder's when absent.

    Raises:
        BiokinError: there is no trial, or the file cannot be written.
    """
    path = Path(path)
    if not entries:
        raise BiokinError(f"{path}: no trial to list on the session's page.")
    columns = list(dict.fromkeys(name for entry in entries for name in entry.figures))
    noted = any(entry.note for entry in entries)
    rows = []
    for entry in entries:
        links = beside(path, [entry.page]) if entry.page is not None else []
        cells = [_cell(entry.figures.get(name)) for name in columns]
        link = {"href": links[0]["href"], "label": f"Report of {entry.trial}"} if links else NONE
        rows.append([entry.trial, link, *cells, *([entry.note or ""] if noted else [])])
    done = sum(entry.page is not None for entry in entries)
    name = title or path.resolve().parent.name
    page = {
        "title": f"{name}: session",
        "kicker": "pose2sim_biokin · session",
        "heading": name,
        "lead": f"{len(entries)} trials, {done} with a report.",
        "table": Table("Trials", ["Trial", "Report", *columns, *(["Note"] if noted else [])], rows),
        "footer": footer(),
    }
    return write_page(path, "session.html.j2", page)


def _cell(value: float | str | None) -> str:
    if value is None or isinstance(value, str):
        return value or NONE
    return str(value) if isinstance(value, int) else number(value, 2 if abs(value) < 10 else 1)
