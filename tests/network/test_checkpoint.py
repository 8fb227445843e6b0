"""Checkpoints come back as they were, and everything else is refused with a reason."""

import json

import pytest
import torch

from pose2sim_biokin.errors import BiokinError
from pose2sim_biokin.network.biokin import BiokinNetwork
from pose2sim_biokin.network.checkpoint import file_sha256, load_checkpoint, save_checkpoint
from pose2sim_biokin.network.presets import FAST
from pose2sim_biokin.skeleton import load_skeleton

TINY = FAST.override(
    {
        "size": 32,
        "hourglass": {"channels": 16, "widths": [16, 16, 16]},
        "points": {"count": 32, "dense": [32]},
    }
)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "tiny.pt"
    network = BiokinNetwork(TINY, load_skeleton())
    digest = save_checkpoint(network, path, {"training": {"steps": 3}})
    return network, path, digest


def altered(path, tmp_path, **changes):
    content = torch.load(path, weights_only=True) | changes
    target = tmp_path / "altered.pt"
    torch.save(content, target)
    return target


def test_round_trip(saved):
    network, path, digest = saved
    loaded = load_checkpoint(path)
    assert loaded.sha256 == digest == file_sha256(path) and loaded.record == {"training": {"steps": 3}}
    assert loaded.network.preset == TINY and not loaded.network.training
    for name, value in network.state_dict().items():
        assert torch.equal(value, loaded.network.state_dict()[name])
    readable = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    assert readable["sha256"] == digest and readable["training"]["steps"] == 3


def test_half_precision(saved, tmp_path):
    network, _, _ = saved
    save_checkpoint(network, tmp_path / "half.pt", {}, half=True)
    for name, value in load_checkpoint(tmp_path / "half.pt").network.state_dict().items():
        torch.testing.assert_close(value.float(), network.state_dict()[name].float(), atol=1e-3, rtol=1e-3)


def test_missing(tmp_path):
    with pytest.raises(BiokinError, match="no file"):
        load_checkpoint(tmp_path / "nothing.pt")


def test_corrupt(saved, tmp_path):
    data = saved[1].read_bytes()
    for number, broken in enumerate((b"", b"not a checkpoint", data[: len(data) // 2])):
        path = tmp_path / f"{number}.pt"
        path.write_bytes(broken)
        with pytest.raises(BiokinError, match="corrupt"):
            load_checkpoint(path)


def test_hash_beside_it(saved, tmp_path):
    path = tmp_path / "tiny.pt"
    path.write_bytes(saved[1].read_bytes())
    path.with_suffix(".json").write_text(json.dumps({"sha256": "0" * 64}), encoding="utf-8")
    with pytest.raises(BiokinError, match="SHA-256"):
        load_checkpoint(path)


def test_code_in_a_file_is_not_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return (print, ("ran",))

    torch.save({"format": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(BiokinError, match="corrupt or not a checkpoint"):
        load_checkpoint(tmp_path / "evil.pt")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "other-1"}, "format 'other-1'"),
        ({"skeleton": "somebody"}, "skeleton 'somebody'"),
        ({"state_dict": {}}, "tensors missing"),
        ({"preset": {"name": "x", "wings": 2}}, "wings"),
    ],
)
def test_foreign(saved, tmp_path, changes, message):
    with pytest.raises(BiokinError, match=message):
        load_checkpoint(altered(saved[1], tmp_path, **changes))


def test_not_ours_and_wrong_shape(saved, tmp_path):
    torch.save({"weights": torch.zeros(2)}, tmp_path / "plain.pt")
    with pytest.raises(BiokinError, match="not a pose2sim_biokin checkpoint"):
        load_checkpoint(tmp_path / "plain.pt")
    state = dict(torch.load(saved[1], weights_only=True)["state_dict"])
    name = next(iter(state))
    state[name] = torch.zeros(1)
    with pytest.raises(BiokinError, match="does not fit"):
        load_checkpoint(altered(saved[1], tmp_path, state_dict=state))
