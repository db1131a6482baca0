"""One call at a time for all requests that are pending: between processes a call is dear, what it carries is cheap.

Requests that come while a call is in flight go together in the next one; an idle queue calls at once.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from lookalike.errors import LookalikeError

RequestT = TypeVar("RequestT")
ReplyT = TypeVar("ReplyT")

MAX_PENDING = 2000


class OverloadedError(LookalikeError):
    """Too many requests are pending already. Argument: how many, and what to do."""


@dataclass
class BatchingQueue(Generic[RequestT, ReplyT]):
    """A queue in front of something that answers many requests in one call.

    Parameters
    ----------
    call : callable
        Answers a batch, in its order.
    max_batch : callable
        How many requests of a kind go in one call at most.
    kind : callable
        Requests of different kinds never share a call. They are called in the order in which they came.
    retry_alone : callable
        Whether, after a call that failed with this error, its requests are tried again one by one, so that only the
        one at fault fails. Not for writes.
    """

    call: Callable[[list[RequestT]], Awaitable[Sequence[ReplyT]]]
    max_batch: Callable[[Hashable], int]
    kind: Callable[[RequestT], Hashable] = lambda _: None
    retry_alone: Callable[[Exception], bool] = lambda _: False
    _pending: list[_Pending[RequestT, ReplyT]] = field(default_factory=list)
    _worker: asyncio.Task[None] | None = None

    async def submit(self, request: RequestT) -> ReplyT:
        """Give the reply to one request; errors of the call are raised here.

        Raises
        ------
        OverloadedError
            ``MAX_PENDING`` requests are pending.
        """
        if len(self._pending) >= MAX_PENDING:
            self._drop_cancelled()
        if len(self._pending) >= MAX_PENDING:
            raise OverloadedError(f"{len(self._pending)} requests are pending already; try again in a moment")
        reply: asyncio.Future[ReplyT] = asyncio.get_running_loop().create_future()
        self._pending.append(_Pending(request, reply))
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work())
        return await reply

    async def _work(self) -> None:
        while batch := self._next_batch():
            error = await self._run(batch)
            if error is not None and len(batch) > 1 and self.retry_alone(error):
                for one in batch:
                    _fail([one], await self._run([one]))
            else:
                _fail(batch, error)

    def _next_batch(self) -> list[_Pending[RequestT, ReplyT]]:
        """Take the oldest request, and those that follow it as long as they are of its kind."""
        self._drop_cancelled()
        if not self._pending:
            return []
        kind = self.kind(self._pending[0].request)
        same = itertools.takewhile(lambda pending: self.kind(pending.request) == kind, self._pending)
        batch = list(itertools.islice(same, self.max_batch(kind)))
        del self._pending[: len(batch)]
        return batch

    def _drop_cancelled(self) -> None:
        """Forget requests whose clients have gone: that cancelled their futures."""
        self._pending = [pending for pending in self._pending if not pending.reply.done()]

    async def _run(self, batch: Sequence[_Pending[RequestT, ReplyT]]) -> Exception | None:
        """Call, and hand out the replies; or return the error. Clients may go while the call is in flight."""
        batch = [pending for pending in batch if not pending.reply.done()]
        if not batch:
            return None
        try:
            replies = await self.call([pending.request for pending in batch])
            paired = list(zip(batch, replies, strict=True))
        except Exception as error:  # noqa: BLE001 - it belongs to those who submitted; the queue must go on
            return error
        for pending, reply in paired:
            if not pending.reply.done():
                pending.reply.set_result(reply)
        return None


@dataclass(frozen=True, slots=True)
class _Pending(Generic[RequestT, ReplyT]):
    """A request, and where its reply goes."""

    request: RequestT
    reply: asyncio.Future[ReplyT]


def _fail(batch: Sequence[_Pending[RequestT, ReplyT]], error: Exception | None) -> None:
    for pending in batch:
        if error is not None and not pending.reply.done():
            pending.reply.set_exception(error)
