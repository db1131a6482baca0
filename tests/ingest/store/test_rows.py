"""Rows at the limits of their fields survive every way through the store, exactly."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.store_oracle import raise_
from support.stores import new_collection, rows_of

from lookalike.ingest.attributes import Attributes
from lookalike.ingest.store import compaction, segment
from lookalike.ingest.store.collection import Collection
from lookalike.ingest.store.rows import (
    SCHEMA,
    Source,
    check_rows,
    codes_array,
    codes_column,
    last_of_each_key,
    tombstones_table,
)

FIRST, LAST = datetime(1, 1, 1, tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
LIMITS = {
    "nothing": Attributes(),
    "the first moment": Attributes(created_at=FIRST),
    "the last moment": Attributes(created_at=LAST),
    "before 1970, with microseconds": Attributes(created_at=datetime(1969, 12, 31, 23, 59, 59, 999999, UTC)),
    "another offset": Attributes(created_at=datetime.fromisoformat("2026-03-01T00:00:00+13:45")),
    "a price of nothing": Attributes(price=0.0),
    "the highest price": Attributes(price=1e15),
    "a price that is no decimal": Attributes(price=0.1 + 0.2),
    "the least price": Attributes(price=5e-324),
    "the south pole": Attributes(lat=-90.0, lon=-180.0),
    "the north pole": Attributes(lat=90.0, lon=180.0),
    "long texts": Attributes(title="t" * 4096, description="é" * 65_536, colour="c" * 256, brand="b" * 256),
    "all planes of Unicode": Attributes(title="\U0001f45f\ufffe\u0001 שלום \U0010ffff", listing_id="ключ 🔑"),
    "a deep group": Attributes(group="/".join("g" * 30 for _ in range(32))),
}


def values_of(attributes: Attributes, image_id: str) -> dict[str, Any]:
    return {**attributes.model_dump(), "listing_id": attributes.listing_id or image_id}


def check(collection: Collection, expected: dict[str, Attributes]) -> None:
    """Compare the rows as they are found, and as commits give them."""
    found = collection.find(sorted(expected))
    changed = {
        row["image_id"]: row
        for bucket in collection.buckets
        for batch in bucket.changes(bucket.head(), 0, SCHEMA.names, raise_)
        for row in batch.to_pylist()
    }
    for rows in (found, changed):
        assert set(rows) == set(expected)
        for image_id, attributes in expected.items():
            values = values_of(attributes, image_id)
            assert {name: rows[image_id][name] for name in values} == values, image_id


def test_rows_at_the_limits_survive_put_find_changes_and_merge(tmp_path: Path) -> None:
    collection = new_collection(tmp_path, 2)
    for image_id, attributes in LIMITS.items():
        collection.put(rows_of([image_id], attributes=attributes))
    check(collection, LIMITS)
    with mock.patch.object(compaction, "FACTOR", 2):
        assert collection.compact()
    assert all(len(bucket.head().segments) <= 2 for bucket in collection.buckets)
    check(collection, LIMITS)
    check(Collection.open(collection.root, collection.name), LIMITS)


moments = st.datetimes(timezones=st.just(UTC))
numbers = st.floats(allow_nan=False, allow_infinity=False)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
attributes = st.builds(
    lambda place, **fields: Attributes(**fields, **(place or {})),
    place=st.none() | st.builds(lambda a, b: {"lat": a, "lon": b}, st.floats(-90, 90), st.floats(-180, 180)),
    title=texts,
    description=texts,
    price=st.none() | st.floats(0, 1e15),
    created_at=st.none() | moments,
    colour=texts,
    brand=texts,
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(attributes, min_size=1, max_size=6))
def test_rows_of_any_attributes_survive_put_find_changes_and_merge(
    tmp_path_factory: pytest.TempPathFactory, listed: list[Attributes]
) -> None:
    collection = new_collection(tmp_path_factory.mktemp("store"), 1)
    expected = {f"image {n}": one for n, one in enumerate(listed)}
    for image_id, one in expected.items():
        collection.put(rows_of([image_id], attributes=one))
    check(collection, expected)
    with mock.patch.object(compaction, "FACTOR", 2):
        collection.compact()
    check(collection, expected)


def test_long_rows_come_in_batches_of_a_few_megabytes(tmp_path: Path) -> None:
    collection = new_collection(tmp_path, 1)
    ids = [f"image {n}" for n in range(100)]
    collection.put(rows_of(ids, attributes=LIMITS["long texts"]))
    bucket = collection.buckets[0]
    batches = list(bucket.changes(bucket.head(), 0, SCHEMA.names, raise_))
    assert sum(map(len, batches)) == len(ids)
    assert max(batch.nbytes for batch in batches) <= segment.MAX_BATCH_BYTES
    assert len(collection.find(ids)) == len(ids)


# --- tables


@settings(deadline=None)
@given(st.lists(st.integers(0, 9)))
def test_last_of_each_key_is_what_a_dictionary_keeps(keys: list[int]) -> None:
    rows = pa.table({"key": pa.array(keys, pa.uint64()), "number": list(range(len(keys)))})
    chosen = last_of_each_key(rows)
    expected = sorted({key: number for number, key in enumerate(keys)}.items())
    assert list(zip(chosen["key"].to_pylist(), chosen["number"].to_pylist(), strict=True)) == expected


@settings(deadline=None)
@given(st.integers(0, 20), st.integers(1, 5), st.data())
def test_codes_array_inverts_codes_column(count: int, words: int, data: st.DataObject) -> None:
    codes = np.random.default_rng(count).integers(0, 2**64, (count, words), dtype=np.uint64)
    column = codes_column(codes)
    np.testing.assert_array_equal(codes_array(column, words), codes)
    start = data.draw(st.integers(0, count))
    length = data.draw(st.integers(0, count - start))
    part = column.slice(start, length)
    np.testing.assert_array_equal(codes_array(part, words), codes[start : start + length])
    np.testing.assert_array_equal(
        codes_array(pa.chunked_array([part, column]), words), np.concatenate([codes[start : start + length], codes])
    )


def test_codes_array_refuses_codes_of_another_length() -> None:
    for column in (pa.array([b"12345678", b"1234"]), pa.array([b"12345678", None])):
        with pytest.raises(ValueError, match="8 bytes"):
            codes_array(column, 1)


def test_check_rows_refuses_what_a_reader_could_not_hold(tmp_path: Path) -> None:
    """A row of the wrong shape must not get in: it would stop every shard that loads it."""
    collection = new_collection(tmp_path, 1)
    rows = rows_of(["a"])
    short = SCHEMA.get_field_index("short")
    for bad in (b"", b"1234", b"1" * 16):
        with pytest.raises(ValueError, match="short code"):
            collection.put(rows.set_column(short, SCHEMA.field(short), pa.array([bad])))
    with pytest.raises(ValueError, match="long code"):
        check_rows(rows, 1, 3)
    with pytest.raises((KeyError, ValueError)):
        collection.put(rows.drop_columns(["title"]))
    with pytest.raises(ValueError, match=r"title|convert|cast|parse"):
        collection.put(rows.set_column(rows.schema.get_field_index("price"), "price", pa.array(["cheap"])))
    assert collection.count() == 0
    # Of other types and in another order they are the same rows.
    others = rows.select(rows.schema.names[::-1]).set_column(0, "long", rows["long"].cast(pa.large_binary()))
    collection.put(others)
    assert collection.find(["a"])["a"]["image_id"] == "a"


def test_tombstones_have_no_attributes_and_no_codes() -> None:
    (row,) = tombstones_table(["a"], source=Source.HTTP, stamp=LAST - timedelta(1)).to_pylist()
    assert (row["deleted"], row["short"], row["long"], row["title"], row["photo"]) == (True, b"", b"", None, None)
