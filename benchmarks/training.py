"""How fast the frame encoder is trained on the CPU, what the time goes to, and how much memory it takes.

The steps are those of `odah train` on a cache of crops (a small one is rendered if none is given). Time is
processor time, which other work on the machine disturbs less than wall time; memory is the process's largest.

    python benchmarks/training.py
    python benchmarks/training.py --config training/configs/fast.toml --batch 16 --cache DIR
    python benchmarks/training.py --against CHECKOUT     (another state of the project; in turns)
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[1]
_WARM_UP = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", type=Path, default=ROOT / "training" / "configs" / "fast.toml")
    parser.add_argument("--cache", type=Path, help="folder of shards")
    parser.add_argument("--backdrops", type=Path, help="file of `odah backdrops` (which fast.toml needs)")
    parser.add_argument("--batch", type=int, default=16, help="pairs (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=12, help="that are timed (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="(default: %(default)s)")
    parser.add_argument("--against", type=Path, help="another checkout, measured in turns with this one")
    parser.add_argument("--turns", type=int, default=3, help="of each (default: %(default)s)")
    parser.add_argument("--whole", action="store_true", help=argparse.SUPPRESS)  # one turn, as JSON
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as folder:
        cache = args.cache or render(Path(folder) / "cache")
        if args.whole:
            print(json.dumps(whole(args, cache, Path(folder) / "run")))
            return
        if args.against is None:
            shares(args, cache)
            found = {"this": [turn(args, cache, ROOT)]}
        else:
            checkouts = {"that": args.against.resolve(), "this": ROOT}
            found = {name: [] for name in checkouts}
            for _ in range(args.turns):
                for name, checkout in checkouts.items():
                    found[name].append(turn(args, cache, checkout))
    for name, turns in found.items():
        rate = np.array([values["pairs_per_cpu_s"] for values in turns])
        memory = max(values["peak_mb"] for values in turns)
        print(
            f"{name}: {np.median(rate):.1f} pairs a second of processor time ({rate.min():.1f} to "
            f"{rate.max():.1f} in {len(rate)} turns of {args.steps} steps of {args.batch}), "
            f"peak {memory:.0f} MB"
        )


def render(folder: Path) -> Path:
    """A cache of 64 pairs."""
    from odah.crops import Settings, generate

    generate(Settings("train", 4, 4, 16, False, 0, 128, 4, ""), folder)
    return folder


def turn(args: argparse.Namespace, cache: Path, checkout: Path) -> dict:
    """Steps of a checkout's trainer, in a process of its own."""
    command = [sys.executable, str(Path(__file__).resolve()), "--whole", "--cache", str(cache)]
    command += ["--config", str(args.config), "--batch", str(args.batch), "--steps", str(args.steps)]
    command += ["--threads", str(args.threads)]
    command += ["--backdrops", str(args.backdrops)] if args.backdrops else []
    path = os.pathsep.join([str(checkout / "training"), str(checkout)])
    environment = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    found = json.loads(done.stdout.splitlines()[-1])
    if not Path(found["package"]).resolve().is_relative_to(checkout):
        raise SystemExit(f"{found['package']} was measured, not {checkout}")
    return found


def whole(args: argparse.Namespace, cache: Path, output: Path) -> dict:
    """The trainer as it is: pairs a second of processor time, and the largest memory."""
    import odah
    from odah.settings import read_settings, with_backdrops
    from odah.train import Trainer

    settings = with_backdrops(read_settings(args.config), args.backdrops)
    settings = replace(settings, batch_size=args.batch, checkpoint_s=1e9, validate_s=1e9)
    trainer = Trainer(settings, [cache], [], output, 10.0, args.threads)
    trainer.save = lambda: None  # the disk is not what is measured
    trainer.run(max_steps=_WARM_UP)
    start = time.process_time()
    trainer.run(max_steps=_WARM_UP + args.steps)
    seconds = time.process_time() - start
    return {
        "package": odah.__file__,
        "pairs_per_cpu_s": args.steps * args.batch / seconds,
        "peak_mb": peak_mb(),
    }


def peak_mb() -> float:
    """The largest memory that this process has used, MB; NaN on Windows."""
    try:
        import resource
    except ImportError:
        return float("nan")
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used / 1e6 if sys.platform == "darwin" else used / 1e3


def shares(args: argparse.Namespace, cache: Path) -> None:
    """What the time of a step goes to."""
    from lightning.fabric import Fabric

    from odah.augment import Augmentation
    from odah.dataset import FrameMaker, ShardSet, find_shards
    from odah.losses import FrameLoss
    from odah.settings import read_settings, with_backdrops
    from odah.weight_average import WeightAverage
    from pose2sim_biokin.network.biokin import FrameEncoder
    from pose2sim_biokin.skeleton import load_skeleton

    settings = with_backdrops(read_settings(args.config), args.backdrops)
    skeleton = load_skeleton()
    fabric = Fabric(accelerator="cpu")
    encoder = FrameEncoder(settings.preset, skeleton).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(encoder.parameters(), lr=1e-4, fused=True)
    average = WeightAverage(encoder, settings.ema)
    loss = FrameLoss(encoder.layout, settings.weights, settings.preset.rotations)
    augmentation = Augmentation(skeleton, **settings.augmentation)
    maker = FrameMaker(encoder.layout, settings.preset.points.count)
    shards = ShardSet(find_shards([cache]))
    laps: dict[str, list[float]] = defaultdict(list)
    for step in range(_WARM_UP + args.steps):
        rng = np.random.default_rng(step)
        marks = [("", time.process_time())]

        def lap(name: str, marks=marks) -> None:
            marks.append((name, time.process_time()))

        raw = shards.rows(rng.integers(len(shards), size=args.batch))
        lap("reading")
        raw = augmentation(raw, rng)
        lap("augmentation")
        batch, truth = maker(raw, rng)
        lap("hull points and truth")
        with torch.autocast("cpu", torch.bfloat16, enabled=settings.precision == "bf16-mixed"):
            out = encoder(batch)
        lap("forward pass")
        terms = loss(out, truth, (batch.K, batch.R, batch.t), batch.images.shape[-1])
        lap("losses")
        optimizer.zero_grad(set_to_none=True)
        terms["loss"].backward()
        lap("backward pass")
        fabric.clip_gradients(encoder, fabric.setup_optimizers(optimizer), max_norm=settings.clip)
        optimizer.step()
        lap("optimiser")
        average.update(encoder)
        lap("average of the weights")
        if step >= _WARM_UP:
            for (_, before), (name, now) in zip(marks[:-1], marks[1:], strict=True):
                laps[name].append(now - before)
    times = {name: 1000 * float(np.median(values)) for name, values in laps.items()}
    total = sum(times.values())
    print(f"a step of {args.batch} pairs, {args.config.name}: {total:.0f} ms of processor time")
    for name, milliseconds in times.items():
        print(f"  {name:24s} {milliseconds:7.1f} ms {milliseconds / total:6.1%}")


if __name__ == "__main__":
    main()
