"""The writer of a collection: the one process of a cluster that commits to it, in groups."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import ray
from numpy.typing import NDArray
from ray.actor import ActorHandle

from lookalike.errors import StoreUnavailable
from lookalike.ingest.attributes import Attributes
from lookalike.ingest.store.collection import Collection, alias
from lookalike.ingest.store.housekeeping import Housekeeping
from lookalike.ingest.store.rows import Source, rows_table
from lookalike.model.descriptor import Descriptors
from lookalike.storage import Location

logger = logging.getLogger(__name__)

# How long a writer may go on after the alias was moved to another model version: the move waits for longer than that.
ALIAS_CHECK_S = 1.0


@dataclass(frozen=True)
class NewImage:
    """An image to insert or replace.

    Attributes
    ----------
    photo : bytes
        JPEG, PNG or WebP.
    suffix : str
        Of its file, ``.jpg``.
    short, long : ndarray of uint64, shape (words,)
        Its codes.
    """

    image_id: str
    attributes: Attributes
    photo: bytes
    suffix: str
    short: NDArray[np.uint64]
    long: NDArray[np.uint64]


class Writer:
    """Put and delete images; each call is one group, durable when it returns."""

    def __init__(self, root: Location, collection: str, version: str) -> None:
        self._collection = Collection.open(root, collection, version)
        self._checked = 0.0

    def put(self, images: Sequence[NewImage]) -> None:
        """Insert or replace images: photos first, then the rows that name them.

        What a killed writer leaves behind is a photo that no row names: a few kilobytes, and nothing is lost.
        """
        self._check_served()
        now = datetime.now(UTC)
        photos = [self._collection.add_photo(image.image_id, image.photo, image.suffix) for image in images]
        rows = rows_table(
            [image.image_id for image in images],
            [image.attributes for image in images],
            photos,
            Descriptors(np.stack([image.short for image in images]), np.stack([image.long for image in images])),
            source=Source.HTTP,
            stamps=[now] * len(images),
            fingerprints=[None] * len(images),
        )
        self._collection.put(rows)

    def delete(self, image_ids: Sequence[str]) -> list[bool]:
        """Delete images. Returns for each whether it was there."""
        self._check_served()
        there, _ = self._collection.delete(image_ids)
        return [image_id in there for image_id in image_ids]

    def _check_served(self) -> None:
        """Refuse to write to a model version that is no longer the one that the collection's alias names."""
        now = time.monotonic()
        if now - self._checked < ALIAS_CHECK_S:
            return
        served = alias(self._collection.root, self._collection.name)
        if served != self._collection.version:
            raise StoreUnavailable(
                f"the collection {self._collection.name!r} has moved to the model version {served}; "
                f"start the server again to serve it"
            )
        self._checked = now


class WriterActor(Writer):
    """A writer that tells the shards of its commits, and merges segments meanwhile; the class that Ray runs."""

    def __init__(self, root: Location, collection: str, version: str, shards: Sequence[ActorHandle]) -> None:
        super().__init__(root, collection, version)
        self._shards = tuple(shards)
        self._housekeeping = Housekeeping(self._collection)
        self._housekeeping.start()

    def put(self, images: Sequence[NewImage]) -> None:
        """As ``Writer.put``."""
        try:
            super().put(images)
        finally:
            self._committed()

    def delete(self, image_ids: Sequence[str]) -> list[bool]:
        """As ``Writer.delete``."""
        try:
            return super().delete(image_ids)
        finally:
            self._committed()

    def ready(self) -> bool:
        """Answer once the collection is open."""
        return True

    def _committed(self) -> None:
        """Tell the shards, without waiting: one that does not hear looks by itself."""
        self._housekeeping.poke()
        for shard in self._shards:
            shard.notify.remote()


def writer_name(collection: str, version: str) -> str:
    """The name of a writer in Ray."""
    return f"{collection}-{version}-writer"


def find_writer(collection: str, version: str, namespace: str) -> ActorHandle:
    """Find the writer of a collection in this cluster."""
    return ray.get_actor(writer_name(collection, version), namespace=namespace)
