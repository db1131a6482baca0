"""What a shard found, and the merge of several shards' finds to one answer. Pure: no Ray, no store.

Design: one round trip is enough. Every shard sends the histogram of its short distances and the rows that can
still be in the answer whatever the other shards hold. The histograms add up to the global threshold T; rows
beyond it are dropped; the rest is ordered by (long, key). So the answer does not depend on the split.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


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
        Weighted long distance.
    components : ndarray of uint16, shape (rows, components), or None
        Hamming distance per component, in bits; only when asked for.
    image_ids, listing_ids, groups : list of str
    codes : tuple of ndarray of uint64, or None
        The short and the long code of the image that a query by id named.
    """

    histogram: NDArray[np.int64]
    keys: NDArray[np.uint64]
    short: NDArray[np.uint16]
    long: NDArray[np.uint32]
    components: NDArray[np.uint16] | None
    image_ids: list[str]
    listing_ids: list[str]
    groups: list[str]
    codes: tuple[NDArray[np.uint64], NDArray[np.uint64]] | None = None


@dataclass(frozen=True, slots=True)
class UnknownImage:
    """The answer of a shard to a query by an id that it does not hold."""


@dataclass(frozen=True, slots=True)
class Hit:
    """A row of the answer. ``distance`` is the weighted long distance; 0 is the same descriptor."""

    image_id: str
    listing_id: str
    group: str
    distance: int
    components: tuple[int, ...] | None


def threshold(histogram: NDArray[np.int64], candidates: int) -> int:
    """The smallest distance such that at least ``candidates`` rows lie within it, or else the largest."""
    return min(int(np.searchsorted(np.cumsum(histogram), candidates)), len(histogram) - 1)


def merge(
    parts: Sequence[ShardHits],
    count: int,
    candidates: int | None,
    collapse: bool = False,
    first: str | None = None,
) -> list[Hit]:
    """Merge what the shards found to the ``count`` best hits.

    Parameters
    ----------
    parts : sequence of ShardHits
        One per shard, in any order.
    count : int
        How many hits at the most.
    candidates : int or None
        How many rows pass phase one at least, ties included. None: single-phase, all rows pass.
    collapse : bool
        Keep only the first hit of each listing.
    first : str or None
        The image that the query named: it precedes the others at its distance, which is 0, so that a search
        by id begins with that image even where the catalogue holds the same photo twice.

    Returns
    -------
    list of Hit
        Ordered by (distance, key).
    """
    if not parts:
        return []
    limit = _global_threshold(parts, candidates)
    source = np.repeat(np.arange(len(parts)), [len(part.keys) for part in parts])
    row = np.concatenate([np.arange(len(part.keys)) for part in parts])
    keys, short, long = (np.concatenate([getattr(part, name) for part in parts]) for name in ("keys", "short", "long"))
    passed = np.flatnonzero(short <= limit)
    named = np.array([image_id != first for part in parts for image_id in part.image_ids], bool)
    order = passed[np.lexsort((keys[passed], named[passed], long[passed]))]
    hits: list[Hit] = []
    listings: set[str] = set()
    for place in order.tolist():
        hit = _hit(parts[source[place]], int(row[place]))
        if collapse and hit.listing_id in listings:
            continue
        listings.add(hit.listing_id)
        hits.append(hit)
        if len(hits) == count:
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
        distance=int(part.long[row]),
        components=None if part.components is None else tuple(part.components[row].tolist()),
    )
