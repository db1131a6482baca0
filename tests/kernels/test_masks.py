"""Every variant of the conditions against NumPy's, and that against plain Python, row by row."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from lookalike.kernels import _reference_masks, masks
from lookalike.kernels.places import NO_DEGREES, UNITS_PER_DEGREE, Circle

SIZES = st.sampled_from([0, 1, 7, 63, 64, 65, 127, 128, 129, 400, 700])
SEEDS = st.integers(0, 2**32)
FLOATS = [0.0, -0.0, 5e-324, -5e-324, 1.0, 9.99, 10.0, 1e15, -1e300, math.inf, -math.inf, math.nan]
INTEGERS = [0, 1, -1, 17, 2**53, 2**53 + 1, 2**63 - 1, -(2**63), -(2**63) + 1]
DEGREES = [-1_800_000_000, -900_000_000, -1, 0, 1, 484_000_000, 900_000_000, 1_799_999_999, 1_800_000_000, NO_DEGREES]

every_variant = pytest.mark.parametrize("variant", masks.VARIANTS)


def bitmap_by(evaluate: Callable[[Any], None], count: int) -> NDArray[np.uint64]:
    """What a function writes, over what was there before."""
    out = np.full(masks.words_for(count), 0xA5A5_A5A5_A5A5_A5A5, np.uint64)
    evaluate(out)
    return out


def rows_in(bitmap: NDArray[np.uint64]) -> list[int]:
    """The definition of a bitmap; a bit past the last row would be seen."""
    return [row for row in range(64 * len(bitmap)) if int(bitmap[row >> 6]) >> (row & 63) & 1]


def some_bitmap(rng: np.random.Generator, count: int) -> NDArray[np.uint64]:
    return masks.pack(rng.random(count) < rng.choice([0.0, 0.05, 0.5, 1.0]))


@settings(deadline=None)
@given(st.lists(st.booleans(), max_size=200), st.sets(st.integers(0, 199)), st.sets(st.integers(0, 199)))
def test_bitmaps_hold_row_i_at_bit_i(mask: list[bool], added: set[int], removed: set[int]) -> None:
    bitmap = masks.pack(np.array(mask, bool))
    rows = [row for row, is_set in enumerate(mask) if is_set]
    assert len(bitmap) == masks.words_for(len(mask)) == -(-len(mask) // 64)
    assert rows_in(bitmap) == rows == masks.rows_of(bitmap).tolist()
    assert masks.unpack(bitmap, len(mask)).tolist() == mask
    bitmap = np.zeros(4, np.uint64)
    masks.add_rows(bitmap, np.array(sorted(added), np.int64))
    masks.remove_rows(bitmap, np.array(sorted(removed), np.int64))
    assert rows_in(bitmap) == sorted(added - removed)


@every_variant
@pytest.mark.parametrize(("known", "dtype"), [(FLOATS, np.float64), (INTEGERS, np.int64)])
@settings(deadline=None)
@given(count=SIZES, seed=SEEDS, data=st.data())
def test_within_finds_the_values_between_two_bounds(
    variant: str, known: list[Any], dtype: Any, count: int, seed: int, data: st.DataObject
) -> None:
    rng = np.random.default_rng(seed)
    values = np.array(known, dtype)[rng.integers(0, len(known), count)]
    bounds = [value for value in known if value == value]
    lower, upper = data.draw(st.sampled_from(bounds)), data.draw(st.sampled_from(bounds))
    expected = [row for row, value in enumerate(values.tolist()) if lower <= value <= upper]
    assert rows_in(bitmap_by(lambda out: masks.within(values, lower, upper, out, variant=variant), count)) == expected


@every_variant
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32])
@settings(deadline=None)
@given(count=SIZES, seed=SEEDS, size=st.sampled_from([0, 1, 2, 9, 128, 200, 256, 300]), wanted=st.integers(0, 300))
def test_members_finds_the_numbers_of_a_set(
    variant: str, dtype: Any, count: int, seed: int, size: int, wanted: int
) -> None:
    """Of hidden rows numbers may lie beyond the table."""
    rng = np.random.default_rng(seed)
    most = np.iinfo(dtype).max
    numbers = np.minimum(rng.integers(0, rng.choice([size + 5, most]) + 1, count), most).astype(dtype)
    table = np.zeros(size, bool)
    table[rng.permutation(size)[:wanted]] = True
    expected = [row for row, number in enumerate(numbers.tolist()) if number < size and table[number]]
    assert rows_in(bitmap_by(lambda out: masks.members(numbers, table, out, variant=variant), count)) == expected


@st.composite
def circles(draw: st.DrawFn) -> Circle:
    lat = draw(st.floats(-90, 90) | st.sampled_from([-90.0, 0.0, 48.4, 90.0, 89.9999]))
    lon = draw(st.floats(-180, 180) | st.sampled_from([-180.0, 0.0, 16.4, 180.0, 179.99]))
    angle = draw(st.floats(0, math.pi) | st.sampled_from([0.0, 1e-300, 1e-12, 1e-8, 1e-3, math.pi / 2, math.pi]))
    return Circle(lat, lon, angle)


def places_around(circle: Circle, rng: np.random.Generator, count: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Places anywhere, at corners, at the point itself, and most of them at and about the edge of a circle."""
    bearing, angle = rng.uniform(0, 2 * np.pi, count), circle.angle * (1 + rng.choice([0, 1e-15, -1e-12, 1e-9], count))
    lat0, lon0 = math.radians(circle.lat), math.radians(circle.lon)
    sine = math.sin(lat0) * np.cos(angle) + math.cos(lat0) * np.sin(angle) * np.cos(bearing)
    lat = np.degrees(np.arcsin(np.clip(sine, -1, 1)))
    y = np.sin(bearing) * np.sin(angle) * math.cos(lat0)
    lon = (np.degrees(lon0 + np.arctan2(y, np.cos(angle) - math.sin(lat0) * sine)) + 180) % 360 - 180
    kind = rng.integers(0, 6, count)
    lat = np.where(kind == 0, rng.uniform(-90, 90, count), np.where(kind == 1, circle.lat, lat))
    lon = np.where(kind == 0, rng.uniform(-180, 180, count), np.where(kind == 1, circle.lon, lon))
    units = [np.rint(degrees * UNITS_PER_DEGREE).astype(np.int32) for degrees in (lat, lon)]
    units[0][kind == 2] = rng.choice(
        [value for value in DEGREES if value == NO_DEGREES or abs(value) <= 9e8], (kind == 2).sum()
    )
    units[1][kind == 2] = rng.choice(DEGREES, (kind == 2).sum())
    units[0][kind == 3] = NO_DEGREES
    return units[0], units[1]


@every_variant
@settings(deadline=None, max_examples=300)
@given(circles(), SIZES, SEEDS)
def test_near_gives_the_answer_of_the_haversine_formula(variant: str, circle: Circle, count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    lat, lon = places_around(circle, rng, count)
    expected = []
    for row in range(count):
        known = lat[row] != NO_DEGREES and lon[row] != NO_DEGREES
        if known and _reference_masks.is_near(lat[row : row + 1], lon[row : row + 1], circle)[0]:
            expected.append(row)
    assert rows_in(bitmap_by(lambda out: masks.near(lat, lon, circle, out, variant=variant), count)) == expected


@pytest.mark.parametrize("kilometres", [0.01, 1, 25, 300, 5000, 19_000])
def test_near_leaves_few_rows_to_the_slow_formula(monkeypatch: pytest.MonkeyPatch, kilometres: float) -> None:
    """The margin is an error bound, not the answer: of rows spread over the circle it decides nearly all."""
    rng = np.random.default_rng(0)
    circle = Circle(48.2, 16.4, kilometres / 6371)
    angle = circle.angle * rng.uniform(0, 2, 20_000)
    lat = np.rint((48.2 + np.degrees(angle) * rng.uniform(-1, 1, 20_000)).clip(-90, 90) * 1e7).astype(np.int32)
    lon = np.rint((16.4 + np.degrees(angle) * rng.uniform(-1, 1, 20_000)).clip(-180, 180) * 1e7).astype(np.int32)
    asked: list[int] = []
    formula = _reference_masks.is_near

    def counted(lat: Any, lon: Any, circle: Circle) -> Any:
        asked.append(len(lat))
        return formula(lat, lon, circle)

    monkeypatch.setattr(_reference_masks, "is_near", counted)
    out = np.zeros(masks.words_for(len(lat)), np.uint64)
    for variant in [variant for variant in masks.VARIANTS if variant != "numpy"]:
        masks.near(lat, lon, circle, out, variant=variant)
        assert 0 < np.bitwise_count(out).sum() < len(lat)
    assert sum(asked) < 20


@every_variant
@settings(deadline=None)
@given(st.lists(st.integers(0, 10**6), max_size=60), st.sets(st.integers(0, 60)))
def test_mark_below_marks_every_node_with_a_marked_ancestor(variant: str, draws: list[int], marked: set[int]) -> None:
    parents = [0, *(drawn % (node + 1) for node, drawn in enumerate(draws))]
    marks = np.array([node in marked for node in range(len(parents))])
    masks.mark_below(np.array(parents, np.uint32), marks, variant=variant)
    for node in range(len(parents)):
        above = {node}
        at = node
        while at:
            at = parents[at]
            above.add(at)
        assert marks[node] == bool(above & marked)


@every_variant
@settings(deadline=None)
@given(st.lists(st.text("ab1/ü", max_size=20), max_size=20), st.binary(max_size=3))
def test_hash_texts_hashes_each_text_by_itself(variant: str, texts: list[str], between: bytes) -> None:
    encoded = [text.encode() for text in texts]
    data = np.frombuffer(between.join([b"", *encoded, b""]), np.uint8)
    lengths = np.array([len(text) for text in encoded], np.int64)
    starts = len(between) + np.cumsum(lengths + len(between)) - (lengths + len(between))
    expected = []
    for text in encoded:
        code = 0xCBF29CE484222325
        for byte in text:
            code = (code ^ byte) * 0x100000001B3 % 2**64
        expected.append((code ^ code >> 32) * 0x9E3779B97F4A7C15 % 2**64 >> 48)
    assert masks.hash_texts(data, starts, lengths, variant=variant).tolist() == expected


@every_variant
@settings(deadline=None)
@given(
    st.lists(st.tuples(st.text("ab/ü", min_size=1, max_size=9), st.text("ab/ü", max_size=5)), max_size=150),
    st.sets(st.text("ab/ü", max_size=5), max_size=9),
    SEEDS,
)
def test_second_ids_finds_the_rows_with_one_of_some_texts(
    variant: str, ids: list[tuple[str, str]], wanted: set[str], seed: int
) -> None:
    words, offsets = [0], []
    for first, second in ids:
        one, two = first.encode(), second.encode()
        begins = one.startswith(two)
        blob = struct.pack("<HH", len(one), len(two) | begins << 15) + one + (b"" if begins else two)
        offsets.append(len(words))
        words += np.frombuffer(blob + bytes(-len(blob) % 4), np.uint32).tolist()
    where = some_bitmap(np.random.default_rng(seed), len(ids))
    out = np.full(len(where), 5, np.uint64)
    arrays = np.array(words, np.uint32), np.array(offsets, np.uint32)
    masks.second_ids(*arrays, sorted(wanted), out, where=where, variant=variant)
    assert rows_in(out) == [row for row in rows_in(where) if ids[row][1] in wanted]


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda out: masks.within(np.zeros(65), 0, 1, out), ValueError),
        (lambda out: masks.within(np.zeros(64, np.float32), 0, 1, out), TypeError),
        (lambda out: masks.within(np.zeros(128)[::2], 0, 1, out), ValueError),
        (lambda out: masks.within(np.zeros(64), 0, 1, out.view(np.int64)), TypeError),
        (
            lambda out: masks.second_ids(np.zeros(1, np.uint32), np.zeros(9, np.uint32), [], out, where=out[:0]),
            ValueError,
        ),
        (lambda out: masks.within(np.zeros(64), 0, 1, out, variant="mmx"), ValueError),
        (lambda out: masks.members(np.zeros(64, np.int8), np.zeros(2, bool), out), TypeError),
        (lambda out: masks.members(np.zeros(64, np.uint8), np.zeros(2, np.uint8), out), TypeError),
        (lambda out: masks.near(np.zeros(64, np.int32), np.zeros(63, np.int32), Circle(0, 0, 1), out), ValueError),
        (lambda out: masks.near(np.zeros(64, np.int64), np.zeros(64, np.int32), Circle(0, 0, 1), out), TypeError),
        (lambda out: masks.hash_texts(np.zeros(4, np.uint8), np.array([3]), np.array([2])), ValueError),
        (lambda out: masks.mark_below(np.zeros(3, np.uint32), np.zeros(2, bool)), ValueError),
    ],
)
def test_conditions_refuse_what_they_cannot_read(call: Callable[[Any], None], error: type[Exception]) -> None:
    with pytest.raises(error):
        call(np.zeros(1, np.uint64))


def test_active_is_a_variant_that_follows_the_searches() -> None:
    assert masks.ACTIVE in masks.VARIANTS
    assert masks.VARIANTS[-1] == "numpy"
