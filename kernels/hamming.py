"""Exact Hamming search over packed codes: check the arguments, choose an instruction-set variant, call it.

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
from lookalike.kernels.values import Codes, Found, KernelQuery, check_array

try:
    from lookalike.kernels import _hamming
except ImportError:  # installed without a compiler: ACTIVE says so, and a shard reports it
    _NATIVE: dict[str, int] = {}
else:
    _NATIVE = _hamming.VARIANTS

__all__ = [
    "ACTIVE",
    "VARIANTS",
    "Codes",
    "Found",
    "KernelQuery",
    "candidates",
    "exhaustive",
    "two_phase",
]

VARIANTS: Final[tuple[str, ...]] = (*reversed(_NATIVE), "numpy")
_CPUS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
ACTIVE: Final[str] = os.environ.get("LOOKALIKE_KERNEL") or VARIANTS[0]
if ACTIVE not in VARIANTS:
    raise ImportError(f"LOOKALIKE_KERNEL={ACTIVE!r}, but this machine can run {', '.join(VARIANTS)}")


def two_phase(
    queries: Sequence[KernelQuery],
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
    queries : sequence of KernelQuery
        All of the widths of ``codes``. Each block of rows is read once for all of them.
    codes : Codes
    allowed : ndarray of uint64, shape (ceil(n / 64),), optional
        Bit ``i & 63`` of word ``i >> 6`` allows row ``i``, in both phases, for every query; bits past ``n``
        are ignored.
    threads : int
        At least 1. Rows are split over so many threads, where there are enough of them, but never over more
        than the CPUs that this process may use. Shards on one machine divide its CPUs among them.
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
    queries: Sequence[KernelQuery],
    codes: Codes,
    allowed: NDArray[np.uint64] | None = None,
    *,
    threads: int = 1,
    variant: str = ACTIVE,
) -> list[Found]:
    """Give all candidates of phase one, unranked: long codes are not read and every ``long`` is 0.

    For measuring phase one by itself.

    Arguments, order, histogram and errors are those of ``two_phase``; ``count`` is not used.
    """
    return _search("candidates", queries, codes, allowed, threads, variant)


def exhaustive(
    queries: Sequence[KernelQuery],
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


def _check_variant(variant: str) -> None:
    if variant not in VARIANTS:
        raise ValueError(f"variant {variant!r} is unknown here; this machine can run {', '.join(VARIANTS)}")


def _check_search(
    queries: Sequence[KernelQuery], codes: Codes, allowed: NDArray[np.uint64] | None, threads: int, variant: str
) -> None:
    _check_variant(variant)
    if index(threads) < 1:
        raise ValueError(f"threads is {threads}, but must be at least 1")
    if not isinstance(codes, Codes):
        raise TypeError(f"codes is a {type(codes).__name__}, but must be Codes")
    for query in queries:
        if not isinstance(query, KernelQuery):
            raise TypeError(f"a query is a {type(query).__name__}, but must be a KernelQuery")
        given = (len(query.short), len(query.long), len(query.weights))
        required = (codes.short.shape[1], codes.long.shape[1], len(codes.component_words))
        if given != required:
            raise ValueError(f"a query has (short words, long words, weights) {given}, but the codes have {required}")
    if allowed is not None:
        check_array("allowed", allowed, np.uint64, 1)
        if len(allowed) != -(-len(codes) // 64):
            raise ValueError(f"allowed has {len(allowed)} words, but {len(codes)} rows need {-(-len(codes) // 64)}")


def _search(
    kind: Literal["two_phase", "candidates", "exhaustive"],
    queries: Sequence[KernelQuery],
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
        _NATIVE[variant],
    )
    return [Found(*answer) for answer in answers]
