"""Merging what shards found: the order of the shards does not matter, ties go by key, the target comes first."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st
from support.hits import shard_hits

from lookalike.actors.query.merge import (
    UNBOUNDED,
    ShardHits,
    candidates_per_shard,
    merge,
    threshold,
    to_ask_again,
)
from lookalike.actors.query.query import Query, SearchOptions

SHORT_BITS = 8
Numbered = list[tuple[int, tuple[int, int]]]

rows = st.lists(
    st.tuples(st.integers(0, SHORT_BITS), st.integers(0, 3)),  # short and long distance: ties are the rule
    max_size=30,
)


def part_of(numbered: Numbered, pinned: int | None = None, asked: int | None = None) -> ShardHits:
    """What a shard reports that was asked for so many candidates; None: for all rows.

    A row's number is its key, its id, and (by threes) its listing.
    """
    within = UNBOUNDED
    if asked is not None and len(numbered) >= asked:
        within = sorted(short for _, (short, _) in numbered)[asked - 1]
        numbered = [row for row in numbered if row[1][0] <= within]
    numbers = [number for number, _ in numbered]
    return shard_hits(
        [(str(number), str(number // 3)) for number in numbers],
        keys=numbers,
        short=[short for _, (short, _) in numbered],
        long=[long for _, (_, long) in numbered],
        short_bits=SHORT_BITS,
        pinned=numbers.index(pinned) if pinned in numbers else -1,
        threshold=within,
    )


def by_definition(numbered: Numbered, query: Query, pinned: int | None) -> list[int]:
    passed, candidates = numbered, query.candidates
    if candidates is not None and len(numbered) > candidates:
        within = sorted(short for _, (short, _) in numbered)[candidates - 1]
        passed = [row for row in numbered if row[1][0] <= within]
    ranked = [n for n, (_, long) in sorted(passed, key=lambda row: (row[1][1], row[0] != pinned, row[0]))]
    if query.options.collapse:
        ranked = [n for at, n in enumerate(ranked) if n // 3 not in {m // 3 for m in ranked[:at]}]
    return ranked[: query.options.count]


@st.composite
def split_rows(draw: st.DrawFn) -> tuple[Numbered, list[Numbered], int | None]:
    """Rows, those of each shard, and which is the target: its codes are those of the query, so both distances are 0."""
    numbered = list(enumerate(draw(rows)))
    shards = draw(st.integers(1, 4))
    split = [draw(st.integers(0, shards - 1)) for _ in numbered]
    parts = [[row for row, shard in zip(numbered, split, strict=True) if shard == n] for n in range(shards)]
    return numbered, parts, draw(st.sampled_from([None, *(number for number, row in numbered if row == (0, 0))]))


@settings(deadline=None)
@given(split_rows(), st.integers(1, 40), st.one_of(st.none(), st.integers(1, 40)), st.booleans())
def test_merge_gives_the_rows_within_the_threshold_by_distance_and_key(
    split: tuple[Numbered, list[Numbered], int | None], count: int, candidates: int | None, collapse: bool
) -> None:
    numbered, shards, pinned = split
    parts = [part_of(shard, pinned) for shard in shards]
    query = Query(SearchOptions(count=count, collapse=collapse), (1,), candidates, "a")
    for order in (parts, parts[::-1]):
        assert [int(hit.image_id) for hit in merge(order, query)] == by_definition(numbered, query, pinned)


@settings(deadline=None)
@given(split_rows(), st.integers(1, 12), st.integers(1, 40), st.booleans(), st.data())
def test_merge_is_exact_as_soon_as_nobody_is_to_be_asked_again(
    split: tuple[Numbered, list[Numbered], int | None],
    count: int,
    candidates: int,
    collapse: bool,
    data: st.DataObject,
) -> None:
    numbered, shards, pinned = split
    query = Query(SearchOptions(count=count, collapse=collapse), (1,), candidates, "a")
    parts = [part_of(shard, pinned, data.draw(st.integers(1, candidates))) for shard in shards]
    again = to_ask_again(parts, candidates)
    event(f"{len(again)} of {len(parts)} asked again")
    for number in again:
        parts[number] = part_of(shards[number], pinned, candidates)
    assert to_ask_again(parts, candidates) == []
    assert [int(hit.image_id) for hit in merge(parts, query)] == by_definition(numbered, query, pinned)


@settings(deadline=None)
@given(split_rows(), st.integers(1, 40), st.data())
def test_to_ask_again_names_no_shard_that_was_asked_for_all_candidates(
    split: tuple[Numbered, list[Numbered], int | None], candidates: int, data: st.DataObject
) -> None:
    """Whatever the others were asked for, and though their rows may have changed since: rounds come to an end."""
    _, shards, _ = split
    asked = [data.draw(st.integers(1, candidates)) for _ in shards]
    parts = [part_of(shard, None, limit) for shard, limit in zip(shards, asked, strict=True)]
    assert all(asked[number] < candidates for number in to_ask_again(parts, candidates))


def test_merge_of_no_shards_is_empty() -> None:
    assert merge([], Query(SearchOptions(), (1,), 1, "a")) == []
    assert to_ask_again([], 1) == []


@settings(deadline=None)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=9), st.integers(1, 50))
def test_threshold_is_the_smallest_distance_with_enough_rows(counts: list[int], candidates: int) -> None:
    distance = threshold(np.array(counts, np.int64), candidates)
    if sum(counts) < candidates:
        assert distance == UNBOUNDED
    else:
        assert sum(counts[: distance + 1]) >= candidates
        assert distance == 0 or sum(counts[:distance]) < candidates


@pytest.mark.parametrize(("candidates", "shards", "each"), [(5120, 4, 1600), (256_000, 8, 40_000), (1, 5, 1)])
def test_candidates_per_shard_are_a_part_and_a_quarter(candidates: int, shards: int, each: int) -> None:
    assert candidates_per_shard(candidates, shards) == each


@settings(deadline=None)
@given(st.integers(1, 300_000), st.integers(2, 64))
def test_candidates_per_shard_are_rarely_too_few_and_never_more_than_all(candidates: int, shards: int) -> None:
    each = candidates_per_shard(candidates, shards)
    part = candidates / shards
    assert each == candidates or each >= part + 4 * np.sqrt(part * (1 - 1 / shards))
    assert part <= each <= candidates
