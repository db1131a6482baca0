"""Calls to actors as plain async functions; what Ray and Serve raise becomes our own errors here."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from typing import cast

import numpy as np
import ray
from ray.actor import ActorHandle
from ray.exceptions import RayActorError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError, ReplicaUnavailableError
from ray.serve.handle import DeploymentHandle

from lookalike.actors.query.query import Descriptor
from lookalike.actors.writer import NewImage
from lookalike.cluster.coordinator.collection import Encode, EncoderUnavailableError, Pixels
from lookalike.cluster.coordinator.replica_set import ReplicaLostError
from lookalike.cluster.coordinator.search import ShardReplica
from lookalike.cluster.coordinator.writes import WriterUnavailableError

ENCODER_TIMEOUT_S = 20.0
# A commit gives up after a minute of lost races, and a request to an object store after half a minute of retries.
WRITER_TIMEOUT_S = 120.0
_ENCODER_GONE = (RayActorError, BackPressureError, DeploymentUnavailableError, ReplicaUnavailableError)


def shard_replica(actor: ActorHandle) -> ShardReplica:
    """Call one replica of a shard. Raises ``ReplicaLostError`` where its actor has stopped or is restarting."""

    async def call(message: bytes) -> bytes:
        in_flight = actor.answer.remote(message)
        try:
            return cast(bytes, await in_flight)
        except RayActorError as error:
            raise ReplicaLostError(type(error).__name__) from error
        except asyncio.CancelledError:
            ray.cancel(in_flight)  # nobody waits any more: if it is still pending, it need not begin
            raise

    return ShardReplica.over(call)


class RemoteWriter:
    """Call the writer of a collection. Raises ``WriterUnavailableError`` where it is gone or late."""

    def __init__(self, actor: ActorHandle) -> None:
        self._actor = actor

    async def put(self, images: Sequence[NewImage]) -> None:
        await self._call(self._actor.put.remote(images))

    async def delete(self, image_ids: Sequence[str]) -> Sequence[bool]:
        return cast(Sequence[bool], await self._call(self._actor.delete.remote(image_ids)))

    async def _call(self, in_flight: Awaitable[object]) -> object:
        try:
            return await asyncio.wait_for(in_flight, WRITER_TIMEOUT_S)
        except TimeoutError as error:
            raise WriterUnavailableError(
                f"the writer did not answer within {WRITER_TIMEOUT_S:g} s; the change may be stored: try again"
            ) from error
        except RayActorError as error:
            raise WriterUnavailableError("the writer is starting again; the change may be stored: try again") from error


def encoder(deployment: DeploymentHandle) -> Encode:
    """Call the encoder. Raises ``EncoderUnavailableError`` where it is gone or late."""

    async def call(photos: Sequence[Pixels]) -> list[Descriptor]:
        try:
            codes = await asyncio.wait_for(deployment.encode.remote(np.stack(photos)), ENCODER_TIMEOUT_S)
        except TimeoutError as error:
            raise EncoderUnavailableError(f"the encoder did not answer within {ENCODER_TIMEOUT_S:g} s") from error
        except _ENCODER_GONE as error:
            raise EncoderUnavailableError("the encoder is starting again; try again in a moment") from error
        return [Descriptor(short, long) for short, long in zip(*codes, strict=True)]

    return call
