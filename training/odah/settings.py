"""An experiment: a TOML file that states only what differs from the defaults."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

from odah.losses import WEIGHTS, LossWeights
from pose2sim_biokin.errors import BiokinError
from pose2sim_biokin.network.presets import Preset, get_preset


@dataclass(frozen=True)
class TrainSettings:
    """How a network is trained.

    Attributes:
        preset: of the network.
        weights: of the loss terms.
        augmentation: fields of odah.augment.Augmentation that differ.
        batch_size, learning_rate, betas, weight_decay, clip: of the optimiser (AdamW).
        warmup: steps over which the learning rate rises; it falls by a cosine over the hours of the run.
        ema: decay of the averaged weights, which are the ones kept.
        precision: "bf16-mixed" (the network under autocast) or "32-true".
        validate_s, checkpoint_s: seconds between validations and checkpoints.
        validation_frames: pairs of a validation.
        refine_*: the same for the refinement, on windows.
        seed: of everything random.
    """

    preset: Preset
    weights: LossWeights
    augmentation: dict = field(default_factory=dict)
    batch_size: int = 32
    learning_rate: float = 1.5e-3
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 1e-3
    clip: float = 5.0
    warmup: int = 150
    ema: float = 0.998
    precision: str = "bf16-mixed"
    validate_s: float = 300.0
    checkpoint_s: float = 60.0
    validation_frames: int = 384
    refine_batch: int = 16
    refine_learning_rate: float = 1e-3
    refine_passes: int = 2
    seed: int = 0


def read_settings(path: str | Path | None, preset: str = "fast") -> TrainSettings:
    """Settings of a TOML file with tables [preset], [loss], [augmentation] and [train] (all optional),
    or the defaults.

    ``base = "fast"`` or "paper" at the top names what [preset] and [loss] change.

    Raises:
        BiokinError: no such file, or a key that is not known.
    """
    values: dict = {}
    if path is not None:
        if not Path(path).is_file():
            raise BiokinError(f"No experiment file {path}.")
        values = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    name = values.pop("base", preset)
    network = get_preset(name).override(values.pop("preset", {}))
    weights = _replace(WEIGHTS[name], values.pop("loss", {}), f"{path}: [loss]")
    augmentation = values.pop("augmentation", {})
    train = values.pop("train", {})
    if values:
        raise BiokinError(
            f"{path}: unknown table {', '.join(values)}; expected base, preset, loss, augmentation, train."
        )
    return _replace(TrainSettings(network, weights, augmentation), train, f"{path}: [train]")


def _replace(settings, values: dict, where: str):
    known = {f.name for f in fields(settings)}
    unknown = sorted(set(values) - known)
    if unknown:
        raise BiokinError(
            f"{where}: unknown key {', '.join(unknown)}; expected keys among {', '.join(sorted(known))}."
        )
    return replace(settings, **{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})
