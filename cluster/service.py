"""What the HTTP routes do with one collection: encode, search, read and write."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray
from ray.actor import ActorHandle
from ray.exceptions import RayActorError
from ray.serve.handle import DeploymentHandle

from lookalike.actors.batch import ShardQuery
from lookalike.actors.supervisor import cut
from lookalike.cluster.config import Settings
from lookalike.cluster.schema import ImageFields, SearchOptions
from lookalike.cluster.search import Answer, Batch, NoSuchImage, Replica, ReplicaLost, Reply, Search, ShardQueue
from lookalike.cluster.writes import Writer
from lookalike.errors import LookalikeError
from lookalike.ingest.catalogue import read_photo
from lookalike.ingest.encode import rows_table
from lookalike.ingest.entries import Entry
from lookalike.ingest.images import decode, media_type
from lookalike.ingest.store import Store, bucket_of, keys_of
from lookalike.model.descriptor import Descriptors
from lookalike.model.spec import ModelSpec

Codes = tuple[NDArray[np.uint64], NDArray[np.uint64]]

# A photo of 50 megapixels decodes to 150 MB: so many at once at the most.
MOST_DECODING = 4
SUFFIXES = {"image/jpeg": ".jpg", "image/png": ".png", "image/webp": ".webp"}


class UnknownComponent(LookalikeError):
    """A weight names a component that the model does not have: HTTP 422."""


@dataclass(frozen=True)
class Collection:
    """One collection as the routes see it. Build it with ``connect``."""

    store: Store
    spec: ModelSpec
    candidates_per_hit: int
    _search: Search
    _writer: Writer
    _encoder: DeploymentHandle
    _decoding: asyncio.Semaphore

    @classmethod
    def connect(
        cls, store: Store, settings: Settings, shards: Sequence[Sequence[ActorHandle]], encoder: DeploymentHandle
    ) -> Collection:
        """Put a collection together from its store, the replicas of its shards, and its encoder."""
        buckets = store.manifest.buckets
        holder = {bucket: shard for shard, held in enumerate(cut(buckets, len(shards))) for bucket in held}
        queues = [ShardQueue([_caller(r) for r in replicas], settings.shard_timeout_s) for replicas in shards]
        return cls(
            store=store,
            spec=ModelSpec.load(store.model_folder),
            candidates_per_hit=settings.candidates_per_hit,
            _search=Search(queues, lambda image_id: holder[int(bucket_of(keys_of([image_id]), buckets)[0])]),
            _writer=Writer(store),
            _encoder=encoder,
            _decoding=asyncio.Semaphore(MOST_DECODING),
        )

    async def search(self, options: SearchOptions, image_id: str | None, codes: Codes | None) -> Answer:
        """Search by the id of a stored image or by codes."""
        return await self._search(
            ShardQuery(
                count=options.count,
                candidates=self.candidates_per_hit * options.count if options.two_phase else None,
                weights=self._weights(options.weights),
                filters=options.filters,
                collapse=options.collapse,
                verbose=options.verbose,
                image_id=image_id,
                codes=codes,
            )
        )

    async def encode(self, photo: bytes) -> Codes:
        """Turn a photo into its short and long code: uint64, shape (words,).

        Raises
        ------
        UndecodableImage
            The bytes are no photo that we read.
        """
        async with self._decoding:
            pixels = await asyncio.to_thread(decode, photo, self.spec.input_px)
        return cast(Codes, await self._encoder.encode.remote(pixels))

    async def put(self, image_id: str, fields: ImageFields) -> None:
        """Store an image with its photo; durable on return."""
        codes = await self.encode(fields.image)
        suffix = SUFFIXES[media_type(fields.image) or "image/jpeg"]
        location = await asyncio.to_thread(self.store.add_photo, image_id, fields.image, suffix)
        entry = Entry(
            image_id=image_id,
            photo=location,
            listing_id=fields.listing_id or image_id,
            group="/".join(name.strip() for name in fields.group.split("/") if name.strip()),
            **fields.model_dump(exclude={"image", "listing_id", "group"}),
        )
        one = Descriptors(codes[0].reshape(1, -1), codes[1].reshape(1, -1))
        await self._writer.put(image_id, rows_table(self.store, [entry], [location], [0], one))

    async def delete(self, image_id: str) -> None:
        """Remove an image, and its photo if it was uploaded; durable on return."""
        location = await self._photo_location(image_id)
        if not await self._writer.delete(image_id):
            raise NoSuchImage(image_id)
        await asyncio.to_thread(self.store.drop_photo, location)

    async def image(self, image_id: str) -> Mapping[str, object]:
        """Read a stored row."""
        row = await asyncio.to_thread(self.store.find, image_id)
        if row is None:
            raise NoSuchImage(image_id)
        return row

    async def photo(self, image_id: str) -> tuple[bytes, str]:
        """Read the photo of a stored image. Returns its bytes and its media type.

        Raises
        ------
        UndecodableImage
            The file is gone or is no photo any more.
        """
        path = Path(await self._photo_location(image_id))
        content = await asyncio.to_thread(read_photo, path.name, path.parent)
        return content, media_type(content) or "application/octet-stream"

    async def _photo_location(self, image_id: str) -> str:
        row = await asyncio.to_thread(self.store.find, image_id, ["photo"])
        if row is None:
            raise NoSuchImage(image_id)
        return str(row["photo"])

    def _weights(self, asked: Mapping[str, int]) -> tuple[int, ...]:
        names = [component.name for component in self.spec.components]
        for name in asked:
            if name not in names:
                raise UnknownComponent(f"there is no component {name!r}; this model has {', '.join(names)}")
        return tuple(asked.get(part.name, part.weight) for part in self.spec.components)


def _caller(actor: ActorHandle) -> Replica:
    async def call(batch: Batch) -> Sequence[Reply]:
        try:
            return cast(Sequence[Reply], await actor.search.remote(batch))
        except RayActorError as error:
            raise ReplicaLost(type(error).__name__) from error

    return call
