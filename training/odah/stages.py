"""The first stage of training: the frame encoder on single pairs. And where every stage finds its data."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from lightning.fabric import Fabric
from lightning_utilities.core.apply_func import apply_to_collection
from torch import nn

from odah.augment import Augmentation
from odah.cache import CacheSettings, cache_dataset, dense_step
from odah.dataset import FrameMaker, ShardSet, find_shards, ordered_batches
from odah.datasets import FORMAT as DATASET_FORMAT
from odah.live import LiveSettings, LiveShards
from odah.losses import FrameLoss
from odah.metrics import Errors, hand_degrees, mean_pose_baseline
from odah.mixture import Mixture, epoch_batches
from odah.pictures import validation_sheet
from odah.settings import TrainSettings
from pose2sim_biokin.errors import BiokinError
from pose2sim_biokin.network.biokin import FrameEncoder
from pose2sim_biokin.network.checkpoint import load_checkpoint
from pose2sim_biokin.network.hands import join_views, wrist_sides
from pose2sim_biokin.network.presets import encoder_alone
from pose2sim_biokin.skeleton import load_skeleton

_SHOWN = 4  # pairs in the picture of a validation


def cached_folders(
    folders: Sequence[str | Path],
    split: str,
    output: Path,
    settings: TrainSettings,
    dense: bool = False,
    fabric: Fabric | None = None,
) -> list[str]:
    """The folders, and for data sets of clips the caches of their crops, made in `output`/cache.

    Args:
        split: of data sets.
        dense: frames at 60 Hz, for windows; else each n-th one, as [data] every says.
        fabric: of several processes the first one makes the caches.
    """
    found = []
    for number, folder in enumerate(map(Path, folders)):
        manifest = folder / "manifest.json"
        if not manifest.is_file() or DATASET_FORMAT not in manifest.read_text(encoding="utf-8"):
            found.append(str(folder))
            continue
        every = dense_step(folder, split) if dense else settings.data.every
        kind = f"{split}-dense" if dense else split
        cache = output / "cache" / f"{number}-{folder.resolve().name}-{kind}"
        if fabric is None or fabric.is_global_zero:
            cache_dataset(folder, cache, CacheSettings(split, settings.preset.size, every))
        found.append(str(cache))
    if fabric is not None:
        fabric.barrier()
    return found


def load_encoder(encoder: FrameEncoder, weights: str | Path) -> str:
    """Put the encoder of exported weights ("default": the package's) into `encoder`.

    The experiment's views may meet, its keypoints be looked at again or more often, and its hands more
    closely, where those of the weights are not: at first that changes no pose. It may see what is around the
    person where the weights do not: that it has to get used to.

    Returns:
        the file's SHA-256.

    Raises:
        BiokinError: no such weights, or their encoder is not of the same preset.
    """
    loaded = load_checkpoint(weights)
    found, wanted = (encoder_alone(p) for p in (loaded.network.preset, encoder.preset))
    if wanted.hourglass.meeting.layers and not found.hourglass.meeting.layers:
        wanted = replace(wanted, hourglass=replace(wanted.hourglass, meeting=found.hourglass.meeting))
    wanted = replace(wanted, background=found.background)
    for part, size in (("look", "width"), ("hands", "channels")):
        new, old = getattr(wanted, part), getattr(found, part)
        if getattr(new, size) and not getattr(old, size):
            wanted = replace(wanted, **{part: old})
    if wanted.look.further > found.look.further:
        wanted = replace(wanted, look=replace(wanted.look, further=found.look.further))
    if found != wanted:
        raise BiokinError(
            f"{loaded.path}: its encoder (preset {found.name!r}) is not that of the experiment (preset "
            f"{wanted.name!r}); give the experiment file it was trained with."
        )
    state = loaded.network.encoder.state_dict()
    added = (".meeting.", "look.", "further.", "hands.")
    own = encoder.state_dict().items()
    state |= {name: value for name, value in own if name not in state and any(a in name for a in added)}
    encoder.load_state_dict(state)
    return loaded.sha256


class EncoderTask:
    """See `odah.train.Task`.

    Args:
        settings: see TrainSettings.
        fabric: launched and seeded.
        train, validation: folders of caches and data sets; new training shards are taken in at every epoch.
        output: folder of the run.
    """

    stage = "encoder"

    def __init__(
        self,
        settings: TrainSettings,
        fabric: Fabric,
        train: Sequence[str | Path],
        validation: Sequence[str | Path],
        output: Path,
    ):
        self.settings, self.fabric = settings, fabric
        self.batch_size, self.learning_rate = settings.batch_size, settings.learning_rate
        self.epochs, self.shards = settings.epochs, []
        self.skeleton = load_skeleton()
        self.module = FrameEncoder(settings.preset, self.skeleton).to(memory_format=torch.channels_last)
        layout = self.module.layout
        self.loss = FrameLoss(layout, settings.weights, settings.preset.rotations).to(fabric.device)
        augmentation = Augmentation(self.skeleton, **settings.augmentation)
        count = settings.preset.points.count
        self.maker = FrameMaker(copy.deepcopy(layout), count, augmentation).to(fabric.device)
        in_use = settings.preset.points.in_use
        self.plain = FrameMaker(copy.deepcopy(layout), in_use).to("cpu")  # where errors are counted
        self.folders = cached_folders(train, "train", output, settings, fabric=fabric)
        folders = cached_folders(validation, "val", output, settings, fabric=fabric)
        self.validation = ShardSet(find_shards(folders)) if folders else None
        share = fabric.global_rank, fabric.world_size
        self.stream = live_stream(settings, output / "rendered" / str(fabric.global_rank), share)
        self.mixture: Mixture | None = None
        self._starts: list[int] | None = None

    def start_from(self, weights: str | Path) -> str:
        """Take the encoder of exported weights; their SHA-256."""
        return load_encoder(self.module, weights)

    def begin(self, epoch: int) -> int:
        """See Task."""
        if not self.shards and self.folders:
            self.shards = self.fabric.broadcast([str(p) for p in find_shards(self.folders)])
        settings, shares = self.settings, self.settings.data.shares
        self.mixture = Mixture(
            pools_of(self.shards, self.folders if shares else None),
            settings.batch_size,
            settings.seed,
            shares or None,
            self.stream,
            settings.data.render,
            (self.fabric.global_rank, self.fabric.world_size),
        )
        if self._starts is not None:
            self.mixture.starts = self._starts
        return len(self.mixture)

    def batches(self, epoch: int, start: int) -> Iterator[tuple]:
        """See Task."""
        ahead, workers = self.settings.ahead, self.settings.workers
        return epoch_batches(self.mixture, self.maker, epoch, start, ahead, workers)

    def finish(self, epoch: int) -> None:
        """See Task."""
        self.mixture.finish(epoch)
        self._starts = self.mixture.starts

    def losses(self, module: nn.Module, batch: tuple) -> dict[str, torch.Tensor]:
        """See Task."""
        frames, truth = batch
        return self.loss(module(frames), truth, (frames.K, frames.R, frames.t), frames.images.shape[-1])

    def state(self) -> dict:
        """Places in the streams of rendered pairs."""
        return {"streams": self._starts or []}

    def restore(self, state: dict) -> None:
        """See Task."""
        self._starts = state.get("streams") or None

    @torch.no_grad()
    def validate(self, module: FrameEncoder):
        """Errors on validation pairs, beside those of always answering the median pose."""
        if self.validation is None:
            return None
        return validate_encoder(
            module, self.validation, self.plain, self.settings.validation_frames, self.fabric
        )


def live_stream(settings: TrainSettings, folder: Path, share: tuple[int, int]) -> LiveShards | None:
    """The stream of rendered pairs that [data] asks for."""
    data = settings.data
    if not data.render:
        return None
    if settings.workers:
        raise BiokinError(
            f"[train] workers is {settings.workers}, but [data] render is {data.render:g}: workers read "
            "caches; what is rendered on the fly has render_workers. Set one of the two to 0."
        )
    live = LiveSettings(
        data.render_seed,
        data.render_subjects,
        settings.preset.size,
        data.render_motions,
        data.render_workers,
    )
    return LiveShards(live, folder, share)


def pools_of(shards: Sequence[str], folders: Sequence[str] | None) -> list[ShardSet]:
    """Shards as one pool, or as one for each folder."""
    if folders is None:
        return [ShardSet(shards)] if shards else []
    pools = []
    for folder in folders:
        own = [s for s in shards if Path(folder) in (Path(s), *Path(s).parents)]
        if not own:
            raise BiokinError(f"{folder}: no shards; each folder that has a share needs some.")
        pools.append(ShardSet(own))
    return pools


def validate_encoder(
    encoder: FrameEncoder, shards: ShardSet, maker: FrameMaker, limit: int, fabric: Fabric
) -> tuple[dict, object, str]:
    """Errors of an encoder on `limit` pairs spread over the shards, a picture of some, and a text."""
    errors = Errors(maker.layout)
    direct, count = 0.0, 0
    hands: list[torch.Tensor] = []
    wanted, sheet = [], None
    for batch, truth in ordered_batches(shards, maker, 32, limit=limit):
        with fabric.autocast():
            out = encoder(fabric.to_device(batch))
        out = apply_to_collection(out, torch.Tensor, lambda tensor: tensor.float().cpu())
        errors.add(out.pose, truth.pose)
        wanted.append(truth.pose.constrained)
        if out.keypoints is not None:
            gap = out.keypoints - truth.keypoints[:, : out.keypoints.shape[1]]
            direct, count = direct + float(gap.norm(dim=-1).mean(1).sum()), count + len(gap)
        if out.hands is not None:
            sides = wrist_sides(truth.keypoints, maker.layout.skeleton)
            hands.append(hand_degrees(join_views(out.hands), sides))
        if sheet is None:
            few = [
                apply_to_collection(x, torch.Tensor, lambda t: t[:_SHOWN]) for x in (batch, truth, out.pose)
            ]
            sheet = validation_sheet(*few, maker.layout)
    summary = errors.summary()
    summary["keypoints_mm"] = 1000 * direct / max(count, 1)
    if hands:
        summary["hands_deg"] = torch.cat(hands).mean().item()
    wanted = torch.cat(wanted)
    summary["mean_pose_deg"] = mean_pose_baseline(wanted, wanted)["mean"]
    angles = " ".join(f"{k}={v:.1f}" for k, v in summary["constrained_deg"].items())
    text = (
        f"{summary['constrained_mae_deg']:.2f} deg (median pose {summary['mean_pose_deg']:.2f}), "
        f"rotations {summary['rotation_deg']}, keypoints {summary['keypoints_mm']:.0f} mm, "
        f"PA-MPJPE {summary['pa_mpjpe_mm']:.0f} mm, scales {summary['scale_mae']:.3f}"
    )
    if hands:
        text += f", hands {summary['hands_deg']:.1f} deg"
    text += f"\n  {angles}"
    return summary, sheet, text
