"""Run a batch of queries over one snapshot of a shard's rows. Pure: no store, no Ray, no clock."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from lookalike.actors.index.rows import Snapshot
from lookalike.actors.query.bitmap_cache import BitmapCache
from lookalike.actors.query.collapse import best_per_listing, widen_to_listings
from lookalike.actors.query.deadline import check
from lookalike.actors.query.evaluate import allowed
from lookalike.actors.query.filters import Filter
from lookalike.actors.query.merge import NotHeld, Reply, ShardHits
from lookalike.actors.query.query import Descriptor, Query
from lookalike.kernels import hamming
from lookalike.kernels.masks import Bitmap


@dataclass(frozen=True, slots=True)
class _Task:
    """A query of the batch, with the codes to compare and the row of the stored image that is its target, or -1."""

    query: Query
    descriptor: Descriptor
    row: int

    @property
    def count(self) -> int:
        return self.query.options.count


def search_batch(
    queries: Sequence[Query],
    target_rows: NDArray[np.int64],
    snapshot: Snapshot,
    cache: BitmapCache,
    deadline: float | None = None,
) -> list[Reply]:
    """Answer each query, in order; those with the same filters share one pass over the rows.

    Parameters
    ----------
    target_rows : ndarray of int64, shape (queries,)
        The row of the stored image that is a query's target; -1 where the target is a descriptor or is not held.
    cache : BitmapCache
        Of the rows that the snapshot is of.
    deadline : float, optional
        On the clock of ``time.monotonic``.

    Raises
    ------
    DeadlineExceeded
        The deadline has passed, or would have before the filters are evaluated.
    """
    groups: dict[tuple[tuple[Filter, ...], bool], list[int]] = defaultdict(list)
    for position, query in enumerate(queries):
        if query.image_id is None or target_rows[position] >= 0:
            groups[query.options.filters, query.candidates is None].append(position)
    replies: list[Reply] = [NotHeld()] * len(queries)
    for (filters, _), positions in groups.items():
        bits = allowed(filters, snapshot, cache, deadline)
        check(deadline, "the codes were compared")
        tasks = [_task(queries[position], int(target_rows[position]), snapshot) for position in positions]
        for position, hits in zip(positions, _search(tasks, snapshot, bits), strict=True):
            replies[position] = hits
    return replies


def _task(query: Query, row: int, snapshot: Snapshot) -> _Task:
    if isinstance(query.target, Descriptor):
        return _Task(query, query.target, -1)
    # Copied: the codes go into the reply, which outlives the snapshot, and the row's memory may be used again by then.
    return _Task(query, Descriptor(snapshot.codes.short[row].copy(), snapshot.codes.long[row].copy()), row)


def _search(tasks: Sequence[_Task], snapshot: Snapshot, bits: Bitmap | None) -> list[ShardHits]:
    """Run the kernel once for all tasks; all are two-phase or none is."""
    two_phase = tasks[0].query.candidates is not None
    found = _two_phase(tasks, snapshot, bits) if two_phase else _exhaustive(tasks, snapshot, bits)
    return [
        _with_target_row(_hits(task, rows, snapshot), task, snapshot, bits)
        for task, rows in zip(tasks, found, strict=True)
    ]


def _two_phase(tasks: Sequence[_Task], snapshot: Snapshot, bits: Bitmap | None) -> list[hamming.Found]:
    # To collapse listings the choice needs every candidate, not only the best.
    counts = [max(len(snapshot), 1) if task.query.options.collapse else task.count for task in tasks]
    kernel_queries = [_kernel_query(task, count) for task, count in zip(tasks, counts, strict=True)]
    found = hamming.two_phase(kernel_queries, snapshot.codes, bits)
    return [
        best_per_listing(one, snapshot.codes.keys[one.rows], snapshot.listing_ids(one.rows), task.count)
        if task.query.options.collapse
        else one
        for task, one in zip(tasks, found, strict=True)
    ]


def _exhaustive(tasks: Sequence[_Task], snapshot: Snapshot, bits: Bitmap | None) -> list[hamming.Found]:
    found = hamming.exhaustive([_kernel_query(task, task.count) for task in tasks], snapshot.codes, bits)
    return [
        _widened(task, one, snapshot, bits) if task.query.options.collapse else one
        for task, one in zip(tasks, found, strict=True)
    ]


def _widened(task: _Task, found: hamming.Found, snapshot: Snapshot, bits: Bitmap | None) -> hamming.Found:
    return widen_to_listings(
        found,
        task.count,
        lambda count: hamming.exhaustive([_kernel_query(task, count)], snapshot.codes, bits)[0],
        snapshot.listing_ids,
    )


def _kernel_query(task: _Task, count: int) -> hamming.KernelQuery:
    short, long = task.descriptor
    return hamming.KernelQuery(
        short, long, count, candidates=task.query.candidates or count, weights=task.query.weights
    )


def _hits(task: _Task, found: hamming.Found, snapshot: Snapshot) -> ShardHits:
    rows = found.rows
    return ShardHits(
        histogram=found.histogram,
        keys=snapshot.codes.keys[rows],
        short=found.short,
        long=found.long,
        components=_component_distances(task, rows, snapshot) if task.query.options.verbose else None,
        image_ids=snapshot.image_ids(rows),
        listing_ids=snapshot.listing_ids(rows),
        groups=snapshot.categories("group").take(rows),
        descriptor=task.descriptor if task.row >= 0 else None,
    )


def _component_distances(task: _Task, rows: NDArray[np.int64], snapshot: Snapshot) -> NDArray[np.uint16]:
    """Return the Hamming distance per component, in bits: uint16 (rows, components)."""
    words = snapshot.codes.component_words
    differing = np.bitwise_count(snapshot.codes.long[rows] ^ task.descriptor.long).astype(np.uint16)
    return np.add.reduceat(differing, np.cumsum((0, *words[:-1])), axis=1, dtype=np.uint16)


def _with_target_row(hits: ShardHits, task: _Task, snapshot: Snapshot, bits: Bitmap | None) -> ShardHits:
    """Report the stored image that is the target, even where twins with smaller keys crowd it out."""
    row = task.row
    if row < 0 or (bits is not None and not bits[row >> 6] >> np.uint64(row & 63) & np.uint64(1)):
        return hits
    rows = np.array([row])
    image_ids = snapshot.image_ids(rows)
    if image_ids[0] in hits.image_ids:
        return hits
    parts = hits.components
    return replace(
        hits,
        keys=np.append(hits.keys, snapshot.codes.keys[rows]),
        short=np.append(hits.short, np.uint16(0)),
        long=np.append(hits.long, np.uint32(0)),
        components=None if parts is None else np.vstack([parts, np.zeros_like(parts, shape=(1, parts.shape[1]))]),
        image_ids=[*hits.image_ids, *image_ids],
        listing_ids=[*hits.listing_ids, *snapshot.listing_ids(rows)],
        groups=[*hits.groups, *snapshot.categories("group").take(rows)],
    )
