"""Any split of a collection into shards gives one answer, and it is the one that the definition gives."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from lookalike.actors.index.rows import Rows
from lookalike.actors.placement import cut
from lookalike.actors.query.filters import AnyOf, Filter, Not, OneOf, PriceRange
from lookalike.actors.query.merge import Hit, ShardHits, UnknownImage, merge
from lookalike.actors.query.search import ShardQuery, answer_batch
from lookalike.ingest.store.collection import codes_column, schema
from lookalike.ingest.store.keys import bucket_of, keys_of

SHORT_WORDS, COMPONENT_WORDS = 1, (1, 2)
LONG_WORDS = sum(COMPONENT_WORDS)
BUCKETS = 5

FILTERS: list[tuple[Filter, ...]] = [
    (),
    (OneOf.model_validate({"field": "group", "in": ["Tops"]}),),
    (OneOf.model_validate({"field": "group", "in": ["Wear/Tops/Shirts", "Bags"]}),),
    (PriceRange(field="price", gte=3.0, lt=7.0),),
    (Not.model_validate({"not": {"field": "price", "lt": 5}}), PriceRange(field="price", gt=-1.0)),
    (AnyOf.model_validate({"any": [{"field": "price", "gt": 8}, {"field": "listing_id", "in": ["1", "2"]}]}),),
]


@dataclass
class Case:
    """``table`` holds what counts; ``dead`` are rows that came first and were removed or replaced."""

    table: pa.Table
    dead: pa.Table
    queries: list[ShardQuery]


def rows_table(count: int, seed: int, first: int = 0) -> pa.Table:
    """Rows of few different codes, so that ties are the rule."""
    rng = np.random.default_rng(seed)
    prototypes = rng.integers(0, 2**64, (3, SHORT_WORDS + LONG_WORDS), dtype=np.uint64)
    codes = prototypes[rng.integers(0, 3, count)]
    codes ^= np.uint64(1) << rng.integers(0, 6, codes.shape, dtype=np.uint64)
    ids = [f"{n}/1" for n in range(first, first + count)]
    columns = {
        "image_id": ids,
        "key": keys_of(ids),
        "listing_id": [str(n) for n in rng.integers(0, max(count // 3, 1), count)],
        "group": [["Wear/Tops/Shirts", "Wear/Tops", "Bags", ""][n] for n in rng.integers(0, 4, count)],
        "price": pa.array(rng.integers(0, 10, count).astype(float), mask=rng.random(count) < 0.2),
        "short": codes_column(np.ascontiguousarray(codes[:, :SHORT_WORDS])),
        "long": codes_column(np.ascontiguousarray(codes[:, SHORT_WORDS:])),
    }
    wanted = schema(SHORT_WORDS, LONG_WORDS)
    return pa.table([columns.get(f.name, pa.nulls(count, f.type)) for f in wanted], schema=wanted)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    count = draw(st.integers(0, 120))
    table = rows_table(count, draw(st.integers(0, 2**32)))
    queries = []
    for _ in range(draw(st.integers(1, 4))):
        by_id = draw(st.booleans())
        hits = draw(st.integers(1, 30))
        rng = np.random.default_rng(draw(st.integers(0, 2**32)))
        place = int(rng.integers(0, max(count, 1)))
        codes = None
        if not by_id:
            codes = (
                rng.integers(0, 2**64, SHORT_WORDS, dtype=np.uint64),
                rng.integers(0, 2**64, LONG_WORDS, dtype=np.uint64),
            )
            if count and draw(st.booleans()):
                codes = (codes_of(table, "short")[place] ^ np.uint64(1), codes_of(table, "long")[place])
        queries.append(
            ShardQuery(
                count=hits,
                candidates=draw(st.sampled_from([None, hits, 2 * hits, 4 * hits])),
                weights=draw(st.sampled_from([(1, 1), (100, 7), (0, 1), (1000, 1000)])),
                filters=draw(st.sampled_from(FILTERS)),
                collapse=draw(st.booleans()),
                verbose=draw(st.booleans()),
                image_id=f"{place}/1" if by_id else None,
                codes=codes,
            )
        )
    dead = rows_table(draw(st.integers(0, 40)), draw(st.integers(0, 2**32)), first=max(count - 5, 0))
    return Case(table, dead, queries)


def codes_of(table: pa.Table, name: str) -> np.ndarray:
    words = table.schema.field(name).type.list_size
    return np.array(table[name].to_pylist(), np.uint64).reshape(-1, words)


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
    assert isinstance(condition, PriceRange)
    if value is None:
        return False
    bounds = ((condition.gte, "__ge__"), (condition.gt, "__gt__"), (condition.lte, "__le__"), (condition.lt, "__lt__"))
    return all(bound is None or getattr(float(value), compare)(bound) for bound, compare in bounds)


def by_definition(case: Case, query: ShardQuery) -> list[Hit] | None:
    """Design section 3, written out over all rows."""
    rows = case.table.to_pylist()
    if query.codes is None:
        own = next((row for row in rows if row["image_id"] == query.image_id), None)
        if own is None:
            return None
        short, long = own["short"], own["long"]
    else:
        short, long = (code.tolist() for code in query.codes)
    ranked = []
    for row in rows:
        if not all(meets(condition, row) for condition in query.filters):
            continue
        differing = [(a ^ b).bit_count() for a, b in zip(row["long"], long, strict=True)]
        parts = (differing[0], differing[1] + differing[2])
        weighted = sum(weight * part for weight, part in zip(query.weights, parts, strict=True))
        near = sum((a ^ b).bit_count() for a, b in zip(row["short"], short, strict=True))
        ranked.append((near, (weighted, row["image_id"] != query.image_id, row["key"]), row, parts))
    if query.candidates is not None and len(ranked) > query.candidates:
        limit = sorted(near for near, *_ in ranked)[query.candidates - 1]
        ranked = [entry for entry in ranked if entry[0] <= limit]
    hits, listings = [], set()
    for _, (weighted, *_), row, parts in sorted(ranked, key=lambda entry: entry[1]):
        if query.collapse and row["listing_id"] in listings:
            continue
        listings.add(row["listing_id"])
        shown = parts if query.verbose else None
        hits.append(Hit(row["image_id"], row["listing_id"], row["group"], weighted, shown))
    return hits[: query.count]


def by_shards(case: Case, shards: int) -> list[list[Hit] | None]:
    """Search as the cluster does: the owner of a named image first, then the others by its codes."""
    held = []
    for buckets in cut(BUCKETS, shards):
        rows = Rows(SHORT_WORDS, LONG_WORDS, COMPONENT_WORDS)
        rows.append(_in_buckets(case.dead, buckets))
        rows.admit()
        dead = len(rows)
        rows.append(_in_buckets(case.table, buckets))
        rows.kill(np.arange(dead))
        rows.admit()
        held.append(rows)
    answers: list[list[Hit] | None] = []
    replies = []
    for rows in held:
        named = [-1 if q.image_id is None else int(rows.find(keys_of([q.image_id]))[0]) for q in case.queries]
        replies.append(answer_batch(case.queries, np.array(named, np.int64), rows.snapshot(), {}))
    for number, query in enumerate(case.queries):
        parts = [reply[number] for reply in replies]
        if query.codes is None:
            own = next((part for part in parts if isinstance(part, ShardHits)), None)
            if own is None:
                answers.append(None)
                continue
            asked = ShardQuery(
                query.count, query.candidates, query.weights, query.filters, query.collapse, query.verbose,
                codes=own.codes,
            )  # fmt: skip
            parts = [
                answer_batch([asked], np.array([-1]), rows.snapshot(), {})[0]
                if isinstance(part, UnknownImage)
                else part
                for rows, part in zip(held, parts, strict=True)
            ]
        found = [part for part in parts if isinstance(part, ShardHits)]
        answers.append(merge(found, query.count, query.candidates, query.collapse, query.image_id))
    return answers


def _in_buckets(table: pa.Table, buckets: tuple[int, ...]) -> pa.Table:
    place = bucket_of(table["key"].to_numpy(), BUCKETS)
    return table.take(np.flatnonzero(np.isin(place, buckets)))


@settings(max_examples=150, deadline=None)
@given(cases())
def test_one_two_and_five_shards_answer_as_defined(case: Case) -> None:
    expected = [by_definition(case, query) for query in case.queries]
    for shards in (1, 2, 5):
        assert by_shards(case, shards) == expected, f"{shards} shards"
