"""Every variant that this CPU can run answers as the NumPy reference does, and shards merge to one answer."""

from __future__ import annotations

from itertools import pairwise
from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from lookalike.kernels import _reference, hamming
from lookalike.kernels.hamming import Codes, Found, KernelQuery

NATIVE = [variant for variant in hamming.VARIANTS if variant != "numpy"]
SIZES = st.integers(0, 70) | st.sampled_from([127, 128, 255, 256, 257, 512, 2047, 2048, 2049, 4100, 6200])


def draw_words(rng: np.random.Generator, shape: tuple[int, ...], spread: float) -> NDArray[np.uint64]:
    """Words near one of three centres: ``spread`` 0 makes many equal codes, 1 makes them random."""
    centres = rng.integers(0, 2**64, (3, shape[-1]), np.uint64)
    words = centres[rng.integers(0, 3, shape[:-1])]
    noise = rng.integers(0, 2**64, shape, np.uint64)
    for _ in range(2):
        noise &= rng.integers(0, 2**64, shape, np.uint64)
    mixed = words ^ np.where(rng.random(shape) < spread, noise, np.uint64(0))
    return mixed.astype(np.uint64)


@st.composite
def components(draw: Any, max_words: int = 34) -> tuple[int, ...]:
    words = draw(st.lists(st.integers(1, 20), min_size=1, max_size=4))
    return tuple(words) if sum(words) <= max_words else (max_words,)


@st.composite
def catalogues(draw: Any) -> tuple[Codes, NDArray[np.uint64] | None, np.random.Generator]:
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    n, words, parts = draw(SIZES), draw(st.integers(1, 4)), draw(components())
    spread = draw(st.sampled_from([0.0, 0.1, 1.0]))
    short = draw_words(rng, (n, words), spread)
    if n and draw(st.booleans()):
        short[rng.integers(0, n)] = ~short[0]  # the largest distance there is, from a query equal to row 0
    keys = rng.permutation(np.arange(n, dtype=np.uint64))
    keys = keys // np.uint64(2) if draw(st.booleans()) else keys << np.uint64(40)
    codes = Codes(short, draw_words(rng, (n, sum(parts)), spread), keys, parts)
    share = draw(st.sampled_from([None, 0.0, 0.01, 0.1, 0.5, 0.95, 1.0]))
    return codes, None if share is None else draw_bitmap(rng, n, share), rng


def draw_bitmap(rng: np.random.Generator, n: int, share: float) -> NDArray[np.uint64]:
    bits = np.ones(-(-n // 64) * 64, bool)  # bits past n are set: they must be ignored
    bits[:n] = rng.random(n) < share
    return np.packbits(bits, bitorder="little").view(np.uint64)


@st.composite
def searches(draw: Any, max_queries: int = 9) -> tuple[list[KernelQuery], Codes, NDArray[np.uint64] | None]:
    codes, allowed, rng = draw(catalogues())
    queries = []
    for _ in range(draw(st.integers(0, 2) | st.just(max_queries))):
        row = int(rng.integers(0, len(codes))) if len(codes) else 0
        near = len(codes) > 0 and draw(st.booleans())
        queries.append(
            KernelQuery(
                codes.short[row] if near else draw_words(rng, codes.short.shape[1:], 1.0),
                codes.long[row] if near else draw_words(rng, codes.long.shape[1:], 1.0),
                draw(st.sampled_from([1, 2, 5, 20, 10**9])),
                draw(st.sampled_from([1, 3, 64, 300, 10**12])),
                tuple(draw(st.integers(0, 1000)) for _ in codes.component_words)
                if draw(st.booleans())
                else (draw(st.integers(0, 1000)),) * len(codes.component_words),
            )
        )
    return queries, codes, allowed


def assert_same(found: list[Found], expected: list[Found]) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        for name in ("rows", "short", "long", "histogram"):
            left, right = getattr(one, name), getattr(other, name)
            assert left.dtype == right.dtype
            np.testing.assert_array_equal(left, right, err_msg=name)


@pytest.mark.parametrize("variant", NATIVE)
@settings(max_examples=150, deadline=None)
@given(search=searches())
def test_hamming_two_phase_answers_as_the_reference(variant: str, search: Any) -> None:
    assert_same(
        hamming.two_phase(*search, variant=variant),
        hamming.two_phase(*search, variant="numpy"),
    )


@pytest.mark.parametrize("variant", NATIVE)
@settings(max_examples=50, deadline=None)
@given(search=searches())
def test_hamming_candidates_are_those_of_the_reference(variant: str, search: Any) -> None:
    assert_same(
        hamming.candidates(*search, variant=variant),
        hamming.candidates(*search, variant="numpy"),
    )


@pytest.mark.parametrize("variant", NATIVE)
@settings(max_examples=100, deadline=None)
@given(search=searches())
def test_hamming_exhaustive_answers_as_the_reference(variant: str, search: Any) -> None:
    assert_same(
        hamming.exhaustive(*search, variant=variant),
        hamming.exhaustive(*search, variant="numpy"),
    )


def naive_answer(query: KernelQuery, codes: Codes, allowed: NDArray[np.uint64] | None) -> list[tuple[int, int]]:
    """The definition, word for word, in plain Python: (long, key) of the rows of the answer."""
    rows = []
    for row in range(len(codes)):
        if allowed is not None and not int(allowed[row >> 6]) >> (row & 63) & 1:
            continue
        short = sum(int(a ^ b).bit_count() for a, b in zip(query.short, codes.short[row], strict=True))
        weights = np.repeat(query.weights, codes.component_words)
        differing = [int(a ^ b).bit_count() for a, b in zip(query.long, codes.long[row], strict=True)]
        long = sum(int(w) * bits for w, bits in zip(weights, differing, strict=True))
        rows.append((short, long, int(codes.keys[row])))
    distances = sorted(short for short, _, _ in rows)
    limit = distances[min(query.candidates, len(rows)) - 1] if rows else 0
    return sorted((long, key) for short, long, key in rows if short <= limit)[: query.count]


def split(
    codes: Codes, allowed: NDArray[np.uint64] | None, cuts: list[int]
) -> list[tuple[Codes, NDArray[np.uint64] | None]]:
    bounds = [0, *sorted(cut % (len(codes) + 1) for cut in cuts), len(codes)]
    shards = []
    for start, end in pairwise(bounds):
        part = Codes(codes.short[start:end], codes.long[start:end], codes.keys[start:end], codes.component_words)
        bitmap = None
        if allowed is not None:
            bits = np.unpackbits(allowed.view(np.uint8), bitorder="little")[start:end]
            padded = np.zeros(-(-len(bits) // 64) * 64, np.uint8)
            padded[: len(bits)] = bits
            bitmap = np.packbits(padded, bitorder="little").view(np.uint64)
        shards.append((part, bitmap))
    return shards


def merge(query: KernelQuery, found: list[tuple[Found, Codes]]) -> list[tuple[int, int]]:
    """What a coordinator does with the shards' reports."""
    limit = _reference.threshold(np.sum([f.histogram for f, _ in found], axis=0), query.candidates)
    hits = [
        (int(long), int(codes.keys[row]))
        for f, codes in found
        for row, short, long in zip(f.rows, f.short, f.long, strict=True)
        if short <= limit
    ]
    return sorted(hits)[: query.count]


@pytest.mark.parametrize("variant", hamming.VARIANTS)
@settings(max_examples=100, deadline=None)
@given(search=searches(max_queries=2), cuts=st.lists(st.integers(0, 10**6), max_size=4))
def test_hamming_any_split_into_shards_merges_to_the_definition(variant: str, search: Any, cuts: list[int]) -> None:
    queries, codes, allowed = search
    if len(codes) > 600:  # the plain-Python definition is slow
        codes = Codes(codes.short[:600], codes.long[:600], codes.keys[:600], codes.component_words)
        allowed = None if allowed is None else np.ascontiguousarray(allowed[:10])
    shards = split(codes, allowed, cuts)
    answers = [hamming.two_phase(queries, part, bitmap, variant=variant) for part, bitmap in shards]
    for number, query in enumerate(queries):
        found = [(answer[number], part) for answer, (part, _) in zip(answers, shards, strict=True)]
        assert merge(query, found) == naive_answer(query, codes, allowed)


@pytest.mark.parametrize("variant", NATIVE)
@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 2**32), spread=st.sampled_from([0.0, 0.02, 1.0]), threads=st.integers(2, 5))
def test_hamming_threads_give_the_same_bytes(variant: str, seed: int, spread: float, threads: int) -> None:
    rng = np.random.default_rng(seed)
    n = 90_001
    codes = Codes(
        draw_words(rng, (n, 4), spread),
        draw_words(rng, (n, 4), spread),
        rng.permutation(n).astype("u8"),
        (4,),
    )
    queries = [KernelQuery(codes.short[i], codes.long[i], 5, 1280, (1,)) for i in (0, n - 1)]
    bitmap = draw_bitmap(rng, n, 0.3)
    with mock.patch.object(hamming, "_CPUS", 8):
        for allowed in (None, bitmap):
            for search in (hamming.two_phase, hamming.candidates, hamming.exhaustive):
                assert_same(
                    search(queries, codes, allowed, threads=threads, variant=variant),
                    search(queries, codes, allowed, variant=variant),
                )


@pytest.mark.parametrize("variant", NATIVE)
@pytest.mark.parametrize("order", ["ascending", "descending"])
def test_hamming_sorted_rows_give_the_same_answer(variant: str, order: str) -> None:
    """Rows that come nearest last raise the work of a running threshold, never the answer."""
    n = 30_000
    distances = np.linspace(0, 256, n).astype(int)
    masks = np.array([[(1 << min(64, max(0, d - 64 * w))) - 1 for w in range(4)] for d in range(257)], np.uint64)
    short = masks[distances if order == "ascending" else distances[::-1]]
    codes = Codes(short, short.copy(), np.arange(n, dtype=np.uint64), (4,))
    query = KernelQuery(np.zeros(4, np.uint64), np.zeros(4, np.uint64), 10, 2560, (1,))
    assert_same(hamming.two_phase([query], codes, variant=variant), hamming.two_phase([query], codes, variant="numpy"))


@pytest.mark.parametrize("variant", NATIVE)
@settings(max_examples=8, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    words=st.integers(1, 4),
    queries=st.sampled_from([1, 7]),
    share=st.sampled_from([None, 0.02, 0.7]),
    misleading=st.booleans(),
)
def test_hamming_sampled_threshold_never_changes_the_answer(
    variant: str, seed: int, words: int, queries: int, share: float | None, misleading: bool
) -> None:
    """Enough rows for a sample, which misleads when the near rows lie just where it reads: its guess is too low."""
    rng = np.random.default_rng(seed)
    n = 140_000
    short = draw_words(rng, (n, words), 1.0)
    if misleading:
        near = draw_words(rng, (1, words), 1.0)[0]
        for run in range(64):
            short[n // 64 * run : n // 64 * run + 128 : 16] = near
    codes = Codes(short, short[:, :1].copy(), np.arange(n, dtype=np.uint64), (1,))
    rows = [0, *rng.integers(0, n, queries - 1)]
    queried = [KernelQuery(codes.short[row], codes.long[row], 10, 1000, (1,)) for row in rows]
    allowed = None if share is None else draw_bitmap(rng, n, share)
    assert_same(
        hamming.two_phase(queried, codes, allowed, variant=variant),
        hamming.two_phase(queried, codes, allowed, variant="numpy"),
    )
