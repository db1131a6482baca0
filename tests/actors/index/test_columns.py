"""Columns of a shard: each gives back what was put last in each slot, and snapshots ask for rows by value."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lookalike.actors.index.columns import (
    DEGREE,
    NO_DEGREES,
    NO_TIME,
    CategoryColumn,
    DegreesColumn,
    NumberColumn,
    SlotColumn,
    TimeColumn,
)

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
TIMES = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30)).map(lambda time: time.replace(tzinfo=UTC))
ANGLES = st.floats(-180, 180) | st.sampled_from([float("nan"), float("inf"), 180.1, -1e300])


def units(angle: float | None) -> int:
    """What a slot of a degrees column holds."""
    return NO_DEGREES if angle is None or not -180 <= angle <= 180 else round(angle * DEGREE)


def puts(values: st.SearchStrategy[Any]) -> st.SearchStrategy[list[dict[int, Any]]]:
    """Batches: the value, or None, of each of some slots."""
    return st.lists(st.dictionaries(st.integers(0, 40), st.none() | values, min_size=1, max_size=8), max_size=5)


@pytest.mark.parametrize(
    ("column_type", "arrow", "values", "missing", "held"),
    [
        (NumberColumn, pa.float64(), st.floats(allow_nan=False), float("nan"), float),
        (TimeColumn, pa.timestamp("us", tz="UTC"), TIMES, NO_TIME, lambda t: (t - EPOCH) // timedelta(microseconds=1)),
        (DegreesColumn, pa.float64(), ANGLES, NO_DEGREES, units),
    ],
)
@settings(deadline=None)
@given(data=st.data())
def test_columns_hold_the_value_that_was_put_last(
    column_type: Callable[[], SlotColumn],
    arrow: pa.DataType,
    values: st.SearchStrategy[Any],
    missing: float,
    held: Callable[[Any], float],
    data: st.DataObject,
) -> None:
    column, expected = column_type(), dict[int, float]()
    for batch in data.draw(puts(values)):
        column.put(np.array(list(batch), np.int64), pa.array(list(batch.values()), arrow))
        expected |= {slot: missing if value is None else held(value) for slot, value in batch.items()}
    view = column.view(max(expected, default=-1) + 1)
    np.testing.assert_array_equal(view[list(expected)], list(expected.values()))


@settings(deadline=None)
@given(batches=puts(st.sampled_from("abcdefghijklmnop")), wanted=st.sets(st.sampled_from("abcdefghijklmnopq")))
def test_category_column_finds_the_slots_of_values(batches: list[dict[int, str | None]], wanted: set[str]) -> None:
    column, expected = CategoryColumn(), dict[int, str]()
    for number, batch in enumerate(batches):
        values = pa.array(list(batch.values()), pa.string())
        column.put(np.array(list(batch), np.int64), values.dictionary_encode() if number % 2 else values)
        expected |= {slot: value or "" for slot, value in batch.items()}
    categories = column.view(max(expected, default=-1) + 1)
    slots = np.array(list(expected), np.int64)
    assert categories.take(slots) == list(expected.values())
    having = [slot for slot, value in expected.items() if value in wanted]
    numbers = categories.numbers_of([*wanted, ""])
    assert numbers.shape == (len({"", *(value or "" for batch in batches for value in batch.values())}),)
    assert slots[numbers[categories.numbers[slots]]].tolist() == having


def test_category_column_of_paths_finds_what_lies_below_a_node_as_it_grows() -> None:
    column = CategoryColumn(tree=True)
    for first in (0, 400):
        paths = [f"All/Part {number % 3}/{number}" for number in range(first, first + 400)]
        column.put(np.arange(first, first + 400), pa.array(paths))
        categories = column.view(first + 400)
        found = np.flatnonzero(categories.numbers_of(["Part 1"])[categories.numbers])
        assert found.tolist() == [number for number in range(first + 400) if number % 3 == 1]
    assert CategoryColumn(tree=True).held_bytes < column.held_bytes
