"""The whole evaluation: clips, caches, the command's files. Published releases: test_releases.py."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from figures import TINY_EXPERIMENT, write_shard
from pipeline_scene import FPS, ColourSegmenter, KnowingPredictor, WrongPredictor, make_scene

from odah import evaluate
from odah.clips import write_clip
from odah.datasets import clip_entry, write_manifest
from odah.evaluation.cases import read_cases
from odah.evaluation.score import Evaluator
from odah.evaluation.sheets import outcome_sheet, write_sheets
from odah.settings import read_settings
from pose2sim_biokin.errors import BiokinError
from pose2sim_biokin.io.mot import write_mot
from pose2sim_biokin.io.osim import write_osim
from pose2sim_biokin.motion import Motion
from pose2sim_biokin.network.biokin import BiokinNetwork
from pose2sim_biokin.network.checkpoint import load_checkpoint, save_checkpoint
from pose2sim_biokin.skeleton import load_skeleton
from pose2sim_biokin.skeleton.angles import CONSTRAINED

SKELETON = load_skeleton()
FRAMES = 10
index = SKELETON.coordinate_index


def red(image: np.ndarray) -> np.ndarray:
    return (image[..., 2] > 120) & (image[..., 0] < 120)


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """A filmed figure whose motion is known."""
    return make_scene(tmp_path_factory.mktemp("scene") / "walk", angles=(0, 100), count=FRAMES)


@pytest.fixture(scope="module")
def dataset(scene, tmp_path_factory):
    """Two clips of that figure, one said to come from Blender."""
    folder = tmp_path_factory.mktemp("data") / "set"
    clips = {}
    for name, renderer in (("S0001/clip_0001", "raster"), ("S0002/clip_0001", "cycles")):
        views = []
        for camera in scene.cameras:
            film = cv2.VideoCapture(str(scene.project_dir / "videos" / f"{camera.name}.avi"))
            images = [film.read()[1] for _ in range(FRAMES)]
            views.append([SimpleNamespace(image=image, mask=red(image)) for image in images])
        pieces = [
            {"frame": 0, "kind": "action", "name": "walk"},
            {"frame": 6, "kind": "recorded", "name": "7"},
        ]
        about = {"clip": name, "split": "test", "motion": pieces, "render": {"renderer": renderer}}
        about |= {"subject": {"id": name[:5]}, "residuals": {}, "rejected": []}
        size = {"fps": int(FPS), "mass_kg": 70, "height_m": 1.7, "crf": 4}
        write_clip(folder / name, scene.cameras, views, scene.motion, SKELETON, about, **size)
        clips[name] = clip_entry(folder, name, {"split": "test"})
    write_manifest(folder, {"complete": True, "clips": clips, "rejected": {}})
    return folder


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A small network that has learnt nothing."""
    folder = tmp_path_factory.mktemp("weights")
    (folder / "tiny.toml").write_text(TINY_EXPERIMENT, encoding="utf-8")
    torch.manual_seed(0)
    network = BiokinNetwork(read_settings(folder / "tiny.toml").preset, SKELETON)
    save_checkpoint(network, folder / "tiny.pt", {})
    return str(folder / "tiny.pt")


def test_clips_through_the_code_that_serves_recordings(scene, dataset, tmp_path):
    cases = read_cases(dataset, "test", segmentation="masks")
    predictor = WrongPredictor(scene)
    outcomes, failed = evaluate.evaluate_cases(cases, Evaluator(predictor, "wrong"), log=lambda _: None)
    assert not failed and [o.scored.clip for o in outcomes] == ["S0001/clip_0001", "S0002/clip_0001"]
    shown = predictor.shown.views[0]
    assert shown.found.all() and 0.1 < (shown.masks > 0).mean() < 0.6  # crops of the figure came through
    for outcome in outcomes:
        assert outcome.scored.mean("mae_17_deg") == pytest.approx(1, abs=1e-4)
        assert outcome.scored.mean("pelvis_mm") == pytest.approx(40, abs=1e-3)
        assert outcome.scored.mean("scale") == pytest.approx(0, abs=1e-6)
        assert set(outcome.scored.groups["separation"]) == {"90-120"}
        assert list(outcome.scored.groups["motion"]) == ["action: walk"] * 6 + ["recorded"] * 4
    assert {o.scored.groups["renderer"][0] for o in outcomes} == {"raster", "cycles"}
    assert (
        evaluate.summarize([o.scored for o in outcomes])["groups"]["renderer"]["cycles"]["frames"] == FRAMES
    )

    paths = write_sheets(tmp_path, outcomes, count=1)
    sheet = cv2.imread(str(paths[0]))
    assert len(paths) == 1 and sheet.shape[1] > 3 * 360 and (red(sheet).mean()) > 0.02
    assert sheet.shape[0] > 4 * 360  # both views of the network, both of the truth


def test_a_trial_without_truth_is_held_against_masks(tmp_path):
    """A camera that the network did not see tells a person who is elsewhere from one who is there."""
    filmed = make_scene(tmp_path / "walk", angles=(0, 100, 200), count=6)
    text = "[project]\nframe_rate = 30\n[biokin]\nviews = ['cam01', 'cam02']\nstatic_background = false\n"
    (filmed.project_dir / "Config.toml").write_text(text, encoding="utf-8")
    (case,) = read_cases(filmed.project_dir, segmentation="colours")
    assert not case.has_truth

    class Elsewhere(KnowingPredictor):
        def predict(self, *args, **options):
            found = super().predict(*args, **options)
            found.coordinates[:, index("pelvis_tx")] += 0.5
            return found

    overlaps = []
    for predictor in (KnowingPredictor(filmed), Elsewhere(filmed)):
        evaluator = Evaluator(predictor, "network")
        evaluator.segmenters["colours"] = ColourSegmenter().load(
            "colours", device="cpu", batch_size=16, project_dir=tmp_path
        )
        (outcome,) = evaluator.outcomes(case)
        scored = outcome.scored
        overlaps.append([scored.mean(c) for c in ("iou_used", "iou_unused", "joints_inside")])
        summary = evaluate.summarize([scored])
        assert summary["mae_17_deg"] is None and summary["iou_unused"] == pytest.approx(overlaps[-1][1])
        text = evaluate.markdown({("walk", "network"): summary}, {})
        assert "mask IoU, unused cameras" in text and "knee_angle_r" not in text
        assert outcome_sheet(outcome).shape[1] == 4 * 360
    right, wrong = overlaps
    assert right[0] > 0.5 and right[1] > 0.5 and right[2] > 0.95
    assert wrong[0] < 0.6 * right[0] and wrong[1] < 0.6 * right[1]


def test_results_in_a_clips_folder_enter_the_same_table(scene, dataset):
    folder = dataset / "S0001" / "clip_0001" / "kinematics"
    q = scene.motion.coordinates.copy()
    q[:, index("elbow_flex_l")] += np.radians(8.5)
    write_mot(folder / "clip_0001_0-9_other.mot", scene.motion.time, q, SKELETON)
    write_osim(folder / "clip_0001_0-9_other.osim", SKELETON, scene.motion.scales, 70.0, name="other")
    (case,) = read_cases(dataset / "S0001" / "clip_0001", segmentation="masks")
    outcomes = list(Evaluator(WrongPredictor(scene), "wrong").outcomes(case))
    assert [o.scored.method for o in outcomes] == ["wrong", "other"]
    assert outcomes[1].scored.mean("mae_17_deg") == pytest.approx(0.5, abs=1e-3)
    assert len(list(Evaluator(WrongPredictor(scene), "wrong", results=False).outcomes(case))) == 1


def test_a_clip_that_cannot_be_measured_does_not_stop_the_others(scene, dataset):
    cases = read_cases(dataset, "test", segmentation="masks", views=["cam01", "cam09"])[:1]
    cases += read_cases(dataset, "test", segmentation="masks")[1:]
    outcomes, failed = evaluate.evaluate_cases(
        cases, Evaluator(WrongPredictor(scene), "wrong"), log=lambda _: None
    )
    assert len(outcomes) == 1 and failed[0]["clip"] == "S0001/clip_0001" and "cam09" in failed[0]["reason"]
    with pytest.raises(BiokinError, match="no clips of the val split"):
        read_cases(dataset, "val")


def test_the_command_writes_all_its_files(dataset, weights, tmp_path, capsys):
    """A network on a cache and on the clips: tables agree with one another."""
    write_shard(tmp_path / "cache" / "shard-00000", 20, 32)
    out = tmp_path / "out"
    data = [str(dataset), str(tmp_path / "cache")]
    assert evaluate.main([weights, *data, "--output", str(out), "--sheets", "1", "--device", "cpu"]) == 0
    content = json.loads((out / "evaluation.json").read_text("utf-8"))
    sets = {entry["data"]: entry for entry in content["sets"] if entry["method"] == "tiny"}
    assert sets["set"]["frames"] == 2 * FRAMES and sets["cache"]["frames"] == 20
    with (out / "clips.csv").open(encoding="utf-8") as file:
        rows = [r for r in csv.DictReader(file) if r["method"] == "tiny"]
    mine = [(float(r["mae_17_deg"]), int(r["frames"])) for r in rows if r["data"] == "set"]
    values, weights = np.transpose(mine)
    mean = np.average(values, weights=weights)
    assert mean == pytest.approx(sets["set"]["mae_17_deg"], rel=1e-4)
    assert {r["renderer"] for r in rows if r["data"] == "set"} == {"raster", "cycles"}
    with (out / "coordinates.csv").open(encoding="utf-8") as file:
        angles = [r for r in csv.DictReader(file) if r["data"] == "set" and r["method"] == "tiny"]
    mean = np.mean([float(r["mae_deg"]) for r in angles if r["coordinate"] in CONSTRAINED])
    assert mean == pytest.approx(sets["set"]["mae_17_deg"], abs=2e-3) and len(angles) == 26
    text = (out / "evaluation.md").read_text("utf-8")
    assert "| set | tiny | cycles | 1 | 10 |" in text and "median pose" in text and "PA-MPJVE" in text
    assert len(list(out.glob("worst_set_1_*.png"))) == 1 and text in capsys.readouterr().out


def test_old_command_lines_and_bad_input(weights, tmp_path, capsys):
    write_shard(tmp_path / "frames" / "shard-00000", 8, 32)
    write_shard(tmp_path / "dense" / "shard-00000", 64, 32, dense=True)
    out = tmp_path / "out"
    arguments = ["--weights", weights, "--frames", str(tmp_path / "frames"), "--limit", "5"]
    assert evaluate.main([*arguments, "--windows", str(tmp_path / "dense"), "--output", str(out)]) == 0
    content = json.loads((out / "evaluation.json").read_text("utf-8"))
    assert content["frames"]["frames"] == 5 and content["windows"]["frames"] == 64
    assert content["windows"]["constrained_mae_deg"] == content["windows"]["mae_17_deg"]
    assert content["windows"]["angle_speed_deg_s"] > 0 and content["frames"]["angle_speed_deg_s"] is None
    assert evaluate.main([weights, str(tmp_path / "nothing"), "--output", str(out)]) == 1
    assert "no such folder" in capsys.readouterr().err
    assert evaluate.main([weights]) == 1 and "Nothing to evaluate" in capsys.readouterr().err


def test_frame_by_frame_is_what_weights_without_a_refinement_say(weights, tmp_path, capsys):
    whole = load_checkpoint(weights).network
    alone = BiokinNetwork(replace(whole.preset, refinement=None), SKELETON)
    kept = {name: value for name, value in whole.state_dict().items() if not name.startswith("refiner.")}
    alone.load_state_dict(kept)
    save_checkpoint(alone, tmp_path / "alone.pt", {})
    write_shard(tmp_path / "dense" / "shard-00000", 64, 32, dense=True)

    def measured(*arguments: str) -> dict:
        out = tmp_path / str(len(list(tmp_path.iterdir())))
        assert evaluate.main([*arguments, "--windows", str(tmp_path / "dense"), "--output", str(out)]) == 0
        return json.loads((out / "evaluation.json").read_text("utf-8"))["sets"][0]

    found = measured(weights, "--frame-by-frame")
    truth = measured(str(tmp_path / "alone.pt"))
    assert found["method"] == "tiny, frame by frame" and truth["method"] == "alone"
    for name in ("mae_17_deg", "pa_mpjpe_mm", "pa_mpjve_mm_s", "scale"):
        assert found[name] == pytest.approx(truth[name], rel=1e-3)  # weights are stored in half precision
    assert measured(weights)["angle_speed_deg_s"] < 0.99 * truth["angle_speed_deg_s"]
    assert evaluate.main([str(tmp_path / "alone.pt"), "--windows", str(tmp_path), "--frame-by-frame"]) == 1
    assert "no refinement" in capsys.readouterr().err


def test_truth_of_another_skeleton_is_refused(scene, dataset):
    case = read_cases(dataset / "S0002" / "clip_0001", segmentation="masks")[0]

    class Other(KnowingPredictor):
        def predict(self, *args, **options):
            found = super().predict(*args, **options)
            return Motion(found.time, found.coordinates, found.scales, "another", found.quality)

    with pytest.raises(BiokinError, match="clip_0001: the truth is of skeleton rajagopal2016"):
        list(Evaluator(Other(scene), "other").outcomes(case))
