"""What each part brings: many short runs that differ in one thing, measured on validation data.

    odah ablate configs/ablation.toml --train cache/frames --validation cache/frames_val \\
        --windows cache/sequences --validation-windows cache/sequences_val --minutes 30 --output runs/ablation

CONFIG are matrices of experiments (TOML): tables of runs, each of which states what differs from the base:

    base = "fast.toml"              experiment file that all runs begin with, beside the matrix
    train = { learning_rate = 4e-4 }  tables of an experiment file that differ from it, in all runs
    initial = "default"             weights that all encoders start from; without, from scratch
    minutes = 30                    of each encoder; or steps = 2000
    refinement_minutes = 8          of each refinement
    joint_minutes = 30              of each joint training
    [[table]]
    title = "Losses"
    [[table.run]]
    name = "without the ranges"
    loss = { range = 0.0 }          any table of an experiment file: preset, loss, augmentation, train
    share = 0.25                    of the training shards, the first ones
    stage = "refinement"            behind the frame encoder, on --windows; or "joint": then both together

All runs start from the same weights (by default the seed's) and are ended alike; none has a fit (`odah.fit`).
A run is known by all that decides what it is, so runs that several tables have in common are made once, and a
command that was cut off goes on where it stopped. Writes ablation.json, .csv and .md; the runs are in runs/.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import toml
import torch

from odah import INTERRUPTED
from odah.dataset import ShardSet, find_shards
from odah.evaluation.caches import score_frames, score_windows
from odah.evaluation.summary import summarize
from odah.matrix import STAGES, Matrix, Run, read_matrix
from pose2sim_biokin.errors import BiokinError
from pose2sim_biokin.io.atomic import OutputSet, atomic_path
from pose2sim_biokin.network.checkpoint import load_checkpoint
from pose2sim_biokin.network.presets import merge_tables
from pose2sim_biokin.predictor import Predictor

# Column of a table -> where it comes from: (kind of validation data, key of the summary).
COLUMNS = {
    "frames_17_deg": ("frames", "mae_17_deg"),
    "frames_pa_mpjpe_mm": ("frames", "pa_mpjpe_mm"),
    "frames_pelvis_mm": ("frames", "pelvis_mm"),
    "frames_scale": ("frames", "scale"),
    "windows_17_deg": ("windows", "mae_17_deg"),
    "windows_pa_mpjpe_mm": ("windows", "pa_mpjpe_mm"),
    "windows_pa_mpjve_mm_s": ("windows", "pa_mpjve_mm_s"),
    "windows_speed_deg_s": ("windows", "angle_speed_deg_s"),
}


@dataclass(frozen=True)
class Data:
    """Folders of shards: single frames and dense windows, to train on and to measure by."""

    train: tuple[str, ...]
    validation: tuple[str, ...]
    windows: tuple[str, ...] = ()
    validation_windows: tuple[str, ...] = ()
    limit: int = 2048


def ablate(
    matrices: Sequence[Matrix], data: Data, output: Path, threads: int | None = None, log=print
) -> list[dict]:
    """Make all runs of matrices that are not there yet, measure them, and write the tables.

    Returns:
        One row a run and table: table, name, stage, share, steps, pairs, minutes, COLUMNS, error.

    Raises:
        BiokinError: data, or weights to start from, are missing. A run that fails is a row with its error,
            and the others go on.
        KeyboardInterrupt: a run was interrupted.
    """
    tables = [(matrix, title, runs) for matrix in matrices for title, runs in matrix.tables]
    if any(run.stage != "encoder" for _, _, runs in tables for run in runs) and not data.windows:
        raise BiokinError(
            "The matrix has refinements: give dense data with --windows and --validation-windows."
        )
    shards = find_shards(data.train)
    find_shards(data.validation)
    starts = {m.initial: load_checkpoint(m.initial).sha256 for m in matrices if m.initial is not None}
    rows = []
    for matrix, title, runs in tables:
        for run in runs:
            log(f"[ablate] {title}: {run.name}")
            row = {"table": title, "name": run.name, "stage": run.stage, "share": run.share, "error": None}
            try:
                start = starts.get(matrix.initial)
                row |= _made(run, matrix, start, data, shards, output / "runs", threads)
            except BiokinError as error:
                row["error"] = str(error)
                log(f"[ablate] {run.name} failed: {error}")
            rows.append(row)
            write_tables(output, rows)
    return rows


def write_tables(output: Path, rows: Sequence[dict]) -> None:
    """Write ablation.json, ablation.csv and ablation.md, all together."""
    with OutputSet() as outputs:
        text = json.dumps(rows, indent=1, allow_nan=False)
        outputs.stage(output / "ablation.json").write_text(text + "\n", encoding="utf-8")
        outputs.stage(output / "ablation.md").write_text(markdown(rows), encoding="utf-8")
        names = ["table", "name", "stage", "share", "steps", "pairs", "minutes", *COLUMNS, "error"]
        with outputs.stage(output / "ablation.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, names)
            writer.writeheader()
            writer.writerows({name: row.get(name) for name in names} for row in rows)
        outputs.commit()


def markdown(rows: Sequence[dict]) -> str:
    """The tables for people; figures are of validation data."""
    titles = ["run", "steps", "17, deg", "PA-MPJPE, mm", "pelvis, mm", "scales", "windows: 17, deg"]
    titles += ["PA-MPJPE, mm", "PA-MPJVE, mm/s", "speed of the 17, deg/s"]
    digits = (2, 1, 0, 3, 2, 1, 0, 0)
    lines = []
    for table in dict.fromkeys(row["table"] for row in rows):
        lines += [f"## {table}", "", f"| {' | '.join(titles)} |", "|" + "---|" * len(titles)]
        for row in (r for r in rows if r["table"] == table):
            values = [row.get(column) for column in COLUMNS]
            cells = ["" if v is None else f"{v:.{d}f}" for v, d in zip(values, digits, strict=True)]
            name = f"{row['name']} (failed: {row['error']})" if row["error"] else row["name"]
            lines.append(f"| {name} | {row.get('steps', '')} | {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


def _as_asked(matrix: Matrix, options: argparse.Namespace) -> Matrix:
    """The matrix with the lengths and the backdrops of the command line, where it gives any."""
    names = ("minutes", "refinement_minutes", "joint_minutes")
    lengths = {name: value for name in names if (value := getattr(options, name))}
    tables = tuple(
        (title, tuple(_in_front_of(options.backdrops, run) for run in runs)) for title, runs in matrix.tables
    )
    steps = None if options.minutes else options.steps or matrix.steps
    return replace(matrix, tables=tables, steps=steps, **lengths)


def _in_front_of(backdrops: Path | None, run: Run) -> Run:
    """The run with this file of backdrops, if there is one."""
    if backdrops is None:
        return run
    file = {"augmentation": {"backdrops": str(backdrops.resolve())}}
    return replace(run, settings=merge_tables(run.settings, file))


def _made(
    run: Run,
    matrix: Matrix,
    start: str | None,
    data: Data,
    shards: list[Path],
    runs: Path,
    threads: int | None,
) -> dict:
    """The figures of a run, which is made, or finished, first; `start`: SHA-256 of its initial weights."""
    from odah.export import main as export
    from odah.train import main as train

    ends = {"steps": matrix.steps} if matrix.steps is not None else {}
    settings = _ended(run.settings, ends)
    chosen = shards[: math.ceil(run.share * len(shards))]
    length = [] if matrix.steps is not None else ["--hours", str(matrix.minutes / 60)]
    about = [settings, _resolved(chosen), matrix.steps, matrix.minutes]
    if start is not None:
        about.append(start)
    folder = runs / f"encoder-{_digest(about)}"
    folder.mkdir(parents=True, exist_ok=True)
    config, weights = folder / "experiment.toml", folder / "weights.pt"
    common = ["--threads", str(threads)] if threads else []
    if not weights.is_file():
        _write_toml(config, settings)
        arguments = [str(config), "--train", *map(str, chosen), "--validation", *data.validation]
        arguments += ["--initial", matrix.initial] if start is not None else []
        _call(train, [*arguments, "--output", str(folder), *length, *common])
        with atomic_path(weights) as staged:
            _call(export, ["--config", str(config), "--run", str(folder), "--output", str(staged)])
    for stage in STAGES[1 : STAGES.index(run.stage) + 1]:
        minutes = matrix.refinement_minutes if stage == "refinement" else matrix.joint_minutes
        about += [stage, *map(_resolved, (data.windows, data.validation_windows)), minutes]
        folder = runs / f"{stage}-{_digest(about)}"
        weights = _sequence(stage, run, weights, folder, data, ["--hours", str(minutes / 60), *common])
    measured_on = [*map(_resolved, (data.validation, data.validation_windows)), data.limit]
    result = folder / f"result-{_digest(measured_on)}.json"
    if not result.is_file():
        values = _measured(weights, data)
        with atomic_path(result) as staged:
            staged.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
    values = json.loads(result.read_text(encoding="utf-8"))
    found = values["validation"]
    columns = {name: found[kind][key] if kind in found else None for name, (kind, key) in COLUMNS.items()}
    return values | columns


def _sequence(stage: str, run: Run, behind: Path, folder: Path, data: Data, common: list[str]) -> Path:
    """Weights of a refinement behind an encoder's; or of both trained together, from the refinement's."""
    from odah.export import main as export
    from odah.train import main as train

    weights, config = folder / "weights.pt", folder / "experiment.toml"
    if weights.is_file():
        return weights
    folder.mkdir(parents=True, exist_ok=True)
    _write_toml(config, _ended(run.settings, {}))
    arguments = [str(config), "--stage", stage, "--initial", str(behind), "--output", str(folder), *common]
    source = ["--config", str(config), "--run", str(folder)]
    if stage == "refinement":  # one that is no better than a low-pass filter is a result too
        arguments.append("--keep-anyway")
        source = ["--weights", str(behind), "--refinement", str(folder)]
    _call(train, [*arguments, "--train", *data.windows, "--validation", *data.validation_windows])
    with atomic_path(weights) as staged:
        _call(export, [*source, "--output", str(staged)])
    return weights


def _ended(settings: dict, ends: dict) -> dict:
    """An experiment's tables but its data, with other ends of its training (none: the clock's)."""
    tables = {key: value for key, value in settings.items() if key != "data"}
    train = {k: v for k, v in tables.get("train", {}).items() if k not in ("steps", "epochs")}
    return tables | {"train": train | ends}


def _write_toml(path: Path, values: dict) -> None:
    with atomic_path(path) as staged:
        staged.write_text(toml.dumps(values), encoding="utf-8")


def _measured(weights: Path, data: Data) -> dict:
    """Steps and pairs of the weights' training, and their errors on the validation data."""
    predictor = Predictor(weights, "cpu")
    training = predictor.checkpoint.record.get("training") or {}
    summaries = {
        "frames": summarize(
            score_frames(predictor, ShardSet(find_shards(data.validation)), "frames", "run", data.limit)
        )
    }
    if data.validation_windows:
        windows = ShardSet(find_shards(data.validation_windows))
        summaries["windows"] = summarize(score_windows(predictor, windows, "windows", "run"))
    return {
        "steps": training.get("steps"),
        "pairs": training.get("pairs"),
        "minutes": round(60 * training["hours"], 2) if "hours" in training else None,
        "validation": summaries,
    }


def _call(command, arguments: list[str]) -> None:
    """Run a command of this package; BiokinError when it says that it failed, KeyboardInterrupt when it was
    interrupted.
    """
    code = command(arguments)
    if code == INTERRUPTED:
        raise KeyboardInterrupt
    if code:
        raise BiokinError(
            f"odah {command.__module__.rsplit('.', 1)[-1]} ended with exit code {code}; see above."
        )


def _resolved(paths: Sequence[str | Path]) -> list[str]:
    return [str(Path(path).resolve()) for path in paths]


def _digest(values) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode("utf-8")).hexdigest()[:12]


def main(arguments: list[str] | None = None) -> int:
    """Command line; see the module docstring."""
    parser = argparse.ArgumentParser(
        prog="odah ablate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("configs", nargs="+", metavar="CONFIG", help="matrices of experiments (TOML)")
    parser.add_argument("--train", nargs="+", required=True, help="folders of shards of single frames")
    parser.add_argument("--validation", nargs="+", required=True, help="the same, to measure by")
    parser.add_argument("--windows", nargs="*", default=[], help="folders of dense shards")
    parser.add_argument("--validation-windows", nargs="*", default=[], help="the same, to measure by")
    parser.add_argument(
        "--backdrops", type=Path, help="file of `odah backdrops`, behind the people of caches"
    )
    parser.add_argument("--output", type=Path, required=True, help="folder of the runs and tables")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--minutes", type=float, help="of each encoder, instead of the matrix's")
    length.add_argument("--steps", type=int, help="of each encoder, instead of minutes")
    parser.add_argument("--refinement-minutes", type=float, help="of each refinement")
    parser.add_argument("--joint-minutes", type=float, help="of each joint training")
    parser.add_argument("--limit", type=int, default=2048, help="single frames measured (default 2048)")
    parser.add_argument("--threads", type=int, help="CPU threads")
    options = parser.parse_args(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    folders = (options.train, options.validation, options.windows, options.validation_windows)
    try:
        matrices = [_as_asked(read_matrix(path), options) for path in options.configs]
        data = Data(*map(tuple, folders), options.limit)
        rows = ablate(matrices, data, options.output, options.threads)
    except BiokinError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"Interrupted. The same command goes on from {options.output}.", file=sys.stderr)
        return INTERRUPTED
    print(markdown(rows))
    return 1 if any(row["error"] for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
