"""Wrong arguments get a clear error; unusual ones that are right get an answer."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.arrays import ODD_NUMBERS, odd_arrays
from support.codes import make_codes, make_query

from lookalike.kernels import _reference, hamming
from lookalike.kernels.hamming import Codes, KernelQuery

U8 = np.uint64


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
def test_hamming_refuses_what_does_not_fit_together(
    search: Any, query: dict[str, Any], allowed: Any, options: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        search([make_query(**query)], make_codes(), allowed, **options)


@pytest.mark.parametrize("variant", hamming.VARIANTS)
@pytest.mark.parametrize("search", [hamming.two_phase, hamming.candidates, hamming.exhaustive])
def test_hamming_reads_read_only_arrays(variant: str, search: Any) -> None:
    codes, query, allowed = make_codes(), make_query(), np.full(1, 0b1011, U8)
    for array in (codes.short, codes.long, codes.keys, query.short, query.long, allowed):
        array.flags.writeable = False
    assert sorted(search([query], codes, allowed, variant=variant)[0].rows.tolist()) == [0, 1, 3]


@pytest.mark.parametrize("variant", hamming.VARIANTS)
@pytest.mark.parametrize("search", [hamming.two_phase, hamming.candidates, hamming.exhaustive])
def test_hamming_answers_empty_without_rows(variant: str, search: Any) -> None:
    found = search([make_query()], make_codes(0), np.zeros(0, U8), variant=variant)[0]
    assert len(found.rows) == len(found.short) == len(found.long) == 0
    assert found.histogram.tolist() == [0] * 257
    assert search([], make_codes(), variant=variant) == []


def start_with_variant(name: str) -> subprocess.CompletedProcess[str]:
    code = "from lookalike.kernels import hamming; print(hamming.ACTIVE)"
    return subprocess.run(
        [sys.executable, "-c", code],
        env={"LOOKALIKE_KERNEL": name},
        capture_output=True,
        text=True,
        check=False,
    )


def test_hamming_variant_is_chosen_by_the_environment() -> None:
    assert start_with_variant("numpy").stdout.strip() == "numpy"
    assert start_with_variant("").stdout.strip() == hamming.VARIANTS[0]
    refused = start_with_variant("abacus")
    assert refused.returncode
    assert "'abacus', but this machine can run" in refused.stderr


@settings(max_examples=400, deadline=None)
@given(
    arrays=st.tuples(*[odd_arrays()] * 6),
    parts=st.lists(ODD_NUMBERS, max_size=3),
    numbers=st.tuples(ODD_NUMBERS, ODD_NUMBERS),
    weights=st.lists(ODD_NUMBERS, max_size=3),
    threads=ODD_NUMBERS,
)
@example(
    arrays=(np.zeros((9, 4), "u8"), np.zeros((9, 3), "u8"), np.zeros(9, "u8"), *[np.zeros(w, "u8") for w in (4, 3, 1)]),
    parts=[1, 2],
    numbers=(3, 5),
    weights=[1, 1],
    threads=1,
)
def test_hamming_answers_or_refuses_odd_arguments(
    arrays: Any, parts: Any, numbers: Any, weights: Any, threads: Any
) -> None:
    short, long, keys, query_short, query_long, allowed = arrays
    try:
        codes = Codes(short, long, keys, tuple(parts))
        query = KernelQuery(query_short, query_long, numbers[0], numbers[1], tuple(weights))
        found = hamming.two_phase([query], codes, allowed, threads=threads)
        everything = hamming.exhaustive([query], codes, allowed, threads=threads)
    except (TypeError, ValueError):
        return
    expected = _reference.two_phase(query, codes, allowed)
    np.testing.assert_array_equal(found[0].rows, expected.rows)
    np.testing.assert_array_equal(everything[0].rows, _reference.exhaustive(query, codes, allowed).rows)


def test_hamming_refuses_a_query_of_another_type() -> None:
    codes = Codes(np.zeros((1, 1), "u8"), np.zeros((1, 1), "u8"), np.zeros(1, "u8"), (1,))
    wrong: list[Any] = [[None], [codes], ["short"]]
    for queries in wrong:
        with pytest.raises(TypeError, match="KernelQuery"):
            hamming.two_phase(queries, codes)
