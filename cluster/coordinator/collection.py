"""What the HTTP routes do with one collection: encode, search, read and write."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import ray
from numpy.typing import NDArray
from ray.actor import ActorHandle
from ray.exceptions import RayActorError
from ray.serve.handle import DeploymentHandle

from lookalike.actors.placement import cut
from lookalike.actors.query.search import ShardQuery
from lookalike.cluster.coordinator.batching import Coalescer
from lookalike.cluster.coordinator.search import (
    Answer,
    Batch,
    NoSuchImage,
    Replica,
    ReplicaLost,
    Reply,
    Search,
    ShardQueue,
)
from lookalike.cluster.coordinator.writer import Writer
from lookalike.cluster.http.schema import ImageFields, SearchOptions
from lookalike.cluster.settings import Settings
from lookalike.errors import LookalikeError, UndecodableImage
from lookalike.ingest.attributes import Attributes
from lookalike.ingest.catalogue.entries import Entry
from lookalike.ingest.photos.decode import decode, media_type
from lookalike.ingest.photos.fetch import read_photo
from lookalike.ingest.store.collection import Store
from lookalike.ingest.store.keys import bucket_of, keys_of
from lookalike.model.spec import ModelSpec

Codes = tuple[NDArray[np.uint64], NDArray[np.uint64]]
Pixels = NDArray[np.uint8]

# A photo of 50 megapixels takes up to 400 MB while it is decoded: so many at once at the most, also of those whose
# clients have gone.
MOST_DECODING = 4
ENCODER_TIMEOUT_S = 20.0
# A call of 16 photos keeps two cores busy for 40 ms; more would only let the first wait for the last.
MOST_PHOTOS = 16


class NoPhoto(LookalikeError):
    """A stored image's photo is gone, or is no photo any more: HTTP 404. Argument: the reason."""


class EncoderUnavailable(LookalikeError):
    """The encoder does not answer in time: HTTP 503."""


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
    _encoder: Coalescer[Pixels, Codes]
    _decoders: ThreadPoolExecutor

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
            _encoder=Coalescer(_encoder_call(encoder), lambda _: MOST_PHOTOS),
            _decoders=ThreadPoolExecutor(MOST_DECODING, thread_name_prefix="decode"),
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

    async def encode(self, photo: bytes | str) -> Codes:
        """Turn a photo, as bytes or in base64, into its short and long code: uint64, shape (words,).

        Raises
        ------
        UndecodableImage
            It is no photo that we read.
        EncoderUnavailable
            The encoder did not answer in time.
        """
        loop = asyncio.get_running_loop()
        pixels = await loop.run_in_executor(self._decoders, lambda: decode(_as_bytes(photo), self.spec.input_px))
        return await self._encoder.ask(pixels)

    async def put(self, image_id: str, fields: ImageFields) -> None:
        """Store an image with its photo; durable on return."""
        codes = await self.encode(fields.image)
        given = fields.model_dump(exclude={"image", "listing_id"})
        attributes = Attributes(listing_id=fields.listing_id or image_id, **given)
        await self._writer.put(Entry(image_id, "", attributes), _as_bytes(fields.image), codes)

    async def delete(self, image_id: str) -> None:
        """Remove an image, and its photo if it was uploaded; durable on return."""
        if not await self._writer.delete(image_id):
            raise NoSuchImage(image_id)

    async def image(self, image_id: str) -> Mapping[str, object]:
        """Read a stored row."""
        return await self._row(image_id)

    async def photo(self, image_id: str) -> tuple[bytes, str]:
        """Read the photo of a stored image. Returns its bytes and its media type.

        Raises
        ------
        NoPhoto
            The file is gone, or is no photo any more.
        """
        path = Path(str((await self._row(image_id, ["photo"]))["photo"]))
        try:
            content = await asyncio.to_thread(read_photo, path.name, path.parent)
        except UndecodableImage as error:
            raise NoPhoto(f"the photo of {image_id}: {error}") from error
        kind = media_type(content)
        if kind is None:
            raise NoPhoto(f"the photo of {image_id} is no JPEG, PNG or WebP any more")
        return content, kind

    async def _row(self, image_id: str, columns: Sequence[str] | None = None) -> Mapping[str, object]:
        found = await asyncio.to_thread(self.store.find, [image_id], columns)
        if image_id not in found:
            raise NoSuchImage(image_id)
        return found[image_id]

    def _weights(self, asked: Mapping[str, int]) -> tuple[int, ...]:
        names = [component.name for component in self.spec.components]
        for name in asked:
            if name not in names:
                raise UnknownComponent(f"there is no component {name!r}; this model has {', '.join(names)}")
        return tuple(asked.get(part.name, part.weight) for part in self.spec.components)


def _encoder_call(encoder: DeploymentHandle) -> Callable[[list[Pixels]], Awaitable[list[Codes]]]:
    async def call(photos: list[Pixels]) -> list[Codes]:
        try:
            short, long = await asyncio.wait_for(encoder.encode.remote(np.stack(photos)), ENCODER_TIMEOUT_S)
        except TimeoutError as error:
            raise EncoderUnavailable("the encoder does not answer; try again in a moment") from error
        return list(zip(short, long, strict=True))

    return call


def _caller(actor: ActorHandle) -> Replica:
    async def call(batch: Batch) -> Sequence[Reply]:
        under_way = actor.search.remote(batch)
        try:
            return cast(Sequence[Reply], await under_way)
        except RayActorError as error:
            raise ReplicaLost(type(error).__name__) from error
        except asyncio.CancelledError:
            ray.cancel(under_way)  # too late for whoever asked: if it waits still, it need not begin
            raise

    return call


def _as_bytes(photo: bytes | str) -> bytes:
    if isinstance(photo, bytes):
        return photo
    try:
        return base64.b64decode(photo, validate=True)
    except ValueError as error:
        raise UndecodableImage("the photo is not base64") from error
