"""One bucket of a collection: segments in the order of their commits, and the head that lists them."""

from __future__ import annotations

import itertools
import logging
import random
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from lookalike import storage
from lookalike.errors import Conflict, NotFound, StoreUnavailable
from lookalike.ingest.store import resolve
from lookalike.ingest.store.head import Head, SegmentInfo, parse_head
from lookalike.ingest.store.resolve import Stored
from lookalike.ingest.store.rows import SCHEMA, last_of_each_key
from lookalike.ingest.store.segment import Segment, SegmentDamaged, SegmentMissing, Written, split, write_segment
from lookalike.storage import Location

logger = logging.getLogger(__name__)

# How long a commit is tried again after others were faster: a swap takes 10 ms on a disk, 50 ms on an object store.
COMMIT_DEADLINE_S = 60.0
FIRST_PAUSE_S = 0.005
MAX_PAUSE_S = 0.5
# Open segments kept by a bucket for look-ups: seven of each class that is not held as bytes.
MAX_OPEN_SEGMENTS = 64
# How often a look-up begins anew because a merge went past it: merges are minutes apart where that can happen.
MAX_LOOK_UPS = 5

Resolve = Callable[[pa.Table, Stored], pa.Table]


@dataclass(frozen=True)
class Commit:
    """What a commit did: the head after it, the rows written, and what was stored for the keys offered, ascending.

    ``deleted`` of the rows written are tombstones.
    """

    head: Head
    written: int
    deleted: int
    keys: NDArray[np.uint64]
    stored: Stored

    def may_have_been_live(self, key: np.uint64) -> bool:
        """Whether an image of this key, one of those offered, was there before, or may have been in a damaged part."""
        at = int(np.searchsorted(self.keys, key))
        return bool(self.stored.live[at] | self.stored.unreadable[at])


class Bucket:
    """A folder of segments and a head. Any number of threads and processes may read and write it.

    Parameters
    ----------
    location : Location
        Of the folder.
    """

    def __init__(self, location: Location) -> None:
        self.location = location
        self._open: dict[str, Segment] = {}
        self._opening = threading.Lock()
        self._reported: set[str] = set()
        self._known: tuple[Head, str] | None = None
        # One thread of a process commits at a time, which spares it from losing the race. What makes a commit correct
        # is the swap of the head: a lock among processes would let one that is stopped stop all.
        self._turn = threading.Lock()

    @property
    def head_location(self) -> Location:
        """Where the head is."""
        return self.location / "head.json"

    def create(self) -> None:
        """Write the first, empty head."""
        storage.create(self.head_location, Head(commit=uuid.uuid4().hex).encoded())

    def head(self) -> Head:
        """Read the head.

        Raises
        ------
        StoreUnavailable, StorageUnavailable
            It is missing, damaged or out of reach.
        """
        return self._versioned_head()[0]

    def _versioned_head(self) -> tuple[Head, str]:
        known = self._known
        try:
            found = storage.read_if_changed(self.head_location, known[1] if known else None)
        except NotFound:
            raise StoreUnavailable(
                f"{self.head_location.shown} is missing; put it back from a copy of the store, or write this bucket's "
                f"images again to a new collection; the other buckets are not concerned"
            ) from None
        if found is None:
            assert known is not None
            return known
        content, version = found
        self._known = parse_head(content, self.head_location), version
        return self._known

    def _swap(self, newer: Head, version: str) -> None:
        self._known = newer, storage.replace(self.head_location, newer.encoded(), version)

    def commit(self, rows: pa.Table, decide: Resolve) -> Commit:
        """Write the rows that ``decide`` chooses, as one segment. Durable on return.

        Parameters
        ----------
        rows : Table of ``SCHEMA``
            Of a key given twice the later row counts.
        decide : callable
            One of ``resolve``: from the rows and what is stored for them, the rows to write.

        Raises
        ------
        Conflict
            Others committed faster for a minute.
        StorageUnavailable
            Whether the rows are written may be unknown. The same again does no harm.
        """
        rows = last_of_each_key(rows)
        keys = rows["key"].to_numpy()
        draft: _Draft | None = None
        deadline = time.monotonic() + COMMIT_DEADLINE_S
        for pause in _pauses():
            with self._turn:
                head, version = self._versioned_head()
                if draft is not None and head.names(draft.name):  # only the answer to our swap was lost
                    return Commit(head, draft.written.rows, draft.written.deleted, keys, draft.stored)
                stored = self.stored(head, keys)
                chosen = decide(rows, stored)
                if draft is None or not chosen.equals(draft.rows):
                    self._discard(draft)
                    draft = self._draft(chosen, stored) if len(chosen) else None
                if draft is None:
                    return Commit(head, 0, 0, keys, stored)
                written = draft.written
                newer = head.with_segment(draft.name, written.rows, written.deleted, written.size_bytes)
                try:
                    self._swap(newer, version)
                except Conflict:
                    if time.monotonic() > deadline:
                        if not self.head().names(draft.name):
                            self._discard(draft)
                        raise
                else:
                    return Commit(newer, written.rows, written.deleted, keys, stored)
            time.sleep(pause)
        raise AssertionError("there is always another pause")

    def _draft(self, chosen: pa.Table, stored: Stored) -> _Draft:
        return _Draft(*self._write(split(chosen)), chosen, stored)

    def _discard(self, draft: _Draft | None) -> None:
        """Remove a segment that a head just read does not name: no swap of ours can still arrive, since one failed."""
        if draft is not None:
            storage.remove(self.segment_location(draft.name))

    def exchange(
        self, change: Callable[[Head], Head | None], is_done: Callable[[Head], bool] = lambda _: False
    ) -> Head | None:
        """Replace the head by what ``change`` makes of the present one; give it up when that is None.

        Parameters
        ----------
        is_done : callable
            Recognises a head that holds the change: the answer to the swap may be lost, and somebody swap after it.
        """
        deadline = time.monotonic() + COMMIT_DEADLINE_S
        for pause in _pauses():
            with self._turn:
                head, version = self._versioned_head()
                if is_done(head):
                    return head
                newer = change(head)
                if newer is None:
                    return None
                try:
                    self._swap(newer, version)
                except Conflict:
                    if time.monotonic() > deadline:
                        raise
                else:
                    return newer
            time.sleep(pause)
        raise AssertionError("there is always another pause")

    def write(self, batches: Iterator[pa.RecordBatch], first: int, last: int) -> SegmentInfo | None:
        """Write rows as a segment of the commits ``first`` to ``last`` that no head names yet; None without rows."""
        start = next(batches, None)
        if start is None:
            return None
        name, written = self._write(itertools.chain([start], batches))
        return SegmentInfo(
            name=name,
            first=first,
            last=last,
            rows=written.rows,
            deleted=written.deleted,
            size_bytes=written.size_bytes,
        )

    def _write(self, batches: Iterator[pa.RecordBatch]) -> tuple[str, Written]:
        name = f"{uuid.uuid4().hex}.seg"
        return name, write_segment(self.segment_location(name), batches)

    def stored(self, head: Head, keys: NDArray[np.uint64]) -> Stored:
        """Look up what decides over a commit; ``keys`` uint64 (n,), each once."""
        which, rows, unreadable = self.find(head, keys, resolve.COLUMNS)
        return resolve.stored_of(len(keys), which, rows, unreadable)

    def look_up(
        self, keys: NDArray[np.uint64], names: Sequence[str]
    ) -> tuple[NDArray[np.int64], pa.Table, NDArray[np.bool_]]:
        """As ``find`` in the newest head, which is read anew if a merge took a segment away meanwhile."""
        head = self.head()
        for _ in range(MAX_LOOK_UPS):
            found = self.find(head, keys, names)
            if not found[2].any() or head.segments == (newest := self.head()).segments:
                break
            head = newest
        return found

    def find(
        self, head: Head, keys: NDArray[np.uint64], names: Sequence[str]
    ) -> tuple[NDArray[np.int64], pa.Table, NDArray[np.bool_]]:
        """Find the newest row of each key, tombstones included.

        Parameters
        ----------
        keys : ndarray of uint64, shape (n,)
        names : sequence of str
            The columns to read.

        Returns
        -------
        which : ndarray of int64, shape (m,)
            Which of the keys were found.
        rows : Table of m rows
        unreadable : ndarray of bool, shape (n,)
            True where the newest row may lie in a damaged part: the row found is an older one, or none is.
        """
        left = np.arange(len(keys))
        unreadable = np.zeros(len(keys), bool)
        which = [np.empty(0, np.int64)]
        tables = [pa.schema([SCHEMA.field(name) for name in names]).empty_table()]
        for info in reversed(head.segments):
            if not len(left):
                break
            try:
                found = self.segment(info).find(keys[left], names)
            except SegmentDamaged as error:
                self._report(info, error)
                unreadable[left] = True
                continue
            for damage in found.errors:
                self._report(info, damage)
            unreadable[left[found.unreadable]] = True
            if len(found.which):
                which.append(left[found.which])
                tables.append(_numbered(found.rows, info))
                left = np.delete(left, found.which)
        return np.concatenate(which), pa.concat_tables(tables), unreadable

    def _report(self, info: SegmentInfo, error: SegmentDamaged) -> None:
        if info.name not in self._reported:  # every look-up of a key that is not there comes by
            self._reported.add(info.name)
            logger.warning("%s", error)

    def changes(
        self, head: Head, after: int, names: Sequence[str], damaged: Callable[[SegmentDamaged], None]
    ) -> Iterator[pa.RecordBatch]:
        """Read the rows of the commits later than ``after``, oldest first: applied in order they give the bucket.

        Whoever has applied something needs ``after >= head.tombstones_dropped_to``, and begins with nothing otherwise.

        Parameters
        ----------
        names : sequence of str
            The columns to read.
        damaged : callable
            Told of every batch or segment that is left out.

        Raises
        ------
        Conflict
            A segment was merged and put away meanwhile: read the head again, and go on after the last segment that
            was read whole.
        StorageUnavailable
        """
        for info in head.segments:
            if info.last <= after:
                continue
            try:
                segment = self.open(info)
                for number in range(len(segment)):
                    try:
                        batch = numbered(segment.batch(number), info)
                    except SegmentMissing:
                        raise
                    except SegmentDamaged as error:
                        damaged(error)
                        continue
                    if info.first <= after:  # a merge of commits seen and not yet seen
                        batch = batch.filter(pc.greater(batch["sequence"], after))
                    if len(batch):
                        yield batch.select(list(names))
            except SegmentMissing as error:
                if info not in self.head().segments:
                    raise Conflict(f"{error.args[0]} was merged meanwhile; read the head again") from error
                damaged(error)
            except SegmentDamaged as error:
                damaged(error)

    def segment(self, info: SegmentInfo) -> Segment:
        """Open a segment, or take it from those that are open for look-ups."""
        with self._opening:
            segment = self._open.pop(info.name, None)
        if segment is None:
            segment = self.open(info)
        with self._opening:
            self._open[info.name] = segment  # the last used is the last in order
            while len(self._open) > MAX_OPEN_SEGMENTS:
                del self._open[next(iter(self._open))]
        return segment

    def open(self, info: SegmentInfo) -> Segment:
        """Open a segment for one reader, who may go through all of it: what that caches goes with the reader."""
        return Segment(self.segment_location(info.name), info.size_bytes, info.rows)

    def segment_location(self, name: str) -> Location:
        """Where a segment is."""
        return self.location / "segments" / name


@dataclass(frozen=True)
class _Draft:
    """A segment that no head names yet, its rows, and what they were decided by."""

    name: str
    written: Written
    rows: pa.Table
    stored: Stored


def _pauses() -> Iterator[float]:
    """How long to wait after each lost race: at random, so that those who lost together do not meet again."""
    for attempt in itertools.count():
        yield random.uniform(0, min(MAX_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(attempt, 20)))


def numbered(batch: pa.RecordBatch, info: SegmentInfo) -> pa.RecordBatch:
    """Give the rows of a segment the number of the commit that they came by: those of one commit do not say it."""
    if info.first != info.last:
        return batch
    at = batch.schema.get_field_index("sequence")
    return batch.set_column(at, batch.schema.field(at), _numbers(len(batch), info))


def _numbered(rows: pa.Table, info: SegmentInfo) -> pa.Table:
    at = rows.schema.get_field_index("sequence")
    if at < 0 or info.first != info.last:
        return rows
    return rows.set_column(at, rows.schema.field(at), _numbers(len(rows), info))


def _numbers(count: int, info: SegmentInfo) -> pa.Array:
    return pa.array(np.full(count, info.first, np.uint64))
