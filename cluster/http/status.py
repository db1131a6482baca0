"""What the server says of itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lookalike.actors.shard import ShardStatus
from lookalike.cluster.coordinator.collection import Collection
from lookalike.cluster.http.schema import CollectionView, ShardView, StatusView
from lookalike.ingest.store.collection import version_of

Replies = Sequence[Sequence[ShardStatus | None]]


def status_view(version: str, collections: Mapping[str, Collection], replies: Mapping[str, Replies]) -> StatusView:
    """Put together what the shards answered; a replica that did not answer is None."""
    views = [_collection(name, collection, replies.get(name, ())) for name, collection in collections.items()]
    ready = all(shard.replicas_answering for view in views for shard in view.shards)
    return StatusView(version=version, ready=ready, collections=views)


def _collection(name: str, collection: Collection, replies: Replies) -> CollectionView:
    shards = [_shard(replicas) for replicas in replies]
    rows = sum(shard.rows for shard in shards)
    code_bytes = sum(shard.code_bytes for shard in shards)
    spec = collection.spec
    return CollectionView(
        name=name,
        model=version_of(spec),
        short_bits=spec.short_bits,
        components={part.name: {"bits": part.bits, "weight": part.weight} for part in spec.components},
        rows=rows,
        bytes_per_million=code_bytes / rows * 1e6 if rows else None,
        shards=shards,
    )


def _shard(replicas: Sequence[ShardStatus | None]) -> ShardView:
    answering = [replica for replica in replicas if replica is not None]
    first = answering[0] if answering else None
    return ShardView(
        rows=first.rows if first else 0,
        replicas=len(replicas),
        replicas_answering=len(answering),
        pids=[replica.pid for replica in answering],
        code_bytes=first.code_bytes if first else 0,
        lag_s=max((replica.lag_s for replica in answering), default=None),
        kernel=first.kernel if first else None,
        huge_pages=first.huge_pages if first else None,
        trouble="; ".join(sorted({replica.trouble for replica in answering if replica.trouble})),
    )
