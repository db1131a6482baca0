"""Scatter a query to every shard and merge what they found: ordinary async code that knows neither HTTP nor Ray."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from lookalike.actors.query import wire
from lookalike.actors.query.deadline import DeadlineExceeded
from lookalike.actors.query.merge import (
    Hit,
    NotHeld,
    PastDeadline,
    Reply,
    ShardHits,
    candidates_per_shard,
    merge,
    to_ask_again,
)
from lookalike.actors.query.query import Descriptor, Query
from lookalike.cluster.coordinator.batching import BatchingQueue
from lookalike.cluster.coordinator.replica_set import Replica, ReplicaSet, ShardUnavailableError
from lookalike.errors import LookalikeError

# A page of hits is a few kilobytes per query; past a hundred queries the replies of one call delay each other.
MAX_BATCH = 128
MAX_HEAVY_BATCH = 4


class UnknownImageError(LookalikeError):
    """No stored image has this id. Argument: the id."""

    def __str__(self) -> str:
        return f"no image has the id {self.args[0]}"


@dataclass(frozen=True)
class Answer:
    """The hits, and how many of the shards they come from."""

    hits: list[Hit]
    shards_answered: int
    shards_total: int


@dataclass(frozen=True)
class ShardReplica:
    """What one replica of a shard does: search, and look up the codes of stored images, None for those not held."""

    search: Replica[Query, Reply]
    look_up: Replica[str, Descriptor | None]

    @classmethod
    def over(cls, call: Callable[[bytes], Awaitable[bytes]]) -> ShardReplica:
        """Make one of a call that takes and gives the messages of ``query.wire``."""

        async def search(batch: Sequence[Query]) -> Sequence[Reply]:
            return wire.decode_replies(await call(wire.encode_queries(batch, time.monotonic())))

        async def look_up(image_ids: Sequence[str]) -> Sequence[Descriptor | None]:
            return wire.decode_codes(await call(wire.encode_lookup(image_ids)))

        return cls(search, look_up)


@dataclass(frozen=True)
class ShardQueues:
    """What is pending for one shard. Look-ups have a queue of their own, so that none waits for a search."""

    searches: BatchingQueue[Query, Reply]
    look_ups: BatchingQueue[str, Descriptor | None]


def shard_queues(replicas: Sequence[ShardReplica], timeout_s: float) -> ShardQueues:
    """Put queues in front of the replicas of one shard.

    Heavy queries go in calls of their own, so that light ones do not wait for them in theirs. After a call that failed
    for another reason than lost replicas one of its queries may be at fault, so each is tried alone.
    """
    searches = ReplicaSet([replica.search for replica in replicas], timeout_s)
    look_ups = ReplicaSet([replica.look_up for replica in replicas], timeout_s)
    return ShardQueues(
        BatchingQueue(searches, _max_batch, _is_heavy, _may_be_one_at_fault),
        BatchingQueue(look_ups, _max_batch, retry_alone=_may_be_one_at_fault),
    )


def _may_be_one_at_fault(error: Exception) -> bool:
    return not isinstance(error, ShardUnavailableError)


def _is_heavy(query: Query) -> bool:
    """Whether a query ranks every row by its long code, or every candidate by its listing."""
    return query.candidates is None or query.options.collapse


def _max_batch(heavy: Hashable) -> int:
    return MAX_HEAVY_BATCH if heavy else MAX_BATCH


@dataclass
class ShardedSearch:
    """Search one collection.

    Parameters
    ----------
    shards : sequence of ShardQueues
    owner : callable
        Tells which of the shards holds an image id, if any does.

    Attributes
    ----------
    second_rounds : int
        How many queries so far needed more of a shard than its part of the candidates.
    """

    shards: Sequence[ShardQueues]
    owner: Callable[[str], int]
    second_rounds: int = field(default=0, init=False)

    async def __call__(self, query: Query) -> Answer:
        """Answer a query from all shards that can answer.

        Where there are several, an id is looked up at its owner first, and each shard is asked for its part of the
        candidates; those that did not report far enough are asked again for all. Rows may change in between: a target
        that is deleted after it was looked up is not in the answer.

        Raises
        ------
        UnknownImageError
            The target is an image that is not stored.
        ShardUnavailableError
            The shard that holds the target does not answer, or no shard does, or the query requires all.
        DeadlineExceeded
            The query waited for too long.
        """
        several = len(self.shards) > 1
        if several and query.image_id is not None:
            codes = await self.shards[self.owner(query.image_id)].look_ups.submit(query.image_id)
            if codes is None:
                raise UnknownImageError(query.image_id)
            query = replace(query, codes=codes)
        if several and query.candidates is not None:
            replies = await self._in_rounds(query, query.candidates)
        else:
            replies = await self._ask(range(len(self.shards)), query)
        return self._answer(list(replies.values()), query)

    async def _in_rounds(self, query: Query, candidates: int) -> Mapping[int, ShardHits | ShardUnavailableError]:
        """Ask for a part of the candidates, and for all of them where the replies say that it is not enough.

        A shard that is asked for all of them reports far enough, so two rounds do; or a few more where rows change
        between them, each of which asks other shards.
        """
        part = replace(query, candidates=candidates_per_shard(candidates, len(self.shards)))
        replies = await self._ask(range(len(self.shards)), part)
        asked_for_all: set[int] = set()
        while True:
            answered = {number: reply for number, reply in replies.items() if isinstance(reply, ShardHits)}
            numbers = list(answered)
            again = {numbers[at] for at in to_ask_again(list(answered.values()), candidates)} - asked_for_all
            if not again:
                return replies
            self.second_rounds += not asked_for_all
            asked_for_all |= again
            replies |= await self._ask(again, query)

    async def _ask(self, numbers: Iterable[int], query: Query) -> dict[int, ShardHits | ShardUnavailableError]:
        """Ask some shards at once; only that one does not answer may be left to the caller."""
        asked = {number: self.shards[number].searches.submit(query) for number in numbers}
        replies = await asyncio.gather(*asked.values(), return_exceptions=True)
        return {number: _hits_of(reply, query) for number, reply in zip(asked, replies, strict=True)}

    def _answer(self, replies: Sequence[ShardHits | ShardUnavailableError], query: Query) -> Answer:
        parts = [reply for reply in replies if isinstance(reply, ShardHits)]
        for failure in replies:
            if isinstance(failure, ShardUnavailableError) and not parts:
                raise failure
        if query.options.require_all and len(parts) < len(self.shards):
            raise ShardUnavailableError(f"only {len(parts)} of {len(self.shards)} shards answered")
        return Answer(merge(parts, query), len(parts), len(self.shards))


def _hits_of(reply: Reply | BaseException, query: Query) -> ShardHits | ShardUnavailableError:
    match reply:
        case ShardHits() | ShardUnavailableError():
            return reply
        case NotHeld():
            raise UnknownImageError(query.image_id)
        case PastDeadline():
            raise DeadlineExceeded("the search waited for too long and was dropped; try again in a moment")
        case _:
            raise reply
