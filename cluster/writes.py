"""Writes that come one by one, committed in groups: while one commit is under way the next group gathers."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import dataclass, field

import pyarrow as pa

from lookalike.ingest.store import Store


@dataclass(frozen=True)
class _Write:
    """One row to put (a table of one row), or one image id to delete."""

    put: pa.Table | None
    image_id: str
    done: asyncio.Future[bool]


@dataclass
class Writer:
    """Put and delete images of one collection; each call returns when its change is durable."""

    store: Store
    _waiting: list[_Write] = field(default_factory=list)
    _committer: asyncio.Task[None] | None = None

    async def put(self, image_id: str, row: pa.Table) -> None:
        """Insert or replace the image of a table of one row."""
        await self._enqueue(row, image_id)

    async def delete(self, image_id: str) -> bool:
        """Delete an image. Returns whether it was there."""
        return await self._enqueue(None, image_id)

    async def _enqueue(self, put: pa.Table | None, image_id: str) -> bool:
        write = _Write(put, image_id, asyncio.get_running_loop().create_future())
        self._waiting.append(write)
        if self._committer is None or self._committer.done():
            self._committer = asyncio.create_task(self._commit_while_any_wait())
        return await write.done

    async def _commit_while_any_wait(self) -> None:
        while self._waiting:
            group, self._waiting = self._waiting, []
            for is_put, run in itertools.groupby(group, key=lambda write: write.put is not None):
                writes = list(run)
                try:
                    there = await asyncio.to_thread(self._put if is_put else self._delete, writes)
                except Exception as error:  # noqa: BLE001 - it belongs to those who wrote; the queue must go on
                    for write in writes:
                        if not write.done.done():
                            write.done.set_exception(error)
                else:
                    for write in writes:
                        if not write.done.done():  # a client that went away has cancelled it
                            write.done.set_result(write.image_id in there)

    def _put(self, writes: list[_Write]) -> set[str]:
        self.store.upsert(pa.concat_tables([write.put for write in writes]))
        return {write.image_id for write in writes}

    def _delete(self, writes: list[_Write]) -> set[str]:
        return self.store.delete([write.image_id for write in writes])
