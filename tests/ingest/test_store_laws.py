"""The store does what a dictionary does, and a shard that follows it holds the same."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.stores import rows_of, titles, write_spec

from lookalike.actors.query.merge import ShardHits
from lookalike.actors.query.query import Query, SearchOptions
from lookalike.actors.shard import Shard
from lookalike.ingest.store.collection import Store
from lookalike.ingest.store.keys import bucket_of, keys_of

IDS = [f"listing {n}/1" for n in range(12)]

operations = st.one_of(
    st.tuples(st.just("upsert"), st.lists(st.sampled_from(IDS), min_size=1, max_size=8)),
    st.tuples(st.just("delete"), st.lists(st.sampled_from(IDS), min_size=1, max_size=4)),
    st.tuples(st.just("compact"), st.just([])),
    st.tuples(st.just("refresh"), st.just([])),
)


def held_by(shard: Shard) -> dict[str, str]:
    """What a shard would answer with: the title of every image that counts."""
    snapshot = shard._snapshot
    rows = np.arange(len(snapshot)) if snapshot.alive is None else np.flatnonzero(snapshot.alive)
    ids = snapshot.texts_of("image_id", rows)
    assert len(set(ids)) == len(ids)
    return dict(zip(ids, snapshot.texts_of("title", rows), strict=True))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(operations, max_size=10))
def test_store_and_shard_equal_a_dictionary(steps: list[tuple[str, list[str]]]) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        store = Store.create(root / "store", "default", write_spec(root / "model"), buckets=2)
        shard = Shard(root / "store", "default", store.version, [0, 1])
        expected: dict[str, str] = {}
        for number, (step, ids) in enumerate(steps):
            if step == "upsert":
                store.upsert(rows_of(ids, tag=str(number), seed=number))
                expected |= dict.fromkeys(ids, str(number))
            elif step == "delete":
                assert store.delete(ids) == {i for i in ids if expected.pop(i, None) is not None}
            elif step == "compact":
                store.compact()
            else:
                shard.refresh()
                assert held_by(shard) == expected
        assert titles(store) == expected
        shard.refresh()
        assert held_by(shard) == expected
        _check_each_is_found_first(shard, expected)


def _check_each_is_found_first(shard: Shard, expected: dict[str, str]) -> None:
    queries = [Query(SearchOptions(count=1), (1, 1), 256, image_id) for image_id in IDS]
    for image_id, reply in zip(IDS, shard.search(queries), strict=True):
        assert isinstance(reply, ShardHits) == (image_id in expected)
        if isinstance(reply, ShardHits):
            assert image_id in reply.image_ids
            assert reply.long[reply.image_ids.index(image_id)] == 0


@given(st.lists(st.text(max_size=20), max_size=50), st.integers(1, 100))
def test_buckets_are_equal_slices_of_the_keys(ids: list[str], buckets: int) -> None:
    place = bucket_of(keys_of(ids), buckets)
    assert ((place >= 0) & (place < buckets)).all()
    assert place.tolist() == [int(key) // 2**32 * buckets // 2**32 for key in keys_of(ids)]
