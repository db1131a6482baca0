"""What a collection must hold, by the rules of its documentation, in a dictionary; and a follower of commits."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from lookalike.errors import Conflict
from lookalike.ingest.store.collection import Collection
from lookalike.ingest.store.rows import Source

Image = tuple[str, int]
"""Title and stamp in microseconds."""


@dataclass(frozen=True)
class Row:
    """The newest row of an image, or its tombstone; ``stamp`` in microseconds since 1970."""

    title: str | None
    stamp: int
    source: Source
    fingerprint: int | None = None

    @property
    def deleted(self) -> bool:
        return self.title is None


@dataclass
class Oracle:
    """Rows by image id."""

    rows: dict[str, Row] = field(default_factory=dict)

    def put(self, image_id: str, title: str | None, stamp: int) -> None:
        was = self.rows.get(image_id)
        if was is not None:
            stamp = max(stamp, was.stamp + 1)
        self.rows[image_id] = Row(title, stamp, Source.HTTP, was.fingerprint if was else None)

    def delete(self, image_id: str, stamp: int) -> bool:
        if image_id not in self.images:
            return False
        self.put(image_id, None, stamp)
        return True

    def take_in(self, image_id: str, title: str, stamp: int, fingerprint: int) -> None:
        was = self.rows.get(image_id)
        if was is None:
            self.rows[image_id] = Row(title, stamp, Source.CATALOGUE, fingerprint)
        elif was.fingerprint == fingerprint:
            return
        elif was.source is Source.CATALOGUE:
            self.rows[image_id] = Row(title, max(stamp, was.stamp + 1), Source.CATALOGUE, fingerprint)
        elif stamp > was.stamp:
            self.rows[image_id] = Row(title, stamp, Source.CATALOGUE, fingerprint)
        elif was.deleted:
            self.rows[image_id] = replace(was, fingerprint=fingerprint)

    def copy_in(self, image_id: str, row: Row) -> None:
        was = self.rows.get(image_id)
        if was is None or row.stamp > was.stamp:
            self.rows[image_id] = row

    @property
    def images(self) -> dict[str, Image]:
        return {i: (row.title, row.stamp) for i, row in self.rows.items() if row.title is not None}


@dataclass
class Follower:
    """Applies the commits of all buckets, as a shard does."""

    applied: dict[int, int] = field(default_factory=dict)
    held: dict[int, dict[str, Image]] = field(default_factory=dict)

    def copy(self) -> Follower:
        return Follower(dict(self.applied), {bucket: dict(images) for bucket, images in self.held.items()})

    def follow(self, collection: Collection) -> None:
        for number in range(len(collection.buckets)):
            try:
                self._follow(collection, number)
            except Conflict:  # a merge went past: begin again from the newer head
                self._follow(collection, number)

    def _follow(self, collection: Collection, number: int) -> None:
        bucket = collection.buckets[number]
        head = bucket.head()
        if self.applied.get(number, 0) < head.tombstones_dropped_to:
            self.applied[number], self.held[number] = 0, {}
        held = self.held.setdefault(number, {})
        after = self.applied.get(number, 0)
        names = ("image_id", "deleted", "title", "stamp", "sequence")
        for batch in bucket.changes(head, after, names, raise_):
            for row in batch.to_pylist():
                assert after < row["sequence"] <= head.sequence
                if row["deleted"]:
                    held.pop(row["image_id"], None)
                else:
                    held[row["image_id"]] = row["title"], microseconds(row["stamp"])
        self.applied[number] = head.sequence

    @property
    def images(self) -> dict[str, Image]:
        return {image_id: image for images in self.held.values() for image_id, image in images.items()}


def raise_(error: Exception) -> None:
    raise error


def microseconds(moment: object) -> int:
    """Microseconds since 1970, exactly."""
    from datetime import UTC, datetime, timedelta

    assert isinstance(moment, datetime)
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
