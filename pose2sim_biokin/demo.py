"""Demonstration projects: Pose2Sim's own recordings, set to this package's backend."""

from __future__ import annotations

import importlib.util
import re
import shutil
import tempfile
from pathlib import Path

from pose2sim_biokin.errors import BiokinError

MARKER = ".biokin_demo"  # a folder with this file in it was made here


def make_demo(
    folder: Path | str, views: list[str] | None = None, recording: str = "Demo_SinglePerson"
) -> Path:
    """Copy the demo out of the installed Pose2Sim, convert its calibration and choose the backend.

    A folder that this function made is left as it is. A new one appears complete or not at all.

    Args:
        folder: where to put it.
        views: two camera names for ``[biokin] views``; "auto" when absent.
        recording: which of Pose2Sim's demos.

    Raises:
        BiokinError: something else is there already, it cannot be written, or Pose2Sim has no demo.
    """
    folder = Path(folder).resolve()
    if (folder / MARKER).is_file():
        return folder
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise BiokinError(
            f"{folder}: there is something here already that biokin demo did not make. Choose another folder "
            "with --output, or move it away."
        )
    source = _demo_in_pose2sim(recording)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}_", dir=folder.parent) as temporary:
            made = Path(temporary) / folder.name
            _copy(source, made)
            config = made / "Config.toml"
            config.write_text(choose_backend(config.read_text(encoding="utf-8"), views), encoding="utf-8")
            _convert_calibration(made)
            (made / MARKER).write_text("Made by biokin demo.\n", encoding="utf-8")
            if folder.exists():  # empty, and perhaps the working directory: it stays
                for part in sorted(made.iterdir(), key=lambda path: path.name == MARKER):
                    part.rename(folder / part.name)
            else:
                made.rename(folder)
    except OSError as error:
        raise BiokinError(f"{folder}: the demo cannot be written ({error}). Choose --output.") from error
    return folder


def choose_backend(config: str, views: list[str] | None = None) -> str:
    """The text of a Config.toml with this package's backend chosen; comments and other keys stay.

    Raises:
        BiokinError: it has no [kinematics] section.
    """
    header = re.search(r"^\s*\[kinematics\][^\n]*\n", config, re.MULTILINE)
    if header is None:
        raise BiokinError("Config.toml has no [kinematics] section to put kinematics_backend into.")
    line = "kinematics_backend = 'biokin' # pose2sim_biokin; 'opensim' for Pose2Sim's own\n"
    names = "'auto'" if views is None else "[" + ", ".join(f"'{name}'" for name in views) + "]"
    section = f"\n\n[biokin]\nviews = {names} # 'auto' or the names of two cameras\n"
    return config[: header.end()] + line + config[header.end() :].rstrip() + section


def _demo_in_pose2sim(recording: str) -> Path:
    spec = importlib.util.find_spec("Pose2Sim")
    for place in (spec.submodule_search_locations or []) if spec else []:
        demo = Path(place) / recording
        if (demo / "Config.toml").is_file():
            return demo
    raise BiokinError(f"The installed Pose2Sim has no {recording}. Update it: pip install -U pose2sim")


def _copy(source: Path, target: Path) -> None:
    """What a run needs: not the pictures that the calibration can also be calculated from."""
    (target / "calibration").mkdir(parents=True)
    shutil.copyfile(source / "Config.toml", target / "Config.toml")
    shutil.copytree(source / "videos", target / "videos")
    for file in (source / "calibration").glob("*.qca.txt"):
        shutil.copyfile(file, target / "calibration" / file.name)


def _convert_calibration(folder: Path) -> None:
    from Pose2Sim import Pose2Sim

    # As a dict: for a path, Pose2Sim looks for the calibration in the working directory.
    Pose2Sim.calibration({"project": {"project_dir": str(folder)}, "logging": {"use_custom_logging": True}})
