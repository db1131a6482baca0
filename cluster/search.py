"""Ask every shard and merge: ordinary async code that knows neither HTTP nor what a shard is made of.

A call between processes costs more than a scan of a million short codes. So each shard has one call under way,
and whatever is asked meanwhile goes together in the next; an idle shard is called at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace

from lookalike.actors.batch import ShardQuery
from lookalike.actors.hits import Hit, ShardHits, UnknownImage, merge
from lookalike.errors import LookalikeError

Reply = ShardHits | UnknownImage
Batch = Sequence[ShardQuery]
# Calls one replica of one shard with a batch; raises ReplicaLost when that replica cannot answer.
Replica = Callable[[Batch], Awaitable[Sequence[Reply]]]
_Asked = tuple[ShardQuery, asyncio.Future[Reply]]

# A page of hits is a few kilobytes per query; past a hundred queries the answers of one call delay each other.
MOST_IN_A_CALL = 128
MOST_HEAVY_IN_A_CALL = 4
MOST_WAITING = 2000


class ReplicaLost(LookalikeError):
    """One replica of a shard is dead, restarting or late."""


class ShardUnavailable(LookalikeError):
    """No replica of a shard answered in time."""


class NoSuchImage(LookalikeError):
    """No stored image has this id: HTTP 404."""


class Overloaded(LookalikeError):
    """Too many searches wait already: HTTP 503."""


@dataclass(frozen=True)
class Answer:
    """The hits, and how many of the shards they come from."""

    hits: list[Hit]
    shards_answered: int
    shards_total: int


@dataclass
class ShardQueue:
    """One shard as its callers see it: queries wait here, and go together in one call at a time."""

    replicas: Sequence[Replica]
    timeout_s: float
    _waiting: list[_Asked] = field(default_factory=list)
    _caller: asyncio.Task[None] | None = None
    _turn: int = 0

    async def ask(self, query: ShardQuery) -> Reply:
        """Ask the shard one question.

        Raises
        ------
        ShardUnavailable
            No replica answered in time.
        Overloaded
            Too many questions wait.
        """
        if len(self._waiting) >= MOST_WAITING:
            raise Overloaded(f"{len(self._waiting)} searches wait already; try again in a moment")
        answer: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._waiting.append((query, answer))
        if self._caller is None or self._caller.done():
            self._caller = asyncio.create_task(self._call_while_any_wait())
        return await answer

    async def _call_while_any_wait(self) -> None:
        while self._waiting:
            batch = self._next_batch()
            if not await self._call_and_settle(batch) and len(batch) > 1:
                # One of them may be at fault; the others must not suffer for it.
                for one in batch:
                    await self._call_and_settle([one], last=True)

    def _next_batch(self) -> list[_Asked]:
        """Take what waits longest, and all of its kind: light queries must not wait for heavy ones in their call."""
        self._waiting = [asked for asked in self._waiting if not asked[1].done()]
        if not self._waiting:
            return []
        kind = _is_heavy(self._waiting[0][0])
        batch = [asked for asked in self._waiting if _is_heavy(asked[0]) == kind]
        batch = batch[: MOST_HEAVY_IN_A_CALL if kind else MOST_IN_A_CALL]
        taken = {id(asked) for asked in batch}
        self._waiting = [asked for asked in self._waiting if id(asked) not in taken]
        return batch

    async def _call_and_settle(self, batch: list[_Asked], last: bool = False) -> bool:
        """Call the shard and hand out the replies. Returns false where the batch should be asked one by one."""
        batch = [asked for asked in batch if not asked[1].done()]
        if not batch:
            return True
        try:
            replies = await self._call([query for query, _ in batch])
        except Exception as error:  # noqa: BLE001 - whatever it is belongs to those who asked; the queue must go on
            if len(batch) > 1 and not last and not isinstance(error, ShardUnavailable):
                return False
            for _, answer in batch:
                _settle(answer, error)
        else:
            for (_, answer), reply in zip(batch, replies, strict=True):
                _settle(answer, reply)
        return True

    async def _call(self, batch: Batch) -> Sequence[Reply]:
        """Try the replicas one after the other, beginning with the next in turn."""
        self._turn += 1
        lost: list[str] = []
        for attempt in range(len(self.replicas)):
            replica = self.replicas[(self._turn + attempt) % len(self.replicas)]
            try:
                return await asyncio.wait_for(replica(batch), self.timeout_s)
            except ReplicaLost as error:
                lost.append(str(error))
            except TimeoutError:
                lost.append(f"no answer within {self.timeout_s:g} s")
        raise ShardUnavailable("; ".join(lost))


def _is_heavy(query: ShardQuery) -> bool:
    """Whether a query ranks every row by its long code, or every candidate by its listing."""
    return query.candidates is None or query.collapse


def _settle(answer: asyncio.Future[Reply], outcome: Reply | Exception) -> None:
    """Give one asker what it waits for; one that went away meanwhile has cancelled its future."""
    if answer.done():
        return
    if isinstance(outcome, Exception):
        answer.set_exception(outcome)
    else:
        answer.set_result(outcome)


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
