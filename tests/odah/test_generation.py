"""Data sets: what is planned, made, resumed and refused; the truth does not depend on who makes it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from odah import clip_factory, generation
from odah.bodies.body import JOINT_LIMIT_M
from odah.clip_factory import cast_subject, film_set, make_clip, mesh_volume, settle
from odah.clips import TRUTH_FILES, read_clip, sha256
from odah.crops import SUBJECT_BASE
from odah.datasets import read_dataset, verify, write_rejected
from odah.generation import generate, main
from odah.generation_config import Config, plan_clips, read_config
from odah.one_run import only_run
from odah.whole import PARTIAL
from pose2sim_biokin.errors import BiokinError
from pose2sim_biokin.skeleton import load_skeleton

CONFIGS = Path(__file__).parents[2] / "training" / "configs"
SMALL = """
[dataset]
subjects = { train = 1, val = 0, test = 1 }
clips = 3
seconds = 0.3
fps = 20
[body]
mesh = "coarse"
[scene]
sizes = [[128, 96]]
[render]
supersample = 1
"""


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    path = tmp_path_factory.mktemp("config") / "small.toml"
    path.write_text(SMALL, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def dataset(config, tmp_path_factory):
    """Made by two worker processes."""
    folder = tmp_path_factory.mktemp("data") / "set"
    return folder, generate(read_config(config), folder, workers=2)


def truth(folder: Path) -> dict:
    """Checksums of everything but the films; and the manifest, but for theirs."""
    found = {p.relative_to(folder).as_posix(): p for p in sorted(folder.rglob("*")) if p.is_file()}
    manifest = json.loads(found["manifest.json"].read_text("utf-8"))
    for clip in manifest["clips"].values():
        clip["files"] = {name: digest for name, digest in clip["files"].items() if name in TRUTH_FILES}
    return {k: sha256(p) for k, p in found.items() if k.endswith(TRUTH_FILES)} | {"manifest.json": manifest}


def test_a_data_set_is_what_its_manifest_says(dataset):
    folder, summary = dataset
    assert (summary.made, summary.found, summary.rejected) == (3, 0, 0)
    manifest = read_dataset(folder).manifest
    assert manifest == summary.manifest | {"format": "odah-dataset-1"} and manifest["complete"]
    assert list(manifest["clips"]) == ["S0001/clip_0001", "S0002/clip_0001", "S0001/clip_0002"]
    assert read_dataset(folder).names("test") == ["S0002/clip_0001"]
    assert manifest["splits"]["subjects"] == {"train": ["S0001"], "val": [], "test": ["S0002"]}
    assert verify(folder) == []
    assert not list(folder.rglob(f"{PARTIAL}*"))
    first, again = (read_clip(folder / name) for name in ("S0001/clip_0001", "S0001/clip_0002"))
    assert np.array_equal(first.motion.scales, again.motion.scales) and first.frames == 6
    assert not np.allclose(first.motion.coordinates, again.motion.coordinates)
    other = read_clip(folder / "S0002/clip_0001")
    assert not np.allclose(first.motion.scales, other.motion.scales)


def test_keypoints_lie_in_the_masks_and_nobody_is_under_the_floor(dataset):
    folder, _ = dataset
    skeleton = load_skeleton()
    inner = [skeleton.body_index(n) for n in ("tibia_r", "tibia_l", "torso", "ulna_r", "ulna_l", "femur_r")]
    hits = []
    for name in read_dataset(folder).names():
        clip = read_clip(folder / name)
        for k, camera in enumerate(clip.cameras):
            pixels = np.rint(camera.project(clip.world_points[:, inner])).astype(int)
            for mask, points in zip(clip.masks(k), pixels, strict=True):
                seen = ((points >= 0) & (points < camera.size)).all(1)
                hits += mask[points[seen, 1], points[seen, 0]].tolist()
        feet = [clip.names.index(f"{side}{marker}") for side in "RL" for marker in ("CAL", "TOE", "MT5")]
        assert clip.points[:, feet, 1].min() > -0.01
    assert len(hits) > 150 and np.mean(hits) > 0.75  # some are hidden behind things


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="kill -9 is of POSIX systems")
def test_kill_9_in_the_middle_resume_and_one_worker_makes_what_two_made(dataset, config, tmp_path):
    """One worker, killed while it renders the second clip, then resumed: the same truth, byte for byte."""
    folder, _ = dataset
    ours = tmp_path / "set"
    command = [sys.executable, "-m", "odah.generation", str(config), "--output", str(ours), "--workers", "1"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 300
        while not list(ours.glob(f"S0002/{PARTIAL}clip_0001-*/videos/*.mp4")):
            assert process.poll() is None and time.monotonic() < until
            time.sleep(0.005)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert list(ours.rglob(f"{PARTIAL}*")) and not (ours / "S0002/clip_0001").exists()
    assert not read_dataset(ours).manifest["complete"]
    assert any("not complete" in problem for problem in verify(ours))
    kept = (ours / "S0001/clip_0001/truth.json").stat().st_mtime_ns
    summary = generate(read_config(config), ours, workers=1)
    assert (summary.made, summary.found) == (2, 1)
    assert (ours / "S0001/clip_0001/truth.json").stat().st_mtime_ns == kept
    assert not list(ours.rglob(f"{PARTIAL}*")) and verify(ours) == []
    assert len(truth(folder)) == 3 * len(TRUTH_FILES) + 1
    assert truth(ours) == truth(folder)
    again = generate(read_config(config), ours, workers=1)
    assert (again.made, again.found) == (0, 3) and truth(ours) == truth(folder)


def test_a_data_set_grows_but_does_not_change(dataset, config, tmp_path):
    folder = shutil.copytree(dataset[0], tmp_path / "set")
    settings = read_config(config)
    with pytest.raises(BiokinError, match=r"\[dataset\] seconds = 0.3, not 0.4"):
        generate(replace(settings, dataset=replace(settings.dataset, seconds=0.4)), folder)
    with pytest.raises(BiokinError, match=r"\[dataset\] clips = 3, not 2"):
        generate(replace(settings, dataset=replace(settings.dataset, clips=2)), folder)
    before = truth(folder)
    grown = replace(settings, dataset=replace(settings.dataset, clips=4))
    summary = generate(grown, folder, workers=1)
    assert (summary.made, summary.found) == (1, 3) and "S0002/clip_0002" in summary.manifest["clips"]
    after = truth(folder)
    assert {k for k, v in before.items() if after[k] != v} == {"manifest.json"}
    (folder / "S0001/clip_0001/kinematics/truth.mot").unlink()
    (folder / "S0001/clip_0002/videos/cam01.mp4").write_bytes(b"x")
    problems = verify(folder)
    assert problems == [
        "S0001/clip_0001/kinematics/truth.mot: missing",
        "S0001/clip_0002/videos/cam01.mp4: not what was written",
    ]
    with pytest.raises(BiokinError, match="clip_0001: not a whole clip: kinematics/truth.mot is missing"):
        generate(grown, folder)


def test_clips_that_the_body_cannot_follow_are_rejected(config, tmp_path, monkeypatch):
    """The first motion is refused: another one is drawn. All are: the clip is noted, not made."""
    settings = read_config(config)
    plan, real, calls = plan_clips(settings)[0], clip_factory.draw_take, []

    def far_off(*arguments):
        take = real(*arguments)
        calls.append(take)
        worse = len(calls) <= 1 or arguments[2] == "test"
        error = 1.5 * JOINT_LIMIT_M if worse else 0.5 * JOINT_LIMIT_M
        return replace(take, animation=replace(take.animation, joint_rms_m=error))

    monkeypatch.setattr(clip_factory, "draw_take", far_off)
    made = make_clip(settings, plan, tmp_path)
    about = read_clip(tmp_path / plan.name).about
    assert made.done and about["seed"] == [0, 0, 1] and about["rejected"] == list(made.reasons)
    assert "joint residual 15.0 mm RMS, over 10 mm" in made.reasons[0]
    assert not np.allclose(calls[0].coordinates, calls[1].coordinates)
    plan = plan_clips(settings)[1]
    made = make_clip(settings, plan, tmp_path)
    assert not made.done and len(made.reasons) == settings.dataset.attempts
    assert not (tmp_path / plan.name).exists() and generation._is_done(tmp_path, plan)
    contents = generation._contents(tmp_path, plan_clips(settings)[:2])
    assert list(contents["rejected"]) == [plan.name] and list(contents["clips"]) == ["S0001/clip_0001"]


def test_a_build_that_the_skeleton_does_not_fit_has_a_stand_in():
    def person(seed):
        return SimpleNamespace(seed=seed, rest_coordinates=torch.zeros(39))

    def body(unfit):
        def animate(subject, _):
            return SimpleNamespace(joint_rms_m=0.003, marker_rms_m=0.02 if subject.seed in unfit else 0.009)

        return SimpleNamespace(sample_subject=person, animate=animate)

    assert cast_subject(body({}), 7, 4).seed == 7
    stand_in = cast_subject(body({7}), 7, 4).seed
    every_seed = max(SUBJECT_BASE.values()) + 10_000 * 99 + 9_999
    assert stand_in > every_seed and stand_in != cast_subject(body({8}), 8, 4).seed
    assert cast_subject(body({7, stand_in}), 7, 2).seed == 7


def test_a_full_disk_ends_the_run_and_is_told(config, tmp_path, monkeypatch, capsys):
    def full(_config, plan, output):
        raise BiokinError(f"{output / plan.name}: the disk is full. Free some space and run again.")

    monkeypatch.setattr(generation, "make_clip", full)
    assert main([str(config), "--output", str(tmp_path / "set"), "--workers", "1"]) == 1
    assert "clip_0001: the disk is full" in capsys.readouterr().err
    assert not read_dataset(tmp_path / "set").manifest["complete"]


def test_folders_that_cannot_be_used(config, tmp_path, capsys):
    settings = read_config(config)
    (tmp_path / "thesis.docx").write_text("mine", encoding="utf-8")
    with pytest.raises(BiokinError, match="not a data set.*'thesis.docx'.*empty --output"):
        generate(settings, tmp_path)
    with pytest.raises(BiokinError, match="cannot be made"):
        generate(settings, tmp_path / "thesis.docx" / "set")
    (tmp_path / "set").mkdir()
    with only_run(tmp_path / "set"), pytest.raises(BiokinError, match="another `odah generate` is at work"):
        generate(settings, tmp_path / "set")
    with pytest.raises(BiokinError, match="--workers: expected 1 or more, found 0"):
        generate(settings, tmp_path / "set", workers=0)
    assert main([str(tmp_path / "none.toml"), "--output", str(tmp_path / "set")]) == 1
    assert "none.toml: cannot be read" in capsys.readouterr().err
    with pytest.raises(BiokinError, match="manifest.json: no readable manifest"):
        read_dataset(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[dataset]\nclip = 3", "unknown key 'clip'. Did you mean 'clips'"),
        ("[datset]\nclips = 3", "unknown table or key 'datset'"),
        ("seed = 1", "unknown table or key 'seed'"),
        ("[dataset]\nclips = '3'", "clips is '3'; expected something like 1132"),
        ("[dataset]\nclips = true", "clips is True"),
        ("[dataset]\nfps = 59.94", "fps is 59.94"),
        ("[dataset]\nsubjects = { trian = 3 }", "subjects is .*'trian': 3.*numbers of people"),
        ("[dataset]\nsubjects = { train = 0, val = 0, test = 0 }", "numbers of people"),
        ("[dataset]\nseconds = 0.01", "at least two frames"),
        ("[motion]\nshares = { dance = 1.0 }", "shares is .*'dance'"),
        ("[scene]\ncameras = 'somewhere'", "cameras: found 'somewhere'"),
        ("[scene]\nviews = 1", "views is 1; expected 2 or more"),
        ("[render]\nrenderer = 'povray'", "renderer is 'povray'; expected one of raster, cycles"),
        ("[render]\ncrf = 60", "crf is 60"),
        ("[dataset", "not a valid TOML"),
    ],
)
def test_settings_that_cannot_be_used(tmp_path, text, message):
    path = tmp_path / "c.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(BiokinError, match=message):
        read_config(path)


def test_recorded_motion_alone_needs_recordings(config, tmp_path):
    path = tmp_path / "c.toml"
    shares = "{ action = 0.0, gait = 0.0, explore = 0.0 }"
    path.write_text(SMALL + f"[motion]\nshares = {shares}\n", encoding="utf-8")
    with pytest.raises(BiokinError, match="no recordings for the train split"):
        generate(read_config(path), tmp_path / "set", workers=1)


def test_the_configs_that_come_along():
    names = ("tiny", "paper", "open", "cycles")
    tiny, paper, whole, cycles = (read_config(CONFIGS / f"data_{name}.toml") for name in names)
    assert tiny.subjects == 2 and tiny.frames * tiny.dataset.clips <= 100
    assert paper.subjects == 56 and paper.dataset.clips == 1132 and paper.frames == 600
    assert tuple(paper.dataset.subjects.values()) == (42, 6, 8) and paper.scene.cameras == "paper"
    assert whole.scene.cameras == "anywhere" and whole.subjects > 56
    assert cycles.render.renderer == "cycles" and {p.split for p in plan_clips(cycles)} == {"test"}
    assert json.loads(json.dumps(paper.as_dict())) == paper.as_dict()


def test_the_plan_keeps_splits_apart_and_gives_everybody_their_turn():
    config = Config()
    plans = plan_clips(config)
    assert len(plans) == len({plan.name for plan in plans}) == 1132
    of = {split: {p.subject for p in plans if p.split == split} for split in SUBJECT_BASE}
    assert [len(of[s]) for s in ("train", "val", "test")] == [42, 6, 8]
    assert not of["train"] & of["val"] and not of["val"] & of["test"]
    counts = [sum(p.name.startswith(f"S{k:04d}/") for p in plans) for k in range(1, 57)]
    assert min(counts) == 20 and max(counts) == 21
    more = plan_clips(replace(config, dataset=replace(config.dataset, clips=2000)))
    assert more[:1132] == plans
    other = plan_clips(replace(config, dataset=replace(config.dataset, seed=1)))
    assert not {p.subject for p in other} & {p.subject for p in plans}


def test_settling_leaves_nothing_below_the_floor():
    rng = np.random.default_rng(0)
    gap = 0.02 * np.sin(np.arange(200) / 9) + 0.003 * rng.normal(size=200)
    rise = settle(gap, 60)
    assert (gap + rise).min() >= -1e-12  # nothing below
    assert (gap + rise).max() < 0.025  # and nobody floats
    assert np.abs(np.diff(rise, 2)).max() < np.abs(np.diff(gap, 2)).max() / 3
    assert np.allclose(settle(np.full(50, 0.04), 60), -0.04)


def test_volume_of_a_box_and_of_a_person():
    corners = np.array([[x, y, z] for x in (0, 2) for y in (0, 3) for z in (0, 5)], float) + 7
    quads = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    faces = np.array([t for a, b, c, d in quads for t in ((a, b, c), (a, c, d))])
    assert mesh_volume(corners, faces) == pytest.approx(30)
    body = clip_factory.body_of(Config(), 3)
    subject = body.sample_subject(3)
    mass = clip_factory.DENSITY * mesh_volume(subject.vertices.numpy(), body.faces.numpy())
    assert 16 < mass / subject.stature**2 < 40  # body mass index


def test_dressed_feet_stand_on_the_floor(config):
    """Whatever the subject wears, the scene's lowest point is on the floor, and the coordinates say so."""
    settings = read_config(config)
    body = clip_factory.body_of(settings, 5)
    subject = body.sample_subject(5)
    with torch.no_grad():
        take = clip_factory.draw_take(np.random.default_rng(8), settings, "train", body, subject, [])
        scene, coordinates = film_set(np.random.default_rng(9), settings, body, subject, take)
    person = [mesh for mesh in scene.meshes if mesh.person == 0]
    lowest = np.min([mesh.vertices[..., 2].min(1) * np.ones(settings.frames) for mesh in person], axis=0)
    assert np.abs(lowest - take.sequence.lift).max() < 0.02 and (lowest - take.sequence.lift).min() > -1e-3
    raised = coordinates - take.coordinates
    height = body.skeleton.coordinate_index("pelvis_ty")
    assert np.abs(np.delete(raised, height, axis=1)).max() == 0 and np.abs(raised[:, height]).max() < 0.06


def test_rejected_clips_are_remembered(tmp_path):
    write_rejected(tmp_path / "d", "S0001/clip_0003", ["too far"])
    assert generation.read_rejected(tmp_path / "d", "S0001/clip_0003") == ["too far"]
    (tmp_path / "d/S0001/clip_0003.rejected.json").write_text("{}", encoding="utf-8")
    with pytest.raises(BiokinError, match="clip_0003.rejected.json: cannot be read"):
        generation.read_rejected(tmp_path / "d", "S0001/clip_0003")
