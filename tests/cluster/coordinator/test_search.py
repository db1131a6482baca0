"""Scatter and merge: which shards get a query, what a partial answer says, and which queries share a call."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from support.hits import shard_hits

from lookalike.actors.query.deadline import DeadlineExceeded
from lookalike.actors.query.merge import NotHeld, PastDeadline, Reply, candidates_per_shard
from lookalike.actors.query.query import Descriptor, Query, SearchOptions
from lookalike.cluster.coordinator.batching import BatchingQueue
from lookalike.cluster.coordinator.replica_set import ReplicaLostError, ShardUnavailableError
from lookalike.cluster.coordinator.search import (
    MAX_BATCH,
    MAX_HEAVY_BATCH,
    ShardedSearch,
    ShardReplica,
    UnknownImageError,
    shard_queues,
)

CODES = Descriptor(np.zeros(1, np.uint64), np.zeros(1, np.uint64))
CANDIDATES = 5


def query(target: str | Descriptor = CODES, *, light: bool = True, collapse: bool = False, all_: bool = False) -> Query:
    options = SearchOptions(count=5, collapse=collapse, require_all=all_)
    return Query(options, (100,), CANDIDATES if light else None, target)


class Shard:
    """Holds one image and finds it for every query; it remembers the batches that it got."""

    def __init__(self, image_id: str, error: Exception | None = None) -> None:
        self.image_id = image_id
        self.error = error
        self.batches: list[list[Query]] = []
        self.looked_up: list[str] = []

    async def search(self, batch: Sequence[Query]) -> Sequence[Reply]:
        self.batches.append(list(batch))
        if self.error is not None:
            raise self.error
        return [self._reply(one) for one in batch]

    async def look_up(self, image_ids: Sequence[str]) -> Sequence[Descriptor | None]:
        self.looked_up += image_ids
        if self.error is not None:
            raise self.error
        return [CODES if image_id == self.image_id else None for image_id in image_ids]

    def _reply(self, one: Query) -> Reply:
        if one.image_id == "poison":
            raise ValueError("a query at fault")
        if one.image_id == "late":
            return PastDeadline()
        if one.descriptor is None and one.image_id != self.image_id:
            return NotHeld()
        pinned = 0 if one.image_id == self.image_id else -1
        return shard_hits([(self.image_id, "")], keys=[ord(self.image_id)], short=[0], long=[0], pinned=pinned)


def replica(shard: Shard) -> ShardReplica:
    return ShardReplica(shard.search, shard.look_up)


def queue_of(shard: Shard) -> BatchingQueue[Query, Reply]:
    return shard_queues([replica(shard)], 5).searches


def search_of(shards: Sequence[Shard], owner: int = 0) -> ShardedSearch:
    return ShardedSearch([shard_queues([replica(shard)], 5) for shard in shards], lambda _: owner)


def test_sharded_search_looks_the_codes_up_at_the_owner_and_asks_all_by_them() -> None:
    async def run() -> None:
        shards = [Shard("a"), Shard("b"), Shard("c")]
        answer = await search_of(shards, owner=1)(query("b"))
        assert [hit.image_id for hit in answer.hits] == ["b", "a", "c"], "the target comes first"
        assert (answer.shards_answered, answer.shards_total) == (3, 3)
        assert [shard.looked_up for shard in shards] == [[], ["b"], []]
        for shard in shards:
            ((asked,),) = shard.batches
            assert (asked.image_id, asked.descriptor) == ("b", CODES)

    asyncio.run(run())


def test_sharded_search_asks_a_single_shard_once_even_by_id() -> None:
    async def run() -> None:
        shard = Shard("a")
        answer = await search_of([shard])(query("a"))
        assert [hit.image_id for hit in answer.hits] == ["a"]
        assert (shard.looked_up, len(shard.batches)) == ([], 1)
        with pytest.raises(UnknownImageError):
            await search_of([shard])(query("who"))

    asyncio.run(run())


def test_sharded_search_for_an_unknown_id_goes_to_the_owner_alone() -> None:
    async def run() -> None:
        shards = [Shard("a"), Shard("b")]
        with pytest.raises(UnknownImageError, match="no image has the id who"):
            await search_of(shards)(query("who"))
        assert [shard.batches for shard in shards] == [[], []]

    asyncio.run(run())


class NearShard(Shard):
    """Holds nothing but rows that are nearer than all others; of those it reports as many as it is asked for."""

    def _reply(self, one: Query) -> Reply:
        candidates = one.candidates or 0
        ids = [(f"{self.image_id}{number}", "") for number in range(candidates)]
        zeros = [0] * candidates
        return shard_hits(ids, keys=range(candidates), short=zeros, long=zeros, threshold=0)


def test_sharded_search_asks_again_for_all_candidates_where_a_part_is_not_enough() -> None:
    async def run() -> None:
        shards = [NearShard("n"), FarShard("f"), FarShard("g"), FarShard("h")]
        search = search_of(shards)
        wanted = replace(query(), candidates=1000)
        answer = await search(wanted)
        assert [hit.image_id[0] for hit in answer.hits] == ["n"] * 5
        part = candidates_per_shard(1000, 4)
        assert [one.candidates for batch in shards[0].batches for one in batch] == [part, 1000]
        assert all([one.candidates for batch in shard.batches for one in batch] == [part] for shard in shards[1:])
        assert search.second_rounds == 1

    asyncio.run(run())


class FarShard(Shard):
    """Holds more rows than it is asked for, all of them far."""

    def _reply(self, one: Query) -> Reply:
        hits = shard_hits([(self.image_id, "")], keys=[5000], short=[8], long=[9], threshold=8)
        return replace(hits, histogram=np.array([0] * 8 + [one.candidates or 0]))


@pytest.mark.parametrize("error", [None, ReplicaLostError("dead")])
def test_sharded_search_leaves_out_a_shard_that_is_lost_before_the_second_round(error: Exception | None) -> None:
    class Dying(NearShard):
        def _reply(self, one: Query) -> Reply:
            self.error = error
            return super()._reply(one)

    async def run() -> None:
        answer = await search_of([Dying("n"), FarShard("f"), FarShard("g")])(replace(query(), candidates=1000))
        lost = error is not None
        assert answer.shards_answered == 3 - lost
        assert {hit.image_id[0] for hit in answer.hits} == ({"f", "g"} if lost else {"n"})

    asyncio.run(run())


def test_sharded_search_says_when_a_query_came_too_late() -> None:
    async def run() -> None:
        with pytest.raises(DeadlineExceeded, match="try again"):
            await search_of([Shard("late")])(query("late"))

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


async def _outcomes(queue: BatchingQueue[Query, Reply], queries: Sequence[Query]) -> list[Reply | BaseException]:
    return await asyncio.gather(*(queue.submit(one) for one in queries), return_exceptions=True)


def test_shard_queue_sends_heavy_queries_in_calls_of_their_own() -> None:
    async def run() -> None:
        shard = Shard("a")
        light = [query() for _ in range(MAX_BATCH + 1)]
        heavy = [query(light=False), query(collapse=True)] * 3
        await _outcomes(queue_of(shard), [*light, *heavy])
        assert list(map(len, shard.batches)) == [MAX_BATCH, 1, MAX_HEAVY_BATCH, 2]

    asyncio.run(run())


def test_shard_queue_lets_the_query_at_fault_fail_alone() -> None:
    async def run() -> None:
        outcomes = await _outcomes(queue_of(Shard("a")), [query("a"), query("poison"), query()])
        assert [isinstance(outcome, ValueError) for outcome in outcomes] == [False, True, False]

    asyncio.run(run())


def test_shard_queue_does_not_retry_queries_one_by_one_when_every_replica_is_lost() -> None:
    async def run() -> None:
        shard = Shard("a", ReplicaLostError("dead"))
        outcomes = await _outcomes(queue_of(shard), [query() for _ in range(3)])
        assert all(isinstance(outcome, ShardUnavailableError) for outcome in outcomes)
        assert len(shard.batches) == 1

    asyncio.run(run())
