"""What a reader of a comparison is shown first, on results that differ in known ways."""

import numpy as np
from compare_scenes import RATE, result_of, sines

from pose2sim_biokin.compare.build import compare_results
from pose2sim_biokin.report.highlights import comparison_looks
from pose2sim_biokin.report.page import three
from pose2sim_biokin.skeleton import load_skeleton

TIME = np.arange(100) / RATE


def looks(folder, values_of):
    values = sines(TIME, load_skeleton().coordinate_names)
    values["pelvis_rotation"] = np.zeros(len(TIME))
    first = result_of(folder, "first", TIME, values)
    second = result_of(folder, "second", TIME, values_of(dict(values)))
    return three(comparison_looks(compare_results([first, second])))


def test_a_turned_pelvis_comes_first(tmp_path):
    turn = np.radians(40 + 6 * (TIME > 1))
    found = looks(tmp_path, lambda values: values | {"pelvis_rotation": turn})
    assert found[0].title == "The pelvis is turned."
    text = found[0].text
    assert "46.0° at" in text and "42.9° on average" in text and "Pelvis rotation (42.9°)" in text


def test_nothing_is_made_of_a_small_turn(tmp_path):
    found = looks(tmp_path, lambda values: values | {"pelvis_rotation": np.radians(2.0) + 0 * TIME})
    assert not any("turned" in look.title for look in found)
