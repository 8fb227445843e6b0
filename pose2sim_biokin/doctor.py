"""What is installed here and whether it fits together: the facts behind ``biokin doctor``."""

from __future__ import annotations

import hashlib
import platform
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from pose2sim_biokin import dispatch

_PACKAGES = (
    "pose2sim-biokin",
    "pose2sim",
    "opensim",
    "torch",
    "torchvision",
    "ultralytics",
    "opencv-python",
    "numpy",
)
_DATA = Path(__file__).parent / "data"


@dataclass(frozen=True)
class Fact:
    """One line of the report; ``problem`` when it keeps the package from working."""

    topic: str
    text: str
    problem: bool = False


def examine() -> list[Fact]:
    """Everything worth knowing, problems marked."""
    return [
        Fact("Python", f"{platform.python_version()} on {platform.platform()}"),
        *_versions(),
        *_devices(),
        *_weights(),
        *_plugins(),
        _hook(),
    ]


def _versions() -> list[Fact]:
    facts = []
    for name in _PACKAGES:
        try:
            facts.append(Fact(name, version(name)))
        except PackageNotFoundError:
            facts.append(Fact(name, f"not installed. Install it: pip install {name}", problem=True))
    return facts


def _devices() -> list[Fact]:
    try:
        import torch
    except Exception as error:  # a broken build raises whatever it likes
        return [Fact("devices", f"torch cannot be imported: {error}", problem=True)]
    found = [f"cpu ({torch.get_num_threads()} threads)"]
    found += [f"cuda:{i} ({torch.cuda.get_device_name(i)})" for i in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        found.append("mps")
    return [Fact("devices", ", ".join(found))]


def _weights() -> list[Fact]:
    files = sorted(_DATA.glob("*.pt"))
    if not files:
        return [Fact("weights", f"none in {_DATA}. Install the package again.", problem=True)]
    return [
        Fact("weights", f"{file} ({file.stat().st_size / 1e6:.1f} MB, SHA-256 {sha256(file)})")
        for file in files
    ]


def _plugins() -> list[Fact]:
    try:
        from pose2sim_biokin.plugins import backends, segmenters

        return [Fact("backends", ", ".join(backends())), Fact("segmenters", ", ".join(segmenters()))]
    except Exception as error:  # a broken installation is what this report is for
        return [Fact("plugins", str(error), problem=True)]


def _hook() -> Fact:
    if dispatch.is_disabled():
        return Fact("hook", f"off: {dispatch.DISABLE_VARIABLE} is set, Pose2Sim is left alone")
    if dispatch.is_live():
        return Fact("hook", "live: Pose2Sim.kinematics() sees kinematics_backend in Config.toml")
    return Fact(
        "hook",
        "not live: pose2sim_biokin.pth is not in a site-packages folder of this Python. Install the package "
        "with pip, or call pose2sim_biokin.install() before Pose2Sim.",
        problem=True,
    )


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
