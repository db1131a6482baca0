"""A row of the store: its columns, derived from the table of attributes, and tables of rows."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from lookalike.ingest.attributes import Attributes, columns
from lookalike.ingest.store.keys import keys_of
from lookalike.model.descriptor import Descriptors


class Source(enum.IntEnum):
    """Which way a row came."""

    CATALOGUE = 1
    HTTP = 2


# The codes are of variable length so that a tombstone, which has none, takes no room for them.
SCHEMA: Final = pa.schema(
    [
        pa.field("key", pa.uint64(), nullable=False),
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("deleted", pa.bool_(), nullable=False),
        pa.field("sequence", pa.uint64(), nullable=False),
        pa.field("stamp", pa.timestamp("us", tz="UTC"), nullable=False),
        pa.field("source", pa.uint8(), nullable=False),
        pa.field("fingerprint", pa.uint64()),
        pa.field("photo", pa.string()),
        *(pa.field(name, column.arrow) for name, column in columns().items()),
        pa.field("short", pa.binary(), nullable=False),
        pa.field("long", pa.binary(), nullable=False),
    ]
)


def rows_table(
    image_ids: Sequence[str],
    attributes: Sequence[Attributes],
    photos: Sequence[str],
    codes: Descriptors,
    *,
    source: Source,
    stamps: Sequence[datetime],
    fingerprints: Sequence[int | None],
) -> pa.Table:
    """Put n images together as rows: a table of ``SCHEMA``.

    Parameters
    ----------
    attributes : sequence of Attributes
        An empty listing id becomes the image id.
    photos : sequence of str
        Locations as ``Collection.photo_location`` reads them.
    codes : Descriptors
        n short and long codes.
    stamps : sequence of datetime
        When the source of each row changed.
    fingerprints : sequence of int or None
        Hashes of all that the catalogue says of each image; None for rows that did not come by one.
    """
    count = len(image_ids)
    listing_ids = [a.listing_id or i for a, i in zip(attributes, image_ids, strict=True)]
    values: dict[str, object] = {
        "key": keys_of(image_ids),
        "image_id": image_ids,
        "deleted": np.zeros(count, bool),
        "sequence": np.zeros(count, np.uint64),
        "stamp": stamps,
        "source": np.full(count, source, np.uint8),
        "fingerprint": fingerprints,
        "photo": photos,
        **{name: [getattr(a, name) for a in attributes] for name in columns()},
        "listing_id": listing_ids,
        "short": codes_column(codes.short),
        "long": codes_column(codes.long),
    }
    return pa.table([pa.array(values[field.name], field.type) for field in SCHEMA], schema=SCHEMA)


def tombstones_table(image_ids: Sequence[str], *, source: Source, stamp: datetime | None = None) -> pa.Table:
    """Rows that say that images are deleted."""
    count = len(image_ids)
    moment = stamp or datetime.now(UTC)
    values: dict[str, object] = {
        "key": keys_of(image_ids),
        "image_id": image_ids,
        "deleted": np.ones(count, bool),
        "sequence": np.zeros(count, np.uint64),
        "stamp": [moment] * count,
        "source": np.full(count, source, np.uint8),
        "short": [b""] * count,
        "long": [b""] * count,
    }
    arrays = [pa.array(values[f.name], f.type) if f.name in values else pa.nulls(count, f.type) for f in SCHEMA]
    return pa.table(arrays, schema=SCHEMA)


def codes_column(codes: NDArray[np.uint64]) -> pa.Array:
    """Put codes, uint64 (n, words), into a column of bytes without copying them.

    Raises
    ------
    ValueError
        They have 2 GB or more, which no column can hold.
    """
    count, words = codes.shape
    if count * words * 8 > np.iinfo(np.int32).max:
        raise ValueError(f"{count:,} codes of {words * 8} bytes are too many for one table")
    offsets = np.arange(count + 1, dtype=np.int32) * np.int32(words * 8)
    data = np.ascontiguousarray(codes).astype("<u8", copy=False)
    return pa.Array.from_buffers(pa.binary(), count, [None, pa.py_buffer(offsets), pa.py_buffer(data)])


def codes_array(column: pa.Array | pa.ChunkedArray, words: int) -> NDArray[np.uint64]:
    """Take codes out of a column of live rows: uint64 (n, words), copied.

    Raises
    ------
    ValueError
        A code has another length.
    """
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    parts = [np.empty((0, words), np.uint64)]
    for chunk in chunks:
        if len(chunk) == 0:
            continue
        _, offsets_buffer, data = chunk.buffers()
        offsets = np.frombuffer(offsets_buffer, np.int32)[chunk.offset : chunk.offset + len(chunk) + 1]
        if chunk.null_count or (np.diff(offsets) != words * 8).any():
            raise ValueError(f"a code is not of {words * 8} bytes")
        content = np.frombuffer(data, np.uint8)[offsets[0] : offsets[-1]]
        parts.append(content.view("<u8").reshape(-1, words).astype(np.uint64, copy=False))
    return np.concatenate(parts)


def check_rows(rows: pa.Table, short_words: int, long_words: int) -> pa.Table:
    """Give rows exactly ``SCHEMA``, once it is sure that every reader can hold them.

    Raises
    ------
    ValueError
        A column is missing or of another type, or a code has another length than the collection's.
    """
    if not rows.schema.equals(SCHEMA):
        rows = rows.select(SCHEMA.names).cast(SCHEMA)
    deleted = rows["deleted"].to_numpy()
    for name, words in (("short", short_words), ("long", long_words)):
        lengths = pc.binary_length(rows[name]).to_numpy()
        if (lengths != np.where(deleted, 0, words * 8)).any():
            raise ValueError(f"a {name} code is not of {words * 64} bits")
    return rows


def last_of_each_key(rows: pa.Table) -> pa.Table:
    """Sort rows by key, and keep the last of those that share one."""
    keys = rows["key"].to_numpy()
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    last = np.append(ordered[1:] != ordered[:-1], True) if len(ordered) else np.empty(0, bool)
    chosen = order[last]
    if len(chosen) == len(keys) and (len(keys) < 2 or bool((chosen[1:] > chosen[:-1]).all())):
        return rows
    return rows.take(pa.array(chosen))
