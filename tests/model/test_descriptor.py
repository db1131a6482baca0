"""The bits of a descriptor, against a slow oracle: whatever the bits, features and thresholds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lookalike.model.descriptor import BoolBits, Descriptors, Thresholds, Words, describe, pack, unpack

COUNTS = st.integers(0, 9)


@st.composite
def bit_rows(draw: st.DrawFn) -> BoolBits:
    return draw(hnp.arrays(np.bool_, (draw(COUNTS), 64 * draw(st.integers(1, 5)))))


def slow_pack(bits: BoolBits) -> list[list[int]]:
    return [
        [sum(int(b) << j for j, b in enumerate(row[w : w + 64])) for w in range(0, len(row), 64)]
        for row in bits.tolist()
    ]


@given(bit_rows())
def test_pack_puts_bit_j_at_bit_j_modulo_64_of_word_j_over_64(bits: BoolBits) -> None:
    words = pack(bits)
    assert words.dtype == np.uint64
    assert words.flags.c_contiguous
    assert words.shape == (len(bits), bits.shape[1] // 64)
    assert words.tolist() == slow_pack(bits)


@pytest.mark.parametrize("width", [1, 63, 65])
def test_pack_refuses_parts_of_words(width: int) -> None:
    with pytest.raises(ValueError, match=f"{width} bits do not fill whole words"):
        pack(np.zeros((1, width), bool))


@given(bit_rows(), st.booleans())
def test_unpack_undoes_pack_whatever_the_memory_order(bits: BoolBits, fortran: bool) -> None:
    ordered = np.asfortranarray(bits) if fortran else bits
    np.testing.assert_array_equal(unpack(pack(ordered)), bits)


@given(hnp.arrays(np.uint64, st.tuples(COUNTS, st.integers(1, 5))))
def test_pack_undoes_unpack(words: Words) -> None:
    np.testing.assert_array_equal(pack(unpack(words)), words)


@given(st.data())
def test_describe_compares_threshold_by_threshold(data: st.DataObject) -> None:
    n, widths = data.draw(COUNTS), (3, 5)
    values = st.integers(-3, 3).map(np.float32)  # few values, so that features lie on thresholds
    features = [data.draw(hnp.arrays(np.float32, (n, w), elements=values)) for w in widths]
    thresholds = [
        Thresholds(
            data.draw(hnp.arrays(np.int32, 64, elements=st.integers(0, w - 1))),
            data.draw(hnp.arrays(np.float32, 64, elements=values)),
        )
        for w in widths
    ]
    short = data.draw(hnp.arrays(np.int32, 64, elements=st.integers(0, 127)))
    found = describe(features, thresholds, short)
    long_bits = np.zeros((n, 128), bool)
    for i in range(n):
        for c, (f, t) in enumerate(zip(features, thresholds, strict=True)):
            for j in range(64):
                long_bits[i, 64 * c + j] = f[i, t.columns[j]] > t.values[j]
    assert found.long.tolist() == slow_pack(long_bits)
    assert found.short.tolist() == slow_pack(long_bits[:, short])


def test_descriptors_are_of_as_many_short_as_long_codes() -> None:
    with pytest.raises(ValueError, match="2 short codes but 3 long ones"):
        Descriptors(np.zeros((2, 1), np.uint64), np.zeros((3, 4), np.uint64))


def test_thresholds_are_of_as_many_columns_as_values() -> None:
    with pytest.raises(ValueError, match="columns"):
        Thresholds(np.zeros(2, np.int32), np.zeros(3, np.float32))
