"""How buckets are shared out among shards."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lookalike.actors.placement import cut


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
