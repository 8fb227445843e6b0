"""Provenance as the page shows it: versions, weights, settings, files and their hashes."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pose2sim_biokin
from pose2sim_biokin.compare.result import BackendResult
from pose2sim_biokin.quality import versions
from pose2sim_biokin.report.page import Facts


def provenance(results: Sequence[BackendResult], config: Mapping[str, Any] | None = None) -> list[Facts]:
    """Where each result comes from, the files it was read from and what made them, and the settings."""
    parts = []
    for result in results:
        about = result.quality or {}
        title = f"Result: {result.label}" if len(results) > 1 else "This result"
        parts.append(Facts(title, [*_files(result), *_run(about)], open=True))
        inside = about.get("versions")
        if inside:
            parts.append(Facts(f"Versions that made {result.label}", _rows(inside)))
    parts.append(Facts("Versions that made this page", _rows(versions())))
    if config:
        parts.append(Facts("Config.toml, as it was merged", text=_toml(config)))
    return parts


def beside(page: Path, files: list[Path]) -> list[dict[str, str]]:
    """Links to files that lie in the page's folder or near it, relative to the page."""
    found = []
    for file in files:
        try:
            relative = os.path.relpath(file.resolve(), page.resolve().parent)
        except ValueError:  # another drive
            continue
        found.append({"href": quote(Path(relative).as_posix()), "label": file.name})
    return found


def footer() -> str:
    """The page's last line."""
    return (
        f"Made by pose2sim_biokin {pose2sim_biokin.__version__}. All that is on this page is in this file. "
        "Not a medical device."
    )


def sha256(path: Path) -> str:
    """SHA-256 of a file; says so where it cannot be read any more."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        return f"not readable ({error.strerror or error})"


def _files(result: BackendResult) -> list[tuple[str, str]]:
    rows = [
        (kind, f"{path.name}, SHA-256 {sha256(path)}")
        for kind, path in (("Motion", result.mot), ("Model", result.osim))
    ]
    about = result.quality or {}
    if about.get("calibration"):
        rows.append(("Calibration", _named(Path(str(about["calibration"])))))
    trial = result.trial_dir
    for view in about.get("views") or []:
        video = trial / "videos" / str(view.get("video"))
        rows.append(
            (f"Video of {view.get('camera')}", f"{_named(video)}, offset {view.get('offset', 0)} frames")
        )
    return rows


def _named(path: Path) -> str:
    return f"{path.name}, SHA-256 {sha256(path)}" if path.is_file() else path.name


def _run(about: Mapping[str, Any]) -> list[tuple[str, str]]:
    rows = [(_words(key), _text(value)) for key, value in (about.get("network") or {}).items()]
    if about.get("segmentation") is not None:
        rows.append(("Segmentation", _text(about["segmentation"])))
    if about.get("participant_mass_kg") is not None:
        rows.append(("Participant's mass", f"{about['participant_mass_kg']:g} kg"))
    timings = about.get("timings_s") or {}
    if timings:
        rows.append(
            ("Time by stage", ", ".join(f"{stage} {seconds:.1f} s" for stage, seconds in timings.items()))
        )
    return rows


def _rows(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(_words(key), _text(value)) for key, value in values.items()]


def _words(key: str) -> str:
    return str(key).replace("_", " ")


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _toml(config: Mapping[str, Any]) -> str:
    import toml

    return toml.dumps(json.loads(json.dumps(config, default=str)))
