"""One call at a time for all who wait: the dearest thing between processes is the call, not what it carries.

What is asked while a call is under way goes together in the next one; an idle queue calls at once.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from lookalike.errors import LookalikeError

Question = TypeVar("Question")
Reply = TypeVar("Reply")

MOST_WAITING = 2000


class Overloaded(LookalikeError):
    """Too many wait already: HTTP 503."""


@dataclass
class Coalescer(Generic[Question, Reply]):
    """A queue before something that answers many questions in one call.

    Parameters
    ----------
    call : callable
        Answers a batch, in its order.
    most : callable
        How many questions of a kind go in one call at the most.
    kind : callable
        Questions of different kinds never share a call. They are called in the order in which they came.
    retry_alone : callable
        Whether, after a call that failed with this error, its questions are asked again one by one, so that only the
        one at fault fails. Not for writes.
    """

    call: Callable[[list[Question]], Awaitable[Sequence[Reply]]]
    most: Callable[[Hashable], int]
    kind: Callable[[Question], Hashable] = lambda _: None
    retry_alone: Callable[[Exception], bool] = lambda _: False
    _waiting: list[tuple[Question, asyncio.Future[Reply]]] = field(default_factory=list)
    _caller: asyncio.Task[None] | None = None

    async def ask(self, question: Question) -> Reply:
        """Ask one question; errors of the call are raised here.

        Raises
        ------
        Overloaded
            Too many questions wait.
        """
        if len(self._waiting) >= MOST_WAITING:
            raise Overloaded(f"{len(self._waiting)} requests wait already; try again in a moment")
        reply: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._waiting.append((question, reply))
        if self._caller is None or self._caller.done():
            self._caller = asyncio.create_task(self._call_while_any_wait())
        return await reply

    async def _call_while_any_wait(self) -> None:
        while self._waiting:
            batch = self._next_batch()
            error = await self._settle(batch)
            if error is not None and len(batch) > 1 and self.retry_alone(error):
                for one in batch:
                    _fail([one], await self._settle([one]))
            else:
                _fail(batch, error)

    def _next_batch(self) -> list[tuple[Question, asyncio.Future[Reply]]]:
        kind = self.kind(self._waiting[0][0])
        same = itertools.takewhile(lambda asked: self.kind(asked[0]) == kind, self._waiting)
        batch = list(itertools.islice(same, self.most(kind)))
        del self._waiting[: len(batch)]
        return batch

    async def _settle(self, batch: list[tuple[Question, asyncio.Future[Reply]]]) -> Exception | None:
        """Call, and hand out the replies. One that went away meanwhile has cancelled its future."""
        batch = [asked for asked in batch if not asked[1].done()]
        if not batch:
            return None
        try:
            replies = await self.call([question for question, _ in batch])
        except Exception as error:  # noqa: BLE001 - it belongs to those who asked; the queue must go on
            return error
        for (_, future), reply in zip(batch, replies, strict=True):
            if not future.done():
                future.set_result(reply)
        return None


def _fail(batch: list[tuple[Question, asyncio.Future[Reply]]], error: Exception | None) -> None:
    for _, future in batch:
        if error is not None and not future.done():
            future.set_exception(error)
