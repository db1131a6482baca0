"""Wrong arguments get a clear error; unusual ones that are right get an answer."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from lookalike.kernels import hamming
from lookalike.kernels.hamming import Codes, Query

U8 = np.uint64


def make_codes(n: int = 10, words: int = 4, parts: tuple[int, ...] = (2, 3)) -> Codes:
    rng = np.random.default_rng(n)
    return Codes(
        rng.integers(0, 2**64, (n, words), U8),
        rng.integers(0, 2**64, (n, sum(parts)), U8),
        np.arange(n, dtype=U8),
        parts,
    )


def make_query(**changes: Any) -> Query:
    given = {
        "short": np.zeros(4, U8),
        "long": np.zeros(5, U8),
        "count": 3,
        "candidates": 5,
        "weights": (1, 2),
    }
    return Query(**(given | changes))


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"short": np.zeros((10, 4), np.int64)}, TypeError),
        ({"short": np.zeros((10, 4), ">u8")}, TypeError),
        ({"short": [[1, 2, 3, 4]] * 10}, TypeError),
        ({"short": np.zeros((9, 4), U8)}, ValueError),
        ({"short": np.zeros((10, 5), U8)}, ValueError),
        ({"short": np.zeros((10, 0), U8)}, ValueError),
        ({"short": np.zeros(40, U8)}, ValueError),
        ({"short": np.zeros((20, 4), U8)[::2]}, ValueError),
        ({"short": np.zeros((4, 10), U8).T}, ValueError),
        ({"short": np.zeros(10 * 32 + 1, np.uint8)[1:].view(U8).reshape(10, 4)}, ValueError),
        ({"long": np.zeros((10, 129), U8), "component_words": (129,)}, ValueError),
        ({"keys": np.zeros((10, 1), U8)}, ValueError),
        ({"keys": np.zeros(20, U8)[::2]}, ValueError),
        ({"component_words": (2, 2)}, ValueError),
        ({"component_words": (5, 0)}, ValueError),
        ({"component_words": (2.0, 3.0)}, TypeError),
    ],
)
def test_wrong_codes_are_refused(changes: dict[str, Any], error: type[Exception]) -> None:
    right = make_codes()
    given = {name: getattr(right, name) for name in ("short", "long", "keys", "component_words")}
    with pytest.raises(error):
        Codes(**(given | changes))


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"short": np.zeros(4, np.int32)}, TypeError),
        ({"short": np.zeros((1, 4), U8)}, ValueError),
        ({"short": np.zeros(5, U8)}, ValueError),
        ({"short": np.zeros(8, U8)[::2]}, ValueError),
        ({"long": np.zeros(0, U8)}, ValueError),
        ({"count": 0}, ValueError),
        ({"count": -1}, ValueError),
        ({"count": 1 << 63}, ValueError),
        ({"count": "ten"}, TypeError),
        ({"count": 2.5}, TypeError),
        ({"candidates": 0}, ValueError),
        ({"weights": (1, -1)}, ValueError),
        ({"weights": (1, 1001)}, ValueError),
        ({"weights": (1, 0.5)}, TypeError),
    ],
)
def test_wrong_queries_are_refused(changes: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        make_query(**changes)


@pytest.mark.parametrize("search", [hamming.two_phase, hamming.candidates, hamming.exhaustive])
@pytest.mark.parametrize(
    ("query", "allowed", "options", "error"),
    [
        ({"short": np.zeros(3, U8)}, None, {}, ValueError),
        ({"long": np.zeros(6, U8)}, None, {}, ValueError),
        ({"weights": (1,)}, None, {}, ValueError),
        ({}, np.zeros(2, U8), {}, ValueError),
        ({}, np.zeros(0, U8), {}, ValueError),
        ({}, np.zeros((1, 1), U8), {}, ValueError),
        ({}, np.zeros(10, bool), {}, TypeError),
        ({}, None, {"threads": 0}, ValueError),
        ({}, None, {"variant": "abacus"}, ValueError),
    ],
)
def test_what_does_not_fit_together_is_refused(
    search: Any, query: dict[str, Any], allowed: Any, options: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        search([make_query(**query)], make_codes(), allowed, **options)


@pytest.mark.parametrize("variant", hamming.VARIANTS)
@pytest.mark.parametrize("search", [hamming.two_phase, hamming.candidates, hamming.exhaustive])
def test_read_only_arrays_are_read(variant: str, search: Any) -> None:
    codes, query, allowed = make_codes(), make_query(), np.full(1, 0b1011, U8)
    for array in (codes.short, codes.long, codes.keys, query.short, query.long, allowed):
        array.flags.writeable = False
    assert sorted(search([query], codes, allowed, variant=variant)[0].rows.tolist()) == [0, 1, 3]


@pytest.mark.parametrize("variant", hamming.VARIANTS)
@pytest.mark.parametrize("search", [hamming.two_phase, hamming.candidates, hamming.exhaustive])
def test_no_rows_give_an_empty_answer(variant: str, search: Any) -> None:
    found = search([make_query()], make_codes(0), np.zeros(0, U8), variant=variant)[0]
    assert len(found.rows) == len(found.short) == len(found.long) == 0
    assert found.histogram.tolist() == [0] * 257
    assert search([], make_codes(), variant=variant) == []


def test_threshold_is_the_smallest_distance_with_enough_rows() -> None:
    counts = np.array([0, 2, 0, 3, 0])
    assert [hamming.threshold(counts, n) for n in (1, 2, 3, 5, 6)] == [1, 1, 3, 3, 4]
    with pytest.raises(ValueError, match="candidates"):
        hamming.threshold(counts, 0)


def test_histogram_counts_every_row() -> None:
    rows = np.array([[0], [1], [3], [2**64 - 1]], U8)
    counts = hamming.histogram(np.zeros(1, U8), rows)
    assert counts.shape == (65,)
    assert {d: int(c) for d, c in enumerate(counts) if c} == {0: 1, 1: 1, 2: 1, 64: 1}


def test_scan_refuses_other_widths() -> None:
    with pytest.raises(ValueError, match="words"):
        hamming.scan(np.zeros(2, U8), np.zeros((3, 4), U8))


def start_with_kernel(name: str) -> subprocess.CompletedProcess[str]:
    code = "from lookalike.kernels import hamming; print(hamming.ACTIVE)"
    return subprocess.run(
        [sys.executable, "-c", code],
        env={"LOOKALIKE_KERNEL": name},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_environment_chooses_the_kernel() -> None:
    assert start_with_kernel("numpy").stdout.strip() == "numpy"
    assert start_with_kernel("").stdout.strip() == hamming.VARIANTS[0]
    refused = start_with_kernel("abacus")
    assert refused.returncode
    assert "'abacus', but this machine can run" in refused.stderr
