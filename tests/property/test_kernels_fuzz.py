"""Whatever array comes in at the door, there is an answer or a clear error, never a crash and never a wrong answer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lookalike.kernels import _reference, hamming
from lookalike.kernels.hamming import Codes, Query
from lookalike.kernels.memory import GrowableRows

DTYPES = st.sampled_from(["<u8", ">u8", "<i8", "u4", "u1", "f8", "bool", "O", "S8", "M8[s]"])
WAYS = ["as is", "every other", "backwards", "turned", "broadcast", "Fortran order", "unaligned", "a list", "read-only"]
SHAPES = st.lists(st.sampled_from([0, 1, 2, 3, 4, 5, 8, 9, 64, 65, 129]), min_size=0, max_size=3).map(tuple)


def reshaped(array: Any, how: str) -> Any:
    match how:
        case "every other":
            return array[::2] if array.ndim else array
        case "backwards":
            return np.flip(array)
        case "turned":
            return array.T
        case "broadcast":
            return np.broadcast_to(array[..., :1], array.shape) if array.ndim and array.shape[-1] else array
        case "Fortran order":
            return np.asfortranarray(array)
        case "unaligned" if not array.dtype.hasobject:
            raw = np.zeros(array.nbytes + 1, np.uint8)[1:]
            return raw.view(array.dtype).reshape(array.shape)
        case "a list":
            return array.tolist()
        case "read-only":
            array.flags.writeable = False
    return array


@st.composite
def odd_arrays(draw: Any) -> Any:
    usual = draw(st.integers(0, 2))  # often nearly right, or nothing gets past the first check
    dtype = "<u8" if usual else draw(DTYPES)
    shape = (9, 4) if usual == 2 else draw(SHAPES)
    return reshaped(
        np.zeros(shape, dtype),
        draw(st.sampled_from(WAYS)),
    )


ODD_NUMBERS = st.one_of(
    st.integers(-2, 12), st.sampled_from([10**9, 2**63 - 1, 2**63, 2**70, 1.5, "3", None, np.int64(2), True])
)


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
def test_odd_arguments_are_answered_or_refused(
    arrays: Any, parts: Any, numbers: Any, weights: Any, threads: Any
) -> None:
    short, long, keys, query_short, query_long, allowed = arrays
    try:
        codes = Codes(short, long, keys, tuple(parts))
        query = Query(query_short, query_long, *numbers, tuple(weights))
        found = hamming.two_phase([query], codes, allowed, threads=threads)
        everything = hamming.exhaustive([query], codes, allowed, threads=threads)
    except (TypeError, ValueError):
        return
    wanted = _reference.two_phase(query, codes, allowed)
    np.testing.assert_array_equal(found[0].rows, wanted.rows)
    np.testing.assert_array_equal(everything[0].rows, _reference.exhaustive(query, codes, allowed).rows)


@settings(max_examples=300, deadline=None)
@given(query=odd_arrays(), rows=odd_arrays())
def test_odd_scans_are_answered_or_refused(query: Any, rows: Any) -> None:
    for variant in hamming.VARIANTS:
        try:
            distances = hamming.scan(query, rows, variant=variant)
        except (TypeError, ValueError):
            continue
        assert distances.shape == (len(rows),)


@settings(max_examples=300, deadline=None)
@given(pieces=st.lists(odd_arrays(), max_size=5))
def test_growing_by_odd_arrays_adds_rows_or_refuses(pieces: list[Any]) -> None:
    rows, added = GrowableRows(4), 0
    for piece in pieces:
        try:
            rows.append(piece)
        except (TypeError, ValueError):
            continue
        added += len(piece)
    assert rows.view().shape == (added, 4)


def test_a_query_of_another_kind_is_refused() -> None:
    codes = Codes(np.zeros((1, 1), "u8"), np.zeros((1, 1), "u8"), np.zeros(1, "u8"), (1,))
    for queries in ([None], [codes], ["short"]):
        with pytest.raises(TypeError, match="Query"):
            hamming.two_phase(queries, codes)  # type: ignore[list-item]
