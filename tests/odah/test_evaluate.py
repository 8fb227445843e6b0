"""The whole evaluation: clips, caches, the command's files; OpenCap's and MoVi's folders as published."""

from __future__ import annotations

import csv
import json
import pickle
from dataclasses import replace
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from figures import TINY_EXPERIMENT, write_shard
from pipeline_scene import FPS, SIZE, ColourSegmenter, KnowingPredictor, make_scene
from scipy.io import savemat

from odah import evaluate
from odah.clips import write_clip
from odah.datasets import clip_entry, write_manifest
from odah.evaluation import bmlmovi
from odah.evaluation.bmlmovi import read_bmlmovi, read_movi_amass
from odah.evaluation.cases import read_cases
from odah.evaluation.opencap import read_opencap
from odah.evaluation.pickles import read_pickle
from odah.evaluation.score import Evaluator
from odah.evaluation.sheets import outcome_sheet, write_sheets
from odah.motions.opensim_tools import MarkerFit
from odah.settings import read_settings
from pose2sim_biokin.errors import BiokinError
from pose2sim_biokin.io.mot import write_mot
from pose2sim_biokin.io.osim import write_osim
from pose2sim_biokin.motion import Motion
from pose2sim_biokin.network.biokin import BiokinNetwork
from pose2sim_biokin.network.checkpoint import load_checkpoint, save_checkpoint
from pose2sim_biokin.skeleton import load_skeleton
from pose2sim_biokin.skeleton.angles import CONSTRAINED
from pose2sim_biokin.vision.views import viewing_angle

SKELETON = load_skeleton()
FRAMES = 10


def index(name: str) -> int:
    return SKELETON.coordinate_names.index(name)


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


class Wrong(KnowingPredictor):
    """A network that is 17 degrees off at a knee and 40 mm too high."""

    def predict(self, views, time, **options):
        motion = super().predict(views, time, **options)
        motion.coordinates[:, index("knee_angle_r")] += np.radians(17)
        motion.coordinates[:, index("pelvis_ty")] += 0.04
        return motion


def test_clips_through_the_code_that_serves_recordings(scene, dataset, tmp_path):
    cases = read_cases(dataset, "test", segmentation="masks")
    predictor = Wrong(scene)
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
    outcomes = list(Evaluator(Wrong(scene), "wrong").outcomes(case))
    assert [o.scored.method for o in outcomes] == ["wrong", "other"]
    assert outcomes[1].scored.mean("mae_17_deg") == pytest.approx(0.5, abs=1e-3)
    assert len(list(Evaluator(Wrong(scene), "wrong", results=False).outcomes(case))) == 1


def test_a_clip_that_cannot_be_measured_does_not_stop_the_others(scene, dataset):
    cases = read_cases(dataset, "test", segmentation="masks", views=["cam01", "cam09"])[:1]
    cases += read_cases(dataset, "test", segmentation="masks")[1:]
    outcomes, failed = evaluate.evaluate_cases(cases, Evaluator(Wrong(scene), "wrong"), log=lambda _: None)
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


def opencap_folder(folder, scene, protocol: int) -> dict:
    """The scene as OpenCap's archive has it: a checkerboard on a wall, its Y axis down; telephones upright,
    whose sizes are stored lying; a laboratory with a place and a heading of its own.
    """
    board = np.array([[0.0, -1, 0], [0, 0, -1], [1, 0, 0]])  # board = board @ world
    subject = folder / "subject2"
    for name, camera in zip(("Cam1", "Cam3"), scene.cameras, strict=True):
        place = subject / "VideoData" / "Session0" / name
        (place / "squats1").mkdir(parents=True)
        content = {
            "intrinsicMat": camera.K,
            "distortion": camera.distortion[None],
            "rotation": camera.R @ board.T,
            "translation": 1000 * camera.t[:, None],
            "imageSize": np.array([[SIZE[1]], [SIZE[0]]], float),  # the other way round
        }
        with (place / "cameraIntrinsicsExtrinsics.pickle").open("wb") as file:
            pickle.dump(content, file, protocol=protocol)
        film = scene.project_dir / "videos" / f"{camera.name}.avi"
        (place / "squats1" / "squats1_syncdWithMocap.avi").write_bytes(film.read_bytes())
    (subject / "sessionMetadata.yaml").write_text("height_m: 1.7\nmass_kg: 61.5\n", encoding="utf-8")
    q = scene.motion.coordinates.copy()
    q[:, index("pelvis_rotation")] += np.radians(70)  # upright: this is a turn about the vertical
    c, s = np.cos(np.radians(70)), np.sin(np.radians(70))
    x, z = q[:, index("pelvis_tx")].copy(), q[:, index("pelvis_tz")].copy()
    q[:, index("pelvis_tx")], q[:, index("pelvis_tz")] = c * x + s * z + 3, c * z - s * x - 1
    for kind, more in (("Mocap", 0.0), ("Video/HRNet/2-cameras", np.radians(8.5))):
        place = subject / "OpenSimData" / kind
        (place / "Model").mkdir(parents=True)
        (place / "IK").mkdir()
        theirs = q.copy()
        theirs[:, index("ankle_angle_l")] += more
        write_osim(place / "Model" / "Lai_scaled.osim", SKELETON, scene.motion.scales, 61.5, name="Lai")
        write_mot(place / "IK" / "squats1.mot", 7.3 + scene.motion.time, theirs, SKELETON)
        write_mot(place / "IK" / "static1.mot", scene.motion.time, theirs, SKELETON)
    return {"film": scene, "subject": subject}


@pytest.mark.parametrize("protocol", [2, 4])
def test_opencap_as_published(scene, tmp_path, protocol):
    opencap_folder(tmp_path / "Lab", scene, protocol)
    (case,) = read_opencap(tmp_path / "Lab", segmentation="colours", static_background=False)
    assert case.name == "subject2/squats1" and case.about["motion"] == "squats"
    trial = case.trial()
    assert (
        trial.config.mass_kg == 61.5
        and trial.fps == FPS
        and [v.name for v in trial.views] == ["Cam1", "Cam3"]
    )
    first, second = (view.camera for view in trial.views)
    ours = scene.cameras
    assert first.size == SIZE and viewing_angle(first, second) == pytest.approx(viewing_angle(*ours))
    assert first.center[2] == pytest.approx(ours[0].center[2])  # Z is up, metres
    distance = np.linalg.norm(first.center - second.center)
    assert distance == pytest.approx(np.linalg.norm(ours[0].center - ours[1].center))
    if protocol == 2:
        return
    evaluator = Evaluator(KnowingPredictor(scene), "right")
    evaluator.segmenters["colours"] = ColourSegmenter().load(
        "colours", device="cpu", batch_size=16, project_dir=tmp_path
    )
    network, theirs = evaluator.outcomes(case)
    for column in (
        "mae_26_deg",
        "pelvis_deg",
        "mpjpe_mm",
        "pelvis_mm",
    ):  # the laboratory's place is taken out
        assert network.scored.mean(column) == pytest.approx(0, abs=0.1)
    assert not network.scored.errors["missing"].any() and network.scored.frames == FRAMES
    assert theirs.scored.method == "OpenCap HRNet 2-cameras"
    assert theirs.scored.mean("mae_17_deg") == pytest.approx(0.5, abs=0.02)


def test_opencap_files_that_cannot_be_used(scene, tmp_path):
    with pytest.raises(BiokinError, match="no trials of OpenCap"):
        read_opencap(tmp_path)
    opencap_folder(tmp_path, scene, 4)
    camera = tmp_path / "subject2/VideoData/Session0/Cam1/cameraIntrinsicsExtrinsics.pickle"
    (case,) = read_opencap(tmp_path, segmentation="auto")
    camera.write_bytes(pickle.dumps({"intrinsicMat": np.eye(3)}))
    with pytest.raises(BiokinError, match="expected a dict with intrinsicMat, distortion"):
        case.trial()
    (camera.parent / "squats1" / "squats1_syncdWithMocap.avi").unlink()
    camera.write_bytes((camera.parents[1] / "Cam3" / camera.name).read_bytes())
    with pytest.raises(BiokinError, match="syncdWithMocap.avi: missing"):
        case.trial()


class Harmful:
    """What a pickle can do when it is read."""

    def __reduce__(self):
        return (print, ("run",))


def test_pickles_hold_numbers_and_run_nothing(tmp_path, capsys):
    path = tmp_path / "a.pickle"
    plain = {
        "a": np.arange(6.0).reshape(2, 3),
        "b": [1, "x", None, 2.5],
        "c": np.float64(3),
        "d": (True, b"y"),
    }
    for protocol in (0, 2, 5):
        path.write_bytes(pickle.dumps(plain, protocol=protocol))
        read = read_pickle(path)
        np.testing.assert_array_equal(read["a"], plain["a"])
        assert read["b"] == plain["b"] and read["c"] == 3
    for content in (Harmful(), {"a": torch.zeros(2)}, np.array([Harmful()], dtype=object)):
        path.write_bytes(pickle.dumps(content))
        with pytest.raises(BiokinError, match="cannot be read as a pickle of numpy arrays"):
            read_pickle(path)
    assert "run" not in capsys.readouterr().out
    path.write_bytes(b"\x80\x04broken")
    with pytest.raises(BiokinError, match="cannot be read"):
        read_pickle(path)


FLAGS = np.array([[1, 4], [4, 10]])  # first and last film frames, from 1


def movi_folder(folder, scene) -> None:
    """The scene as MoVi's archives have it: MATLAB's matrices, mm, axes turned by 90 degrees."""
    movi = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])  # movi = movi @ world
    for name, camera in zip(("PG1", "PG2"), scene.cameras, strict=True):
        (folder / "calib").mkdir(parents=True, exist_ok=True)
        K = camera.K + np.array([[0, 0, 1.0], [0, 0, 1], [0, 0, 0]])
        inner = {"IntrinsicMatrix": K.T, "RadialDistortion": camera.distortion[:2]}
        outer = {"rotationMatrix": (camera.R @ movi.T).T, "translationVector": 1000 * camera.t}
        if name == "PG1":
            np.savez(folder / "calib" / f"cameraParams_{name}.npz", **inner)
            np.savez(folder / "calib" / f"Extrinsics_{name}.npz", **outer)
        else:
            (folder / "calib" / f"cameraParams_{name}.pkl").write_bytes(pickle.dumps(inner))
            (folder / "calib" / f"Extrinsics_{name}.pkl").write_bytes(pickle.dumps(outer))
        film = scene.project_dir / "videos" / f"{camera.name}.avi"
        (folder / f"F_{name}_Subject_3_L.avi").write_bytes(film.read_bytes())
    names = np.array(["walking", "jumping_jacks"], dtype=object)
    savemat(
        folder / "F_v3d_Subject_3.mat", {"Subject_3_F": {"move": {"motions_list": names, "flags30": FLAGS}}}
    )
    rng = np.random.default_rng(0)
    moves = np.empty(2, dtype=object)
    for i in range(2):
        count = 4 * int(np.ptp(FLAGS[i])) + 1
        moves[i] = {
            "jointsExpMaps_amass": rng.normal(0, 0.2, (count, 52, 3)),
            "jointsBetas_amass": np.arange(16.0),
            "RootTranslation_amass": rng.normal(0, 1, (count, 3)),
            "description": names[i],
        }
    content = {"id": "Subject_3", "subject": {"sex": "female"}, "move": moves}
    savemat(folder / "F_amass_Subject_3.mat", {"Subject_3_F_amass": content})


def test_bmlmovi_as_published(scene, tmp_path, monkeypatch):
    monkeypatch.setattr(bmlmovi, "_SIZE", SIZE)
    movi_folder(tmp_path / "movi", scene)
    solved = []

    def solve(motion, skeleton, model_folder, source):
        """Stands in for OpenSim: finds what the figure does in those frames, at 60 Hz."""
        solved.append((motion, source))
        first, last = FLAGS[int(source.rsplit(" ", 1)[1]) - 1] - 1
        time = np.arange(2 * (last - first) + 1) / 60
        at = (first / FPS) + time
        q = [np.interp(at, scene.motion.time, column) for column in scene.motion.coordinates.T]
        return MarkerFit(time, np.stack(q, 1), scene.motion.scales, (), np.zeros(len(time)))

    monkeypatch.setattr(bmlmovi, "solve_motion", solve)
    settings = {"segmentation": "colours", "static_background": False}
    cases = read_bmlmovi(tmp_path / "movi", None, tmp_path / "kept", **settings)
    assert [case.name for case in cases] == ["Subject_3/01_walking", "Subject_3/02_jumping_jacks"]
    trial = cases[1].trial()
    assert trial.frames(trial.views) == range(3, 10)
    for view, camera in zip(trial.views, scene.cameras, strict=True):
        point = np.array([[0.2, -0.3, 1.1], [0, 0.1, 0.2]])
        assert view.camera.project(point) == pytest.approx(camera.project(point), abs=1e-6)
    evaluator = Evaluator(Wrong(scene), "wrong")
    evaluator.segmenters["colours"] = ColourSegmenter().load(
        "colours", device="cpu", batch_size=16, project_dir=tmp_path
    )
    (outcome,) = evaluator.outcomes(cases[1])
    assert outcome.scored.frames == 7 and outcome.scored.mean("mae_17_deg") == pytest.approx(1, abs=1e-3)
    assert outcome.scored.mean("pelvis_mm") == pytest.approx(40, abs=0.1)
    list(evaluator.outcomes(cases[1]))
    assert len(solved) == 1  # then it is kept
    motion, _ = solved[0]
    assert motion.kind == "smplh" and motion.gender == "female" and motion.fps == 120
    assert motion.rotations.shape == (25, 22, 3) and motion.betas.tolist() == list(range(16))


def test_bmlmovi_files_that_cannot_be_used(scene, tmp_path, monkeypatch):
    with pytest.raises(BiokinError, match="no films of MoVi"):
        read_bmlmovi(tmp_path, None, tmp_path)
    movi_folder(tmp_path, scene)
    with pytest.raises(BiokinError, match="no fit of motion 3"):
        read_movi_amass(tmp_path / "F_amass_Subject_3.mat", 3)
    with pytest.raises(BiokinError, match="motion 1: an AMASS file needs SMPL-X models"):
        read_bmlmovi(tmp_path, None, tmp_path / "kept")[0].truth()
    (tmp_path / "calib" / "Extrinsics_PG2.pkl").unlink()
    with pytest.raises(BiokinError, match="Extrinsics_PG2.pkl is missing"):
        read_bmlmovi(tmp_path, None, tmp_path)


def test_truth_of_another_skeleton_is_refused(scene, dataset):
    case = read_cases(dataset / "S0002" / "clip_0001", segmentation="masks")[0]

    class Other(KnowingPredictor):
        def predict(self, *args, **options):
            found = super().predict(*args, **options)
            return Motion(found.time, found.coordinates, found.scales, "another", found.quality)

    with pytest.raises(BiokinError, match="clip_0001: the truth is of skeleton rajagopal2016"):
        list(Evaluator(Other(scene), "other").outcomes(case))
