"""A segment: an immutable file of rows, sorted by key, each key once.

    schema | batch | batch | ... | end of stream | index | trailer

The front is an Arrow IPC stream, readable by any Arrow library. The index has one entry for each record batch (first
key, offset, length, rows, CRC-32), so a row is found by one read of its batch, from a disk or from an object store, and
damage is noticed and stays within its batch. The trailer (``_TRAILER``) has the length and the CRC-32 of the index.
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
from lookalike.errors import NotFound, StoreUnavailable
from lookalike.ingest.store.rows import SCHEMA
from lookalike.storage import Location

# 2,048 rows of 2,048 bits are 0.9 MB: one request to an object store, and a thousand checks of a shard of two million.
BATCH_ROWS = 2048
# Segments below this are kept as bytes: they hold no file open.
_SMALL_BYTES = 65_536

_INDEX = np.dtype([("first_key", "<u8"), ("offset", "<u8"), ("length", "<u4"), ("rows", "<u4"), ("crc32", "<u4")])
_TRAILER = struct.Struct("<QI4s8s")  # length and CRC-32 of the index, room, magic
_MAGIC = b"LKSEG002"
_END_OF_STREAM = b"\xff\xff\xff\xff\0\0\0\0"


class SegmentDamaged(StoreUnavailable):
    """A segment, or a batch of it, is missing, cut short or altered. Arguments: location, what is wrong, rows lost."""

    def __str__(self) -> str:
        return "{} is damaged: {}".format(*self.args)

    @property
    def rows(self) -> int:
        """How many rows cannot be read."""
        return int(self.args[2])


@dataclass(frozen=True, slots=True)
class Written:
    """What was written; ``deleted`` of the ``rows`` are tombstones."""

    rows: int
    deleted: int
    size_bytes: int


def write_segment(location: Location, batches: Iterable[pa.RecordBatch]) -> Written:
    """Write record batches of ``SCHEMA``, sorted by key over all of them, as one durable file.

    Raises
    ------
    StorageUnavailable
        Nothing is left then.
    """
    index: list[tuple[int, int, int, int, int]] = []
    deleted = 0
    with storage.create_file(location) as file:
        start = SCHEMA.serialize()
        file.write(start)
        offset = start.size
        for batch in batches:
            content = batch.serialize()
            file.write(content)
            index.append((batch["key"][0].as_py(), offset, content.size, len(batch), zlib.crc32(content)))
            offset += content.size
            deleted += batch["deleted"].true_count
        footer = np.array(index, _INDEX).tobytes()
        trailer = _TRAILER.pack(len(footer), zlib.crc32(footer), b"", _MAGIC)
        file.write(_END_OF_STREAM + footer + trailer)
        size = offset + len(_END_OF_STREAM) + len(footer) + len(trailer)
    return Written(sum(entry[3] for entry in index), deleted, size)


def split(rows: pa.Table) -> Iterator[pa.RecordBatch]:
    """Cut a table into batches of ``BATCH_ROWS`` rows."""
    for start in range(0, len(rows), BATCH_ROWS):
        yield rows.slice(start, BATCH_ROWS).combine_chunks().to_batches()[0]


class Segment:
    """A segment opened for reading; any number of threads may share it.

    Parameters
    ----------
    size_bytes, rows : int
        What the bucket's head says of it: a file of another size is damaged.
    """

    def __init__(self, location: Location, size_bytes: int, rows: int) -> None:
        self.location = location
        self._rows = rows
        self._file = self._open(size_bytes)
        self._index = self._read_index(size_bytes)
        self._checked = np.zeros(len(self._index), bool)

    def _open(self, size_bytes: int) -> pa.NativeFile:
        try:
            if size_bytes < _SMALL_BYTES:
                file = pa.BufferReader(storage.read(self.location))
            else:
                file = storage.open_random(self.location)
        except NotFound:
            raise SegmentDamaged(self.location, "it is missing", self._rows) from None
        if file.size() != size_bytes:
            raise SegmentDamaged(self.location, f"{file.size():,} of {size_bytes:,} bytes are there", self._rows)
        return file

    def _read_index(self, size_bytes: int) -> NDArray[np.void]:
        length, crc32, _, magic = _TRAILER.unpack(self._read(size_bytes - _TRAILER.size, _TRAILER.size))
        if magic != _MAGIC or length % _INDEX.itemsize or length > size_bytes - _TRAILER.size:
            raise SegmentDamaged(self.location, "its end is not that of a segment", self._rows)
        footer = self._read(size_bytes - _TRAILER.size - length, length)
        if zlib.crc32(footer) != crc32:
            raise SegmentDamaged(self.location, "its index is altered", self._rows)
        return np.frombuffer(footer, _INDEX)

    def _read(self, offset: int, length: int) -> pa.Buffer:
        content = self._file.read_at(length, offset) if offset >= 0 else b""
        if len(content) != length:
            raise SegmentDamaged(self.location, "it is too short", self._rows)
        return pa.py_buffer(content)

    def __len__(self) -> int:
        """How many batches there are."""
        return len(self._index)

    def batch(self, number: int) -> pa.RecordBatch:
        """Read a batch; its checksum is compared the first time."""
        entry = self._index[number]
        content = self._read(int(entry["offset"]), int(entry["length"]))
        if not self._checked[number]:
            if zlib.crc32(content) != int(entry["crc32"]):
                raise SegmentDamaged(self.location, f"batch {number} is altered", int(entry["rows"]))
            self._checked[number] = True
        return pa.ipc.read_record_batch(content, SCHEMA)

    def find(self, keys: NDArray[np.uint64], names: Sequence[str]) -> tuple[NDArray[np.int64], pa.Table]:
        """Find rows by key.

        Parameters
        ----------
        keys : ndarray of uint64, shape (n,)

        Returns
        -------
        which : ndarray of int64, shape (m,)
            Which of the keys are here.
        rows : Table of m rows
            In the order of ``which``, with the columns ``names``.
        """
        number = np.searchsorted(self._index["first_key"], keys, side="right") - 1
        which: list[NDArray[np.int64]] = []
        found: list[pa.RecordBatch] = []
        for batch_number in np.unique(number[number >= 0]).tolist():
            batch = self.batch(batch_number)
            here = np.flatnonzero(number == batch_number)
            stored = batch["key"].to_numpy()
            at = np.minimum(np.searchsorted(stored, keys[here]), len(stored) - 1)
            same = stored[at] == keys[here]
            if same.any():
                which.append(here[same])
                found.append(batch.select(list(names)).take(pa.array(at[same])))
        schema = pa.schema([SCHEMA.field(name) for name in names])
        return np.concatenate([np.empty(0, np.int64), *which]), pa.Table.from_batches(found, schema)
