"""OpenCap's and MoVi's folders as published, and their pickles."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from pipeline_scene import FPS, SIZE, ColourSegmenter, KnowingPredictor, WrongPredictor, make_scene
from scipy.io import savemat

from odah.evaluation import bmlmovi
from odah.evaluation.bmlmovi import read_bmlmovi, read_movi_amass
from odah.evaluation.opencap import read_opencap
from odah.evaluation.pickles import read_pickle
from odah.evaluation.score import Evaluator
from odah.motions.opensim_tools import MarkerFit
from pose2sim_biokin.errors import BiokinError
from pose2sim_biokin.io.mot import write_mot
from pose2sim_biokin.io.osim import write_osim
from pose2sim_biokin.skeleton import load_skeleton
from pose2sim_biokin.vision.views import viewing_angle

SKELETON = load_skeleton()
FRAMES = 10
index = SKELETON.coordinate_index


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """A filmed figure whose motion is known."""
    return make_scene(tmp_path_factory.mktemp("scene") / "walk", angles=(0, 100), count=FRAMES)


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
    evaluator = Evaluator(WrongPredictor(scene), "wrong")
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
