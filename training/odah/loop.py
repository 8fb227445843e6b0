"""The loop of every stage of training: one run in one folder, which goes on exactly where it stopped."""

from __future__ import annotations

import math
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Protocol

import torch
from lightning.fabric import Fabric
from lightning.fabric.plugins.precision import MixedPrecision
from torch import nn

from odah.journal import Journal
from odah.settings import TrainSettings
from odah.weight_average import WeightAverage
from pose2sim_biokin.errors import BiokinError
from pose2sim_biokin.network.presets import Preset

CHECKPOINT, BEST = "checkpoint.pt", "best.pt"
SCORE = "constrained_mae_deg"  # of a validation; the lowest one's weights are kept


class Task(Protocol):
    """What is trained, on what, and what it is measured by.

    Attributes:
        stage: its name in checkpoints.
        module: what is trained; its forward pass is all that runs in mixed precision.
        batch_size: of all processes together.
        learning_rate: at its highest.
        epochs: after which the run ends; 0: it ends otherwise.
        shards: that the epoch draws from, by name; [] before it has begun.
    """

    stage: str
    module: nn.Module
    batch_size: int
    learning_rate: float
    epochs: int
    shards: list[str]

    def begin(self, epoch: int) -> int:
        """Find the data of an epoch, or what `shards` names; the number of its batches."""
        ...

    def batches(self, epoch: int, start: int) -> Iterator[tuple]:
        """Batches, from batch `start` on."""
        ...

    def finish(self, epoch: int) -> None:
        """An epoch is over."""
        ...

    def losses(self, module: nn.Module, batch: tuple) -> dict[str, torch.Tensor]:
        """Terms by name, and "loss"."""
        ...

    def validate(self, module: nn.Module) -> tuple[dict, object, str] | None:
        """Errors (SCORE among them), a picture or None, and a text; None without validation data."""
        ...

    def state(self) -> dict:
        """What else a checkpoint must hold; plain."""
        ...

    def restore(self, state: dict) -> None:
        """The reverse of `state`."""
        ...


def learning_rate(settings: TrainSettings, step: int, progress: float, highest: float | None = None) -> float:
    """Warm-up by steps; held for two fifths of the run (`progress` 0..1); a cosine down to 2 %."""
    warm = min(1.0, (step + 1) / settings.warmup)
    falling = min(max((progress - 0.4) / 0.6, 0.0), 1.0)
    highest = settings.learning_rate if highest is None else highest
    return highest * warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * falling)))


def save_atomically(state: dict, path: Path) -> None:
    """torch.save beside the target, then put in its place."""
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    os.replace(partial, path)


class NetworkPrecision(MixedPrecision):
    """The network under autocast, but its input as it is: cameras and points need all their digits."""

    def convert_input(self, data):
        """See Precision."""
        return data

    def convert_output(self, data):
        """See Precision."""
        return data


def make_fabric(settings: TrainSettings, processes: int = 1) -> Fabric:
    """Fabric for this machine, launched and seeded: a GPU or the CPU, or what `fabric run` was told."""
    told = "LT_CLI_USED" in os.environ  # its processes are there already
    plugins = []
    if settings.precision == "bf16-mixed":
        device = (
            "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
        )
        plugins = [NetworkPrecision("bf16-mixed", device)]
    fabric = Fabric(
        accelerator="auto",
        devices="auto" if told else processes,
        strategy="ddp" if processes > 1 and not told else "auto",
        plugins=plugins,
    )
    if not told:
        fabric.launch()
    fabric.seed_everything(settings.seed)
    return fabric


@contextmanager
def stop_signals() -> Iterator[list]:
    """A list that is empty until the run is asked to end (Ctrl+C, SIGTERM): it then ends after its step."""
    asked: list = []
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return

    def ask(number, frame) -> None:
        if asked:  # the second time at once
            raise KeyboardInterrupt
        asked.append(number)

    before = {name: signal.signal(name, ask) for name in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)


class Loop:
    """One run in one output folder: checkpoint.pt (the last state), best.pt (the best averaged weights), and
    what `odah.journal` writes.

    Args:
        settings: see TrainSettings.
        task: see Task.
        fabric: launched.
        output: folder of the run.
        hours: of training in all, also over several starts; None: none that ends it.
        about: kept in the checkpoints; "initial" among it.
        tensorboard: see Journal.
    """

    def __init__(
        self,
        settings: TrainSettings,
        task: Task,
        fabric: Fabric,
        output: Path,
        hours: float | None,
        about: dict,
        tensorboard: bool = True,
    ):
        self.settings, self.task, self.fabric, self.output = settings, task, fabric, output
        self.budget_s = math.inf if hours is None else hours * 3600
        self.by_clock = not settings.steps and not task.epochs
        self.module, self.about = task.module, about
        decayed = [p for p in self.module.parameters() if p.requires_grad and p.ndim >= 2]
        others = [p for p in self.module.parameters() if p.requires_grad and p.ndim < 2]
        optimizer = torch.optim.AdamW(
            [
                {"params": decayed, "weight_decay": settings.weight_decay},
                {"params": others, "weight_decay": 0.0},
            ],
            lr=task.learning_rate,
            betas=settings.betas,
            fused=True,
        )
        self.average = WeightAverage(self.module, settings.ema)
        self.wrapped, self.optimizer = fabric.setup(self.module, optimizer)
        self.average.to(fabric.device)
        self.step = self.epoch = self.batch = self.pairs = 0
        self.elapsed_s, self.best, self.validated = 0.0, math.inf, -1
        self._pending: list[torch.Tensor] = []
        self._terms: list[str] = []
        if (output / CHECKPOINT).is_file():
            self._resume()
        self.journal = Journal(output, self.step, tensorboard) if fabric.is_global_zero else None

    def run(self, max_steps: int | None = None) -> None:
        """Train to the end, or until `max_steps` steps are done in all."""
        began, logged = time.monotonic() - self.elapsed_s, self.step
        last = dict.fromkeys(("log", "check", "validate"), self.elapsed_s)
        with stop_signals() as stop, closing(self):
            while not self._is_over(max_steps):
                count = self.task.begin(self.epoch)
                for batch in self.task.batches(self.epoch, self.batch):
                    self._train_step(batch, count)
                    self.elapsed_s, stopped = self._shared((time.monotonic() - began, bool(stop)))
                    if stopped:
                        self.save()
                        raise KeyboardInterrupt
                    if self.step % self.settings.log_steps == 0:
                        done = (self.step - logged) * self.task.batch_size
                        self._log(done / max(self.elapsed_s - last["log"], 1e-9))
                        last["log"], logged = self.elapsed_s, self.step
                    if self.elapsed_s - last["check"] > self.settings.checkpoint_s:
                        self.save()
                        last["check"] = self.elapsed_s
                    if self.elapsed_s - last["validate"] > self.settings.validate_s:
                        self.validate()
                        last["validate"] = self.elapsed_s
                    if self._is_over(max_steps):
                        break
                if self.batch == count:
                    self.task.finish(self.epoch)
                    self.epoch, self.batch, self.task.shards = self.epoch + 1, 0, []
            if self.validated != self.step:
                self.validate()
            self.save()

    def close(self) -> None:
        """Finish the log."""
        if self.journal is not None:
            self.journal.close()

    def progress(self, count: int) -> float:
        """Share 0..1 of the run that is done; `count` batches make an epoch."""
        if self.settings.steps:
            return self.step / self.settings.steps
        if self.task.epochs:
            return (self.epoch + self.batch / count) / self.task.epochs
        return self.elapsed_s / self.budget_s

    def _is_over(self, max_steps: int | None) -> bool:
        limits = [limit for limit in (self.settings.steps, max_steps) if limit]
        return (
            self.elapsed_s >= self.budget_s
            or any(self.step >= limit for limit in limits)
            or (0 < self.task.epochs <= self.epoch)
        )

    def _shared(self, value: tuple) -> tuple:
        """The first process's value."""
        return self.fabric.broadcast(value) if self.fabric.world_size > 1 else value

    def _train_step(self, batch: tuple, count: int) -> None:
        settings = self.settings
        progress = self.progress(count)
        rate = learning_rate(settings, self.step, progress, self.task.learning_rate)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.wrapped.train()
        terms = self.task.losses(self.wrapped, self.fabric.to_device(batch))
        self.optimizer.zero_grad(set_to_none=True)
        self.fabric.backward(terms["loss"])
        norm = self.fabric.clip_gradients(
            self.wrapped, self.optimizer, max_norm=settings.clip, error_if_nonfinite=False
        )
        if torch.isfinite(norm):
            self.optimizer.step()
            self.average.update(self.module)
        self.step, self.batch = self.step + 1, self.batch + 1
        self.pairs += self.task.batch_size
        self._terms = [*terms, "lr"]
        values = [value.detach().float() for value in terms.values()]
        self._pending.append(torch.stack([*values, values[0].new_tensor(rate)]))
        if self.journal is not None:
            self.journal.progress(progress, self.step)

    def _log(self, rate: float) -> None:
        mean = torch.stack(self._pending).double().mean(0).tolist()
        self._pending = []
        place = {"step": self.step, "epoch": self.epoch, "pairs": self.pairs, "minutes": self.elapsed_s / 60}
        if self.journal is not None:
            self.journal.metrics(place | dict(zip(self._terms, mean, strict=True)) | {"pairs_per_s": rate})

    def validate(self) -> dict | None:
        """Errors of the averaged weights, logged; the weights are kept if they are the best ones yet."""
        if not self.fabric.is_global_zero:
            return None
        with self.average.applied(self.module):
            found = self.task.validate(self.module)
        if found is None:
            return None
        summary, picture, text = found
        self.validated = self.step
        summary |= {"step": self.step, "pairs": self.pairs, "hours": self.elapsed_s / 3600}
        self.journal.validation(summary, picture, f"[validation] step {self.step}: {text}")
        if summary[SCORE] < self.best:
            self.best = summary[SCORE]
            save_atomically(self._content() | {"validation": summary}, self.output / BEST)
        return summary

    def save(self) -> None:
        """Write checkpoint.pt."""
        if not self.fabric.is_global_zero:
            return
        pending = torch.stack(self._pending).cpu() if self._pending else torch.zeros(0)
        state = {
            self.task.stage: self.module.state_dict(),
            "average_steps": self.average.steps,
            "optimizer": self.optimizer.state_dict(),
            "random": torch.get_rng_state(),
            "shards": self.task.shards,
            "best": self.best,
            "pending": pending,
            "terms": self._terms,
            "task": self.task.state(),
        }
        save_atomically(self._content() | state, self.output / CHECKPOINT)

    def _content(self) -> dict:
        """What both kinds of checkpoint hold, and `odah.export` reads."""
        return {
            "average": {name: value.cpu() for name, value in self.average.state.items()},
            "place": [self.step, self.epoch, self.batch, self.pairs],
            "elapsed_s": self.elapsed_s,
            "preset": self.settings.preset.to_dict(),
            "batch_size": self.task.batch_size,
            **self.about,
        }

    def _resume(self) -> None:
        path = self.output / CHECKPOINT
        state = torch.load(path, map_location="cpu", weights_only=True)
        stage = self.task.stage
        if stage not in state:
            raise BiokinError(f"{path}: a run of another stage than {stage!r}; give another --output.")
        if Preset.from_dict(state["preset"]) != self.settings.preset:
            raise BiokinError(
                f"{path}: a run of another network (preset {state['preset'].get('name')!r}, other sizes); "
                "give its experiment file, or another --output."
            )
        before = state.get("batch_size", self.task.batch_size)
        if before != self.task.batch_size:
            raise BiokinError(
                f"{path}: a run with batches of {before}, not {self.task.batch_size}: its place in the data "
                "means nothing with others. Give the same batch size, or another --output."
            )
        self.module.load_state_dict(state[stage])
        self.average.load(state["average"], state["average_steps"])
        self.optimizer.load_state_dict(state["optimizer"])
        for group in self.optimizer.param_groups:
            group["fused"], group["foreach"] = True, None  # the first version's checkpoints say otherwise
        torch.set_rng_state(state["random"])
        self.step, self.epoch, self.batch, self.pairs = state["place"]
        self.elapsed_s, self.task.shards = state["elapsed_s"], state["shards"]
        self.best = state.get("best", math.inf)
        pending = state.get("pending", torch.zeros(0))
        self._pending, self._terms = [*pending.to(self.fabric.device)], state.get("terms", [])
        self.task.restore(state.get("task", {}))
        self.about["initial"] = state.get("initial")
        if self.fabric.is_global_zero:
            print(f"resumed at step {self.step}, {self.elapsed_s / 60:.1f} min", flush=True)
