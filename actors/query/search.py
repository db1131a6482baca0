"""Answer a batch of queries from one snapshot of a shard's rows. Pure: no store, no Ray, no clock."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lookalike.actors.index.rows import Snapshot
from lookalike.actors.query.filters import Filter, allowed, bitmap
from lookalike.actors.query.merge import ShardHits, UnknownImage
from lookalike.kernels import hamming

Masks = dict[tuple[Filter, ...], NDArray[np.uint64] | None]
# Bitmaps kept of the filters asked lately: 64 of them for a million rows are 8 MB.
MOST_MASKS = 64


@dataclass(frozen=True, slots=True)
class ShardQuery:
    """One query to one shard: by the codes, or by the id of an image that the shard should hold.

    ``candidates`` None: single-phase, every row is ranked by its long code. ``weights`` has one integer
    (0 to 1000) per component.
    """

    count: int
    candidates: int | None
    weights: tuple[int, ...]
    filters: tuple[Filter, ...] = ()
    collapse: bool = False
    verbose: bool = False
    image_id: str | None = None
    codes: tuple[NDArray[np.uint64], NDArray[np.uint64]] | None = None


def answer_batch(
    queries: Sequence[ShardQuery], named: NDArray[np.int64], snapshot: Snapshot, masks: Masks
) -> list[ShardHits | UnknownImage]:
    """Answer each query; those with the same filters share one pass over the rows.

    Parameters
    ----------
    named : ndarray of int64, shape (queries,)
        The row of the image that each query names, or -1.
    masks : dict
        Bitmaps already made for this snapshot; new ones are put in.
    """
    groups: dict[tuple[tuple[Filter, ...], bool], list[int]] = defaultdict(list)
    for place, query in enumerate(queries):
        if query.codes is not None or named[place] >= 0:
            groups[query.filters, query.candidates is None].append(place)
    answers: list[ShardHits | UnknownImage] = [UnknownImage()] * len(queries)
    for (filters, _), places in groups.items():
        mask = _mask(filters, snapshot, masks)
        asked = [_with_codes(queries[place], snapshot, int(named[place])) for place in places]
        for place, hits in zip(places, _search(asked, snapshot, mask), strict=True):
            answers[place] = _with_named_row(hits, snapshot, int(named[place]), mask)
    return answers


def _with_codes(query: ShardQuery, snapshot: Snapshot, row: int) -> ShardQuery:
    if query.codes is not None:
        return query
    return replace(query, codes=(snapshot.codes.short[row], snapshot.codes.long[row]))


def _mask(filters: tuple[Filter, ...], snapshot: Snapshot, masks: Masks) -> NDArray[np.uint64] | None:
    """The bitmap of the rows that count and meet the filters; kept, since a page is asked for many times."""
    if filters in masks:
        return masks[filters]
    met = None if not filters else allowed(filters, snapshot)
    if snapshot.alive is not None:
        met = snapshot.alive if met is None else met & snapshot.alive
    mask = None if met is None else bitmap(met)
    if len(masks) < MOST_MASKS:
        masks[filters] = mask
    return mask


def _search(queries: Sequence[ShardQuery], snapshot: Snapshot, mask: NDArray[np.uint64] | None) -> list[ShardHits]:
    """Ask the kernel; all queries have codes, and all are two-phase or none is."""
    rows = max(len(snapshot), 1)
    if queries[0].candidates is not None:
        # To collapse listings the merge needs every candidate, not only the best.
        asked = [_kernel_query(query, rows if query.collapse else query.count) for query in queries]
        found = hamming.two_phase(asked, snapshot.codes, mask)
        found = [
            _best_of_listings(query, best, snapshot) if query.collapse else best
            for query, best in zip(queries, found, strict=True)
        ]
    else:
        found = hamming.exhaustive([_kernel_query(query, query.count) for query in queries], snapshot.codes, mask)
        found = [
            _enough_listings(query, best, snapshot, mask) if query.collapse else best
            for query, best in zip(queries, found, strict=True)
        ]
    return [_hits(query, best, snapshot) for query, best in zip(queries, found, strict=True)]


def _best_of_listings(query: ShardQuery, found: hamming.Found, snapshot: Snapshot) -> hamming.Found:
    """Of all candidates, keep those that can be in a collapsed answer.

    As with single rows: a row counts only if, among the rows at its short distance or nearer, it is the best of its
    listing and fewer than ``count`` other listings have a better one. One pass over the distances finds them all.
    """
    listings = pa.array(snapshot.texts_of("listing_id", found.rows)).dictionary_encode().indices.to_numpy()
    keys = snapshot.codes.keys[found.rows]
    best = np.empty(0, np.int64)
    kept = []
    for distance in np.unique(found.short):
        rivals = np.concatenate([best, np.flatnonzero(found.short == distance)])
        ranked = rivals[np.lexsort((keys[rivals], found.long[rivals]))]
        firsts = np.sort(np.unique(listings[ranked], return_index=True)[1])
        best = ranked[firsts[: query.count]]
        kept.append(best[found.short[best] == distance])
    chosen = np.concatenate([np.empty(0, np.int64), *kept])
    return replace(found, rows=found.rows[chosen], short=found.short[chosen], long=found.long[chosen])


def _enough_listings(
    query: ShardQuery, found: hamming.Found, snapshot: Snapshot, mask: NDArray[np.uint64] | None
) -> hamming.Found:
    """Search for more rows until they are of ``count`` listings, or there are no more."""
    asked = query.count
    while len(found.rows) == asked and len(set(snapshot.texts_of("listing_id", found.rows))) < query.count:
        asked *= 4
        (found,) = hamming.exhaustive([_kernel_query(query, asked)], snapshot.codes, mask)
    return found


def _kernel_query(query: ShardQuery, count: int) -> hamming.Query:
    short, long = _codes_of(query)
    return hamming.Query(short, long, count, candidates=query.candidates or count, weights=query.weights)


def _codes_of(query: ShardQuery) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    if query.codes is None:
        raise ValueError("a query by id has no codes before its row is found")
    return query.codes


def _hits(query: ShardQuery, found: hamming.Found, snapshot: Snapshot) -> ShardHits:
    rows = found.rows
    return ShardHits(
        histogram=found.histogram,
        keys=snapshot.codes.keys[rows],
        short=found.short,
        long=found.long,
        components=_component_distances(query, rows, snapshot) if query.verbose else None,
        image_ids=snapshot.texts_of("image_id", rows),
        listing_ids=snapshot.texts_of("listing_id", rows),
        groups=snapshot.categories("group").take(rows),
        codes=query.codes if query.image_id is not None else None,
    )


def _component_distances(query: ShardQuery, rows: NDArray[np.int64], snapshot: Snapshot) -> NDArray[np.uint16]:
    """Hamming distance per component: uint16 (rows, components)."""
    words = snapshot.codes.component_words
    differing = np.bitwise_count(snapshot.codes.long[rows] ^ _codes_of(query)[1]).astype(np.uint16)
    return np.add.reduceat(differing, np.cumsum((0, *words[:-1])), axis=1, dtype=np.uint16)


def _with_named_row(hits: ShardHits, snapshot: Snapshot, row: int, mask: NDArray[np.uint64] | None) -> ShardHits:
    """Report the row that a query by id named, even where twins with smaller keys crowd it out."""
    if row < 0 or (mask is not None and not mask[row >> 6] >> np.uint64(row & 63) & np.uint64(1)):
        return hits
    image_id = snapshot.texts_of("image_id", np.array([row]))[0]
    if image_id in hits.image_ids:
        return hits
    parts = hits.components
    return replace(
        hits,
        keys=np.append(hits.keys, snapshot.codes.keys[row]),
        short=np.append(hits.short, np.uint16(0)),
        long=np.append(hits.long, np.uint32(0)),
        components=None if parts is None else np.vstack([parts, np.zeros_like(parts, shape=(1, parts.shape[1]))]),
        image_ids=[*hits.image_ids, image_id],
        listing_ids=[*hits.listing_ids, *snapshot.texts_of("listing_id", np.array([row]))],
        groups=[*hits.groups, *snapshot.categories("group").take(np.array([row]))],
    )
