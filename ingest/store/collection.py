"""A collection on disk, encoded by one model version: the only truth; all that is in memory can be lost.

<root>/<collection>/alias                    which model version is served: one small file
<root>/<collection>/<version>/manifest.json  the model's digest, the shape of the codes, the bucket count
                              model/         the model that made the codes
                              head           changes after every commit: the one file that readers poll
                              buckets/NN.lance
                              photos/        what came by HTTP; catalogue photos stay where they are
"""

from __future__ import annotations

import re
import shutil
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, PositiveInt, ValidationError

from lookalike.errors import LookalikeError, StoreMismatch, StoreUnavailable
from lookalike.ingest.store.bucket import Bucket
from lookalike.ingest.store.keys import bucket_of, key_of, keys_of
from lookalike.model.spec import ModelSpec
from lookalike.storage.local import new_folder, write_atomically

COLLECTION_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
BUCKETS = 16


class Manifest(BaseModel):
    """What a collection's codes are; it never changes after the collection is made."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = 1
    model: str
    model_digest: str
    buckets: PositiveInt
    short_words: PositiveInt
    long_words: PositiveInt


def version_of(spec: ModelSpec) -> str:
    """The model version that names a collection's folder; models of other codes never share one."""
    return f"{spec.name}-{spec.version}-{spec.digest()[:8]}"


def schema(short_words: int, long_words: int) -> pa.Schema:
    """The columns of a row. The primary key lets Lance notice two writers that insert one id at once."""
    text, number = pa.string(), pa.float64()
    return pa.schema(
        [
            pa.field("image_id", text, nullable=False, metadata={"lance-schema:unenforced-primary-key": "true"}),
            pa.field("key", pa.uint64(), nullable=False),
            pa.field("listing_id", text),
            pa.field("group", text),
            pa.field("title", text),
            pa.field("description", text),
            pa.field("price", number),
            pa.field("lat", number),
            pa.field("lon", number),
            pa.field("created_at", pa.timestamp("us", tz="UTC")),
            pa.field("colour", text),
            pa.field("brand", text),
            pa.field("photo", text),
            pa.field("fingerprint", pa.uint64()),
            pa.field("short", pa.list_(pa.uint64(), short_words), nullable=False),
            pa.field("long", pa.list_(pa.uint64(), long_words), nullable=False),
        ]
    )


def codes_column(codes: NDArray[np.uint64]) -> pa.FixedSizeListArray:
    """Put codes, uint64 of shape (n, words), into a column without a copy."""
    return pa.FixedSizeListArray.from_arrays(pa.array(codes.reshape(-1)), codes.shape[1])


def codes_array(column: pa.ChunkedArray) -> NDArray[np.uint64]:
    """Take codes out of a column: uint64, shape (n, words)."""
    whole = column.combine_chunks()
    chunks = whole.chunks if isinstance(whole, pa.ChunkedArray) else [whole]
    words = column.type.list_size
    arrays = [chunk.flatten().to_numpy().reshape(-1, words) for chunk in chunks]
    return np.concatenate(arrays) if arrays else np.empty((0, words), np.uint64)


class Store:
    """One collection at one model version. Build it with ``create`` or ``open``."""

    def __init__(self, folder: Path, collection: str, manifest: Manifest) -> None:
        self.folder = folder
        self.collection = collection
        self.manifest = manifest
        self.schema = schema(manifest.short_words, manifest.long_words)
        self.buckets = [Bucket(_bucket_path(folder, number)) for number in range(manifest.buckets)]

    @classmethod
    def create(cls, root: Path, collection: str, model_folder: Path, buckets: int = BUCKETS) -> Store:
        """Open the collection at this model's version, made first if it is not there.

        A new collection is named by its alias at once; an older version stays the one that is served until
        ``publish``. Made beside its place and renamed: a half-made one is never seen, and two makers agree.
        """
        check_name(collection)
        spec = ModelSpec.load(model_folder)
        folder = root / collection / version_of(spec)
        with storage_errors(root):
            if not folder.exists():
                _make_whole(folder, spec, model_folder, buckets)
            store = cls(folder, collection, _read_manifest(folder))
            store.check_model(spec)
            if not (root / collection / "alias").exists():
                store.publish()
        return store

    @classmethod
    def open(cls, root: Path, collection: str, version: str | None = None) -> Store:
        """Open a model version of a collection: the one that its alias names, unless told otherwise.

        Raises
        ------
        StoreUnavailable
            No such collection, or it cannot be read.
        StoreMismatch
            Its own model folder is not the one that made its codes.
        """
        check_name(collection)
        try:
            version = version or (root / collection / "alias").read_text()
        except FileNotFoundError:
            known = ", ".join(collections(root)) or "none"
            raise StoreUnavailable(
                f"no collection {collection!r} in {root} (there: {known}); make one with `lookalike encode`"
            ) from None
        except OSError as error:
            raise StoreUnavailable(f"cannot read {root}: {error}") from error
        folder = root / collection / version
        store = cls(folder, collection, _read_manifest(folder))
        store.check_model(ModelSpec.load(store.model_folder))
        return store

    @property
    def version(self) -> str:
        """The model version: the name of the folder."""
        return self.folder.name

    def publish(self) -> None:
        """Let the collection's alias name this version: servers started from now on serve it."""
        with storage_errors(self.folder):
            write_atomically(self.folder.with_name("alias"), self.version.encode())

    @property
    def model_folder(self) -> Path:
        """The model that made this collection's codes."""
        return self.folder / "model"

    def check_model(self, spec: ModelSpec) -> None:
        """Refuse a model whose codes are not comparable with the stored ones."""
        if spec.digest() != self.manifest.model_digest:
            raise StoreMismatch(
                f"the collection {self.collection!r} in {self.folder.parent.parent} was encoded by the model "
                f"{self.manifest.model} (digest {self.manifest.model_digest}), but the model given is "
                f"{version_of(spec)} (digest {spec.digest()}); serve it with its own model or encode it again"
            )

    def head(self) -> str:
        """A word that changes with every commit."""
        try:
            return (self.folder / "head").read_text()
        except OSError as error:
            raise StoreUnavailable(f"cannot read {self.folder / 'head'}: {error}") from error

    def count(self) -> int:
        """How many images the collection holds."""
        with storage_errors(self.folder):
            return sum(bucket.open().count_rows() for bucket in self.buckets)

    def check_writable(self) -> None:
        """Raise ``StoreUnavailable`` if the collection cannot be written."""
        with storage_errors(self.folder):
            probe = self.folder / f".probe.{uuid.uuid4().hex}"
            write_atomically(probe, b"")
            probe.unlink()

    def upsert(self, rows: pa.Table) -> dict[int, int]:
        """Insert or replace rows by ``image_id``; of an id given twice the later row wins.

        Durable on return. Each bucket commits by itself: when one fails, those before it stay committed,
        and giving the same rows again does no harm. Returns the version committed per bucket.
        """
        rows = _last_of_each(rows.select(self.schema.names).cast(self.schema))
        place = bucket_of(rows["key"].to_numpy(), self.manifest.buckets)
        committed: dict[int, int] = {}
        with storage_errors(self.folder):
            try:
                for number in np.unique(place).tolist():
                    chosen = rows.take(np.flatnonzero(place == number))
                    committed[number] = self.buckets[number].upsert(chosen)
            finally:
                if committed:
                    self._bump_head()
        return committed

    def delete(self, image_ids: Sequence[str]) -> set[str]:
        """Delete rows by id; durable on return. Returns the ids that were there."""
        ids = np.array(sorted(set(image_ids)), object)
        place = bucket_of(keys_of(ids.tolist()), self.manifest.buckets)
        gone: set[str] = set()
        with storage_errors(self.folder):
            try:
                for number in np.unique(place).tolist():
                    gone |= self.buckets[number].delete(ids[place == number].tolist())
            finally:
                if gone:
                    self._bump_head()
        return gone

    def find(self, image_ids: Sequence[str], columns: Sequence[str] | None = None) -> dict[str, dict[str, object]]:
        """Read stored rows by id, from the store and not from memory; unknown ids are left out."""
        ids = np.array(list(image_ids), object)
        place = bucket_of(keys_of(ids.tolist()), self.manifest.buckets)
        names = self.schema.names if columns is None else ["image_id", *columns]
        found: dict[str, dict[str, object]] = {}
        with storage_errors(self.folder):
            for number in np.unique(place).tolist():
                rows = self.buckets[number].find(ids[place == number].tolist(), names)
                found |= {row["image_id"]: row for row in rows.to_pylist()}
        return found

    def compact(self) -> None:
        """Rewrite the buckets that hold many fragments or deleted rows."""
        with storage_errors(self.folder):
            for bucket in self.buckets:
                bucket.compact()
            self._bump_head()

    def add_photo(self, image_id: str, content: bytes, suffix: str) -> str:
        """Keep an uploaded photo, under a name never used again. Returns its location for the ``photo`` column."""
        name = f"{key_of(image_id):016x}-{uuid.uuid4().hex}{suffix}"
        path = self.folder / "photos" / name[:2] / name
        with storage_errors(self.folder):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, content)
        return str(path.resolve())

    def drop_photo(self, location: str) -> None:
        """Remove an uploaded photo; a catalogue's own photo is left alone."""
        path = Path(location)
        if path.is_relative_to((self.folder / "photos").resolve()):
            path.unlink(missing_ok=True)

    def sweep_photos(self) -> int:
        """Remove uploaded photos that no row names: what a writer left that was killed between file and commit.

        Younger ones than an hour are left alone: their commit may be under way. Returns how many were removed.
        """
        with storage_errors(self.folder):
            old = time.time() - 3600
            there = {str(p.resolve()) for p in (self.folder / "photos").glob("*/*") if p.stat().st_mtime < old}
            if there:
                for bucket in self.buckets:
                    for batch in bucket.column_batches(["photo"]):
                        there.difference_update(batch["photo"].to_pylist())
            for location in there:
                self.drop_photo(location)
        return len(there)

    def _bump_head(self) -> None:
        write_atomically(self.folder / "head", _new_head())


def check_name(collection: str) -> None:
    """Raise ``ValueError`` for a name that cannot be a collection's: it becomes a folder's name."""
    if not COLLECTION_NAME.fullmatch(collection):
        raise ValueError(
            f"a collection is named by 1 to 63 of a-z, 0-9, '-' and '_', beginning with a letter or digit; "
            f"not {collection!r}"
        )


def collections(root: Path) -> list[str]:
    """List the collections of a store, by name."""
    return sorted(path.parent.name for path in root.glob("*/alias"))


@contextmanager
def storage_errors(place: Path) -> Iterator[None]:
    """Say what the operating system or Lance could not do as one kind of error."""
    try:
        yield
    except LookalikeError:
        raise
    except (OSError, RuntimeError) as error:  # Lance reports a full disk as either
        reason = " ".join(str(error).split())
        if "No space left" in reason or "os error 28" in reason:
            reason = "the disk is full; free some space and try again"
        raise StoreUnavailable(f"cannot use the store {place}: {reason}") from error


def _bucket_path(folder: Path, number: int) -> Path:
    return folder / "buckets" / f"{number:02d}.lance"


def _new_head() -> bytes:
    return f"{time.time_ns()} {uuid.uuid4().hex}".encode()


def _read_manifest(folder: Path) -> Manifest:
    path = folder / "manifest.json"
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except OSError as error:
        raise StoreUnavailable(f"cannot read {path}: {error}") from error
    except ValidationError as error:
        raise StoreUnavailable(f"{path} is damaged: {error.errors()[0]['msg']}") from error


def _make_whole(folder: Path, spec: ModelSpec, model_folder: Path, buckets: int) -> None:
    manifest = Manifest(
        model=version_of(spec),
        model_digest=spec.digest(),
        buckets=buckets,
        short_words=spec.short_words,
        long_words=spec.long_words,
    )
    try:
        with new_folder(folder) as draft:
            (draft / "buckets").mkdir()
            shutil.copytree(model_folder, draft / "model")
            for number in range(buckets):
                Bucket(_bucket_path(draft, number)).create(schema(spec.short_words, spec.long_words))
            (draft / "head").write_bytes(_new_head())
            (draft / "manifest.json").write_text(manifest.model_dump_json(indent=2) + "\n")
    except OSError:
        if not folder.exists():  # else another process made it first: theirs is as good
            raise


def _last_of_each(rows: pa.Table) -> pa.Table:
    last = {image_id: row for row, image_id in enumerate(rows["image_id"].to_pylist())}
    return rows if len(last) == len(rows) else rows.take(sorted(last.values()))
