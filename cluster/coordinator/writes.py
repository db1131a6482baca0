"""Writes that come one by one, sent to the writer in groups: while one group is committed the next one gathers."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from typing import Protocol

from lookalike.actors.writer import NewImage
from lookalike.cluster.coordinator.batching import BatchingQueue
from lookalike.errors import LookalikeError

# With photos of 25 MB each, what is pending is bounded by the limit on all bodies together.
MAX_WRITES_PER_COMMIT = 256


class WriterUnavailableError(LookalikeError):
    """The writer does not answer; what was sent may be stored or not. Argument: the reason, and what to do."""


class WriterCalls(Protocol):
    """The writer of a collection; each call returns when its group is durable."""

    def put(self, images: Sequence[NewImage]) -> Awaitable[None]: ...

    def delete(self, image_ids: Sequence[str]) -> Awaitable[Sequence[bool]]: ...


@dataclass(frozen=True)
class _Delete:
    """An image to delete."""

    image_id: str


class WriteQueue:
    """Put and delete images of one collection; each call returns when its change is durable.

    Puts and deletes are committed in the order in which they came. A client that goes away does not stop a write
    that was sent: from then on it belongs to the writer, photo and row.
    """

    def __init__(self, writer: WriterCalls) -> None:
        self._writer = writer
        self._queue = BatchingQueue[NewImage | _Delete, bool](self._commit, lambda _: MAX_WRITES_PER_COMMIT, type)

    async def put(self, image: NewImage) -> None:
        """Insert or replace an image. Its photo is kept in the store."""
        await self._queue.submit(image)

    async def delete(self, image_id: str) -> bool:
        """Delete an image. Returns whether it was there."""
        return await self._queue.submit(_Delete(image_id))

    async def _commit(self, writes: Sequence[NewImage | _Delete]) -> Sequence[bool]:
        images = [write for write in writes if isinstance(write, NewImage)]
        if images:
            await self._writer.put(images)
            return [True] * len(images)
        return await self._writer.delete([write.image_id for write in writes])
