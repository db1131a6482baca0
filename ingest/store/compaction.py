"""Keep a bucket's segments few: merge runs of them in the background, by size.

A merge takes adjacent segments, so the order of commits stays what it is. A reader loses nothing by a merge and need
not notice it: the rows carry the commits that they came by. Two rules say what is due (``plan_merge``):

- Of ``FACTOR`` segments of one size class, smaller ones in between included, the cheapest run becomes one. A row is
  rewritten about once for each class: log8 of the bucket's size times. Lucene's LogMergePolicy is like that.
- When the newer segments together have the size of the oldest, or delete half of its rows, all become one. Without it
  a bucket whose images are replaced again and again would hold each of them eight times, and one that is emptied all
  of them. RocksDB calls this size amplification. Where images are only added, the oldest doubles with each such merge,
  so it writes each byte once or twice more.
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
from lookalike.ingest.store.bucket import Bucket, numbered
from lookalike.ingest.store.head import Head, SegmentInfo
from lookalike.ingest.store.segment import BATCH_ROWS, Segment, SegmentDamaged, split
from lookalike.storage import Location

logger = logging.getLogger(__name__)

# Eight segments of a class become one of the next. With four a row is rewritten half as often again, with sixteen a
# look-up opens twice as many segments.
FACTOR = 8
# All segments below this are of one class; a commit of one row has 3 KB.
MIN_CLASS_BYTES = 1 << 12
# Below this a bucket is not merged for what was replaced in it: the first rule is enough.
MIN_WHOLE_BYTES = 1 << 20
# A merge has one batch of each of its segments in memory.
MAX_WIDTH = 64
# A reader that took its head before a merge has this long to open what the merge replaced ...
RETIRED_FOR = timedelta(minutes=10)
# ... unless that many segments were replaced since: the list is a part of the head, which every commit writes.
MAX_RETIRED = 256
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
    runs = [
        tuple(run)
        for is_damaged, run in itertools.groupby(head.segments, lambda info: info.name in damaged)
        if not is_damaged
    ]
    for run in reversed(runs):
        if chosen := _newest_run(run):
            return chosen
    whole = runs[0][:MAX_WIDTH] if runs else ()
    return whole if len(whole) > 1 and _is_half_replaced(whole[0], whole[1:]) else ()


def _is_half_replaced(oldest: SegmentInfo, newer: Sequence[SegmentInfo]) -> bool:
    """Whether about half of the rows of a bucket may be replaced or deleted ones."""
    size_bytes = sum(info.size_bytes for info in newer)
    deleted = sum(info.deleted for info in newer)
    is_large = size_bytes + oldest.size_bytes >= MIN_WHOLE_BYTES
    return is_large and (size_bytes >= oldest.size_bytes or deleted >= max(1, oldest.rows // 2))


def _newest_run(segments: tuple[SegmentInfo, ...]) -> tuple[SegmentInfo, ...]:
    classes = [_size_class(info.size_bytes) for info in segments]
    chosen: tuple[SegmentInfo, ...] = ()
    start = 0
    while start < len(classes):
        # All up to the last of the largest class there is: smaller ones in between go along.
        largest = max(classes[start:])
        end = len(classes) - classes[::-1].index(largest)
        if end - start >= FACTOR:
            chosen = _cheapest_run(segments[start:end])
        start = end
    return chosen


def _cheapest_run(segments: tuple[SegmentInfo, ...]) -> tuple[SegmentInfo, ...]:
    """Of all runs of two to ``FACTOR`` segments, the one that rewrites fewest bytes for each segment less."""
    sums = [0, *itertools.accumulate(info.size_bytes for info in segments)]
    runs = [
        ((sums[start + width] - sums[start]) / (width - 1), start, width)
        for width in range(2, FACTOR + 1)
        for start in range(len(segments) - width + 1)
    ]
    _, start, width = min(runs)
    return segments[start : start + width]


def _size_class(size_bytes: int) -> int:
    return int(math.log(max(size_bytes, MIN_CLASS_BYTES) / MIN_CLASS_BYTES, FACTOR))


class _Stopped(Exception):
    """Nobody waits for the merge any more. Nothing of it is left, and it is done anew another time."""


class Compactor:
    """Merges the segments of one bucket, and moves to the trash what merges replaced.

    Parameters
    ----------
    trash : callable
        Moves an object of the bucket to the trash.
    replaced : callable
        Given a table (image_id, photo) of the rows with a photo that newer rows replaced, before the merge that leaves
        them out is committed.
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

    def run(self, stop: Callable[[], bool] = lambda: False) -> bool:
        """Do one merge if one is due, then see to the retired segments. Returns whether there was a merge.

        A segment that a merge could not read stays as it is: nothing of it is merged or deleted.

        Parameters
        ----------
        stop : callable
            Asked between batches; once it is true the merge is given up.
        """
        merged = False
        head = self._bucket.head()
        while segments := plan_merge(head, self._damaged):
            known = self._damaged
            merged = self._merge(head, segments, stop)
            head = self._bucket.head()
            if self._damaged == known:  # else the others may be merged without those that were found damaged
                break
        self._empty_retired(head)
        return merged

    def _merge(self, head: Head, segments: tuple[SegmentInfo, ...], stop: Callable[[], bool] = lambda: False) -> bool:
        replaced: list[pa.Table] = []
        merge = Merge(segments, segments[0] == head.segments[0], datetime.now(UTC), replaced.append)
        try:
            opened = [self._bucket.open(info) for info in segments]
            batches = _until(stop, merge_segments(opened, merge))
            info = self._bucket.write(batches, segments[0].first, segments[-1].last)
        except SegmentDamaged as error:
            damaged = self._names_of_damaged(segments)
            if damaged:
                logger.error("%s; it is left as it is", error)
            self._damaged |= damaged
            return False
        except _Stopped:
            return False
        with_photo = [rows.filter(rows["photo"].is_valid()) for rows in replaced]
        if any(map(len, with_photo)):
            self._replaced(pa.concat_tables(with_photo))
        newer = self._bucket.exchange(
            lambda now: now.with_merged(segments, info, merge.dropped_to, merge.now),
            lambda now: info is not None and now.names(info.name),
        )
        if newer is None and info is not None:  # another process merged some of them first
            storage.remove(self._bucket.segment_location(info.name))
        return newer is not None

    def _names_of_damaged(self, segments: Sequence[SegmentInfo]) -> frozenset[str]:
        """Tell which segments cannot be read, among those that the bucket still has."""
        names = set()
        for info in segments:
            try:
                segment = self._bucket.open(info)
                for number in range(len(segment)):
                    segment.batch(number)
            except SegmentDamaged:
                names.add(info.name)
        return frozenset(names & {info.name for info in self._bucket.head().segments})

    def _empty_retired(self, head: Head) -> None:
        """Move to the trash what was replaced long enough ago, first; then take it off the list."""
        limit = datetime.now(UTC) - RETIRED_FOR
        excess = max(0, len(head.retired) - MAX_RETIRED)
        due = {entry.name for at, entry in enumerate(head.retired) if entry.at < limit or at < excess}
        names = due - {info.name for info in head.segments}
        if not names:
            return
        for name in names:
            try:
                self._trash(self._bucket.segment_location(name))
            except NotFound:  # moved before a kill that came before the next line
                continue
        self._bucket.exchange(lambda now: now.without_retired(names))


def _until(stop: Callable[[], bool], batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        if stop():
            raise _Stopped
        yield batch


def merge_segments(segments: Sequence[Segment], merge: Merge) -> Iterator[pa.RecordBatch]:
    """Merge segments, oldest first, to batches sorted by key with the newest row of each key.

    Holds 25 bytes for each row and a batch of each segment; the rows themselves pass through.
    """
    keys = [_keys(segment) for segment in segments]
    readers = [_Reader(segment, info) for segment, info in zip(segments, merge.segments, strict=True)]
    source = np.repeat(np.arange(len(keys), dtype=np.uint8), [len(column) for column in keys])
    together = np.concatenate(keys)
    del keys
    order = np.argsort(together, kind="stable")  # of one key the oldest first, as the segments come
    ordered = together[order]
    del together
    for start, end in _ranges(ordered):
        sources = source[order[start:end]]
        counts = np.bincount(sources, minlength=len(readers))
        # Rows of one segment come in its own order, so each reader only ever goes forward.
        parts = [reader.take(int(count)) for reader, count in zip(readers, counts, strict=True)]
        rows = pa.Table.from_batches([batch for part in parts for batch in part])
        position = np.empty(end - start, np.int64)
        position[np.argsort(sources, kind="stable")] = np.arange(end - start)
        yield from split(_newest(rows, position, ordered[start:end], merge))


def _ranges(keys: NDArray[np.uint64]) -> Iterator[tuple[int, int]]:
    """Cut sorted keys into ranges of about ``BATCH_ROWS`` rows, rows of one key together."""
    start = 0
    while start < len(keys):
        end = min(start + BATCH_ROWS, len(keys))
        end = int(np.searchsorted(keys, keys[end - 1], side="right"))
        yield start, end
        start = end


def _newest(rows: pa.Table, position: NDArray[np.int64], keys: NDArray[np.uint64], merge: Merge) -> pa.Table:
    """Take the last row of each key, less tombstones that nobody needs any more; ``position`` sorts the rows."""
    kept = np.append(keys[1:] != keys[:-1], True)
    if not kept.all():
        merge.replaced(rows.select(["image_id", "photo"]).take(pa.array(position[~kept])))
    newest = rows.take(pa.array(position[kept]))
    if not merge.is_oldest:
        return newest
    old = newest["stamp"].cast(pa.int64()).to_numpy() < int((merge.now - TOMBSTONES_FOR).timestamp() * 1e6)
    dropped = old & newest["deleted"].to_numpy() & newest["fingerprint"].is_null().to_numpy()
    if not dropped.any():
        return newest
    merge.dropped_to = max(merge.dropped_to, int(newest["sequence"].to_numpy()[dropped].max()))
    return newest.filter(pa.array(~dropped))


def _keys(segment: Segment) -> NDArray[np.uint64]:
    return np.concatenate([np.empty(0, np.uint64), *map(segment.keys, range(len(segment)))])


class _Reader:
    """Gives the rows of a segment in their order, some at a time, with the commits that they came by."""

    def __init__(self, segment: Segment, info: SegmentInfo) -> None:
        self._batches = (numbered(segment.batch(number), info) for number in range(len(segment)))
        self._left: pa.RecordBatch | None = None

    def take(self, count: int) -> list[pa.RecordBatch]:
        taken: list[pa.RecordBatch] = []
        while count:
            if self._left is None or not len(self._left):
                self._left = next(self._batches)
            part = self._left.slice(0, count)
            self._left = self._left.slice(len(part))
            taken.append(part)
            count -= len(part)
        return taken
