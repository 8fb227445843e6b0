"""A matrix of tiny runs on stick figures: shared runs are made once, and cut-off ones go on."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest
import toml
from figures import TINY_EXPERIMENT, write_shard

from odah import ablate
from odah.ablate import Data, markdown, read_matrix
from odah.settings import read_settings
from pose2sim_biokin.errors import BiokinError
from pose2sim_biokin.network.checkpoint import load_checkpoint

CONFIGS = Path(__file__).parents[2] / "training" / "configs"
SAME = {"all", "frame by frame"}  # names of the run without differences
MATRIX = """
base = "tiny.toml"
steps = 2
refinement_minutes = 0.02
joint_minutes = 0.02
[[table]]
title = "Data"
[[table.run]]
name = "half"
share = 0.5
[[table.run]]
name = "all"
[[table]]
title = "Losses"
[[table.run]]
name = "every term"
[[table.run]]
name = "without ranges"
loss = { range = 0.0 }
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ablation")
    for i in range(2):
        write_shard(folder / "frames" / f"shard-0000{i}", 16, 32, seed=i)
    write_shard(folder / "dense" / "shard-00000", 64, 32, seed=5, dense=True)
    (folder / "tiny.toml").write_text(TINY_EXPERIMENT, encoding="utf-8")
    (folder / "matrix.toml").write_text(MATRIX, encoding="utf-8")
    return folder


def test_a_matrix_of_runs(folder, tmp_path, monkeypatch, capsys):
    made = []
    original = ablate._call
    monkeypatch.setattr(ablate, "_call", lambda f, a: (made.append(f.__module__), original(f, a))[1])
    frames, dense, out = str(folder / "frames"), str(folder / "dense"), tmp_path / "out"
    arguments = [str(folder / "matrix.toml"), "--train", frames, "--validation", frames, "--output", str(out)]
    arguments += ["--validation-windows", dense, "--threads", "1"]
    assert ablate.main(arguments) == 0
    assert made.count("odah.train") == 3  # "all" and "every term" are one run
    rows = json.loads((out / "ablation.json").read_text("utf-8"))
    by_name = {row["name"]: row for row in rows}
    assert [row["name"] for row in rows] == ["half", "all", "every term", "without ranges"]
    assert {row["steps"] for row in rows} == {2} and not any(row["error"] for row in rows)
    assert by_name["all"]["frames_17_deg"] == by_name["every term"]["frames_17_deg"]
    assert by_name["all"]["frames_17_deg"] != by_name["half"]["frames_17_deg"]
    assert by_name["all"]["windows_speed_deg_s"] > 0
    with (out / "ablation.csv").open(encoding="utf-8") as file:
        assert float(list(csv.DictReader(file))[0]["frames_pelvis_mm"]) == by_name["half"]["frames_pelvis_mm"]
    text = (out / "ablation.md").read_text("utf-8")
    assert text in capsys.readouterr().out and "## Losses" in text and "| without ranges | 2 |" in text
    configs = [read_settings(path) for path in (out / "runs").glob("*/experiment.toml")]
    assert sorted(c.weights.range for c in configs) == [0, 1, 1] and {c.steps for c in configs} == {2}

    made.clear()
    assert ablate.main(arguments) == 0 and made == []  # all there
    weights = next((out / "runs").glob("*/weights.pt"))
    weights.unlink()  # as if cut off after training
    next(weights.parent.glob("result-*.json")).unlink()
    assert ablate.main(arguments) == 0 and made == ["odah.train", "odah.export"]
    assert json.loads((out / "ablation.json").read_text("utf-8")) == rows

    made.clear()
    other = [argument for argument in arguments if argument not in ("--validation-windows", dense)]
    assert ablate.main(other) == 0 and made == []  # measured anew, on other data
    rows = json.loads((out / "ablation.json").read_text("utf-8"))
    assert [row["windows_17_deg"] for row in rows] == [None] * 4


def sequences(folder: Path, *runs: tuple[str, str]) -> tuple[Path, Data]:
    """A matrix of runs, each a name and a stage, and its data, dense ones too."""
    rows = [f'[[table.run]]\nname = "{name}"\nstage = "{stage}"' for name, stage in runs]
    head = MATRIX[: MATRIX.index("[[table]]")]
    path = folder / f"{runs[-1][1]}.toml"
    path.write_text("\n".join([head, '[[table]]\ntitle = "Sequences"', *rows]), encoding="utf-8")
    frames, dense = (str(folder / "frames"),), (str(folder / "dense"),)
    return path, Data(frames, frames, dense, dense)


def test_a_refinement_behind_the_frames(folder, tmp_path):
    """The row has the refined network's figures, also where a low-pass filter is as good."""
    path, data = sequences(folder, ("frames", "encoder"), ("refined", "refinement"))
    frames, refined = ablate.ablate([read_matrix(path)], data, tmp_path, threads=1, log=lambda _: None)
    assert frames["error"] is None and frames["windows_17_deg"] > 0
    record = json.loads(next(tmp_path.glob("runs/refinement-*/refinement.json")).read_text("utf-8"))
    assert record["kept"]
    network = load_checkpoint(next(tmp_path.glob("runs/refinement-*/weights.pt"))).network
    assert network.refiner is not None and refined["frames_17_deg"] == frames["frames_17_deg"]
    assert refined["windows_17_deg"] != frames["windows_17_deg"]
    with pytest.raises(BiokinError, match="give dense data with --windows"):
        ablate.ablate([read_matrix(path)], data.__class__(data.train, data.validation), tmp_path)


def test_runs_go_on_from_given_weights(folder, tmp_path):
    """Without a rate to learn at, they stay as good as these."""
    data = Data((str(folder / "frames"),), (str(folder / "frames"),))
    single = MATRIX[: MATRIX.index("[[table]]", MATRIX.index("[[table]]") + 1)]
    path = folder / "start.toml"
    longer = single.replace("steps = 2", "steps = 30\ntrain = { learning_rate = 0.01 }")
    path.write_text(longer, encoding="utf-8")
    start = ablate.ablate([read_matrix(path)], data, tmp_path / "start", threads=1, log=lambda _: None)[1]
    (weights,) = [
        file.parent / "weights.pt"
        for file in (tmp_path / "start").glob("runs/*/result-*.json")
        if json.loads(file.read_text("utf-8"))["validation"] == start["validation"]
    ]
    path = folder / "further.toml"
    from_there = f'train = {{ learning_rate = 1e-12 }}\ninitial = "{weights.as_posix()}"\nsteps = 2'
    path.write_text(single.replace("steps = 2", from_there), encoding="utf-8")
    on = ablate.ablate([read_matrix(path)], data, tmp_path / "on", threads=1, log=lambda _: None)[1]
    path.write_text(single, encoding="utf-8")
    scratch = ablate.ablate([read_matrix(path)], data, tmp_path / "scratch", threads=1, log=lambda _: None)[1]
    assert on["frames_17_deg"] == pytest.approx(start["frames_17_deg"], abs=0.1)
    assert abs(scratch["frames_17_deg"] - start["frames_17_deg"]) > 1.0


def test_each_matrix_has_its_own_lengths(folder, tmp_path):
    single = MATRIX[: MATRIX.index("[[table]]", MATRIX.index("[[table]]") + 1)]
    paths = []
    for steps in (1, 3):
        paths.append(folder / f"steps{steps}.toml")
        paths[-1].write_text(single.replace("steps = 2", f"steps = {steps}"), encoding="utf-8")
    frames, out = str(folder / "frames"), tmp_path / "out"
    arguments = [*map(str, paths), "--train", frames, "--validation", frames, "--output", str(out)]
    assert ablate.main([*arguments, "--threads", "1"]) == 0
    rows = json.loads((out / "ablation.json").read_text("utf-8"))
    assert [row["steps"] for row in rows] == [1, 1, 3, 3]


def test_weights_to_start_from_that_are_missing(folder, tmp_path, capsys):
    """Said once, before anything is trained."""
    path = folder / "missing.toml"
    path.write_text(MATRIX.replace("steps = 2", 'steps = 2\ninitial = "none.pt"'), encoding="utf-8")
    frames, out = str(folder / "frames"), tmp_path / "out"
    assert ablate.main([str(path), "--train", frames, "--validation", frames, "--output", str(out)]) == 1
    assert "none.pt" in capsys.readouterr().err and not out.exists()


def test_encoder_and_refinement_together(folder, tmp_path, monkeypatch):
    """They are trained from where the refinement behind the encoder ended."""
    calls = []

    def call(command, arguments):
        calls.append([command.__module__, *arguments])
        return original(command, arguments)

    original = ablate._call
    monkeypatch.setattr(ablate, "_call", call)
    path, data = sequences(folder, ("refined", "refinement"), ("together", "joint"))
    refined, together = ablate.ablate([read_matrix(path)], data, tmp_path, threads=1, log=lambda _: None)
    assert refined["error"] is None and together["error"] is None
    trained = [call for call in calls if call[0] == "odah.train"]
    stages = [call[call.index("--stage") + 1] if "--stage" in call else "encoder" for call in trained]
    assert stages == list(ablate.STAGES)
    start = Path(trained[-1][trained[-1].index("--initial") + 1])
    assert start == next(tmp_path.glob("runs/refinement-*/weights.pt"))
    before, after = (
        load_checkpoint(next(tmp_path.glob(f"runs/{stage}-*/weights.pt"))).network
        for stage in ("refinement", "joint")
    )
    assert after.refiner is not None
    moved = [
        (a - b).abs().max().item()
        for a, b in zip(before.encoder.parameters(), after.encoder.parameters(), strict=True)
    ]
    assert max(moved) > 0
    assert together["windows_17_deg"] != refined["windows_17_deg"]


def test_a_run_that_fails_is_a_row(folder, tmp_path):
    path = folder / "wrong.toml"
    path.write_text(MATRIX.replace("range = 0.0", "love = 0.0"), encoding="utf-8")
    matrix = read_matrix(path)
    data = Data((str(folder / "frames"),), (str(folder / "frames"),))
    only = replace(matrix, tables=(("Losses", matrix.tables[1][1][1:]),), steps=1)
    (row,) = ablate.ablate([only], data, tmp_path, threads=1, log=lambda _: None)
    assert "exit code 1" in row["error"] or "love" in row["error"]
    assert "without ranges (failed" in markdown([row])


def test_an_interrupted_run_ends_the_matrix(folder, tmp_path, monkeypatch, capsys):
    """`odah train` ends so at Ctrl+C, with a checkpoint to go on from; no row says that it failed."""
    calls = []
    monkeypatch.setattr("odah.train.main", lambda arguments: (calls.append(arguments), 130)[1])
    frames, out = str(folder / "frames"), tmp_path / "out"
    arguments = [str(folder / "matrix.toml"), "--train", frames, "--validation", frames, "--output", str(out)]
    assert ablate.main(arguments) == 130
    assert len(calls) == 1 and not (out / "ablation.json").exists()
    assert "The same command goes on" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("share = 0.5", "share = 1.5", "share 1.5"),
        ("share = 0.5", 'stage = "third"', "stage 'third'"),
        ('name = "half"', 'name = "all"', "runs of different names"),
        ("share = 0.5", "speed = 2", "unknown key speed"),
        ("steps = 2", "hours = 2", "unknown key hours"),
        ("steps = 2", "steps = 2\ninitial = 3", "initial is 3; expected"),
        ('base = "tiny.toml"', 'base = "none.toml"', "No experiment file .*none.toml"),
    ],
)
def test_matrices_that_cannot_be_used(folder, old, new, message):
    path = folder / "bad.toml"
    path.write_text(MATRIX.replace(old, new), encoding="utf-8")
    with pytest.raises(BiokinError, match=message):
        read_matrix(path)


def test_the_papers_tables_are_a_matrix():
    matrix = read_matrix(CONFIGS / "ablation.toml")
    assert len(matrix.tables) == 3 and matrix.minutes == 30
    assert {run.stage for _, runs in matrix.tables for run in runs} == set(ablate.STAGES)


@pytest.mark.parametrize("name", sorted(path.name for path in CONFIGS.glob("ablation*.toml")))
def test_runs_differ_in_what_their_names_say(name, tmp_path):
    base = read_settings(CONFIGS / "fast.toml")
    names = {}
    for _, runs in read_matrix(CONFIGS / name).tables:
        for run in runs:
            path = tmp_path / "experiment.toml"
            path.write_text(toml.dumps(run.settings), encoding="utf-8")
            settings = read_settings(path)  # every key is one that training knows
            assert (settings.preset != base.preset) == (run.name == "views that do not meet")
            assert (settings.augmentation != base.augmentation) == (run.name == "without mirroring")
            assert (settings.seed != base.seed) == ("another seed" in run.name)
            terms = run.name.startswith("without") and run.name != "without mirroring"
            assert (settings.weights != base.weights) == terms
            what = (str(run.settings), run.share, run.stage)
            assert names.setdefault(what, run.name) == run.name or {names[what], run.name} <= SAME
