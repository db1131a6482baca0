"""A collection served within the test's own process: a real store, real shards and a real app, without Ray."""

from __future__ import annotations

import asyncio
import hashlib
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from lookalike.actors.placement import cut
from lookalike.actors.query.query import Descriptor
from lookalike.actors.shard import Shard, ShardStatus
from lookalike.actors.writer import NewImage, Writer
from lookalike.cluster.coordinator.collection import Pixels, ServedCollection
from lookalike.cluster.coordinator.replica_set import ReplicaLostError
from lookalike.cluster.coordinator.search import ShardReplica
from lookalike.cluster.http.state import ServerState
from lookalike.cluster.settings import Settings
from lookalike.ingest.store.collection import Collection
from lookalike.storage import Location
from support.stores import rows_of, write_spec


def photo(seed: int = 0) -> bytes:
    """A small PNG of noise."""
    pixels = np.random.default_rng(seed).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


async def encode(photos: Sequence[Pixels]) -> list[Descriptor]:
    """Codes of the tiny model's shape that are a hash of the pixels: importing a real model takes ten seconds."""
    words = [np.frombuffer(hashlib.blake2b(one.tobytes(), digest_size=24).digest(), np.uint64) for one in photos]
    return [Descriptor(three[:1], three[1:]) for three in words]


class _WriterInProcess:
    """The writer without Ray."""

    def __init__(self, store: Collection) -> None:
        self._writer = Writer(store.root, store.name, store.version)

    async def put(self, images: Sequence[NewImage]) -> None:
        await asyncio.to_thread(self._writer.put, images)

    async def delete(self, image_ids: Sequence[str]) -> Sequence[bool]:
        return await asyncio.to_thread(self._writer.delete, image_ids)


class Served:
    """A store with shards over it. ``lost`` shards do not answer."""

    def __init__(self, root: Path, ids: Sequence[str], shards: int = 2, **settings: object) -> None:
        location = Location.parse(root / "store")
        self.store = Collection.create(location, "default", Location.parse(write_spec(root / "model")), buckets=4)
        self.store.put(rows_of(list(ids)))
        self.shards = [Shard(location, "default", self.store.version, held) for held in cut(4, shards)]
        self.lost: set[int] = set()
        options = Settings.model_validate({"store": root / "store", "candidates_per_hit": 4, **settings})
        replicas = [[self._replica(number)] for number in range(shards)]
        self.collection = ServedCollection.connect(self.store, options, replicas, encode, _WriterInProcess(self.store))
        self.state = ServerState({"default": self.collection}, self.statuses)

    def refresh(self) -> None:
        """Let the shards take in what was committed."""
        for shard in self.shards:
            shard.refresh()

    async def statuses(self) -> dict[str, list[list[ShardStatus | None]]]:
        """What each shard says of itself."""
        return {"default": [[None if n in self.lost else shard.status()] for n, shard in enumerate(self.shards)]}

    def _replica(self, number: int) -> ShardReplica:
        async def call(message: bytes) -> bytes:
            if number in self.lost:
                raise ReplicaLostError("killed")
            return await asyncio.to_thread(self.shards[number].answer, message)

        return ShardReplica.over(call)
