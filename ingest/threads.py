"""Work in threads, some of it ahead of whoever takes the results."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


@contextlib.contextmanager
def threads(count: int, name: str) -> Iterator[ThreadPoolExecutor]:
    """Run threads until the block ends. What they have not begun by then is dropped: so Ctrl-C waits for little."""
    pool = ThreadPoolExecutor(count, name)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def in_threads(pool: ThreadPoolExecutor, do: Callable[[T], R], items: Iterable[T], ahead: int) -> Iterator[R]:
    """Give ``do`` of every item, in their order; up to ``ahead`` of them are begun before they are needed."""
    pending: deque[Future[R]] = deque()
    for item in items:
        pending.append(pool.submit(do, item))
        if len(pending) >= ahead:
            yield pending.popleft().result()
    while pending:
        yield pending.popleft().result()
