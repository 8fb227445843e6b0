"""One run at a time in a folder: a lock that goes with the process, even if that is killed."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pose2sim_biokin.errors import BiokinError

LOCK = ".odah.lock"
_TAKEN = (errno.EAGAIN, errno.EACCES, errno.EDEADLK)


@contextmanager
def only_run(folder: Path) -> Iterator[None]:
    """Hold a folder; the operating system lets it go when the process ends, however it ends.

    Raises:
        BiokinError: another process holds it.
    """
    with (folder / LOCK).open("a+b") as file:
        try:
            _take(file)
        except OSError as error:
            if error.errno in _TAKEN:
                raise BiokinError(
                    f"{folder}: another `odah generate` is at work here. Wait for it, or choose another "
                    "--output."
                ) from error
            # a file system without locks (some network drives): nothing can be held there
        yield


def _take(file) -> None:
    try:
        import fcntl
    except ImportError:  # Windows
        import msvcrt

        file.seek(0)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
    else:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
