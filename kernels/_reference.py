"""The searches in NumPy: slow, plain, and the specification that every native variant is tested against."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lookalike.kernels.values import Codes, Found, KernelQuery

_CHUNK_ROWS = 1 << 14  # keeps the table of differing bits of 8,192-bit codes at 16 MB


def distances(query: NDArray[np.uint64], rows: NDArray[np.uint64]) -> NDArray[np.uint16]:
    """Hamming distance of each row to the query, in bits."""
    bits = np.empty(len(rows), np.uint16)
    for start in range(0, len(rows), _CHUNK_ROWS):
        chunk = slice(start, start + _CHUNK_ROWS)
        bits[chunk] = np.bitwise_count(rows[chunk] ^ query).sum(axis=1, dtype=np.uint16)
    return bits


def weighted(query: KernelQuery, codes: Codes, rows: NDArray[np.int64]) -> NDArray[np.uint32]:
    """Weighted long distance of the given rows."""
    weights = np.repeat(query.weights, codes.component_words).astype(np.uint32)
    sums = np.empty(len(rows), np.uint32)
    for start in range(0, len(rows), _CHUNK_ROWS):
        chunk = slice(start, start + _CHUNK_ROWS)
        bits = np.bitwise_count(codes.long[rows[chunk]] ^ query.long)
        sums[chunk] = (bits * weights).sum(axis=1, dtype=np.uint32)
    return sums


def allowed_rows(n: int, allowed: NDArray[np.uint64] | None) -> NDArray[np.int64]:
    rows: NDArray[np.int64] = np.arange(n, dtype=np.int64)
    if allowed is None:
        return rows
    bits: NDArray[np.uint64] = allowed[rows >> 6] >> (rows & 63).astype(np.uint64) & np.uint64(1)
    return np.asarray(rows[bits != 0])


def threshold(histogram: NDArray[np.int64], candidates: int) -> int:
    """Smallest distance with at least ``candidates`` rows at or below it; the largest if there are fewer."""
    return min(int(np.searchsorted(np.cumsum(histogram), candidates)), len(histogram) - 1)


def candidates(query: KernelQuery, codes: Codes, allowed: NDArray[np.uint64] | None) -> Found:
    rows = allowed_rows(len(codes), allowed)
    short = distances(query.short, codes.short[rows])
    histogram = np.bincount(short, minlength=64 * len(query.short) + 1).astype(np.int64)
    limit = threshold(histogram, query.candidates)
    histogram[limit + 1 :] = 0
    rows, short = rows[short <= limit], short[short <= limit]
    by_short = np.argsort(short, kind="stable")
    return Found(rows[by_short], short[by_short], np.zeros(len(rows), np.uint32), histogram)


def two_phase(query: KernelQuery, codes: Codes, allowed: NDArray[np.uint64] | None) -> Found:
    found = candidates(query, codes, allowed)
    long = weighted(query, codes, found.rows)
    kept = _reported(found.short, long, codes.keys[found.rows], query.count)
    return Found(found.rows[kept], found.short[kept], long[kept], found.histogram)


def _reported(
    short: NDArray[np.uint16], long: NDArray[np.uint32], keys: NDArray[np.uint64], count: int
) -> NDArray[np.intp]:
    """Candidates that are among the best ``count`` of all at their short distance or below.

    Candidates come by (short, row). Only those reported can be in the answer at any threshold up to ours.
    """
    best = np.empty(0, np.intp)
    reported = [best]
    for distance in np.unique(short):
        members = np.flatnonzero(short == distance)
        pool = np.concatenate([best, members])
        best = pool[np.lexsort((pool, keys[pool], long[pool]))[:count]]
        reported.append(np.sort(best[short[best] == distance]))
    return np.concatenate(reported)


def exhaustive(query: KernelQuery, codes: Codes, allowed: NDArray[np.uint64] | None) -> Found:
    rows = allowed_rows(len(codes), allowed)
    long = weighted(query, codes, rows)
    best = np.lexsort((rows, codes.keys[rows], long))[: query.count]
    rows = rows[best]
    histogram = np.zeros(64 * len(query.short) + 1, np.int64)
    return Found(rows, distances(query.short, codes.short[rows]), long[best], histogram)
