"""Trained encoders that stay as they are while what stands behind them is measured or trained."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from odah.loop import CHECKPOINT
from pose2sim_biokin.errors import BiokinError
from pose2sim_biokin.network.biokin import BiokinNetwork
from pose2sim_biokin.network.checkpoint import load_checkpoint
from pose2sim_biokin.network.presets import FitSize, Preset, RefinementSize, encoder_alone
from pose2sim_biokin.skeleton import load_skeleton


def encoder_parser(module: str, about: str, what: str) -> argparse.ArgumentParser:
    """Options of a module that works behind a trained encoder.

    Args:
        module: its name; about: its docstring; what: comes out of it, for people.
    """
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description=about.splitlines()[0])
    parser.add_argument("--config", help="experiment file (TOML), the encoder's")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--run", type=Path, help="folder of the encoder's run")
    source.add_argument("--weights", help='exported weights ("default": the package\'s), instead of a run')
    parser.add_argument("--output", type=Path, help=f"folder for {what} (default: the run's)")
    parser.add_argument("--validation", nargs="+", required=True, help="folders of validation shards")
    parser.add_argument("--threads", type=int, help="CPU threads")
    return parser


def read_options(parser: argparse.ArgumentParser, arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options of a command line, with an output folder; sets PyTorch's threads."""
    options = parser.parse_args(arguments)
    if options.run is None and options.output is None:
        parser.error("--weights needs --output")
    options.output = options.output or options.run
    if options.threads:
        torch.set_num_threads(options.threads)
    return options


def read_fit(folder: Path) -> tuple[FitSize, dict[str, Tensor], dict] | None:
    """Size, state and record of the fit of `odah.fit`; None where there is none or it was left out."""
    return _read_kept(folder / "fit.pt", folder / "fit.json", FitSize)


def read_refinement(folder: Path) -> tuple[RefinementSize, dict[str, Tensor], dict] | None:
    """Size, weights and record of the refinement that `odah.refine` wrote; None where there is none or it was
    left out.
    """
    return _read_kept(folder / "refiner.pt", folder / "refinement.json", RefinementSize)


def _read_kept(weights: Path, record: Path, size: type) -> tuple | None:
    if not weights.is_file():
        return None
    content = torch.load(weights, map_location="cpu", weights_only=True)
    if not content["state"]:
        return None
    return size(**content["size"]), content["state"], json.loads(record.read_text(encoding="utf-8"))


def frozen_encoder(run: Path | None, weights: str | Path | None, preset: Preset) -> BiokinNetwork:
    """A network of the preset, with a new refinement behind the encoder of a run or of exported weights, and
    behind their fit to keypoints if they have one.

    Raises:
        BiokinError: the weights' encoder is not that of the preset.
    """
    if run is not None:
        fit = read_fit(run)
        state = torch.load(run / CHECKPOINT, map_location="cpu", weights_only=True)["average"]
        network = BiokinNetwork(replace(preset, fit=fit and fit[0]), load_skeleton())
        if fit:
            network.fit.load_state_dict(fit[1])
    else:
        loaded = load_checkpoint(weights)
        if encoder_alone(loaded.network.preset) != encoder_alone(preset):
            raise BiokinError(
                f"{loaded.path}: its encoder (preset {loaded.network.preset.name!r}) is not that of the "
                f"experiment (preset {preset.name!r}); give the experiment file it was trained with."
            )
        state = loaded.network.encoder.state_dict()
        network = BiokinNetwork(replace(preset, fit=loaded.network.preset.fit), load_skeleton())
        if network.fit is not None:
            network.fit.load_state_dict(loaded.network.fit.state_dict())
    network.encoder.load_state_dict(state)
    return network.requires_grad_(False)
