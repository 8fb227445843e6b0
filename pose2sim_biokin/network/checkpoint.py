"""Weights on disk: one .pt file of tensors and plain data, and a readable .json of its training record
beside it.
"""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import zipfile
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from pose2sim_biokin.errors import BiokinError
from pose2sim_biokin.network.biokin import BiokinNetwork
from pose2sim_biokin.network.presets import Preset
from pose2sim_biokin.skeleton.model import BUILT_IN, load_skeleton

FORMAT = "pose2sim_biokin-network-1"
DATA_DIR = Path(__file__).resolve().parent.parent / "data"
DEFAULT_WEIGHTS = DATA_DIR / "fast.pt"
_FIELDS = ("format", "preset", "skeleton", "record", "state_dict")


@dataclass(frozen=True)
class Checkpoint:
    """A loaded network.

    Attributes:
        network: on the CPU, in evaluation mode.
        path: of the file.
        sha256: of the file's bytes, hexadecimal.
        record: how it was trained and what was measured.
    """

    network: BiokinNetwork
    path: Path
    sha256: str
    record: dict


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def save_checkpoint(network: BiokinNetwork, path: str | Path, record: dict, half: bool = False) -> str:
    """Write the weights to `path` and the record, with the hash, to the .json beside it; both atomically.

    Args:
        network: its skeleton must be a built-in one.
        path: of the .pt file.
        record: plain data.
        half: floating-point weights are stored as float16.

    Returns:
        the file's SHA-256.
    """
    path = Path(path)
    if network.skeleton.name not in BUILT_IN:
        raise BiokinError(
            f"Checkpoints need a built-in skeleton ({', '.join(BUILT_IN)}), found {network.skeleton.name}."
        )
    state = {
        name: value.half() if half and value.is_floating_point() else value
        for name, value in network.state_dict().items()
    }
    content = {
        "format": FORMAT,
        "preset": network.preset.to_dict(),
        "skeleton": network.skeleton.name,
        "record": record,
        "state_dict": state,
    }
    partial = path.with_name(path.name + ".partial")
    torch.save(content, partial)
    digest = file_sha256(partial)
    os.replace(partial, path)
    readable = {"sha256": digest, "parameters": parameters(network), "preset": content["preset"], **record}
    partial = path.with_name(path.stem + ".json.partial")
    partial.write_text(json.dumps(readable, indent=1) + "\n", encoding="utf-8")
    os.replace(partial, path.with_suffix(".json"))
    return digest


def parameters(network: torch.nn.Module) -> int:
    """Number of parameters."""
    return sum(p.numel() for p in network.parameters())


def load_checkpoint(source: str | Path = "default") -> Checkpoint:
    """The network of a checkpoint; "default" is the one that ships with the package.

    Nothing in the file is executed. Where a .json with a hash lies beside the file, the file must match it.

    Raises:
        BiokinError: no such file; corrupt; not one of ours; of another version, skeleton or architecture.
    """
    path = DEFAULT_WEIGHTS if str(source) == "default" else Path(source).expanduser()
    if not path.is_file():
        hint = (
            "reinstall pose2sim_biokin"
            if path == DEFAULT_WEIGHTS
            else 'give the path of a .pt file or "default"'
        )
        raise BiokinError(f"weights: there is no file {path}; {hint}.")
    digest = file_sha256(path)
    _compare_hash(path, digest)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (
        pickle.UnpicklingError,
        RuntimeError,
        EOFError,
        OSError,
        ValueError,
        KeyError,
        zipfile.BadZipFile,
    ) as e:
        raise BiokinError(
            f"weights: {path} is corrupt or not a checkpoint ({type(e).__name__}); download or copy it again."
        ) from e
    if not isinstance(content, dict) or any(key not in content for key in _FIELDS):
        raise BiokinError(
            f"weights: {path} is not a pose2sim_biokin checkpoint (expected {', '.join(_FIELDS)})."
        )
    if content["format"] != FORMAT:
        raise BiokinError(
            f"weights: {path} has format {content['format']!r}, this version reads {FORMAT!r}; "
            "use weights made for this version."
        )
    if content["skeleton"] not in BUILT_IN:
        raise BiokinError(
            f"weights: {path} is for skeleton {content['skeleton']!r}; this version knows "
            f"{', '.join(BUILT_IN)}."
        )
    network = BiokinNetwork(Preset.from_dict(content["preset"]), load_skeleton(content["skeleton"]))
    wrong = _mismatch(network.state_dict(), content["state_dict"])
    if wrong:
        raise BiokinError(f"weights: {path} does not fit the architecture that its preset names: {wrong}.")
    network.load_state_dict(content["state_dict"])
    network.eval().requires_grad_(False)
    return Checkpoint(network, path, digest, content["record"])


def _compare_hash(path: Path, digest: str) -> None:
    beside = path.with_suffix(".json")
    if not beside.is_file():
        return
    try:
        expected = json.loads(beside.read_text(encoding="utf-8")).get("sha256")
    except (json.JSONDecodeError, UnicodeDecodeError, AttributeError) as e:
        raise BiokinError(f"weights: {beside} is not readable JSON; remove or restore it.") from e
    if expected and expected != digest:
        raise BiokinError(
            f"weights: {path} has SHA-256 {digest[:16]}..., but {beside.name} beside it says "
            f"{expected[:16]}...: the file is corrupt or not the one recorded; copy both again."
        )


def _mismatch(wanted: dict[str, Tensor], found: dict[str, Tensor]) -> str:
    missing = sorted(set(wanted) - set(found))
    extra = sorted(set(found) - set(wanted))
    if missing or extra:
        return f"{len(missing)} tensors missing, {len(extra)} unknown, such as {(missing + extra)[0]}"
    for name, value in wanted.items():
        if tuple(found[name].shape) != tuple(value.shape):
            return f"{name} is {tuple(found[name].shape)}, expected {tuple(value.shape)}"
    return ""
