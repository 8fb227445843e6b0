"""Where the weights of the YOLO segmenter come from: a file, a download, or the package itself."""

from __future__ import annotations

import logging
import os
import re
import threading
import urllib.request
from importlib.resources import files
from pathlib import Path

from pose2sim_biokin.errors import BiokinError

log = logging.getLogger(__name__)

DOWNLOAD_NAME = "yolo11n-seg.pt"
DOWNLOAD_URL = "https://github.com/ultralytics/assets/releases/download/v8.3.0/"
OFFLINE = "POSE2SIM_BIOKIN_OFFLINE"
_PATIENCE_S = 4.0  # without a first byte after so long there is no connection
_DOWNLOAD_S = 120.0


def find_weights(spec: str, project_dir: Path | str) -> tuple[Path, str]:
    """Path of YOLO weights and where they come from: "given", "downloaded" or "bundled".

    Raises:
        BiokinError: they cannot be had.
    """
    if spec in ("auto", "yolo"):
        try:
            return download(DOWNLOAD_NAME), "downloaded"
        except OSError as error:
            bundled = bundled_weights()
            log.info(
                "%s cannot be downloaded (%s): the bundled weights segment the person.", DOWNLOAD_NAME, error
            )
            return bundled, "bundled"
    if spec == "bundled":
        return bundled_weights(), "bundled"
    for path in (Path(project_dir) / spec, Path(spec)):
        if path.is_file():
            return path, "given"
    if re.fullmatch(r"yolo[\w.-]*seg\.pt", Path(spec).name) and Path(spec).name == spec:
        try:
            return download(spec), "downloaded"
        except OSError as error:
            raise BiokinError(
                f'[biokin] segmentation = "{spec}": no such file in {project_dir}, and it cannot be '
                f'downloaded ({error}). Put the file there, or set segmentation = "auto".'
            ) from error
    raise BiokinError(
        f'[biokin] segmentation = "{spec}": no such weights. Expected "auto", "masks", the name of '
        f'ultralytics segmentation weights such as "{DOWNLOAD_NAME}", or the path of a file (looked for in '
        f"{project_dir} and in the working directory)."
    )


def bundled_weights() -> Path:
    """The weights that come with the package; BiokinError if they were left out of it."""
    path = Path(str(files("pose2sim_biokin"))) / "data" / "person_segmenter.pt"
    if not path.is_file():
        raise BiokinError(
            f"{path}: the bundled segmenter weights are missing. Install the package again, or give [biokin] "
            "segmentation the path of YOLO segmentation weights."
        )
    return path


def cache_dir() -> Path:
    """Where downloaded weights are kept; the environment variable POSE2SIM_BIOKIN_CACHE moves it."""
    return Path(os.environ.get("POSE2SIM_BIOKIN_CACHE") or Path.home() / ".cache" / "pose2sim_biokin")


def download(name: str, url: str = DOWNLOAD_URL) -> Path:
    """Path of downloaded weights, fetched now if they are not in the cache yet.

    Gives up after a few seconds where there is no network, whatever name resolution does.

    Raises:
        OSError: it did not work.
    """
    target = cache_dir() / name
    if target.is_file():
        return target
    if os.environ.get(OFFLINE):
        raise OSError(f"{OFFLINE} is set")
    started, done = threading.Event(), threading.Event()
    problems: list[Exception] = []
    partial = target.with_name(f"{name}.{os.getpid()}.part")

    def fetch() -> None:
        try:
            with urllib.request.urlopen(url + name, timeout=_PATIENCE_S) as response:
                started.set()
                target.parent.mkdir(parents=True, exist_ok=True)
                with partial.open("wb") as file:
                    while chunk := response.read(1 << 16):
                        file.write(chunk)
            expected = response.headers.get("Content-Length")
            if expected and partial.stat().st_size != int(expected):
                raise OSError("the connection broke off")
            os.replace(partial, target)
        except (OSError, ValueError) as error:
            problems.append(error)
            partial.unlink(missing_ok=True)
        finally:
            started.set()
            done.set()

    threading.Thread(target=fetch, daemon=True).start()
    if not started.wait(_PATIENCE_S) or not done.wait(_DOWNLOAD_S):
        raise OSError("no answer in time")
    if problems:
        raise OSError(str(problems[0])) from problems[0]
    return target
