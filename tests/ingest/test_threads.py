"""Work in threads: in order, a little ahead, and dropped when nobody wants it any more."""

from __future__ import annotations

import contextlib
import itertools
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lookalike.ingest.threads import in_threads, threads


@given(st.lists(st.integers()), st.integers(1, 5), st.integers(1, 9))
def test_in_threads_gives_every_result_in_order(items: list[int], count: int, ahead: int) -> None:
    with threads(count, "test") as pool:
        assert list(in_threads(pool, lambda item: item * 2, items, ahead)) == [item * 2 for item in items]


def test_in_threads_takes_no_more_items_than_it_is_ahead() -> None:
    taken = itertools.count()
    with threads(2, "test") as pool:
        results = in_threads(pool, lambda item: item, (next(taken) for _ in range(100)), 5)
        assert [next(results) for _ in range(3)] == [0, 1, 2]
    assert next(taken) == 3 + 5 - 1


def test_in_threads_raises_what_the_work_raised() -> None:
    def fail(item: int) -> int:
        if item == 2:
            raise OSError("as the test wants")
        return item

    with threads(2, "test") as pool:
        results = in_threads(pool, fail, range(5), 5)
        assert [next(results), next(results)] == [0, 1]
        with pytest.raises(OSError, match="as the test wants"):
            next(results)


def test_threads_drop_what_they_have_not_begun() -> None:
    begun: list[int] = []
    go_on = threading.Event()

    def work(item: int) -> None:
        begun.append(item)
        go_on.wait(30)

    with contextlib.suppress(KeyboardInterrupt), threads(1, "test") as pool:
        for item in range(50):
            pool.submit(work, item)
        threading.Timer(0.2, go_on.set).start()
        raise KeyboardInterrupt
    assert begun in ([], [0])
