"""What the fit of the skeleton to keypoints is measured to trust, and the way of it into the weights."""

import json

import numpy as np
import pytest
import torch
from figures import SKELETON, TINY_EXPERIMENT, write_shard
from network_poses import LAYOUT, poses

from odah import blend, fit
from odah.dataset import ShardSet, find_shards
from odah.export import export_run
from odah.fit import Answers, calibrated, errors_of
from odah.frozen import frozen_encoder, read_fit
from odah.metrics import hand_degrees
from odah.settings import read_settings
from odah.train import Trainer
from pose2sim_biokin.errors import BiokinError
from pose2sim_biokin.network.checkpoint import load_checkpoint, save_checkpoint
from pose2sim_biokin.network.fit import PoseFit
from pose2sim_biokin.network.hands import HandDirections, across, wrist_sides
from pose2sim_biokin.network.presets import FitSize
from pose2sim_biokin.skeleton.angles import CONSTRAINED


def answers(
    count: int, keypoint_m: float, head_rad: float, seed: int, hand_rad: float | None = None
) -> Answers:
    """Of an encoder whose errors are known: independent and normal; of hands, of concentration 40."""
    truth = poses(count, seed)
    helper = PoseFit(FitSize(strength=1.0), LAYOUT, 110)
    torch.manual_seed(seed)
    x = head_rad * torch.randn(count, 29)
    x[:, 26:] *= 0.2
    wanted = helper.points(truth)
    keypoints = wanted + keypoint_m * torch.randn(wanted.shape)
    sides, hands = wrist_sides(wanted, SKELETON), None
    if hand_rad is not None:
        elbow, wrist = ([SKELETON.body_index(f"{part}_{s}") for s in "rl"] for part in ("ulna", "hand"))
        axis = torch.nn.functional.normalize(wanted[:, wrist] - wanted[:, elbow], dim=-1)
        right = across(sides, axis)
        angle = hand_rad * torch.randn(count, 2, 1)
        turned = angle.cos() * right + angle.sin() * torch.linalg.cross(axis, right)
        hands = HandDirections(turned, axis, torch.full((count, 2), 40.0))
    subject = np.arange(count) // 4
    return Answers(helper.moved(truth, x), keypoints, hands, None, truth, wanted, sides, subject)


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


def test_the_error_of_the_hands_is_found_and_makes_forearms_better():
    """Concentration 40 says 0.16 rad; these hands are off by 0.08."""
    seen = answers(300, 0.05, 0.2, 0, hand_rad=0.08)
    made = calibrated(PoseFit(FitSize(strength=1.0), LAYOUT, 110, True), seen)
    assert made.hand_sigma.item() == pytest.approx(0.08 * 40**0.5, rel=0.1)
    other = answers(60, 0.05, 0.2, 1, hand_rad=0.08)
    assert hand_degrees(other.hands, other.sides).mean() == pytest.approx(
        np.degrees(0.08 * np.sqrt(2 / np.pi)), rel=0.15
    )
    columns = [CONSTRAINED.index(f"pro_sup_{side}") for side in "rl"]
    found = (made(other.pose, other.keypoints, hands) for hands in (None, other.hands))
    without, seen = ((pose.constrained - other.truth.constrained)[:, columns].abs().mean() for pose in found)
    assert seen < 0.85 * without


def test_what_keypoints_expect_of_themselves_is_calibrated_and_makes_the_fit_better():
    """Every other keypoint is off by 1 cm, the others by 10 cm, in each frame others; each knows, but says
    half of it.
    """
    head, other = (answers(count, 0.0, 0.15, seed) for count, seed in ((300, 0), (40, 1)))
    sure = []
    for seen in (head, other):
        off = torch.where(torch.rand(seen.wanted.shape[:2]) < 0.5, 0.01, 0.1)
        sure.append(
            seen._replace(
                keypoints=seen.wanted + off[..., None] * torch.randn(seen.wanted.shape), doubt=off / 2
            )
        )
    made = calibrated(PoseFit(FitSize(strength=1.0), LAYOUT, 110), sure[0])
    torch.testing.assert_close(made.keypoint_sigma, torch.full((110,), 2.0), atol=0.25, rtol=0)
    blind = calibrated(PoseFit(FitSize(strength=1.0), LAYOUT, 110), sure[0]._replace(doubt=None))
    told, untold = errors_of(LAYOUT, made, sure[1]), errors_of(LAYOUT, blind, sure[1]._replace(doubt=None))
    assert told["constrained_mae_deg"] < 0.6 * untold["constrained_mae_deg"]


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
    assert 0 < record["hands_deg"] < 180
    chosen = record["strengths"][f"{record['chosen']:g}"]
    for name in ("keypoints_alone", "without_doubt", "asked_once"):
        assert record[name].keys() == chosen.keys() and record[name] != chosen
    assert record["pairs"] == 128 and record["measured_on_pairs"] == 64
    found = {float(k): v["constrained_mae_deg"] for k, v in record["strengths"].items()}
    assert record["chosen"] == min(found, key=found.get)
    kept = read_fit(run)
    assert (kept is not None) == record["kept"]
    if kept is None:  # so short a training may have nothing to fit to: put one in its place
        state = PoseFit(FitSize(), LAYOUT, 110, True).state_dict()
        torch.save({"size": {"strength": 5.0}, "state": state}, run / "fit.pt")
    strength = read_fit(run)[0].strength
    assert frozen_encoder(run, None, read_settings(config).preset).fit.size.strength == strength
    export_run(run, tmp_path / "x.pt", str(config), {}, None)
    loaded = load_checkpoint(tmp_path / "x.pt")
    assert loaded.network.fit.size.strength == strength and loaded.record["fit"] == record
    assert loaded.network.skeleton.name == SKELETON.name
    assert frozen_encoder(None, tmp_path / "x.pt", read_settings(config).preset).fit is not None


def test_a_run_is_blended_with_the_weights_it_started_from(tmp_path):
    write_shard(tmp_path / "train" / "shard-00000", 16, 32, seed=0)
    config = tmp_path / "tiny.toml"
    config.write_text(TINY_EXPERIMENT, encoding="utf-8")
    settings = read_settings(config)
    torch.manual_seed(0)
    first = tmp_path / "first.pt"
    save_checkpoint(frozen_encoder_of(config), first, {"training": {}})
    run = tmp_path / "run"
    Trainer(settings, [tmp_path / "train"], [], run, 1.0, 1, initial=first).run(max_steps=3)
    before = load_checkpoint(first).network.encoder.state_dict()
    after = frozen_encoder(run, None, settings.preset).encoder.state_dict()
    output = tmp_path / "blend"
    arguments = ["--run", str(run), "--weights", str(first), "--output", str(output), "--share"]
    blend.main([*arguments, "0.25"])
    found = frozen_encoder(output, None, settings.preset).encoder.state_dict()
    assert any(not torch.equal(before[name], after[name]) for name in before)
    for name, value in found.items():
        wanted = np.average([before[name].numpy(), after[name].numpy()], 0, [0.75, 0.25])
        if value.is_floating_point():
            np.testing.assert_allclose(value.numpy(), wanted, rtol=1e-5, atol=1e-7)
        else:
            assert value == after[name], name
    export_run(output, tmp_path / "x.pt", str(config), {}, None)
    training = load_checkpoint(tmp_path / "x.pt").record["training"]
    digest = load_checkpoint(first).sha256
    assert training["steps"] == 3 and training["initial"] == digest
    assert training["blend"] == {"weights_sha256": digest, "share_of_the_run": 0.25}
    with pytest.raises(BiokinError, match="another --output"):
        blend.main([*arguments, "0.5"])
    with pytest.raises(BiokinError, match="0 .* to 1"):
        blend.main([*arguments, "1.5"])
    with pytest.raises(BiokinError, match="preset 'fast'"):
        blend.blend_run(run, "default", 0.5, tmp_path / "other")
    assert not (tmp_path / "other").exists()


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
