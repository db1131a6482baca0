"""The evaluation of filters against a row-by-row oracle, on rows that were replaced and deleted before."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter
from support.rows import (
    COMPONENT_WORDS,
    EPOCH,
    LONG_WORDS,
    SHORT_WORDS,
    batch_of,
    make_row,
    make_tombstone,
)
from support.words import plain_words

from lookalike.actors.index.rows import Rows, Snapshot
from lookalike.actors.query.evaluate import EARTH_RADIUS_KM, allowed, bitmap
from lookalike.actors.query.filters import Filter, Filters

ADAPTER: TypeAdapter[tuple[Filter, ...]] = TypeAdapter(Filters)
WORDS = [
    "über",
    "ber",
    "Übergröße",
    "gro\u0308ße",
    "GRÖSSE",
    "rücken",
    "cken",
    "куртка",
    "Куртка",
    "red",
    "7",
    "ac",
    "ﬁt",
]
GROUPS = ["", "Apparel", "Apparel/Shirts", "Apparel/Shirts/Short", "Shoes/Shirts", "Shoes", "Shirts of all kinds"]
IDS = [f"{listing}/{photo}" for listing in (1, 12, 123, "größe") for photo in (1, 2)]
VALUES = ["", "red", "Red", "blue"]
POINTS = [(0.0, 0.0), (48.2, 16.4), (48.2083, 16.3725), (90.0, 0.0), (-90.0, 10.0), (0.0, 180.0), (0.1, -179.9)]
PRICES = [0.0, 1.0, 9.99, 10.0, 1e15]
MOMENTS = [
    datetime(1, 1, 1, tzinfo=UTC),
    EPOCH,
    datetime(2024, 1, 1, tzinfo=UTC),
    datetime(2024, 1, 1, 0, 0, 0, 1, tzinfo=UTC),
    datetime.max.replace(tzinfo=UTC),
]


def maybe(values: Sequence[Any]) -> st.SearchStrategy[Any]:
    return st.none() | st.sampled_from(values)


@st.composite
def stored_rows(draw: st.DrawFn) -> list[dict[str, Any]]:
    rows = []
    for image_id in draw(st.lists(st.sampled_from(IDS), min_size=1, max_size=10)):
        lat, lon = draw(maybe(POINTS)) or (None, None)
        rows.append(
            make_row(
                image_id,
                listing_id=draw(st.sampled_from([None, "", image_id, image_id.split("/")[0], "other"])),
                group=draw(maybe(GROUPS)),
                colour=draw(maybe(VALUES)),
                brand=draw(maybe(VALUES)),
                title=draw(st.none() | st.lists(st.sampled_from(WORDS), max_size=4).map(" - ".join)),
                description=draw(st.none() | st.lists(st.sampled_from(WORDS), max_size=4).map("_".join)),
                price=draw(maybe(PRICES)),
                created_at=draw(maybe(MOMENTS)),
                lat=lat,
                lon=lon,
            )
        )
    return rows


def ranges(field: str, values: list[Any]) -> st.SearchStrategy[dict[str, Any]]:
    bounds = st.dictionaries(st.sampled_from(["gte", "gt", "lte", "lt"]), st.sampled_from(values), min_size=1)
    return bounds.map(lambda given: {"field": field, **given})


SIMPLE = st.one_of(
    st.tuples(st.sampled_from(["colour", "brand"]), st.lists(st.sampled_from([*VALUES, "green"]), min_size=1)).map(
        lambda given: {"field": given[0], "in": given[1]}
    ),
    st.lists(st.sampled_from([*GROUPS, "Short", "nowhere"]), min_size=1).map(lambda v: {"field": "group", "in": v}),
    st.lists(st.sampled_from([*IDS, "", "nobody"]), min_size=1).map(lambda values: {"field": "image_id", "in": values}),
    st.lists(st.sampled_from([*IDS, "1", "12", "größe", "other", ""]), min_size=1).map(
        lambda values: {"field": "listing_id", "in": values}
    ),
    ranges("price", PRICES),
    ranges("created_at", [moment.isoformat() for moment in MOMENTS]),
    st.tuples(st.sampled_from(["title", "description"]), st.lists(st.sampled_from(WORDS), min_size=1, max_size=3)).map(
        lambda given: {"field": given[0], "matches": ", ".join(given[1])}
    ),
    st.tuples(st.sampled_from([0.001, 1, 3, 25, 5000, 15_000, 20_100]), st.sampled_from(POINTS)).map(
        lambda given: {"field": "place", "within_km": given[0], "of": given[1]}
    ),
)
CONDITIONS = st.recursive(
    SIMPLE,
    lambda inner: (
        inner.map(lambda condition: {"not": condition})
        | st.lists(inner, min_size=1, max_size=3).map(lambda conditions: {"any": conditions})
    ),
    max_leaves=4,
)


def distance_km(a: tuple[float, float], b: tuple[float, float]) -> float:
    """By the angle between two vectors: another formula than the one tested."""

    def vector(lat: float, lon: float) -> np.ndarray:
        lat, lon = math.radians(lat), math.radians(lon)
        return np.array([math.cos(lat) * math.cos(lon), math.cos(lat) * math.sin(lon), math.sin(lat)])

    u, v = vector(*a), vector(*b)
    return EARTH_RADIUS_KM * math.atan2(float(np.linalg.norm(np.cross(u, v))), float(u @ v))


def is_within(value: Any, condition: Mapping[str, Any], read: Any = lambda bound: bound) -> bool:
    compare = {"gte": value.__ge__, "gt": value.__gt__, "lte": value.__le__, "lt": value.__lt__}
    return all(compare[name](read(bound)) for name, bound in condition.items() if name in compare)


def meets(condition: Mapping[str, Any], row: Mapping[str, Any]) -> bool:
    if "not" in condition:
        return not meets(condition["not"], row)
    if "any" in condition:
        return any(meets(part, row) for part in condition["any"])
    field = condition["field"]
    if field == "place":
        if row["lat"] is None:
            return False
        return bool(distance_km((row["lat"], row["lon"]), condition["of"]) <= condition["within_km"] + 1e-4)
    value = row[field] or (row["image_id"] if field == "listing_id" else row[field])
    if value is None or value == "":
        return False
    if field == "group":
        names = value.split("/")
        nodes = {*names, *("/".join(names[: depth + 1]) for depth in range(len(names)))}
        return bool(nodes & set(condition["in"]))
    if "in" in condition:
        return value in condition["in"]
    if "matches" in condition:
        words = plain_words(value)
        return all(any(word.startswith(wanted) for word in words) for wanted in plain_words(condition["matches"]))
    return is_within(value, condition, datetime.fromisoformat if field == "created_at" else lambda bound: bound)


def shard_of(*batches: list[dict[str, Any]]) -> Rows:
    rows = Rows(SHORT_WORDS, LONG_WORDS, COMPONENT_WORDS)
    for batch in batches:
        rows.apply(batch_of(batch))
        rows.publish()
    return rows


def ids_met(filters: list[Any], snapshot: Snapshot) -> set[str]:
    met = allowed(ADAPTER.validate_python(filters), snapshot)
    assert met.shape == (len(snapshot),)
    visible = np.concatenate([np.empty(0, np.int64), *snapshot.visible_rows()])
    return set(snapshot.image_ids(visible[met[visible]]))


@settings(deadline=None)
@given(stored_rows(), stored_rows(), st.sets(st.sampled_from(IDS)), st.lists(CONDITIONS, max_size=3))
def test_allowed_rows_meet_each_filter_row_by_row(
    earlier: list[dict[str, Any]], later: list[dict[str, Any]], gone: set[str], filters: list[dict[str, Any]]
) -> None:
    rows = shard_of(earlier, [make_tombstone(image_id) for image_id in sorted(gone)], later)
    kept = {row["image_id"]: row for row in earlier if row["image_id"] not in gone}
    state = {**kept, **{row["image_id"]: row for row in later}}
    with rows.reading() as snapshot:
        found = ids_met(filters, snapshot)
    assert found == {image_id for image_id, row in state.items() if all(meets(condition, row) for condition in filters)}


def test_allowed_rows_lie_anywhere_when_the_distance_is_more_than_half_the_earth() -> None:
    rows = shard_of([make_row("1", lat=-90.0, lon=0.0), make_row("2", lat=90.0, lon=0.0)])
    with rows.reading() as snapshot:
        assert ids_met([{"field": "place", "within_km": 20_100, "of": [90, 0]}], snapshot) == {"1", "2"}


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.floats(-90, 90), st.floats(-180, 180)), min_size=1, max_size=20),
    st.tuples(st.floats(-90, 90), st.floats(-180, 180)),
    st.floats(0.1, 20_100),
)
def test_allowed_rows_lie_within_the_distance(
    points: list[tuple[float, float]], of: tuple[float, float], within_km: float
) -> None:
    distances = [distance_km(point, of) for point in points]
    assume(all(abs(distance - within_km) > 0.001 for distance in distances))
    rows = shard_of([make_row(str(i), lat=lat, lon=lon) for i, (lat, lon) in enumerate(points)])
    with rows.reading() as snapshot:
        found = ids_met([{"field": "place", "within_km": within_km, "of": of}], snapshot)
    assert found == {str(i) for i, distance in enumerate(distances) if distance < within_km}


@pytest.mark.parametrize("bound", ["2024-01-02", "2024-01-02T00:00:00Z", "2024-01-02T01:00:00+01:00"])
def test_allowed_times_compare_with_and_without_a_zone(bound: str) -> None:
    days = [datetime(2024, 1, 1, tzinfo=UTC) + timedelta(days=day) for day in range(4)]
    rows = shard_of([make_row(str(i), created_at=day) for i, day in enumerate(days)])
    with rows.reading() as snapshot:
        assert ids_met([{"field": "created_at", "gte": bound}], snapshot) == {"1", "2", "3"}


def test_allowed_reads_an_older_snapshot_as_it_was() -> None:
    rows = shard_of([make_row(str(i), title="old", brand="old", listing_id="7") for i in range(200)])
    with rows.reading() as before:
        for step in range(3):
            replaced = [make_row(str(i), title="new", brand=f"new {step} {i}", listing_id="8") for i in range(200)]
            rows.apply(batch_of([*replaced, make_tombstone("0")]))
            rows.publish()
        every = {str(i) for i in range(200)}
        assert ids_met([{"field": "title", "matches": "old"}], before) == every
        assert ids_met([{"field": "brand", "in": ["old"]}], before) == every
        assert ids_met([{"field": "listing_id", "in": ["7"]}], before) == every
        assert ids_met([{"field": "image_id", "in": ["0", "7"]}], before) == {"0", "7"}
    with rows.reading() as after:
        assert ids_met([{"field": "image_id", "in": ["0", "7"]}], after) == {"7"}
        assert ids_met([{"field": "listing_id", "in": ["7", "8"]}], after) == every - {"0"}


@settings(deadline=None)
@given(st.lists(st.booleans(), max_size=200))
def test_bitmap_holds_row_i_at_bit_i(mask: list[bool]) -> None:
    words = bitmap(np.array(mask, bool))
    assert len(words) == -(-len(mask) // 64)
    assert [bool(int(words[row >> 6]) >> (row & 63) & 1) for row in range(len(mask))] == mask
