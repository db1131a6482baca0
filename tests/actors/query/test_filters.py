"""Filters as values of the contract: what is taken, what is refused, and what a refusal says."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from lookalike.actors.query.filters import MAX_VALUES, Filter, Filters
from lookalike.ingest.attributes import FilterKind, max_chars, names_filtered

ADAPTER: TypeAdapter[tuple[Filter, ...]] = TypeAdapter(Filters)


def nested(depth: int) -> dict[str, object]:
    condition: dict[str, object] = {"field": "price", "gte": 1.0}
    for _ in range(depth):
        condition = {"not": condition}
    return condition


@pytest.mark.parametrize(
    ("filters", "message"),
    [
        ([nested(4)], "filters may be nested 4 deep"),
        ([nested(200)], "nested|recursion"),
        ([{"any": [{"any": [{"field": "price", "lt": 1.0}] * 8}] * 8}], "at most 32 conditions in all"),
        ([{"field": "price", "lt": 1.0}] * 33, "at most 32"),
        ([{"field": "price", "gte": "2024-01-31"}], "valid number"),
        ([{"field": "price", "gte": True}], "valid number"),
        ([{"field": "price", "gte": float("nan")}], "finite number"),
        ([{"field": "price", "gte": float("inf")}], "finite number"),
        ([{"field": "price", "gte": 10**400}], "number"),
        ([{"field": "price"}], "a filter has one of: in; gte"),
        ([{"field": "price", "gte": None}], "give at least one of gte, gt, lte, lt"),
        ([{"field": "brand", "gte": 1}], "Input should be 'price'"),
        ([{"field": "created_at", "gte": "2024"}], "a time is written 2026-01-31"),
        ([{"field": "created_at", "gte": 2024}], "a time is written 2026-01-31"),
        ([{"field": "created_at", "gte": "2024-13-01"}], "month"),
        ([{"field": "created_at", "gte": "9999-12-31T23:59:59-14:00"}], "outside the years 1 to 9999"),
        ([{"field": "created_at", "lt": "0001-01-01T00:00:00+14:00"}], "outside the years 1 to 9999"),
        ([{"field": "title", "matches": "--"}], "holds no word"),
        ([{"field": "title", "matches": "‿"}], "holds no word"),
        ([{"field": "title", "matches": "_ \u0301 ❤"}], "holds no word"),
        (
            [{"field": "title", "matches": " ".join(f"word{number}" for number in range(17))}],
            "17 different words; at most",
        ),
        ([{"field": "brand", "matches": "nike"}], "Input should be 'title' or 'description'"),
        ([{"field": "place", "within_km": 5, "of": [91, 0]}], "less than or equal to 90"),
        ([{"field": "place", "within_km": 0, "of": [0, 0]}], "greater than 0"),
        ([{"field": "price", "in": ["1"]}], "Input should be 'image_id', 'listing_id', 'group', 'colour' or 'brand'"),
        ([{"field": "brand", "in": []}], "at least 1"),
        ([{"field": "brand", "in": ["x"] * (MAX_VALUES + 1)}], "at most 1000"),
        ([{"field": "brand", "in": ["x"], "extra": 1}], "Extra inputs"),
        (["price"], "a filter has one of"),
    ],
)
def test_filters_that_are_refused(filters: list[object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ADAPTER.validate_python(filters)


def test_filters_that_are_taken() -> None:
    ADAPTER.validate_python([nested(3), {"any": [{"field": "price", "lt": 1}] * 20}])


def test_filters_count_a_word_that_comes_twice_once() -> None:
    ADAPTER.validate_python([{"field": "title", "matches": "Rot rot ROT " * 16}])


def test_filters_take_the_longest_value_that_a_field_can_hold() -> None:
    for field in names_filtered(FilterKind.VALUES, FilterKind.TREE):
        ADAPTER.validate_python([{"field": field, "in": ["x" * max_chars([field])]}])


@pytest.mark.parametrize("field", ["image_id", *names_filtered(FilterKind.VALUES, FilterKind.TREE)])
def test_filters_take_values_on_each_field_that_says_so(field: str) -> None:
    (condition,) = ADAPTER.validate_json(json.dumps([{"field": field, "in": ["a", "b"]}]))
    assert condition.model_dump(by_alias=True) == {"field": field, "in": ("a", "b")}


def test_filters_are_equal_and_hash_alike_when_they_say_the_same() -> None:
    given: list[dict[str, Any]] = [
        {"not": {"field": "group", "in": ["Shirts"]}},
        {"field": "created_at", "gte": "2024-01-01T01:00:00+01:00"},
    ]
    first, second = (
        ADAPTER.validate_python(filters) for filters in (given, [*given[:1], {**given[1], "gte": "2024-01-01"}])
    )
    assert first == second
    assert hash(first) == hash(second)


def test_filters_name_their_fields_in_the_schema() -> None:
    schema = ADAPTER.json_schema()["$defs"]
    assert schema["OneOf"]["properties"]["field"]["enum"] == ["image_id", "listing_id", "group", "colour", "brand"]
    assert schema["NumberRange"]["properties"]["field"]["enum"] == ["price"]
    assert schema["TimeRange"]["properties"]["field"]["enum"] == ["created_at"]
