"""The page's parts, and how they become one HTML file.

Whatever comes from a project (names, paths, warnings) reaches the page through the templates' autoescape or
through their ``tojson``; only what this package itself wrote is marked as safe.
"""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import pose2sim_biokin
from pose2sim_biokin.io.atomic import atomic_path

if TYPE_CHECKING:
    from markupsafe import Markup

ASSETS = Path(__file__).resolve().parent / "assets"
NONE = "–"  # where there is no number


@dataclass(frozen=True)
class Series:
    """One line of the legend: its colour, and what tells it from the others without colour.

    Attributes:
        label: for people. colour: "#rrggbb", 3:1 or more on white and on the dark page.
        dash: Plotly's. dash3d, symbol3d: the same in 3D, which knows fewer. symbol: of markers.
        dasharray: the dash as SVG has it.
    """

    label: str
    colour: str
    dash: str = "solid"
    dasharray: str = "none"
    symbol: str = "circle"
    symbol3d: str = "circle"

    @property
    def dash3d(self) -> str:
        """WebGL lines know the same dashes."""
        return self.dash


# Colours of Okabe and Ito that are dark enough for white paper
_STYLES = (
    ("#0072b2", "solid", "none", "circle", "circle"),
    ("#d55e00", "dash", "8 4", "diamond", "diamond"),
    ("#009e73", "dot", "2 3", "square", "square"),
    ("#b5669b", "dashdot", "8 3 2 3", "triangle-up-open", "circle-open"),
    ("#8c7a1e", "longdash", "14 4", "circle-open", "diamond-open"),
    ("#78828c", "longdashdot", "14 3 2 3", "x-thin-open", "x"),
)


def series(labels: Sequence[str]) -> list[Series]:
    """A style for each label; they repeat after six."""
    return [Series(label, *_STYLES[i % len(_STYLES)]) for i, label in enumerate(labels)]


@dataclass(frozen=True)
class KeyFigure:
    """A number at the top: id, label, text of the value, unit, a note."""

    id: str
    label: str
    value: str
    unit: str = ""
    note: str = ""


@dataclass(frozen=True)
class Look:
    """A thing to look at: title, sentence, the id it links to, the moment to go to (s), the link's text.

    `weight` says how much it matters: the three heaviest are shown.
    """

    title: str
    text: str
    target: str
    link: str
    time: float | None = None
    weight: float = 0.0


@dataclass(frozen=True)
class Panel:
    """A figure: element id, its chart in the payload, title, a few numbers, words for a screen reader."""

    id: str
    chart: str
    title: str
    stats: str
    description: str
    tall: bool = False
    column: int = 0


@dataclass(frozen=True)
class Group:
    """Figures of one joint."""

    id: str
    title: str
    panels: list[Panel]
    wide: bool = False


@dataclass(frozen=True)
class Table:
    """Rows of text, the first cell of each a heading; a cell may be ``{"href", "label"}``."""

    title: str
    columns: list[str]
    rows: list[list[Any]]
    text: str = ""


@dataclass(frozen=True)
class Item:
    """A flag: "ok", "info" or "warn", a title, a sentence."""

    level: str
    title: str
    text: str = ""


@dataclass(frozen=True)
class Block:
    """A section below the motion."""

    id: str
    title: str
    text: str = ""
    panels: list[Panel] = field(default_factory=list)
    layout: str = "many"
    stills: list[Any] = field(default_factory=list)
    items: list[Item] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)


@dataclass(frozen=True)
class Facts:
    """A part of the provenance: rows of name and value, or a text."""

    title: str
    rows: list[tuple[str, str]] = field(default_factory=list)
    text: str = ""
    open: bool = False


class Arrays:
    """All numbers of the figures, once: float32, little-endian, base64."""

    def __init__(self) -> None:
        self._parts: list[np.ndarray] = []
        self._length = 0

    def add(self, values: np.ndarray) -> list[int]:
        """Keep an array; gives where it is: [offset, length] in numbers."""
        flat = np.ascontiguousarray(values, dtype="<f4").ravel()
        place = [self._length, len(flat)]
        self._parts.append(flat)
        self._length += len(flat)
        return place

    def text(self) -> str:
        """Base64 of everything."""
        return base64.b64encode(np.concatenate(self._parts or [np.zeros(0, "<f4")]).tobytes()).decode("ascii")


def number(value: float | None, digits: int = 1, signed: bool = False) -> str:
    """A number for people, with a real minus; `NONE` where there is none."""
    if value is None or not math.isfinite(value):
        return NONE
    text = f"{value:{'+' if signed else ''}.{digits}f}"
    if float(text) == 0:
        text = f"{0:.{digits}f}"
    return text.replace("-", "−")


def slug(text: str) -> str:
    """A text as an element's id."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "part"


def three(candidates: Sequence[Look]) -> list[Look]:
    """The three that matter most."""
    return sorted(candidates, key=lambda look: -look.weight)[:3]


def safe(text: str) -> Markup:
    """A text of this package's own making, not to be escaped."""
    from markupsafe import Markup

    return Markup(text)


def sections(blocks: Sequence[Block]) -> list[tuple[str, str]]:
    """Ids and titles of the page's sections, for the links at its top."""
    inner = [(block.id, block.title) for block in blocks]
    return [("summary", "Summary"), ("motion", "Motion"), *inner, ("provenance", "Provenance")]


def write_page(path: str | Path, template: str, page: dict[str, Any]) -> Path:
    """Render a page and write it in one step.

    Args:
        path: the .html file; replaced.
        template: "report.html.j2" or "session.html.j2".
        page: what the template shows.

    Raises:
        BiokinError: the file cannot be written.
    """
    from jinja2 import Environment, FileSystemLoader

    environment = Environment(
        loader=FileSystemLoader(ASSETS, encoding="utf-8"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    own: dict[str, Any] = {
        "css": safe(asset("report.css")),
        "version": pose2sim_biokin.__version__,
    }
    if template == "report.html.j2":
        from plotly.offline import get_plotlyjs

        own |= {
            "plotly": safe(get_plotlyjs()),
            "script": safe(asset("charts.js") + asset("player.js")),
        }
    text = environment.get_template(template).render(page=page, **own)
    with atomic_path(path) as staged:
        staged.write_text(text, encoding="utf-8", newline="\n")
    return Path(path)


def asset(name: str) -> str:
    """Text of a file in assets/."""
    return (ASSETS / name).read_text(encoding="utf-8")
