"""biokin is run where its result is missing; only the two networks are stand-ins."""

import pytest
import rtoml
from pipeline_scene import ColourSegmenter, KnowingPredictor, make_scene

import pose2sim_biokin
from pose2sim_biokin import pipeline, plugins
from pose2sim_biokin.hookspecs import hookimpl


@pytest.fixture
def scene(tmp_path, monkeypatch):
    """A filmed person whose motion the predictor knows; the segmenter sees colours."""
    scene = make_scene(tmp_path / "walk", angles=(0, 90, 200), count=6, overlay_video=False, report=False)
    scene.config_dict["project"].pop("project_dir")
    (scene.project_dir / "Config.toml").write_text(rtoml.dumps(scene.config_dict), encoding="utf-8")
    monkeypatch.setattr(pipeline, "Predictor", lambda *args, **_: KnowingPredictor(scene))
    tool = ColourSegmenter()
    scene.segmenter = tool

    class Plugin:
        @hookimpl
        def person_segmenters(self):
            return [tool]

    plugin = Plugin()
    plugins.plugin_manager().register(plugin)
    yield scene
    plugins.plugin_manager().unregister(plugin)


def test_two_camera_pairs_are_run_beside_each_other(scene):
    """Results for named cameras go to folders of their own; the trial's stay where they are."""
    folder = scene.project_dir
    views = [["cam02", "cam03"], ["cam01", "cam03"]]  # by itself it takes cam01 and cam02
    (outcome,) = pose2sim_biokin.compare(folder, ["biokin"], views=views, name="pairs", report=False)
    comparison = outcome.comparison
    assert comparison.labels == ("biokin", "biokin cam02,cam03", "biokin cam01,cam03")
    assert all(seconds > 0 for seconds in comparison.run_times_s.values())
    for label in comparison.labels[1:]:  # the stand-in knows the motion, whichever cameras look
        assert comparison.summary(label)["mae_deg"] < 1e-3 and comparison.points[label].mpjpe_world < 1e-2
    runs = folder / "compare" / "runs"
    assert sorted(p.name for p in runs.iterdir()) == ["biokin_cam01_cam03", "biokin_cam02_cam03"]
    for result, pair in zip(comparison.results[1:], views, strict=True):
        assert [view["camera"] for view in result.quality["views"]] == pair
        assert result.mot.is_relative_to(runs / "_".join(("biokin", *pair)))
        assert (result.mot.parent.parent / "pose-3d").is_dir()
    assert (folder / "kinematics" / "walk_0-5_biokin.mot").is_file()

    # there now: nothing is looked at again, unless asked for
    seen = len(scene.segmenter.seen)
    pose2sim_biokin.compare(folder, views=views, name="again", report=False)
    assert len(scene.segmenter.seen) == seen
    pose2sim_biokin.compare(folder, views=views, name="rerun", report=False, rerun=True)
    assert len(scene.segmenter.seen) > seen
