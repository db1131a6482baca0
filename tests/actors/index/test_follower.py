"""Following one bucket: segment after segment, through merges that take them away."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pytest
from support.rows import shown_by
from support.stores import new_collection, rows_of
from support.unreachable import unreachable

from lookalike.actors.index.follower import MAX_HEADS, BucketFollower
from lookalike.actors.index.rows import Rows
from lookalike.errors import Conflict, StorageUnavailable
from lookalike.ingest.store.bucket import Bucket
from lookalike.ingest.store.collection import Collection
from lookalike.ingest.store.head import Head


class Recorded(Rows):
    """Rows of the tiny model that keep what was applied to them."""

    def __init__(self) -> None:
        super().__init__(1, 2, (1, 1))
        self.applied: list[list[str]] = []

    def apply(self, batch: pa.RecordBatch) -> None:
        self.applied.append(sorted(batch["image_id"].to_pylist()))
        super().apply(batch)

    def titles(self) -> dict[str, str]:
        self.publish()
        with self.reading() as snapshot:
            return {shown["image_id"]: shown["title"] for shown in shown_by(snapshot).values()}


class Delayed(Bucket):
    """A bucket of which a reader sees some heads late: as they were when it began to read."""

    late: Sequence[Head] = ()

    def head(self) -> Head:
        if self.late:
            head, *self.late = self.late
            return head
        return super().head()


@pytest.fixture
def collection(tmp_path: Path) -> Collection:
    return new_collection(tmp_path, 1)


def put_apart(collection: Collection, count: int) -> None:
    """One image a commit."""
    for number in range(count):
        collection.put(rows_of([str(number)], f"of{number}"))


def test_follower_applies_every_segment_once(collection: Collection) -> None:
    follower, rows = BucketFollower(collection.buckets[0]), Recorded()
    put_apart(collection, 3)
    follower.follow(rows)
    assert rows.applied == [["0"], ["1"], ["2"]]
    put_apart(collection, 1)
    follower.follow(rows)
    follower.follow(rows)
    assert rows.applied == [["0"], ["1"], ["2"], ["0"]]
    assert (follower.applied, follower.batches) == (4, 4)


def test_follower_goes_on_with_the_segment_that_failed(collection: Collection) -> None:
    bucket = collection.buckets[0]
    follower, rows = BucketFollower(bucket), Recorded()
    put_apart(collection, 4)
    with unreachable(bucket.segment_location(bucket.head().segments[2].name).path):
        for _ in range(2):
            with pytest.raises(StorageUnavailable):
                follower.follow(rows)
            assert (rows.applied, follower.applied) == ([["0"], ["1"]], 2)
    follower.follow(rows)
    assert rows.applied == [["0"], ["1"], ["2"], ["3"]]


def test_follower_takes_from_a_merge_only_what_it_has_not_seen(collection: Collection) -> None:
    follower, rows = BucketFollower(collection.buckets[0]), Recorded()
    put_apart(collection, 5)
    follower.follow(rows)
    put_apart(collection, 8)
    assert collection.compact() > 0
    assert len(collection.buckets[0].head().segments) < 13
    follower.follow(rows)
    assert sorted(image_id for batch in rows.applied[5:] for image_id in batch) == sorted(map(str, range(8)))
    assert rows.titles() == {str(n): f"of{n}" for n in range(8)}


def merged_and_put_away(bucket: Bucket, collection: Collection) -> Head:
    """Let merges replace segments, and their files go. Returns the head of before."""
    before = bucket.head()
    assert collection.compact() > 0
    for name in {info.name for info in before.segments} - {info.name for info in bucket.head().segments}:
        bucket.segment_location(name).path.unlink()
    return before


def test_follower_that_read_its_head_before_a_merge_reads_it_again(collection: Collection) -> None:
    put_apart(collection, 20)
    bucket = Delayed(collection.buckets[0].location)
    bucket.late = [merged_and_put_away(bucket, collection)]
    follower, rows = BucketFollower(bucket), Recorded()
    follower.follow(rows)
    assert follower.damaged == {}
    assert rows.titles() == {str(n): f"of{n}" for n in range(20)}


def test_follower_gives_up_when_merges_are_always_faster(collection: Collection) -> None:
    put_apart(collection, 20)
    bucket = Delayed(collection.buckets[0].location)
    late = merged_and_put_away(bucket, collection)
    bucket.late = [head for _ in range(MAX_HEADS) for head in (late, bucket.head())]
    with pytest.raises(Conflict):
        BucketFollower(bucket).follow(Recorded())


def test_follower_counts_what_is_damaged_once(collection: Collection) -> None:
    """Also where a later segment cannot be read, and what comes before it is looked at again."""
    bucket = collection.buckets[0]
    follower, rows = BucketFollower(bucket), Recorded()
    put_apart(collection, 3)
    damaged, out_of_reach = (bucket.segment_location(info.name).path for info in bucket.head().segments[1:])
    damaged.write_bytes(damaged.read_bytes()[:-1])
    with unreachable(out_of_reach):
        for _ in range(2):
            with pytest.raises(StorageUnavailable):
                follower.follow(rows)
    follower.follow(rows)
    assert [damage.rows for damage in follower.damaged.values()] == [1]
    assert rows.titles() == {"0": "of0", "2": "of2"}
