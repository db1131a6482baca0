"""JSON under a budget: what is counted is what is there, and nothing costs more than it should."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import pytest
from fastapi.exceptions import RequestValidationError
from hypothesis import given
from hypothesis import strategies as st

from lookalike.actors.query.filters import OneOf
from lookalike.actors.query.query import SearchOptions
from lookalike.cluster.http.json_body import (
    MAX_DEPTH,
    MAX_JSON_BYTES,
    MAX_NAMES,
    MAX_VALUES,
    BodyTooLargeError,
    _measure,
    read_json,
    validate,
)
from lookalike.cluster.http.schema import ImageFields, SearchRequest

texts = st.one_of(st.text(max_size=8), st.text('"\\[]{},:', max_size=8))
values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**63), 2**63), st.floats(allow_nan=False), texts),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(texts, inner, max_size=4)),
    max_leaves=30,
)


def size_of(value: Any) -> tuple[int, int]:
    """How many values there are in one, itself included, and how deep: slowly."""
    if not isinstance(value, list | dict):
        return 1, 0
    inner = [size_of(item) for item in (value.values() if isinstance(value, dict) else value)]
    return 1 + sum(size for size, _ in inner), 1 + max((depth for _, depth in inner), default=0)


@given(values, st.booleans())
def test_read_json_gives_what_json_gives(value: Any, ascii_only: bool) -> None:
    assert read_json(json.dumps(value, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")) == value


@given(values, st.booleans())
def test_measure_counts_the_values_and_the_depth(value: Any, ascii_only: bool) -> None:
    count, depth = _measure(json.dumps(value, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass"))
    expected, expected_depth = size_of(value)
    assert depth == expected_depth
    assert expected <= count <= 2 * expected, "an empty list counts as one value more"


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"{", "json_invalid"),
        (b'{"a": }', "json_invalid"),
        (b"\xff\xfe", "json_invalid"),
        ('{"a": 1}'.encode("utf-16"), "json_invalid"),
        (b"9" * 5000, "json_invalid"),
        (b"", "missing"),
        (b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1), "value_error"),
        (b"[" * 1_000_000, "value_error"),
        (b'{"a":' * 100_000, "value_error"),
        (b"[" + b"0," * MAX_VALUES + b"0]", "value_error"),
        (b'["' + b'","' * 300_000 + b'"]', "value_error"),
        (json.dumps([{f"n{n}": n for n in range(MAX_NAMES + 1)}, *range(1000)]).encode(), "value_error"),
    ],
)
def test_read_json_refuses_what_is_not_json_or_has_too_much_of_it(content: bytes, kind: str) -> None:
    with pytest.raises(RequestValidationError) as refused:
        read_json(content)
    assert [error["type"] for error in refused.value.errors()] == [kind]


def test_read_json_takes_long_texts_full_of_brackets() -> None:
    text = '[{,:"\\' * 20_000
    assert read_json(json.dumps({"description": text}).encode()) == {"description": text}
    with pytest.raises(BodyTooLargeError):
        read_json(b" " * MAX_JSON_BYTES + b"1")


def test_largest_search_of_the_contract_is_read() -> None:
    conditions = [{"field": "image_id", "in": [f"{n:05}/{c:02}" for n in range(1000)]} for c in range(32)]
    content = json.dumps({"image_id": "a", "filters": conditions}, separators=(",", ":")).encode()
    request = validate(SearchRequest, read_json(content))
    assert sum(len(condition.values) for condition in request.filters if isinstance(condition, OneOf)) == 32_000


def filled(template: str, *items: str, count: int = 1) -> str:
    """The text with this many items, or all of these, where it says MANY."""
    return template.replace("MANY", ",".join(items * count))


HOSTILE = [
    filled('{"filters":[MANY]}', "[]", count=400_000),
    filled('{"filters":[MANY]}', "{}", count=400_000),
    filled('{"filters":[MANY]}', "[]", count=20_000),
    filled('{"image_id":"a","filters":[MANY]}', '{"not":{}}', count=15_000),
    filled('{"image_id":"a","filters":[{"any":[MANY]}]}', "1", count=39_000),
    filled('{"image_id":"a","filters":[{"field":"group","in":[MANY]}]}', "1", count=39_000),
    filled('{"image_id":"a","filters":[MANY]}', '{"field":"group","in":["a"],"x":1}', count=9_000),
    filled('{"image_id":"a","filters":[{"field":"place","within_km":1,"of":[MANY]}]}', '"x"', count=39_000),
    filled('{"image_id":"a","weights":{MANY}}', *(f'"{n}":"x"' for n in range(39_000))),
    filled("{MANY}", *(f'"{n}":1' for n in range(39_000))),
]


@pytest.mark.parametrize("content", HOSTILE, ids=range(len(HOSTILE)))
@pytest.mark.parametrize("model", [SearchRequest, SearchOptions, ImageFields])
def test_hostile_json_makes_few_errors_and_little_memory(content: str, model: Any) -> None:
    body = content.encode()[:MAX_JSON_BYTES]
    tracemalloc.start()
    try:
        with pytest.raises(RequestValidationError) as refused:
            validate(model, read_json(body))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(refused.value.errors()) <= 2 * MAX_NAMES
    assert peak < 16 * MAX_JSON_BYTES
