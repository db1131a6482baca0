"""A state machine that does to a collection what writers, jobs, merges and restarts do, beside an oracle."""

from __future__ import annotations

import contextlib
import tempfile
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import ClassVar
from unittest import mock

import numpy as np
import pyarrow as pa
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from lookalike.ingest.store import compaction, segment
from lookalike.ingest.store.collection import Collection
from lookalike.ingest.store.keys import bucket_of, keys_of
from lookalike.ingest.store.rows import Source, tombstones_table
from lookalike.storage import Location
from support.store_oracle import Follower, Oracle, Row, microseconds
from support.stores import new_collection, rows_of

IDS = [f"listing {n}/1" for n in range(14)]
NOW = datetime.now(UTC).replace(microsecond=0)
OLD = NOW - timedelta(days=30)  # tombstones of then may be dropped

some_ids = st.lists(st.sampled_from(IDS), min_size=1, max_size=8, unique=True)
stamps = st.builds(
    lambda base, minutes: base + timedelta(minutes=minutes), st.sampled_from([OLD, NOW]), st.integers(-30, 0)
)
fingerprints = st.integers(1, 3)


class CollectionMachine(RuleBasedStateMachine):
    """Segments are merged early, batches are tiny, and what was replaced goes to the trash at once."""

    where: ClassVar[list[Location]] = []

    def __init__(self) -> None:
        super().__init__()
        self._stack = contextlib.ExitStack()
        patches = [
            (compaction, "FACTOR", 3),
            (compaction, "MIN_WHOLE_BYTES", 1 << 13),
            (compaction, "RETIRED_FOR", timedelta(0)),
            (compaction, "BATCH_ROWS", 4),
            (segment, "BATCH_ROWS", 4),
            (segment, "_SMALL_BYTES", 1 << 12),  # both ways of reading occur
        ]
        for module, name, value in patches:
            self._stack.enter_context(mock.patch.object(module, name, value))
        self.number = 0

    @initialize(buckets=st.integers(1, 2), tombstones_for=st.sampled_from([timedelta(0), timedelta(days=7)]))
    def create(self, buckets: int, tombstones_for: timedelta) -> None:
        self._stack.enter_context(mock.patch.object(compaction, "TOMBSTONES_FOR", tombstones_for))
        root = self.where[0] if self.where else None
        if root is None:
            folder = self._stack.enter_context(tempfile.TemporaryDirectory())
            root = Location.parse(Path(folder) / "store")
        self.collection = new_collection(root / uuid.uuid4().hex, buckets)
        self.oracle = Oracle()
        self.follower = Follower()
        self.older = [Follower()]

    def teardown(self) -> None:
        self._stack.close()

    def _title(self) -> str:
        self.number += 1
        return f"title {self.number}"

    @rule(ids=some_ids, stamp=stamps)
    def put(self, ids: list[str], stamp: datetime) -> None:
        title = self._title()
        assert self.collection.put(rows_of(ids, title, self.number, stamp=stamp)).rows == len(ids)
        for image_id in ids:
            self.oracle.put(image_id, title, microseconds(stamp))

    @rule(ids=some_ids)
    def put_the_same_twice_in_a_group(self, ids: list[str]) -> None:
        first, last = self._title(), self._title()
        both = pa.concat_tables([rows_of(ids, first, stamp=NOW), rows_of(ids, last, stamp=NOW)])
        self.collection.put(both)
        for image_id in ids:
            self.oracle.put(image_id, last, microseconds(NOW))

    @rule(ids=some_ids)
    def delete(self, ids: list[str]) -> None:
        before = datetime.now(UTC)
        there, _ = self.collection.delete(ids)
        assert there == {i for i in ids if self.oracle.delete(i, microseconds(before))}
        self._take_over_stamps(ids)

    @rule(ids=some_ids, stamp=stamps, fingerprint=fingerprints)
    def take_in(self, ids: list[str], stamp: datetime, fingerprint: int) -> None:
        title = self._title()
        rows = rows_of(ids, title, source=Source.CATALOGUE, stamp=stamp, fingerprints=[fingerprint] * len(ids))
        before = dict(self.oracle.images)
        for image_id in ids:
            self.oracle.take_in(image_id, title, microseconds(stamp), fingerprint)
        written = sum(before.get(i) != self.oracle.images.get(i) for i in ids)
        assert self.collection.take_in(rows).rows == written

    @rule(ids=some_ids, stamp=stamps, fingerprint=st.none() | fingerprints, deleted=st.booleans())
    def copy_in(self, ids: list[str], stamp: datetime, fingerprint: int | None, deleted: bool) -> None:
        title = None if deleted else self._title()
        if deleted:
            rows = tombstones_table(ids, source=Source.HTTP, stamp=stamp)
            fingerprint = None
        else:
            rows = rows_of(ids, title or "", stamp=stamp, fingerprints=[fingerprint] * len(ids))
        self.collection.copy_in(rows)
        for image_id in ids:
            self.oracle.copy_in(image_id, Row(title, microseconds(stamp), Source.HTTP, fingerprint))

    @rule()
    def compact(self) -> None:
        self.collection.compact()
        assert all(compaction.plan_merge(bucket.head()) == () for bucket in self.collection.buckets)
        limit = microseconds(datetime.now(UTC) - compaction.TOMBSTONES_FOR)
        stored = self.collection.stored(keys_of(list(self.oracle.rows)))
        for image_id, found in zip(list(self.oracle.rows), stored.found.tolist(), strict=True):
            row = self.oracle.rows[image_id]
            if not found:
                assert row.deleted
                assert row.fingerprint is None
                assert row.stamp < limit
                del self.oracle.rows[image_id]

    @rule()
    def reopen(self) -> None:
        self.collection = Collection.open(self.collection.root, self.collection.name)

    @rule()
    def follow(self) -> None:
        self.follower.follow(self.collection)
        assert self.follower.images == self.oracle.images
        self.older.append(self.follower.copy())

    @invariant()
    def rows_are_those_of_the_oracle(self) -> None:
        if not hasattr(self, "collection"):
            return
        found = self.collection.find(IDS, ["title", "stamp"])
        shown = {i: (row["title"], microseconds(row["stamp"])) for i, row in found.items()}
        assert shown == self.oracle.images
        keys = keys_of(IDS)
        stored = self.collection.stored(keys)
        for at, image_id in enumerate(IDS):
            row = self.oracle.rows.get(image_id)
            assert bool(stored.found[at]) == (row is not None), image_id
            if row is not None:
                fingerprint = int(stored.fingerprint[at]) if stored.has_fingerprint[at] else None
                values = (bool(stored.deleted[at]), int(stored.stamp[at]), int(stored.source[at]), fingerprint)
                assert values == (row.deleted, row.stamp, row.source, row.fingerprint), image_id
        assert not stored.unreadable.any()

    @rule()
    def every_way_to_read_agrees(self) -> None:
        images = self.oracle.images
        for follower in self.older:
            late = follower.copy()
            late.follow(self.collection)
            assert late.images == images
        assert self.collection.count() == len(images) <= self.collection.rows_at_most()
        keys = np.sort(keys_of(sorted(images)))
        buckets = bucket_of(keys, len(self.collection.buckets))
        for number in range(len(self.collection.buckets)):
            np.testing.assert_array_equal(self.collection.live_keys(number), keys[buckets == number])

    def _take_over_stamps(self, ids: list[str]) -> None:
        """The moment of a deletion is the collection's own: it must be no earlier than ours."""
        stored = self.collection.stored(keys_of(ids))
        for at, image_id in enumerate(ids):
            row = self.oracle.rows.get(image_id)
            if row is not None and row.deleted and stored.found[at]:
                assert int(stored.stamp[at]) >= row.stamp
                self.oracle.rows[image_id] = Row(None, int(stored.stamp[at]), row.source, row.fingerprint)
