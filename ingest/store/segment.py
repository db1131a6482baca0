"""A segment: an immutable file of rows, sorted by key, each key once.

    schema | batch | batch | ... | end of stream | keys | index | trailer

The front is an Arrow IPC stream, readable by any Arrow library. ``keys`` has every row's key as uint64, so that a
look-up in a segment without the row reads 16 KB and no batch. The index (``_INDEX``) has one entry for each batch, with
the checksums of the batch and of its keys: damage is noticed by whoever reads it, and stays within its batch. The
trailer (``_TRAILER``) has the length and the checksum of the index, and that of the schema.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lookalike import storage
from lookalike.errors import Conflict, NotFound, StorageUnavailable, StoreUnavailable
from lookalike.ingest.store.rows import SCHEMA
from lookalike.storage import Location

# 2,048 rows of 2,048 bits are 0.9 MB: one request to an object store, and a thousand checks of a shard of two million.
BATCH_ROWS = 2048
# Rows with long descriptions come in batches of fewer, so that a look-up and a merge hold a known amount.
MAX_BATCH_BYTES = 8 << 20
# Segments below this are kept as bytes: they hold no file open.
_SMALL_BYTES = 65_536

_INDEX = np.dtype(
    [
        ("first_key", "<u8"),
        ("offset", "<u8"),
        ("length", "<u4"),
        ("rows", "<u4"),
        ("crc32", "<u4"),
        ("keys_crc32", "<u4"),
    ]
)
_TRAILER = struct.Struct("<QII8s")  # length and CRC-32 of the index, CRC-32 of the schema's message, magic
_MAGIC = b"LKSEG002"
_END_OF_STREAM = b"\xff\xff\xff\xff\0\0\0\0"
_KEY_BYTES = 8
_SCHEMA_MESSAGE = SCHEMA.serialize().to_pybytes()
_SCHEMA_CRC32 = zlib.crc32(_SCHEMA_MESSAGE)


class SegmentDamaged(StoreUnavailable):
    """A segment, or a batch of it, is cut short or altered. Arguments: location, what is wrong, rows lost."""

    def __str__(self) -> str:
        return (
            "{} is damaged: {}. Up to {:,} rows cannot be read until the file is put back from a copy of the store, "
            "or their images are written again"
        ).format(*self.args)

    @property
    def rows(self) -> int:
        """How many rows cannot be read."""
        return int(self.args[2])


class SegmentMissing(SegmentDamaged):
    """A segment is not there: somebody removed it, or it was merged long ago and the reader's head is old."""


@dataclass(frozen=True, slots=True)
class Written:
    """What was written; ``deleted`` of the ``rows`` are tombstones."""

    rows: int
    deleted: int
    size_bytes: int


@dataclass(frozen=True)
class Found:
    """Rows of a segment that were looked up by key.

    Attributes
    ----------
    which : ndarray of int64, shape (m,)
        Which of the keys are here.
    rows : Table of m rows
        In the order of ``which``.
    unreadable : ndarray of int64
        Which of the keys may be in damaged parts.
    errors : list of SegmentDamaged
        What is wrong with those.
    """

    which: NDArray[np.int64]
    rows: pa.Table
    unreadable: NDArray[np.int64]
    errors: list[SegmentDamaged]


def write_segment(location: Location, batches: Iterable[pa.RecordBatch]) -> Written:
    """Write record batches of ``SCHEMA``, sorted by key over all of them, as one durable file.

    Raises
    ------
    StorageUnavailable
        Nothing is left then.
    """
    index: list[tuple[int, int, int, int, int, int]] = []
    keys: list[bytes] = []
    deleted = 0
    with storage.create_file(location) as file:
        file.write(_SCHEMA_MESSAGE)
        offset = len(_SCHEMA_MESSAGE)
        for batch in batches:
            content = batch.serialize()
            file.write(content)
            column = batch["key"].to_numpy()
            keys.append(column.astype("<u8", copy=False).tobytes())
            checksums = zlib.crc32(content), zlib.crc32(keys[-1])
            index.append((int(column[0]), offset, content.size, len(batch), *checksums))
            offset += content.size
            deleted += batch["deleted"].true_count
        footer = np.array(index, _INDEX).tobytes()
        trailer = _TRAILER.pack(len(footer), zlib.crc32(footer), _SCHEMA_CRC32, _MAGIC)
        end = b"".join([_END_OF_STREAM, *keys, footer, trailer])
        file.write(end)
    return Written(sum(entry[3] for entry in index), deleted, offset + len(end))


def split(rows: pa.Table) -> Iterator[pa.RecordBatch]:
    """Cut a table into batches of at most ``BATCH_ROWS`` rows and about ``MAX_BATCH_BYTES``."""
    for start in range(0, len(rows), BATCH_ROWS):
        yield from _bounded(rows.slice(start, BATCH_ROWS).combine_chunks().to_batches()[0])


def _bounded(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    if batch.nbytes <= MAX_BATCH_BYTES or len(batch) == 1:
        yield batch
        return
    half = len(batch) // 2
    yield from _bounded(batch.slice(0, half))
    yield from _bounded(batch.slice(half))


class Segment:
    """A segment opened for reading; any number of threads may share it.

    Parameters
    ----------
    size_bytes, rows : int
        What the bucket's head says of it: a file of another size is damaged.

    Raises
    ------
    SegmentMissing, SegmentDamaged
    StoreUnavailable
        It was written by a newer version.
    StorageUnavailable
        It cannot be read now.
    """

    def __init__(self, location: Location, size_bytes: int, rows: int) -> None:
        self.location = location
        self._rows = rows
        self._file = self._open(size_bytes)
        self._index, schema_crc32, self._keys_offset = self._read_index(size_bytes)
        self._first_rows = np.cumsum(self._index["rows"], dtype=np.int64) - self._index["rows"]
        self._schema = SCHEMA if schema_crc32 == _SCHEMA_CRC32 else self._read_schema(schema_crc32)

    def _open(self, size_bytes: int) -> pa.NativeFile:
        try:
            if size_bytes < _SMALL_BYTES:
                file = pa.BufferReader(storage.read(self.location))
            else:
                file = storage.open_random(self.location, keep_blocks=False)
        except NotFound:
            raise SegmentMissing(self.location, "it is missing", self._rows) from None
        if file.size() != size_bytes:
            raise self._damage(f"{file.size():,} of {size_bytes:,} bytes are there")
        return file

    def _read_index(self, size_bytes: int) -> tuple[NDArray[np.void], int, int]:
        trailer = self._read(size_bytes - _TRAILER.size, _TRAILER.size, self._rows)
        length, crc32, schema_crc32, magic = _TRAILER.unpack(trailer)
        offset = size_bytes - _TRAILER.size - length
        if magic != _MAGIC or length % _INDEX.itemsize or offset < 0:
            raise self._damage("its end is not that of a segment")
        footer = self._read(offset, length, self._rows)
        if zlib.crc32(footer) != crc32:
            raise self._damage("its index is altered")
        index = np.frombuffer(footer, _INDEX)
        if int(index["rows"].sum()) != self._rows:
            raise self._damage("it is another segment")
        return index, schema_crc32, offset - self._rows * _KEY_BYTES

    def _read_schema(self, crc32: int) -> pa.Schema:
        """Read the schema of a segment that was written when there were other attributes."""
        message = self._read(0, int(self._index["offset"][0]) if len(self._index) else 0, self._rows)
        if zlib.crc32(message) != crc32:
            raise self._damage("its schema is altered")
        schema: pa.Schema = pa.ipc.read_schema(pa.py_buffer(message))
        unknown = [field.name for field in schema if field.name not in SCHEMA.names]
        if unknown:
            raise StoreUnavailable(
                f"{self.location.shown} has the columns {', '.join(unknown)}, which this lookalike does not know and "
                f"would lose in a merge; update it"
            )
        return schema

    def _read(self, offset: int, length: int, rows: int) -> bytes:
        try:
            content: bytes = self._file.read_at(length, offset) if offset >= 0 else b""
        except NotFound:
            raise SegmentMissing(self.location, "it is missing", self._rows) from None
        except Conflict as error:
            raise self._damage(str(error)) from error
        except OSError as error:
            raise StorageUnavailable(f"cannot read {self.location.shown}: {error}") from error
        if len(content) != length:
            raise self._damage("it is too short", rows)
        return content

    def _damage(self, reason: str, rows: int | None = None) -> SegmentDamaged:
        return SegmentDamaged(self.location, reason, self._rows if rows is None else rows)

    def __len__(self) -> int:
        """How many batches there are."""
        return len(self._index)

    def batch(self, number: int) -> pa.RecordBatch:
        """Read a batch, and compare its checksum.

        Raises
        ------
        SegmentDamaged, StorageUnavailable
        """
        entry = self._index[number]
        rows = int(entry["rows"])
        content = self._read(int(entry["offset"]), int(entry["length"]), rows)
        if zlib.crc32(content) != int(entry["crc32"]):
            raise self._damage(f"batch {number} is altered", rows)
        batch = pa.ipc.read_record_batch(pa.py_buffer(content), self._schema)
        return batch if self._schema is SCHEMA else _of_today(batch)

    def keys(self, number: int) -> NDArray[np.uint64]:
        """Read the keys of a batch, out of the batch itself if need be: uint64 (rows,), ascending.

        Raises
        ------
        SegmentDamaged, StorageUnavailable
        """
        entry = self._index[number]
        rows = int(entry["rows"])
        offset = self._keys_offset + int(self._first_rows[number]) * _KEY_BYTES
        content = self._read(offset, rows * _KEY_BYTES, rows)
        if zlib.crc32(content) != int(entry["keys_crc32"]):
            keys: NDArray[np.uint64] = self.batch(number)["key"].to_numpy()
            return keys
        return np.frombuffer(content, "<u8")

    def find(self, keys: NDArray[np.uint64], names: Sequence[str]) -> Found:
        """Find rows by key.

        Parameters
        ----------
        keys : ndarray of uint64, shape (n,)
        names : sequence of str
            The columns to read.
        """
        number = np.searchsorted(self._index["first_key"], keys, side="right") - 1
        nothing = np.empty(0, np.int64)
        which, unreadable = [nothing], [nothing]
        found: list[pa.RecordBatch] = []
        errors: list[SegmentDamaged] = []
        for batch_number in np.unique(number[number >= 0]).tolist():
            here = np.flatnonzero(number == batch_number)
            try:
                stored = self.keys(batch_number)
                at = np.minimum(np.searchsorted(stored, keys[here]), len(stored) - 1)
                same = stored[at] == keys[here]
                here, at = here[same], at[same]
                if len(here):
                    found.append(self.batch(batch_number).select(list(names)).take(pa.array(at)))
                    which.append(here)
            except SegmentMissing:
                raise
            except SegmentDamaged as error:
                errors.append(error)
                unreadable.append(here)
        schema = pa.schema([SCHEMA.field(name) for name in names])
        return Found(np.concatenate(which), pa.Table.from_batches(found, schema), np.concatenate(unreadable), errors)


def _of_today(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Give a batch the columns of ``SCHEMA``: attributes that did not exist yet are unknown."""
    columns = [
        batch[field.name].cast(field.type) if field.name in batch.schema.names else pa.nulls(len(batch), field.type)
        for field in SCHEMA
    ]
    return pa.RecordBatch.from_arrays(columns, schema=SCHEMA)
