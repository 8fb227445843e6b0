"""Experiment files: what they may say, and what they are based on."""

from pathlib import Path

import pytest

from odah.losses import FAST_WEIGHTS, PAPER_WEIGHTS
from odah.settings import read_settings
from pose2sim_biokin.errors import BiokinError
from pose2sim_biokin.network.presets import FAST, PAPER

CONFIGS = Path(__file__).parents[2] / "training" / "configs"


def test_the_published_experiment():
    """Lin et al. 2024: Adam, batches of 8 over 14 epochs, then 5 epochs of both with batches of 2."""
    paper = read_settings(CONFIGS / "paper.toml")
    assert paper.weights == PAPER_WEIGHTS and paper.preset == PAPER and not paper.augmentation
    assert (paper.batch_size, paper.epochs, paper.learning_rate, paper.betas) == (8, 14, 5e-5, (0.5, 0.999))
    assert (paper.joint_batch, paper.joint_epochs, paper.joint_learning_rate) == (2, 5, 5e-5)
    assert paper.weight_decay == 0 and paper.steps == 0


def test_settings_errors(tmp_path):
    path = tmp_path / "x.toml"
    for text, message in (
        ("[train]\nspeed = 3", "speed"),
        ("[loss]\nlove = 1", "love"),
        ("[wrong]\na = 1", "wrong"),
        ("data = 3", "expected a table, .data."),
        ('[data]\ntrain = "frames"', "expected a list of folders"),
    ):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(BiokinError, match=message):
            read_settings(path)
    with pytest.raises(BiokinError, match="No experiment file"):
        read_settings(tmp_path / "none.toml")


def test_an_experiment_is_based_on_another(tmp_path):
    (tmp_path / "first").mkdir()
    (tmp_path / "first" / "a.toml").write_text(
        'base = "fast"\n[preset.look]\nfurther = 3\n[train]\nseed = 5\nbatch_size = 7\n'
        '[loss]\nhands = 0.0\n[data]\ntrain = ["frames"]\nvalidation = ["held_out"]\n'
        '[augmentation]\nblur = 0.2\nerrors = { ends = 0.8, limbs = 0.3 }\nbackdrops = "b.npy"\n',
        encoding="utf-8",
    )
    (tmp_path / "b.toml").write_text(
        'base = "first/a.toml"\n[train]\nbatch_size = 9\n[data]\ntrain = ["more"]\n'
        "[augmentation]\nerrors = { limbs = 0.7 }\n",
        encoding="utf-8",
    )
    settings = read_settings(tmp_path / "b.toml")
    assert settings.preset == FAST.override({"look": {"further": 3}})
    assert (settings.seed, settings.batch_size) == (5, 9)
    assert settings.weights.hands == 0 and settings.weights.keypoints == FAST_WEIGHTS.keypoints
    # each file's paths start from its own folder
    assert settings.data.train == (str(tmp_path / "more"),)
    assert settings.data.validation == (str(tmp_path / "first" / "held_out"),)
    assert settings.augmentation == {
        "blur": 0.2,
        "errors": {"ends": 0.8, "limbs": 0.7},
        "backdrops": str(tmp_path / "first" / "b.npy"),
    }

    (tmp_path / "c.toml").write_text('base = "none.toml"', encoding="utf-8")
    with pytest.raises(BiokinError, match="none.toml, which .*c.toml is based on"):
        read_settings(tmp_path / "c.toml")
    (tmp_path / "d.toml").write_text('base = "e.toml"', encoding="utf-8")
    (tmp_path / "e.toml").write_text('base = "d.toml"', encoding="utf-8")
    with pytest.raises(BiokinError, match="based on itself .d.toml -> e.toml -> d.toml"):
        read_settings(tmp_path / "d.toml")
