"""`biokin check`: a result that is there, held against all cameras."""

from __future__ import annotations

import json

import numpy as np
import pytest
from pipeline_scene import ColourSegmenter, make_scene
from typer.testing import CliRunner

from pose2sim_biokin import plugins
from pose2sim_biokin.cli import app
from pose2sim_biokin.errors import BiokinError
from pose2sim_biokin.hookspecs import hookimpl
from pose2sim_biokin.io.mot import write_mot
from pose2sim_biokin.quality import build_quality, write_quality
from pose2sim_biokin.recheck import check_trial
from pose2sim_biokin.skeleton import load_skeleton


@pytest.fixture(autouse=True)
def colours():
    class Plugin:
        @hookimpl
        def person_segmenters(self):
            return [ColourSegmenter()]

    plugin = Plugin()
    plugins.plugin_manager().register(plugin)
    yield
    plugins.plugin_manager().unregister(plugin)


@pytest.fixture
def scene(tmp_path):
    """A filmed scene with its true motion as the result of a run that saw cam01 and cam02."""
    scene = make_scene(tmp_path / "walk", count=12)
    skeleton = load_skeleton()
    folder = tmp_path / "walk" / "kinematics"
    folder.mkdir()
    stem = "walk_2-9_biokin"
    rows = slice(2, 10)
    write_mot(folder / f"{stem}.mot", scene.motion.time[rows], scene.motion.coordinates[rows], skeleton)
    run = {"views": [{"camera": "cam01"}, {"camera": "cam02"}], "frame_range": [2, 9], "fps": 30.0}
    quality = build_quality(scene.motion, np.arange(12), ["cam01", "cam02"], skeleton, run)
    write_quality(folder / f"{stem}_quality.json", quality)
    (tmp_path / "walk" / "Config.toml").write_text(
        "[biokin]\nsegmentation = 'colours'\ndevice = 'cpu'\nviews = ['cam01', 'cam02']\n", encoding="utf-8"
    )
    return scene


def test_all_cameras_judge_the_result(scene):
    found = check_trial(scene.config_dict, count=5)
    assert found["trial"] == "walk" and found["result"] == "walk_2-9_biokin.mot"
    assert {name: view["used"] for name, view in found["views"].items()} == {
        "cam01": True,
        "cam02": True,
        "cam03": False,
    }
    for view in found["views"].values():
        assert view["frames"] == 5 and view["joints_inside"] > 0.9 and 2 <= view["iou_worst_frame"] <= 9


def test_the_command_prints_a_table_and_writes_json(scene, tmp_path):
    target = tmp_path / "check.json"
    arguments = ["check", str(scene.project_dir), "--frames", "3", "--json", str(target)]
    result = CliRunner().invoke(app, arguments, env={"COLUMNS": "160"})
    assert result.exit_code == 0, result.output
    assert "cam03 (not used)" in result.output and "joints inside" in result.output
    (written,) = json.loads(target.read_text(encoding="utf-8"))
    assert written["views"]["cam03"]["frames"] == 3 and written["feet"]["floor_m"] is not None


def test_nothing_to_check(tmp_path):
    scene = make_scene(tmp_path / "walk", count=2)
    with pytest.raises(BiokinError, match=r"no result of biokin .* Run biokin run first"):
        check_trial(scene.config_dict)


def test_files_that_do_not_belong_together(scene):
    (quality,) = (scene.project_dir / "kinematics").glob("*_quality.json")
    text = quality.read_text(encoding="utf-8").replace('"frame_range": [2, 9]', '"frame_range": [4, 9]')
    quality.write_text(text, encoding="utf-8")
    with pytest.raises(BiokinError, match="does not belong to the quality file beside it"):
        check_trial(scene.config_dict)
