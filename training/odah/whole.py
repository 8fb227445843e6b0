"""A folder of files is whole or absent: it is written aside and renamed when it is complete."""

from __future__ import annotations

import errno
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pose2sim_biokin.errors import BiokinError

PARTIAL = ".partial-"  # folders whose names start so were never finished
_DENIED = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR)
_LEAST_FREE = 4_000_000  # bytes; a disk with less is full


@contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """A folder to write into, which is renamed to ``target`` when the block ends well, else removed.

    Raises:
        BiokinError: the disk is full, or the folder cannot be made or written.
    """
    partial = target.with_name(f"{PARTIAL}{target.name}-{secrets.token_hex(4)}")
    try:
        partial.mkdir(parents=True)
        yield partial
        if not target.exists():  # else somebody else has finished the same clip meanwhile
            partial.rename(target)
    except Exception as error:
        code = getattr(error, "errno", None)
        if code in (errno.ENOSPC, errno.EDQUOT) or _is_full(target.parent):
            raise BiokinError(
                f"{target}: the disk is full. Free some space and run again; finished clips are kept."
            ) from error
        if isinstance(error, OSError) and code in _DENIED:
            raise BiokinError(
                f"{target}: cannot be written ({error.strerror}). Choose another --output."
            ) from error
        raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _is_full(folder: Path) -> bool:
    """OpenSim, for one, does not say why it cannot write."""
    try:
        return shutil.disk_usage(folder).free < _LEAST_FREE
    except OSError:
        return False


def remove_partial(folder: Path) -> int:
    """Remove what killed runs left anywhere below a folder; how many clips they were.

    Each is renamed first: whoever may still be writing it then cannot finish it.
    """
    found = [p for p in folder.rglob(f"{PARTIAL}*") if p.is_dir()]
    for partial in found:
        dead = partial.with_name(f"{PARTIAL}dead-{secrets.token_hex(4)}")
        with suppress(OSError):
            partial.rename(dead)
            shutil.rmtree(dead, ignore_errors=True)
    return len(found)
