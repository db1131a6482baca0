"""An event loop whose clock jumps to the next timer when there is nothing to do: deadlines of minutes pass at once."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

ResultT = TypeVar("ResultT")


class _Skipping(selectors.SelectSelector):
    """A selector that does not wait for a timer, but counts how long it would have."""

    skipped_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        assert timeout is not None, "nothing is scheduled, and nothing will ever happen"
        self.skipped_s += max(0.0, timeout)
        return super().select(0)


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._skipping = _Skipping()
        super().__init__(self._skipping)

    def time(self) -> float:
        return self._skipping.skipped_s


def run(main: Coroutine[Any, Any, ResultT]) -> ResultT:
    """Run a coroutine that uses neither threads nor sockets; time passes in it by timers alone."""
    with asyncio.Runner(loop_factory=_Loop) as runner:
        return runner.run(main)
