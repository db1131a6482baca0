"""The queue of a shard: who waits together, who fails alone, and who goes away without a trace."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from lookalike.actors.query.merge import ShardHits, UnknownImage
from lookalike.actors.query.search import ShardQuery
from lookalike.cluster.coordinator.batching import MOST_WAITING, Overloaded
from lookalike.cluster.coordinator.search import (
    MOST_IN_A_CALL,
    Batch,
    NoSuchImage,
    ReplicaLost,
    Reply,
    Search,
    ShardQueue,
    ShardUnavailable,
)


def query(image_id: str | None = None, count: int = 1) -> ShardQuery:
    code = np.zeros(1, np.uint64)
    return ShardQuery(count, count, (1,), image_id=image_id, codes=None if image_id else (code, code))


def found(image_id: str) -> ShardHits:
    near = np.zeros(1, np.int64)
    code = near.astype(np.uint64)
    distances = near.astype(np.uint16), near.astype(np.uint32)
    return ShardHits(np.ones(1, np.int64), code, *distances, None, [image_id], [image_id], [""], (code, code))


class Replica:
    """A replica that answers when it is let, and remembers the batches it got."""

    def __init__(self, name: str = "x", error: Exception | None = None) -> None:
        self.batches: list[int] = []
        self.free = asyncio.Event()
        self.free.set()
        self.name = name
        self.error = error

    async def __call__(self, batch: Batch) -> Sequence[Reply]:
        self.batches.append(len(batch))
        await self.free.wait()
        if self.error is not None:
            raise self.error
        return [found(asked.image_id or self.name) for asked in batch]


def test_what_waits_goes_together() -> None:
    async def run() -> None:
        replica = Replica()
        replica.free.clear()
        queue = ShardQueue([replica], 5)
        first = asyncio.create_task(queue.ask(query("first")))
        await asyncio.sleep(0.01)
        rest = [asyncio.create_task(queue.ask(query(str(n)))) for n in range(MOST_IN_A_CALL + 10)]
        await asyncio.sleep(0.01)
        replica.free.set()
        assert [hits.image_ids for hits in await asyncio.gather(first, *rest)] == [
            [name] for name in ["first", *map(str, range(MOST_IN_A_CALL + 10))]
        ]
        assert replica.batches == [1, MOST_IN_A_CALL, 10]

    asyncio.run(run())


def test_one_that_goes_away_disturbs_nobody() -> None:
    async def run() -> None:
        replica = Replica()
        replica.free.clear()
        queue = ShardQueue([replica], 5)
        tasks = [asyncio.create_task(queue.ask(query(str(n)))) for n in range(6)]
        await asyncio.sleep(0.01)
        for gone in (tasks[0], tasks[3]):
            gone.cancel()
        late = asyncio.create_task(queue.ask(query("late")))
        await asyncio.sleep(0.01)
        replica.free.set()
        left = await asyncio.gather(*tasks, late, return_exceptions=True)
        assert [isinstance(outcome, asyncio.CancelledError) for outcome in left] == [True, False, False, True] + [
            False
        ] * 3
        assert (await queue.ask(query("after"))).image_ids == ["after"]
        assert queue._waiting == []

    asyncio.run(run())


def test_the_other_replica_answers_for_one_that_is_lost_or_late() -> None:
    async def run() -> None:
        late = Replica("late")
        late.free.clear()
        for broken in (Replica("lost", ReplicaLost("dead")), late):
            queue = ShardQueue([broken, Replica("well")], 0.05)
            for _ in range(4):
                assert (await queue.ask(query())).image_ids == ["well"]
        with pytest.raises(ShardUnavailable, match="dead"):
            await ShardQueue([Replica("lost", ReplicaLost("dead"))], 1).ask(query())

    asyncio.run(run())


def test_an_error_reaches_those_who_asked_and_the_queue_goes_on() -> None:
    async def run() -> None:
        replica = Replica(error=ValueError("a fault of ours"))
        queue = ShardQueue([replica], 1)
        outcomes = await asyncio.gather(*(queue.ask(query()) for _ in range(3)), return_exceptions=True)
        assert [str(outcome) for outcome in outcomes] == ["a fault of ours"] * 3
        assert replica.batches == [3, 1, 1, 1]
        replica.error = None
        assert (await queue.ask(query("again"))).image_ids == ["again"]

    asyncio.run(run())


def test_too_many_waiting_are_refused() -> None:
    async def run() -> None:
        replica = Replica()
        replica.free.clear()
        queue = ShardQueue([replica], 5)
        tasks = [asyncio.create_task(queue.ask(query(str(n)))) for n in range(MOST_WAITING + 5)]
        await asyncio.sleep(0.1)
        replica.free.set()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert sum(isinstance(outcome, Overloaded) for outcome in outcomes) == 5

    asyncio.run(run())


def test_a_partial_answer_says_so_and_none_at_all_is_an_error() -> None:
    async def run() -> None:
        well, lost = ShardQueue([Replica("well")], 1), ShardQueue([Replica("x", ReplicaLost("dead"))], 1)
        answer = await Search([well, lost], lambda _: 0)(query())
        assert (answer.shards_answered, answer.shards_total, len(answer.hits)) == (1, 2, 1)
        for search in (Search([lost], lambda _: 0), Search([well, lost], lambda _: 1)):
            with pytest.raises(ShardUnavailable):
                await search(query("named" if len(search.shards) == 2 else None))

    asyncio.run(run())


def test_an_unknown_id_asks_no_other_shard() -> None:
    class Ignorant(Replica):
        async def __call__(self, batch: Batch) -> Sequence[Reply]:
            return [UnknownImage() for _ in batch]

    async def run() -> None:
        other = Replica()
        with pytest.raises(NoSuchImage):
            await Search([ShardQueue([Ignorant()], 1), ShardQueue([other], 1)], lambda _: 0)(query("who"))
        assert other.batches == []

    asyncio.run(run())


def test_one_at_fault_fails_alone() -> None:
    class Picky(Replica):
        async def __call__(self, batch: Batch) -> Sequence[Reply]:
            if any(asked.image_id == "bad" for asked in batch):
                raise ValueError("bad")
            return await super().__call__(batch)

    async def run() -> None:
        queue = ShardQueue([Picky()], 5)
        outcomes = await asyncio.gather(*(queue.ask(query(n)) for n in ("a", "bad", "b")), return_exceptions=True)
        assert [isinstance(outcome, ValueError) for outcome in outcomes] == [False, True, False]

    asyncio.run(run())


def test_heavy_queries_go_in_calls_of_their_own() -> None:
    async def run() -> None:
        replica = Replica()
        queue = ShardQueue([replica], 5)
        heavy = [replace(query(str(n)), candidates=None) for n in range(6)]
        light = [query(str(n)) for n in range(5)]
        await asyncio.gather(*(queue.ask(asked) for asked in [*light, *heavy]))
        assert replica.batches == [5, 4, 2]

    asyncio.run(run())
