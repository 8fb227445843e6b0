"""An experiment: a TOML file that states only what differs from the defaults."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

from odah.losses import WEIGHTS, LossWeights
from pose2sim_biokin.errors import BiokinError
from pose2sim_biokin.network.presets import Preset, get_preset, merge_tables

PRECISIONS = ("bf16-mixed", "32-true")


@dataclass(frozen=True)
class DataSettings:
    """[data]: what a network learns from. Folders, relative to the experiment file's: caches (`odah crops`,
    `odah cache`) and data sets of clips (`odah generate`), of which a cache is made beside the run.

    Attributes:
        train, validation: of single frames.
        windows, validation_windows: of dense frames, for the refinement and the joint training.
        shares: of each folder of `train`; without, all pairs are used equally often.
        render: share of pairs that are rendered on the fly.
        render_seed, render_subjects, render_motions, render_workers: see `odah.live.LiveSettings`.
        every: of data sets of clips, each n-th frame is used.
    """

    train: tuple[str, ...] = ()
    validation: tuple[str, ...] = ()
    windows: tuple[str, ...] = ()
    validation_windows: tuple[str, ...] = ()
    shares: tuple[float, ...] = ()
    render: float = 0.0
    render_seed: int = 50
    render_subjects: int = 1000
    render_motions: str = ""
    render_workers: int = 1
    every: int = 3


@dataclass(frozen=True)
class TrainSettings:
    """How a network is trained.

    Attributes:
        preset: of the network.
        weights: of the loss terms.
        augmentation: fields of odah.augment.Augmentation that differ.
        data: what it learns from.
        batch_size, learning_rate, betas, weight_decay, clip: of the optimiser (AdamW).
        warmup: steps over which the learning rate rises; it is held, then falls by a cosine to 2 %.
        steps, epochs: where the run ends, if not 0; the learning rate then follows them, and a run that was
            cut off gives the same losses as one that was not. Else the end is that of the run's hours.
        ema: decay of the averaged weights, which are the ones kept.
        precision: "bf16-mixed" (the network under autocast) or "32-true".
        ahead: batches that as many threads make ahead; 0: none, best on a busy CPU.
        workers: processes that read and vary cached pairs ahead, for a GPU; 0: none.
        validate_s, checkpoint_s: seconds between validations and checkpoints.
        log_steps: steps that one line of the log is the mean of.
        validation_frames: pairs of a validation.
        refine_*: the same for the refinement, on windows; refine_position multiplies the weight of L_pos;
            refine_short is the share of windows shown as short sequences are, with held ends.
        joint_*: for encoder and refinement together, on windows.
        seed: of everything random.
    """

    preset: Preset
    weights: LossWeights
    augmentation: dict = field(default_factory=dict)
    data: DataSettings = field(default_factory=DataSettings)
    batch_size: int = 32
    learning_rate: float = 1.5e-3
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 1e-3
    clip: float = 5.0
    warmup: int = 150
    steps: int = 0
    epochs: int = 0
    ema: float = 0.998
    precision: str = "bf16-mixed"
    ahead: int = 0
    workers: int = 0
    validate_s: float = 300.0
    checkpoint_s: float = 60.0
    log_steps: int = 25
    validation_frames: int = 384
    refine_batch: int = 16
    refine_learning_rate: float = 1e-3
    refine_passes: int = 2
    refine_position: float = 1.0
    refine_short: float = 0.0
    joint_batch: int = 2
    joint_learning_rate: float = 1e-4
    joint_epochs: int = 5
    seed: int = 0


def read_settings(path: str | Path | None, preset: str = "fast") -> TrainSettings:
    """Settings of a TOML file with tables [preset], [loss], [augmentation], [data] and [train] (all
    optional), or the defaults.

    ``base`` at the top names what they change: "fast", "paper", or another experiment file beside it.

    Raises:
        BiokinError: no such file, or a key or value that is not known.
    """
    values = {} if path is None else read_tables(Path(path))
    name = values.pop("base", preset)
    network = get_preset(name).override(values.pop("preset", {}))
    weights = _replace(WEIGHTS[name], values.pop("loss", {}), f"{path}: [loss]")
    augmentation = values.pop("augmentation", {})
    data = _replace(DataSettings(), values.pop("data", {}), f"{path}: [data]")
    train = values.pop("train", {})
    if values:
        raise BiokinError(
            f"{path}: unknown table {', '.join(values)}; expected base, preset, loss, augmentation, data, "
            "train."
        )
    settings = _replace(TrainSettings(network, weights, augmentation, data), train, f"{path}: [train]")
    if settings.precision not in PRECISIONS:
        raise BiokinError(
            f"{path}: [train] precision is {settings.precision!r}; expected one of {', '.join(PRECISIONS)}."
        )
    if settings.steps and settings.epochs:
        raise BiokinError(f"{path}: [train] has both steps and epochs; give one of them.")
    return settings


def with_backdrops(settings: TrainSettings, path: str | Path | None) -> TrainSettings:
    """The settings with another file of backdrops, if one is given."""
    if path is None:
        return settings
    return replace(settings, augmentation=settings.augmentation | {"backdrops": str(path)})


def read_tables(path: Path, under: tuple[Path, ...] = ()) -> dict:
    """The tables of an experiment file, on top of those of the file that it is based on; `under`: the files
    that are based on this one.
    """
    if not path.is_file():
        based = f", which {under[-1]} is based on" if under else ""
        raise BiokinError(f"No experiment file {path}{based}.")
    if path in under:
        raise BiokinError(f"{path}: is based on itself ({' -> '.join(p.name for p in (*under, path))}).")
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BiokinError(f"{path}: not a TOML file: {error}.") from error
    _from_folder(values, path)
    base = values.get("base", "")
    if not str(base).endswith(".toml"):
        return values
    del values["base"]
    return merge_tables(read_tables(path.parent / base, (*under, path)), values)


def _from_folder(values: dict, path: Path) -> None:
    """Relative paths in the tables start from the experiment file's folder."""
    folder = path.parent
    tables = {name: values.get(name, {}) for name in ("preset", "loss", "augmentation", "data", "train")}
    for name, table in tables.items():
        if not isinstance(table, dict):
            raise BiokinError(f"{path}: {name} = {table!r}; expected a table, [{name}].")
    data, augmentation = tables["data"], tables["augmentation"]
    for name in ("train", "validation", "windows", "validation_windows"):
        if name in data:
            if not isinstance(data[name], list):
                raise BiokinError(f"{path}: [data] {name} = {data[name]!r}; expected a list of folders.")
            data[name] = [str(folder / part) for part in data[name]]
    for table, name in ((data, "render_motions"), (augmentation, "backdrops")):
        if table.get(name):
            table[name] = str(folder / table[name])


def _replace(settings, values: dict, where: str):
    known = {f.name for f in fields(settings)} - {"preset", "weights", "augmentation", "data"}
    unknown = sorted(set(values) - known)
    if unknown:
        raise BiokinError(
            f"{where}: unknown key {', '.join(unknown)}; expected keys among {', '.join(sorted(known))}."
        )
    return replace(settings, **{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})
