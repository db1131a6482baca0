"""Rows as the store gives them to a shard, and what a shard must show of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa

from lookalike.actors.index.columns import DEGREE, NO_DEGREES, NO_TIME
from lookalike.actors.index.rows import COLUMNS, Snapshot
from lookalike.actors.index.word_index import Words
from lookalike.ingest.attributes import Held, columns, names_held
from lookalike.ingest.store.keys import key_of
from lookalike.kernels._reference_word_index import postings_of
from support.words import indexed_words

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
        **{name: in_order(indexed_words(row[name] or "")) for name in names_held(Held.WORDS)},
        "price": row["price"],
        "lat": degrees(row["lat"]),
        "lon": degrees(row["lon"]),
        "created_at": NO_TIME if moment is None else (moment - EPOCH) // timedelta(microseconds=1),
    }


def in_order(words: set[bytes]) -> str:
    """What a shard holds of a text; of one word in small letters it is the text."""
    return b" ".join(sorted(words)).decode()


def words_by_slot(words: Words) -> dict[int, set[bytes]]:
    """Every word of every slot, read from the runs without the index."""
    by_slot: dict[int, set[bytes]] = {}
    for run in words.runs:
        slots = run.cover.tolist()
        if not run.is_sparse:
            slots = [run.base + 64 * at + bit for at, word in enumerate(slots) for bit in range(64) if word >> bit & 1]
        assert len(slots) == run.slots
        by_slot.update({slot: set() for slot in slots})
        for word, having in postings_of(run.sections).items():
            assert having == sorted(set(having))
            for slot in having:
                by_slot[slot].add(word)
    return by_slot


def shown_by(snapshot: Snapshot) -> dict[int, Shown]:
    """Everything that a snapshot shows, by key."""
    rows = np.concatenate([np.empty(0, np.int64), *snapshot.visible_rows()])
    words = {name: words_by_slot(snapshot.words(name)) for name in names_held(Held.WORDS)}
    prices = snapshot.numbers("price")[rows]
    values = {
        "image_id": snapshot.image_ids(rows),
        "listing_id": snapshot.listing_ids(rows),
        "short": [snapshot.codes.short[row].tobytes() for row in rows],
        "long": [snapshot.codes.long[row].tobytes() for row in rows],
        **{name: snapshot.categories(name).take(rows) for name in ("group", "colour", "brand")},
        **{name: [in_order(by_slot.get(row, set())) for row in rows.tolist()] for name, by_slot in words.items()},
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
