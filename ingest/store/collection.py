"""A collection, encoded by one model version: the only truth; all that is in memory can be lost.

    <root>/<collection>/alias                     which model version is served
                        sources.json              the folders of the catalogues that it was made from
                        photos/                   what came by HTTP
                        trash/                    what nobody needs any more, for two days
                        <version>/manifest.json   the shape of the codes, the bucket count; written last
                                  model/          the model that made the codes
                                  token           changes after every commit: the one object that readers poll
                                  buckets/NN/     a head and segments

On a disk and on an object store alike: see ``lookalike.storage``.
"""

from __future__ import annotations

import contextlib
import logging
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from lookalike import storage
from lookalike.errors import (
    BadModel,
    Conflict,
    LookalikeError,
    NotFound,
    StorageUnavailable,
    StoreMismatch,
    StoreUnavailable,
)
from lookalike.ingest.store import photos, resolve
from lookalike.ingest.store.alias import alias, move_alias, versions
from lookalike.ingest.store.bucket import MAX_LOOK_UPS, Bucket, Commit, Resolve
from lookalike.ingest.store.compaction import Compactor
from lookalike.ingest.store.keys import bucket_of, keys_of
from lookalike.ingest.store.manifest import DEFAULT_BUCKETS, check_name, read_manifest, read_spec, version_of
from lookalike.ingest.store.new_version import make_version
from lookalike.ingest.store.resolve import Stored
from lookalike.ingest.store.rows import SCHEMA, Source, check_rows, last_of_each_key, tombstones_table
from lookalike.ingest.store.trash import Trash
from lookalike.model.spec import ModelSpec
from lookalike.storage import Location

logger = logging.getLogger(__name__)

T = TypeVar("T")

# Buckets committed at once: on a disk each waits for its own fsyncs, on an object store for its own answers.
_COMMITTERS = 8


@dataclass(frozen=True)
class Written:
    """What a write did: how many rows were written (of a catalogue: images), and the commits by bucket."""

    rows: int
    commits: dict[int, Commit]


class Collection:
    """One collection at one model version. Build it with ``create`` or ``open``."""

    def __init__(self, root: Location, name: str, version: str) -> None:
        self.root = root
        self.name = name
        self.version = version
        self.folder = root / name
        self.location = self.folder / version
        self.manifest = read_manifest(self.location)
        self.spec = read_spec(self.model_location)
        self._check_model(self.spec)
        self.sources = photos.Sources(self.folder)
        count = self.manifest.buckets
        self.buckets = [Bucket(self.location / f"buckets/{number:04d}") for number in range(count)]
        self._trash = Trash(self.folder)
        self._compactors = [Compactor(bucket, self._trash.move, self._drop_photos) for bucket in self.buckets]
        self._pool = ThreadPoolExecutor(min(_COMMITTERS, count), thread_name_prefix="commit")

    @classmethod
    def create(cls, root: Location, name: str, model: Location, buckets: int = DEFAULT_BUCKETS) -> Collection:
        """Open the collection at this model's version, made first if it is not there.

        A new collection's alias names this version at once; where there is an older version, that one stays the one
        that is served until ``publish``. The manifest is written last, so a half-made version is never seen, and two
        makers agree.
        """
        check_name(name)
        spec = read_spec(model)
        version = version_of(spec)
        location = root / name / version
        if not storage.exists(location / "manifest.json"):
            make_version(location, spec, model, buckets)
        collection = cls(root, name, version)
        collection._check_model(spec)
        with contextlib.suppress(Conflict):  # another version is served, or this one was named before
            storage.create(root / name / "alias", version.encode())
        return collection

    @classmethod
    def open(cls, root: Location, name: str, version: str | None = None) -> Collection:
        """Open a model version of a collection: the one that its alias names, unless another is given.

        Raises
        ------
        StoreUnavailable
            No such collection, or it is damaged.
        StoreMismatch
            Its own model folder is not the one that made its codes.
        StorageUnavailable
            It cannot be read now.
        """
        check_name(name)
        return cls(root, name, version or alias(root, name))

    @property
    def model_location(self) -> Location:
        """The model that made this collection's codes."""
        return self.location / "model"

    def _check_model(self, spec: ModelSpec) -> None:
        """Refuse a model whose codes are not comparable with the stored ones."""
        if spec.digest() != self.manifest.model_digest:
            raise StoreMismatch(
                f"the collection {self.name!r} in {self.root} was encoded by the model {self.manifest.model} "
                f"(digest {self.manifest.model_digest}), but the model given is {version_of(spec)} "
                f"(digest {spec.digest()}); serve it with its own model or encode it again"
            )

    def publish(self) -> None:
        """Let the collection's alias name this version: servers started from now on serve it."""
        move_alias(self.folder, self.version)

    def check_writable(self) -> None:
        """Raise ``StorageUnavailable`` if the collection cannot be written."""
        probe = self.location / f"probe-{uuid.uuid4().hex}"
        storage.write(probe, b"")
        storage.remove(probe)

    @property
    def token_location(self) -> Location:
        """An object that changes after every commit."""
        return self.location / "token"

    @property
    def report_location(self) -> Location:
        """What the last encoding job left out, and why."""
        return self.location / "report.jsonl"

    def put(self, rows: pa.Table) -> Written:
        """Insert or replace what clients send: newer than whatever is stored. Durable on return.

        Each bucket commits by itself: when one fails, the others stay committed, and the same again does no harm.
        """
        return self._write(rows, resolve.put)

    def delete(self, image_ids: Sequence[str]) -> tuple[set[str], Written]:
        """Delete images. Durable on return. Returns the ids that were there, or may have been in a damaged part."""
        written = self._write(tombstones_table(sorted(set(image_ids)), source=Source.HTTP), resolve.delete)
        there = set()
        for image_id, key in zip(image_ids, keys_of(image_ids), strict=True):
            commit = written.commits[int(bucket_of(np.array([key]), self.manifest.buckets)[0])]
            if commit.may_have_been_live(key):
                there.add(image_id)
        return there, written

    def take_in(self, rows: pa.Table) -> Written:
        """Write a catalogue's rows, less those that are unchanged, or older than what a client did. Durable."""
        written = self._write(rows, resolve.take_in)
        return Written(sum(c.written - c.deleted for c in written.commits.values()), written.commits)

    def copy_in(self, rows: pa.Table) -> Written:
        """Write rows of another model version, tombstones too, where they are newer. Durable."""
        return self._write(rows, resolve.copy)

    def _write(self, rows: pa.Table, decide: Resolve) -> Written:
        rows = check_rows(rows, self.manifest.short_words, self.manifest.long_words)
        number = bucket_of(rows["key"].to_numpy(), self.manifest.buckets)
        touched = np.unique(number).tolist()

        def commit(bucket: int) -> Commit | LookalikeError:
            try:
                mine = rows if len(touched) == 1 else rows.take(pa.array(np.flatnonzero(number == bucket)))
                return self.buckets[bucket].commit(mine, decide)
            except LookalikeError as error:  # raised when the others are done
                return error

        outcomes = dict(zip(touched, self._each(commit, touched), strict=True))
        commits = {bucket: outcome for bucket, outcome in outcomes.items() if isinstance(outcome, Commit)}
        written = sum(outcome.written for outcome in commits.values())
        if written:
            self._change_token()
        for outcome in outcomes.values():
            if isinstance(outcome, LookalikeError):
                raise outcome
        return Written(written, commits)

    def _each(self, function: Callable[[int], T], buckets: Sequence[int]) -> Iterator[T]:
        """Call a function for each bucket, several at once: another thread costs more than a small commit."""
        return self._pool.map(function, buckets) if len(buckets) > 1 else map(function, buckets)

    def _change_token(self) -> None:
        """Tell those who poll. The rows are committed: a token that cannot be written delays readers, no more."""
        try:
            storage.write(self.token_location, uuid.uuid4().hex.encode(), durable=False)
        except StorageUnavailable:
            logger.warning("the rows are stored, but readers will see them late", exc_info=True)

    def find(self, image_ids: Sequence[str], names: Sequence[str] | None = None) -> dict[str, dict[str, object]]:
        """Read stored rows by id, from the store and not from memory.

        Unknown and deleted ones are left out, and so are those of which only a damaged part of the store has a row.
        """
        columns = list(SCHEMA.names if names is None else dict.fromkeys([*names, "image_id", "deleted"]))
        wanted = sorted(set(image_ids))
        found: dict[str, dict[str, object]] = {}
        for _, rows, _ in self._find(keys_of(wanted), columns):
            found |= {row["image_id"]: row for row in rows.filter(pc.invert(rows["deleted"])).to_pylist()}
        return {image_id: found[image_id] for image_id in wanted if image_id in found}

    def row(self, image_id: str, names: Sequence[str] | None = None) -> dict[str, object] | None:
        """Read one stored row; None if there is none.

        Raises
        ------
        StoreUnavailable
            None was found, but a damaged part of the store may have it.
        """
        row = self.find([image_id], names).get(image_id)
        if row is None and self.stored(keys_of([image_id])).unreadable[0]:
            raise StoreUnavailable(
                f"whether there is {image_id!r} cannot be said: a part of {self.location.shown} is damaged"
            )
        return row

    def stored(self, keys: NDArray[np.uint64]) -> Stored:
        """Look up stamps and fingerprints; ``keys`` uint64 (n,), each once, in any order."""
        which, tables, unreadable = [np.empty(0, np.int64)], [], np.zeros(len(keys), bool)
        for here, rows, lost in self._find(keys, resolve.COLUMNS):
            which.append(here)
            tables.append(rows)
            unreadable[lost] = True
        schema = pa.schema([SCHEMA.field(name) for name in resolve.COLUMNS])
        rows = pa.concat_tables([schema.empty_table(), *tables])
        return resolve.stored_of(len(keys), np.concatenate(which), rows, unreadable)

    def _find(
        self, keys: NDArray[np.uint64], names: Sequence[str]
    ) -> Iterator[tuple[NDArray[np.int64], pa.Table, NDArray[np.int64]]]:
        """For each bucket: which of the keys were found, their rows, and which may lie in a damaged part."""
        number = bucket_of(keys, self.manifest.buckets)

        def find(bucket: int) -> tuple[NDArray[np.int64], pa.Table, NDArray[np.int64]]:
            wanted = np.flatnonzero(number == bucket)
            which, rows, unreadable = self.buckets[bucket].look_up(keys[wanted], names)
            return wanted[which], rows, wanted[unreadable]

        yield from self._each(find, np.unique(number).tolist())

    def rows_at_most(self) -> int:
        """How many rows the heads list: replaced ones that no merge has left out yet are counted too."""
        return sum(self._each(lambda number: self.buckets[number].head().rows, range(len(self.buckets))))

    def count(self) -> int:
        """Count the images exactly: reads all rows, bucket by bucket.

        Raises
        ------
        StoreUnavailable
            A part is damaged.
        """
        return sum(len(live) for live in map(self.live_keys, range(self.manifest.buckets)))

    def live_keys(self, bucket: int) -> NDArray[np.uint64]:
        """The keys of a bucket's images, ascending: uint64 (n,)."""
        for _ in range(MAX_LOOK_UPS):
            with contextlib.suppress(Conflict):  # segments are put away ten minutes after their merge
                return self._live_keys(self.buckets[bucket])
        return self._live_keys(self.buckets[bucket])

    def _live_keys(self, bucket: Bucket) -> NDArray[np.uint64]:
        keys, deleted = [np.empty(0, np.uint64)], [np.empty(0, bool)]
        for batch in bucket.changes(bucket.head(), 0, ("key", "deleted"), _raise):
            keys.append(batch["key"].to_numpy().copy())  # a view would keep the whole batch
            deleted.append(batch["deleted"].to_numpy(zero_copy_only=False))
        newest = last_of_each_key(pa.table({"key": np.concatenate(keys), "deleted": np.concatenate(deleted)}))
        live: NDArray[np.uint64] = newest.filter(pc.invert(newest["deleted"]))["key"].to_numpy()
        return live

    def add_photo(self, image_id: str, content: bytes, suffix: str) -> str:
        """Keep an uploaded photo. Returns what the ``photo`` column says of it."""
        return photos.upload(self.folder, image_id, content, suffix, uuid.uuid4().hex[:12])

    def drop_photo(self, image_id: str, photo: str) -> None:
        """Move an uploaded photo to the trash unless a row of some version has it."""
        self._drop_photos(pa.table({"image_id": [image_id], "photo": [photo]}))

    def _drop_photos(self, replaced: pa.Table) -> None:
        """Move the uploads among photos (image_id, photo) to the trash, less those that a row has, or may have."""
        uploads = {
            row["photo"]: row["image_id"] for row in replaced.to_pylist() if photos.is_upload(row["photo"] or "")
        }
        if not uploads or not self._is_served():
            return
        for version in versions(self.root, self.name):
            try:
                other = self if version == self.version else Collection(self.root, self.name, version)
                for photo in other._named(uploads):
                    del uploads[photo]
            except (StoreUnavailable, StoreMismatch, BadModel) as error:  # who knows what it names
                logger.warning("the photos of %d replaced rows are kept: %s", len(uploads), error)
                return
        for photo in uploads:
            with contextlib.suppress(NotFound):  # another merge was faster
                self._trash.move(self.folder / photo)

    def _is_served(self) -> bool:
        """Whether the alias names this version: another may be reading the photos of rows that it takes over."""
        try:
            return alias(self.root, self.name) == self.version
        except StoreUnavailable:
            return False

    def _named(self, uploads: dict[str, str]) -> list[str]:
        """Which of some photos, given with their images, this version's rows name, or may name."""
        image_ids = sorted(set(uploads.values()))
        keys = keys_of(image_ids)
        photo_of: dict[str, str] = {}
        unreadable: set[str] = set()
        for _, rows, lost in self._find(keys, ["image_id", "photo", "deleted"]):
            photo_of |= {row["image_id"]: row["photo"] for row in rows.to_pylist()}
            unreadable |= {image_ids[number] for number in lost.tolist()}
        return [
            photo for photo, image_id in uploads.items() if image_id in unreadable or photo_of.get(image_id) == photo
        ]

    def compact(self, stop: Callable[[], bool] = lambda: False) -> int:
        """Do every merge that is due, and empty the trash of two days ago. Returns how many merges there were.

        Raises
        ------
        StorageUnavailable
            The first error: a bucket that is damaged or out of reach does not keep the others from being merged.
        """
        merges = 0
        errors: list[LookalikeError] = []
        for compactor in self._compactors:
            try:
                while not stop() and compactor.run(stop):
                    merges += 1
            except LookalikeError as error:
                errors.append(error)
        self._trash.empty()
        if errors:
            raise errors[0]
        return merges


def _raise(error: Exception) -> None:
    raise error
