"""One bucket of a collection: segments in the order of their commits, and the head that lists them."""

from __future__ import annotations

import contextlib
import itertools
import logging
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
from lookalike.ingest.store.segment import Segment, SegmentDamaged, Written, split, write_segment
from lookalike.storage import Location, local

logger = logging.getLogger(__name__)

# How long a commit is tried again after others were faster: a swap takes 10 ms on a disk, 50 ms on an object store.
COMMIT_DEADLINE_S = 60.0
# Open segments kept by a bucket: seven merges of eight, twice.
MAX_OPEN_SEGMENTS = 32

Resolve = Callable[[pa.Table, Stored], pa.Table]


@dataclass(frozen=True)
class Commit:
    """What a commit did: the head after it, the rows written, and what was stored for the keys offered, ascending."""

    head: Head
    written: int
    keys: NDArray[np.uint64]
    stored: Stored

    def was_live(self, key: np.uint64) -> bool:
        """Whether an image of this key, one of those offered, was there before."""
        at = int(np.searchsorted(self.keys, key))
        return bool(self.stored.live[at])


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
        try:
            content, version = storage.read_versioned(self.head_location)
        except NotFound:
            raise StoreUnavailable(f"{self.head_location} is missing") from None
        return parse_head(content, self.head_location), version

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
        """
        rows = last_of_each_key(rows)
        keys = rows["key"].to_numpy()
        deadline = time.monotonic() + COMMIT_DEADLINE_S
        for attempt in itertools.count():
            # On a disk one writer at a time goes through here, which spares it from losing the race; what makes it
            # correct is the swap of the head, as on an object store.
            with self._turn():
                head, version = self._versioned_head()
                stored = self.stored(head, keys)
                chosen = decide(rows, stored)
                if not len(chosen):
                    return Commit(head, 0, keys, stored)
                name, written = self._write(split(chosen))
                newer = head.with_segment(name, written.rows, written.deleted, written.size_bytes)
                try:
                    storage.replace(self.head_location, newer.encoded(), version)
                except Conflict:
                    storage.remove(self.segment_location(name))  # no head has ever named it
                    if time.monotonic() > deadline:
                        raise
                else:
                    return Commit(newer, written.rows, keys, stored)
            time.sleep(min(0.01 * 2**attempt, 1.0))
        raise AssertionError("unreachable")

    def exchange(self, change: Callable[[Head], Head | None]) -> Head | None:
        """Replace the head by what ``change`` makes of the present one; give it up when that is None."""
        deadline = time.monotonic() + COMMIT_DEADLINE_S
        while True:
            with self._turn():
                head, version = self._versioned_head()
                newer = change(head)
                if newer is None:
                    return None
                try:
                    storage.replace(self.head_location, newer.encoded(), version)
                except Conflict:
                    if time.monotonic() > deadline:
                        raise
                else:
                    return newer

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
            True for keys not found whose row may lie in a damaged batch.
        """
        left = np.arange(len(keys))
        unreadable = np.zeros(len(keys), bool)
        which = [np.empty(0, np.int64)]
        tables = [pa.schema([SCHEMA.field(name) for name in names]).empty_table()]
        for info in reversed(head.segments):
            if not len(left):
                break
            try:
                here, rows = self.segment(info).find(keys[left], names)
            except SegmentDamaged as error:
                logger.warning("%s", error)
                unreadable[left] = True
                continue
            which.append(left[here])
            tables.append(rows)
            left = np.delete(left, here)
        found = np.concatenate(which)
        unreadable[found] = False
        return found, pa.concat_tables(tables), unreadable

    def changes(
        self, head: Head, after: int, names: Sequence[str], damaged: Callable[[SegmentDamaged], None]
    ) -> Iterator[pa.RecordBatch]:
        """Read the rows of the commits later than ``after``, oldest first: applied in order they give the bucket.

        Parameters
        ----------
        names : sequence of str
            The columns to read.
        damaged : callable
            Told of every batch or segment that is left out.
        """
        for info in head.segments:
            if info.last <= after:
                continue
            try:
                segment = self.segment(info)
            except SegmentDamaged as error:
                damaged(error)
                continue
            for number in range(len(segment)):
                try:
                    batch = segment.batch(number)
                except SegmentDamaged as error:
                    damaged(error)
                    continue
                if info.first <= after:  # a merge of commits seen and not yet seen
                    batch = batch.filter(pc.greater(batch["sequence"], after))
                if len(batch):
                    yield batch.select(list(names))

    def segment(self, info: SegmentInfo) -> Segment:
        """Open a segment, or take it from those that are open."""
        with self._opening:
            segment = self._open.pop(info.name, None)
        if segment is None:
            segment = Segment(self.segment_location(info.name), info.size_bytes, info.rows)
        with self._opening:
            self._open[info.name] = segment  # the last used is the last in order
            while len(self._open) > MAX_OPEN_SEGMENTS:
                del self._open[next(iter(self._open))]
        return segment

    def segment_location(self, name: str) -> Location:
        """Where a segment is."""
        return self.location / "segments" / name

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        if not self.location.is_local:
            yield
            return
        with local.locked(self.location.path / "lock"):
            yield
