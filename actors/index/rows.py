"""The rows of a shard in memory: codes, keys, ids and what filters read. Words of texts are in scratch files.

A row has a *slot*. One thread applies batches and publishes; each published state is a ``Snapshot``, and any number
of threads read. A row that is replaced gets another slot, and the old one is *retired*: snapshots that show it may
still be read. When the last of their readers has left, the slot is free and the next row is written there. So a search
is never disturbed, nothing is copied to publish but one bit per slot, and memory stays flat under endless upserts.
Slots left by deleted rows wait for new rows: a shard that shrank scans as many slots as before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from lookalike.actors.index.blobs import Blobs
from lookalike.actors.index.columns import (
    Categories,
    CategoryColumn,
    DegreesColumn,
    NumberColumn,
    SlotColumn,
    TimeColumn,
)
from lookalike.actors.index.ids import MAX_ID_BYTES, IdColumn, Ids
from lookalike.actors.index.key_index import KeyIndex
from lookalike.actors.index.ragged import lengths_of, parts_of
from lookalike.actors.index.slots import FreeList, Published, VisibleSlots, WriteLog, Writes, write
from lookalike.actors.index.word_index import WordIndex, Words
from lookalike.ingest.attributes import FilterKind, Held, columns, names_held
from lookalike.kernels.hamming import Codes
from lookalike.kernels.masks import Bitmap
from lookalike.kernels.memory import GrowableRows

_COLUMN_TYPES: Final[dict[Held, Callable[[], SlotColumn]]] = {
    Held.CATEGORY: CategoryColumn,
    Held.NUMBER: NumberColumn,
    Held.TIME: TimeColumn,
    Held.DEGREES: DegreesColumn,
}
# What a batch must have.
COLUMNS: Final = ("key", "image_id", "deleted", "short", "long", *names_held(*set(Held) - {Held.NO}))
_BLOCK = 1 << 16


@dataclass(frozen=True)
class Snapshot:
    """The rows as they were when they were published. Valid inside the ``Rows.reading`` block that gave it.

    Only visible slots keep their contents. The others may be written at any moment: their values mean nothing, and a
    mask over all slots must be combined with ``visible``.

    Attributes
    ----------
    codes : Codes
        Of all n slots.
    visible : ndarray of uint64, shape (ceil(n / 64),), or None
        Slot i is visible if bit ``i & 63`` of word ``i >> 6`` is set. None: all are.
    rows_visible : int
    generation : int
        Grows with each publication.
    """

    codes: Codes
    visible: NDArray[np.uint64] | None
    rows_visible: int
    generation: int
    _writes: Writes
    _index: KeyIndex
    _ids: Ids
    _columns: dict[str, Any]
    _words: dict[str, Words]

    def __len__(self) -> int:
        """How many slots there are, visible or not."""
        return len(self.codes)

    def find(self, keys: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Find the visible slot of each key, -1 where there is none: int64, shape of ``keys``.

        A key found is the key of one id, but another id can have it too (7e-5 among 50 million): compare the id.
        """
        return self._index.find(keys, self.generation, self.visible, len(self))

    def written_since(self, generation: int) -> NDArray[np.int64] | None:
        """The slots whose contents may differ from those in the snapshot of an earlier generation: ascending int64.

        All others that are visible here were so then, with the same contents. None: more than are kept count of.
        """
        return self._writes.since(generation)

    def visible_rows(self) -> Iterator[NDArray[np.int64]]:
        """All visible slots, in blocks: ascending int64."""
        for start in range(0, len(self), _BLOCK):
            stop = min(start + _BLOCK, len(self))
            if self.visible is None:
                yield np.arange(start, stop)
            else:
                words = self.visible[start >> 6 : (stop + 63) >> 6].astype("<u8", copy=False)
                bits = np.unpackbits(words.view(np.uint8), count=stop - start, bitorder="little")
                yield start + np.flatnonzero(bits)

    def image_ids(self, rows: NDArray[np.int64]) -> list[str]:
        """Image ids of some visible rows."""
        return self._ids.image_ids(rows)

    def listing_ids(self, rows: NDArray[np.int64]) -> list[str]:
        """Listing ids of some visible rows; the image id where a row has no other."""
        ids: list[str] = self._ids.listings(rows).to_pylist()
        return ids

    def listing_numbers(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Number the listings of some visible rows from 0 on, as they come: int64, shape of ``rows``.

        By the bytes of their ids, so that two rows have one number only if they are of one listing.
        """
        encoded = self._ids.listings(rows).dictionary_encode()
        numbers: NDArray[np.int64] = encoded.indices.to_numpy().astype(np.int64)
        return numbers

    def id_blobs(self, rows: NDArray[np.int64]) -> Blobs:
        """Image and listing ids of some visible rows, for a reply: nothing is decoded."""
        return self._ids.blobs(rows)

    @property
    def listing_hashes(self) -> NDArray[np.uint16]:
        """A hash of each listing id, as ``ids.hashes_of_texts`` makes it: uint16 (n,)."""
        return self._ids.listing_hashes

    def find_listings(self, listing_ids: Sequence[str], part: slice, where: Bitmap, out: Bitmap) -> None:
        """Write the bitmap of those visible slots of a part, given as another bitmap, that have one of some ids."""
        self._ids.find_listings(listing_ids, part, where, out)

    def have_listings(self, listing_ids: Sequence[str], rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether some visible rows have one of some listing ids: bool, shape of ``rows``."""
        return self._ids.have_listings(listing_ids, rows)

    def categories(self, field: str) -> Categories:
        """A column of texts that many rows share."""
        categories: Categories = self._columns[field]
        return categories

    def numbers(self, field: str) -> NDArray[np.float64]:
        """A column of numbers: float64 (n,), NaN where a row has none."""
        numbers: NDArray[np.float64] = self._columns[field]
        return numbers

    def times(self, field: str) -> NDArray[np.int64]:
        """A column of times: int64 (n,), microseconds since 1970 in UTC, ``columns.NO_TIME`` where a row has none."""
        times: NDArray[np.int64] = self._columns[field]
        return times

    def degrees(self, field: str) -> NDArray[np.int32]:
        """A column of degrees: int32 (n,) in units of 1e-7, ``columns.NO_DEGREES`` where a row has none."""
        degrees: NDArray[np.int32] = self._columns[field]
        return degrees

    def words(self, field: str) -> Words:
        """The words of a column of texts, and which slots have them."""
        return self._words[field]


class Rows:
    """All rows that a shard holds. One thread applies and publishes, any number read.

    Parameters
    ----------
    short_words, long_words, component_words
        Of the codes, as ``Codes`` has them.
    scratch : Path, optional
        The folder for words on disk, the system's temporary one unless given. On a tmpfs they are in memory after all.

    Attributes
    ----------
    bad_rows : int
        Rows left out so far, because they had no key, no id, an id that is too long, or a code of another length.
    """

    def __init__(
        self, short_words: int, long_words: int, component_words: tuple[int, ...], scratch: Path | None = None
    ) -> None:
        self._component_words = component_words
        self._short = GrowableRows(short_words)
        self._long = GrowableRows(long_words)
        self._index = KeyIndex()
        self._ids = IdColumn()
        self._columns: dict[str, SlotColumn] = {
            name: CategoryColumn(tree=True) if column.filter is FilterKind.TREE else _COLUMN_TYPES[column.held]()
            for name, column in columns().items()
            if column.held in _COLUMN_TYPES
        }
        self._words = {name: WordIndex(scratch) for name in names_held(Held.WORDS)}
        self._visible = VisibleSlots()
        self._free = FreeList()
        self._writes = WriteLog()
        self._slots = 0  # ever handed out
        self.bad_rows = 0
        self._generation = 0
        self._published = Published(self._snapshot(Writes()))

    @property
    def held_bytes(self) -> dict[str, int]:
        """Bytes in memory, counted per part."""
        return {
            "short": self._short.held_bytes,
            "long": self._long.held_bytes,
            **self._index.held_bytes,
            "ids": self._ids.held_bytes,
            **{name: column.held_bytes for name, column in self._columns.items()},
            **{name: words.held_bytes for name, words in self._words.items()},
            "slots": 2 * self._visible.held_bytes + self._free.held_bytes + self._writes.held_bytes,
        }

    @property
    def disk_bytes(self) -> int:
        """Bytes of words in the scratch folder."""
        return sum(words.disk_bytes for words in self._words.values())

    @property
    def code_bytes(self) -> int:
        """Bytes of codes and keys of all slots."""
        keys = self._index.keys()
        return self._short.view().nbytes + self._long.view().nbytes + keys.nbytes

    @property
    def huge_pages(self) -> bool:
        """Whether the system granted huge pages to the long codes."""
        return self._long.huge_pages

    def reading(self) -> AbstractContextManager[Snapshot]:
        """Read the published rows: the snapshot stays as it is until the block ends. From any thread."""
        return self._published.reading()

    def apply(self, batch: pa.RecordBatch) -> None:
        """Replace the rows of the batch's keys, in order; remove those that it says are deleted.

        Readers see it once ``publish`` was called. A row that cannot be held is left out and counted, and what the
        batch says of its key otherwise is done.

        Parameters
        ----------
        batch : RecordBatch
            With ``COLUMNS``: ``key`` uint64, ``deleted`` bool, ``short`` and ``long`` binary (words of 8 bytes, as many
            as the codes have; anything where ``deleted``), the others as ``ingest.attributes`` has them.

        Raises
        ------
        OSError, MemoryError
            Words could not be written, or there is no memory. The rows are as before; the batch can be applied again.
        """
        live, deleted, bad = self._split(batch)
        self._release(self._index.reclaim(self._published.oldest()))
        if live.num_rows:
            self._upsert(live)
        if len(deleted):
            self._hide(*self._index.remove(deleted))
        self.bad_rows += bad

    def publish(self) -> None:
        """Let new readers see what was applied. Copies one bit per slot."""
        slots = len(self._index)
        visible = self._visible.freeze(slots)
        for words in self._words.values():
            words.tidy(visible, slots, self._visible.count)
        self._generation += 1
        snapshot = self._snapshot(self._writes.publish(self._generation, len(self._index)))
        self._index.publish(snapshot.generation, snapshot.visible, len(snapshot))
        self._published.swap(snapshot)
        self._release(self._index.reclaim(self._published.oldest()))

    def _split(self, batch: pa.RecordBatch) -> tuple[pa.RecordBatch, NDArray[np.uint64], int]:
        """The rows to hold, the keys to remove, and how many rows are bad; of each key only the last good row."""
        keys = pc.fill_null(batch["key"], 0).to_numpy()
        deleted = pc.fill_null(batch["deleted"], False).to_numpy(zero_copy_only=False)
        id_bytes = lengths_of(batch["image_id"])
        good = (lengths_of(batch["short"]) == self._short.row_bytes) & (id_bytes > 0) & (id_bytes <= MAX_ID_BYTES)
        good &= lengths_of(batch["long"]) == self._long.row_bytes
        good &= lengths_of(batch["listing_id"]) <= MAX_ID_BYTES
        good = (good | deleted) & batch["key"].is_valid().to_numpy(zero_copy_only=False)
        last = good.copy()
        rows = np.flatnonzero(good)
        ordered = np.sort(keys[rows])
        if (ordered[1:] == ordered[:-1]).any():
            rows = rows[::-1]
            last[:] = False
            last[rows[np.unique(keys[rows], return_index=True)[1]]] = True
        held = last & ~deleted
        live = batch.select(COLUMNS)
        return live if held.all() else live.filter(pa.array(held)), keys[last & deleted], int((~good).sum())

    def _upsert(self, live: pa.RecordBatch) -> None:
        slots = self._free.pop(live.num_rows)
        fresh = live.num_rows - len(slots)
        slots = np.concatenate([slots, np.arange(self._slots, self._slots + fresh)])
        self._slots += fresh
        self._writes.note(slots, self._slots)
        try:
            for name, words in self._words.items():
                words.put(slots, live[name])
            for name, column in self._columns.items():
                column.put(slots, live[name])
            write(self._short, slots, _codes(live["short"]))
            write(self._long, slots, _codes(live["long"]))
            self._ids.put(slots, live["image_id"], live["listing_id"])
            replaced, free = self._index.put(slots, live["key"].to_numpy())
        except BaseException:  # whatever it is: nobody may ever see these slots, and the next batch may use them
            self._release(slots)
            raise
        self._visible.show(slots)
        self._hide(replaced, free)

    def _hide(self, slots: NDArray[np.int64], free: NDArray[np.int64]) -> None:
        self._visible.hide(slots)
        self._release(free)

    def _release(self, slots: NDArray[np.int64]) -> None:
        self._ids.free(slots)
        self._free.push(slots)

    def _snapshot(self, writes: Writes) -> Snapshot:
        slots = len(self._index)
        codes = Codes(
            short=self._short.view()[:slots],
            long=self._long.view()[:slots],
            keys=self._index.keys(),
            component_words=self._component_words,
        )
        return Snapshot(
            codes=codes,
            visible=self._visible.freeze(slots),
            rows_visible=self._visible.count,
            generation=self._generation,
            _writes=writes,
            _index=self._index,
            _ids=self._ids.view(slots),
            _columns={name: column.view(slots) for name, column in self._columns.items()},
            _words={name: words.view(slots) for name, words in self._words.items()},
        )


def _codes(column: pa.Array) -> NDArray[np.uint64]:
    """Codes of a binary column in which every value has the same length: uint64, shape (n, words), not copied."""
    data, bounds = parts_of(column)
    codes: NDArray[np.uint64] = data[bounds[0] : bounds[-1]].view(np.uint64).reshape(len(column), -1)
    return codes
