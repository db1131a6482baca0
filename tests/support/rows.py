"""Rows as the store gives them to a shard, and what a shard must show of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa

from lookalike.actors.index.columns import DEGREE, NO_DEGREES, NO_TIME
from lookalike.actors.index.rows import COLUMNS, Snapshot
from lookalike.ingest.attributes import columns
from lookalike.ingest.store.keys import key_of

SHORT_WORDS, LONG_WORDS = 1, 3
COMPONENT_WORDS = (1, 2)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

# A row as a shard shows it: what the oracle keeps of it.
Shown = dict[str, Any]

_TYPES = {
    "key": pa.uint64(),
    "image_id": pa.string(),
    "deleted": pa.bool_(),
    "short": pa.binary(),
    "long": pa.binary(),
    **{name: column.arrow for name, column in columns().items()},
}


def code(words: int, seed: int) -> bytes:
    return np.random.default_rng(seed).integers(0, 2**64, words, np.uint64).tobytes()


def make_row(image_id: str, seed: int = 0, **fields: Any) -> dict[str, Any]:
    """A row that is not deleted, with codes made from the seed and no attributes but those given."""
    known = {"key": key_of(image_id), "image_id": image_id, "deleted": False}
    codes = {"short": code(SHORT_WORDS, seed), "long": code(LONG_WORDS, seed + 1)}
    return {**dict.fromkeys(_TYPES), **known, **codes, **fields}


def make_tombstone(image_id: str) -> dict[str, Any]:
    return make_row(image_id, deleted=True, short=b"", long=b"")


def batch_of(rows: Sequence[Mapping[str, Any]]) -> pa.RecordBatch:
    arrays = [pa.array([row[name] for row in rows], _TYPES[name]) for name in COLUMNS]
    return pa.RecordBatch.from_arrays(arrays, names=list(COLUMNS))


def expected_of(row: Mapping[str, Any]) -> Shown:
    """What a snapshot shows of a row."""

    def degrees(value: float | None) -> int:
        return NO_DEGREES if value is None else round(value * DEGREE)

    moment = row["created_at"]
    return {
        "image_id": row["image_id"],
        "listing_id": row["listing_id"] or row["image_id"],
        "short": row["short"],
        "long": row["long"],
        "group": row["group"] or "",
        "colour": row["colour"] or "",
        "brand": row["brand"] or "",
        "title": row["title"] or "",
        "price": row["price"],
        "lat": degrees(row["lat"]),
        "lon": degrees(row["lon"]),
        "created_at": NO_TIME if moment is None else (moment - EPOCH) // timedelta(microseconds=1),
    }


def shown_by(snapshot: Snapshot) -> dict[int, Shown]:
    """Everything that a snapshot shows, by key."""
    rows = np.concatenate([np.empty(0, np.int64), *snapshot.visible_rows()])
    titles = dict.fromkeys(range(len(snapshot)), "")
    for slots, texts in snapshot.texts("title").blocks():
        titles.update(zip(slots.tolist(), texts.to_pylist(), strict=True))
    prices = snapshot.numbers("price")[rows]
    values = {
        "image_id": snapshot.image_ids(rows),
        "listing_id": snapshot.listing_ids(rows),
        "short": [snapshot.codes.short[row].tobytes() for row in rows],
        "long": [snapshot.codes.long[row].tobytes() for row in rows],
        **{name: snapshot.categories(name).take(rows) for name in ("group", "colour", "brand")},
        "title": [titles[row] for row in rows.tolist()],
        "price": [None if np.isnan(price) else price for price in prices.tolist()],
        "lat": snapshot.degrees("lat")[rows].tolist(),
        "lon": snapshot.degrees("lon")[rows].tolist(),
        "created_at": snapshot.times("created_at")[rows].tolist(),
    }
    shown = [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]
    assert snapshot.rows_visible == len(shown)
    keys = snapshot.codes.keys[rows].tolist()
    assert len(set(keys)) == len(keys)
    return dict(zip(keys, shown, strict=True))
