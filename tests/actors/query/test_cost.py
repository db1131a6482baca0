"""The estimate of a condition's work: it grows with what is looked at."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, cast

import pytest
from pydantic import TypeAdapter

from lookalike.actors.index.rows import Snapshot
from lookalike.actors.query.cost import estimate_s
from lookalike.actors.query.filters import Filter

ADAPTER: TypeAdapter[Filter] = TypeAdapter(Filter)
SIMPLE: list[dict[str, Any]] = [
    {"field": "price", "gte": 1},
    {"field": "created_at", "gte": "2024-01-01"},
    {"field": "group", "in": ["a"]},
    {"field": "listing_id", "in": ["a"]},
    {"field": "place", "within_km": 1, "of": [1, 2]},
    {"field": "title", "matches": "red"},
]


class OfManySlots:
    """A snapshot with more rows than a test can make; every word is in every row."""

    def __init__(self, slots: int) -> None:
        self._slots = slots

    def __len__(self) -> int:
        return self._slots

    def words(self, _: str) -> OfManySlots:
        return self

    def cost(self, words: Sequence[str]) -> int:
        return self._slots * len(words)


def cost_of(condition: dict[str, Any], slots: int = 10**6) -> float:
    return estimate_s(ADAPTER.validate_python(condition), cast(Snapshot, OfManySlots(slots)))


@pytest.mark.parametrize("condition", SIMPLE, ids=lambda condition: condition["field"])
def test_estimate_grows_with_the_rows_and_the_conditions(condition: dict[str, Any]) -> None:
    costs = [cost_of(condition, slots) for slots in (10**5, 10**6, 10**7)]
    assert all(0 < fewer < more for fewer, more in pairwise(costs))
    assert cost_of({"not": condition}) == cost_of(condition)
    assert cost_of({"any": [condition] * 3}) == pytest.approx(3 * cost_of(condition))


def test_estimate_grows_with_values_and_words() -> None:
    few, many = ({"field": "listing_id", "in": [str(number) for number in range(count)]} for count in (1, 100))
    assert cost_of(few) < cost_of(many)
    one, three = ({"field": "title", "matches": words} for words in ("red", "red-or-blue"))
    assert cost_of(three) == pytest.approx(3 * cost_of(one))


def test_estimate_of_image_ids_does_not_depend_on_the_rows() -> None:
    condition = {"field": "image_id", "in": ["a", "b"]}
    assert cost_of(condition, 10) == cost_of(condition, 10**8)
