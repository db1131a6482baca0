"""Scatter and merge: which shards get a query, what a partial answer says, and which queries share a call."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import numpy as np
import pytest

from lookalike.actors.query.merge import NotHeld, Reply, ShardHits
from lookalike.actors.query.query import Descriptor, Query, SearchOptions
from lookalike.cluster.coordinator.replica_set import ReplicaLostError, ShardUnavailableError
from lookalike.cluster.coordinator.search import (
    MAX_BATCH,
    MAX_HEAVY_BATCH,
    ShardedSearch,
    ShardQueue,
    UnknownImageError,
    shard_queue,
)

CODES = Descriptor(np.zeros(1, np.uint64), np.zeros(1, np.uint64))


def query(target: str | Descriptor = CODES, *, light: bool = True, collapse: bool = False, all_: bool = False) -> Query:
    options = SearchOptions(count=5, collapse=collapse, require_all=all_)
    return Query(options, (100,), 5 if light else None, target)


class Shard:
    """Holds one image and finds it for every query; it remembers the batches that it got."""

    def __init__(self, image_id: str, error: Exception | None = None) -> None:
        self.image_id = image_id
        self.error = error
        self.batches: list[list[Query]] = []

    async def __call__(self, batch: Sequence[Query]) -> Sequence[Reply]:
        self.batches.append(list(batch))
        if self.error is not None:
            raise self.error
        return [self._reply(one) for one in batch]

    def _reply(self, one: Query) -> Reply:
        if one.image_id == "poison":
            raise ValueError("a query at fault")
        if one.image_id not in (None, self.image_id):
            return NotHeld()
        zeros = np.zeros(1, np.uint64)
        names = [self.image_id]
        distances = zeros.astype(np.uint16), zeros.astype(np.uint32)
        own = None if one.image_id is None else CODES
        return ShardHits(np.ones(1, np.int64), zeros, *distances, None, names, names, [""], own)


def search_of(shards: Sequence[Shard], owner: int = 0) -> ShardedSearch:
    return ShardedSearch([shard_queue([shard], 5) for shard in shards], lambda _: owner)


def test_sharded_search_gets_the_codes_from_the_owner_and_the_others_by_them() -> None:
    async def run() -> None:
        shards = [Shard("a"), Shard("b"), Shard("c")]
        answer = await search_of(shards, owner=1)(query("b"))
        assert {hit.image_id for hit in answer.hits} == {"a", "b", "c"}
        assert answer.hits[0].image_id == "b", "the target comes first"
        assert (answer.shards_answered, answer.shards_total) == (3, 3)
        assert [shard.batches[0][0].target for shard in shards] == [CODES, "b", CODES]
        assert [len(shard.batches) for shard in shards] == [1, 1, 1]

    asyncio.run(run())


def test_sharded_search_for_an_unknown_id_goes_to_the_owner_alone() -> None:
    async def run() -> None:
        shards = [Shard("a"), Shard("b")]
        with pytest.raises(UnknownImageError, match="no image has the id who"):
            await search_of(shards)(query("who"))
        assert shards[1].batches == []

    asyncio.run(run())


def test_sharded_search_says_how_many_shards_answered() -> None:
    async def run() -> None:
        shards = [Shard("a"), Shard("b", ReplicaLostError("dead"))]
        answer = await search_of(shards)(query())
        assert (answer.shards_answered, answer.shards_total) == (1, 2)
        assert [hit.image_id for hit in answer.hits] == ["a"]

    asyncio.run(run())


@pytest.mark.parametrize(
    ("lost", "wanted"),
    [({0, 1}, query()), ({0}, query("a")), ({1}, query(all_=True)), ({1}, query("a", all_=True))],
    ids=["no shard answers", "the owner does not", "all are required", "all are required, by id"],
)
def test_sharded_search_fails_rather_than_answer_less_than_is_required(lost: set[int], wanted: Query) -> None:
    async def run() -> None:
        error = ReplicaLostError("dead")
        shards = [Shard(name, error if number in lost else None) for number, name in enumerate("ab")]
        with pytest.raises(ShardUnavailableError):
            await search_of(shards)(wanted)

    asyncio.run(run())


def test_sharded_search_does_not_hide_a_fault_of_ours_in_a_partial_answer() -> None:
    async def run() -> None:
        with pytest.raises(ValueError, match="ours"):
            await search_of([Shard("a"), Shard("b", ValueError("a fault of ours"))])(query())

    asyncio.run(run())


async def _outcomes(queue: ShardQueue, queries: Sequence[Query]) -> list[Reply | BaseException]:
    return await asyncio.gather(*(queue.submit(one) for one in queries), return_exceptions=True)


def test_shard_queue_sends_heavy_queries_in_calls_of_their_own() -> None:
    async def run() -> None:
        shard = Shard("a")
        light = [query() for _ in range(MAX_BATCH + 1)]
        heavy = [query(light=False), query(collapse=True)] * 3
        await _outcomes(shard_queue([shard], 5), [*light, *heavy])
        assert list(map(len, shard.batches)) == [MAX_BATCH, 1, MAX_HEAVY_BATCH, 2]

    asyncio.run(run())


def test_shard_queue_lets_the_query_at_fault_fail_alone() -> None:
    async def run() -> None:
        outcomes = await _outcomes(shard_queue([Shard("a")], 5), [query("a"), query("poison"), query()])
        assert [isinstance(outcome, ValueError) for outcome in outcomes] == [False, True, False]

    asyncio.run(run())


def test_shard_queue_does_not_retry_queries_one_by_one_when_every_replica_is_lost() -> None:
    async def run() -> None:
        shard = Shard("a", ReplicaLostError("dead"))
        outcomes = await _outcomes(shard_queue([shard], 5), [query() for _ in range(3)])
        assert all(isinstance(outcome, ShardUnavailableError) for outcome in outcomes)
        assert len(shard.batches) == 1

    asyncio.run(run())
