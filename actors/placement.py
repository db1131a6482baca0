"""Which shard holds what: plain values, known before Ray is."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Plan:
    """How a model version of a collection is cut: which buckets each shard holds, and how many copies there are.

    ``threads`` is how many each copy searches with.
    """

    collection: str
    version: str
    shards: tuple[tuple[int, ...], ...]
    replicas: int
    threads: int = 1


def share_cores(plans: Sequence[Plan], cores: int) -> list[Plan]:
    """Divide the cores of a machine among all copies of all shards on it, as threads: at least one each."""
    copies = sum(len(plan.shards) * plan.replicas for plan in plans)
    return [replace(plan, threads=max(1, cores // copies)) for plan in plans]


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
