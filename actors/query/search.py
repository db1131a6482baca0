"""Run a batch of queries over one snapshot of a shard's rows. Pure: no store, no Ray; the clock is the caller's."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from lookalike.actors.index.blobs import Blobs
from lookalike.actors.index.rows import Snapshot
from lookalike.actors.query.collapse import best_per_listing, widen_to_listings
from lookalike.actors.query.evaluate import allowed, bitmap
from lookalike.actors.query.filters import Filter
from lookalike.actors.query.merge import UNBOUNDED, NotHeld, PastDeadline, Reply, ShardHits, threshold
from lookalike.actors.query.query import Descriptor, Query
from lookalike.kernels import hamming

Bitmap = NDArray[np.uint64]
Bitmaps = dict[tuple[Filter, ...], Bitmap | None]
# Kept of the filters used lately, since a page is read many times: 64 bitmaps of a million rows are 8 MB.
MAX_BITMAPS = 64


@dataclass(frozen=True, slots=True)
class _Task:
    """A query of the batch, with the codes to compare and the row of the stored image that is its target, or -1."""

    query: Query
    descriptor: Descriptor
    row: int

    @property
    def count(self) -> int:
        return self.query.options.count


@dataclass(frozen=True, slots=True)
class _Result:
    """What the kernel found for a task, and which of the rows is its target, or -1."""

    task: _Task
    found: hamming.Found
    pinned: int


def search_batch(
    queries: Sequence[Query],
    target_rows: NDArray[np.int64],
    snapshot: Snapshot,
    bitmaps: Bitmaps,
    *,
    threads: int = 1,
    now: Callable[[], float] = lambda: -math.inf,
) -> list[Reply]:
    """Answer each query, in order; those with the same filters share one pass over the rows.

    Parameters
    ----------
    target_rows : ndarray of int64, shape (queries,)
        The row of the stored image that is a query's target; -1 where the target is a descriptor or is not held.
    bitmaps : dict
        Bitmaps already made for this snapshot; new ones are put in.
    threads : int
        Of the kernels.
    now : callable
        The time that deadlines refer to. It is read before each pass: a query whose deadline is past is left out.
    """
    groups: dict[tuple[tuple[Filter, ...], bool], list[int]] = defaultdict(list)
    for position, query in enumerate(queries):
        if query.descriptor is not None or target_rows[position] >= 0:
            groups[query.options.filters, query.candidates is None].append(position)
    replies: list[Reply] = [NotHeld()] * len(queries)
    results: dict[int, _Result] = {}
    for (filters, _), positions in groups.items():
        moment = now()
        for position in positions:
            if queries[position].deadline <= moment:
                replies[position] = PastDeadline()
        in_time = [position for position in positions if queries[position].deadline > moment]
        if not in_time:
            continue
        bits = _bitmap(filters, snapshot, bitmaps)
        tasks = [_task(queries[position], int(target_rows[position]), snapshot) for position in in_time]
        results |= zip(in_time, _search(tasks, snapshot, bits, threads), strict=True)
    for position, hits in zip(results, _hits(list(results.values()), snapshot), strict=True):
        replies[position] = hits
    return replies


def _task(query: Query, row: int, snapshot: Snapshot) -> _Task:
    codes = query.descriptor
    if row < 0 and codes is not None:
        return _Task(query, codes, -1)
    held = Descriptor(snapshot.codes.short[row], snapshot.codes.long[row])
    if codes is None or all(one.tobytes() == other.tobytes() for one, other in zip(codes, held, strict=True)):
        return _Task(query, held, row)
    return _Task(query, codes, -1)  # replaced since its codes were looked up: a row like any other


def _bitmap(filters: tuple[Filter, ...], snapshot: Snapshot, bitmaps: Bitmaps) -> Bitmap | None:
    """Return the visible rows that meet the filters; None: all rows."""
    if filters in bitmaps:
        return bitmaps[filters]
    bits = snapshot.visible
    if filters:
        met = bitmap(allowed(filters, snapshot))
        bits = met if bits is None else met & bits
    if len(bitmaps) < MAX_BITMAPS:
        bitmaps[filters] = bits
    return bits


def _search(tasks: Sequence[_Task], snapshot: Snapshot, bits: Bitmap | None, threads: int) -> list[_Result]:
    """Run the kernel once for all tasks; all are two-phase or none is."""
    run = _exhaustive if tasks[0].query.candidates is None else _two_phase
    found = run(tasks, snapshot, bits, threads)
    return [_with_target_row(one, task, bits) for task, one in zip(tasks, found, strict=True)]


def _two_phase(tasks: Sequence[_Task], snapshot: Snapshot, bits: Bitmap | None, threads: int) -> list[hamming.Found]:
    # To collapse listings the choice needs every candidate, not only the best.
    counts = [max(len(snapshot), 1) if task.query.options.collapse else task.count for task in tasks]
    kernel_queries = [_kernel_query(task, count) for task, count in zip(tasks, counts, strict=True)]
    found = hamming.two_phase(kernel_queries, snapshot.codes, bits, threads=threads)
    return [
        best_per_listing(one, snapshot.codes.keys[one.rows], snapshot.listing_numbers(one.rows), task.count)
        if task.query.options.collapse
        else one
        for task, one in zip(tasks, found, strict=True)
    ]


def _exhaustive(tasks: Sequence[_Task], snapshot: Snapshot, bits: Bitmap | None, threads: int) -> list[hamming.Found]:
    queries = [_kernel_query(task, task.count) for task in tasks]
    found = hamming.exhaustive(queries, snapshot.codes, bits, threads=threads)
    return [
        _widened(task, one, snapshot, bits, threads) if task.query.options.collapse else one
        for task, one in zip(tasks, found, strict=True)
    ]


def _widened(task: _Task, found: hamming.Found, snapshot: Snapshot, bits: Bitmap | None, threads: int) -> hamming.Found:
    return widen_to_listings(
        found,
        task.count,
        lambda count: hamming.exhaustive([_kernel_query(task, count)], snapshot.codes, bits, threads=threads)[0],
        snapshot.listing_numbers,
    )


def _kernel_query(task: _Task, count: int) -> hamming.KernelQuery:
    short, long = task.descriptor
    return hamming.KernelQuery(
        short, long, count, candidates=task.query.candidates or count, weights=task.query.weights
    )


def _with_target_row(found: hamming.Found, task: _Task, bits: Bitmap | None) -> _Result:
    """Report the stored image that is the target, even where twins with smaller keys crowd it out."""
    row = task.row
    if row < 0 or (bits is not None and not bits[row >> 6] >> np.uint64(row & 63) & np.uint64(1)):
        return _Result(task, found, -1)
    among = np.flatnonzero(found.rows == row)
    if len(among):
        return _Result(task, found, int(among[0]))
    added = replace(
        found,
        rows=np.append(found.rows, row),
        short=np.append(found.short, np.uint16(0)),
        long=np.append(found.long, np.uint32(0)),
    )
    return _Result(task, added, len(found.rows))


def _hits(results: Sequence[_Result], snapshot: Snapshot) -> list[ShardHits]:
    """Copy what is reported of the rows, for all queries at once: the snapshot may be gone when replies are read."""
    if not results:
        return []
    rows = np.concatenate([result.found.rows for result in results])
    keys, ids = snapshot.codes.keys[rows], snapshot.id_blobs(rows)
    groups, group_of = snapshot.categories("group").distinct(rows)
    bounds = np.cumsum([0, *(len(result.found.rows) for result in results)])
    parts = zip(results, pairwise(bounds.tolist()), _cut(ids, bounds), strict=True)
    return [
        _shard_hits(result, keys[a:b], own_ids, groups, group_of[a:b], snapshot) for result, (a, b), own_ids in parts
    ]


def _cut(blobs: Blobs, bounds: NDArray[np.int64]) -> list[Blobs]:
    """Cut the blobs of several replies into those of each."""
    words = np.concatenate([[0], np.cumsum(blobs.sizes, dtype=np.int64)])[bounds].tolist()
    cuts = zip(pairwise(words), pairwise(bounds.tolist()), strict=True)
    return [Blobs(blobs.words[first:last], blobs.sizes[a:b]) for (first, last), (a, b) in cuts]


def _shard_hits(
    result: _Result,
    keys: NDArray[np.uint64],
    ids: Blobs,
    groups: Blobs,
    group_of: NDArray[np.uint32],
    snapshot: Snapshot,
) -> ShardHits:
    query, found = result.task.query, result.found
    # A search in one phase has no histogram, and no threshold.
    within = -1 if query.candidates is None else threshold(found.histogram, query.candidates)
    return ShardHits(
        threshold=UNBOUNDED if query.candidates is None else within,
        histogram=found.histogram[: within + 1],
        keys=keys,
        short=found.short,
        long=found.long,
        components=_component_distances(result, snapshot) if query.options.verbose else None,
        ids=ids,
        groups=groups,
        group_of=group_of,
        pinned=result.pinned,
    )


def _component_distances(result: _Result, snapshot: Snapshot) -> NDArray[np.uint16]:
    """Return the Hamming distance per component, in bits: uint16 (rows, components)."""
    words = snapshot.codes.component_words
    differing = np.bitwise_count(snapshot.codes.long[result.found.rows] ^ result.task.descriptor.long)
    return np.add.reduceat(differing.astype(np.uint16), np.cumsum((0, *words[:-1])), axis=1, dtype=np.uint16)
