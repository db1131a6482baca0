"""What a shard reports, made of plain lists."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from lookalike.actors.index.blobs import Blobs, ValueArena
from lookalike.actors.index.ids import IdColumn
from lookalike.actors.query.merge import UNBOUNDED, ShardHits


def id_blobs(ids: Sequence[tuple[str, str]]) -> Blobs:
    """Pairs of image id and listing id."""
    column = IdColumn()
    slots = np.arange(len(ids))
    column.put(slots, pa.array([one for one, _ in ids], pa.string()), pa.array([one for _, one in ids], pa.string()))
    return column.view(len(ids)).blobs(slots)


def value_blobs(values: Sequence[str]) -> Blobs:
    arena = ValueArena()
    arena.append(values)
    return arena.view().blobs(np.arange(len(values)))


def shard_hits(
    ids: Sequence[tuple[str, str]],
    *,
    keys: Sequence[int],
    short: Sequence[int],
    long: Sequence[int],
    groups: Sequence[str] | None = None,
    components: Sequence[Sequence[int]] | None = None,
    short_bits: int = 8,
    pinned: int = -1,
    threshold: int = UNBOUNDED,
) -> ShardHits:
    """A shard that reports all its rows."""
    distances = np.array(short, np.int64)
    return ShardHits(
        threshold=threshold,
        histogram=np.bincount(distances, minlength=short_bits + 1),
        keys=np.array(keys, np.uint64),
        short=distances.astype(np.uint16),
        long=np.array(long, np.uint32),
        components=None if components is None else np.array(components, np.uint16).reshape(len(ids), -1),
        ids=id_blobs(ids),
        groups=value_blobs(groups if groups is not None else [""] * len(ids)),
        group_of=np.arange(len(ids), dtype=np.uint32),
        pinned=pinned,
    )
