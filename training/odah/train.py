"""Train the frame encoder on cached pairs: ``odah train --train DIR --validation DIR --output DIR``.

A run is told how many hours it has. It goes on exactly where its last checkpoint was written: weights, their
average, optimiser, random state, place in the epoch.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import os
import time
from dataclasses import asdict
from pathlib import Path

import torch
from lightning.fabric import Fabric
from lightning_utilities.core.apply_func import apply_to_collection

from odah.augment import Augmentation
from odah.dataset import FrameMaker, ShardSet, epoch_batches, find_shards, ordered_batches
from odah.losses import FrameLoss
from odah.metrics import Errors, mean_pose_baseline
from odah.settings import TrainSettings, read_settings
from pose2sim_biokin.errors import BiokinError
from pose2sim_biokin.network.biokin import FrameEncoder
from pose2sim_biokin.network.checkpoint import load_checkpoint
from pose2sim_biokin.network.presets import without_refinement
from pose2sim_biokin.skeleton import load_skeleton


class WeightAverage:
    """Exponential moving average of a module's weights and buffers; follows closely at first."""

    def __init__(self, module: torch.nn.Module, decay: float):
        self.decay, self.steps = decay, 0
        self.state = {name: value.detach().clone().float() for name, value in module.state_dict().items()}

    @torch.no_grad()
    def update(self, module: torch.nn.Module) -> None:
        """Take in the module's weights after a step."""
        self.steps += 1
        decay = min(self.decay, self.steps / (self.steps + 10))
        for name, value in module.state_dict().items():
            self.state[name].lerp_(value.detach().float(), 1 - decay)


def learning_rate(settings: TrainSettings, step: int, progress: float) -> float:
    """Warm-up by steps; held for two fifths of the run (`progress` 0..1); a cosine down to 2 %."""
    warm = min(1.0, (step + 1) / settings.warmup)
    falling = min(max((progress - 0.4) / 0.6, 0.0), 1.0)
    return settings.learning_rate * warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * falling)))


def save_atomically(state: dict, path: Path) -> None:
    """torch.save beside the target, then put in its place."""
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    os.replace(partial, path)


def load_encoder(encoder: FrameEncoder, weights: str | Path) -> str:
    """Put the encoder of exported weights ("default": the package's) into `encoder`.

    Returns:
        the file's SHA-256.

    Raises:
        BiokinError: no such weights, or their encoder is not of the same preset.
    """
    loaded = load_checkpoint(weights)
    found, wanted = (without_refinement(p) for p in (loaded.network.preset, encoder.preset))
    if found != wanted:
        raise BiokinError(
            f"{loaded.path}: its encoder (preset {found.name!r}) is not that of the experiment (preset "
            f"{wanted.name!r}); give the experiment file it was trained with."
        )
    encoder.load_state_dict(loaded.network.encoder.state_dict())
    return loaded.sha256


class Trainer:
    """One run in one output folder: checkpoint.pt, metrics.csv, validation.jsonl, settings.json.

    Args:
        settings: see TrainSettings.
        train, validation: folders of shards; new training shards are taken in at every epoch.
        output: folder of the run.
        hours: of training in all, also over several starts.
        threads: CPU threads of each process.
        processes: each takes a share of every batch. Processes wait for one another once a step, the threads
            of one process many times: quicker on a busy machine.
        initial: exported weights ("default": the package's) whose encoder a new run starts from; a run that
            goes on has its own.
    """

    def __init__(
        self,
        settings: TrainSettings,
        train: list[str],
        validation: list[str],
        output: str | Path,
        hours: float,
        threads: int | None = None,
        processes: int = 1,
        initial: str | Path | None = None,
    ):
        if threads:
            torch.set_num_threads(threads)
        self.settings, self.train_folders, self.output = settings, train, Path(output)
        self.output.mkdir(parents=True, exist_ok=True)
        self.budget_s = hours * 3600
        self.fabric = Fabric(
            accelerator="auto",
            devices=processes,
            strategy="ddp" if processes > 1 else "auto",
            precision="32-true",
        )
        self.fabric.launch()
        self.fabric.seed_everything(settings.seed)
        self.skeleton = load_skeleton()
        encoder = FrameEncoder(settings.preset, self.skeleton).to(memory_format=torch.channels_last)
        checkpoint = self.output / "checkpoint.pt"
        self.initial = None
        if initial is not None and not checkpoint.is_file():
            self.initial = load_encoder(encoder, initial)
        decayed = [p for p in encoder.parameters() if p.ndim >= 2]
        others = [p for p in encoder.parameters() if p.ndim < 2]
        optimizer = torch.optim.AdamW(
            [
                {"params": decayed, "weight_decay": settings.weight_decay},
                {"params": others, "weight_decay": 0.0},
            ],
            lr=settings.learning_rate,
            betas=settings.betas,
        )
        self.average, self.module = WeightAverage(encoder, settings.ema), encoder
        self.encoder, self.optimizer = self.fabric.setup(encoder, optimizer)
        layout = self.module.layout
        self.loss = FrameLoss(layout, settings.weights, settings.preset.rotations).to(self.fabric.device)
        augmentation = Augmentation(self.skeleton, **settings.augmentation)
        count = settings.preset.points.count
        self.maker, self.plain = FrameMaker(layout, count, augmentation), FrameMaker(layout, count)
        self.validation = ShardSet(find_shards(validation)) if validation else None
        self.step = self.epoch = self.batch = self.pairs = 0
        self.elapsed_s, self.shards = 0.0, []
        if checkpoint.is_file():
            self._resume()
        if self.fabric.is_global_zero:
            (self.output / "settings.json").write_text(
                json.dumps(asdict(settings), indent=1), encoding="utf-8"
            )

    def run(self, max_steps: int | None = None) -> None:
        """Train until the hours are spent or `max_steps` steps are done in all."""
        began = time.monotonic() - self.elapsed_s
        last = dict.fromkeys(("log", "check", "validate"), self.elapsed_s)
        sums: dict[str, float] = {}
        logged = self.step
        while self.elapsed_s < self.budget_s and (max_steps is None or self.step < max_steps):
            if not self.shards:
                self.shards = self.fabric.broadcast([str(p) for p in find_shards(self.train_folders)])
            data = ShardSet(self.shards)
            batches = epoch_batches(
                data,
                self.maker,
                self.settings.batch_size,
                self.settings.seed,
                self.epoch,
                self.batch,
                (self.fabric.global_rank, self.fabric.world_size),
            )
            for batch, truth in batches:
                terms = self._train_step(batch, truth)
                for name, value in terms.items():
                    sums[name] = sums.get(name, 0.0) + value
                self.elapsed_s = self.fabric.broadcast(time.monotonic() - began)
                if self.step - logged >= 25:
                    mean = {name: value / (self.step - logged) for name, value in sums.items()}
                    rate = (self.step - logged) * self.settings.batch_size / (self.elapsed_s - last["log"])
                    self._log(mean | {"pairs_per_s": rate})
                    sums, logged, last["log"] = {}, self.step, self.elapsed_s
                if self.elapsed_s - last["check"] > self.settings.checkpoint_s:
                    self.save()
                    last["check"] = self.elapsed_s
                if self.elapsed_s - last["validate"] > self.settings.validate_s:
                    self.validate()
                    last["validate"] = self.elapsed_s
                if self.elapsed_s >= self.budget_s or (max_steps is not None and self.step >= max_steps):
                    break
            else:
                self.epoch, self.batch, self.shards = self.epoch + 1, 0, []
                if len(data) < self.settings.batch_size:
                    raise ValueError(
                        f"{len(data)} pairs are fewer than a batch of {self.settings.batch_size}"
                    )
        self.save()
        self.validate()

    def _train_step(self, batch, truth) -> dict[str, float]:
        settings = self.settings
        rate = learning_rate(settings, self.step, self.elapsed_s / self.budget_s)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        batch, truth = self.fabric.to_device((batch, truth))
        self.encoder.train()
        with self._autocast():
            out = self.encoder(batch)
        terms = self.loss(out, truth, (batch.K, batch.R, batch.t), batch.images.shape[-1])
        self.optimizer.zero_grad(set_to_none=True)
        self.fabric.backward(terms["loss"])
        norm = self.fabric.clip_gradients(
            self.encoder, self.optimizer, max_norm=settings.clip, error_if_nonfinite=False
        )
        if torch.isfinite(norm):
            self.optimizer.step()
            self.average.update(self.module)
        self.step, self.batch, self.pairs = self.step + 1, self.batch + 1, self.pairs + settings.batch_size
        return {name: float(value.detach()) for name, value in terms.items()} | {"lr": rate}

    @torch.no_grad()
    def validate(self) -> dict | None:
        """Errors of the averaged weights on validation pairs; printed and appended to validation.jsonl."""
        if self.validation is None or not self.fabric.is_global_zero:
            return None
        encoder = FrameEncoder(self.settings.preset, self.skeleton)
        encoder.load_state_dict(self.average.state)
        encoder = encoder.to(self.fabric.device, memory_format=torch.channels_last).eval()
        errors = Errors(self.plain.layout)
        direct, count = 0.0, 0
        wanted = []
        for batch, truth in ordered_batches(
            self.validation, self.plain, 32, limit=self.settings.validation_frames
        ):
            with self._autocast():
                out = encoder(self.fabric.to_device(batch))
            out = apply_to_collection(out, torch.Tensor, torch.Tensor.cpu)
            errors.add(out.pose, truth.pose)
            wanted.append(truth.pose.constrained)
            if out.keypoints is not None:
                gap = out.keypoints - truth.keypoints[:, : out.keypoints.shape[1]]
                direct, count = direct + float(gap.norm(dim=-1).mean(1).sum()), count + len(gap)
        summary = errors.summary()
        summary["keypoints_mm"] = 1000 * direct / max(count, 1)
        wanted = torch.cat(wanted)
        summary["mean_pose_deg"] = mean_pose_baseline(wanted, wanted)["mean"]
        summary |= {"step": self.step, "pairs": self.pairs, "hours": self.elapsed_s / 3600}
        with (self.output / "validation.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(summary) + "\n")
        angles = " ".join(f"{k}={v:.1f}" for k, v in summary["constrained_deg"].items())
        print(
            f"[validation] step {self.step}: {summary['constrained_mae_deg']:.2f} deg "
            f"(median pose {summary['mean_pose_deg']:.2f}), rotations {summary['rotation_deg']}, "
            f"keypoints {summary['keypoints_mm']:.0f} mm, PA-MPJPE {summary['pa_mpjpe_mm']:.0f} mm, "
            f"scales {summary['scale_mae']:.3f}\n  {angles}",
            flush=True,
        )
        return summary

    def _autocast(self) -> torch.autocast:
        """Mixed precision of the network alone: geometry and losses stay in float32."""
        kind = self.fabric.device.type
        return torch.autocast(kind, torch.bfloat16, enabled=self.settings.precision == "bf16-mixed")

    def save(self) -> None:
        """Write checkpoint.pt."""
        if not self.fabric.is_global_zero:
            return
        save_atomically(
            {
                "encoder": self.module.state_dict(),
                "average": self.average.state,
                "average_steps": self.average.steps,
                "optimizer": self.optimizer.state_dict(),
                "random": torch.get_rng_state(),
                "place": [self.step, self.epoch, self.batch, self.pairs],
                "elapsed_s": self.elapsed_s,
                "shards": self.shards,
                "preset": self.settings.preset.to_dict(),
                "initial": self.initial,
            },
            self.output / "checkpoint.pt",
        )

    def _resume(self) -> None:
        state = torch.load(self.output / "checkpoint.pt", map_location="cpu", weights_only=True)
        self.module.load_state_dict(state["encoder"])
        self.average.state, self.average.steps = state["average"], state["average_steps"]
        self.optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["random"])
        self.step, self.epoch, self.batch, self.pairs = state["place"]
        self.elapsed_s, self.shards = state["elapsed_s"], state["shards"]
        self.initial = state.get("initial")  # absent from the first version's checkpoints
        print(f"resumed at step {self.step}, {self.elapsed_s / 60:.1f} min", flush=True)

    def _log(self, values: dict[str, float]) -> None:
        if not self.fabric.is_global_zero:
            return
        row = {
            "step": self.step,
            "epoch": self.epoch,
            "pairs": self.pairs,
            "minutes": self.elapsed_s / 60,
        } | values
        path = self.output / "metrics.csv"
        new = not path.exists()
        with path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, fieldnames=list(row))
            if new:
                writer.writeheader()
            writer.writerow({k: f"{v:.5g}" if isinstance(v, float) else v for k, v in row.items()})
        print(" ".join(f"{k} {v:.4g}" for k, v in row.items()), flush=True)


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m odah.train", description=__doc__.splitlines()[0])
    parser.add_argument("--config", help="experiment file (TOML); the fast preset without one")
    parser.add_argument("--train", nargs="+", required=True, help="folders of training shards")
    parser.add_argument("--validation", nargs="*", default=[], help="folders of validation shards")
    parser.add_argument("--output", required=True, help="folder of the run")
    parser.add_argument("--hours", type=float, default=1.0, help="training time in all (default 1)")
    parser.add_argument("--threads", type=int, help="CPU threads of each process")
    parser.add_argument(
        "--processes", type=int, default=1, help="processes that share each batch (default 1)"
    )
    parser.add_argument("--steps", type=int, help="stop after this many steps")
    parser.add_argument(
        "--initial", help='exported weights that a new run starts from ("default": the package\'s)'
    )
    options = parser.parse_args(arguments)
    trainer = Trainer(
        read_settings(options.config),
        options.train,
        options.validation,
        options.output,
        options.hours,
        options.threads,
        options.processes,
        options.initial,
    )
    trainer.run(options.steps)


if __name__ == "__main__":
    main()
