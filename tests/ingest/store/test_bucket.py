"""One bucket: swaps that somebody else was faster with, answers that were lost, readers that merges go past."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from unittest import mock

import pytest
from support.store_oracle import raise_
from support.stores import rows_of

from lookalike import storage
from lookalike.errors import Conflict, StorageUnavailable, StoreUnavailable
from lookalike.ingest.store import bucket as bucket_module
from lookalike.ingest.store import compaction, resolve
from lookalike.ingest.store.bucket import Bucket
from lookalike.ingest.store.compaction import FACTOR, Compactor
from lookalike.ingest.store.keys import keys_of
from lookalike.ingest.store.segment import SegmentDamaged
from lookalike.storage import Location, Version


@pytest.fixture
def bucket(tmp_path: Path) -> Bucket:
    bucket = Bucket(Location.parse(tmp_path / "bucket"))
    bucket.create()
    return bucket


def put(bucket: Bucket, *ids: str, title: str = "") -> None:
    bucket.commit(rows_of(ids, title), resolve.put)


def titles(bucket: Bucket) -> dict[str, str]:
    found: dict[str, str] = {}
    for batch in bucket.changes(bucket.head(), 0, ("image_id", "title"), raise_):
        found |= dict(zip(batch["image_id"].to_pylist(), batch["title"].to_pylist(), strict=True))
    return found


def files(bucket: Bucket) -> set[str]:
    return set(storage.list_names(bucket.location / "segments"))


def listed(bucket: Bucket) -> set[str]:
    head = bucket.head()
    return {info.name for info in head.segments} | {entry.name for entry in head.retired}


@contextmanager
def before_the_next_swap(act: Callable[[], object], *, carried_out: bool = False) -> Iterator[None]:
    """Let somebody act between a commit's reading of the head and its swap, or between the swap and its answer."""
    replace = storage.replace
    done: list[Location] = []

    def replaced(location: Location, content: bytes, version: Version) -> Version:
        if done:
            return replace(location, content, version)
        done.append(location)
        if carried_out:
            replace(location, content, version)
        act()
        if carried_out:
            raise Conflict(f"{location} was changed by somebody else")
        return replace(location, content, version)

    with mock.patch.object(storage, "replace", replaced):
        yield
    assert done


def test_commit_is_made_again_from_the_newer_head(bucket: Bucket) -> None:
    other = Bucket(bucket.location)
    with before_the_next_swap(lambda: put(other, "a", "theirs", title="theirs")):
        put(bucket, "a", "mine", title="mine")
    assert titles(bucket) == {"a": "mine", "theirs": "theirs", "mine": "mine"}
    assert bucket.head().sequence == 2
    assert files(bucket) == listed(bucket)


def test_commit_decides_again_by_what_the_faster_one_wrote(bucket: Bucket) -> None:
    other = Bucket(bucket.location)
    rows = rows_of(["a"], "catalogue", fingerprints=[7])
    with before_the_next_swap(lambda: other.commit(rows_of(["a"], "same", fingerprints=[7]), resolve.copy)):
        assert bucket.commit(rows, resolve.take_in).written == 0
    assert titles(bucket) == {"a": "same"}
    assert files(bucket) == listed(bucket)


def test_commit_whose_answer_was_lost_is_not_made_twice(bucket: Bucket) -> None:
    """Nor is its segment removed, which the head names, though the swap seems to have been lost to another."""
    other = Bucket(bucket.location)
    with before_the_next_swap(lambda: put(other, "a", title="later"), carried_out=True):
        put(bucket, "a", "b", title="mine")
    assert titles(bucket) == {"a": "later", "b": "mine"}
    assert bucket.head().sequence == 2
    assert files(bucket) == listed(bucket)


def test_commit_whose_answer_was_lost_is_recognised_after_a_merge(bucket: Bucket) -> None:
    def act() -> None:
        other = Bucket(bucket.location)
        for number in range(FACTOR):
            put(other, "a", title=f"later {number}")
        assert Compactor(other, lambda _: None).run()

    with before_the_next_swap(act, carried_out=True):
        put(bucket, "a", "b", title="mine")
    assert titles(bucket) == {"a": f"later {FACTOR - 1}", "b": "mine"}
    assert files(bucket) == listed(bucket)


def test_merge_whose_answer_was_lost_keeps_its_segment(bucket: Bucket) -> None:
    for number in range(FACTOR):
        put(bucket, str(number))
    with before_the_next_swap(lambda: put(Bucket(bucket.location), "later"), carried_out=True):
        assert Compactor(bucket, lambda _: None).run()
    assert set(titles(bucket)) == {*map(str, range(FACTOR)), "later"}
    assert files(bucket) == listed(bucket)


def test_commit_gives_up_after_a_while_and_leaves_nothing(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bucket_module, "COMMIT_DEADLINE_S", 0.05)

    def always(location: Location, content: bytes, version: Version) -> Version:
        raise Conflict(str(location))

    monkeypatch.setattr(storage, "replace", always)
    with pytest.raises(Conflict):
        put(bucket, "a")
    with pytest.raises(Conflict):
        bucket.exchange(lambda head: head.with_segment("0" * 32 + ".seg", 1, 0, 1))
    assert files(bucket) == set()


def test_commit_of_unknown_fate_keeps_its_segment(bucket: Bucket) -> None:
    """The swap may still arrive: a segment that a head may come to name must stay."""
    with (
        mock.patch.object(storage, "replace", side_effect=StorageUnavailable("no answer")),
        pytest.raises(StorageUnavailable),
    ):
        put(bucket, "a")
    assert len(files(bucket)) == 1
    put(bucket, "a", title="again")
    assert titles(bucket) == {"a": "again"}


def test_changes_of_an_old_head_say_that_it_is_old(bucket: Bucket) -> None:
    """A segment that was merged and put away is not a damaged one."""
    for number in range(FACTOR):
        put(bucket, str(number))
    old = bucket.head()
    damaged: list[SegmentDamaged] = []
    reading = bucket.changes(old, 0, ("image_id",), damaged.append)
    next(reading)
    with mock.patch.object(compaction, "RETIRED_FOR", timedelta(0)):
        Compactor(bucket, storage.remove).run()
    with pytest.raises(Conflict, match="read the head again"):
        list(reading)
    assert not damaged
    rows = bucket.changes(bucket.head(), old.segments[0].last, ("image_id",), damaged.append)
    assert sum(map(len, rows)) == FACTOR - 1
    assert not damaged


def test_look_up_begins_anew_when_a_merge_went_past(bucket: Bucket) -> None:
    for number in range(FACTOR):
        put(bucket, str(number), title="here")
    head = bucket.head

    def then_merged() -> object:
        found = head()
        with mock.patch.object(compaction, "RETIRED_FOR", timedelta(0)):
            Compactor(Bucket(bucket.location), storage.remove).run()
        return found

    with mock.patch.object(bucket, "head", then_merged):
        which, rows, unreadable = bucket.look_up(keys_of(["0", "7", "unknown"]), ["title"])
    assert sorted(which.tolist()) == [0, 1]
    assert rows["title"].to_pylist() == ["here", "here"]
    assert not unreadable.any()


def test_rows_carry_the_number_of_their_commit_before_and_after_a_merge(bucket: Bucket) -> None:
    for number in range(FACTOR):
        put(bucket, "all", str(number))
    expected = {str(number): number + 1 for number in range(FACTOR)} | {"all": FACTOR}

    def shown() -> dict[str, int]:
        names = ("image_id", "sequence")
        rows = [batch.to_pylist() for batch in bucket.changes(bucket.head(), 0, names, raise_)]
        return {row["image_id"]: row["sequence"] for batch in rows for row in batch}

    def found() -> dict[str, int]:
        _, rows, _ = bucket.find(bucket.head(), keys_of(list(expected)), ["image_id", "sequence"])
        return {row["image_id"]: row["sequence"] for row in rows.to_pylist()}

    assert shown() == found() == expected
    assert Compactor(bucket, lambda _: None).run()
    assert shown() == found() == expected


def test_a_bucket_whose_folder_is_not_there_is_said(tmp_path: Path) -> None:
    bucket = Bucket(Location.parse(tmp_path / "nowhere"))
    with pytest.raises(StoreUnavailable, match=r"nowhere/head\.json is missing"):
        put(bucket, "a")
    assert list(tmp_path.iterdir()) == []


def test_many_segments_are_read_with_few_open(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bucket_module, "MAX_OPEN_SEGMENTS", 3)
    for number in range(10):
        put(bucket, str(number), title=str(number))
    for _ in range(2):
        _, rows, _ = bucket.look_up(keys_of([str(number) for number in range(10)]), ["title"])
        assert sorted(rows["title"].to_pylist()) == [str(number) for number in range(10)]
        assert len(bucket._open) == 3
