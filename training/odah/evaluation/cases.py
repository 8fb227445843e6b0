"""What is measured besides caches: trials with a truth, and results of any program beside a reference.

A *case* is one trial: its films, if there are some, the truth, and results of programs that lie beside it.

    data set, clip      `odah generate` made them; truth in kinematics/truth.mot and truth.osim
    Pose2Sim trial      without a truth: only checked against the person's masks
    folder of results   pairs of .osim and .mot, one of them named truth or reference, at any depth

In a folder with a truth, every other .mot with an .osim of its name is somebody's result, so those that
upstream Pose2Sim, or this package, wrote into a clip's kinematics folder are measured along with the network.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from odah.clips import ABOUT, MOT, OSIM, read_clip
from odah.datasets import is_dataset, read_dataset
from odah.evaluation.summary import motion_name, separation_name
from pose2sim_biokin.errors import BiokinError
from pose2sim_biokin.io.project import Trial, View, read_trial
from pose2sim_biokin.motion import Motion
from pose2sim_biokin.vision.views import viewing_angle

REFERENCES = ("truth", "reference")


@dataclass(frozen=True)
class Result:
    """A motion file and its model."""

    label: str
    osim: Path
    mot: Path


@dataclass(frozen=True)
class Case:
    """One trial with its truth.

    Attributes:
        data: the data set it belongs to. name: of the trial.
        reference: the true motion and its model, as files, if there are some.
        truth: reads the true motion with its scale factors, of the built-in skeleton; None where only the
            files tell it.
        trial: reads the films; None without any.
        results: of programs.
        about: kind of grouping -> its group; "motion" may be [(first time s, group), ...].
        same_world: positions and headings of the truth are those of the cameras' world.
        same_clock: times are those of the films; else the truth begins with the films, and what is left of
            a lag is found by cross-correlation and taken out.
        notes: for the report.
    """

    data: str
    name: str
    reference: Result | None = None
    truth: Callable[[], Motion] | None = None
    trial: Callable[[], Trial] | None = None
    results: tuple[Result, ...] = ()
    about: dict = field(default_factory=dict)
    same_world: bool = True
    same_clock: bool = True
    notes: tuple[str, ...] = ()

    @property
    def has_truth(self) -> bool:
        """Something to compare with is known."""
        return self.truth is not None or self.reference is not None

    def groups(self, time: np.ndarray, views: Sequence[View] = ()) -> dict[str, np.ndarray]:
        """Kind of grouping -> (T,) group of each frame.

        Args:
            time: (T,) s. views: that were used, for the angle between them.
        """
        groups = {}
        for kind, value in self.about.items():
            if isinstance(value, str):
                groups[kind] = np.full(len(time), value)
                continue
            starts = np.array([start for start, _ in value])
            piece = np.searchsorted(starts, np.asarray(time) + 1e-6, side="right") - 1
            groups[kind] = np.array([name for _, name in value])[np.maximum(piece, 0)]
        if len(views) == 2:
            angle = viewing_angle(views[0].camera, views[1].camera)
            groups["separation"] = np.full(len(time), separation_name(angle))
        return groups


def read_cases(folder: str | Path, split: str | None = None, **biokin) -> list[Case]:
    """The cases of a data set, a clip, or a folder of results.

    Args:
        split: of a data set; None: all of it.
        biokin: keys of [biokin] that replace those of the clips' Config.toml.

    Raises:
        BiokinError: the folder is none of these, or holds nothing.
    """
    folder = Path(folder)
    if is_dataset(folder):
        names = read_dataset(folder).names(split)
        if not names:
            what = f"no clips of the {split} split" if split else "no clips"
            raise BiokinError(
                f"{folder}: the data set has {what}. Run `odah generate` to the end, or see --split."
            )
        return [_clip_case(folder / name, folder.name, name, biokin) for name in names]
    if (folder / ABOUT).is_file():
        return [_clip_case(folder, folder.parent.name or folder.name, folder.name, biokin)]
    if not folder.is_dir():
        raise BiokinError(f"{folder}: no such folder.")
    cases = _result_cases(folder)
    if not cases and (folder / "Config.toml").is_file() and (folder / "videos").is_dir():
        films = partial(_read_trial, folder, biokin)
        return [Case(folder.name, folder.name, trial=films, about={"renderer": "real"})]
    if not cases:
        raise BiokinError(
            f"{folder}: expected a data set or clip of `odah generate`, a cache of `odah crops`, a trial, or "
            "folders with truth.osim and .mot (or reference) and results beside them; found none."
        )
    return cases


def find_results(folder: Path, trial: str) -> tuple[Result, ...]:
    """Motions in a folder that have a model: the one of the same name, or, of filtered motions, the one with
    the longest name that theirs begins with. Labels are the names without the trial's and the frames.
    """
    models = {path.stem: path for path in folder.glob("*.osim")}
    results = []
    for mot in sorted(folder.glob("*.mot")):
        fitting = [stem for stem in models if mot.stem == stem or mot.stem.startswith(f"{stem}_")]
        if mot.stem in REFERENCES or not fitting:
            continue
        model = models[max(fitting, key=len)]
        label = mot.stem.removeprefix(f"{trial}_")
        label = re.sub(r"^\d+-\d+_", "", label)
        if model.stem not in REFERENCES:
            results.append(Result(label, model, mot))
    return tuple(results)


def _clip_case(folder: Path, data: str, name: str, biokin: dict) -> Case:
    clip = read_clip(folder)
    about = clip.about
    pieces = [
        (piece["frame"] / clip.fps, motion_name(piece["kind"], piece["name"]))
        for piece in about.get("motion", ())
    ]
    groups = {
        "renderer": str(about.get("render", {}).get("renderer", "unknown")),
        "subject": str(about.get("subject", {}).get("id", name.split("/")[0])),
    }
    groups |= {"motion": pieces} if pieces else {}
    return Case(
        data,
        name,
        Result("truth", folder / OSIM, folder / MOT),
        partial(_true_motion, folder),
        partial(_read_trial, folder, biokin),
        find_results(folder / "kinematics", folder.name),
        groups,
    )


def _true_motion(folder: Path) -> Motion:
    return read_clip(folder).motion


def _read_trial(folder: Path, biokin: dict) -> Trial:
    try:
        config = tomllib.loads((folder / "Config.toml").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BiokinError(f"{folder / 'Config.toml'}: cannot be read ({error}).") from error
    config.setdefault("project", {})["project_dir"] = str(folder)
    config["biokin"] = config.get("biokin", {}) | biokin
    return read_trial(config)


def _result_cases(folder: Path) -> list[Case]:
    cases = []
    for mot in sorted(folder.rglob("*.mot")):
        if mot.stem not in REFERENCES:
            continue
        osim = mot.with_suffix(".osim")
        if not osim.is_file():
            raise BiokinError(f"{mot}: {osim.name} is missing beside it; a motion needs its scaled model.")
        inside = mot.parent.relative_to(folder)
        if inside.name == "kinematics":
            inside = inside.parent
        trial = inside.name or folder.name
        results = find_results(mot.parent, trial)
        if not results:
            raise BiokinError(
                f"{mot.parent}: no results beside {mot.name}: expected pairs of .osim and .mot."
            )
        name = inside.as_posix() if inside.name else folder.name
        cases.append(Case(folder.name, name, Result(mot.stem, osim, mot), results=results))
    return cases
