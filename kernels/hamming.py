"""Exact Hamming search over packed codes: check the arguments, choose a kernel, call it.

Every variant gives the answer of ``_reference``, ties included. ``VARIANTS`` are those that this CPU can run,
best first; ``ACTIVE`` is the one in use, chosen when this module is imported and overridden by
``LOOKALIKE_KERNEL``.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from operator import index
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from lookalike.kernels import _reference
from lookalike.kernels.values import Codes, Found, Query, check_array

try:
    from lookalike.kernels import _hamming
except ImportError:  # installed without a compiler: ACTIVE says so, and a shard reports it
    _LEVELS: dict[str, int] = {}
else:
    _LEVELS = _hamming.LEVELS

__all__ = [
    "ACTIVE",
    "VARIANTS",
    "Codes",
    "Found",
    "Query",
    "candidates",
    "exhaustive",
    "histogram",
    "scan",
    "threshold",
    "two_phase",
]

VARIANTS: Final[tuple[str, ...]] = (*reversed(_LEVELS), "numpy")
_CPUS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
ACTIVE: Final[str] = os.environ.get("LOOKALIKE_KERNEL") or VARIANTS[0]
if ACTIVE not in VARIANTS:
    raise ImportError(f"LOOKALIKE_KERNEL={ACTIVE!r}, but this machine can run {', '.join(VARIANTS)}")


def two_phase(
    queries: Sequence[Query],
    codes: Codes,
    allowed: NDArray[np.uint64] | None = None,
    *,
    threads: int = 1,
    variant: str = ACTIVE,
) -> list[Found]:
    """Search one shard by short code, then by long code; give what an exact merge over shards needs.

    With T the smallest short distance that at least ``candidates`` allowed rows do not exceed (the largest
    distance if there are fewer rows), a row is reported when its short distance is at most T and it is among
    the best ``count`` rows, by (long, key), of all allowed rows at its own short distance or below. That is
    about ``count * (1 + ln 256)`` rows. Over several shards: add the histograms, find the T of the sum (never
    above that of any one shard), drop the reported rows beyond it, and the first ``count`` by (long, key) are
    the answer.

    Parameters
    ----------
    queries : sequence of Query
        All of the widths of ``codes``. Each block of rows is read once for all of them.
    codes : Codes
    allowed : ndarray of uint64, shape (ceil(n / 64),), optional
        Bit ``i & 63`` of word ``i >> 6`` allows row ``i``, in both phases, for every query; bits past ``n``
        are ignored.
    threads : int
        At least 1. Rows are split over so many threads, where there are enough of them, but never over more
        than the CPUs that this process may use. Shards that share a machine should share out its CPUs here.
        The answer stays the same.
    variant : str
        One of ``VARIANTS``.

    Returns
    -------
    list of Found
        One per query. Rows come by (short, row). The histogram is exact up to T and 0 above.

    Raises
    ------
    TypeError, ValueError
        Widths, weights, bitmap or variant do not fit.
    MemoryError
        There is no memory for the candidates (millions of rows with the same distance).
    """
    return _search("two_phase", queries, codes, allowed, threads, variant)


def candidates(
    queries: Sequence[Query],
    codes: Codes,
    allowed: NDArray[np.uint64] | None = None,
    *,
    threads: int = 1,
    variant: str = ACTIVE,
) -> list[Found]:
    """Give all candidates of phase one, unranked: long codes are not read and every ``long`` is 0.

    Arguments, order, histogram and errors are those of ``two_phase``; ``count`` is not used.
    """
    return _search("candidates", queries, codes, allowed, threads, variant)


def exhaustive(
    queries: Sequence[Query],
    codes: Codes,
    allowed: NDArray[np.uint64] | None = None,
    *,
    threads: int = 1,
    variant: str = ACTIVE,
) -> list[Found]:
    """Rank every allowed row by its long code: the exact yardstick for the recall of phase one.

    Arguments and errors are those of ``two_phase``; ``candidates`` is not used.

    Returns
    -------
    list of Found
        One per query: the best ``count`` rows by (long, key). The histogram is all zeros: short codes are
        read only for the rows found.
    """
    return _search("exhaustive", queries, codes, allowed, threads, variant)


def scan(query: NDArray[np.uint64], rows: NDArray[np.uint64], *, variant: str = ACTIVE) -> NDArray[np.uint16]:
    """Hamming distance of one code to each row.

    Parameters
    ----------
    query : ndarray of uint64, shape (words,)
    rows : ndarray of uint64, shape (n, words), C-contiguous
        1 to 128 words.

    Returns
    -------
    ndarray of uint16, shape (n,)
        In bits, in row order.
    """
    check_array("query", query, np.uint64, 1)
    check_array("rows", rows, np.uint64, 2)
    if query.shape != rows.shape[1:] or not 1 <= len(query) <= 128:
        raise ValueError(f"query has {len(query)} words and rows have {rows.shape[1]}; both need the same 1 to 128")
    _check_variant(variant)
    if variant == "numpy":
        return _reference.scan(query, rows)
    distances = np.empty(len(rows), np.uint16)
    _hamming.scan(query, rows, distances, _LEVELS[variant])
    return distances


def histogram(query: NDArray[np.uint64], rows: NDArray[np.uint64], *, variant: str = ACTIVE) -> NDArray[np.int64]:
    """How many rows are at each distance: shape (bits + 1,). Arguments as for ``scan``."""
    return np.bincount(scan(query, rows, variant=variant), minlength=64 * len(query) + 1).astype(np.int64)


def threshold(histogram: NDArray[np.int64], candidates: int) -> int:
    """Smallest distance with at least ``candidates`` rows at or below it; the largest if there are fewer."""
    check_array("histogram", histogram, np.int64, 1)
    if candidates < 1 or not len(histogram):
        raise ValueError(f"candidates is {candidates} and the histogram has {len(histogram)} distances: both need one")
    return _reference.threshold(histogram, candidates)


def _check_variant(variant: str) -> None:
    if variant not in VARIANTS:
        raise ValueError(f"variant {variant!r} is unknown here; this machine can run {', '.join(VARIANTS)}")


def _check_search(
    queries: Sequence[Query], codes: Codes, allowed: NDArray[np.uint64] | None, threads: int, variant: str
) -> None:
    _check_variant(variant)
    if index(threads) < 1:
        raise ValueError(f"threads is {threads}, but must be at least 1")
    if not isinstance(codes, Codes):
        raise TypeError(f"codes is a {type(codes).__name__}, but must be Codes")
    for query in queries:
        if not isinstance(query, Query):
            raise TypeError(f"a query is a {type(query).__name__}, but must be a Query")
        found = (len(query.short), len(query.long), len(query.weights))
        wanted = (codes.short.shape[1], codes.long.shape[1], len(codes.component_words))
        if found != wanted:
            raise ValueError(f"a query has (short words, long words, weights) {found}, but the codes have {wanted}")
    if allowed is not None:
        check_array("allowed", allowed, np.uint64, 1)
        if len(allowed) != -(-len(codes) // 64):
            raise ValueError(f"allowed has {len(allowed)} words, but {len(codes)} rows need {-(-len(codes) // 64)}")


def _search(
    kind: Literal["two_phase", "candidates", "exhaustive"],
    queries: Sequence[Query],
    codes: Codes,
    allowed: NDArray[np.uint64] | None,
    threads: int,
    variant: str,
) -> list[Found]:
    _check_search(queries, codes, allowed, threads, variant)
    if variant == "numpy":
        return [getattr(_reference, kind)(query, codes, allowed) for query in queries]
    if not queries:
        return []
    answers = _hamming.search(
        kind,
        tuple(queries),
        codes.short,
        codes.long,
        codes.keys,
        codes.component_words,
        allowed,
        min(index(threads), _CPUS),
        _LEVELS[variant],
    )
    return [Found(*answer) for answer in answers]
