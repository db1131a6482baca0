"""How buckets are shared out among shards, and cores among their copies."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lookalike.actors.placement import Plan, cut, share_cores


@given(st.integers(1, 4096).flatmap(lambda buckets: st.tuples(st.just(buckets), st.integers(1, buckets))))
def test_cut_gives_every_bucket_to_one_shard_in_even_runs(asked: tuple[int, int]) -> None:
    buckets, shards = asked
    held = cut(buckets, shards)
    assert list(itertools.chain(*held)) == list(range(buckets))
    sizes = {len(run) for run in held}
    assert len(held) == shards
    assert min(sizes) >= 1
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize(("buckets", "shards"), [(4, 0), (4, 5), (4, -1)])
def test_cut_refuses_a_shard_without_a_bucket(buckets: int, shards: int) -> None:
    with pytest.raises(ValueError, match=f"{shards} shards cannot share {buckets} buckets: give 1 to {buckets}"):
        cut(buckets, shards)


@given(st.lists(st.tuples(st.integers(1, 8), st.integers(1, 3)), min_size=1, max_size=4), st.integers(1, 128))
def test_share_cores_gives_each_copy_as_many_and_one_at_least(sizes: list[tuple[int, int]], cores: int) -> None:
    plans = [Plan(str(number), "v", cut(8, shards), replicas) for number, (shards, replicas) in enumerate(sizes)]
    shared = share_cores(plans, cores)
    (threads,) = {plan.threads for plan in shared}
    copies = sum(shards * replicas for shards, replicas in sizes)
    assert threads >= 1
    assert threads == 1 or threads * copies <= cores < (threads + 1) * copies
    assert [replace(plan, threads=1) for plan in shared] == plans
