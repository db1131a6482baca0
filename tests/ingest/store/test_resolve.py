"""Who wins: each rule by its name. Times are minutes, fingerprints small numbers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from support.store_oracle import microseconds
from support.stores import new_collection, rows_of

from lookalike.ingest.store import resolve
from lookalike.ingest.store.resolve import MAX_STAMP, Stored
from lookalike.ingest.store.rows import SCHEMA, Source, tombstones_table

START = datetime(2026, 1, 1, tzinfo=UTC)
NOTHING, LIVE, DELETED, UNREADABLE = "nothing", "live", "deleted", "unreadable"
HTTP, CATALOGUE = Source.HTTP, Source.CATALOGUE


def at(minute: int) -> datetime:
    return START + timedelta(minutes=minute)


def stored(state: str, source: Source = HTTP, minute: int = 0, fingerprint: int | None = None) -> Stored:
    """What a bucket holds for one key."""
    return Stored(
        found=np.array([state in (LIVE, DELETED)]),
        deleted=np.array([state == DELETED]),
        stamp=np.array([microseconds(at(minute))]),
        source=np.array([source], np.uint8),
        fingerprint=np.array([fingerprint or 0], np.uint64),
        has_fingerprint=np.array([fingerprint is not None]),
        unreadable=np.array([state == UNREADABLE]),
    )


def shown(rows: pa.Table) -> tuple[str, Source, int, int | None] | None:
    """State, source, microseconds after the start and fingerprint of the row to write."""
    assert rows.schema.equals(SCHEMA)
    if not len(rows):
        return None
    (row,) = rows.to_pylist()
    state = DELETED if row["deleted"] else LIVE
    return state, Source(row["source"]), microseconds(row["stamp"]) - microseconds(START), row["fingerprint"]


MINUTE = 60_000_000

PUT = {
    "inserts": (stored(NOTHING), 5, (LIVE, HTTP, 5 * MINUTE, None)),
    "replaces": (stored(LIVE, HTTP, 1), 5, (LIVE, HTTP, 5 * MINUTE, None)),
    "is newer than what it replaces, whatever the clocks say": (
        stored(LIVE, HTTP, 9),
        5,
        (LIVE, HTTP, 9 * MINUTE + 1, None),
    ),
    "keeps the catalogue's fingerprint": (stored(LIVE, CATALOGUE, 1, 7), 5, (LIVE, HTTP, 5 * MINUTE, 7)),
    "revives a deleted image and keeps the fingerprint": (stored(DELETED, HTTP, 1, 7), 5, (LIVE, HTTP, 5 * MINUTE, 7)),
    "writes what may be in a damaged part": (stored(UNREADABLE), 5, (LIVE, HTTP, 5 * MINUTE, None)),
}


@pytest.mark.parametrize("rule", PUT)
def test_resolve_put(rule: str) -> None:
    was, minute, expected = PUT[rule]
    assert shown(resolve.put(rows_of(["a"], stamp=at(minute)), was)) == expected


DELETE = {
    "an image leaves a tombstone": (stored(LIVE, HTTP, 1), (DELETED, HTTP, 5 * MINUTE, None)),
    "the tombstone keeps the fingerprint": (stored(LIVE, CATALOGUE, 1, 7), (DELETED, HTTP, 5 * MINUTE, 7)),
    "the tombstone is newer than the image": (stored(LIVE, HTTP, 9), (DELETED, HTTP, 9 * MINUTE + 1, None)),
    "nothing leaves nothing": (stored(NOTHING), None),
    "a deleted image leaves nothing more": (stored(DELETED, HTTP, 1), None),
    "what may be in a damaged part leaves a tombstone": (stored(UNREADABLE), (DELETED, HTTP, 5 * MINUTE, None)),
}


@pytest.mark.parametrize("rule", DELETE)
def test_resolve_delete(rule: str) -> None:
    was, expected = DELETE[rule]
    assert shown(resolve.delete(tombstones_table(["a"], source=HTTP, stamp=at(5)), was)) == expected


TAKE_IN = {
    "a new image is written": (stored(NOTHING), 5, (LIVE, CATALOGUE, 5 * MINUTE, 7)),
    "an unchanged one is not": (stored(LIVE, CATALOGUE, 1, 7), 5, None),
    "an unchanged one is not, though a client replaced it before": (stored(LIVE, HTTP, 1, 7), 5, None),
    "an unchanged one is not revived": (stored(DELETED, HTTP, 1, 7), 5, None),
    "a changed one is written": (stored(LIVE, CATALOGUE, 1, 6), 5, (LIVE, CATALOGUE, 5 * MINUTE, 7)),
    "a changed one is written, though its photo is older": (
        stored(LIVE, CATALOGUE, 9, 6),
        5,
        (LIVE, CATALOGUE, 9 * MINUTE + 1, 7),
    ),
    "a changed one overrides an older put": (stored(LIVE, HTTP, 1, 6), 5, (LIVE, CATALOGUE, 5 * MINUTE, 7)),
    "a changed one yields to a newer put": (stored(LIVE, HTTP, 9, 6), 5, None),
    "of equal times the client's wins": (stored(LIVE, HTTP, 5, 6), 5, None),
    "one that the catalogue never listed yields to a newer put": (stored(LIVE, HTTP, 9), 5, None),
    "a changed one revives an image deleted before": (stored(DELETED, HTTP, 1, 6), 5, (LIVE, CATALOGUE, 5 * MINUTE, 7)),
    "one deleted later stays so and is known from now on": (
        stored(DELETED, HTTP, 9, 6),
        5,
        (DELETED, HTTP, 9 * MINUTE, 7),
    ),
    "one put and deleted later by clients is known from now on": (
        stored(DELETED, HTTP, 9),
        5,
        (DELETED, HTTP, 9 * MINUTE, 7),
    ),
    "one in a damaged part is written again": (stored(UNREADABLE), 5, (LIVE, CATALOGUE, 5 * MINUTE, 7)),
}


@pytest.mark.parametrize("rule", TAKE_IN)
def test_resolve_take_in(rule: str) -> None:
    was, minute, expected = TAKE_IN[rule]
    rows = rows_of(["a"], source=CATALOGUE, stamp=at(minute), fingerprints=[7])
    assert shown(resolve.take_in(rows, was)) == expected


COPY = {
    "what is not there is written as it is": (stored(NOTHING), (LIVE, CATALOGUE, 5 * MINUTE, 7)),
    "a newer row is written as it is": (stored(LIVE, HTTP, 4, 6), (LIVE, CATALOGUE, 5 * MINUTE, 7)),
    "the same row is not": (stored(LIVE, CATALOGUE, 5, 7), None),
    "an older row is not": (stored(LIVE, HTTP, 6), None),
    "an older row revives nothing": (stored(DELETED, HTTP, 6), None),
}


@pytest.mark.parametrize("rule", COPY)
def test_resolve_copy(rule: str) -> None:
    was, expected = COPY[rule]
    rows = rows_of(["a"], source=CATALOGUE, stamp=at(5), fingerprints=[7])
    assert shown(resolve.copy(rows, was)) == expected


def test_resolve_tells_fingerprints_apart_that_a_float_could_not() -> None:
    """With a null beside it, a column of uint64 would become one of floats."""
    big = 2**63 + 1
    both = Stored(*(np.concatenate([one, one]) for one in stored_values(stored(LIVE, CATALOGUE, 1, big))))
    rows = rows_of(["a", "b"], source=CATALOGUE, stamp=at(5), fingerprints=[big + 1, None])
    assert resolve.changed(rows, both).tolist() == [True, True]
    assert resolve.changed(rows_of(["a", "b"], fingerprints=[big, None]), both).tolist() == [False, True]


def stored_values(one: Stored) -> list[NDArray[Any]]:
    return [getattr(one, name) for name in Stored.__slots__]


def test_resolve_never_raises_a_stamp_beyond_the_year_9999(tmp_path: Path) -> None:
    last = datetime.max.replace(tzinfo=UTC)
    assert microseconds(last) == MAX_STAMP
    collection = new_collection(tmp_path, 1)
    for title in ("first", "second", "third"):
        collection.put(rows_of(["a"], title, stamp=last))
        assert collection.find(["a"])["a"]["title"] == title
    assert collection.find(["a"])["a"]["stamp"] == last


def test_take_in_keeps_an_image_deleted_when_its_tombstone_would_be_forgotten(tmp_path: Path) -> None:
    """Put and deleted by clients, then listed by an older catalogue: that must be noted before the tombstone goes."""
    collection = new_collection(tmp_path, 1)
    collection.put(rows_of(["a"]))
    collection.delete(["a"])
    listed = rows_of(["a"], "listed", source=CATALOGUE, stamp=at(0), fingerprints=[7])
    assert collection.take_in(listed).rows == 0
    stored_now = collection.stored(listed["key"].to_numpy())
    assert (bool(stored_now.live[0]), int(stored_now.fingerprint[0])) == (False, 7)
    assert collection.take_in(listed).commits[0].written == 0
