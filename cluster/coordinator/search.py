"""Ask every shard and merge: ordinary async code that knows neither HTTP nor what a shard is made of."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass, replace

from lookalike.actors.query.merge import Hit, ShardHits, UnknownImage, merge
from lookalike.actors.query.search import ShardQuery
from lookalike.cluster.coordinator.batching import Coalescer
from lookalike.errors import LookalikeError

Reply = ShardHits | UnknownImage
Batch = Sequence[ShardQuery]
# Calls one replica of one shard with a batch; raises ReplicaLost when that replica cannot answer.
Replica = Callable[[Batch], Awaitable[Sequence[Reply]]]

# A page of hits is a few kilobytes per query; past a hundred queries the answers of one call delay each other.
MOST_IN_A_CALL = 128
MOST_HEAVY_IN_A_CALL = 4


class ReplicaLost(LookalikeError):
    """One replica of a shard is dead, restarting or late."""


class ShardUnavailable(LookalikeError):
    """No replica of a shard answered in time."""


class NoSuchImage(LookalikeError):
    """No stored image has this id: HTTP 404."""


@dataclass(frozen=True)
class Answer:
    """The hits, and how many of the shards they come from."""

    hits: list[Hit]
    shards_answered: int
    shards_total: int


class ShardQueue(Coalescer[ShardQuery, Reply]):
    """One shard as its callers see it: all queries that wait go in one call, to one replica after the other.

    Heavy queries go in calls of their own, so that light ones do not wait for them in theirs.
    """

    def __init__(self, replicas: Sequence[Replica], timeout_s: float) -> None:
        super().__init__(self._call, _most, _is_heavy, _may_be_one_of_them)
        self._replicas = replicas
        self._timeout_s = timeout_s
        self._turn = 0

    async def _call(self, batch: list[ShardQuery]) -> Sequence[Reply]:
        """Try the replicas, beginning with the next in turn."""
        self._turn += 1
        lost: list[str] = []
        for attempt in range(len(self._replicas)):
            replica = self._replicas[(self._turn + attempt) % len(self._replicas)]
            try:
                return await asyncio.wait_for(replica(batch), self._timeout_s)
            except ReplicaLost as error:
                lost.append(str(error))
            except TimeoutError:
                lost.append(f"no answer within {self._timeout_s:g} s")
        raise ShardUnavailable("; ".join(lost))


def _is_heavy(query: ShardQuery) -> bool:
    """Whether a query ranks every row by its long code, or every candidate by its listing."""
    return query.candidates is None or query.collapse


def _most(heavy: Hashable) -> int:
    return MOST_HEAVY_IN_A_CALL if heavy else MOST_IN_A_CALL


def _may_be_one_of_them(error: Exception) -> bool:
    """Whether a call may have failed because of one of its queries."""
    return not isinstance(error, ShardUnavailable)


@dataclass(frozen=True)
class Search:
    """Search one collection: ``shards`` in order, and ``owner`` to tell which of them holds an image id."""

    shards: Sequence[ShardQueue]
    owner: Callable[[str], int]

    async def __call__(self, query: ShardQuery) -> Answer:
        """Answer a query from all shards that can answer.

        Raises
        ------
        NoSuchImage
            The query names an image that is not there.
        ShardUnavailable
            The shard that holds the image named does not answer, or no shard does.
        """
        replies: list[Reply | BaseException] = []
        others: Sequence[ShardQueue] = self.shards
        named = query.image_id
        if named is not None:
            owner = self.owner(named)
            own = await self.shards[owner].ask(query)
            if isinstance(own, UnknownImage):
                raise NoSuchImage(named)
            replies.append(own)
            others = [*self.shards[:owner], *self.shards[owner + 1 :]]
            query = replace(query, image_id=None, codes=own.codes)
        replies += await asyncio.gather(*(shard.ask(query) for shard in others), return_exceptions=True)
        return self._answer(replies, query, named)

    def _answer(self, replies: Sequence[Reply | BaseException], query: ShardQuery, named: str | None) -> Answer:
        parts = [reply for reply in replies if isinstance(reply, ShardHits)]
        failures = [reply for reply in replies if isinstance(reply, BaseException)]
        for failure in failures:
            if not isinstance(failure, ShardUnavailable) or not parts:
                raise failure
        hits = merge(parts, query.count, query.candidates, query.collapse, named)
        return Answer(hits, len(parts), len(self.shards))
