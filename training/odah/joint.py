"""Encoder and refinement together, on windows of dense frames: the paper's second stage, or a fine-tuning of
both.

Batch normalisation keeps its running statistics: a batch is a few windows, all frames of which are alike.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from lightning.fabric import Fabric
from torch import Tensor, nn

from odah.augment import Augmentation
from odah.dataset import ShardSet, find_shards
from odah.losses import FrameLoss
from odah.metrics import Errors
from odah.refine import sequence_errors, sequence_loss
from odah.settings import TrainSettings
from odah.stages import cached_folders
from odah.windows import window_frames, window_rows
from pose2sim_biokin.errors import BiokinError
from pose2sim_biokin.network.biokin import BiokinNetwork, FrameBatch, FrameOutput
from pose2sim_biokin.network.checkpoint import load_checkpoint
from pose2sim_biokin.network.heads import Pose
from pose2sim_biokin.network.presets import encoder_alone
from pose2sim_biokin.network.sequence import refine_windows, turn_pose
from pose2sim_biokin.skeleton import load_skeleton
from pose2sim_biokin.skeleton.kinematics import ForwardKinematics
from pose2sim_biokin.vision.canonical import ground_from_canonical_ground


class JointNetwork(BiokinNetwork):
    """The whole network with a forward pass over windows; the same weights."""

    def forward(self, frames: FrameBatch, turn: Tensor, origin: Tensor) -> tuple[FrameOutput, Pose]:
        """What the encoder says of W T frames in their canonical ground, and the refined poses (W, T) in the
        world's ground, with scales (W, 1, nb, 3).

        Args:
            frames: W windows of T frames, one after the other.
            turn, origin: (W T, 3, 3), (W T, 3) of each frame's canonical ground in the world's ground.
        """
        out = self.encoder(frames)
        with torch.autocast(turn.device.type, enabled=False):
            pose = turn_pose(out.pose, turn, origin)
            pose, local, headings = (self._windows(part) for part in (pose, out.local, turn))
            return out, refine_windows(self.refiner, pose, local, headings)

    def _windows(self, part):
        if part is None or isinstance(part, Tensor):
            return None if part is None else part.float().unflatten(0, (-1, self.preset.refinement.window))
        return Pose(*(self._windows(p) for p in part))

    def train(self, mode: bool = True) -> JointNetwork:
        """Batch normalisation stays as it is."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
        return self


class JointTask:
    """See `odah.loop.Task`.

    Args:
        settings: see TrainSettings.
        fabric: launched and seeded.
        train, validation: folders of dense caches, and data sets of clips.
        output: folder of the run.
    """

    stage = "joint"

    def __init__(
        self,
        settings: TrainSettings,
        fabric: Fabric,
        train: Sequence[str | Path],
        validation: Sequence[str | Path],
        output: Path,
    ):
        size = settings.preset.refinement
        if size is None:
            raise BiokinError("The preset has no refinement: there is nothing to train jointly.")
        if settings.data.render:
            raise BiokinError(
                "[data] render gives single frames; the joint training needs windows: render = 0."
            )
        self.settings, self.fabric, self.size = settings, fabric, size
        self.batch_size, self.learning_rate = settings.joint_batch, settings.joint_learning_rate
        self.epochs = 0 if settings.steps else settings.joint_epochs
        self.shards: list[str] = []
        self.skeleton = load_skeleton()
        self.module = JointNetwork(settings.preset, self.skeleton)
        self.module.encoder.to(memory_format=torch.channels_last)
        layout = self.module.layout
        self.loss = FrameLoss(layout, settings.weights, settings.preset.rotations).to(fabric.device)
        self.kinematics = ForwardKinematics(self.skeleton).to(fabric.device)
        self.layout = copy.deepcopy(layout).to("cpu")  # where windows are made
        self.augmentation = Augmentation(self.skeleton, **settings.augmentation)
        self.folders = cached_folders(train, "train", output, settings, dense=True, fabric=fabric)
        folders = cached_folders(validation, "val", output, settings, dense=True, fabric=fabric)
        self.validation = ShardSet(find_shards(folders)) if folders else None
        self.data, self.rows = None, np.zeros((0, size.window), int)

    def start_from(self, weights: str | Path) -> str:
        """Take exported weights: the encoder, and the refinement if it is of the same preset.

        Returns:
            the file's SHA-256.

        Raises:
            BiokinError: no such weights, or their encoder is not of the same preset.
        """
        loaded = load_checkpoint(weights)
        found, wanted = loaded.network.preset, self.settings.preset
        if encoder_alone(found) != encoder_alone(wanted):
            raise BiokinError(
                f"{loaded.path}: its encoder (preset {found.name!r}) is not that of the experiment (preset "
                f"{wanted.name!r}); give the experiment file it was trained with."
            )
        self.module.encoder.load_state_dict(loaded.network.encoder.state_dict())
        if found.refinement == wanted.refinement:
            self.module.refiner.load_state_dict(loaded.network.refiner.state_dict())
        return loaded.sha256

    def begin(self, epoch: int) -> int:
        """See Task."""
        if not self.shards:
            self.shards = self.fabric.broadcast([str(p) for p in find_shards(self.folders)])
        self.data = ShardSet(self.shards)
        self.rows = window_rows(self.data, self.size.window, self.size.rate)
        if len(self.rows) < self.batch_size:
            raise BiokinError(f"{len(self.rows)} windows are fewer than a batch of {self.batch_size}.")
        return len(self.rows) // self.batch_size

    def batches(self, epoch: int, start: int) -> Iterator[tuple]:
        """See Task."""
        seed, size = self.settings.seed, self.batch_size
        order = np.random.default_rng([seed, epoch]).permutation(len(self.rows))
        rank, world = self.fabric.global_rank, self.fabric.world_size
        for number in range(start, len(order) // size):
            rng = np.random.default_rng([seed, epoch, number, rank])
            chosen = order[number * size : (number + 1) * size][rank::world]
            yield self._batch(self.data, self.rows[chosen], self.augmentation, rng)

    def finish(self, epoch: int) -> None:
        """Nothing is left over."""

    def losses(self, module: nn.Module, batch: tuple) -> dict[str, Tensor]:
        """The losses of the single frames, "sequence" of the refined windows, and "loss", their sum."""
        frames, truth, turn, origin = batch
        out, refined = module(frames, turn, origin)
        terms = self.loss(out, truth, (frames.K, frames.R, frames.t), frames.images.shape[-1])
        wanted = self._windows_of_truth(truth, turn, origin)
        terms["sequence"] = sequence_loss(
            refined, wanted, self.loss.layout, self.kinematics, self.settings.weights
        )
        terms["loss"] = terms["loss"] + terms["sequence"]
        return terms

    def state(self) -> dict:
        """Nothing."""
        return {}

    def restore(self, state: dict) -> None:
        """Nothing."""

    @torch.no_grad()
    def validate(self, module: JointNetwork):
        """Errors of single frames and of refined windows; the score is that of the windows."""
        if self.validation is None:
            return None
        rows = window_rows(self.validation, self.size.window, self.size.rate)
        limit = max(1, self.settings.validation_frames // self.size.window)
        rows = rows[np.linspace(0, len(rows) - 1, min(limit, len(rows))).round().astype(int)]
        poses, truths, errors = [], [], Errors(self.layout)
        for window in rows:
            rng = np.random.default_rng([self.settings.seed, int(window[0])])
            batch = self._batch(self.validation, window[None], None, rng)
            frames, truth, turn, origin = self.fabric.to_device(batch)
            with self.fabric.autocast():
                out, refined = module(frames, turn, origin)
            errors.add(_cpu(out.pose), _cpu(truth.pose))
            wanted = self._windows_of_truth(truth, turn, origin)
            refined = refined._replace(scales=refined.scales.expand_as(wanted.scales))
            poses.append(_cpu(refined))
            truths.append(_cpu(wanted))
        found = sequence_errors(_join(poses), _join(truths), self.size.rate)
        frames = errors.summary()
        summary = {**found, "constrained_mae_deg": found["constrained_deg"], "frames": frames}
        text = f"{found['constrained_deg']:.2f} deg (single frames {frames['constrained_mae_deg']:.2f}), " + (
            ", ".join(f"{name} {value:.3f}" for name, value in found.items())
        )
        return summary, None, text

    def _batch(self, shards: ShardSet, rows: np.ndarray, augmentation, rng: np.random.Generator) -> tuple:
        """Frames, truth, and the canonical frames' rotations and origins, of windows, rows (W, T)."""
        points = self.settings.preset.points
        count = points.in_use if augmentation is None else points.count
        made = [window_frames(self.layout, count, shards, window, augmentation, rng) for window in rows]
        frames, truth = (_concatenated(parts) for parts in zip(*made, strict=True))
        turn, origin = ground_from_canonical_ground(truth.frame)
        return frames, truth, turn, origin

    def _windows_of_truth(self, truth, turn: Tensor, origin: Tensor) -> Pose:
        pose = turn_pose(truth.pose, turn, origin)
        return Pose(*(None if p is None else p.unflatten(0, (-1, self.size.window)) for p in pose))


def _concatenated(parts):
    """Nested tuples of tensors, one after the other."""
    if isinstance(parts[0], Tensor):
        return torch.cat(parts)
    return type(parts[0])(*(_concatenated(columns) for columns in zip(*parts, strict=True)))


def _cpu(pose: Pose) -> Pose:
    return Pose(*(None if part is None else part.float().cpu() for part in pose))


def _join(poses: list[Pose]) -> Pose:
    return Pose(*(None if p[0] is None else torch.cat(p) for p in zip(*poses, strict=True)))
