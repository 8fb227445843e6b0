"""What the fit of the skeleton to keypoints is measured to trust, and the way of it into the weights."""

import json

import numpy as np
import pytest
import torch
from figures import SKELETON, TINY_EXPERIMENT, write_shard
from network_poses import LAYOUT, poses

from odah import fit
from odah.dataset import ShardSet, find_shards
from odah.export import export_run
from odah.fit import Answers, calibrated, errors_of
from odah.frozen import frozen_encoder, read_fit
from odah.settings import read_settings
from odah.train import Trainer
from pose2sim_biokin.errors import BiokinError
from pose2sim_biokin.network.checkpoint import load_checkpoint
from pose2sim_biokin.network.fit import PoseFit
from pose2sim_biokin.network.presets import FitSize


def answers(count: int, keypoint_m: float, head_rad: float, seed: int) -> Answers:
    """Of an encoder whose errors are known: independent and normal."""
    truth = poses(count, seed)
    helper = PoseFit(FitSize(strength=1.0), LAYOUT, 110)
    torch.manual_seed(seed)
    x = head_rad * torch.randn(count, 29)
    x[:, 26:] *= 0.2
    wanted = helper.points(truth)
    keypoints = wanted + keypoint_m * torch.randn(wanted.shape)
    return Answers(helper.moved(truth, x), keypoints, truth, wanted, np.arange(count) // 4)


def test_the_errors_of_an_encoder_are_found_and_the_fit_lowers_them():
    seen = answers(300, 0.02, 0.15, 0)
    made = calibrated(PoseFit(FitSize(strength=1.0), LAYOUT, 110), seen)
    torch.testing.assert_close(made.keypoint_sigma, torch.full((110,), 0.02), atol=0.002, rtol=0)
    torch.testing.assert_close(made.pose_sigma[:26], torch.full((26,), 0.15), atol=0.03, rtol=0)
    torch.testing.assert_close(made.pose_sigma[26:], torch.full((3,), 0.03), atol=0.006, rtol=0)
    other = answers(40, 0.02, 0.15, 1)
    before, after = (errors_of(LAYOUT, one, other) for one in (None, made))
    # 0.15 rad are 6.9 degrees on average; 110 keypoints within 2 cm tell much more.
    assert 6 < before["constrained_mae_deg"] < 8
    assert after["constrained_mae_deg"] < 0.5 * before["constrained_mae_deg"]
    assert after["pa_mpjpe_mm"] < 0.3 * before["pa_mpjpe_mm"]


def test_from_a_run_to_weights_with_the_fit(tmp_path, capsys):
    for name, count, seed in (("train", 16, 0), ("val", 128, 1)):
        write_shard(tmp_path / name / "shard-00000", count, 32, seed=seed)
    config = tmp_path / "tiny.toml"
    config.write_text(TINY_EXPERIMENT, encoding="utf-8")
    run = tmp_path / "run"
    Trainer(read_settings(config), [tmp_path / "train"], [], run, 1.0, 1).run(max_steps=2)
    fit.main(["--config", str(config), "--run", str(run), "--validation", str(tmp_path / "val")])
    record = json.loads((run / "fit.json").read_text("utf-8"))
    assert record == json.loads(capsys.readouterr().out[-len((run / "fit.json").read_text("utf-8")) - 1 :])
    assert record["pairs"] == 128 and record["measured_on_pairs"] == 64
    found = {float(k): v["constrained_mae_deg"] for k, v in record["strengths"].items()}
    assert record["chosen"] == min(found, key=found.get)
    kept = read_fit(run)
    assert (kept is not None) == record["kept"]
    if kept is None:  # so short a training may have nothing to fit to: put one in its place
        state = PoseFit(FitSize(), LAYOUT, 110).state_dict()
        torch.save({"size": {"strength": 5.0}, "state": state}, run / "fit.pt")
    strength = read_fit(run)[0].strength
    assert frozen_encoder(run, None, read_settings(config).preset).fit.size.strength == strength
    export_run(run, tmp_path / "x.pt", str(config), {}, None)
    loaded = load_checkpoint(tmp_path / "x.pt")
    assert loaded.network.fit.size.strength == strength and loaded.record["fit"] == record
    assert loaded.network.skeleton.name == SKELETON.name
    assert frozen_encoder(None, tmp_path / "x.pt", read_settings(config).preset).fit is not None


def test_one_subject_is_too_few(tmp_path):
    write_shard(tmp_path / "shard-00000", 8, 32, seed=0)
    settings = tmp_path / "tiny.toml"
    settings.write_text(TINY_EXPERIMENT, encoding="utf-8")
    network = frozen_encoder_of(settings)
    with pytest.raises(BiokinError, match="two"):
        fit.measure_fit(network.encoder, ShardSet(find_shards([tmp_path])))


def frozen_encoder_of(settings):
    """An untrained network of an experiment."""
    from pose2sim_biokin.network.biokin import BiokinNetwork

    return BiokinNetwork(read_settings(settings).preset, SKELETON)
