"""What the shards found, merged to one answer. Pure: no Ray, no store.

Every shard sends the histogram of its short distances and the rows that can still be in the answer whatever the other
shards hold, both up to a threshold of its own. The histograms add up to the global threshold T; rows beyond it are
dropped; the rest is ordered by (long, key). So the answer does not depend on how rows are split over shards.

A shard is first asked for its part of the candidates and a margin. ``to_ask_again`` says from which shards more is
needed, because T may lie beyond what they reported.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lookalike.actors.index.blobs import Blobs, join
from lookalike.actors.query.query import Query

UNBOUNDED: Final = 0xFFFF
"""The threshold of a shard that counted all of its rows."""
# A shard's part of the candidates, where rows are spread by chance, is C / S, give or take less than sqrt(C / S). So
# four of these deviations, or a quarter more for parts beyond 256, make a second round rare.
_DEVIATIONS = 4
_MARGIN = 0.25


@dataclass(frozen=True, slots=True)
class ShardHits:
    """What one shard found for one query; arrays have one entry per row reported, in any order.

    Attributes
    ----------
    threshold : int
        Up to which short distance rows are counted and reported; ``UNBOUNDED`` where that is all of them.
    histogram : ndarray of integers
        How many allowed rows of the shard lie at each short distance; 0 beyond the last entry, up to the threshold.
    keys : ndarray of uint64
    short : ndarray of uint16
        Short distance, in bits.
    long : ndarray of uint32
        Weighted long distance, in hundredths of a bit.
    components : ndarray of uint16, shape (rows, components), or None
        Hamming distance per component, in bits; only where the query is verbose.
    ids, groups : Blobs
        Of each row; the groups that the rows of the reply, or of its whole batch, have.
    group_of : ndarray of uint32
        Which of the groups.
    pinned : int
        Which of the rows is the stored image that is the target, at distance 0; -1: none.
    """

    threshold: int
    histogram: NDArray[np.integer]
    keys: NDArray[np.uint64]
    short: NDArray[np.uint16]
    long: NDArray[np.uint32]
    components: NDArray[np.uint16] | None
    ids: Blobs
    groups: Blobs
    group_of: NDArray[np.uint32]
    pinned: int = -1


@dataclass(frozen=True, slots=True)
class NotHeld:
    """The reply of a shard to a query by the id of an image that it does not hold."""


@dataclass(frozen=True, slots=True)
class PastDeadline:
    """The reply of a shard to a query for whose answer nobody waits any more."""


Reply = ShardHits | NotHeld | PastDeadline


class Hit(NamedTuple):
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


def candidates_per_shard(candidates: int, shards: int) -> int:
    """Return how many candidates to ask each of several shards for: its part, and a margin that is mostly enough."""
    part = candidates / shards
    return min(candidates, math.ceil(part + max(_MARGIN * part, _DEVIATIONS * math.sqrt(part))))


def threshold(histogram: NDArray[np.integer], candidates: int) -> int:
    """Return the smallest distance such that ``candidates`` rows lie within it; ``UNBOUNDED`` if there are fewer."""
    distance = int(histogram.cumsum(dtype=np.int64).searchsorted(candidates))
    return distance if distance < len(histogram) else UNBOUNDED


def to_ask_again(parts: Sequence[ShardHits], candidates: int) -> list[int]:
    """Find the shards that must be asked again, for all candidates; if there are none, the merge is exact.

    The rows counted are some of all rows, so their threshold is the global one or lies beyond it. A shard that reported
    up to there has reported enough.

    Parameters
    ----------
    parts : sequence of ShardHits
        One per shard. One that was asked for all ``candidates`` is never found.
    candidates : int
        Of the query.
    """
    if not parts:
        return []
    within = threshold(_summed(parts), candidates)
    return [number for number, part in enumerate(parts) if part.threshold < within]


def merge(parts: Sequence[ShardHits], query: Query) -> list[Hit]:
    """Merge what the shards found to the best ``query.options.count`` hits.

    Parameters
    ----------
    parts : sequence of ShardHits
        One per shard, in any order, with none ``to_ask_again``.
    query : Query
        As it came from the client. An image that is its target precedes the others at its distance, which is 0, so
        that a search by id begins with that image even where the catalogue holds the same photo twice.

    Returns
    -------
    list of Hit
        Ordered by (distance, key); each listing once where the query collapses listings.

    Raises
    ------
    UnicodeDecodeError
        A text of a hit is not UTF-8.
    """
    if not parts:
        return []
    rows = parts[0] if len(parts) == 1 else _joined(parts)
    within = UNBOUNDED if query.candidates is None else threshold(rows.histogram, query.candidates)
    passed = np.flatnonzero(rows.short <= within)
    order = passed[np.lexsort((rows.keys[passed], rows.long[passed]))]
    if rows.pinned >= 0:
        order = order[np.argsort(order != rows.pinned, kind="stable")]
    count = query.options.count
    return _hits(rows, _firsts(rows.ids, order, count) if query.options.collapse else order[:count])


def _summed(parts: Sequence[ShardHits]) -> NDArray[np.int64]:
    total = np.zeros(max(len(part.histogram) for part in parts), np.int64)
    for part in parts:
        total[: len(part.histogram)] += part.histogram
    return total


def _joined(parts: Sequence[ShardHits]) -> ShardHits:
    """Put the rows of all shards one after the other."""
    before = accumulate((len(part.keys) for part in parts[:-1]), initial=0)
    groups = accumulate((len(part.groups.sizes) for part in parts[:-1]), initial=0)
    pinned = [first + part.pinned for first, part in zip(before, parts, strict=True) if part.pinned >= 0]
    components = [part.components for part in parts if part.components is not None]
    return ShardHits(
        threshold=min(part.threshold for part in parts),
        histogram=_summed(parts),
        keys=np.concatenate([part.keys for part in parts]),
        short=np.concatenate([part.short for part in parts]),
        long=np.concatenate([part.long for part in parts]),
        components=np.concatenate(components) if components else None,
        ids=join([part.ids for part in parts]),
        groups=join([part.groups for part in parts]),
        group_of=np.concatenate(
            [part.group_of + first for part, first in zip(parts, groups, strict=True)], dtype=np.uint32
        ),
        pinned=pinned[0] if pinned else -1,
    )


def _firsts(ids: Blobs, order: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """The first row of each of the first ``count`` listings, in their order; no more listings are read than needed."""
    firsts: dict[bytes, int] = {}
    for start in range(0, len(order), 2 * count):
        some = order[start : start + 2 * count]
        for listing, row in zip(ids.listings(some), some.tolist(), strict=True):
            firsts.setdefault(listing, row)
        if len(firsts) >= count:
            break
    return np.array(list(firsts.values())[:count], np.int64)


def _hits(rows: ShardHits, chosen: NDArray[np.int64]) -> list[Hit]:
    found = zip(
        rows.ids.ids(chosen), rows.groups.values(rows.group_of[chosen]), rows.long[chosen].tolist(), strict=True
    )
    if rows.components is None:
        return [Hit(*ids, group, long, None) for ids, group, long in found]
    components = map(tuple, rows.components[chosen].tolist())
    return [Hit(*ids, group, long, bits) for (ids, group, long), bits in zip(found, components, strict=True)]
