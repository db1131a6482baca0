"""Writes that come one by one, committed in groups: while one commit is under way the next group gathers."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from lookalike.ingest.encode import rows_table
from lookalike.ingest.entries import Entry
from lookalike.ingest.images import media_type
from lookalike.ingest.store import Store
from lookalike.model.descriptor import Descriptors

SUFFIXES = {"image/jpeg": ".jpg", "image/png": ".png", "image/webp": ".webp"}


@dataclass(frozen=True)
class _Put:
    """An image to insert or replace, with its photo and its codes, each uint64 (words,)."""

    entry: Entry
    photo: bytes
    codes: tuple[NDArray[np.uint64], NDArray[np.uint64]]


@dataclass(frozen=True)
class _Write:
    """A change of one image, to be put or (None) deleted, and who waits for it."""

    image_id: str
    put: _Put | None
    done: asyncio.Future[bool]


@dataclass
class Writer:
    """Put and delete images of one collection; each call returns when its change is durable.

    A client that goes away does not stop its write: from here on it belongs to the writer, file and row.
    """

    store: Store
    _waiting: list[_Write] = field(default_factory=list)
    _committer: asyncio.Task[None] | None = None

    async def put(self, entry: Entry, photo: bytes, codes: tuple[NDArray[np.uint64], NDArray[np.uint64]]) -> None:
        """Insert or replace an image. Its photo is kept in the store."""
        await self._enqueue(entry.image_id, _Put(entry, photo, codes))

    async def delete(self, image_id: str) -> bool:
        """Delete an image, and its photo if the store keeps it. Returns whether it was there."""
        return await self._enqueue(image_id, None)

    async def _enqueue(self, image_id: str, put: _Put | None) -> bool:
        write = _Write(image_id, put, asyncio.get_running_loop().create_future())
        self._waiting.append(write)
        if self._committer is None or self._committer.done():
            self._committer = asyncio.create_task(self._commit_while_any_wait())
        return await write.done

    async def _commit_while_any_wait(self) -> None:
        while self._waiting:
            group, self._waiting = self._waiting, []
            for is_put, run in itertools.groupby(group, key=lambda write: write.put is not None):
                writes = list(run)
                commit = self._put if is_put else self._delete
                try:
                    there = await asyncio.to_thread(commit, writes)
                except Exception as error:  # noqa: BLE001 - it belongs to those who wrote; the queue must go on
                    for write in writes:
                        if not write.done.done():
                            write.done.set_exception(error)
                else:
                    for write in writes:
                        if not write.done.done():  # a client that went away has cancelled it
                            write.done.set_result(write.image_id in there)

    def _put(self, writes: Sequence[_Write]) -> set[str]:
        """Photos first, then the rows that name them, then the photos that the rows replaced."""
        puts = [write.put for write in writes if write.put is not None]
        before = self._photos_of(writes)
        added: list[str] = []
        try:
            for put in puts:
                suffix = SUFFIXES[media_type(put.photo) or "image/jpeg"]
                added.append(self.store.add_photo(put.entry.image_id, put.photo, suffix))
            codes = Descriptors(np.stack([put.codes[0] for put in puts]), np.stack([put.codes[1] for put in puts]))
            rows = rows_table(self.store, [put.entry for put in puts], added, [0] * len(puts), codes)
            self.store.upsert(rows)
        finally:
            # What no row names now: the replaced photos, or the new ones where the commit failed.
            named = self._photos_of(writes)
            for location in {*before.values(), *added} - set(named.values()):
                self.store.drop_photo(location)
        return {write.image_id for write in writes}

    def _delete(self, writes: Sequence[_Write]) -> set[str]:
        before = self._photos_of(writes)
        deleted = self.store.delete([write.image_id for write in writes])
        for image_id in deleted:
            self.store.drop_photo(before[image_id])
        return deleted

    def _photos_of(self, writes: Sequence[_Write]) -> dict[str, str]:
        rows = self.store.find([write.image_id for write in writes], ["photo"])
        return {image_id: str(row["photo"]) for image_id, row in rows.items()}
