"""The searches that warm a shard up: one of each kind, each answered."""

from __future__ import annotations

import asyncio
from pathlib import Path

from support.collections import Served

from lookalike.actors.query.merge import ShardHits
from lookalike.actors.query.warm import warm_queries
from lookalike.ingest.attributes import FilterKind, names_filtered


def test_warm_queries_have_every_kind_of_search_and_filter(tmp_path: Path) -> None:
    served = Served(tmp_path, ["a", "b", "c"])
    queries = warm_queries(served.collection.spec, 7)
    assert {query.options.two_phase for query in queries} == {True, False}
    assert {query.options.collapse for query in queries} == {True, False}
    assert {query.candidates for query in queries} == {7 * queries[0].options.count, None}
    fields = {condition.model_dump()["field"] for query in queries for condition in query.options.filters}
    fields |= {"lat", "lon"} if "place" in fields else set()
    for kind in FilterKind:
        assert fields & set(names_filtered(kind)), kind
    for shard in served.shards:
        assert all(isinstance(reply, ShardHits) for reply in shard.search(queries))
    for query in queries:
        assert asyncio.run(served.collection.search(query)).shards_answered == 2
