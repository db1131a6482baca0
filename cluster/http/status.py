"""What the server says of itself: status, liveness, readiness."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response

from lookalike import __version__
from lookalike.actors.query.query import in_bits
from lookalike.actors.shard import ShardStatus
from lookalike.cluster.coordinator.collection import ServedCollection
from lookalike.cluster.http.schema import (
    CollectionView,
    ComponentView,
    DamagedView,
    HealthView,
    ShardView,
    StatusView,
)
from lookalike.cluster.http.state import ServerState, State
from lookalike.ingest.store.manifest import version_of

router = APIRouter()


@router.get("/v1/status", response_model=StatusView)
async def status(state: State) -> StatusView:
    """Show collections, models, shards, lag, kernels and memory."""
    return await status_view(state)


@router.get("/healthz", response_model=HealthView)
async def healthz() -> Response:
    """Say that this process lives."""
    return JSONResponse({"status": "alive"})


@router.get("/readyz", response_model=HealthView, responses={503: {"model": HealthView}})
async def readyz(state: State) -> Response:
    """Say whether every shard answers: 200, or 503."""
    ready = (await status_view(state)).ready
    return JSONResponse({"status": "ready" if ready else "not ready"}, 200 if ready else 503)


async def status_view(state: ServerState) -> StatusView:
    """Read the status of every shard, and put it together."""
    statuses = await state.shard_statuses()
    views = [_collection_view(collection, statuses.get(name, ())) for name, collection in state.collections.items()]
    ready = all(shard.replicas_answering for view in views for shard in view.shards)
    return StatusView(version=__version__, ready=ready, collections=views, unavailable=dict(state.unavailable))


def _collection_view(collection: ServedCollection, statuses: Sequence[Sequence[ShardStatus | None]]) -> CollectionView:
    shards = [_shard_view(replicas) for replicas in statuses]
    spec = collection.spec
    return CollectionView(
        name=collection.name,
        model=version_of(spec),
        short_bits=spec.short_bits,
        components={part.name: ComponentView(bits=part.bits, weight=in_bits(part.weight)) for part in spec.components},
        rows=sum(shard.rows for shard in shards),
        shards=shards,
    )


def _shard_view(replicas: Sequence[ShardStatus | None]) -> ShardView:
    answering = [replica for replica in replicas if replica is not None]
    first = answering[0] if answering else None
    ages = [replica.last_error_age_s for replica in answering if replica.last_error_age_s is not None]
    return ShardView(
        rows=first.rows if first else 0,
        replicas=len(replicas),
        replicas_answering=len(answering),
        pids=[replica.pid for replica in answering],
        code_bytes=first.code_bytes if first else 0,
        held_bytes=first.held_bytes if first else 0,
        rss_bytes=[replica.rss_bytes for replica in answering],
        lag_s=max((replica.lag_s for replica in answering), default=None),
        kernel_variant=first.kernel_variant if first else None,
        threads=first.threads if first else None,
        huge_pages=first.huge_pages if first else None,
        last_error="; ".join(sorted({replica.last_error for replica in answering if replica.last_error})),
        last_error_age_s=max(ages, default=None),
        damaged=DamagedView(
            rows=max((replica.damaged_rows for replica in answering), default=0),
            segments=max((replica.damaged_segments for replica in answering), default=0),
        ),
    )
