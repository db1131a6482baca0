"""Keep a bucket's segments few: merge runs of them in the background, by size.

A merge takes adjacent segments of one size class, as Lucene's LogMergePolicy does, so the order of commits stays what
it is and a row is rewritten at most once for each class: log8 of the bucket's size times. A reader loses nothing by
a merge and need not notice it: the rows carry the commits that they came by.
"""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lookalike import storage
from lookalike.errors import NotFound
from lookalike.ingest.store.bucket import Bucket
from lookalike.ingest.store.head import Head, SegmentInfo
from lookalike.ingest.store.segment import BATCH_ROWS, Segment, SegmentDamaged
from lookalike.storage import Location

logger = logging.getLogger(__name__)

# Eight segments of a class become one of the next. With four a row is rewritten half as often again, with sixteen a
# look-up opens twice as many segments.
FACTOR = 8
# All segments below this are of one class; a commit of one row has 3 KB.
_MIN_CLASS_BYTES = 1 << 12
# A reader that took its head before a merge has this long to open what the merge replaced.
RETIRED_FOR = timedelta(minutes=10)
# Tombstones of images that no catalogue lists: after this no reader is so far behind, and nothing revives the image.
TOMBSTONES_FOR = timedelta(days=7)


@dataclass
class Merge:
    """A run of adjacent segments to merge, and what the result may leave out."""

    segments: tuple[SegmentInfo, ...]
    is_oldest: bool
    now: datetime
    replaced: Callable[[pa.Table], None]
    dropped_to: int = 0


def plan_merge(head: Head, damaged: frozenset[str] = frozenset()) -> tuple[SegmentInfo, ...]:
    """Choose the run of segments to merge next, or none: the newest run, which is the cheapest, comes first.

    A damaged segment is never merged, and no run goes across it.
    """
    chosen: tuple[SegmentInfo, ...] = ()
    for is_damaged, group in itertools.groupby(head.segments, lambda info: info.name in damaged):
        if not is_damaged:
            chosen = _newest_run(tuple(group)) or chosen
    return chosen


def _newest_run(segments: tuple[SegmentInfo, ...]) -> tuple[SegmentInfo, ...]:
    classes = [_size_class(info.size_bytes) for info in segments]
    chosen: tuple[SegmentInfo, ...] = ()
    start = 0
    while start < len(classes):
        # All up to the last of the largest class there is: smaller ones in between go along.
        largest = max(classes[start:])
        end = len(classes) - classes[::-1].index(largest)
        if end - start >= FACTOR:
            chosen = segments[start : start + FACTOR]
        start = end
    return chosen


def _size_class(size_bytes: int) -> int:
    return int(math.log(max(size_bytes, _MIN_CLASS_BYTES) / _MIN_CLASS_BYTES, FACTOR))


class Compactor:
    """Merges the segments of one bucket, and moves to the trash what merges replaced.

    Parameters
    ----------
    trash : callable
        Moves an object of the bucket to the trash.
    replaced : callable
        Given tables (image_id, photo) of rows that newer rows had replaced before this merge leaves them out.
    """

    def __init__(
        self,
        bucket: Bucket,
        trash: Callable[[Location], None],
        replaced: Callable[[pa.Table], None] = lambda _: None,
    ) -> None:
        self._bucket = bucket
        self._trash = trash
        self._replaced = replaced
        self._damaged: frozenset[str] = frozenset()

    def run(self) -> bool:
        """Do one merge if one is due, then see to the retired segments. Returns whether there was a merge.

        Rows that a merge could not read keep their segment as it is: nothing of it is merged or deleted.
        """
        head = self._bucket.head()
        segments = plan_merge(head, self._damaged)
        merged = bool(segments) and self._merge(head, segments)
        self._empty_retired()
        return merged

    def _merge(self, head: Head, segments: tuple[SegmentInfo, ...]) -> bool:
        merge = Merge(segments, segments[0] == head.segments[0], datetime.now(UTC), self._replaced)
        try:
            opened = [self._bucket.segment(info) for info in segments]
            info = self._bucket.write(merge_segments(opened, merge), segments[0].first, segments[-1].last)
        except SegmentDamaged as error:
            logger.error("%s; it is left as it is", error)
            self._damaged |= self._names_of_damaged(segments)
            return False
        newer = self._bucket.exchange(lambda now: now.with_merged(segments, info, merge.dropped_to, merge.now))
        if newer is None:  # another process merged some of them first
            if info is not None:
                storage.remove(self._bucket.segment_location(info.name))
            return False
        return True

    def _names_of_damaged(self, segments: Sequence[SegmentInfo]) -> frozenset[str]:
        names = set()
        for info in segments:
            try:
                segment = self._bucket.segment(info)
                for number in range(len(segment)):
                    segment.batch(number)
            except SegmentDamaged:
                names.add(info.name)
        return frozenset(names)

    def _empty_retired(self) -> None:
        """Move to the trash what was replaced long enough ago, first; then take it off the list."""
        limit = datetime.now(UTC) - RETIRED_FOR
        head = self._bucket.head()
        names = {entry.name for entry in head.retired if entry.at < limit}
        names -= {info.name for info in head.segments}
        if not names:
            return
        for name in names:
            try:
                self._trash(self._bucket.segment_location(name))
            except NotFound:  # moved before a kill that came before the next line
                continue
        self._bucket.exchange(lambda now: now.without_retired(names))


def merge_segments(segments: Sequence[Segment], merge: Merge) -> Iterator[pa.RecordBatch]:
    """Merge segments, oldest first, to batches sorted by key with the newest row of each key.

    Holds 25 bytes for each row and a batch of each segment; the rows themselves pass through.
    """
    keys = [_keys(segment) for segment in segments]
    readers = [_Reader(segment, info) for segment, info in zip(segments, merge.segments, strict=True)]
    source = np.repeat(np.arange(len(keys), dtype=np.uint8), [len(column) for column in keys])
    together = np.concatenate(keys)
    order = np.lexsort((source, together))
    for start, end in _ranges(together[order]):
        chosen = order[start:end]
        counts = np.bincount(source[chosen], minlength=len(keys))
        # Rows of one segment come in its own order, so each reader only ever goes forward.
        parts = [reader.take(int(count)) for reader, count in zip(readers, counts, strict=True)]
        rows = pa.Table.from_batches([batch for part in parts for batch in part])
        position = np.empty(len(chosen), np.int64)
        position[np.lexsort((together[chosen], source[chosen]))] = np.arange(len(chosen))
        newest = _newest(rows.take(pa.array(position)), together[chosen], merge)
        yield from newest.combine_chunks().to_batches()


def _ranges(keys: NDArray[np.uint64]) -> Iterator[tuple[int, int]]:
    """Cut sorted keys into ranges of about ``BATCH_ROWS`` rows, rows of one key together."""
    start = 0
    while start < len(keys):
        end = min(start + BATCH_ROWS, len(keys))
        end = int(np.searchsorted(keys, keys[end - 1], side="right"))
        yield start, end
        start = end


def _newest(rows: pa.Table, keys: NDArray[np.uint64], merge: Merge) -> pa.Table:
    """Keep the last row of each key, less tombstones that nobody needs any more."""
    kept = np.append(keys[1:] != keys[:-1], True)
    if not kept.all():
        merge.replaced(rows.select(["image_id", "photo"]).filter(pa.array(~kept)))
    if merge.is_oldest:
        stamps = rows["stamp"].cast(pa.int64()).to_numpy()
        old = stamps < int((merge.now - TOMBSTONES_FOR).timestamp() * 1e6)
        dropped = kept & old & rows["deleted"].to_numpy() & rows["fingerprint"].is_null().to_numpy()
        if dropped.any():
            merge.dropped_to = max(merge.dropped_to, int(rows["sequence"].to_numpy()[dropped].max()))
            kept &= ~dropped
    return rows if kept.all() else rows.filter(pa.array(kept))


def _keys(segment: Segment) -> NDArray[np.uint64]:
    columns = [segment.batch(number)["key"].to_numpy() for number in range(len(segment))]
    return np.concatenate([np.empty(0, np.uint64), *columns])


class _Reader:
    """Gives the rows of a segment in their order, some at a time, with the commits that they came by."""

    def __init__(self, segment: Segment, info: SegmentInfo) -> None:
        self._segment = segment
        self._info = info
        self._number = 0
        self._left: pa.RecordBatch | None = None

    def take(self, count: int) -> list[pa.RecordBatch]:
        taken: list[pa.RecordBatch] = []
        while count:
            if self._left is None or not len(self._left):
                self._left = self._next()
            part = self._left.slice(0, count)
            self._left = self._left.slice(len(part))
            taken.append(part)
            count -= len(part)
        return taken

    def _next(self) -> pa.RecordBatch:
        batch = self._segment.batch(self._number)
        self._number += 1
        if self._info.first != self._info.last:
            return batch
        at = batch.schema.get_field_index("sequence")
        sequence = pa.array(np.full(len(batch), self._info.first, np.uint64))
        return batch.set_column(at, batch.schema.field(at), sequence)
