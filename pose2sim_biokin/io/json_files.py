"""JSON files that say what they are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pose2sim_biokin.errors import BiokinError


def read_json(path: str | Path, form: str, what: str) -> dict[str, Any]:
    """What a JSON file holds whose "format" must be `form`.

    Args:
        what: the kind of file, for people: "a comparison, as biokin compare writes it".

    Raises:
        BiokinError: the file is missing, or is not one.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BiokinError(f"{path}: cannot be read as {what} ({error}).") from error
    found = content.get("format") if isinstance(content, dict) else None
    if found != form:
        raise BiokinError(f"{path}: its format is {found!r}; expected {form!r}: {what}.")
    return content
