"""The batching queue: what is pending goes together, the one at fault fails alone, who goes away leaves no trace."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lookalike.cluster.coordinator.batching import MAX_PENDING, BatchingQueue, OverloadedError

MAX_BATCH = 5


class Callee:
    """Answers when it is let, and remembers the batches that it got. ``bad`` requests fail their whole batch."""

    def __init__(self, bad: str = "") -> None:
        self.batches: list[list[str]] = []
        self.called = asyncio.Event()
        self.free = asyncio.Event()
        self.free.set()
        self.bad = bad

    async def __call__(self, batch: Sequence[str]) -> Sequence[str]:
        self.batches.append(list(batch))
        self.called.set()
        await self.free.wait()
        if self.bad in batch:
            raise ValueError(f"{self.bad} is bad")
        return [f"reply to {request}" for request in batch]


def queue_of(callee: Callee, retry_alone: bool = False) -> BatchingQueue[str, str]:
    """A queue whose requests are of the kind that their first letter says; capitals go two by two."""
    return BatchingQueue(
        callee,
        max_batch=lambda kind: 2 if str(kind).isupper() else MAX_BATCH,
        kind=lambda request: request[:1],
        retry_alone=lambda _: retry_alone,
    )


async def submitted(queue: BatchingQueue[str, str], requests: Sequence[str]) -> list[asyncio.Task[str]]:
    tasks = [asyncio.create_task(queue.submit(request)) for request in requests]
    await asyncio.sleep(0)  # each task runs until it waits for its reply
    return tasks


def test_batching_queue_sends_what_is_pending_together() -> None:
    async def run() -> None:
        callee = Callee()
        callee.free.clear()
        queue = queue_of(callee)
        first = await submitted(queue, ["first"])
        await callee.called.wait()
        rest = await submitted(queue, [f"f{n}" for n in range(MAX_BATCH + 2)])
        callee.free.set()
        replies = await asyncio.gather(*first, *rest)
        assert replies == ["reply to first", *(f"reply to f{n}" for n in range(MAX_BATCH + 2))]
        assert list(map(len, callee.batches)) == [1, MAX_BATCH, 2]

    asyncio.run(run())


@settings(deadline=None)
@given(st.lists(st.sampled_from("aAbB"), max_size=40))
def test_batching_queue_keeps_order_and_never_mixes_kinds(kinds: list[str]) -> None:
    async def run() -> None:
        callee = Callee()
        requests = [f"{kind}{number}" for number, kind in enumerate(kinds)]
        tasks = await submitted(queue_of(callee), requests)
        assert await asyncio.gather(*tasks) == [f"reply to {request}" for request in requests]
        assert [request for batch in callee.batches for request in batch] == requests
        for batch in callee.batches:
            assert len({request[0] for request in batch}) == 1
            assert len(batch) <= (2 if batch[0].isupper() else MAX_BATCH)

    asyncio.run(run())


def test_batching_queue_skips_cancelled_requests() -> None:
    async def run() -> None:
        callee = Callee()
        callee.free.clear()
        queue = queue_of(callee)
        in_flight = await submitted(queue, ["in flight", "in flight too"])
        await callee.called.wait()
        pending = await submitted(queue, [f"i{n}" for n in range(6)])
        for gone in (in_flight[0], pending[0], pending[3]):
            gone.cancel()
        callee.free.set()
        outcomes = await asyncio.gather(*in_flight, *pending, return_exceptions=True)
        cancelled = [isinstance(outcome, asyncio.CancelledError) for outcome in outcomes]
        assert cancelled == [True, False, True, False, False, True, False, False]
        assert callee.batches[1:] == [["i1", "i2", "i4", "i5"]]
        assert await queue.submit("after") == "reply to after"

    asyncio.run(run())


def test_batching_queue_retries_a_bad_request_alone() -> None:
    async def run() -> None:
        callee = Callee(bad="bad")
        tasks = await submitted(queue_of(callee, retry_alone=True), ["b1", "bad", "b2"])
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert [isinstance(outcome, ValueError) for outcome in outcomes] == [False, True, False]
        assert callee.batches == [["b1", "bad", "b2"], ["b1"], ["bad"], ["b2"]]

    asyncio.run(run())


def test_batching_queue_gives_an_error_to_all_of_its_batch_and_goes_on() -> None:
    async def run() -> None:
        callee = Callee(bad="bad")
        queue = queue_of(callee)
        outcomes = await asyncio.gather(*await submitted(queue, ["b1", "bad"]), return_exceptions=True)
        assert [str(outcome) for outcome in outcomes] == ["bad is bad", "bad is bad"]
        assert callee.batches == [["b1", "bad"]], "what is not retried is called once"
        assert await queue.submit("again") == "reply to again"

    asyncio.run(run())


def test_batching_queue_notices_a_reply_too_few() -> None:
    async def call(batch: Sequence[str]) -> Sequence[str]:
        return [f"reply to {request}" for request in batch[1:]]

    async def run() -> None:
        queue: BatchingQueue[str, str] = BatchingQueue(call, lambda _: MAX_BATCH)
        outcomes = await asyncio.gather(*await submitted(queue, ["a", "b"]), return_exceptions=True)
        assert all(isinstance(outcome, ValueError) for outcome in outcomes)

    asyncio.run(run())


def test_batching_queue_refuses_what_is_too_many_but_counts_no_cancelled_ones() -> None:
    async def run() -> None:
        callee = Callee()
        callee.free.clear()
        queue = queue_of(callee)
        await submitted(queue, ["first"])
        await callee.called.wait()
        pending = await submitted(queue, [f"p{n}" for n in range(MAX_PENDING)])
        with pytest.raises(OverloadedError):
            await queue.submit("one more")
        for gone in pending[:3]:
            gone.cancel()
        await asyncio.sleep(0)
        last = await submitted(queue, ["p in place of one that went away"])
        callee.free.set()
        assert await last[0] == "reply to p in place of one that went away"
        await asyncio.gather(*pending, return_exceptions=True)

    asyncio.run(run())
