"""The command line: what is run, what is said, and the exit codes."""

import sys
import types
from pathlib import Path

import pytest
import rtoml
from typer.testing import CliRunner

from pose2sim_biokin import cli, plugins
from pose2sim_biokin.demo import MARKER, make_demo
from pose2sim_biokin.errors import BiokinError


@pytest.fixture
def runs(monkeypatch):
    """Configs that run_trial was called with; ``runs.action`` may raise."""
    record = types.SimpleNamespace(configs=[], action=lambda config: None)

    def run_trial(config_dict, progress=None):
        record.configs.append(config_dict)
        progress("Finding the person [a]", 1, 2)
        record.action(config_dict)
        progress("Finding the person [a]", 2, 2)
        folder = Path(config_dict["project"]["project_dir"])
        return types.SimpleNamespace(paths={"mot": folder / "x_biokin.mot"}, timings={"inference": 1.25})

    module = types.ModuleType("pose2sim_biokin.pipeline")
    module.run_trial = run_trial
    monkeypatch.setitem(sys.modules, "pose2sim_biokin.pipeline", module)
    return record


def biokin(*args):
    return CliRunner().invoke(cli.app, [str(arg) for arg in args], env={"COLUMNS": "200"})


def write_trial(folder, text="", kinematics=""):
    folder.mkdir(parents=True, exist_ok=True)
    config = f"[project]\nparticipant_mass = 60\n[kinematics]\n{kinematics}\n{text}\n"
    (folder / "Config.toml").write_text(config, encoding="utf-8")
    return folder


def test_run_does_a_trial_and_says_where_the_outputs_are(runs, tmp_path):
    result = biokin("run", write_trial(tmp_path / "walk"))
    assert result.exit_code == 0, result.output
    (config,) = runs.configs
    assert Path(config["project"]["project_dir"]) == tmp_path / "walk"
    assert config["project"]["participant_mass"] == 60 and config["biokin"] == {}
    assert "x_biokin.mot" in result.stdout and "1.25 s" in result.stdout
    assert (tmp_path / "walk" / "logs.txt").is_file()


def test_options_win_over_the_config(runs, tmp_path, monkeypatch):
    folder = write_trial(tmp_path / "walk", "[biokin]\nviews = ['a', 'b']\nseed = 3\n")
    monkeypatch.chdir(tmp_path)
    options = ("--views", "cam01, cam04", "--device", "cpu", "--weights", "own.pt", "--segmentation", "masks")
    assert biokin("run", folder, *options).exit_code == 0
    assert runs.configs[0]["biokin"] == {
        "views": ["cam01", "cam04"],
        "seed": 3,
        "device": "cpu",
        "weights": str(tmp_path / "own.pt"),
        "segmentation": "masks",
    }


def test_quiet_says_nothing(runs, tmp_path):
    result = biokin("run", write_trial(tmp_path / "walk"), "--quiet")
    assert (result.exit_code, result.output) == (0, "")


def test_a_batch_goes_on_after_a_trial_that_fails(runs, tmp_path):
    write_trial(tmp_path)
    for name in ("A", "B", "C"):
        write_trial(tmp_path / name)

    def action(config):
        if Path(config["project"]["project_dir"]).name == "B":
            raise BiokinError("the video is empty.")

    runs.action = action
    result = biokin("run", tmp_path)
    assert result.exit_code == 1
    assert sorted(Path(c["project"]["project_dir"]).name for c in runs.configs) == ["A", "B", "C"]
    assert "B: the video is empty." in result.stderr and "1 of 3 trials failed: B" in result.stderr
    assert "B: the video is empty." in (tmp_path / "logs.txt").read_text()


def test_trials_of_other_backends_are_run_with_those(runs, tmp_path, monkeypatch):
    done = []
    other = types.SimpleNamespace(name="other", replaces=frozenset(), run=done.append)
    monkeypatch.setattr(
        plugins, "backends", lambda: {"other": other, "biokin": types.SimpleNamespace(name="biokin")}
    )
    write_trial(tmp_path)
    write_trial(tmp_path / "A", kinematics="kinematics_backend = 'other'")
    write_trial(tmp_path / "B", kinematics="kinematics_backend = 'biokin'")
    assert biokin("run", tmp_path).exit_code == 0
    assert len(done) == len(runs.configs) == 1


def test_trials_may_be_excluded(runs, tmp_path):
    write_trial(tmp_path)
    (tmp_path / "Config.toml").write_text("[project]\nexclude_from_batch = ['A']\n")
    write_trial(tmp_path / "A")
    write_trial(tmp_path / "B")
    assert biokin("run", tmp_path).exit_code == 0
    assert [Path(c["project"]["project_dir"]).name for c in runs.configs] == ["B"]
    (tmp_path / "Config.toml").write_text("[project]\nexclude_from_batch = ['A', 'B']\n")
    result = biokin("run", tmp_path)
    assert result.exit_code == 1 and "exclude_from_batch" in result.stderr


def test_bad_input_is_one_sentence_and_exit_code_1(runs, tmp_path):
    def message(*args):
        result = biokin(*args)
        assert result.exit_code == 1 and "Traceback" not in result.output, result.output
        return result.stderr

    assert "nowhere: no such folder" in message("run", tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    assert "no Config.toml" in message("run", tmp_path / "empty")
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "Config.toml").write_text("[project\n")
    assert "Config.toml cannot be read" in message("run", broken)

    def action(config):
        raise BiokinError("cam2.avi: the video is empty.")

    runs.action = action
    assert message("run", write_trial(tmp_path / "walk")).endswith("Error: cam2.avi: the video is empty.\n")
    write_trial(tmp_path / "walk", kinematics="kinematics_backend = 'nobodys'")
    assert "'nobodys'" in message("run", tmp_path / "walk")


def test_a_project_that_cannot_be_written(runs, tmp_path):
    folder = write_trial(tmp_path / "walk")
    (folder / "logs.txt").mkdir()  # no rights are in the way of root, but a folder is
    result = biokin("run", folder)
    assert result.exit_code == 1 and "logs.txt: the log cannot be written" in result.stderr


def test_ctrl_c_is_exit_code_130(runs, tmp_path):
    def action(config):
        raise KeyboardInterrupt

    runs.action = action
    result = biokin("run", write_trial(tmp_path / "walk"))
    assert result.exit_code == 130 and "Interrupted" in result.stderr and "Traceback" not in result.output


@pytest.mark.parametrize(
    "args", [("run", "--views", "cam01"), ("run", "--views", "a,"), ("walk",), ("run", "--x")]
)
def test_a_wrong_command_line_is_exit_code_2(args):
    assert biokin(*args).exit_code == 2


def test_version():
    result = biokin("--version")
    assert result.exit_code == 0 and result.output.startswith("pose2sim_biokin ")


def test_demo(runs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = biokin("demo", "--views", "cam01,cam04")
    assert result.exit_code == 0, result.output
    folder = tmp_path / "biokin_demo"
    (config,) = runs.configs
    assert Path(config["project"]["project_dir"]) == folder
    assert config["biokin"]["views"] == ["cam01", "cam04"]
    assert len(list((folder / "videos").glob("*.mp4"))) == 4
    calibration = rtoml.load(folder / "calibration" / "Calib_qualisys.toml")
    assert {"cam01", "cam02", "cam03", "cam04"} <= set(calibration)
    assert rtoml.load(folder / "Config.toml")["kinematics"]["kinematics_backend"] == "biokin"
    assert [path.name for path in tmp_path.iterdir()] == ["biokin_demo"]
    # Once more, with other views: what is there stays.
    (folder / "Config.toml").write_text((folder / "Config.toml").read_text() + "seed = 9\n")
    assert biokin("demo", "--views", "cam02,cam03").exit_code == 0
    assert runs.configs[1]["biokin"] == {"views": ["cam02", "cam03"], "seed": 9}


def test_the_demo_leaves_a_folder_that_it_did_not_make_alone(runs, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "data.txt").write_text("precious")
    result = biokin("demo", "--output", tmp_path / "mine")
    assert result.exit_code == 1 and "--output" in result.stderr and not runs.configs
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["data.txt"]


def test_the_demo_fills_an_empty_folder(tmp_path):
    folder = make_demo(tmp_path)
    assert folder == tmp_path.resolve() and (tmp_path / MARKER).is_file()
    assert (tmp_path / "calibration" / "Calib_qualisys.toml").is_file()


def test_a_demo_that_could_not_be_made_leaves_nothing(tmp_path, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pose2sim_biokin.demo._convert_calibration", full)
    with pytest.raises(BiokinError, match="No space left"):
        make_demo(tmp_path / "demo")
    assert not list(tmp_path.iterdir())


def test_backends():
    result = biokin("backends")
    assert result.exit_code == 0
    for word in ("biokin", "opensim", "yolo", "masks", "triangulation"):
        assert word in result.output


def test_doctor(monkeypatch, tmp_path):
    monkeypatch.setattr("pose2sim_biokin.doctor._DATA", tmp_path)
    (tmp_path / "fast.pt").write_bytes(b"abc")
    sha256_of_abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, B.1
    result = biokin("doctor")
    for word in ("pose2sim", "torch", "cpu", "fast.pt", sha256_of_abc, "biokin, opensim", "live: "):
        assert word in result.output
    assert result.exit_code == (1 if "!!" in result.output else 0)
    monkeypatch.setenv("POSE2SIM_BIOKIN_DISABLE", "1")
    assert "off: POSE2SIM_BIOKIN_DISABLE" in biokin("doctor").output


def test_doctor_tells_missing_weights(monkeypatch, tmp_path):
    monkeypatch.setattr("pose2sim_biokin.doctor._DATA", tmp_path)
    result = biokin("doctor")
    assert result.exit_code == 1 and f"!!  weights          none in {tmp_path}" in result.output


def test_doctor_tells_a_missing_package(monkeypatch):
    monkeypatch.setattr("pose2sim_biokin.doctor._PACKAGES", ("a-package-that-nobody-has",))
    result = biokin("doctor")
    assert result.exit_code == 1 and "pip install a-package-that-nobody-has" in result.output
