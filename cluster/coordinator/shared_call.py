"""One call for all who ask at once: the status of every shard is asked for by whoever likes, as often as they like."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

ReplyT = TypeVar("ReplyT")


class SharedCall(Generic[ReplyT]):
    """A call without arguments. Who calls while it is in flight gets the reply of the next one, with all others.

    Not of the one in flight: its reply may be older than the question.
    """

    def __init__(self, call: Callable[[], Awaitable[ReplyT]]) -> None:
        self._call = call
        self._in_flight: asyncio.Task[ReplyT] | None = None
        self._next: asyncio.Task[ReplyT] | None = None

    async def __call__(self) -> ReplyT:
        """Give the reply, or raise the error, of a call that began after this one."""
        if self._next is None:
            self._next = asyncio.create_task(self._after(self._in_flight))
        return await asyncio.shield(self._next)  # who goes away takes it from nobody

    async def _after(self, earlier: asyncio.Task[ReplyT] | None) -> ReplyT:
        if earlier is not None:
            await asyncio.wait([earlier])
        self._in_flight, self._next = self._next, None
        return await self._call()
