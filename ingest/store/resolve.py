"""Which of the rows offered are written, given what the bucket holds: the newer source wins, whichever way it came.

Pure: tables in, a table out. Every function takes the rows offered, sorted by key with each key once, and what is
stored for them, and gives the rows to write.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from lookalike.ingest.store.rows import SCHEMA, Source

COLUMNS = ("key", "deleted", "stamp", "source", "fingerprint")
# The last microsecond that Python's datetime can say: a stamp must never be raised beyond it.
MAX_STAMP = 253_402_300_799_999_999


@dataclass(frozen=True, slots=True)
class Stored:
    """What a bucket holds for n keys; where ``found`` is false the other values mean nothing.

    Attributes
    ----------
    found, deleted : ndarray of bool, shape (n,)
    stamp : ndarray of int64, shape (n,)
        When the row's source changed, in microseconds since 1970.
    source : ndarray of uint8, shape (n,)
        A ``Source``.
    fingerprint : ndarray of uint64, shape (n,)
    has_fingerprint : ndarray of bool, shape (n,)
    unreadable : ndarray of bool, shape (n,)
        True where a damaged part of the bucket may hold a newer row than the one found, or the only one.
    """

    found: NDArray[np.bool_]
    deleted: NDArray[np.bool_]
    stamp: NDArray[np.int64]
    source: NDArray[np.uint8]
    fingerprint: NDArray[np.uint64]
    has_fingerprint: NDArray[np.bool_]
    unreadable: NDArray[np.bool_]

    @property
    def live(self) -> NDArray[np.bool_]:
        """Which keys have an image."""
        return self.found & ~self.deleted


def stored_of(count: int, which: NDArray[np.int64], rows: pa.Table, unreadable: NDArray[np.bool_]) -> Stored:
    """Arrange found rows (with ``COLUMNS``) by the ``count`` keys that were looked up."""
    fingerprints = rows["fingerprint"].combine_chunks()

    def scattered(values: NDArray[Any]) -> NDArray[Any]:
        result = np.zeros(count, values.dtype)
        result[which] = values
        return result

    return Stored(
        found=scattered(np.ones(len(which), bool)),
        deleted=scattered(rows["deleted"].to_numpy()),
        stamp=scattered(rows["stamp"].cast(pa.int64()).to_numpy()),
        source=scattered(rows["source"].to_numpy()),
        fingerprint=scattered(pc.fill_null(fingerprints, 0).to_numpy()),
        has_fingerprint=scattered(pc.is_valid(fingerprints).to_numpy(zero_copy_only=False)),
        unreadable=unreadable,
    )


def put(rows: pa.Table, stored: Stored) -> pa.Table:
    """What a client puts or deletes is written always, and is newer than what it replaces.

    The catalogue's fingerprint stays with the row: the catalogue's next run must not take an old entry for a new one.
    """
    stamps = _after(rows, stored, stored.found)
    return _with(
        _with(rows, "stamp", stamps), "fingerprint", pa.array(stored.fingerprint, mask=~stored.has_fingerprint)
    )


def delete(rows: pa.Table, stored: Stored) -> pa.Table:
    """A tombstone is written for each image that is there, or that may be in a damaged part of the bucket."""
    return put(rows, stored).filter(pa.array(stored.live | stored.unreadable))


def take_in(rows: pa.Table, stored: Stored) -> pa.Table:
    """A catalogue's row is written if it changed since the catalogue's last run, unless a client's change is newer.

    If that was a deletion, it is written again with the fingerprint of the row. So the row is no news to the
    catalogue's next run, and the tombstone is kept for as long as the catalogue may list the image.
    """
    by_catalogue = stored.found & (stored.source == Source.CATALOGUE)
    stamps = _after(rows, stored, by_catalogue)
    newer = ~stored.found | by_catalogue | (_int64(stamps) > stored.stamp)
    news = changed(rows, stored)
    refused = news & ~newer & stored.deleted
    chosen = news & (newer | refused)
    written = _with(rows, "stamp", stamps).filter(pa.array(chosen))
    return _with_tombstones(written, stored, refused, chosen) if refused.any() else written


def copy(rows: pa.Table, stored: Stored) -> pa.Table:
    """A row of another model version is written as it is, if it is newer."""
    return rows.filter(pa.array(~stored.found | (_int64(rows["stamp"]) > stored.stamp)))


def changed(rows: pa.Table, stored: Stored) -> NDArray[np.bool_]:
    """Which catalogue rows differ from what was taken in last: bool (n,)."""
    offered = rows["fingerprint"]
    same = pc.fill_null(offered, 0).to_numpy() == stored.fingerprint
    known = stored.found & stored.has_fingerprint & pc.is_valid(offered).to_numpy()
    result: NDArray[np.bool_] = ~(known & same)
    return result


def _with_tombstones(rows: pa.Table, stored: Stored, refused: NDArray[np.bool_], chosen: NDArray[np.bool_]) -> pa.Table:
    """Make the refused ones of the chosen rows the tombstones that are stored, each with its new fingerprint."""
    here = pa.array(refused[chosen])
    was = {
        "deleted": pa.scalar(True),
        "stamp": pa.array(stored.stamp[chosen]).cast(SCHEMA.field("stamp").type),
        "source": pa.array(stored.source[chosen]),
        "short": pa.scalar(b""),
        "long": pa.scalar(b""),
    }
    own = {"key", "image_id", "sequence", "fingerprint"}
    for field in SCHEMA:
        if field.name not in own:
            value = was.get(field.name, pa.scalar(None, field.type))
            rows = _with(rows, field.name, pc.if_else(here, value, rows[field.name]))
    return rows


def _after(rows: pa.Table, stored: Stored, where: NDArray[np.bool_]) -> pa.Array:
    """The stamps of rows, raised above the stored ones where given: clocks of two machines may differ."""
    stamps = _int64(rows["stamp"])
    raised = np.maximum(stamps, np.minimum(stored.stamp + 1, MAX_STAMP))
    return pa.array(np.where(where, raised, stamps)).cast(SCHEMA.field("stamp").type)


def _int64(stamps: pa.Array | pa.ChunkedArray) -> NDArray[np.int64]:
    values: NDArray[np.int64] = stamps.cast(pa.int64()).to_numpy()
    return values


def _with(rows: pa.Table, name: str, values: pa.Array | pa.ChunkedArray) -> pa.Table:
    at = SCHEMA.get_field_index(name)
    return rows.set_column(at, SCHEMA.field(at), values)
