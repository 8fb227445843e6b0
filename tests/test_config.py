"""[biokin] and the keys of Pose2Sim that matter; the template against the installed Pose2Sim."""

import importlib.util
import logging
from pathlib import Path

import pytest
import rtoml

from pose2sim_biokin.config import BIOKIN_KEYS, BiokinConfig
from pose2sim_biokin.demo import choose_backend
from pose2sim_biokin.errors import BiokinError

TEMPLATE = Path(__file__).parent.parent / "Config_template" / "Config.toml"
UPSTREAM = Path(importlib.util.find_spec("Pose2Sim").submodule_search_locations[0])


def config(**biokin):
    return BiokinConfig.from_config_dict({"biokin": biokin})


def test_an_empty_config_gives_the_defaults():
    assert BiokinConfig.from_config_dict({}) == BiokinConfig()
    assert BiokinConfig().views == "auto" and BiokinConfig().max_gap_s == 0.5


def test_values_are_taken():
    found = BiokinConfig.from_config_dict(
        {
            "project": {"frame_range": [10, 300], "frame_rate": 120, "participant_mass": [61.5, 80]},
            "kinematics": {"filter_ik": True},
            "biokin": {
                "views": ["cam01", "cam04"],
                "device": "CUDA:1",
                "sync_offsets": {"cam01": -3},
                "max_gap_s": 1,
                "overlay_video": False,
                "overlay": "bones",
                "check_views": False,
                "report": False,
            },
        }
    )
    assert found == BiokinConfig(
        views=("cam01", "cam04"),
        device="cuda:1",
        sync_offsets={"cam01": -3},
        max_gap_s=1.0,
        overlay_video=False,
        overlay="bones",
        check_views=False,
        report=False,
        frame_range=(10, 300),
        frame_rate=120.0,
        mass_kg=61.5,
        filter_ik=True,
    )


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("views", "cam01", "two different cameras"),
        ("views", ["cam01"], "two different cameras"),
        ("views", ["cam01", "cam01"], "two different cameras"),
        ("views", ["a", "b", "c"], "two different cameras"),
        ("views", [1, 2], "two different cameras"),
        ("segmentation", "", "name or path"),
        ("masks_dir", 3, "name or path"),
        ("static_background", "yes", "true or false"),
        ("weights", None, "name or path"),
        ("device", "gpu", "'cuda'"),
        ("device", "cpu:1", "'cuda'"),
        ("device", 0, "'cuda'"),
        ("sync_offsets", [1, 2], "whole numbers"),
        ("sync_offsets", {"cam01": 1.5}, "whole numbers"),
        ("max_gap_s", -1, "0 or more"),
        ("max_gap_s", float("nan"), "0 or more"),
        ("max_gap_s", "1", "0 or more"),
        ("batch_size", 0, "1 or more"),
        ("batch_size", True, "1 or more"),
        ("overlay_video", "true", "true or false"),
        ("overlay", "mesh", "'surface'"),
        ("overlay", ["bones"], "'surface'"),
        ("check_views", 1, "true or false"),
        ("report", 1, "true or false"),
        ("seed", -1, "0 or more"),
        ("seed", 0.5, "0 or more"),
    ],
)
def test_an_unusable_value_is_named_with_what_is_allowed(key, value, expected):
    with pytest.raises(BiokinError) as error:
        config(**{key: value})
    assert f"[biokin] {key} " in str(error.value) and expected in str(error.value)
    assert repr(value) in str(error.value)


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("project", "frame_range", "some"),
        ("project", "frame_range", [10]),
        ("project", "frame_range", [10, 10]),
        ("project", "frame_range", [-1, 10]),
        ("project", "frame_range", [0.5, 10]),
        ("project", "frame_rate", "fast"),
        ("project", "frame_rate", 0),
        ("project", "participant_mass", "heavy"),
        ("project", "participant_mass", -70),
        ("kinematics", "filter_ik", "yes"),
    ],
)
def test_an_unusable_value_of_pose2sims_keys_is_named(section, key, value):
    with pytest.raises(BiokinError, match=f"\\[{section}\\] {key} in Config.toml is"):
        BiokinConfig.from_config_dict({section: {key: value}})


@pytest.mark.parametrize("value", ["auto", "all", [], None])
def test_all_frames(value):
    assert BiokinConfig.from_config_dict({"project": {"frame_range": value}}).frame_range is None


def test_an_unknown_key_gets_the_nearest_known_one():
    with pytest.raises(BiokinError, match='"veiws".*Did you mean "views"'):
        config(veiws="auto")
    with pytest.raises(
        BiokinError, match='"xyzzy" in Config.toml is not a key.*Its keys: views, segmentation'
    ):
        config(xyzzy=1)


def test_a_section_that_is_no_table():
    with pytest.raises(BiokinError, match=r"biokin in Config.toml is 'auto'.*\[biokin\]"):
        BiokinConfig.from_config_dict({"biokin": "auto"})


def test_what_is_assumed_is_said(caplog):
    caplog.set_level(logging.WARNING)
    found = BiokinConfig.from_config_dict({"project": {"participant_mass": 0, "multi_person": True}})
    assert found.mass_kg == 70
    assert "default mass of 70 kg" in caplog.text and "one person only" in caplog.text


def assert_same_keys_and_types(ours, theirs, where=""):
    for key, value in theirs.items():
        assert key in ours, f"{where}{key} is missing"
        assert type(ours[key]) is type(value), f"{where}{key}"
        if isinstance(value, dict):
            assert_same_keys_and_types(ours[key], value, f"{where}{key}.")
        else:
            assert ours[key] == value, f"{where}{key}"


def test_the_template_has_every_key_of_the_installed_pose2sim_and_ours():
    ours, theirs = rtoml.load(TEMPLATE), rtoml.load(UPSTREAM / "Demo_SinglePerson" / "Config.toml")
    assert_same_keys_and_types(ours, theirs)
    assert set(ours) - set(theirs) == {"biokin"}
    assert set(ours["kinematics"]) - set(theirs["kinematics"]) == {"kinematics_backend"}
    assert set(ours["biokin"]) == set(BIOKIN_KEYS)
    assert BiokinConfig.from_config_dict(ours) == BiokinConfig()


def test_pose2sims_own_reader_takes_the_template(tmp_path):
    from Pose2Sim.Pose2Sim import read_config_files

    (tmp_path / "Config.toml").write_bytes(TEMPLATE.read_bytes())
    level, (found,) = read_config_files(str(tmp_path))
    assert level == 1 and found["kinematics"]["kinematics_backend"] == "biokin"
    assert found["project"]["project_dir"] == str(tmp_path)


def test_choosing_the_backend_keeps_every_line():
    theirs = (UPSTREAM / "Demo_SinglePerson" / "Config.toml").read_text(encoding="utf-8")
    changed = choose_backend(theirs, ["cam01", "cam04"])
    remaining = iter(changed.splitlines())
    assert all(line in remaining for line in theirs.rstrip().splitlines())
    found = rtoml.loads(changed)
    assert_same_keys_and_types(found, rtoml.loads(theirs))
    assert found["kinematics"]["kinematics_backend"] == "biokin"
    assert found["biokin"] == {"views": ["cam01", "cam04"]}
    with pytest.raises(BiokinError, match=r"no \[kinematics\] section"):
        choose_backend("[project]\n")
