"""Pose2Sim asks for the backend that the config names; without the key nothing changes."""

import importlib.metadata
import logging
import os
import subprocess
import sys
import tempfile
import textwrap
import types
from pathlib import Path

import pytest

from pose2sim_biokin import dispatch, plugins
from pose2sim_biokin.backend import OpenSim
from pose2sim_biokin.errors import BiokinError

PTH = Path(importlib.metadata.distribution("pose2sim-biokin").locate_file("pose2sim_biokin.pth"))
STAGES = {
    "poseEstimation": "estimate_pose_all",
    "synchronization": "synchronize_cams_all",
    "personAssociation": "associate_all",
    "triangulation": "triangulate_all",
    "filtering": "filter_all",
    "markerAugmentation": "augment_markers_all",
    "kinematics": "kinematics_all",
}


class Recorder:
    """A backend that remembers what it was given."""

    name = "recorder"
    replaces = frozenset({"poseEstimation", "triangulation"})

    def __init__(self):
        self.configs = []

    def run(self, config_dict):
        self.configs.append(config_dict)


@pytest.fixture
def upstream(monkeypatch):
    """Pose2Sim with recorders for its stages' functions, hooked; (list of calls, backend)."""
    monkeypatch.delenv(dispatch.DISABLE_VARIABLE, raising=False)
    from Pose2Sim import Pose2Sim

    dispatch.uninstall()
    calls = []
    for stage, function in STAGES.items():
        module = types.ModuleType(f"Pose2Sim.{stage}")

        def record(*args, _stage=stage, **kwargs):
            calls.append((_stage, args, kwargs))

        setattr(module, function, record)
        monkeypatch.setitem(sys.modules, module.__name__, module)
    backend = Recorder()
    known = {"recorder": backend, "opensim": OpenSim()}
    monkeypatch.setattr(plugins, "backends", lambda: known)
    assert dispatch.install()
    yield types.SimpleNamespace(Pose2Sim=Pose2Sim, calls=calls, backend=backend)
    dispatch.uninstall()
    monkeypatch.undo()
    dispatch.install()


def write_config(folder, backend=None, extra=""):
    folder.mkdir(parents=True, exist_ok=True)
    line = "" if backend is None else f"kinematics_backend = '{backend}'\n"
    text = (
        f"[project]\nframe_range = 'all'\n[kinematics]\n{line}{extra}\n[logging]\nuse_custom_logging = true\n"
    )
    (folder / "Config.toml").write_text(text, encoding="utf-8")


def in_new_python(code, **env):
    """Run code in a fresh interpreter, started as users start it; its output."""
    environment = {k: v for k, v in os.environ.items() if k != dispatch.DISABLE_VARIABLE} | env
    command = [sys.executable, "-c", textwrap.dedent(code)]
    with tempfile.TemporaryDirectory() as folder:  # OpenSim leaves a log where it is imported
        done = subprocess.run(
            command, capture_output=True, text=True, env=environment, timeout=120, cwd=folder
        )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def stages(calls):
    return [stage for stage, _, _ in calls]


def test_the_hook_is_live_in_a_fresh_interpreter_and_brings_nothing_heavy():
    out = in_new_python("""
        import sys
        print([type(finder).__name__ for finder in sys.meta_path].count("_Finder"))
        print(sorted(m for m in sys.modules if m.startswith("pose2sim_biokin")))
        print([m for m in ("torch", "numpy", "pluggy", "importlib.metadata", "logging", "Pose2Sim")
               if m in sys.modules])
        """)
    assert out.splitlines() == ["1", "['pose2sim_biokin', 'pose2sim_biokin.dispatch']", "[]"]


def test_the_startup_line_is_one_line_and_imports_only_two_small_modules():
    line = PTH.read_text(encoding="utf-8")
    assert line.startswith("import ") and line.count("\n") == 1 and line.endswith("\n")
    out = in_new_python(
        f"""
        import os, sys
        del os.environ[{dispatch.DISABLE_VARIABLE!r}]
        for name in [m for m in sys.modules if m.startswith("pose2sim_biokin")]:
            del sys.modules[name]
        before = set(sys.modules)
        exec({line!r})
        print(sorted(set(sys.modules) - before))
        """,
        **{dispatch.DISABLE_VARIABLE: "1"},
    )
    assert out == "['pose2sim_biokin', 'pose2sim_biokin.dispatch']"


def test_running_the_startup_line_again_changes_nothing():
    line = PTH.read_text(encoding="utf-8")
    out = in_new_python(f"""
        import sys
        before = list(sys.meta_path)
        exec({line!r}); exec({line!r})
        assert sys.meta_path == before
        from Pose2Sim import Pose2Sim
        import Pose2Sim.kinematics
        hooked = Pose2Sim.kinematics.kinematics_all
        exec({line!r})
        import pose2sim_biokin
        assert pose2sim_biokin.install() and Pose2Sim.kinematics.kinematics_all is hooked
        assert not hasattr(hooked.__wrapped__, "__wrapped__")
        print([type(finder).__name__ for finder in sys.meta_path].count("_Finder"))
        """)
    assert out.splitlines()[-1] == "0"  # it took itself away


def test_a_leftover_startup_line_does_no_harm():
    line = PTH.read_text(encoding="utf-8")
    out = in_new_python(f"""
        import sys
        for name in [m for m in sys.modules if m.startswith("pose2sim_biokin")]:
            del sys.modules[name]
        sys.modules["pose2sim_biokin"] = None  # as if it were not installed
        exec({line!r})
        """)
    assert out == ""


def test_the_environment_can_switch_it_off():
    code = """
        import sys, pose2sim_biokin
        from pose2sim_biokin import dispatch
        waiting = "_Finder" in [type(finder).__name__ for finder in sys.meta_path]
        print(pose2sim_biokin.install(), dispatch.is_live(), waiting)
        """
    assert in_new_python(code, POSE2SIM_BIOKIN_DISABLE="1") == "False False False"
    assert in_new_python(code, POSE2SIM_BIOKIN_DISABLE="0") == "True True True"


def test_unchanged_user_code_reaches_a_plugin_and_upstream(tmp_path):
    """The real Pose2Sim, a plugin from another package, and both ways to upstream's own function."""
    site = tmp_path / "site"
    info = site / "tiny_backend-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tiny-backend\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[pose2sim_biokin]\ntiny = tiny_backend\n")
    (site / "tiny_backend.py").write_text(
        textwrap.dedent("""
            from pathlib import Path
            from pose2sim_biokin.hookspecs import hookimpl

            class Tiny:
                name = "tiny"
                replaces = frozenset()

                def run(self, config_dict):
                    Path(config_dict["project"]["project_dir"], "done.txt").write_text("by tiny")

            @hookimpl
            def kinematics_backends():
                return [Tiny()]
            """)
    )
    for name, backend in (("tiny", "tiny"), ("opensim", "opensim"), ("absent", None)):
        write_config(tmp_path / name, backend)
    out = in_new_python(
        f"""
        from Pose2Sim import Pose2Sim
        from pathlib import Path
        root = Path({str(tmp_path)!r})
        Pose2Sim.kinematics(str(root / "tiny"))
        for name in ("opensim", "absent"):
            try:
                Pose2Sim.kinematics(str(root / name))
            except ValueError as error:
                print(error)
        """,
        PYTHONPATH=os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")]),
        MPLBACKEND="agg",
    )
    assert (tmp_path / "tiny" / "done.txt").read_text() == "by tiny"
    upstreams_own = [line for line in out.splitlines() if line.startswith("No trc files found in ")]
    assert len(upstreams_own) == 2


def test_without_the_key_upstream_gets_the_very_same_objects(upstream):
    from Pose2Sim.kinematics import kinematics_all

    config = {"project": {"project_dir": "."}, "kinematics": {}}
    kinematics_all(config)
    kinematics_all(config_dict=config)
    (_, args, kwargs), (_, args_2, kwargs_2) = upstream.calls
    assert args[0] is config and not kwargs and not args_2 and kwargs_2["config_dict"] is config
    for odd in (None, {}, {"kinematics": None}):
        kinematics_all(odd)
        assert upstream.calls[-1][1] == (odd,)
    assert config == {"project": {"project_dir": "."}, "kinematics": {}}


def test_a_batch_may_mix_backends(upstream, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    write_config(tmp_path)
    write_config(tmp_path / "A", "recorder")
    write_config(tmp_path / "B")
    write_config(tmp_path / "C", "opensim")
    upstream.Pose2Sim.kinematics(str(tmp_path))
    folder = lambda config: Path(config["project"]["project_dir"]).name  # noqa: E731
    assert [folder(config) for config in upstream.backend.configs] == ["A"]
    assert sorted(folder(args[0]) for _, args, _ in upstream.calls) == ["B", "C"]
    assert "Kinematics backend: recorder." in caplog.messages


def test_run_all_leaves_out_what_the_backend_replaces(upstream, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    write_config(tmp_path / "walk", "recorder")
    upstream.Pose2Sim.runAll(str(tmp_path / "walk"), do_calibration=False)
    assert stages(upstream.calls) == ["personAssociation", "filtering", "markerAugmentation"]
    assert len(upstream.backend.configs) == 1
    lines = [message for message in caplog.messages if message.startswith("Skipping ") and "walk" in message]
    assert lines == [
        'Skipping poseEstimation for walk: not needed by kinematics backend "recorder".',
        "Skipping synchronization for walk: there are no pose files to synchronize on; existing offsets are "
        "used, or none.",
        'Skipping triangulation for walk: not needed by kinematics backend "recorder".',
    ]
    # A stage that is called by itself runs as it always did.
    upstream.calls.clear()
    upstream.Pose2Sim.poseEstimation(str(tmp_path / "walk"))
    assert stages(upstream.calls) == ["poseEstimation"]


def test_run_all_synchronizes_on_existing_pose_files_unless_offsets_are_given(upstream, tmp_path):
    trial = tmp_path / "walk"
    write_config(trial, "recorder")
    (trial / "pose" / "cam1_json").mkdir(parents=True)
    (trial / "pose" / "cam1_json" / "cam1_000001.json").write_text("{}")
    upstream.Pose2Sim.runAll(str(trial), do_calibration=False)
    assert "synchronization" in stages(upstream.calls)
    upstream.calls.clear()
    write_config(trial, "recorder", extra="[biokin.sync_offsets]\ncam1 = 2\n")
    upstream.Pose2Sim.runAll(str(trial), do_calibration=False)
    assert "synchronization" not in stages(upstream.calls)


def test_run_all_of_a_mixed_batch_does_every_stage_for_the_others(upstream, tmp_path):
    write_config(tmp_path)
    write_config(tmp_path / "A", "recorder")
    write_config(tmp_path / "B")
    upstream.Pose2Sim.runAll(str(tmp_path), do_calibration=False)
    done = [(stage, Path(args[0]["project"]["project_dir"]).name) for stage, args, _ in upstream.calls]
    assert [stage for stage, trial in done if trial == "B"] == list(STAGES)
    assert [stage for stage, trial in done if trial == "A"] == [
        "personAssociation",
        "filtering",
        "markerAugmentation",
    ]


def test_run_all_without_the_key_is_upstreams_own(upstream, tmp_path):
    write_config(tmp_path / "walk")
    upstream.Pose2Sim.runAll(str(tmp_path / "walk"), do_calibration=False, do_filtering=False)
    assert stages(upstream.calls) == [stage for stage in STAGES if stage != "filtering"]


def test_run_all_stops_at_an_unknown_backend_before_any_work(upstream, tmp_path):
    write_config(tmp_path / "walk", "biokim")
    with pytest.raises(BiokinError, match='"biokim".*|.*Known: "opensim", "recorder"|"recorder", "opensim"'):
        upstream.Pose2Sim.runAll(str(tmp_path / "walk"), do_calibration=False)
    assert not upstream.calls


def test_uninstall_gives_upstream_back(upstream):
    module = sys.modules["Pose2Sim.kinematics"]
    hooked = module.kinematics_all
    assert dispatch.is_live()
    dispatch.uninstall()
    assert not dispatch.is_live()
    assert module.kinematics_all is hooked.__wrapped__


def test_an_upstream_without_the_function_is_said_in_the_log(upstream, monkeypatch, caplog):
    dispatch.uninstall()
    monkeypatch.setitem(sys.modules, "Pose2Sim.kinematics", types.ModuleType("Pose2Sim.kinematics"))
    dispatch.install()
    assert "has no Pose2Sim.kinematics.kinematics_all" in caplog.text
