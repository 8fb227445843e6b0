"""Training on stick figures: the loss falls, a run resumes exactly, the refinement learns, the export
loads.
"""

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from figures import TINY_EXPERIMENT, write_shard

from odah.dataset import FrameMaker, ShardSet, find_shards, ordered_batches
from odah.evaluate import evaluate_frames, evaluate_windows, report
from odah.export import export_run
from odah.loop import learning_rate
from odah.pictures import PREDICTED, validation_sheet
from odah.refine import main as refine_main
from odah.settings import read_settings
from odah.train import Trainer
from odah.train import main as train_main
from odah.windows import window_rows
from pose2sim_biokin.errors import BiokinError
from pose2sim_biokin.network.checkpoint import load_checkpoint
from pose2sim_biokin.network.heads import AngleLayout
from pose2sim_biokin.skeleton import load_skeleton

CONFIGS = Path(__file__).parents[2] / "training" / "configs"
TINY = (
    TINY_EXPERIMENT
    + """
learning_rate = 3e-3
warmup = 5
[augmentation]
mask = 0.0
blur = 0.0
crop = 0.0
"""
)


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
    run.run(max_steps=100)
    logged = rows(tmp_path / "run")
    assert logged[-1]["loss"] < 0.75 * logged[0]["loss"]
    assert logged[-1]["keypoints"] < logged[0]["keypoints"]
    summary = json.loads((tmp_path / "run" / "validation.jsonl").read_text("utf-8").splitlines()[-1])
    assert summary["frames"] == 32 and 0 < summary["constrained_mae_deg"] < 60


def losses(output):
    """The rows of metrics.csv without times, as they are written."""
    timed = ("minutes", "pairs_per_s")
    lines = [line.split(",") for line in (output / "metrics.csv").read_text(encoding="utf-8").splitlines()]
    kept = [i for i, name in enumerate(lines[0]) if name not in timed]
    return [[line[i] for i in kept] for line in lines]


def by_steps(cache, folder, steps, **more):
    """An experiment that ends after some steps and logs each; validates and saves after each, too."""
    text = TINY.replace(
        "[train]", f"[train]\nsteps = {steps}\nlog_steps = 1\ncheckpoint_s = 0.0\nvalidate_s = 0.0"
    )
    path = folder / "steps.toml"
    path.write_text(text, encoding="utf-8")
    return path, replace(read_settings(path), **more)


def test_a_run_resumes_exactly(cache, tmp_path):
    """Stopped after some steps within a line of the log, and between epochs: weights and log are the same."""
    settings = by_steps(cache, tmp_path, 9, log_steps=2, validate_s=1e9)[1]
    folders = [cache / "frames"]
    whole = Trainer(settings, folders, folders, tmp_path / "whole", threads=1)
    whole.run()
    for stop in (3, 4, 9):
        resumed = Trainer(settings, folders, folders, tmp_path / "parts", threads=1)
        resumed.run(max_steps=stop)
        assert resumed.step == stop
    assert resumed.epoch == whole.epoch == 2 and resumed.pairs == whole.pairs == 72
    for name, value in whole.module.state_dict().items():
        assert torch.equal(resumed.module.state_dict()[name], value)
        assert torch.equal(resumed.average.state[name], whole.average.state[name])
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole") and len(losses(tmp_path / "whole")) == 5
    scores = [
        json.loads((tmp_path / name / "validation.jsonl").read_text("utf-8").splitlines()[-1])
        for name in ("whole", "parts")
    ]
    assert scores[0]["constrained_mae_deg"] == scores[1]["constrained_mae_deg"]


def test_a_killed_run_goes_on_as_if_nothing_had_happened(cache, tmp_path):
    """Killed at any moment, without warning; the same losses, digit for digit, as an uninterrupted run."""
    path, settings = by_steps(cache, tmp_path, 12)
    folders = [str(cache / "frames")]
    Trainer(settings, folders, folders, tmp_path / "whole", threads=1).run()
    command = [sys.executable, "-m", "odah.train", str(path), "--output", str(tmp_path / "killed")]
    command += ["--train", *folders, "--validation", *folders, "--threads", "1"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with (tmp_path / "log.txt").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    metrics = tmp_path / "killed" / "metrics.csv"
    until = time.monotonic() + 300
    try:
        while not metrics.is_file() or len(losses(tmp_path / "killed")) < 4:
            assert process.poll() is None, (tmp_path / "log.txt").read_text("utf-8")
            assert time.monotonic() < until
            time.sleep(0.005)
    finally:
        process.kill()
        process.wait()
    resumed = Trainer(settings, folders, folders, tmp_path / "killed", threads=1)
    assert 0 < resumed.step < 12
    resumed.run()
    assert losses(tmp_path / "killed") == losses(tmp_path / "whole")
    assert len(losses(tmp_path / "whole")) == 13


def test_a_checkpoint_of_the_first_version_resumes(cache, tmp_path):
    """It had no best score, no unfinished line of the log and an optimiser without `fused`."""
    first = trainer(cache, tmp_path / "run")
    first.run(max_steps=2)
    path = tmp_path / "run" / "checkpoint.pt"
    state = torch.load(path, weights_only=True)
    for name in ("best", "pending", "terms", "task", "batch_size", "initial"):
        del state[name]
    for group in state["optimizer"]["param_groups"]:
        group["fused"] = None
    torch.save(state, path)
    second = trainer(cache, tmp_path / "run")
    second.run(max_steps=3)
    assert second.step == 3 and second.epoch == 0 and second.best < 90


def test_what_a_run_does_not_go_on_from(cache, tmp_path):
    trainer(cache, tmp_path / "run").run(max_steps=1)
    settings, folder = read_settings(cache / "tiny.toml"), [cache / "frames"]
    with pytest.raises(BiokinError, match="batches of 8, not 4"):
        Trainer(replace(settings, batch_size=4), folder, [], tmp_path / "run", threads=1)
    with pytest.raises(BiokinError, match="another network"):
        Trainer(
            replace(settings, preset=settings.preset.override({"size": 48})), folder, [], tmp_path / "run"
        )
    with pytest.raises(BiokinError, match="another stage"):
        Trainer(settings, [cache / "dense"], [], tmp_path / "run", stage="joint")


def test_best_weights_pictures_and_tensorboard(cache, tmp_path):
    settings = by_steps(cache, tmp_path, 6)[1]
    run = Trainer(settings, [cache / "frames"], [cache / "frames"], tmp_path / "run", threads=1)
    run.run()
    found = [json.loads(line) for line in (tmp_path / "run/validation.jsonl").read_text("utf-8").splitlines()]
    best = min(found, key=lambda summary: summary["constrained_mae_deg"])
    kept = torch.load(tmp_path / "run" / "best.pt", weights_only=True)
    assert kept["validation"] == best and kept["place"][0] == best["step"]
    picture = cv2.imread(str(tmp_path / "run" / "validation.png"))
    assert picture.shape == (4 * 256, 2 * 256, 3)
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    accumulator = events.EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    accumulator.Reload()
    scalars = accumulator.Scalars("train/loss")
    assert [event.step for event in scalars] == [1, 2, 3, 4, 5, 6]
    assert scalars[-1].value == pytest.approx(float(losses(tmp_path / "run")[-1][-2]), rel=1e-5)
    assert {event.step for event in accumulator.Images("validation")} <= set(range(1, 7))
    assert "validation_constrained_deg/knee_angle_r" in accumulator.Tags()["scalars"]


def test_the_picture_shows_true_and_predicted_bones_where_they_are(cache):
    maker = FrameMaker(AngleLayout(load_skeleton()), 32)
    batch, truth = maker(
        ShardSet(find_shards([cache / "frames"])).rows(np.arange(3)), np.random.default_rng(0)
    )

    def share(pose):
        """Share of the pink pixels that are on the person."""
        sheet = validation_sheet(batch, truth, pose, maker.layout).astype(int)
        assert sheet.shape == (3 * 256, 2 * 256, 3)
        person = batch.masks[:, :, 0].repeat_interleave(8, 2).repeat_interleave(8, 3).numpy() > 0
        person = np.vstack([np.hstack(list(views)) for views in person])
        pink = np.abs(sheet - PREDICTED).max(-1) < 40
        assert pink.sum() > 300
        return person[pink].mean()

    assert share(truth.pose) > 0.98
    beside = truth.pose._replace(pelvis=truth.pose.pelvis + torch.tensor([0.0, 0.0, 0.5]))
    assert share(beside) < 0.6
    # Without a pelvis of its own a prediction is shown at the true one.
    assert share(truth.pose._replace(pelvis=None)) > 0.98


def test_without_tensorboard_a_run_says_so(cache, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    trainer(cache, tmp_path / "run").run(max_steps=1)
    assert "pip install tensorboard" in capsys.readouterr().err
    assert (tmp_path / "run" / "validation.jsonl").is_file()


def test_the_smoke_experiment_learns_a_batch_by_heart(tmp_path):
    """The whole way at once, in seconds: what the commands in the notes do, with eight pairs."""
    write_shard(tmp_path / "cache" / "shard", 8, 64, seed=2)
    folder = str(tmp_path / "cache")
    command = [str(CONFIGS / "smoke.toml"), "--train", folder, "--validation", folder, "--threads", "1"]
    assert train_main([*command, "--output", str(tmp_path / "run")]) == 0
    logged = rows(tmp_path / "run")
    assert logged[-1]["loss"] < 0.3 * logged[0]["loss"]
    lines = (tmp_path / "run" / "validation.jsonl").read_text("utf-8").splitlines()
    summary = json.loads(lines[-1])
    assert summary["constrained_mae_deg"] < 2 < summary["mean_pose_deg"]
    assert max(summary["rotation_deg"].values()) < 30 and summary["step"] == 240


def test_encoder_and_refinement_learn_together(cache, tmp_path):
    folders, settings = [cache / "dense"], read_settings(cache / "tiny.toml")
    settings = replace(
        settings, joint_epochs=3, joint_learning_rate=3e-3, joint_batch=1, log_steps=1, warmup=1
    )
    whole = Trainer(settings, folders, folders, tmp_path / "whole", threads=1, stage="joint")
    before = {name: value.clone() for name, value in whole.module.state_dict().items()}
    whole.run()
    assert whole.step == 6 and whole.epoch == 3
    changed = {
        name.split(".")[0]
        for name, v in whole.module.state_dict().items()
        if not torch.equal(v, before[name])
    }
    assert changed == {"encoder", "refiner"}
    running = [name for name in before if "running_" in name]
    assert running and all(torch.equal(whole.module.state_dict()[n], before[n]) for n in running)
    logged = rows(tmp_path / "whole")
    assert logged[-1]["loss"] < logged[0]["loss"] and logged[-1]["sequence"] > 0
    Trainer(settings, folders, folders, tmp_path / "parts", threads=1, stage="joint").run(max_steps=3)
    parts = Trainer(settings, folders, folders, tmp_path / "parts", threads=1, stage="joint")
    parts.run()
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")
    export_run(tmp_path / "whole", tmp_path / "joint.pt", str(cache / "tiny.toml"), {}, None, half=False)
    network = load_checkpoint(tmp_path / "joint.pt").network
    for name, value in network.state_dict().items():
        if value.is_floating_point():
            torch.testing.assert_close(value, whole.average.state[name])
    # From exported weights: encoder and refinement
    third = Trainer(settings, folders, [], tmp_path / "third", stage="joint", initial=tmp_path / "joint.pt")
    torch.testing.assert_close(third.module.refiner.state_dict(), network.refiner.state_dict())


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


def test_a_meeting_and_closer_looks_can_be_added_to_exported_weights(cache, tmp_path):
    alone = TINY + "[preset.hourglass.meeting]\nlayers = 0\n"
    alone += "[preset.look]\nwidth = 0\n[preset.hands]\nchannels = 0\n"
    (tmp_path / "alone.toml").write_text(alone, encoding="utf-8")
    settings, folder = read_settings(tmp_path / "alone.toml"), [cache / "frames"]
    Trainer(settings, folder, [], tmp_path / "first", 1.0, 1).run(max_steps=1)
    weights = tmp_path / "weights.pt"
    export_run(tmp_path / "first", weights, str(tmp_path / "alone.toml"), {}, None, half=False)
    looks = {"look": {"width": 8, "further": 0}, "hands": {"channels": 8}}
    preset = settings.preset.override({"hourglass": {"meeting": {"layers": 1}}} | looks)
    second = Trainer(
        replace(settings, preset=preset), folder, [], tmp_path / "second", 1.0, 1, initial=weights
    )
    batch, _ = next(ordered_batches(ShardSet(find_shards(folder)), second.task.plain, 2))
    with torch.no_grad():
        outs = [
            encoder.eval()(batch) for encoder in (load_checkpoint(weights).network.encoder, second.module)
        ]
    names = list(second.module.state_dict())
    assert any(".meeting." in name for name in names)
    assert all(any(name.startswith(part) for name in names) for part in ("look.", "hands."))
    assert outs[0].hands is None and outs[1].hands is not None
    assert outs[0].doubt is None and outs[1].doubt is not None
    torch.testing.assert_close(outs[0].keypoints, outs[1].keypoints, atol=0, rtol=0)
    torch.testing.assert_close(outs[0].pose, outs[1].pose, atol=0, rtol=0)

    # a further look, behind one that has learnt something
    preset = preset.override({"look": {"further": 1}})
    torch.nn.init.normal_(second.module.look.leave.weight)
    record = {"average": second.module.state_dict(), "place": [1, 0, 1, 4], "elapsed_s": 1.0}
    torch.save(record, tmp_path / "second" / "checkpoint.pt")
    (tmp_path / "one.toml").write_text(
        TINY + "[preset.look]\nwidth = 8\nfurther = 0\n[preset.hands]\nchannels = 8\n"
        "[preset.hourglass.meeting]\nlayers = 1\n",
        encoding="utf-8",
    )
    export_run(tmp_path / "second", weights, str(tmp_path / "one.toml"), {}, None, half=False)
    third = Trainer(replace(settings, preset=preset), folder, [], tmp_path / "third", 1.0, 1, initial=weights)
    with torch.no_grad():
        before, after = second.module.eval()(batch), third.module.eval()(batch)
    assert len(third.module.further) == 1 and before.doubt.std() > 0
    torch.testing.assert_close(before.keypoints, after.keypoints, atol=0, rtol=0)
    torch.testing.assert_close(before.doubt, after.doubt, atol=0, rtol=0)


def test_workers_do_not_render(cache, tmp_path):
    settings, folder = read_settings(cache / "tiny.toml"), [cache / "frames"]
    data = replace(settings.data, render=0.5)
    with pytest.raises(BiokinError, match="render_workers"):
        Trainer(replace(settings, workers=1, data=data), folder, [], tmp_path / "run", 1.0, 1)


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
