"""Only the best image of each listing: what a shard must report so that the merge can tell. Pure.

A row is in a collapsed answer only if it is the best of its listing. Which row that is depends on the threshold of all
shards together, which one shard does not know, so it reports a few rows more than ``count``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from lookalike.kernels import hamming

# After an exhaustive search that found too few listings, the next one looks for this many times as many rows.
WIDEN = 4


def best_per_listing(
    candidates: hamming.Found, keys: NDArray[np.uint64], listings: NDArray[np.int64], count: int
) -> hamming.Found:
    """Of all candidates of phase one, keep those that can be in a collapsed answer.

    A row counts only if, among the rows at its short distance or nearer, it is the best of its listing and fewer than
    ``count`` other listings have a better one. One pass over the distances finds them all.

    Parameters
    ----------
    candidates : hamming.Found
        All rows of the shard up to its own threshold, in any order.
    keys : ndarray of uint64, shape of ``candidates.rows``
    listings : ndarray of int64, shape of ``candidates.rows``
        A number for each listing.
    count : int
    """
    best = np.empty(0, np.int64)
    kept = []
    for distance in np.unique(candidates.short):
        rivals = np.concatenate([best, np.flatnonzero(candidates.short == distance)])
        ranked = rivals[np.lexsort((keys[rivals], candidates.long[rivals]))]
        firsts = np.sort(np.unique(listings[ranked], return_index=True)[1])
        best = ranked[firsts[:count]]
        kept.append(best[candidates.short[best] == distance])
    chosen = np.concatenate([np.empty(0, np.int64), *kept])
    return replace(
        candidates, rows=candidates.rows[chosen], short=candidates.short[chosen], long=candidates.long[chosen]
    )


def widen_to_listings(
    found: hamming.Found,
    count: int,
    search: Callable[[int], hamming.Found],
    listings: Callable[[NDArray[np.int64]], NDArray[np.int64]],
) -> hamming.Found:
    """Search for more rows until they are of ``count`` listings, or there are no more rows.

    Parameters
    ----------
    found : hamming.Found
        The best ``count`` rows by their long codes.
    search : callable
        Finds so many best rows.
    listings : callable
        Gives a number for the listing of each of some rows.
    """
    wanted = count
    while len(found.rows) == wanted and len(np.unique(listings(found.rows))) < count:
        wanted *= WIDEN
        found = search(wanted)
    return found
