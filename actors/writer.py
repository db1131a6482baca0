"""The writer of a collection: the one process of a cluster that commits to it, in groups."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import ray
from numpy.typing import NDArray
from ray.actor import ActorHandle

from lookalike.actors.restart import load
from lookalike.errors import LookalikeError
from lookalike.ingest.attributes import Attributes
from lookalike.ingest.store.alias import alias
from lookalike.ingest.store.collection import Collection
from lookalike.ingest.store.housekeeping import Housekeeping
from lookalike.ingest.store.rows import Source, rows_table
from lookalike.model.descriptor import Descriptors
from lookalike.storage import Location

logger = logging.getLogger(__name__)


class CollectionMovedError(LookalikeError):
    """Another model version of the collection is served by now. Arguments: the collection, that version."""

    def __str__(self) -> str:
        return (
            "the collection {!r} has moved to the model version {}, so this server takes no more changes; start it "
            "again to serve that version, then send the change again"
        ).format(*self.args)


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
    """Put and delete images; each call is one group, durable when it returns.

    What returns was committed while the collection's alias still named this model version, since the alias is read
    after the commit. So whoever moves the alias, and copies what is there then, has everything that was acknowledged.
    """

    def __init__(self, root: Location, collection: str, version: str) -> None:
        self._collection = Collection.open(root, collection, version)

    def put(self, images: Sequence[NewImage]) -> None:
        """Insert or replace images: photos first, then the rows that name them. Of an id given twice the later counts.

        What a killed writer leaves behind is a photo that no row names: a few kilobytes, and nothing is lost.

        Raises
        ------
        CollectionMovedError
            Another model version is served by now.
        StorageUnavailable
            What was sent may be stored or not, or in part. The same again does no harm.
        """
        self._check_served()
        newest = list({image.image_id: image for image in images}.values())
        photos = [self._collection.add_photo(image.image_id, image.photo, image.suffix) for image in newest]
        rows = rows_table(
            [image.image_id for image in newest],
            [image.attributes for image in newest],
            photos,
            Descriptors(np.stack([image.short for image in newest]), np.stack([image.long for image in newest])),
            source=Source.HTTP,
            stamps=[datetime.now(UTC)] * len(newest),
            fingerprints=[None] * len(newest),
        )
        self._collection.put(rows)
        self._check_served()

    def delete(self, image_ids: Sequence[str]) -> list[bool]:
        """Delete images. Returns for each whether it was there. Raises as ``put`` does."""
        self._check_served()
        there, _ = self._collection.delete(image_ids)
        self._check_served()
        return [image_id in there for image_id in image_ids]

    def _check_served(self) -> None:
        served = alias(self._collection.root, self._collection.name)
        if served != self._collection.version:
            raise CollectionMovedError(self._collection.name, served)


class WriterActor(Writer):
    """A writer that tells the shards of its commits, and merges segments meanwhile; the class that Ray runs."""

    def __init__(self, root: Location, collection: str, version: str, shards: Sequence[ActorHandle]) -> None:
        self._shards = tuple(shards)
        self._failed = load(lambda: Writer.__init__(self, root, collection, version))
        if self._failed is None:
            self._housekeeping = Housekeeping(self._collection)
            self._housekeeping.start()
            if ray.get_runtime_context().was_current_actor_reconstructed:
                self._tell(look=True)  # what it committed before it was killed may be in the heads but not in the token

    def put(self, images: Sequence[NewImage]) -> None:
        """As ``Writer.put``."""
        try:
            super().put(images)
        finally:  # after an error some buckets may be committed
            self._tell()

    def delete(self, image_ids: Sequence[str]) -> list[bool]:
        """As ``Writer.delete``."""
        try:
            return super().delete(image_ids)
        finally:
            self._tell()

    def ready(self) -> bool:
        """Answer once the collection is open; raise why it could not be."""
        if self._failed is not None:
            raise self._failed
        return True

    def _tell(self, look: bool = False) -> None:
        """Tell the shards, without waiting: one that does not hear looks by itself."""
        self._housekeeping.poke()
        for shard in self._shards:
            shard.notify.remote(look)


def writer_name(collection: str, version: str) -> str:
    """The name of a writer in Ray."""
    return f"{collection}/{version}/writer"


def find_writer(collection: str, version: str, namespace: str) -> ActorHandle:
    """Find the writer of a collection in this cluster."""
    return ray.get_actor(writer_name(collection, version), namespace=namespace)
