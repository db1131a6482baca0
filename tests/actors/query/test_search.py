"""Any split of a collection into shards gives one answer, and it is the one that the definition gives."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from lookalike.actors.index.rows import Rows, Snapshot
from lookalike.actors.placement import cut
from lookalike.actors.query import wire
from lookalike.actors.query.filters import AnyOf, Filter, Not, NumberRange, OneOf
from lookalike.actors.query.merge import Hit, PastDeadline, Reply, ShardHits, candidates_per_shard, merge
from lookalike.actors.query.message import Kind, kind_of
from lookalike.actors.query.query import Descriptor, Query, SearchOptions
from lookalike.actors.query.search import search_batch
from lookalike.cluster.coordinator import search as coordinator
from lookalike.cluster.coordinator.search import (
    Answer,
    ShardedSearch,
    ShardQueues,
    ShardReplica,
    UnknownImageError,
    shard_queues,
)
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


def random_rows(count: int, seed: int, first: int = 0, varied: bool = False) -> pa.Table:
    """Rows of few different codes, so that ties are the rule; ``varied``: alike in three groups, with fewer ties."""
    rng = np.random.default_rng(seed)
    prototypes = rng.integers(0, 2**64, (3, SHORT_WORDS + LONG_WORDS), dtype=np.uint64)
    codes = prototypes[rng.integers(0, 3, count)]
    one_bit = np.uint64(1) << rng.integers(0, 6, codes.shape, dtype=np.uint64)
    codes ^= rng.integers(0, 2**20, codes.shape, dtype=np.uint64) if varied else one_bit
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
    table = random_rows(count, draw(st.integers(0, 2**32)), varied=draw(st.booleans()))
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


def loaded(case: Case, table: pa.Table) -> Rows:
    """A shard's rows, with deleted ones before those that are live."""
    rows = Rows(SHORT_WORDS, LONG_WORDS, COMPONENT_WORDS)
    deleted = case.deleted
    _apply(rows, deleted)
    gone = pa.array(np.ones(len(deleted), bool))
    _apply(rows, deleted.set_column(deleted.schema.get_field_index("deleted"), deleted.schema.field("deleted"), gone))
    _apply(rows, table)
    rows.publish()
    return rows


def _apply(rows: Rows, table: pa.Table) -> None:
    for batch in table.combine_chunks().to_batches():
        rows.apply(batch)


def target_rows(image_ids: Sequence[str | None], snapshot: Snapshot) -> NDArray[np.int64]:
    found = [int(snapshot.find(keys_of([image_id]))[0]) if image_id else -1 for image_id in image_ids]
    return np.array(found, np.int64)


def replies_of(queries: list[Query], rows: Rows, now: float = -math.inf) -> list[Reply]:
    with rows.reading() as snapshot:
        found = target_rows([query.image_id for query in queries], snapshot)
        return search_batch(queries, found, snapshot, {}, threads=2, now=lambda: now)


def answer(message: bytes, rows: Rows) -> bytes:
    """What a shard does with a message."""
    if kind_of(message) is not Kind.LOOKUP:
        return wire.encode_replies(replies_of(wire.decode_queries(message, 0.0), rows))
    with rows.reading() as snapshot:
        codes = snapshot.codes
        found = target_rows(wire.decode_lookup(message), snapshot)
        return wire.encode_codes([Descriptor(codes.short[row], codes.long[row]) if row >= 0 else None for row in found])


def search_of(case: Case, shard_of: NDArray[np.int64], shards: int) -> ShardedSearch:
    """A search over shards, each with those rows of the table for which ``shard_of`` names it."""
    owners = dict(zip(case.table["image_id"].to_pylist(), shard_of.tolist(), strict=True))

    def queues(shard: int) -> ShardQueues:
        rows = loaded(case, case.table.take(np.flatnonzero(shard_of == shard)))

        async def call(message: bytes) -> bytes:
            return answer(message, rows)

        return shard_queues([ShardReplica.over(call)], 60)

    return ShardedSearch([queues(shard) for shard in range(shards)], lambda image_id: owners.get(image_id, 0))


def answers_of(search: ShardedSearch, queries: list[Query]) -> list[list[Hit] | None]:
    """The hits of each query, all asked at once; None where its image is not stored."""

    async def run() -> list[list[Hit] | None]:
        outcomes = await asyncio.gather(*map(search, queries), return_exceptions=True)
        return list(map(_hits_of, outcomes))

    return asyncio.run(run())


def _hits_of(outcome: Answer | BaseException) -> list[Hit] | None:
    assert isinstance(outcome, Answer | UnknownImageError), outcome
    return outcome.hits if isinstance(outcome, Answer) else None


@st.composite
def splits(draw: st.DrawFn, table: pa.Table) -> tuple[NDArray[np.int64], int]:
    """The shard of each row, and how many shards there are: evenly, by chance, or all that are alike in one."""
    shards = draw(st.sampled_from([1, 2, 5]))
    how = draw(st.sampled_from(["even", "by chance", "alike together", "nearly all in one"]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    rows = len(table)
    if how == "even" or not rows:
        holder = {bucket: shard for shard, held in enumerate(cut(BUCKETS, shards)) for bucket in held}
        return np.array(
            [holder[bucket] for bucket in bucket_of(table["key"].to_numpy(), BUCKETS).tolist()], np.int64
        ), shards
    if how == "alike together":
        ranked = np.lexsort(codes_of(table, "short").T)
        split = np.empty(rows, np.int64)
        split[ranked] = np.sort(rng.integers(0, shards, rows))
        return split, shards
    odds = np.ones(shards) if how == "by chance" else np.array([50.0, *np.ones(shards - 1)])
    return rng.choice(shards, rows, p=odds / odds.sum()), shards


def too_few(candidates: int, shards: int) -> int:
    """Ask each shard for so little that it is seldom enough."""
    return max(1, candidates // (2 * shards))


@pytest.mark.parametrize("part", [candidates_per_shard, too_few])
@settings(max_examples=150, deadline=None)
@given(case=cases(), data=st.data())
def test_search_and_merge_answer_as_defined_for_any_split(
    part: Callable[[int, int], int], case: Case, data: st.DataObject
) -> None:
    shard_of, shards = data.draw(splits(case.table))
    search = search_of(case, shard_of, shards)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(coordinator, "candidates_per_shard", part)
        answers = answers_of(search, case.queries)
    assert answers == [by_definition(case, query) for query in case.queries]
    event(f"{shards} shards, {'some' if search.second_rounds else 'no'} second round")


def test_search_asks_a_second_time_only_where_the_parts_are_not_enough() -> None:
    case = Case(random_rows(2000, 1, varied=True), random_rows(0, 1), [])
    queries = [Query(SearchOptions(count=5), (1, 1), 400, f"{row}/1") for row in range(20)]
    expected = [by_definition(case, query) for query in queries]
    spread, together = np.arange(2000) % 4, np.argsort(np.argsort(codes_of(case.table, "short")[:, 0])) // 500
    for shard_of, second_rounds in ((spread, 0), (together, len(queries))):
        search = search_of(case, shard_of, 4)
        assert answers_of(search, queries) == expected
        assert search.second_rounds == second_rounds


@settings(max_examples=30, deadline=None)
@given(cases())
def test_search_batch_answers_each_query_as_if_it_were_alone(case: Case) -> None:
    rows = loaded(case, case.table)
    together = replies_of(case.queries, rows)
    for query, reply in zip(case.queries, together, strict=True):
        (alone,) = replies_of([query], rows)
        assert type(reply) is type(alone)
        if isinstance(reply, ShardHits) and isinstance(alone, ShardHits):
            assert merge([reply], query) == merge([alone], query)


def test_search_batch_does_not_pin_an_image_that_was_replaced_since_its_codes_were_looked_up() -> None:
    case = Case(random_rows(30, 3), random_rows(0, 3), [])
    rows = loaded(case, case.table)
    codes = Descriptor(codes_of(case.table, "short")[4], codes_of(case.table, "long")[4])
    same = Query(SearchOptions(count=1), (1, 1), 30, "4/1", codes)
    opposite = Descriptor(~codes.short, ~codes.long)
    reported = replies_of([same, replace(same, codes=opposite)], rows)
    assert [isinstance(reply, ShardHits) and reply.pinned >= 0 for reply in reported] == [True, False]
    (hit,) = merge([reply for reply in reported[1:] if isinstance(reply, ShardHits)], same)
    differing = np.bitwise_count(codes_of(case.table, "long") ^ opposite.long).sum(axis=1)
    assert hit.distance_hundredths == differing.min()


def test_search_batch_leaves_out_queries_past_their_deadline() -> None:
    case = Case(random_rows(30, 3), random_rows(0, 3), [])
    rows = loaded(case, case.table)
    queries = [Query(SearchOptions(count=1), (1, 1), 30, "4/1", deadline=deadline) for deadline in (1, 2, 3, math.inf)]
    kinds = [type(reply) for reply in replies_of(queries, rows, now=2.0)]
    assert kinds == [PastDeadline, PastDeadline, ShardHits, ShardHits]
