"""Train the bundled person segmenter from scratch: ``python -m odah.segmenter.train_segmenter --help``.

The network and its loss are ultralytics' YOLO11n-seg with one class; the loop is written out here so that it
never goes online, fits its learning-rate schedule to a number of minutes, and goes on where it stopped.
Samples are composed on the fly in a worker process. bfloat16 autocast on CPUs that have it halves the time;
``--processes`` share each batch.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import os
import time
from collections import deque
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch

from odah.segmenter.backgrounds import recolour
from odah.segmenter.composites import Composer, Sample, read_photographs, read_sprites
from odah.segmenter.frames import read_frames, split_frames

REPLAYED = 300  # samples kept to be used again
WARM_UP_STEPS = 100
FINAL_RATE = 0.02  # of the peak learning rate


class Samples(torch.utils.data.IterableDataset):
    """Endless samples; sprites that appear in the folder later are taken in when they do."""

    def __init__(
        self, frames: Path, sprites: Path | None, size: int, first_seed: int, photographs: Path | None = None
    ):
        self.frames, self.sprites, self.size, self.first_seed = frames, sprites, size, first_seed
        self.photographs = photographs

    def __iter__(self):
        cv2.setNumThreads(1)
        torch.set_num_threads(1)
        train, _ = split_frames(read_frames(self.frames))
        photographs = read_photographs(self.photographs) if self.photographs else []
        known, composer, seed = -1, None, self.first_seed
        recent: deque[Sample] = deque()
        while True:
            if seed % 2000 == self.first_seed % 2000:
                count = len(list(self.sprites.glob("*.png"))) if self.sprites else 0
                if count != known:
                    known = count
                    kept = composer._backgrounds if composer else {}
                    rendered = read_sprites(self.sprites) if self.sprites else []
                    composer = Composer(train, rendered, photographs, size=self.size)
                    composer._backgrounds = kept
            fresh = composer.sample(seed)
            yield fresh
            if (
                len(recent) == REPLAYED
            ):  # composing costs a third of a training step: every sample serves twice
                yield vary(np.random.default_rng([seed, 1]), recent.popleft())
            recent.append(fresh)
            seed += 1


def vary(rng: np.random.Generator, sample: Sample) -> Sample:
    """The sample mirrored and in other colours."""
    image = np.ascontiguousarray(sample.image[:, ::-1])
    image = np.clip(recolour(rng, image, 0.6), 0, 255).astype(np.uint8)
    return Sample(image, sample.instances[:, :, ::-1])


def collate(samples: list[Sample], mask_stride: int) -> dict[str, torch.Tensor]:
    """A batch for ultralytics' loss: img 0..1 RGB, boxes xywh 0..1, index-coded coarser masks."""
    size = samples[0].image.shape[0]
    coarse = size // mask_stride
    images = (
        torch.from_numpy(np.stack([s.image[..., ::-1] for s in samples])).permute(0, 3, 1, 2).float() / 255
    )
    masks = torch.zeros(len(samples), coarse, coarse)
    boxes, index = [], []
    for i, sample in enumerate(samples):
        for k, instance in enumerate(sample.instances):
            small = cv2.resize(instance.astype(np.float32), (coarse, coarse), interpolation=cv2.INTER_AREA)
            masks[i][torch.from_numpy(small > 0.5)] = k + 1
            x, y, width, height = cv2.boundingRect(instance.astype(np.uint8))
            boxes.append([x + width / 2, y + height / 2, width, height])
            index.append(i)
    return {
        "img": images,
        "masks": masks,
        "bboxes": torch.tensor(boxes, dtype=torch.float32).view(-1, 4) / size,
        "cls": torch.zeros(len(boxes), 1),
        "batch_idx": torch.tensor(index, dtype=torch.float32),
    }


def build_model(architecture: str, size: int):
    """A fresh one-class network with the loss settings of ultralytics."""
    from ultralytics.cfg import get_cfg
    from ultralytics.nn.tasks import SegmentationModel

    model = SegmentationModel(architecture, nc=1, verbose=False)
    model.args = get_cfg(overrides={"task": "segment", "imgsz": size, "model": architecture})
    model.names = {0: "person"}
    return model


def export(model, path: Path, size: int, architecture: str) -> None:
    """Write a half-precision checkpoint that ``ultralytics.YOLO(path)`` loads; atomic."""
    half = copy.deepcopy(model).half().to(memory_format=torch.contiguous_format).eval()
    half.criterion = None
    half.args = {"task": "segment", "imgsz": size, "model": architecture}
    for parameter in half.parameters():
        parameter.requires_grad = False
    checkpoint = {"epoch": -1, "model": half, "ema": None, "optimizer": None, "train_args": half.args}
    temporary = path.with_suffix(".tmp")
    torch.save(checkpoint, temporary)
    temporary.replace(path)


def to_float(value):
    """float32 copies of the tensors of a nest of dicts, lists and tuples."""
    if isinstance(value, torch.Tensor):
        return value.float()
    if isinstance(value, dict):
        return {k: to_float(v) for k, v in value.items()}
    return type(value)(to_float(v) for v in value)


def train(options: argparse.Namespace) -> None:
    """The whole training; returns when the minutes are used up."""
    from lightning.fabric import Fabric

    fabric = Fabric(
        accelerator="cpu",
        devices=options.processes,
        strategy="ddp" if options.processes > 1 else "auto",
        precision="32-true",
    )
    fabric.launch()
    torch.manual_seed(0)
    output = options.output
    output.mkdir(parents=True, exist_ok=True)
    model = build_model(options.architecture, options.size).to(memory_format=torch.channels_last)
    average = copy.deepcopy(model).eval()
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": 0.02}, {"params": others, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=options.rate, betas=(0.9, 0.999))
    step, seconds, seen = 0, 0.0, 0
    last = output / "last.pt"
    if last.exists():
        state = torch.load(last, map_location="cpu", weights_only=True)
        model.load_state_dict(state["model"])
        average.load_state_dict(state["average"])
        optimiser.load_state_dict(state["optimiser"])
        step, seconds, seen = state["step"], state["seconds"], state["seen"]
        print(f"resumed at step {step}, {seconds / 60:.1f} min", flush=True)
    elif options.initial:
        earlier = torch.load(options.initial, map_location="cpu", weights_only=False)["model"].float()
        model.load_state_dict(earlier.state_dict())
        average.load_state_dict(earlier.state_dict())
    network, optimiser = fabric.setup(model, optimiser)
    samples = Samples(
        options.frames,
        options.sprites,
        options.size,
        first_seed=seen + 1_000_003 * (options.seed + fabric.global_rank),
        photographs=options.photographs,
    )
    loader = torch.utils.data.DataLoader(
        samples,
        batch_size=options.batch // options.processes,
        collate_fn=partial(collate, mask_stride=options.mask_stride),
        num_workers=1,
        prefetch_factor=4,
    )
    budget, sums = options.minutes * 60, np.zeros(4)
    model.train()
    clock = time.monotonic()
    for batch in loader:
        progress = min(seconds / budget, 1.0)
        rate = FINAL_RATE + (1 - FINAL_RATE) * 0.5 * (1 + math.cos(math.pi * progress))
        for group in optimiser.param_groups:
            group["lr"] = options.rate * rate * min(1, (step + 1) / WARM_UP_STEPS)
        images = batch["img"].to(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16, enabled=options.bfloat16):
            predictions = network(images)
        loss, parts = model.loss(batch, to_float(predictions))
        optimiser.zero_grad(set_to_none=True)
        # of a process's share of the batch; the processes' gradients are averaged
        fabric.backward(loss.sum() * options.processes / options.batch)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        optimiser.step()
        step, seen = step + 1, seen + options.batch
        keep = 0.999 * (1 - math.exp(-step / 300))
        with torch.no_grad():
            for mean, value in zip(average.state_dict().values(), model.state_dict().values(), strict=True):
                if mean.is_floating_point():
                    mean.lerp_(value, 1 - keep)
                else:
                    mean.copy_(value)
        now = time.monotonic()
        # of the first process: all stop at the same step
        seconds, clock = fabric.broadcast(seconds + now - clock), now
        sums += [float(parts[k]) for k in ("box_loss", "seg_loss", "cls_loss", "dfl_loss")]
        done = seconds >= min(budget, 60 * (options.until or options.minutes))
        if fabric.is_global_zero and (step % 50 == 0 or done):
            means = sums / (step % 50 or 50)
            record = {"step": step, "seen": seen, "minutes": round(seconds / 60, 2)}
            record |= dict(zip(("box", "seg", "cls", "dfl"), means.round(4).tolist(), strict=True))
            print(json.dumps(record), flush=True)
            sums[:] = 0
        if fabric.is_global_zero and (step % options.save_every == 0 or done):
            state = {"model": model.state_dict(), "average": average.state_dict(), "step": step}
            state |= {"optimiser": optimiser.state_dict(), "seconds": seconds, "seen": seen}
            torch.save(state, last.with_suffix(".tmp"))
            last.with_suffix(".tmp").replace(last)
            export(average, output / "segmenter.pt", options.size, options.architecture)
        if done:
            break


def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=Path, required=True, help="folder with images/*.jpg and masks/*.png")
    parser.add_argument("--sprites", type=Path, help="folder of rendered people (four-channel PNG)")
    parser.add_argument("--photographs", type=Path, help="folder of pictures without people, for backgrounds")
    parser.add_argument("--initial", type=Path, help="weights of an earlier training to start from")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument(
        "--minutes", type=float, default=75, help="wall time of the schedule, resumed runs included"
    )
    parser.add_argument("--until", type=float, help="stop at this many minutes, to go on at another --size")
    parser.add_argument("--architecture", default="yolo11n-seg.yaml")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--processes", type=int, default=1, help="that share each batch")
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--mask-stride", type=int, choices=(2, 4), default=4, help="2: finer masks, slower")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--save-every", type=int, default=100)
    parser.add_argument("--bfloat16", action="store_true")
    os.environ.setdefault("YOLO_OFFLINE", "true")
    train(parser.parse_args())


if __name__ == "__main__":
    main()
