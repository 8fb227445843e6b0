"""Both views at once, one failure ends both."""

from __future__ import annotations

import threading

import pytest

from pose2sim_biokin import parallel
from pose2sim_biokin.parallel import for_each


def test_results_in_order_and_steps_counted():
    calls = []

    def work(i, item, step):
        for _ in range(3):
            step()
        return i, item

    result = for_each(work, "ab", lambda *call: calls.append(call), "both", 6)
    assert result == [(0, "a"), (1, "b")]
    assert calls == [("both", n, 6) for n in range(7)]


def test_a_failure_ends_the_other_thread():
    ended = threading.Event()

    def work(i, item, step):
        if i == 0:
            raise ValueError("broken")
        try:
            while True:
                step()
        finally:
            ended.set()

    with pytest.raises(ValueError, match="broken"):
        for_each(work, "ab", lambda *call: None, "both", 2)
    assert ended.is_set()


def test_an_interrupt_ends_all_threads(monkeypatch):
    ended = []

    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    def work(i, item, step):
        try:
            while True:
                step()
        finally:
            ended.append(i)

    monkeypatch.setattr(parallel, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        for_each(work, "ab", lambda *call: None, "both", 2)
    assert sorted(ended) == [0, 1]
