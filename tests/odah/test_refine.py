"""The refinement's windows and training: what is kept on disk, variations against the generator's own truth,
a filter to be beaten, and a refinement behind exported weights.
"""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from figures import TINY_EXPERIMENT, write_shard

from odah.augment import Augmentation
from odah.dataset import FrameMaker, ShardSet, find_shards
from odah.export import export_refined
from odah.export import main as export_main
from odah.frozen import frozen_encoder
from odah.refine import low_pass, refine_all, sequence_errors, train_refiner
from odah.refine import main as refine_main
from odah.settings import read_settings
from odah.windows import (
    SHORTEST,
    Windows,
    encode_windows,
    join_windows,
    middle,
    mirrored,
    reversed_in_time,
    shortened,
    varied,
    window_rows,
)
from pose2sim_biokin.errors import BiokinError
from pose2sim_biokin.network.biokin import BiokinNetwork, Refiner
from pose2sim_biokin.network.checkpoint import load_checkpoint, save_checkpoint
from pose2sim_biokin.network.heads import AngleLayout, Pose
from pose2sim_biokin.network.presets import encoder_alone, get_preset
from pose2sim_biokin.network.sequence import refine_sequence, refine_windows, turn_pose
from pose2sim_biokin.skeleton import load_skeleton
from pose2sim_biokin.skeleton.mirror import mirror_cameras, mirror_coordinates, mirror_indices
from pose2sim_biokin.skeleton.rotations import axis_angle_to_matrix
from pose2sim_biokin.vision.canonical import ground_from_canonical_ground

SKELETON = load_skeleton()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Dense stick figures, an experiment, and exported weights (untrained, without refinement)."""
    folder = tmp_path_factory.mktemp("refine")
    write_shard(folder / "dense" / "shard-00000", 128, 32, seed=3, dense=True)
    (folder / "tiny.toml").write_text(TINY_EXPERIMENT, encoding="utf-8")
    torch.manual_seed(0)
    preset = encoder_alone(read_settings(folder / "tiny.toml").preset)
    network = BiokinNetwork(preset, SKELETON)
    save_checkpoint(network, folder / "encoder.pt", {"training": {"steps": 7}, "refinement": None})
    return folder


@pytest.fixture(scope="module")
def shards(folder):
    return ShardSet(find_shards([folder / "dense"]))


def noisy_windows(count: int, seed: int) -> Windows:
    """Smooth motion, and an encoder that adds to it a constant error of its own and white noise."""
    rng = torch.Generator().manual_seed(seed)
    phase = torch.rand(count, 1, 17, generator=rng) * 6 + torch.arange(64)[:, None] * 0.06
    layout = AngleLayout(SKELETON)
    angles = layout.middle + 0.4 * layout.reach * phase.sin()
    spin = axis_angle_to_matrix(torch.randn(count, 1, 3, 3, generator=rng) * 0.5 * phase[..., :1, None].cos())
    scales = torch.ones(count, 64, 22, 3)
    truth = Pose(spin, angles, scales, 0.3 * phase[..., :3].cos())
    noise = 0.05 * torch.randn(count, 64, 17, generator=rng) + 0.1
    shake = axis_angle_to_matrix(0.05 * torch.randn(count, 64, 3, 3, generator=rng))
    place = truth.pelvis + 0.01 * torch.randn(count, 64, 3, generator=rng)
    pose = Pose(spin @ shake, angles + noise, scales + 0.02, place)
    headings = torch.eye(3).expand(count, 64, 3, 3)
    return Windows(pose, torch.randn(count, 64, 44, 4, generator=rng), headings, truth)


def equal(a: Windows, b: Windows, **limits) -> None:
    for x, y in ((a.pose, b.pose), (a.truth, b.truth), (a[1:3], b[1:3])):
        for one, other in zip(x, y, strict=True):
            torch.testing.assert_close(one, other, **limits)


def test_encodings_are_kept_and_told_apart(folder, shards, tmp_path):
    network = load_checkpoint(folder / "encoder.pt").network
    rows = window_rows(shards, 64)
    augmentation = Augmentation(SKELETON)
    said = []
    first = encode_windows(network, shards, rows, augmentation, 1, tmp_path, log=said.append)
    files = list(tmp_path.iterdir())
    assert len(files) == 1 and said == ["[windows] 2 of 2 encoded"]
    again = encode_windows(network, shards, rows, augmentation, 1, tmp_path, log=said.append)
    assert len(said) == 1  # read, not worked out
    equal(again, first, atol=0, rtol=0)
    files[0].unlink()
    equal(encode_windows(network, shards, rows, augmentation, 1, tmp_path), first, atol=1e-5, rtol=1e-5)
    # What decides the content decides the file: seed, augmentation, weights, data.
    encode_windows(network, shards, rows, augmentation, 2, tmp_path)
    encode_windows(network, shards, rows, None, 1, tmp_path)
    encode_windows(network, shards, rows[:1], None, 1, tmp_path)
    with torch.no_grad():
        network.encoder.head.out.bias += 0.1
    changed = encode_windows(network, shards, rows, augmentation, 1, tmp_path)
    assert len(list(tmp_path.iterdir())) == 5
    assert not torch.allclose(changed.pose.constrained, first.pose.constrained)


def test_the_truth_of_windows_is_the_motion_of_the_shard(folder, shards, tmp_path):
    network = load_checkpoint(folder / "encoder.pt").network
    windows = encode_windows(network, shards, window_rows(shards, 64), None, 0, tmp_path)
    coordinates = torch.from_numpy(shards.column("coordinates")).unflatten(0, (2, 64))
    names = SKELETON.coordinate_names
    for i, name in enumerate(("hip_flexion_r", "hip_adduction_r", "hip_rotation_r")):
        torch.testing.assert_close(
            windows.truth.constrained[..., i], coordinates[..., names.index(name)], atol=1e-5, rtol=0
        )
    # The pelvis body's origin is within 15 cm of its joint frame, in the world's ground.
    place = coordinates[..., [names.index(f"pelvis_t{axis}") for axis in "xyz"]]
    assert (windows.truth.pelvis - place).norm(dim=-1).max() < 0.15


def test_a_mirror_image_is_that_of_the_generator(shards):
    """Mirroring poses agrees with mirroring coordinates and cameras, as the pictures' augmentation does."""
    raw = shards.rows(window_rows(shards, 64)[0])
    K, R, t = mirror_cameras(raw.K, raw.R, raw.t, 32)
    other = raw._replace(
        rgb=raw.rgb[:, :, :, ::-1].copy(),
        mask=raw.mask[:, :, :, ::-1].copy(),
        K=K,
        R=R,
        t=t,
        coordinates=mirror_coordinates(raw.coordinates, SKELETON),
        scales=raw.scales[:, mirror_indices(SKELETON.body_names)],
    )
    maker = FrameMaker(AngleLayout(SKELETON), 32)
    windows = []
    for one in (raw, other):
        truth = maker(one, np.random.default_rng(0))[1]
        turn, origin = ground_from_canonical_ground(truth.frame)
        pose = turn_pose(truth.pose, turn, origin)
        centers = (truth.keypoints[:, :44] - truth.keypoints[:, :1])[None]
        local = (centers @ truth.pose.rotations[None, :, 0]).float()
        windows.append(
            Windows(*(Pose(*(p[None] for p in pose)), local, turn[None]), Pose(*(p[None] for p in pose)))
        )
    found = mirrored(windows[0], SKELETON)
    equal(found, windows[1], atol=2e-4, rtol=0)
    equal(mirrored(found, SKELETON), windows[0], atol=1e-6, rtol=0)


def test_variations_keep_poses_and_truth_together():
    windows = noisy_windows(6, 0)
    equal(reversed_in_time(reversed_in_time(windows)), windows, atol=0, rtol=0)
    before = sequence_errors(windows.pose, windows.truth, 60.0)
    changed = varied(windows, SKELETON, torch.Generator().manual_seed(0))
    assert not torch.equal(changed.truth.constrained, windows.truth.constrained)
    assert not torch.equal(changed.headings, windows.headings)
    assert sequence_errors(changed.pose, changed.truth, 60.0) == pytest.approx(before, rel=1e-4)


def test_some_windows_are_shown_as_short_sequences_are():
    windows = noisy_windows(40, 0)
    windows.truth.constrained[..., 0] = torch.arange(64)  # tells the frames apart
    windows.pose.constrained[..., 1] = torch.arange(64)
    equal(shortened(windows, 0.0, torch.Generator().manual_seed(0)), windows, atol=0, rtol=0)
    changed = shortened(windows, 0.5, torch.Generator().manual_seed(0))
    shown = changed.truth.constrained[..., 0].long()
    assert torch.equal(changed.pose.constrained[..., 1].long(), shown)
    lengths = []
    for row in shown:
        frames, repeats = row.unique_consecutive(return_counts=True)
        assert torch.equal(frames, torch.arange(frames[0], frames[-1] + 1))
        assert (repeats[1:-1] == 1).all() and abs(repeats[0] - repeats[-1]) <= 1  # in the middle
        lengths.append(len(frames))
    assert 10 < sum(length < 64 for length in lengths) < 30
    assert min(lengths) >= SHORTEST and len(set(lengths)) > 5


def test_the_middle_of_windows_by_themselves():
    """As `refine_sequence` refines the same frames when there are no others."""
    torch.manual_seed(3)
    refiner = Refiner(get_preset("fast"), AngleLayout(SKELETON)).eval()
    torch.nn.init.normal_(refiner.net.out.weight, std=0.05)  # at first it changes nothing
    windows = noisy_windows(2, 4)
    cut, part = middle(windows, 21)
    found = refine_all(refiner, cut)
    for row in range(2):
        pose = Pose(*(value[row, part] for value in windows.pose))
        wanted = refine_sequence(refiner, pose, windows.local[row, part], windows.headings[row, part])
        assert (wanted.constrained - pose.constrained).abs().max() > 1e-3
        for ours, theirs in zip(found, wanted, strict=True):
            torch.testing.assert_close(ours[row, part], theirs, atol=1e-5, rtol=1e-5)


def test_low_pass_by_its_gain():
    """A sine comes through with the gain of a Butterworth filter of order 2, applied twice; in phase."""
    time = torch.arange(600) / 60
    layout = torch.zeros(1, 600, 17)
    for hertz in (1.0, 6.0, 12.0):
        wave = (2 * torch.pi * hertz * time).sin()
        pose = Pose(
            torch.eye(3).expand(1, 600, 3, 3, 3), layout + wave[:, None], torch.ones(1, 600, 22, 3), None
        )
        found = low_pass(pose, 60.0).constrained[0, 200:400, 0]
        warped = np.tan(np.pi * hertz / 60) / np.tan(np.pi * 6 / 60)  # of the bilinear transform
        torch.testing.assert_close(found, wave[200:400] / (1 + warped**4), atol=2e-3, rtol=0)


def test_training_beats_encoder_and_filter(folder):
    """Constant errors and noise, as here, can be learnt; a filter removes only the noise."""
    torch.manual_seed(0)
    settings = replace(read_settings(folder / "tiny.toml"), refine_batch=8, refine_learning_rate=4e-3)
    refiner = Refiner(settings.preset, AngleLayout(SKELETON))
    held_out = noisy_windows(4, 1)
    state, record = train_refiner(refiner, noisy_windows(24, 2), held_out, settings, 0.06, lambda text: None)
    refined, filtered, encoder = record["refined"], record["low_pass_6_hz"], record["encoder"]
    assert record["steps"] >= record["best_step"] > 0
    assert filtered["angle_speed_error_deg_s"] < 0.5 * encoder["angle_speed_error_deg_s"]
    assert refined["constrained_deg"] < filtered["constrained_deg"] < encoder["constrained_deg"]
    refiner.load_state_dict(state)
    assert sequence_errors(refine_all(refiner, held_out), held_out.truth, 60.0) == pytest.approx(refined)
    short = record["short"]
    assert short["frames"] == 20
    assert short["in_whole_windows"]["constrained_deg"] < short["alone"]["constrained_deg"]


def test_behind_exported_weights(folder, tmp_path):
    output, dense = tmp_path / "run", str(folder / "dense")
    arguments = ["--weights", str(folder / "encoder.pt"), "--output", str(output), "--train", dense]
    arguments += ["--validation", dense, "--minutes", "0.03", "--config", str(folder / "tiny.toml")]
    refine_main(arguments)
    record = json.loads((output / "refinement.json").read_text("utf-8"))
    assert record["windows"] == 2 and record["steps"] > 0 and record["better"] and record["kept"]
    target, notes = tmp_path / "whole.pt", tmp_path / "notes.json"
    notes.write_text('{"data": "stick figures"}', encoding="utf-8")
    arguments = ["--weights", str(folder / "encoder.pt"), "--refinement", str(output)]
    export_main([*arguments, "--output", str(target), "--notes", str(notes)])
    loaded, encoder = load_checkpoint(target), load_checkpoint(folder / "encoder.pt")
    assert loaded.record["training"] == {"steps": 7}
    assert loaded.record["refinement"] == {**record, "data": "stick figures"}
    for name, value in encoder.network.encoder.state_dict().items():
        torch.testing.assert_close(loaded.network.encoder.state_dict()[name], value, atol=1e-3, rtol=1e-3)
    # The exported refinement does what was measured (its weights are stored in half precision).
    shards = ShardSet(find_shards([dense]))
    network = loaded.network
    windows = encode_windows(encoder.network, shards, window_rows(shards, 64), None, 0, tmp_path / "e")
    found = sequence_errors(refine_all(network.refiner, windows), windows.truth, 60.0)
    assert found["constrained_deg"] == pytest.approx(record["refined"]["constrained_deg"], rel=0.01)


def test_one_that_is_no_better_is_left_out(folder, tmp_path, monkeypatch):
    """Unless it is asked for anyway; here one that learns nothing."""
    monkeypatch.setattr("odah.refine.sequence_loss", lambda refined, *rest: 0 * refined.constrained.sum())
    dense, settings = str(folder / "dense"), folder / "tiny.toml"
    arguments = ["--weights", str(folder / "encoder.pt"), "--train", dense, "--validation", dense]
    arguments += ["--minutes", "0.02", "--config", str(settings)]
    for options, kept in (([], False), (["--keep-anyway"], True)):
        output = tmp_path / str(kept)
        refine_main([*arguments, *options, "--output", str(output)])
        record = json.loads((output / "refinement.json").read_text("utf-8"))
        assert not record["better"] and record["kept"] == kept
        state = torch.load(output / "refiner.pt", weights_only=True)["state"]
        assert bool(state) == kept


def test_wrong_weights_and_missing_refinement(folder, tmp_path):
    with pytest.raises(BiokinError, match="experiment file"):
        frozen_encoder(None, folder / "encoder.pt", read_settings(None).preset)
    with pytest.raises(BiokinError, match=r"refiner\.pt"):
        export_refined(folder / "encoder.pt", tmp_path, tmp_path / "x.pt", {}, None)
    torch.save({"size": {}, "state": {}}, tmp_path / "refiner.pt")  # one that was left out
    with pytest.raises(BiokinError, match=r"refiner\.pt"):
        export_refined(folder / "encoder.pt", tmp_path, tmp_path / "x.pt", {}, None)
    assert not (tmp_path / "x.pt").exists()


def test_windows_of_any_number_join():
    parts = [noisy_windows(2, 0), noisy_windows(3, 1)]
    whole = join_windows(parts)
    equal(whole.select(slice(2, 5)), parts[1], atol=0, rtol=0)
    refiner = Refiner(read_settings(None).preset, AngleLayout(SKELETON)).eval()
    with torch.no_grad():
        refined = refine_windows(refiner, whole.pose, whole.local, whole.headings)
    assert refined.constrained.shape == (5, 64, 17) and refined.scales.shape == (5, 1, 22, 3)
