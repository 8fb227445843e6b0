"""All the files of a run, or none: written aside, moved into place together at the end.

A run that fails, runs out of disk or is interrupted leaves the results of earlier runs as they were.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pose2sim_biokin.errors import BiokinError

STAGING_PREFIX = ".biokin-"

_REASONS = {
    errno.ENOSPC: "the disk is full; free some space and run again",
    errno.EDQUOT: "the disk quota is used up; free some space and run again",
    errno.EACCES: "permission denied; make the folder writable, or close the program that has the file open",
    errno.EPERM: "not permitted; make the folder writable, or close the program that has the file open",
    errno.EROFS: "the file system is read-only; copy the project to a folder that can be written",
    errno.ENOTDIR: "a file is in the place of a folder; move it away",
    errno.EEXIST: "a file is in the place of a folder; move it away",
}


class OutputSet:
    """A set of output files that appear together.

    ``path = outputs.stage(target)`` gives a path in a hidden folder beside the target, with the target's own
    name (formats that write their name into the file get it right). :meth:`commit` moves everything into
    place; leaving the ``with`` block without it removes every trace, folders included that were made for it.

    Example:
        >>> with OutputSet() as outputs:
        ...     write_text(outputs.stage(folder / "a.txt"))
        ...     write_text(outputs.stage(folder / "b.txt"))
        ...     outputs.commit()
    """

    def __init__(self) -> None:
        self._targets: list[tuple[Path, Path]] = []
        self._staging: dict[Path, Path] = {}
        self._made: list[Path] = []

    def __enter__(self) -> OutputSet:
        return self

    def __exit__(self, kind, value, traceback) -> None:
        explained = self._explained(value) if isinstance(value, OSError) and self._is_ours(value) else None
        self.discard()
        if explained is not None:
            raise explained from value

    def prepare(self, folder: str | Path) -> None:
        """Make the folder, and a staging folder in it, now: one that cannot be written shows early.

        Raises:
            BiokinError: the folder cannot be made or written.
        """
        folder = Path(folder)
        if folder in self._staging:
            return
        try:
            missing = [p for p in (folder, *folder.parents) if not p.exists()]
            folder.mkdir(parents=True, exist_ok=True)
            self._made += missing  # deepest first
            self._staging[folder] = Path(tempfile.mkdtemp(prefix=STAGING_PREFIX, dir=folder))
        except OSError as error:
            raise self._explained(error, folder) from error

    def stage(self, target: str | Path) -> Path:
        """The path to write instead of ``target``; the file is moved to ``target`` by :meth:`commit`.

        Raises:
            BiokinError: the target's folder cannot be made or written, or a folder has the target's name.
        """
        target = Path(target)
        if target.is_dir():
            raise BiokinError(f"{target}: a folder is in the place of an output file; move it away.")
        self.prepare(target.parent)
        staged = self._staging[target.parent] / target.name
        if (staged, target) not in self._targets:
            self._targets.append((staged, target))
        return staged

    def commit(self) -> list[Path]:
        """Move all staged files into place; if one cannot be moved, everything is put back.

        Returns:
            The targets, in the order they were staged.

        Raises:
            BiokinError: a staged file is missing, or a file cannot be replaced.
        """
        absent = [target for staged, target in self._targets if not staged.is_file()]
        if absent:
            raise BiokinError(f"{absent[0]}: the file was not written; nothing was changed.")
        moved: list[tuple[Path, Path | None]] = []
        try:
            for staged, target in self._targets:
                earlier = None
                if target.exists():
                    earlier = staged.with_name(staged.name + ".earlier")
                    os.replace(target, earlier)
                moved.append((target, earlier))
                os.replace(staged, target)
        except BaseException as error:
            for target, earlier in reversed(moved):
                if earlier is not None:
                    os.replace(earlier, target)
                else:
                    target.unlink(missing_ok=True)
            if isinstance(error, OSError):
                raise self._explained(error, moved[-1][0] if moved else None) from error
            raise
        targets = [target for _, target in self._targets]
        self._made.clear()
        self.discard()
        return targets

    def discard(self) -> None:
        """Remove what was staged and the folders that were made for it."""
        for folder in self._staging.values():
            shutil.rmtree(folder, ignore_errors=True)
        for folder in sorted(self._made, key=lambda p: len(p.parts), reverse=True):
            try:
                folder.rmdir()
            except OSError:
                pass  # something else has been put there: it stays
        self._staging.clear()
        self._made.clear()
        self._targets.clear()

    def _is_ours(self, error: OSError) -> bool:
        """The error comes from writing in one of this set's folders (a full disk names no file)."""
        if error.errno not in _REASONS:
            return False
        if error.filename is None:
            return error.errno in (errno.ENOSPC, errno.EDQUOT)
        return any(Path(error.filename).is_relative_to(folder) for folder in self._staging)

    def _explained(self, error: OSError, path: Path | None = None) -> BiokinError:
        place = path or (
            Path(error.filename) if error.filename else next(iter(self._staging), Path("output"))
        )
        # a path inside a staging folder means nothing to the user: name the folder it stands for
        hidden = [p for p in (place, *place.parents) if p.name.startswith(STAGING_PREFIX)]
        if hidden:
            place = hidden[-1].parent
        reason = _REASONS.get(error.errno, error.strerror or str(error))
        return BiokinError(f"Cannot write to {place}: {reason}. Earlier results are as they were.")


@contextmanager
def atomic_path(target: str | Path) -> Iterator[Path]:
    """A path to write one file to, moved to ``target`` when the block ends well.

    Raises:
        BiokinError: the target's folder cannot be made or written, or the disk is full.
    """
    with OutputSet() as outputs:
        yield outputs.stage(target)
        outputs.commit()
