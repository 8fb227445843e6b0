"""Train the network: ``odah train CONFIG --output DIR``.

    odah train configs/fast.toml --train DIR... --validation DIR... --output runs/fast --hours 8
    odah train configs/fast.toml --stage refinement --train DIR... --validation DIR... --output runs/fast
    odah train configs/fast.toml --stage joint --initial fast.pt --train DIR... --output runs/joint
    fabric run --devices 4 training/odah_train.py configs/paper.toml --output runs/paper

First the frame encoder on single pairs, then the temporal refinement behind it (`odah.refine`), then, if
wanted, both together (`odah.joint`). A run ends after so many steps, epochs or hours. It goes on exactly
where its last checkpoint was written: weights, their average, optimiser, random state, place in the epoch.
Ended by steps or epochs, a run that was killed and goes on gives the losses of one that was not, bit for bit;
the learning rate of one that is ended by hours follows the clock.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import torch

from odah import INTERRUPTED
from odah.joint import JointTask
from odah.loop import CHECKPOINT, Loop, make_fabric
from odah.settings import TrainSettings, read_settings, with_backdrops
from odah.stages import EncoderTask
from pose2sim_biokin.errors import BiokinError

TASKS = {"encoder": EncoderTask, "joint": JointTask}
STAGES = ("encoder", "refinement", "joint")
_HOURS = 1.0  # of a run that nothing else ends


class Trainer(Loop):
    """A run of one stage.

    Args:
        settings: see TrainSettings.
        train, validation: folders of caches and of data sets of clips; see `odah.settings.DataSettings`.
        output: folder of the run.
        hours: of training in all, also over several starts; None: 1, unless steps or epochs end the run.
        threads: CPU threads of each process.
        processes: each takes a share of every batch. Processes wait for one another once a step, the threads
            of one process many times: quicker on a busy machine.
        initial: exported weights ("default": the package's) that a new run starts from; a run that goes on
            has its own.
        stage: "encoder" or "joint".
        tensorboard: also write its files.
    """

    def __init__(
        self,
        settings: TrainSettings,
        train: Sequence[str | Path],
        validation: Sequence[str | Path],
        output: str | Path,
        hours: float | None = None,
        threads: int | None = None,
        processes: int = 1,
        initial: str | Path | None = None,
        stage: str = "encoder",
        tensorboard: bool = True,
    ):
        if threads:
            torch.set_num_threads(threads)
        output = Path(output)
        output.mkdir(parents=True, exist_ok=True)
        fabric = make_fabric(settings, processes)
        task = TASKS[stage](settings, fabric, train, validation, output)
        about = {"initial": None}
        if initial is not None and not (output / CHECKPOINT).is_file():
            about["initial"] = task.start_from(initial)
        if hours is None and not settings.steps and not task.epochs:
            hours = _HOURS
        super().__init__(settings, task, fabric, output, hours, about, tensorboard)
        if fabric.is_global_zero:
            text = json.dumps(asdict(settings), indent=1)
            (output / "settings.json").write_text(text, encoding="utf-8")

    @property
    def initial(self) -> str | None:
        """SHA-256 of the weights that the run started from."""
        return self.about["initial"]


def parser() -> argparse.ArgumentParser:
    """The command line's."""
    parser = argparse.ArgumentParser(
        prog="odah train", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("experiment", nargs="?", help="experiment file (TOML); the fast preset without one")
    parser.add_argument("--config", help="the same")
    parser.add_argument("--stage", choices=STAGES, default="encoder", help="(default: %(default)s)")
    parser.add_argument("--train", nargs="+", default=[], help="folders of caches, and data sets of clips")
    parser.add_argument("--validation", nargs="*", default=[], help="the same, to measure by")
    parser.add_argument("--shares", nargs="+", type=float, help="of each --train folder")
    parser.add_argument("--render", type=float, help="share of pairs that are rendered on the fly, 0 to 1")
    parser.add_argument("--output", required=True, help="folder of the run")
    parser.add_argument(
        "--hours", type=float, help="training time in all (default 1, without steps or epochs)"
    )
    parser.add_argument("--threads", type=int, help="CPU threads of each process")
    parser.add_argument(
        "--processes", type=int, default=1, help="processes that share each batch (default 1)"
    )
    parser.add_argument("--steps", type=int, help="stop after this many steps")
    parser.add_argument(
        "--initial", help='exported weights that a new run starts from ("default": the package\'s)'
    )
    parser.add_argument("--backdrops", help="file of `odah backdrops`, behind the people of caches")
    parser.add_argument("--no-tensorboard", action="store_true", help="do not write TensorBoard's files")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Command line."""
    options, more = parser().parse_known_args(arguments)
    if more and options.stage != "refinement":  # which has options of its own
        parser().error(f"unrecognized arguments: {' '.join(more)}")
    try:
        return _main(options, more, arguments)
    except BiokinError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"Interrupted. The same command goes on from {options.output}.", file=sys.stderr)
        return INTERRUPTED


def _main(options: argparse.Namespace, more: list[str], arguments: list[str] | None) -> int:
    config = options.experiment or options.config
    settings = with_backdrops(read_settings(config), options.backdrops)
    data = settings.data
    windows = options.stage != "encoder"
    train = options.train or (data.windows if windows else data.train)
    validation = options.validation or (data.validation_windows if windows else data.validation)
    if options.shares is not None:
        data = replace(data, shares=tuple(options.shares))
    elif options.train:
        data = replace(data, shares=())  # those of other folders
    if options.render is not None:
        data = replace(data, render=options.render)
    if options.stage == "refinement":
        return _refine(options, more, config, train, validation)
    if not train and (windows or data.render != 1):
        raise BiokinError(
            "There is nothing to train on: give folders with --train or in the experiment file's [data], or "
            "--render 1."
        )
    if options.processes > 1 and not _is_module() and "LT_CLI_USED" not in os.environ:
        # the other processes are started by this one's command line, which must be that of a module
        given = sys.argv[1:] if arguments is None else arguments
        return subprocess.run([sys.executable, "-m", "odah.train", *given], check=False).returncode
    trainer = Trainer(
        replace(settings, data=data),
        train,
        validation,
        options.output,
        options.hours,
        options.threads,
        options.processes,
        options.initial,
        options.stage,
        not options.no_tensorboard,
    )
    trainer.run(options.steps)
    return 0


def _refine(options, more: list[str], config: str | None, train: Sequence, validation: Sequence) -> int:
    """The second stage's own command line, from this one's."""
    from odah.refine import main as refine

    source = ["--weights", options.initial] if options.initial else ["--run", options.output]
    arguments = [*more, *source, "--output", options.output, "--train", *map(str, train)]
    arguments += ["--validation", *map(str, validation)]
    given = ("--config", config), ("--threads", options.threads), ("--backdrops", options.backdrops)
    for name, value in given:
        arguments += [name, str(value)] if value is not None else []
    if options.hours is not None:
        arguments += ["--minutes", str(60 * options.hours)]
    return refine(arguments) or 0


def _is_module() -> bool:
    """This process runs ``python -m odah.train``."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return spec is not None and spec.name == "odah.train"


if __name__ == "__main__":
    sys.exit(main())
