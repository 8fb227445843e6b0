"""The command line of the training package: ``odah <command> [options]``, as ``python -m odah.<module>``."""

from __future__ import annotations

import sys
from importlib import import_module

# command -> module that does it, what it is for
COMMANDS = {
    "body": ("odah.bodies.command", "build the built-in body's files, or look at bodies"),
    "generate": ("odah.generation", "make a data set of clips, each a Pose2Sim trial with its truth"),
    "inspect": (
        "odah.inspect",
        "look at a clip or a data set: skeleton and masks drawn on, residuals, coverage",
    ),
    "crops": ("odah.crops", "render a cache of training crops of synthetic people"),
    "cache": ("odah.cache", "cut training crops out of a data set's clips"),
    "backdrops": ("odah.backdrops", "draw what may stand behind the people of training crops"),
    "train": ("odah.train", "train the network on caches and data sets; goes on where it stopped"),
    "segmenter": ("odah.segmenter.train_segmenter", "train the person segmenter that comes with the package"),
    "evaluate": ("odah.evaluate", "errors of a checkpoint, and of other programs, against a truth"),
    "ablate": ("odah.ablate", "short runs that differ in one thing: what does each part bring?"),
}


def main(arguments: list[str] | None = None) -> None:
    """Entry point of the ``odah`` command.

    Modules are imported, not run as ``__main__``, so that their functions can be sent to worker processes.
    Exit code 2 for a command that does not exist.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    name = arguments[0] if arguments else "--help"
    if name in ("-h", "--help"):
        print(_usage())
        return
    if name not in COMMANDS:
        print(f"odah: {name!r} is no command.\n\n{_usage()}", file=sys.stderr)
        raise SystemExit(2)
    sys.argv = [f"odah {name}", *arguments[1:]]
    raise SystemExit(import_module(COMMANDS[name][0]).main())


def _usage() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {purpose}" for name, (_, purpose) in COMMANDS.items()]
    return "\n".join(["usage: odah <command> [options]", "", *lines, "", "Options: odah <command> --help"])


if __name__ == "__main__":
    main()
