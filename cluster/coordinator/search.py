"""Scatter a query to every shard and merge what they found: ordinary async code that knows neither HTTP nor Ray."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace

from lookalike.actors.query.merge import Hit, NotHeld, Reply, ShardHits, merge
from lookalike.actors.query.query import Query
from lookalike.cluster.coordinator.batching import BatchingQueue
from lookalike.cluster.coordinator.replica_set import Replica, ReplicaSet, ShardUnavailableError
from lookalike.errors import LookalikeError

# A page of hits is a few kilobytes per query; past a hundred queries the replies of one call delay each other.
MAX_BATCH = 128
MAX_HEAVY_BATCH = 4

ShardReplica = Replica[Query, Reply]
ShardQueue = BatchingQueue[Query, Reply]


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


def shard_queue(replicas: Sequence[ShardReplica], timeout_s: float) -> ShardQueue:
    """Put a queue in front of the replicas of one shard.

    Heavy queries go in calls of their own, so that light ones do not wait for them in theirs. After a call that failed
    for another reason than lost replicas one of its queries may be at fault, so each is tried alone.
    """
    return BatchingQueue(
        ReplicaSet(replicas, timeout_s),
        max_batch=_max_batch,
        kind=_is_heavy,
        retry_alone=lambda error: not isinstance(error, ShardUnavailableError),
    )


def _is_heavy(query: Query) -> bool:
    """Whether a query ranks every row by its long code, or every candidate by its listing."""
    return query.candidates is None or query.options.collapse


def _max_batch(heavy: Hashable) -> int:
    return MAX_HEAVY_BATCH if heavy else MAX_BATCH


@dataclass(frozen=True)
class ShardedSearch:
    """Search one collection.

    Parameters
    ----------
    shards : sequence of ShardQueue
    owner : callable
        Tells which of the shards holds an image id, if any does.
    """

    shards: Sequence[ShardQueue]
    owner: Callable[[str], int]

    async def __call__(self, query: Query) -> Answer:
        """Answer a query from all shards that can answer.

        Raises
        ------
        UnknownImageError
            The target is an image that is not stored.
        ShardUnavailableError
            The shard that holds the target does not answer, or no shard does, or the query requires all.
        """
        replies: list[Reply | BaseException] = []
        others: Sequence[ShardQueue] = self.shards
        by_codes = query
        if query.image_id is not None:
            owner = self.owner(query.image_id)
            own = await self.shards[owner].submit(query)
            if isinstance(own, NotHeld) or own.descriptor is None:
                raise UnknownImageError(query.image_id)
            replies.append(own)
            others = [*self.shards[:owner], *self.shards[owner + 1 :]]
            by_codes = replace(query, target=own.descriptor)
        replies += await asyncio.gather(*(shard.submit(by_codes) for shard in others), return_exceptions=True)
        return self._answer(replies, query)

    def _answer(self, replies: Sequence[Reply | BaseException], query: Query) -> Answer:
        parts = [reply for reply in replies if isinstance(reply, ShardHits)]
        for failure in (reply for reply in replies if isinstance(reply, BaseException)):
            if not isinstance(failure, ShardUnavailableError) or not parts:
                raise failure
        if query.options.require_all and len(parts) < len(self.shards):
            raise ShardUnavailableError(f"only {len(parts)} of {len(self.shards)} shards answered")
        return Answer(merge(parts, query), len(parts), len(self.shards))
