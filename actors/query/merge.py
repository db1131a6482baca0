"""What the shards found, merged to one answer. Pure: no Ray, no store.

One round trip is enough. Every shard sends the histogram of its short distances and the rows that can still be in the
answer whatever the other shards hold. The histograms add up to the global threshold T; rows beyond it are dropped; the
rest is ordered by (long, key). So the answer does not depend on how rows are split over shards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lookalike.actors.query.query import Descriptor, Query


@dataclass(frozen=True, slots=True)
class ShardHits:
    """What one shard found for one query; arrays have one entry per row reported, in any order.

    Attributes
    ----------
    histogram : ndarray of int64, shape (short bits + 1,)
        How many allowed rows of the shard lie at each short distance.
    keys : ndarray of uint64
    short : ndarray of uint16
        Short distance, in bits.
    long : ndarray of uint32
        Weighted long distance, in hundredths of a bit.
    components : ndarray of uint16, shape (rows, components), or None
        Hamming distance per component, in bits; only where the query is verbose.
    image_ids, listing_ids, groups : list of str
    descriptor : Descriptor or None
        The codes of the stored image that is the query's target.
    """

    histogram: NDArray[np.int64]
    keys: NDArray[np.uint64]
    short: NDArray[np.uint16]
    long: NDArray[np.uint32]
    components: NDArray[np.uint16] | None
    image_ids: list[str]
    listing_ids: list[str]
    groups: list[str]
    descriptor: Descriptor | None = None


@dataclass(frozen=True, slots=True)
class NotHeld:
    """The reply of a shard to a query by the id of an image that it does not hold."""


Reply = ShardHits | NotHeld


@dataclass(frozen=True, slots=True)
class Hit:
    """A row of the answer.

    Attributes
    ----------
    distance_hundredths : int
        Weighted long distance in hundredths of a bit; 0 is the same descriptor.
    components : tuple of int, or None
        Hamming distance per component, in bits.
    """

    image_id: str
    listing_id: str
    group: str
    distance_hundredths: int
    components: tuple[int, ...] | None


def threshold(histogram: NDArray[np.int64], candidates: int) -> int:
    """Return the smallest distance such that at least ``candidates`` rows lie within it, or else the largest."""
    return min(int(np.searchsorted(np.cumsum(histogram), candidates)), len(histogram) - 1)


def merge(parts: Sequence[ShardHits], query: Query) -> list[Hit]:
    """Merge what the shards found to the best ``query.options.count`` hits.

    Parameters
    ----------
    parts : sequence of ShardHits
        One per shard, in any order.
    query : Query
        As it came from the client. An image that is its target precedes the others at its distance, which is 0, so
        that a search by id begins with that image even where the catalogue holds the same photo twice.

    Returns
    -------
    list of Hit
        Ordered by (distance, key); each listing once where the query collapses listings.
    """
    if not parts:
        return []
    within = _global_threshold(parts, query.candidates)
    part_of = np.repeat(np.arange(len(parts)), [len(part.keys) for part in parts])
    row_of = np.concatenate([np.arange(len(part.keys)) for part in parts])
    keys, short, long = (np.concatenate([getattr(part, name) for part in parts]) for name in ("keys", "short", "long"))
    pinned = query.image_id
    not_pinned = np.array([image_id != pinned for part in parts for image_id in part.image_ids], bool)
    passed = np.flatnonzero(short <= within)
    order = passed[np.lexsort((keys[passed], not_pinned[passed], long[passed]))]
    hits: list[Hit] = []
    listings: set[str] = set()
    for position in order.tolist():
        hit = _hit(parts[part_of[position]], int(row_of[position]))
        if query.options.collapse and hit.listing_id in listings:
            continue
        listings.add(hit.listing_id)
        hits.append(hit)
        if len(hits) == query.options.count:
            break
    return hits


def _global_threshold(parts: Sequence[ShardHits], candidates: int | None) -> int:
    histogram = np.sum([part.histogram for part in parts], axis=0)
    return len(histogram) if candidates is None else threshold(histogram, candidates)


def _hit(part: ShardHits, row: int) -> Hit:
    return Hit(
        image_id=part.image_ids[row],
        listing_id=part.listing_ids[row],
        group=part.groups[row],
        distance_hundredths=int(part.long[row]),
        components=None if part.components is None else tuple(part.components[row].tolist()),
    )
