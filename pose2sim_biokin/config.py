"""What a run needs to know from Config.toml, checked once, at the boundary."""

from __future__ import annotations

import difflib
import logging
import math
from dataclasses import dataclass, field, fields

from pose2sim_biokin.errors import BiokinError

_DEVICES = ("auto", "cpu", "cuda", "mps")
_OVERLAYS = ("skeleton", "surface", "bones")
_DEFAULT_MASS_KG = 70.0  # Pose2Sim's


@dataclass(frozen=True)
class BiokinConfig:
    """The ``[biokin]`` section, and those of Pose2Sim's keys that matter here.

    Attributes:
        views: "auto", or the names of the two cameras to use.
        segmentation: "auto", "masks", the name of a segmenter, or the name or path of YOLO weights.
        masks_dir: folder of masks for segmentation = "masks"; relative to the trial's folder.
        static_background: sharpen the masks with what a camera that does not move sees while nobody is there.
        weights: "default" (those in the package), or the path of a checkpoint.
        device: "auto", "cpu", "cuda" (or "cuda:1", ...), or "mps".
        sync_offsets: camera name to the number of frames that its recording started before the common time:
            frame in the recording = synchronised frame + offset. Empty: read from Pose2Sim's pose files.
        max_gap_s: seconds without the person that are interpolated, and flagged.
        batch_size: images that are taken at once.
        overlay_video: write a video of each view with the person, as found, drawn on it.
        overlay: what is drawn: "skeleton" (sticks), "surface" (body surface and sticks) or "bones".
        check_views: compare the result with the masks of both views and of the cameras that were not used.
        report: write the trial's report, one HTML page, at the end of the run.
        seed: of everything random.
        frame_range: None for all frames, or (first, end), end excluded, in synchronised frames.
        frame_rate: frames per second, or None to take the videos'.
        mass_kg: of the participant.
        filter_ik: filter the joint angles, as Pose2Sim does.
    """

    views: str | tuple[str, str] = "auto"
    segmentation: str = "auto"
    masks_dir: str = "masks"
    static_background: bool = True
    weights: str = "default"
    device: str = "auto"
    sync_offsets: dict[str, int] = field(default_factory=dict)
    max_gap_s: float = 0.5
    batch_size: int = 16
    overlay_video: bool = True
    overlay: str = "skeleton"
    check_views: bool = True
    report: bool = True
    seed: int = 0
    frame_range: tuple[int, int] | None = None
    frame_rate: float | None = None
    mass_kg: float = _DEFAULT_MASS_KG
    filter_ik: bool = False

    @classmethod
    def from_config_dict(cls, config_dict: dict) -> BiokinConfig:
        """Check and take what Pose2Sim read from Config.toml.

        Raises:
            BiokinError: a key is unknown or its value cannot be used; names the key, the value and what is
                allowed.
        """
        section = _section(config_dict, "biokin")
        for key in section:
            if key not in BIOKIN_KEYS:
                raise BiokinError(_unknown_key(key))
        values = {
            key: check(f"[biokin] {key}", section[key]) for key, check in _CHECKS.items() if key in section
        }
        project = _section(config_dict, "project")
        if project.get("multi_person"):
            logging.warning("[project] multi_person is true, but biokin follows one person only.")
        return cls(
            **values,
            frame_range=_frame_range(project.get("frame_range", "auto")),
            frame_rate=_frame_rate(project.get("frame_rate", "auto")),
            mass_kg=_mass(project.get("participant_mass", _DEFAULT_MASS_KG)),
            filter_ik=_boolean(
                "[kinematics] filter_ik", _section(config_dict, "kinematics").get("filter_ik", False)
            ),
        )


def _section(config_dict: dict, name: str) -> dict:
    section = config_dict.get(name, {})
    if not isinstance(section, dict):
        raise _wrong(name, section, f"a table of keys: [{name}]")
    return section


def _wrong(key: str, value: object, expected: str) -> BiokinError:
    return BiokinError(f"{key} in Config.toml is {value!r}; expected {expected}.")


def _unknown_key(key: str) -> str:
    near = difflib.get_close_matches(key, BIOKIN_KEYS, n=1)
    hint = f'Did you mean "{near[0]}"? ' if near else ""
    keys = ", ".join(BIOKIN_KEYS)
    return f'[biokin] "{key}" in Config.toml is not a key of this section. {hint}Its keys: {keys}.'


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _text(key: str, value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise _wrong(key, value, "a name or path in quotes")
    return value


def _boolean(key: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise _wrong(key, value, "true or false")
    return value


def _views(key: str, value: object) -> str | tuple[str, str]:
    if value == "auto":
        return "auto"
    two_names = isinstance(value, list | tuple) and len(value) == 2 and all(isinstance(v, str) for v in value)
    if not two_names or value[0] == value[1]:
        raise _wrong(key, value, "'auto' or the names of two different cameras, like ['cam01', 'cam04']")
    return (value[0], value[1])


def _overlay(key: str, value: object) -> str:
    if value not in _OVERLAYS:
        raise _wrong(key, value, "'skeleton', 'surface' or 'bones'")
    return str(value)


def _device(key: str, value: object) -> str:
    name = value.strip().lower() if isinstance(value, str) else ""
    kind, _, index = name.partition(":")
    if kind not in _DEVICES or (index and not (kind == "cuda" and index.isdigit())):
        raise _wrong(key, value, "'auto', 'cpu', 'cuda' (or 'cuda:0', 'cuda:1', ...) or 'mps'")
    return name


def _sync_offsets(key: str, value: object) -> dict[str, int]:
    if not isinstance(value, dict) or not all(isinstance(k, str) and _whole(v) for k, v in value.items()):
        raise _wrong(
            key, value, "a table of camera names and whole numbers of frames, like {cam01 = 0, cam02 = -3}"
        )
    return dict(value)


def _max_gap_s(key: str, value: object) -> float:
    if not _number(value) or value < 0:
        raise _wrong(key, value, "a number of seconds, 0 or more")
    return float(value)


def _batch_size(key: str, value: object) -> int:
    if not _whole(value) or value < 1:
        raise _wrong(key, value, "a whole number, 1 or more")
    return value


def _seed(key: str, value: object) -> int:
    if not _whole(value) or not 0 <= value < 2**63:
        raise _wrong(key, value, "a whole number, 0 or more")
    return value


def _frame_range(value: object) -> tuple[int, int] | None:
    if value is None or value in ("auto", "all") or (isinstance(value, list | tuple) and not value):
        return None
    if not isinstance(value, list | tuple) or len(value) != 2 or not all(_whole(v) for v in value):
        raise _wrong("[project] frame_range", value, "'auto', 'all', or a range of frames like [10, 300]")
    if not 0 <= value[0] < value[1]:
        raise _wrong(
            "[project] frame_range",
            value,
            "0 <= first < end (the frame of the end is left out), like [10, 300]",
        )
    return (value[0], value[1])


def _frame_rate(value: object) -> float | None:
    if value is None or value == "auto":
        return None
    if not _number(value) or value <= 0:
        raise _wrong("[project] frame_rate", value, "'auto' or a number of frames per second, like 60")
    return float(value)


def _mass(value: object) -> float:
    if isinstance(value, list | tuple) and value:  # one per person; the first is ours
        value = value[0]
    if value is None or value == 0:
        logging.warning(
            f"No subject mass found in Config.toml. Using default mass of {_DEFAULT_MASS_KG:g} kg."
        )
        return _DEFAULT_MASS_KG
    if not _number(value) or value <= 0:
        raise _wrong("[project] participant_mass", value, "a mass in kg, like 70.0")
    return float(value)


_CHECKS = {
    "views": _views,
    "segmentation": _text,
    "masks_dir": _text,
    "static_background": _boolean,
    "weights": _text,
    "device": _device,
    "sync_offsets": _sync_offsets,
    "max_gap_s": _max_gap_s,
    "batch_size": _batch_size,
    "overlay_video": _boolean,
    "overlay": _overlay,
    "check_views": _boolean,
    "report": _boolean,
    "seed": _seed,
}
BIOKIN_KEYS = tuple(field.name for field in fields(BiokinConfig) if field.name in _CHECKS)
