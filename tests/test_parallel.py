"""Both views at once, one failure ends both."""

from __future__ import annotations

import threading

import pytest

from pose2sim_biokin import parallel
from pose2sim_biokin.parallel import for_each, read_ahead


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


def test_the_next_item_is_made_meanwhile():
    """The consumer holds the first item until the second one has been begun."""
    begun = threading.Event()

    def items():
        yield "first"
        begun.set()
        yield "second"

    found = []
    for item in read_ahead(items()):
        assert begun.wait(10)
        found.append(item)
    assert found == ["first", "second"]
    assert list(read_ahead([])) == []


def test_what_fails_ahead_is_raised_where_it_would_have_come():
    def items():
        yield 1
        raise ValueError("truncated")

    ahead = read_ahead(items())
    assert next(ahead) == 1
    with pytest.raises(ValueError, match="truncated"):
        next(ahead)


def test_who_stops_early_leaves_no_thread_behind():
    before = threading.active_count()
    ahead = read_ahead(iter(range(100)))
    assert next(ahead) == 0
    ahead.close()
    assert threading.active_count() == before
