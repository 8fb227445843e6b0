"""Pairs that are rendered while the network trains: an endless stream, the same in every run.

Worker processes render shards as `odah crops` does, into a folder that is emptied as they are used. Shards
come in blocks; the pairs of a block are shuffled. What is at a position follows from the settings alone: a
trainer that is faster than its workers waits for them.
"""

from __future__ import annotations

import multiprocessing
import shutil
import weakref
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from odah.crops import Settings, render_shard
from odah.dataset import RawBatch, ShardSet
from pose2sim_biokin.errors import BiokinError

_CLIPS = 4  # of a shard
_FRAMES = 8  # of a clip
_ENDLESS = 2**31 - 1


@dataclass(frozen=True)
class LiveSettings:
    """What is rendered.

    Attributes:
        seed: 0 to 99; another one than that of the caches gives other people.
        subjects: people, each met again and again.
        size: side of the crops, pixels.
        motions: archive of recorded clips, "" for none.
        workers: processes that render.
        block: shards that are shuffled together, of 32 pairs each.
    """

    seed: int
    subjects: int
    size: int
    motions: str = ""
    workers: int = 1
    block: int = 8


class LiveShards:
    """The stream of one process that trains.

    Args:
        settings: see LiveSettings.
        folder: where shards lie until they are used; emptied first.
        share: (i, n): renders each n-th shard from the i-th on.
        render: `odah.crops.render_shard`, or what does the same.
    """

    def __init__(
        self,
        settings: LiveSettings,
        folder: str | Path,
        share: tuple[int, int] = (0, 1),
        render: Callable[[Settings, int, Path], Path] = render_shard,
    ):
        self._render = render
        self.settings, self.folder, self.share = settings, Path(folder), share
        if not 0 <= settings.seed < 100 or settings.subjects > 10_000:
            raise BiokinError(
                f"[data] render_seed is {settings.seed} and render_subjects {settings.subjects}; expected 0 "
                "to 99 and at most 10000, so that nobody is in the validation, too."
            )
        self._crops = Settings(
            split="train",
            subjects=settings.subjects,
            clips=_ENDLESS,
            frames_per_clip=_FRAMES,
            dense=False,
            seed=settings.seed,
            size=settings.size,
            shard_clips=_CLIPS,
            motions=settings.motions,
        )
        self.block_pairs = settings.block * _CLIPS * _FRAMES
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        context = multiprocessing.get_context("spawn")
        self._pool = ProcessPoolExecutor(settings.workers, mp_context=context)
        self._ordered: dict[int, list[Future]] = {}
        self._block: tuple[int, ShardSet | None, np.ndarray] = (-1, None, np.zeros(0, int))
        self._closing = weakref.finalize(self, _close, self._pool, self.folder)

    def rows(self, positions: np.ndarray) -> RawBatch:
        """The pairs at rising positions; blocks before the last one asked for are gone.

        Raises:
            BiokinError: the workers are no more, or a motion archive cannot be read.
        """
        parts = []
        for block in np.unique(positions // self.block_pairs):
            shards, order = self._open(int(block))
            places = positions[positions // self.block_pairs == block] % self.block_pairs
            parts.append(shards.rows(order[places]))
        return RawBatch(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))

    def close(self) -> None:
        """End the workers and remove what was not used."""
        self._block = (-1, None, self._block[2])
        self._closing()

    def _open(self, block: int) -> tuple[ShardSet, np.ndarray]:
        if self._block[0] != block:
            for wanted in (block, block + 1):
                self._order(wanted)
            try:
                shards = ShardSet([future.result() for future in self._ordered[block]])
            except BrokenProcessPool as error:
                raise BiokinError(
                    "The processes that render training pairs have ended: out of memory, or killed. Give "
                    "fewer render_workers, or train from a cache (odah crops)."
                ) from error
            self._block = (block, None, self._block[2])  # lets go of the files before they are removed
            for old in [b for b in self._ordered if b < block]:
                for future in self._ordered.pop(old):
                    if not future.cancel():
                        shutil.rmtree(future.result(), ignore_errors=True)
            rng = np.random.default_rng([self.settings.seed, self.share[0], block, 0x11FE])
            self._block = block, shards, rng.permutation(self.block_pairs)
        return self._block[1], self._block[2]

    def _order(self, block: int) -> None:
        """Have a block rendered."""
        if block not in self._ordered:
            rank, world = self.share
            numbers = (
                rank + world * k
                for k in range(block * self.settings.block, (block + 1) * self.settings.block)
            )
            self._ordered[block] = [
                self._pool.submit(self._render, self._crops, number, self.folder) for number in numbers
            ]


def _close(pool: ProcessPoolExecutor, folder: Path) -> None:
    pool.shutdown(cancel_futures=True)
    shutil.rmtree(folder, ignore_errors=True)
