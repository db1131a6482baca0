"""Laws of the descriptor that hold for any bits, features and colours."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lookalike.model import colour
from lookalike.model.descriptor import Thresholds, binarise, describe, pack, unpack

ROWS = st.integers(0, 9)


@st.composite
def bit_rows(draw):
    return draw(hnp.arrays(np.bool_, (draw(ROWS), 64 * draw(st.integers(1, 5)))))


def slow_pack(bits):
    return [
        [sum(int(b) << j for j, b in enumerate(row[w : w + 64])) for w in range(0, len(row), 64)]
        for row in bits.tolist()
    ]


@given(bit_rows())
def test_bit_j_is_bit_j_modulo_64_of_word_j_over_64(bits):
    codes = pack(bits)
    assert codes.dtype == np.uint64
    assert codes.flags.c_contiguous
    assert codes.shape == (len(bits), bits.shape[1] // 64)
    assert codes.tolist() == slow_pack(bits)


@given(bit_rows(), st.booleans())
def test_unpack_undoes_pack_whatever_the_memory_order(bits, fortran):
    given_bits = np.asfortranarray(bits) if fortran else bits
    np.testing.assert_array_equal(unpack(pack(given_bits)), bits)


@given(hnp.arrays(np.uint64, st.tuples(ROWS, st.integers(1, 5))))
def test_pack_undoes_unpack(codes):
    np.testing.assert_array_equal(pack(unpack(codes)), codes)


@given(st.data())
def test_describe_is_threshold_by_threshold(data):
    n, widths = data.draw(ROWS), (3, 5)
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
    codes = describe(features, thresholds, short)
    long_bits = np.zeros((n, 128), bool)
    for i in range(n):
        for c, (f, t) in enumerate(zip(features, thresholds, strict=True)):
            for j in range(64):
                long_bits[i, 64 * c + j] = f[i, t.columns[j]] > t.values[j]
    assert codes.long.tolist() == slow_pack(long_bits)
    assert codes.short.tolist() == slow_pack(long_bits[:, short])


LAB = st.tuples(st.floats(0, 100, width=32), st.floats(-86, 98, width=32), st.floats(-107, 94, width=32))


@given(LAB, LAB)
def test_colour_distance_is_the_number_of_thresholds_between(one, other):
    thresholds = colour.thermometer(192)
    bits = binarise(np.array([one * 3, other * 3], np.float32), thresholds)
    between = 0
    for axis in range(3):
        low, high = sorted((np.float32(one[axis]), np.float32(other[axis])))
        steps = thresholds.values[thresholds.columns == axis]
        between += int(((steps >= low) & (steps < high)).sum())
    assert (bits[0] != bits[1]).sum() == 3 * between


@given(hnp.arrays(np.uint8, st.tuples(st.integers(1, 4), st.just(32), st.just(32), st.just(3))))
def test_colour_of_a_picture_does_not_depend_on_its_batch(pixels):
    together = colour.features(pixels)
    for i in range(len(pixels)):
        assert colour.features(pixels[i : i + 1]).tobytes() == together[i : i + 1].tobytes()
