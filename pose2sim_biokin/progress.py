"""How a long run says how far it is: a plain function, so that nobody needs to know who is listening."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Called by the stages of a run, often; must be cheap, and may be `no_progress`."""

    def __call__(self, stage: str, done: int, total: int) -> None:
        """``done`` of ``total`` steps of ``stage`` (a short title, like "Finding the person") are finished.

        A stage starts with its first call and ends when ``done == total``; stages come one after the other.
        """
        ...


def no_progress(stage: str, done: int, total: int) -> None:
    """Nobody is listening."""
