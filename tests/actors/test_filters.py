"""Filters against their definitions, on titles and prices of any kind; and the limits on their size."""

from __future__ import annotations

import re

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from lookalike.actors.index.columns import Categories, NumberColumn, TextColumn
from lookalike.actors.query.filters import Filter, allowed, bitmap
from lookalike.actors.query.query import Filters

ADAPTER: TypeAdapter[tuple[Filter, ...]] = TypeAdapter(Filters)
WORDS = st.sampled_from(["über", "ber", "Übergröße", "größe", "rücken", "cken", "куртка", "Куртка", "red", "7", "ac"])


class Columns:
    """Rows with a title and a time."""

    def __init__(self, titles: list[str], times: list[float]) -> None:
        self._titles = TextColumn()
        for part in (titles[: len(titles) // 2], titles[len(titles) // 2 :]):
            self._titles.append(pa.chunked_array([part], pa.string()))
        self._times = NumberColumn()
        self._times.append(pa.chunked_array([pa.array([int(t * 1e6) for t in times], pa.timestamp("us", tz="UTC"))]))

    def __len__(self) -> int:
        return len(self._titles.view().array)

    def text(self, field: str) -> pa.ChunkedArray:
        return self._titles.view().array

    def numbers(self, field: str) -> np.ndarray:
        return self._times.view()

    def categories(self, field: str) -> Categories:
        raise AssertionError(field)


TITLES = st.lists(st.lists(WORDS, max_size=4).map(" - ".join), min_size=1, max_size=12)


@given(TITLES, st.lists(WORDS, min_size=1, max_size=3))
def test_a_title_matches_when_each_word_begins_one_of_its_words(titles: list[str], asked: list[str]) -> None:
    rows = Columns(titles, [0.0] * len(titles))
    (condition,) = ADAPTER.validate_python([{"field": "title", "matches": ", ".join(asked)}])
    expected = [
        all(any(w.lower().startswith(a.lower()) for w in re.findall(r"\w+", title)) for a in asked) for title in titles
    ]
    assert allowed([condition], rows).tolist() == expected


@given(st.lists(st.integers(0, 3), min_size=1, max_size=8))
def test_times_compare_with_and_without_a_zone(days: list[int]) -> None:
    rows = Columns([""] * len(days), [1704067200.0 + 86400 * day for day in days])  # from 2024-01-01 UTC on
    for bound in ("2024-01-02", "2024-01-02T00:00:00Z", "2024-01-02T01:00:00+01:00"):
        (condition,) = ADAPTER.validate_python([{"field": "created_at", "gte": bound}])
        assert allowed([condition], rows).tolist() == [day >= 1 for day in days]


@given(st.lists(st.booleans(), max_size=200))
def test_bitmap_holds_row_i_at_bit_i(mask: list[bool]) -> None:
    words = bitmap(np.array(mask, bool))
    assert len(words) == -(-len(mask) // 64)
    assert [bool(int(words[row >> 6]) >> (row & 63) & 1) for row in range(len(mask))] == mask


def nested(depth: int) -> dict[str, object]:
    condition: dict[str, object] = {"field": "price", "gte": 1.0}
    for _ in range(depth):
        condition = {"not": condition}
    return condition


@pytest.mark.parametrize(
    "filters",
    [
        [nested(4)],
        [nested(200)],
        [{"any": [{"any": [{"field": "price", "lt": 1.0}] * 8}] * 8}],
        [{"field": "price", "gte": "2024-01-31"}],
        [{"field": "price", "gte": True}],
        [{"field": "price", "gte": float("nan")}],
        [{"field": "price"}],
        [{"field": "created_at", "gte": "2024"}],
        [{"field": "created_at", "gte": 2024}],
        [{"field": "title", "matches": "--"}],
        [{"field": "place", "within_km": 5, "of": [91, 0]}],
    ],
)
def test_filters_that_are_refused(filters: list[object]) -> None:
    with pytest.raises(ValidationError):
        ADAPTER.validate_python(filters)


def test_filters_that_are_taken() -> None:
    ADAPTER.validate_python([nested(3), {"any": [{"field": "price", "lt": 1}] * 20}])
