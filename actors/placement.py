"""Which shard holds what: plain values, known before Ray is."""

from __future__ import annotations

import itertools
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Plan:
    """How a model version of a collection is cut: which buckets each shard holds, and how many copies there are."""

    collection: str
    version: str
    shards: tuple[tuple[int, ...], ...]
    replicas: int


def cut(buckets: int, shards: int) -> tuple[tuple[int, ...], ...]:
    """Share the buckets out among the shards, in runs that differ by one at the most.

    Raises
    ------
    ValueError
        A shard would hold no bucket.
    """
    if not 1 <= shards <= buckets:
        raise ValueError(f"{shards} shards cannot share {buckets} buckets: give 1 to {buckets}")
    bounds = [shard * buckets // shards for shard in range(shards + 1)]
    return tuple(tuple(range(a, b)) for a, b in itertools.pairwise(bounds))
