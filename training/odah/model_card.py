"""The model card of exported weights, from the record beside them: ``python -m odah.model_card fast.json``.

Writes Markdown beside the .json. All figures come from the record (`odah export`); nothing is typed in.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from pose2sim_biokin.errors import BiokinError
from pose2sim_biokin.io.atomic import atomic_path
from pose2sim_biokin.skeleton.angles import CONSTRAINED

# What is shown of a set of measurements: its name and digits.
_ROWS = {
    "clips": ("clips", 0),
    "frames": ("frames", 0),
    "subjects": ("subjects", 0),
    "mae_17_deg": ("mean of the 17 constrained angles, deg", 2),
    "mae_24_deg": ("of the 24 compared, deg", 2),
    "mae_26_deg": ("of all 26, deg", 2),
    "constrained_worst_frame_deg": ("worst frame, deg", 1),
    "pa_mpjpe_mm": ("PA-MPJPE, mm", 1),
    "mpjpe_mm": ("MPJPE, mm", 1),
    "pa_mpjve_mm_s": ("PA-MPJVE, mm/s", 0),
    "angle_speed_deg_s": ("speed of the 17 angles, deg/s", 0),
    "pelvis_mm": ("pelvis position, mm", 0),
    "pelvis_deg": ("pelvis orientation, deg", 1),
    "humerus_r_deg": ("right upper arm, deg", 1),
    "humerus_l_deg": ("left upper arm, deg", 1),
    "scale": ("scale factors", 3),
}


def model_card(record: dict) -> str:
    """The card of a checkpoint's record (see `pose2sim_biokin.network.checkpoint`).

    Raises:
        BiokinError: the record lacks the training or the measurements.
    """
    missing = [key for key in ("training", "measured", "preset", "sha256") if not record.get(key)]
    if missing:
        raise BiokinError(
            f"The record has no {', '.join(missing)}: export the weights with --measured first."
        )
    training = dict(record["training"])
    curve = training.pop("validation_curve", None)
    lines = [
        f"# Model card: {record['preset']['name']}",
        "",
        f"Two-view network for joint angles and segment scales of the Rajagopal 2016 model, "
        f"{record['parameters'] / 1e6:.1f} million parameters, crops of {record['preset']['size']} pixels. "
        f"SHA-256 `{record['sha256']}`.",
        "",
        "Trained on rendered people only (bodies: MakeHuman data, CC0; motions: procedural, and recordings "
        "under free licences). It has seen no real person. Not a medical device.",
        "",
        "## Training",
        "",
        *_table(
            ("what", "value"), [(key.replace("_", " "), _text(value)) for key, value in training.items()]
        ),
    ]
    if curve:
        lines += ["", "Errors on the validation split while it was trained:", ""]
        titles = tuple(column.replace("_", " ") for column in curve["columns"])
        lines += _table(titles, [tuple(f"{value:g}" for value in row) for row in curve["rows"]])
    if record.get("fit"):
        fit = record["fit"]
        best = fit["strengths"][f"{fit['chosen']:g}"]
        ways = {"head alone": fit["head"]}
        hands, doubts = "and the closer look at the hands", "and the keypoints' own doubts"
        if "keypoints_alone" in fit:
            ways["with the fit"] = fit["keypoints_alone"]
        if "without_doubt" in fit:
            ways[hands] = fit["without_doubt"]
        last = doubts if hands in ways or "hands_deg" not in fit else hands
        ways[last if "keypoints_alone" in fit else "with the fit"] = best
        if "asked_once" in fit:
            ways["all that, but asked once"] = fit["asked_once"]
        lines += ["", "## Fit of the skeleton to the keypoints", ""]
        lines += ["Validation subjects that it was not measured on:", ""]
        lines += _table(
            ("error", *ways),
            [(key.replace("_", " "), *(f"{way[key]:.2f}" for way in ways.values())) for key in best],
        )
    if record.get("refinement"):
        refinement = record["refinement"]
        stages = {
            "encoder": "encoder",
            "low_pass_6_hz": "with a 6 Hz low-pass filter",
            "refined": "refined",
        }
        lines += [
            "",
            "## Temporal refinement",
            "",
            f"{refinement['validation_windows']} validation windows:",
            "",
        ]
        lines += _table(
            ("error", *stages.values()),
            [
                (key.replace("_", " "), *(f"{refinement[stage][key]:.3g}" for stage in stages))
                for key in refinement["refined"]
            ],
        )
    sets = record["measured"]["sets"]
    names = [one["data"] for one in sets]
    lines += ["", "## Measured on test subjects, recordings and actions that were never seen", ""]
    lines += _table(("error", *names), _rows(sets))
    lines += ["", "## By angle, degrees", ""]
    baseline = next((s["mean_pose_baseline_deg"] for s in sets if s.get("mean_pose_baseline_deg")), None)
    titles = ("angle", *names) + (("always the median pose",) if baseline else ())
    lines += _table(
        titles,
        [
            (name, *(_number(s["constrained_deg"][name], 1) for s in sets))
            + ((f"{baseline[name]:.1f}",) if baseline else ())
            for name in CONSTRAINED
        ],
    )
    return "\n".join([*lines, ""])


def _rows(sets: list[dict]) -> list[tuple[str, ...]]:
    rows = [
        (title, *(_number(one.get(key), digits) for one in sets)) for key, (title, digits) in _ROWS.items()
    ]
    return [row for row in rows if set(row[1:]) != {"-"}]


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _text(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key.replace('_', ' ')} {part}" for key, part in value.items())
    return str(value)


def _table(titles: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (titles, ("---",) * len(titles), *rows)]


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m odah.model_card", description=__doc__.splitlines()[0])
    parser.add_argument("record", type=Path, help="the .json beside the weights")
    parser.add_argument("--output", type=Path, help="the .md to write (default: beside the .json)")
    options = parser.parse_args(arguments)
    try:
        record = json.loads(options.record.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BiokinError(f"{options.record}: cannot be read as a record of weights ({error}).") from error
    output = options.output or options.record.with_suffix(".md")
    with atomic_path(output) as staged:
        staged.write_text(model_card(record), encoding="utf-8")
    print(output)


if __name__ == "__main__":
    main()
