"""Writes that come one by one, committed in groups: while one commit is under way the next group gathers."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lookalike.cluster.coordinator.batching import BatchingQueue
from lookalike.ingest.catalogue.entries import Entry
from lookalike.ingest.encode import rows_table
from lookalike.ingest.photos.decode import media_type
from lookalike.ingest.store.collection import Store
from lookalike.model.descriptor import Descriptors

# With photos of 25 MB each, what waits is bounded by the limit on all bodies together.
MOST_IN_A_COMMIT = 256
SUFFIXES = {"image/jpeg": ".jpg", "image/png": ".png", "image/webp": ".webp"}


@dataclass(frozen=True)
class _Put:
    """An image to insert or replace, with its photo and its codes, each uint64 (words,)."""

    entry: Entry
    photo: bytes
    codes: tuple[NDArray[np.uint64], NDArray[np.uint64]]

    @property
    def image_id(self) -> str:
        return self.entry.image_id


@dataclass(frozen=True)
class _Delete:
    """An image to delete."""

    image_id: str


class Writer:
    """Put and delete images of one collection; each call returns when its change is durable.

    Puts and deletes are committed in the order in which they came. A client that goes away does not stop a write
    whose commit has begun: from then on it belongs to the writer, file and row.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._queue = BatchingQueue[_Put | _Delete, bool](self._commit, lambda _: MOST_IN_A_COMMIT, type)

    async def put(self, entry: Entry, photo: bytes, codes: tuple[NDArray[np.uint64], NDArray[np.uint64]]) -> None:
        """Insert or replace an image. Its photo is kept in the store."""
        await self._queue.submit(_Put(entry, photo, codes))

    async def delete(self, image_id: str) -> bool:
        """Delete an image, and its photo if the store keeps it. Returns whether it was there."""
        return await self._queue.submit(_Delete(image_id))

    async def _commit(self, writes: Sequence[_Put | _Delete]) -> Sequence[bool]:
        puts = [write for write in writes if isinstance(write, _Put)]
        if puts:
            await asyncio.to_thread(self._put, puts)
            return [True] * len(puts)
        there = await asyncio.to_thread(self._delete, [write.image_id for write in writes])
        return [write.image_id in there for write in writes]

    def _put(self, puts: Sequence[_Put]) -> None:
        """Photos first, then the rows that name them, then the photos that the rows replaced."""
        ids = [put.image_id for put in puts]
        before = self._photos_of(ids)
        added: list[str] = []
        try:
            for put in puts:
                suffix = SUFFIXES[media_type(put.photo) or "image/jpeg"]
                added.append(self._store.add_photo(put.image_id, put.photo, suffix))
            codes = Descriptors(np.stack([put.codes[0] for put in puts]), np.stack([put.codes[1] for put in puts]))
            rows = rows_table(self._store, [put.entry for put in puts], added, [0] * len(puts), codes)
            self._store.upsert(rows)
        finally:
            # What no row names now: the replaced photos, or the new ones where the commit failed.
            for location in {*before.values(), *added} - set(self._photos_of(ids).values()):
                self._store.drop_photo(location)

    def _delete(self, image_ids: Sequence[str]) -> set[str]:
        before = self._photos_of(image_ids)
        deleted = self._store.delete(image_ids)
        for image_id in deleted:
            self._store.drop_photo(before[image_id])
        return deleted

    def _photos_of(self, image_ids: Sequence[str]) -> dict[str, str]:
        rows = self._store.find(image_ids, ["photo"])
        return {image_id: str(row["photo"]) for image_id, row in rows.items()}
