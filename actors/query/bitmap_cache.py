"""Bitmaps of conditions evaluated lately, kept while the rows of a shard change.

One bitmap per condition that has no others inside, not per list of filters: lists share conditions (a user who narrows
the price keeps the group), and what joins them costs 5 us per condition and million rows. A bitmap is of one snapshot;
in a later one only the slots written since are evaluated again.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lookalike.actors.index.rows import Snapshot
from lookalike.actors.query.filters import Filter, OneOf
from lookalike.kernels.masks import Bitmap

# 48 conditions, each a bit per slot. A shard may take 350 MB per million rows, of which this is 6.
BYTES_PER_SLOT: Final = 6
MIN_BYTES: Final = 1 << 20
# About what an entry takes beside its bitmap: the condition's objects; and per value of `in`, beside its characters.
_ENTRY_BYTES: Final = 1024
_VALUE_BYTES: Final = 64


class CachedBitmap(NamedTuple):
    """A bitmap over all slots, exact for those that the snapshot of its generation shows.

    ``stale`` are the slots to evaluate again before it is exact for the snapshot that asks: ascending int64.
    """

    bitmap: Bitmap
    stale: NDArray[np.int64]


class _Entry(NamedTuple):
    generation: int
    bitmap: Bitmap
    size: int


class BitmapCache:
    """Of conditions, by last use; any thread may call it. Bitmaps are never changed, only replaced."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: OrderedDict[Filter, _Entry] = OrderedDict()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def held_bytes(self) -> int:
        return self._bytes

    def get(self, condition: Filter, snapshot: Snapshot) -> CachedBitmap | None:
        """Find what is known of a condition. None: nothing that helps for this snapshot."""
        with self._lock:
            entry = self._entries.get(condition)
            if entry is None:
                return None
            self._entries.move_to_end(condition)
        if entry.generation > snapshot.generation:  # rows that this snapshot shows may be hidden, and their ids gone
            return None
        stale = snapshot.written_since(entry.generation)
        return None if stale is None else CachedBitmap(entry.bitmap, stale)

    def put(self, condition: Filter, snapshot: Snapshot, bitmap: Bitmap) -> None:
        """Keep the bitmap of a condition, unless one of a later snapshot is there."""
        entry = _Entry(snapshot.generation, bitmap, bitmap.nbytes + _bytes_of(condition))
        limit = max(BYTES_PER_SLOT * len(snapshot), MIN_BYTES)
        with self._lock:
            known = self._entries.get(condition)
            if known is not None:
                if known.generation > entry.generation:
                    return
                self._bytes -= known.size
            self._entries[condition] = entry
            self._entries.move_to_end(condition)
            self._bytes += entry.size
            while self._bytes > limit:
                self._bytes -= self._entries.popitem(last=False)[1].size


def _bytes_of(condition: Filter) -> int:
    values = condition.values if isinstance(condition, OneOf) else ()
    return _ENTRY_BYTES + sum(_VALUE_BYTES + len(value) for value in values)
