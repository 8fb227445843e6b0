"""The two views at the same time: one thread each, ended cleanly when one fails or the user interrupts."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import TypeVar

from pose2sim_biokin.progress import Progress

Item = TypeVar("Item")
Result = TypeVar("Result")


class Stopped(Exception):
    """Raised inside a worker that should end because another one failed."""


def for_each(
    work: Callable[[int, Item, Callable[[], None]], Result],
    items: Sequence[Item],
    progress: Progress,
    title: str,
    total: int,
) -> list[Result]:
    """``work(index, item, step)`` for every item, a thread each: decoding and drawing free Python.

    Args:
        work: calls ``step()`` after each of its steps, which counts it and ends the thread when it should.
        items: one a thread.
        progress: told the steps of all threads together, one call at a time.
        title: of the stage.
        total: steps of all items together.

    Returns:
        The results in the items' order.

    Raises:
        The first exception of a worker, or KeyboardInterrupt; all threads have ended by then.
    """
    stop, lock, done = threading.Event(), threading.Lock(), 0

    def step() -> None:
        nonlocal done
        if stop.is_set():
            raise Stopped
        with lock:
            done += 1
            progress(title, done, total)

    progress(title, 0, total)
    with ThreadPoolExecutor(max_workers=max(1, len(items))) as pool:
        futures = [pool.submit(work, i, item, step) for i, item in enumerate(items)]
        try:
            # short waits: on some systems a long one cannot be interrupted
            while wait(futures, timeout=0.2, return_when=FIRST_EXCEPTION).not_done:
                if any(f.done() and f.exception() for f in futures):
                    break
        finally:
            if not all(f.done() for f in futures):
                stop.set()
    failures = [error for error in (f.exception() for f in futures) if error is not None]
    for error in failures:
        if not isinstance(error, Stopped):
            raise error
    return [f.result() for f in futures]
