"""Merging what shards found: the order of the shards does not matter, ties go by key, the target comes first."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lookalike.actors.query.merge import ShardHits, merge, threshold
from lookalike.actors.query.query import Query, SearchOptions

SHORT_BITS = 8

rows = st.lists(
    st.tuples(st.integers(0, SHORT_BITS), st.integers(0, 3)),  # short and long distance: ties are the rule
    max_size=30,
)


def part_of(numbered: list[tuple[int, tuple[int, int]]]) -> ShardHits:
    """A shard that reports all its rows; a row's number is its key, its id, and (by threes) its listing."""
    short = np.array([distances[0] for _, distances in numbered], np.uint16)
    ids = [str(number) for number, _ in numbered]
    return ShardHits(
        histogram=np.bincount(short, minlength=SHORT_BITS + 1),
        keys=np.array([number for number, _ in numbered], np.uint64),
        short=short,
        long=np.array([distances[1] for _, distances in numbered], np.uint32),
        components=None,
        image_ids=ids,
        listing_ids=[str(number // 3) for number, _ in numbered],
        groups=[""] * len(ids),
    )


@given(rows, st.integers(1, 4), st.integers(1, 40), st.one_of(st.none(), st.integers(1, 40)), st.booleans(), st.data())
def test_merge_gives_the_rows_within_the_threshold_by_distance_and_key(
    distances: list[tuple[int, int]],
    shards: int,
    count: int,
    candidates: int | None,
    collapse: bool,
    data: st.DataObject,
) -> None:
    numbered = list(enumerate(distances))
    split = [data.draw(st.integers(0, shards - 1)) for _ in numbered]
    parts = [part_of([row for row, shard in zip(numbered, split, strict=True) if shard == n]) for n in range(shards)]
    pinned = data.draw(st.sampled_from(["none", *(str(number) for number, (_, long) in numbered if long == 0)]))

    passed = numbered
    if candidates is not None and len(numbered) > candidates:
        within = sorted(short for _, (short, _) in numbered)[candidates - 1]
        passed = [row for row in numbered if row[1][0] <= within]
    ranked = [n for n, (_, long) in sorted(passed, key=lambda row: (row[1][1], str(row[0]) != pinned, row[0]))]
    if collapse:
        ranked = [n for at, n in enumerate(ranked) if n // 3 not in {m // 3 for m in ranked[:at]}]

    query = Query(SearchOptions(count=count, collapse=collapse), (1,), candidates, pinned)
    for order in (parts, parts[::-1]):
        assert [int(hit.image_id) for hit in merge(order, query)] == ranked[:count]


def test_merge_of_no_shards_is_empty() -> None:
    assert merge([], Query(SearchOptions(), (1,), 1, "a")) == []


@given(st.lists(st.integers(0, 5), min_size=1, max_size=9), st.integers(1, 50))
def test_threshold_is_the_smallest_distance_with_enough_rows(counts: list[int], candidates: int) -> None:
    distance = threshold(np.array(counts, np.int64), candidates)
    assert sum(counts[: distance + 1]) >= candidates or distance == len(counts) - 1
    assert distance == 0 or sum(counts[:distance]) < candidates
