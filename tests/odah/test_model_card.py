"""The model card says what the record says."""

import json
import re

import pytest

from odah import model_card
from pose2sim_biokin.errors import BiokinError
from pose2sim_biokin.network.checkpoint import DEFAULT_WEIGHTS
from pose2sim_biokin.skeleton.angles import CONSTRAINED

RECORD = DEFAULT_WEIGHTS.with_suffix(".json")


def rows(text: str) -> dict[str, list[str]]:
    cells = [[c.strip() for c in line.strip("|").split("|")] for line in text.splitlines() if "|" in line]
    return {first: rest for first, *rest in cells}


def test_the_card_beside_the_weights_is_that_of_their_record():
    record = json.loads(RECORD.read_text(encoding="utf-8"))
    text = RECORD.with_suffix(".md").read_text(encoding="utf-8")
    assert re.search(r"SHA-256 `([0-9a-f]{64})`", text)[1] == record["sha256"]
    table = rows(text)
    for k, measured in enumerate(record["measured"]["sets"]):
        for name in CONSTRAINED:
            assert float(table[name][k]) == pytest.approx(measured["constrained_deg"][name], abs=0.051)
        found = float(table["mean of the 17 constrained angles, deg"][k])
        assert found == pytest.approx(measured["mae_17_deg"], abs=0.0051)


def test_weights_that_were_not_measured_have_no_card(tmp_path):
    path = tmp_path / "x.json"
    path.write_text(json.dumps({"training": {"steps": 1}, "preset": {}, "sha256": "0"}), encoding="utf-8")
    with pytest.raises(BiokinError, match="measured"):
        model_card.main([str(path)])
    assert not path.with_suffix(".md").exists()
