"""A shard: some buckets of a collection in memory, kept up to date with the store, and searched in batches."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lookalike.actors.filters import Filter, allowed, bitmap
from lookalike.actors.hits import ShardHits, UnknownImage
from lookalike.actors.rows import Rows, Snapshot
from lookalike.actors.tail import BucketTail
from lookalike.ingest.store import Store, keys_of
from lookalike.kernels import hamming
from lookalike.model.spec import ModelSpec

logger = logging.getLogger(__name__)

# The head is one small file: looking four times a second costs nothing and keeps the promise of a second.
POLL_S = 0.25
# Every so often the buckets are looked at even if the head did not change: a writer may be killed between its
# commit and its word about it.
FULL_LOOK_S = 10.0
# Dead rows still cost their scan; past this share of all rows the shard loads itself anew.
MOST_DEAD = 0.25


@dataclass(frozen=True, slots=True)
class ShardQuery:
    """One query to one shard: by the codes, or by the id of an image that the shard should hold.

    ``candidates`` None: single-phase, every row is ranked by its long code. ``weights`` has one integer
    (0 to 1000) per component.
    """

    count: int
    candidates: int | None
    weights: tuple[int, ...]
    filters: tuple[Filter, ...] = ()
    collapse: bool = False
    verbose: bool = False
    image_id: str | None = None
    codes: tuple[NDArray[np.uint64], NDArray[np.uint64]] | None = None


@dataclass(frozen=True, slots=True)
class ShardStatus:
    """What a shard says of itself. ``lag_s``: how long ago it last knew itself up to date with the store."""

    pid: int
    rows: int
    code_bytes: int
    huge_pages: bool
    kernel: str
    lag_s: float
    trouble: str
    tensorflow: bool


class Shard:
    """Hold some buckets of a collection and answer for them; it knows nothing of its siblings.

    One thread calls ``refresh``; any thread may ``search`` meanwhile and sees the rows before or after.
    """

    def __init__(self, root: Path, collection: str, buckets: Sequence[int]) -> None:
        self._store = Store.open(root, collection)
        self._spec = ModelSpec.load(self._store.model_folder)
        self._buckets = tuple(buckets)
        self._changing = threading.Lock()
        self._head = ""
        self._looked_fully = self._up_to_date = 0.0
        self._masks: dict[tuple[Filter, ...], NDArray[np.uint64] | None] = {}
        self._load()

    def refresh(self) -> bool:
        """Take in what was committed since the last look. Returns whether anything changed."""
        head = self._store.head()
        looked = time.monotonic()
        if head == self._head and looked - self._looked_fully < FULL_LOOK_S:
            self._up_to_date = looked
            return False
        changes = [tail.changes() for tail in self._tails]
        self._head, self._looked_fully = head, looked
        changed = any(changes)
        if changed:
            with self._changing:
                for tail, change in zip(self._tails, changes, strict=True):
                    tail.apply(change, self._rows)
                self._publish()
        if self._rows.dead > max(MOST_DEAD * len(self._rows), 1000):
            self._load()
        self._up_to_date = looked
        return changed

    def search(self, queries: Sequence[ShardQuery]) -> list[ShardHits | UnknownImage]:
        """Answer a batch: queries with the same filters share one pass over the rows."""
        with self._changing:
            snapshot, masks = self._snapshot, self._masks
            own_rows = self._rows_of([query.image_id for query in queries])
        groups: dict[tuple[tuple[Filter, ...], bool], list[int]] = defaultdict(list)
        for place, query in enumerate(queries):
            if query.codes is not None or own_rows[place] >= 0:
                groups[query.filters, query.candidates is None].append(place)
        answers: list[ShardHits | UnknownImage] = [UnknownImage()] * len(queries)
        for (filters, _), places in groups.items():
            mask = _mask(filters, snapshot, masks)
            asked = [_with_codes(queries[place], snapshot, int(own_rows[place])) for place in places]
            for place, hits in zip(places, _search(asked, snapshot, mask), strict=True):
                answers[place] = _with_own_row(hits, snapshot, int(own_rows[place]), mask)
        return answers

    def status(self) -> ShardStatus:
        """Report rows, memory, kernel and lag."""
        return ShardStatus(
            pid=os.getpid(),
            rows=self._snapshot.rows_alive,
            code_bytes=self._rows.code_bytes,
            huge_pages=self._rows.huge_pages,
            kernel=hamming.ACTIVE,
            lag_s=time.monotonic() - self._up_to_date,
            trouble="",
            tensorflow="tensorflow" in sys.modules,
        )

    def _load(self) -> None:
        """Read the buckets from the store, and swap them in."""
        head, looked = self._store.head(), time.monotonic()
        rows = Rows(self._spec.short_words, self._spec.long_words, self._spec.component_words)
        tails = [BucketTail(self._store.buckets[number]) for number in self._buckets]
        for tail in tails:
            tail.apply(tail.changes(), rows)
        with self._changing:
            self._rows, self._tails = rows, tails
            self._publish()
        self._head, self._looked_fully, self._up_to_date = head, looked, looked

    def _publish(self) -> None:
        self._snapshot = self._rows.snapshot()
        self._masks = {}

    def _rows_of(self, image_ids: Sequence[str | None]) -> NDArray[np.int64]:
        rows = np.full(len(image_ids), -1, np.int64)
        named = [place for place, image_id in enumerate(image_ids) if image_id is not None]
        if named:
            wanted = [image_ids[place] or "" for place in named]
            found = self._rows.find(keys_of(wanted))
            rows[named] = found
        return rows


def _with_codes(query: ShardQuery, snapshot: Snapshot, row: int) -> ShardQuery:
    if query.codes is not None:
        return query
    return replace(query, codes=(snapshot.codes.short[row], snapshot.codes.long[row]))


def _mask(
    filters: tuple[Filter, ...],
    snapshot: Snapshot,
    masks: dict[tuple[Filter, ...], NDArray[np.uint64] | None],
) -> NDArray[np.uint64] | None:
    """The bitmap of the rows that count and meet the filters; kept, since a page is asked for many times."""
    if filters not in masks:
        met = None if not filters else allowed(filters, snapshot)
        if snapshot.alive is not None:
            met = snapshot.alive if met is None else met & snapshot.alive
        if len(masks) >= 64:  # 64 bitmaps of a million rows are 8 MB
            masks.clear()
        masks[filters] = None if met is None else bitmap(met)
    return masks[filters]


def _search(queries: Sequence[ShardQuery], snapshot: Snapshot, mask: NDArray[np.uint64] | None) -> list[ShardHits]:
    """Ask the kernel; all queries have codes, and all are two-phase or none is."""
    kernel = hamming.exhaustive if queries[0].candidates is None else hamming.two_phase
    found = kernel([_kernel_query(query, snapshot) for query in queries], snapshot.codes, mask)
    return [_hits(query, rows, snapshot) for query, rows in zip(queries, found, strict=True)]


def _kernel_query(query: ShardQuery, snapshot: Snapshot) -> hamming.Query:
    """What the kernel is asked. To collapse listings, it must report every candidate, not only the best."""
    short, long = _codes_of(query)
    rows = max(len(snapshot), 1)
    return hamming.Query(
        short=short,
        long=long,
        count=rows if query.collapse else query.count,
        candidates=query.candidates or rows,
        weights=query.weights,
    )


def _codes_of(query: ShardQuery) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    if query.codes is None:
        raise ValueError("a query by id has no codes before its row is found")
    return query.codes


def _hits(query: ShardQuery, found: hamming.Found, snapshot: Snapshot) -> ShardHits:
    rows = found.rows
    return ShardHits(
        histogram=found.histogram,
        keys=snapshot.codes.keys[rows],
        short=found.short,
        long=found.long,
        components=_component_distances(query, rows, snapshot) if query.verbose else None,
        image_ids=snapshot.texts_of("image_id", rows),
        listing_ids=snapshot.texts_of("listing_id", rows),
        groups=snapshot.categories("group").take(rows),
        codes=query.codes if query.image_id is not None else None,
    )


def _component_distances(query: ShardQuery, rows: NDArray[np.int64], snapshot: Snapshot) -> NDArray[np.uint16]:
    """Hamming distance per component: uint16 (rows, components)."""
    words = snapshot.codes.component_words
    differing = np.bitwise_count(snapshot.codes.long[rows] ^ _codes_of(query)[1]).astype(np.uint16)
    return np.add.reduceat(differing, np.cumsum((0, *words[:-1])), axis=1, dtype=np.uint16)


def _with_own_row(hits: ShardHits, snapshot: Snapshot, row: int, mask: NDArray[np.uint64] | None) -> ShardHits:
    """Report the row that a query by id named, even where twins with smaller keys crowd it out."""
    if row < 0 or (mask is not None and not mask[row >> 6] >> np.uint64(row & 63) & np.uint64(1)):
        return hits
    image_id = snapshot.texts_of("image_id", np.array([row]))[0]
    if image_id in hits.image_ids:
        return hits
    parts = hits.components
    return replace(
        hits,
        keys=np.append(hits.keys, snapshot.codes.keys[row]),
        short=np.append(hits.short, np.uint16(0)),
        long=np.append(hits.long, np.uint32(0)),
        components=None if parts is None else np.vstack([parts, np.zeros_like(parts, shape=(1, parts.shape[1]))]),
        image_ids=[*hits.image_ids, image_id],
        listing_ids=[*hits.listing_ids, *snapshot.texts_of("listing_id", np.array([row]))],
        groups=[*hits.groups, *snapshot.categories("group").take(np.array([row]))],
    )


class ShardActor(Shard):
    """A shard that keeps itself up to date; the class that Ray runs."""

    def __init__(self, root: Path, collection: str, buckets: Sequence[int]) -> None:
        super().__init__(root, collection, buckets)
        self._trouble = ""
        threading.Thread(target=self._follow, name="follow", daemon=True).start()

    def status(self) -> ShardStatus:
        """Report rows, memory, kernel, lag, and what keeps it from following the store, if anything does."""
        return replace(super().status(), trouble=self._trouble)

    def _follow(self) -> None:
        while True:
            time.sleep(POLL_S)
            try:
                self.refresh()
                self._trouble = ""
            except Exception as error:  # the store may be away for a while: say so, serve on, look again
                if self._trouble != str(error):
                    logger.exception("cannot follow the store")
                self._trouble = str(error)
