"""Which pairs are in which batch: shuffled caches, mixed in shares, and pairs that are rendered on the fly.

What is in a batch follows from the seed, the epoch and the batch's number alone, so that a run that was cut
off goes on as if it had not been, with any number of threads that make batches ahead.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from odah.augment import Augmentation
from odah.dataset import FrameMaker, RawBatch, ShardSet, Targets, augmented
from pose2sim_biokin.errors import BiokinError
from pose2sim_biokin.network.biokin import FrameBatch

_ORDER, _MIX = 0x0DE5, 0x317C  # keep the random numbers of orders and of mixtures apart
_LIVE_EPOCH = 4096  # pairs of an epoch that has no cached ones
_PREFETCHED = 4  # batches that each worker is ahead


class Stream(Protocol):
    """Pairs without end, rendered on the fly; see `odah.live`."""

    def rows(self, positions: np.ndarray) -> RawBatch:
        """The pairs at rising positions of the stream; earlier ones are gone."""
        ...


class Mixture:
    """Batches of pairs from caches and a stream.

    Args:
        pools: caches.
        batch_size: pairs of a batch.
        seed: of order and mixture.
        shares: of each cache; None: all cached pairs are used equally often.
        stream: pairs rendered on the fly, or None; one of its own for every process that trains.
        live: share of the stream in all pairs.
        share: (i, n), of every batch only each n-th pair from the i-th on, for one of n processes.

    Attributes:
        starts: of each process, the position in its stream at which the epoch starts; part of a run's state.

    Raises:
        BiokinError: nothing to draw from, or shares that are none.
    """

    def __init__(
        self,
        pools: Sequence[ShardSet],
        batch_size: int,
        seed: int,
        shares: Sequence[float] | None = None,
        stream: Stream | None = None,
        live: float = 0.0,
        share: tuple[int, int] = (0, 1),
    ):
        if not 0 <= live <= 1 or (live == 1) != (not pools):
            raise BiokinError(
                f"The share of rendered pairs is {live:g} beside {len(pools)} folders; expected less than 1 "
                "with folders, and 1 without any."
            )
        sizes = [len(pool) for pool in pools]
        weights = np.array(sizes if shares is None else shares, dtype=float)
        if len(weights) != len(pools) or (weights < 0).any() or (len(pools) and weights.sum() <= 0):
            raise BiokinError(
                f"shares: expected {len(pools)} numbers, one a folder and none negative; found {shares}."
            )
        self.pools, self.batch_size, self.seed, self.stream = list(pools), batch_size, seed, stream
        cached = weights / max(weights.sum(), 1e-12) * (1 - live)
        self.shares = np.append(cached, live) / (cached.sum() + live)
        self.pairs = int(sum(sizes) / (1 - live)) if pools else _LIVE_EPOCH
        if self.pairs < batch_size:
            raise BiokinError(f"{self.pairs} pairs are fewer than a batch of {batch_size}.")
        self.share, self.starts = share, [0] * share[1]
        self._sources: tuple[int, np.ndarray] = (-1, np.zeros(0, int))
        self._orders: dict[int, tuple[tuple[int, int], np.ndarray]] = {}

    def __len__(self) -> int:
        """Batches of an epoch."""
        return self.pairs // self.batch_size

    def raw(self, epoch: int, number: int) -> RawBatch:
        """This process's share of batch `number` of an epoch."""
        sources = self._epoch_sources(epoch)  # (batches, batch_size)
        rank, world = self.share
        mine = sources[number, rank::world]
        parts = []
        for source in np.unique(mine):
            chosen = np.flatnonzero(mine == source)
            if source == len(self.pools):  # every process renders its own
                before = int((sources[:number, rank::world] == source).sum())
                rows = self.stream.rows(self.starts[rank] + before + np.arange(len(chosen)))
            else:
                before = int((sources[:number] == source).sum())
                count = np.cumsum(sources[number] == source) - 1  # of the pairs of this source, which one
                places = before + count[rank::world][chosen]
                rows = self.pools[source].rows(self._ordered(epoch, int(source), places))
            parts.append((chosen, rows))
        return _interleaved(parts, len(mine))

    def finish(self, epoch: int) -> None:
        """Go on from where an epoch's batches end in the streams."""
        drawn = self._epoch_sources(epoch) == len(self.pools)
        self.starts = [
            start + int(drawn[:, rank :: self.share[1]].sum()) for rank, start in enumerate(self.starts)
        ]

    def _epoch_sources(self, epoch: int) -> np.ndarray:
        """(batches, batch_size) which pool, or the stream, each pair of an epoch is drawn from."""
        if self._sources[0] != epoch:
            size = (len(self), self.batch_size)
            if len(self.shares) == 2 and self.shares[1] == 0:
                drawn = np.zeros(size, int)
            else:
                rng = np.random.default_rng([self.seed, epoch, _MIX])
                drawn = rng.choice(len(self.shares), size, p=self.shares)
            self._sources = epoch, drawn
        return self._sources[1]

    def _ordered(self, epoch: int, pool: int, places: np.ndarray) -> np.ndarray:
        """Rows of a pool at places of its order of the epoch, in which it is shuffled anew on every pass."""
        count = len(self.pools[pool])
        rows = np.empty(len(places), int)
        for turn in np.unique(places // count):
            key = (epoch, int(turn))
            if self._orders.get(pool, (None,))[0] != key:
                parts = [self.seed, epoch] if pool == turn == 0 else [self.seed, epoch, _ORDER, pool, turn]
                self._orders[pool] = key, np.random.default_rng(parts).permutation(count)
            chosen = places // count == turn
            rows[chosen] = self._orders[pool][1][places[chosen] % count]
        return rows


def epoch_batches(
    mixture: Mixture,
    maker: FrameMaker,
    epoch: int,
    start: int = 0,
    ahead: int = 0,
    workers: int = 0,
) -> Iterator[tuple[FrameBatch, Targets]]:
    """Batches of an epoch from batch `start` on, the same ones however they are made.

    Args:
        ahead: batches that as many threads make meanwhile; 0: each is made when it is asked for.
        workers: processes that read and vary cached pairs meanwhile; 0: none.
    """

    def make(raw: RawBatch, number: int) -> tuple[FrameBatch, Targets]:
        return maker(raw, _generator(mixture, epoch, number))

    numbers = iter(range(start, len(mixture)))
    if workers:
        made = _VariedBatches(mixture, maker.augmentation, epoch)
        loader = DataLoader(
            made,
            batch_size=None,
            sampler=numbers,
            num_workers=workers,
            prefetch_factor=_PREFETCHED,
            worker_init_fn=_one_thread,
            pin_memory=maker.device.type == "cuda",
        )
        for raw, seed in loader:
            yield maker.make(raw, seed)
        return
    if not ahead:
        for number in numbers:
            yield make(mixture.raw(epoch, number), number)
        return
    # Pairs are fetched here, one batch after the other, as the stream needs it; the work is in `make`.
    waiting: deque = deque()
    with ThreadPoolExecutor(ahead) as threads:
        try:
            for number in numbers:
                waiting.append(threads.submit(make, mixture.raw(epoch, number), number))
                if len(waiting) > ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


class _VariedBatches(Dataset):
    """The varied pairs of a batch of an epoch, by its number, and the seed of its points: a worker's part."""

    def __init__(self, mixture: Mixture, augmentation: Augmentation | None, epoch: int):
        self.mixture, self.augmentation, self.epoch = mixture, augmentation, epoch

    def __getitem__(self, number: int) -> tuple[RawBatch, int]:
        rng = _generator(self.mixture, self.epoch, number)
        raw = augmented(self.mixture.raw(self.epoch, number), self.augmentation, rng)
        return raw, int(rng.integers(2**62))


def _generator(mixture: Mixture, epoch: int, number: int) -> np.random.Generator:
    """What batch `number` of an epoch is varied by."""
    return np.random.default_rng([mixture.seed, epoch, number, mixture.share[0]])


def _one_thread(worker: int) -> None:
    """Workers share the cores; none of them needs several."""
    cv2.setNumThreads(0)
    torch.set_num_threads(1)


def _interleaved(parts: list[tuple[np.ndarray, RawBatch]], count: int) -> RawBatch:
    """One batch of `count` pairs from parts that fill some of its places each."""
    if len(parts) == 1:
        return parts[0][1]
    whole = {}
    for name in RawBatch._fields:
        first = getattr(parts[0][1], name)
        whole[name] = np.empty((count, *first.shape[1:]), first.dtype)
        for places, rows in parts:
            whole[name][places] = getattr(rows, name)
    return RawBatch(**whole)
