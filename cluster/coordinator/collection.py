"""What the HTTP routes do with one collection: encode, search, read and write. It knows neither HTTP nor Ray."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lookalike import storage
from lookalike.actors.placement import cut
from lookalike.actors.query.query import Descriptor, Query, SearchOptions, in_hundredths
from lookalike.actors.writer import NewImage
from lookalike.cluster.coordinator.batching import BatchingQueue
from lookalike.cluster.coordinator.search import (
    Answer,
    ShardedSearch,
    ShardReplica,
    UnknownImageError,
    shard_queues,
)
from lookalike.cluster.coordinator.writes import WriteQueue, WriterCalls
from lookalike.cluster.settings import Settings
from lookalike.errors import LookalikeError, UndecodableImage
from lookalike.ingest.attributes import Attributes
from lookalike.ingest.photos.decode import decode, media_type
from lookalike.ingest.photos.fetch import read_photo
from lookalike.ingest.photos.location import is_url
from lookalike.ingest.store.collection import Collection
from lookalike.ingest.store.keys import bucket_of, keys_of
from lookalike.model.spec import ModelSpec
from lookalike.storage import Location

Pixels = NDArray[np.uint8]
# Encodes photos, each uint8 (side, side, 3), in their order; raises EncoderUnavailableError where it cannot.
Encode = Callable[[Sequence[Pixels]], Awaitable[Sequence[Descriptor]]]

# A photo of 50 megapixels takes up to 400 MB while it is decoded: at most so many at once, those included whose
# clients have gone.
MAX_DECODING = 4
# A call of 16 photos keeps two cores busy for 40 ms; more would only let the first wait for the last.
MAX_PHOTOS_PER_CALL = 16
PRESIGNED_FOR_S = 300
SUFFIXES = {"image/jpeg": ".jpg", "image/png": ".png", "image/webp": ".webp"}


class PhotoGoneError(LookalikeError):
    """A stored image's photo is gone, or is no photo any more. Argument: the reason."""


class EncoderUnavailableError(LookalikeError):
    """The encoder does not answer. Argument: the reason."""


class UnknownComponentError(LookalikeError):
    """A weight is for a component that the model does not have. Argument: which, and which there are."""


@dataclass(frozen=True)
class PhotoBytes:
    """A photo that is sent to the client."""

    content: bytes
    media_type: str


@dataclass(frozen=True)
class PhotoUrl:
    """Where the client may fetch a photo by itself."""

    url: str


@dataclass(frozen=True)
class ServedCollection:
    """One collection as the routes see it. Build it with ``connect``."""

    store: Collection
    candidates_per_hit: int
    search_timeout_s: float
    photo_redirects: bool
    _search: ShardedSearch
    _writes: WriteQueue
    _encoder: BatchingQueue[Pixels, Descriptor]
    _decoders: ThreadPoolExecutor

    @classmethod
    def connect(
        cls,
        store: Collection,
        settings: Settings,
        shards: Sequence[Sequence[ShardReplica]],
        encode: Encode,
        writer: WriterCalls,
    ) -> ServedCollection:
        """Put a collection together from its store, the replicas of each of its shards, encoder and writer."""
        buckets = store.manifest.buckets
        holder = {bucket: shard for shard, held in enumerate(cut(buckets, len(shards))) for bucket in held}
        queues = [shard_queues(replicas, settings.shard_timeout_s) for replicas in shards]
        return cls(
            store=store,
            candidates_per_hit=settings.candidates_per_hit,
            search_timeout_s=settings.search_timeout_s,
            photo_redirects=settings.photo_redirects,
            _search=ShardedSearch(queues, lambda image_id: holder[int(bucket_of(keys_of([image_id]), buckets)[0])]),
            _writes=WriteQueue(writer),
            _encoder=BatchingQueue(encode, lambda _: MAX_PHOTOS_PER_CALL),
            _decoders=ThreadPoolExecutor(MAX_DECODING, thread_name_prefix="decode"),
        )

    @property
    def name(self) -> str:
        """The collection's name, as in a path."""
        return self.store.name

    @property
    def spec(self) -> ModelSpec:
        """The model that made its codes."""
        return self.store.spec

    @property
    def second_rounds(self) -> int:
        """How many searches so far had to ask a shard twice."""
        return self._search.second_rounds

    def query(self, options: SearchOptions, target: str | Descriptor) -> Query:
        """Make the query for a target: the id of a stored image, or the codes of a photo. Its time runs from here.

        Raises
        ------
        UnknownComponentError
            A weight is for a component that the model does not have.
        """
        names = [component.name for component in self.spec.components]
        for name in options.weights:
            if name not in names:
                raise UnknownComponentError(f"there is no component {name!r}; this model has {', '.join(names)}")
        given = {name: in_hundredths(weight) for name, weight in options.weights.items()}
        return Query(
            options=options.plain(),
            weights=tuple(given.get(component.name, component.weight) for component in self.spec.components),
            candidates=self.candidates_per_hit * options.count if options.two_phase else None,
            target=target,
            deadline=time.monotonic() + self.search_timeout_s,
        )

    async def search(self, query: Query) -> Answer:
        """Answer a query; see ``ShardedSearch`` for what it raises."""
        return await self._search(query)

    async def encode(self, photo: bytes) -> Descriptor:
        """Turn a photo into its codes.

        Raises
        ------
        UndecodableImage
            It is no photo that we read.
        EncoderUnavailableError
            The encoder did not answer in time.
        """
        loop = asyncio.get_running_loop()
        pixels = await loop.run_in_executor(self._decoders, decode, photo, self.spec.input_px)
        return await self._encoder.submit(pixels)

    async def put(self, image_id: str, attributes: Attributes, photo: bytes) -> None:
        """Store an image with its photo, in place of one with the same id; durable on return."""
        codes = await self.encode(photo)
        suffix = SUFFIXES[media_type(photo) or "image/jpeg"]
        await self._writes.put(NewImage(image_id, attributes, photo, suffix, codes.short, codes.long))

    async def delete(self, image_id: str) -> None:
        """Remove an image, and its photo if it was uploaded; durable on return."""
        if not await self._writes.delete(image_id):
            raise UnknownImageError(image_id)

    async def image(self, image_id: str) -> Mapping[str, object]:
        """Read a stored row."""
        return await self._row(image_id)

    async def photo(self, image_id: str) -> PhotoBytes | PhotoUrl:
        """Read the photo of a stored image, or tell where the client may fetch it.

        Raises
        ------
        PhotoGoneError
            The file is gone, or is no photo any more.
        """
        photo = str((await self._row(image_id, ["photo"]))["photo"])
        if not photo:
            raise PhotoGoneError(f"{image_id} has no photo")
        root, name = await asyncio.to_thread(self.store.sources.resolve, photo)
        if self.photo_redirects and (url := _url_of(root / name)) is not None:
            return PhotoUrl(url)
        try:
            content = await asyncio.to_thread(read_photo, name if not is_url(photo) else photo, root)
        except UndecodableImage as error:
            raise PhotoGoneError(f"the photo of {image_id}: {error}") from error
        kind = media_type(content)
        if kind is None:
            raise PhotoGoneError(f"the photo of {image_id} is no JPEG, PNG or WebP any more")
        return PhotoBytes(content, kind)

    async def _row(self, image_id: str, columns: Sequence[str] | None = None) -> Mapping[str, object]:
        row = await asyncio.to_thread(self.store.row, image_id, columns)
        if row is None:
            raise UnknownImageError(image_id)
        return row


def _url_of(location: Location) -> str | None:
    """Return the URL by which a client can fetch a photo without us, or None: the photo is read and sent."""
    return str(location) if location.scheme == "https" else storage.presigned_url(location, PRESIGNED_FOR_S)
