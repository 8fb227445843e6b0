"""Training on stick figures: the loss falls, a run resumes exactly, the refinement learns, the export
loads.
"""

import json

import numpy as np
import pytest
import torch
from figures import write_shard

from odah.dataset import ShardSet, find_shards
from odah.evaluate import evaluate_frames, evaluate_windows, report
from odah.export import export_run
from odah.loop import learning_rate
from odah.metrics import Errors, rotation_degrees, wrapped_degrees
from odah.refine import main as refine_main
from odah.settings import read_settings
from odah.train import Trainer
from odah.windows import window_rows
from pose2sim_biokin.compare.metrics import procrustes_error
from pose2sim_biokin.errors import BiokinError
from pose2sim_biokin.network.checkpoint import load_checkpoint
from pose2sim_biokin.network.heads import AngleLayout, Pose
from pose2sim_biokin.skeleton import load_skeleton

TINY = """
base = "fast"
[preset]
size = 32
[preset.hourglass]
channels = 16
widths = [16, 16, 16]
stem_channels = 8
[preset.points]
count = 48
hidden = [32, 32]
dense = [64]
[preset.refinement]
blocks = [1, 1, 1]
channels = [16, 16, 32]
heads = [1, 1, 1]
[train]
batch_size = 8
learning_rate = 3e-3
warmup = 5
precision = "32-true"
refine_batch = 2
refine_passes = 1
[augmentation]
mask = 0.0
blur = 0.0
crop = 0.0
"""


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cache")
    write_shard(folder / "frames" / "shard-00000", 32, 32, seed=0)
    write_shard(folder / "dense" / "shard-00000", 128, 32, seed=1, dense=True)
    (folder / "tiny.toml").write_text(TINY, encoding="utf-8")
    return folder


def trainer(cache, output, hours=1.0) -> Trainer:
    settings = read_settings(cache / "tiny.toml")
    return Trainer(settings, [cache / "frames"], [cache / "frames"], output, hours, threads=1)


def rows(output):
    lines = (output / "metrics.csv").read_text(encoding="utf-8").splitlines()
    names = lines[0].split(",")
    return [dict(zip(names, map(float, line.split(",")), strict=True)) for line in lines[1:]]


def test_the_loss_falls(cache, tmp_path):
    run = trainer(cache, tmp_path / "run")
    run.run(max_steps=75)
    logged = rows(tmp_path / "run")
    assert logged[-1]["loss"] < 0.75 * logged[0]["loss"]
    assert logged[-1]["keypoints"] < logged[0]["keypoints"]
    summary = json.loads((tmp_path / "run" / "validation.jsonl").read_text("utf-8").splitlines()[-1])
    assert summary["frames"] == 32 and 0 < summary["constrained_mae_deg"] < 60


def test_a_run_resumes_exactly(cache, tmp_path):
    whole = trainer(cache, tmp_path / "whole")
    whole.run(max_steps=6)
    trainer(cache, tmp_path / "parts").run(max_steps=3)
    resumed = trainer(cache, tmp_path / "parts")
    assert resumed.step == 3
    resumed.run(max_steps=6)
    assert resumed.epoch == whole.epoch and resumed.pairs == whole.pairs == 48
    # The learning rate follows the clock, here by some 1e-6 of the run: equal up to that.
    for name, value in whole.module.state_dict().items():
        torch.testing.assert_close(resumed.module.state_dict()[name], value, atol=2e-4, rtol=1e-3)


def test_a_run_starts_from_exported_weights(cache, tmp_path):
    first = trainer(cache, tmp_path / "first")
    first.run(max_steps=2)
    weights = tmp_path / "weights.pt"
    digest = export_run(tmp_path / "first", weights, str(cache / "tiny.toml"), {}, None, half=False)
    settings, folder = read_settings(cache / "tiny.toml"), [cache / "frames"]
    second = Trainer(settings, folder, [], tmp_path / "second", 1.0, 1, initial=weights)
    names = [n for n in first.average.state if "num_batches" not in n]  # counts, averaged: not whole numbers
    for name in names:
        value = first.average.state[name]
        torch.testing.assert_close(second.module.state_dict()[name].float(), value)
        torch.testing.assert_close(second.average.state[name], value)
    second.run(max_steps=1)
    changed = second.module.state_dict()["head.out.bias"]
    # A run that goes on keeps its own weights, and remembers where they came from.
    third = Trainer(settings, folder, [], tmp_path / "second", 1.0, 1, initial="default")
    assert third.step == 1 and third.initial == digest
    torch.testing.assert_close(third.module.state_dict()["head.out.bias"], changed, atol=0, rtol=0)
    with pytest.raises(BiokinError, match="experiment file"):
        Trainer(settings, folder, [], tmp_path / "third", 1.0, 1, initial="default")


def test_learning_rate():
    settings = read_settings(None)
    assert learning_rate(settings, 0, 0) == pytest.approx(settings.learning_rate / settings.warmup)
    assert learning_rate(settings, 10**6, 0.4) == pytest.approx(settings.learning_rate)
    assert learning_rate(settings, 10**6, 1.0) == pytest.approx(0.02 * settings.learning_rate)


def test_refinement_export_evaluation(cache, tmp_path):
    run = tmp_path / "run"
    trainer(cache, run).run(max_steps=4)
    folders = [str(cache / "dense")]
    config = str(cache / "tiny.toml")
    refine_main(
        [
            "--config",
            config,
            "--run",
            str(run),
            "--train",
            *folders,
            "--validation",
            *folders,
            "--minutes",
            "0.05",
        ]
    )
    record = json.loads((run / "refinement.json").read_text("utf-8"))
    assert record["refined"]["constrained_deg"] < record["encoder"]["constrained_deg"] + 1e-6
    output = tmp_path / "tiny.pt"
    export_run(run, output, config, {"data": "stick figures"}, None)
    loaded = load_checkpoint(output)
    assert loaded.record["training"]["steps"] == 4 and loaded.record["training"]["data"] == "stick figures"
    assert (loaded.network.refiner is not None) == record["kept"]
    frames = evaluate_frames(str(output), [str(cache / "frames")])
    windows = evaluate_windows(str(output), folders)
    assert frames["frames"] == 32 and frames["by_group_deg"].keys() == {"action: random"}
    assert np.isfinite(windows["pa_mpjpe_mm"])
    text = report({"frames": frames, "windows": windows})
    assert "mean of the 17 constrained angles" in text and "hip_flexion_r" in text


def test_windows_are_consecutive_frames(cache):
    found = window_rows(ShardSet(find_shards([cache / "dense"])), 64)
    np.testing.assert_array_equal(found, np.arange(128).reshape(2, 64))
    with pytest.raises(BiokinError, match="dense"):
        window_rows(ShardSet(find_shards([cache / "frames"])), 64)


def test_settings_errors(tmp_path):
    path = tmp_path / "x.toml"
    for text, message in (
        ("[train]\nspeed = 3", "speed"),
        ("[loss]\nlove = 1", "love"),
        ("[wrong]\na = 1", "wrong"),
    ):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(BiokinError, match=message):
            read_settings(path)
    with pytest.raises(BiokinError, match="No experiment file"):
        read_settings(tmp_path / "none.toml")


def test_error_measures():
    assert wrapped_degrees(torch.tensor(3.1), torch.tensor(-3.1)).item() == pytest.approx(
        np.degrees(2 * np.pi - 6.2), rel=1e-4
    )
    c, s = np.cos(0.3), np.sin(0.3)
    turn = torch.tensor([[c, -s, 0], [s, c, 0], [0, 0, 1]], dtype=torch.float32)
    assert rotation_degrees(turn, torch.eye(3)).item() == pytest.approx(np.degrees(0.3), rel=1e-4)
    points = np.random.default_rng(0).normal(size=(3, 22, 3))
    moved = 1.3 * points @ turn.numpy().astype(float) + [1, 2, 3]
    np.testing.assert_allclose(procrustes_error(moved, points), 0, atol=1e-7)
    mirrored = points * [1, 1, -1]
    assert procrustes_error(mirrored, points).min() > 0.1  # a mirror image is not a match
    layout = AngleLayout(load_skeleton())
    truth = layout.pose(torch.zeros(2, 36), torch.ones(2, 22, 3), torch.zeros(2, 3))
    wrong = Pose(
        truth.rotations, truth.constrained.clone(), truth.scales, truth.pelvis + torch.tensor([0.03, 0.04, 0])
    )
    wrong.constrained[:, 4] += np.radians(17)
    errors = Errors(layout)
    errors.add(wrong, truth)
    summary = errors.summary(np.array(["a", "b"]))
    assert summary["constrained_mae_deg"] == pytest.approx(1, rel=1e-3)
    assert summary["worst_angle"] == "hip_adduction_l" and summary["pelvis_mm"] == pytest.approx(50, rel=1e-3)
