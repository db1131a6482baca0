"""Any split of a collection into shards gives one answer, and it is the one that the definition gives."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from lookalike.actors.index.rows import Rows
from lookalike.actors.placement import cut
from lookalike.actors.query.bitmap_cache import BitmapCache
from lookalike.actors.query.deadline import DeadlineExceeded
from lookalike.actors.query.filters import AnyOf, Filter, Not, NumberRange, OneOf
from lookalike.actors.query.merge import Hit, NotHeld, Reply, ShardHits, merge
from lookalike.actors.query.query import Descriptor, Query, SearchOptions
from lookalike.actors.query.search import search_batch
from lookalike.ingest.attributes import Attributes
from lookalike.ingest.store.keys import bucket_of, keys_of
from lookalike.ingest.store.rows import Source, rows_table
from lookalike.model.descriptor import Descriptors

SHORT_WORDS, COMPONENT_WORDS = 1, (1, 2)
LONG_WORDS = sum(COMPONENT_WORDS)
BUCKETS = 5

FILTERS: list[tuple[Filter, ...]] = [
    (),
    (OneOf.model_validate({"field": "group", "in": ["Tops"]}),),
    (OneOf.model_validate({"field": "group", "in": ["Wear/Tops/Shirts", "Bags"]}),),
    (NumberRange(field="price", gte=3.0, lt=7.0),),
    (Not.model_validate({"not": {"field": "price", "lt": 5}}), NumberRange(field="price", gt=-1.0)),
    (AnyOf.model_validate({"any": [{"field": "price", "gt": 8}, {"field": "listing_id", "in": ["1", "2"]}]}),),
]


@dataclass
class Case:
    """``table`` holds the live rows; ``deleted`` are rows that came first and were deleted or replaced."""

    table: pa.Table
    deleted: pa.Table
    queries: list[Query]


def random_rows(count: int, seed: int, first: int = 0) -> pa.Table:
    """Rows of few different codes, so that ties are the rule."""
    rng = np.random.default_rng(seed)
    prototypes = rng.integers(0, 2**64, (3, SHORT_WORDS + LONG_WORDS), dtype=np.uint64)
    codes = prototypes[rng.integers(0, 3, count)]
    codes ^= np.uint64(1) << rng.integers(0, 6, codes.shape, dtype=np.uint64)
    ids = [f"{n}/1" for n in range(first, first + count)]
    attributes = [
        Attributes(
            listing_id=str(rng.integers(0, max(count // 3, 1))),
            group=["Wear/Tops/Shirts", "Wear/Tops", "Bags", ""][rng.integers(0, 4)],
            price=None if rng.random() < 0.2 else float(rng.integers(0, 10)),
        )
        for _ in ids
    ]
    return rows_table(
        ids,
        attributes,
        [""] * count,
        Descriptors(np.ascontiguousarray(codes[:, :SHORT_WORDS]), np.ascontiguousarray(codes[:, SHORT_WORDS:])),
        source=Source.HTTP,
        stamps=[datetime.now(UTC)] * count,
        fingerprints=[None] * count,
    )


@st.composite
def queries(draw: st.DrawFn, table: pa.Table) -> Query:
    count = len(table)
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    row = int(rng.integers(0, max(count, 1)))
    target: str | Descriptor = f"{row}/1"
    if draw(st.booleans()):
        target = Descriptor(
            rng.integers(0, 2**64, SHORT_WORDS, dtype=np.uint64), rng.integers(0, 2**64, LONG_WORDS, dtype=np.uint64)
        )
        if count and draw(st.booleans()):
            target = Descriptor(codes_of(table, "short")[row] ^ np.uint64(1), codes_of(table, "long")[row])
    hits = draw(st.integers(1, 30))
    options = SearchOptions(count=hits, collapse=draw(st.booleans()), verbose=draw(st.booleans()))
    options = options.model_copy(update={"filters": draw(st.sampled_from(FILTERS))})
    weights = draw(st.sampled_from([(1, 1), (100, 7), (0, 1), (1000, 1000)]))
    return Query(options, weights, draw(st.sampled_from([None, hits, 2 * hits, 4 * hits])), target)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    count = draw(st.integers(0, 120))
    table = random_rows(count, draw(st.integers(0, 2**32)))
    deleted = random_rows(draw(st.integers(0, 40)), draw(st.integers(0, 2**32)), first=max(count - 5, 0))
    return Case(table, deleted, [draw(queries(table)) for _ in range(draw(st.integers(1, 4)))])


def codes_of(table: pa.Table, name: str) -> NDArray[np.uint64]:
    return np.frombuffer(b"".join(table[name].to_pylist()), "<u8").astype(np.uint64).reshape(len(table), -1)


def words_of(code: bytes) -> list[int]:
    words: list[int] = np.frombuffer(code, "<u8").tolist()
    return words


def meets(condition: Filter, row: dict[str, object]) -> bool:
    """The definition of each filter, a row at a time."""
    if isinstance(condition, Not):
        return not meets(condition.condition, row)
    if isinstance(condition, AnyOf):
        return any(meets(part, row) for part in condition.conditions)
    if isinstance(condition, OneOf) and condition.field == "group":
        names = str(row["group"]).split("/")
        nodes = {*names, *("/".join(names[:n]) for n in range(1, len(names) + 1))}
        return any(value in nodes for value in condition.values)
    if isinstance(condition, OneOf):
        return row[condition.field] in condition.values
    value = row["price"]
    assert isinstance(condition, NumberRange)
    if not isinstance(value, float):
        return False
    bounds = ((condition.gte, "__ge__"), (condition.gt, "__gt__"), (condition.lte, "__le__"), (condition.lt, "__lt__"))
    return all(bound is None or getattr(value, compare)(bound) for bound, compare in bounds)


def by_definition(case: Case, query: Query) -> list[Hit] | None:
    """Design section 3, written out over all rows."""
    rows = case.table.to_pylist()
    options = query.options
    if isinstance(query.target, str):
        own = next((row for row in rows if row["image_id"] == query.target), None)
        if own is None:
            return None
        short, long = words_of(own["short"]), words_of(own["long"])
    else:
        short, long = (code.tolist() for code in query.target)
    ranked = []
    for row in rows:
        if not all(meets(condition, row) for condition in options.filters):
            continue
        differing = [(a ^ b).bit_count() for a, b in zip(words_of(row["long"]), long, strict=True)]
        parts = (differing[0], differing[1] + differing[2])
        weighted = sum(weight * part for weight, part in zip(query.weights, parts, strict=True))
        near = sum((a ^ b).bit_count() for a, b in zip(words_of(row["short"]), short, strict=True))
        ranked.append((near, (weighted, row["image_id"] != query.image_id, row["key"]), row, parts))
    if query.candidates is not None and len(ranked) > query.candidates:
        limit = sorted(near for near, *_ in ranked)[query.candidates - 1]
        ranked = [entry for entry in ranked if entry[0] <= limit]
    hits, listings = [], set()
    for _, (weighted, *_), row, parts in sorted(ranked, key=lambda entry: entry[1]):
        if options.collapse and row["listing_id"] in listings:
            continue
        listings.add(row["listing_id"])
        shown = parts if options.verbose else None
        hits.append(Hit(row["image_id"], row["listing_id"], row["group"], weighted, shown))
    return hits[: options.count]


def loaded(case: Case, buckets: tuple[int, ...]) -> Rows:
    """A shard's rows, with deleted ones before those that are live."""
    rows = Rows(SHORT_WORDS, LONG_WORDS, COMPONENT_WORDS)
    deleted = _in_buckets(case.deleted, buckets)
    _apply(rows, deleted)
    gone = pa.array(np.ones(len(deleted), bool))
    _apply(rows, deleted.set_column(deleted.schema.get_field_index("deleted"), deleted.schema.field("deleted"), gone))
    _apply(rows, _in_buckets(case.table, buckets))
    rows.publish()
    return rows


def _apply(rows: Rows, table: pa.Table) -> None:
    for batch in table.combine_chunks().to_batches():
        rows.apply(batch)


def replies_of(queries: list[Query], rows: Rows, deadline: float | None = None) -> list[Reply]:
    with rows.reading() as snapshot:
        keys = [keys_of([query.image_id or ""]) for query in queries]
        found = [int(snapshot.find(key)[0]) if query.image_id else -1 for query, key in zip(queries, keys, strict=True)]
        return search_batch(queries, np.array(found, np.int64), snapshot, BitmapCache(), deadline)


def by_shards(case: Case, shards: int) -> list[list[Hit] | None]:
    """Search as the cluster does: the owner of a stored image first, then the others by its codes."""
    held = [loaded(case, buckets) for buckets in cut(BUCKETS, shards)]
    replies = [replies_of(case.queries, rows) for rows in held]
    answers: list[list[Hit] | None] = []
    for number, query in enumerate(case.queries):
        parts = [reply[number] for reply in replies]
        own = next((part for part in parts if isinstance(part, ShardHits)), None)
        if own is None:
            answers.append(None)
            continue
        if own.descriptor is not None:
            by_codes = replace(query, target=own.descriptor)
            parts = [
                replies_of([by_codes], rows)[0] if isinstance(part, NotHeld) else part
                for rows, part in zip(held, parts, strict=True)
            ]
        answers.append(merge([part for part in parts if isinstance(part, ShardHits)], query))
    return answers


def _in_buckets(table: pa.Table, buckets: tuple[int, ...]) -> pa.Table:
    numbers = bucket_of(table["key"].to_numpy(), BUCKETS)
    return table.take(np.flatnonzero(np.isin(numbers, buckets)))


@settings(max_examples=150, deadline=None)
@given(cases())
def test_search_batch_and_merge_answer_as_defined_for_any_split(case: Case) -> None:
    expected = [by_definition(case, query) for query in case.queries]
    for shards in (1, 2, 5):
        assert by_shards(case, shards) == expected, f"{shards} shards"


@settings(max_examples=30, deadline=None)
@given(cases())
def test_search_batch_answers_each_query_as_if_it_were_alone(case: Case) -> None:
    rows = loaded(case, tuple(range(BUCKETS)))
    together = replies_of(case.queries, rows)
    for query, reply in zip(case.queries, together, strict=True):
        (alone,) = replies_of([query], rows)
        assert type(reply) is type(alone)
        if isinstance(reply, ShardHits) and isinstance(alone, ShardHits):
            assert merge([reply], query) == merge([alone], query)


def test_search_batch_compares_no_codes_after_its_deadline() -> None:
    case = Case(random_rows(50, 1), random_rows(0, 2), [Query(SearchOptions(), (1, 1), 20, "3/1")])
    rows = loaded(case, tuple(range(BUCKETS)))
    assert len(replies_of(case.queries, rows, time.monotonic() + 60)) == 1
    with pytest.raises(DeadlineExceeded):
        replies_of(case.queries, rows, time.monotonic())
