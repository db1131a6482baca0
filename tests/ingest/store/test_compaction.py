"""What is merged, what a merge makes of rows, and what it may leave out."""

from __future__ import annotations

import itertools
import math
import random
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from unittest import mock

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.store_oracle import raise_
from support.stores import rows_of

from lookalike import storage
from lookalike.ingest.store import compaction, resolve, segment
from lookalike.ingest.store.bucket import Bucket
from lookalike.ingest.store.compaction import (
    FACTOR,
    MAX_RETIRED,
    MIN_CLASS_BYTES,
    MIN_WHOLE_BYTES,
    TOMBSTONES_FOR,
    Compactor,
    Merge,
    merge_segments,
    plan_merge,
)
from lookalike.ingest.store.head import Head, SegmentInfo
from lookalike.ingest.store.rows import SCHEMA, Source, tombstones_table
from lookalike.ingest.store.trash import Trash
from lookalike.storage import Location

NOW = datetime.now(UTC)


def info_of(number: int, size_bytes: int, rows: int = 10, deleted: int = 0) -> SegmentInfo:
    return SegmentInfo.model_construct(
        name=f"{number:032x}.seg", first=number, last=number, rows=rows, deleted=deleted, size_bytes=size_bytes
    )


def head_of(segments: Sequence[SegmentInfo]) -> Head:
    return Head.model_construct(segments=tuple(segments), retired=(), sequence=len(segments))


# --- what is due

sizes = st.lists(st.one_of(st.integers(1000, 5000), st.integers(1000, 10**7), st.integers(10**6, 10**9)), max_size=60)


@settings(deadline=None)
@given(sizes, st.sets(st.integers(0, 59), max_size=5))
def test_plan_merge_takes_adjacent_undamaged_segments(sizes: list[int], damaged: set[int]) -> None:
    segments = [info_of(number + 1, size) for number, size in enumerate(sizes)]
    names = frozenset(segments[number].name for number in damaged if number < len(segments))
    run = plan_merge(head_of(segments), names)
    if run:
        start = segments.index(run[0])
        assert tuple(segments[start : start + len(run)]) == run
        assert len(run) >= 2
        assert not names & {info.name for info in run}


@settings(deadline=None)
@given(sizes)
def test_plan_merge_ends_with_few_segments_and_little_that_is_replaced(sizes: list[int]) -> None:
    segments = [info_of(number + 1, size) for number, size in enumerate(sizes)]
    while run := plan_merge(head_of(segments)):
        start = segments.index(run[0])
        merged = info_of(run[0].first, sum(info.size_bytes for info in run))
        segments[start : start + len(run)] = [merged]
    total = sum(sizes)
    assert len(segments) <= (FACTOR - 1) * (classes(total) + 1)
    if total >= MIN_WHOLE_BYTES:
        assert total < 2 * segments[0].size_bytes


def classes(size_bytes: int) -> float:
    return math.log(max(size_bytes, MIN_CLASS_BYTES) / MIN_CLASS_BYTES, FACTOR)


@dataclass
class Simulation:
    """Commits and their merges, as sizes; the bucket never holds more than ``unique_bytes`` of different rows."""

    unique_bytes: float = math.inf
    committed: int = 0
    written: int = 0
    most_segments: int = 0
    amplification: float = 1.0

    def run(self, sizes: Iterable[int]) -> Simulation:
        segments: list[SegmentInfo] = []
        for size in sizes:
            self.committed += size
            self.written += size
            segments.append(info_of(1, size))
            while run := plan_merge(head_of(segments)):
                merged = min(sum(info.size_bytes for info in run), self.unique_bytes)
                self.written += int(merged)
                start = next(number for number, info in enumerate(segments) if info is run[0])
                segments[start : start + len(run)] = [info_of(1, int(merged))]
            self.most_segments = max(self.most_segments, len(segments))
            held = sum(info.size_bytes for info in segments)
            if held > MIN_WHOLE_BYTES:
                self.amplification = max(self.amplification, held / min(self.committed, self.unique_bytes))
        return self


RANDOM = random.Random(0)
WORKLOADS = {
    "single images": [3_000] * 100_000,
    "groups of 256": [75_000] * 10_000,
    "groups of any size": [int(RANDOM.lognormvariate(9, 2)) + 500 for _ in range(10_000)],
    "bulk between single images": [3_000_000 if number % 8 == 0 else 3_000 for number in range(10_000)],
    "bulk, then single images": [15_000_000] + [3_000] * 10_000,
}


@pytest.mark.parametrize("unique_bytes", [math.inf, 20_000_000])
@pytest.mark.parametrize("workload", WORKLOADS)
def test_plan_merge_rewrites_each_row_about_log_times(workload: str, unique_bytes: float) -> None:
    """Whether images are only added, or the same ones replaced for ever."""
    done = Simulation(unique_bytes).run(WORKLOADS[workload])
    held = min(done.committed, unique_bytes)
    assert done.written / done.committed <= 1 + classes(int(held)) + 3
    assert done.most_segments <= (FACTOR - 1) * (classes(done.committed) + 1) + 1
    assert done.amplification <= (1.01 if unique_bytes == math.inf else 2.2 + max(WORKLOADS[workload][1:]) / held)


def test_plan_merge_frees_a_bucket_that_is_emptied() -> None:
    rows = info_of(1, 10**8, rows=400_000)
    assert plan_merge(head_of([rows, info_of(2, 10**6, rows=100_000, deleted=100_000)])) == ()
    deletions = info_of(2, 10**6, rows=200_000, deleted=200_000)
    assert plan_merge(head_of([rows, deletions])) == (rows, deletions)


# --- what becomes of the rows

IDS = [f"image {n}" for n in range(12)]
offered = st.tuples(
    st.sampled_from(["put", "delete", "put old", "delete old", "delete of the catalogue"]),
    st.lists(st.sampled_from(IDS), min_size=1, max_size=9, unique=True),
)


@dataclass(frozen=True)
class Expected:
    title: str | None
    sequence: int
    may_be_dropped: bool


def commit(bucket: Bucket, kind: str, ids: list[str], title: str) -> dict[str, Expected]:
    """Write a segment exactly as told, and say what it holds."""
    stamp = NOW - (2 * TOMBSTONES_FOR if "old" in kind or "catalogue" in kind else timedelta(0))
    if kind.startswith("put"):
        rows = rows_of(ids, title, stamp=stamp)
    else:
        rows = tombstones_table(ids, source=Source.HTTP, stamp=stamp)
        if "catalogue" in kind:
            at = SCHEMA.get_field_index("fingerprint")
            rows = rows.set_column(at, SCHEMA.field(at), pa.array([1] * len(ids), pa.uint64()))
    sequence = bucket.commit(rows, lambda rows, _: rows).head.sequence
    shown = title if kind.startswith("put") else None
    return {image_id: Expected(shown, sequence, kind == "delete old") for image_id in ids}


@settings(max_examples=60, deadline=None)
@given(st.lists(offered, min_size=2, max_size=8), st.data())
def test_merge_segments_gives_the_newest_row_of_each_key(
    commits: list[tuple[str, list[str]]], data: st.DataObject
) -> None:
    with (
        tempfile.TemporaryDirectory() as scratch,
        mock.patch.object(segment, "BATCH_ROWS", 4),
        mock.patch.object(compaction, "BATCH_ROWS", 4),
    ):
        bucket = Bucket(Location.parse(Path(scratch) / "bucket"))
        bucket.create()
        written = [commit(bucket, kind, ids, str(number)) for number, (kind, ids) in enumerate(commits)]
        start = data.draw(st.integers(0, len(commits) - 2), "start")
        end = data.draw(st.integers(start + 2, len(commits)), "end")
        infos = bucket.head().segments[start:end]
        replaced: list[str] = []
        merge = Merge(infos, start == 0, NOW, lambda rows: replaced.extend(rows["image_id"].to_pylist()))
        batches = list(merge_segments([bucket.segment(info) for info in infos], merge))

    newest: dict[str, Expected] = {}
    left_out: list[str] = []
    for rows in written[start:end]:
        left_out += [image_id for image_id in rows if image_id in newest]
        newest |= rows
    dropped = {i: row for i, row in newest.items() if row.may_be_dropped and start == 0}
    kept = {i: row for i, row in newest.items() if i not in dropped}
    assert sorted(replaced) == sorted(left_out)
    assert merge.dropped_to == max((row.sequence for row in dropped.values()), default=0)
    rows = pa.Table.from_batches(batches, SCHEMA)
    assert rows["key"].to_pylist() == sorted(rows["key"].to_pylist())
    shown = {row["image_id"]: (None if row["deleted"] else row["title"], row["sequence"]) for row in rows.to_pylist()}
    assert shown == {image_id: (row.title, row.sequence) for image_id, row in kept.items()}
    assert len(rows) == len(kept)
    assert all(0 < len(batch) <= 4 for batch in batches)


def filled(folder: Path, commits: int, rows: int = 3) -> Bucket:
    bucket = Bucket(Location.parse(folder / "bucket"))
    bucket.create()
    for number in range(commits):
        bucket.commit(rows_of([f"{number % 4}/{n}" for n in range(rows)], str(number)), resolve.put)
    return bucket


def test_compactor_drops_no_tombstone_while_an_older_segment_may_hold_the_image(tmp_path: Path) -> None:
    bucket = Bucket(Location.parse(tmp_path / "bucket"))
    bucket.create()
    commit(bucket, "put", IDS, "old")
    for _ in range(FACTOR):
        commit(bucket, "delete old", IDS[:2], "")
    with mock.patch.object(
        compaction, "plan_merge", lambda head, _: head.segments[1:] if len(head.segments) > 2 else ()
    ):
        Compactor(bucket, lambda _: None).run()
    head = bucket.head()
    assert (len(head.segments), head.segments[1].deleted, head.tombstones_dropped_to) == (2, 2, 0)
    with mock.patch.object(compaction, "plan_merge", lambda head, _: head.segments if len(head.segments) > 1 else ()):
        Compactor(bucket, lambda _: None).run()
    head = bucket.head()
    assert (head.segments[0].rows, head.segments[0].deleted) == (len(IDS) - 2, 0)
    assert head.tombstones_dropped_to == FACTOR + 1


def test_compactor_that_drops_every_row_leaves_no_segment(tmp_path: Path) -> None:
    bucket = Bucket(Location.parse(tmp_path / "bucket"))
    bucket.create()
    for _ in range(FACTOR):
        commit(bucket, "delete old", IDS, "")
    assert Compactor(bucket, lambda _: None).run()
    assert bucket.head().segments == ()
    assert bucket.head().tombstones_dropped_to == bucket.head().sequence == FACTOR
    bucket.commit(rows_of(["a"]), resolve.put)
    assert bucket.head().rows == 1


def test_compactor_keeps_replaced_segments_for_readers_of_an_older_head(tmp_path: Path) -> None:
    bucket = filled(tmp_path, FACTOR)
    before = bucket.head()
    trash = Trash(Location.parse(tmp_path))
    assert Compactor(bucket, trash.move).run()
    assert len(bucket.head().segments) == 1
    assert {entry.name for entry in bucket.head().retired} == {info.name for info in before.segments}
    assert sum(len(batch) for batch in bucket.changes(before, 0, ("key",), raise_)) == 3 * FACTOR
    with mock.patch.object(compaction, "RETIRED_FOR", timedelta(0)):
        assert not Compactor(bucket, trash.move).run()
    assert bucket.head().retired == ()
    assert len(storage.list_tree(Location.parse(tmp_path / "trash"))) == FACTOR
    assert storage.list_names(bucket.location / "segments") == [bucket.head().segments[0].name]


def test_compactor_bounds_the_list_of_retired_segments(tmp_path: Path) -> None:
    """Every commit writes the list, so steady writes must not make it longer and longer for ten minutes."""
    bucket = filled(tmp_path, 0)
    moved: list[Location] = []
    compactor = Compactor(bucket, moved.append)
    with mock.patch.object(compaction, "MAX_RETIRED", 10), mock.patch.object(compaction, "FACTOR", 2):
        for number in range(30):
            bucket.commit(rows_of([str(number)]), resolve.put)
            compactor.run()
            assert len(bucket.head().retired) <= 10
    named = {info.name for info in bucket.head().segments}
    assert moved
    assert not named & {location.name for location in moved}
    assert MAX_RETIRED > 10


def test_compactor_that_was_overtaken_drops_its_merge(tmp_path: Path) -> None:
    bucket = filled(tmp_path, FACTOR)
    head = bucket.head()
    late, early = Compactor(bucket, lambda _: None), Compactor(Bucket(bucket.location), lambda _: None)
    assert early.run()
    after = bucket.head()
    assert not late._merge(head, head.segments)
    assert bucket.head() == after
    listed = {info.name for info in after.segments} | {entry.name for entry in after.retired}
    assert set(storage.list_names(bucket.location / "segments")) == listed


def test_compactor_killed_after_it_moved_segments_goes_on(tmp_path: Path) -> None:
    bucket = filled(tmp_path, FACTOR)
    trash = Trash(Location.parse(tmp_path))
    Compactor(bucket, trash.move).run()
    for entry in bucket.head().retired[:3]:
        trash.move(bucket.segment_location(entry.name))
    with mock.patch.object(compaction, "RETIRED_FOR", timedelta(0)):
        Compactor(bucket, trash.move).run()
    assert bucket.head().retired == ()
    assert len(storage.list_tree(Location.parse(tmp_path / "trash"))) == FACTOR


def test_trash_is_emptied_after_two_days_and_of_nothing_else(tmp_path: Path) -> None:
    root = Location.parse(tmp_path)
    today = datetime.now(UTC).date()
    days = [(today - timedelta(days=age)).isoformat() for age in range(5)]
    others = ["2020-1-1", "notes", "0000-00-00", ".hidden"]
    for name in itertools.chain(days, others):
        storage.write(root / f"trash/{name}/file", b"x")
    Trash(root).empty()
    assert set(storage.list_names(root / "trash")) == {*days[:3], *others}
