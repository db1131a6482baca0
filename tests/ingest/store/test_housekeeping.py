"""Merges beside commits: done when due, given up when nobody waits, and never the reason why something is lost."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from support.s3 import Fault, Faults
from support.stores import new_collection, rows_of, titles
from support.unreachable import unreachable

from lookalike import storage
from lookalike.ingest.store import housekeeping as module
from lookalike.ingest.store.collection import Collection
from lookalike.ingest.store.compaction import Compactor
from lookalike.ingest.store.housekeeping import Housekeeping
from lookalike.storage import Location


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAUSE_S", 0.01)


@pytest.fixture
def collection(tmp_path: Path) -> Collection:
    return new_collection(tmp_path, 1)


def commit(collection: Collection, count: int) -> None:
    for number in range(count):
        collection.put(rows_of([f"{number % 5}"], f"{number}"))


def segments(collection: Collection) -> int:
    return len(collection.buckets[0].head().segments)


def test_housekeeping_merges_what_is_due_before_its_block_ends(collection: Collection) -> None:
    with Housekeeping(collection) as housekeeping:
        commit(collection, 40)
        housekeeping.poke()
    assert segments(collection) < 40
    assert collection.compact() == 0
    assert titles(collection) == {f"{n % 5}": f"{n}" for n in range(35, 40)}


def test_housekeeping_merges_nothing_unless_there_were_commits(collection: Collection) -> None:
    commit(collection, 40)
    with Housekeeping(collection):
        time.sleep(0.2)
        assert segments(collection) == 40


def test_housekeeping_goes_on_after_errors(collection: Collection) -> None:
    with Housekeeping(collection) as housekeeping:
        commit(collection, 40)
        with unreachable(collection.buckets[0].head_location.path):
            housekeeping.poke()
            time.sleep(0.3)
        housekeeping.poke()
    assert segments(collection) < 40


def test_housekeeping_gives_up_a_merge_whose_storage_does_not_answer(
    s3_root: Location, faults: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As at Ctrl-C of a job: the merge takes half a minute, the end does not."""
    monkeypatch.setattr(module, "STOP_S", 0.5)
    collection = new_collection(s3_root, 1)
    commit(collection, 20)
    faults.add(Fault.SLOW, times=None, methods={"GET"}, key=".seg", delay_s=3.0)
    housekeeping = Housekeeping(collection)
    housekeeping.start()
    housekeeping.poke()
    time.sleep(0.5)
    started = time.monotonic()
    housekeeping.stop()
    assert time.monotonic() - started < 10
    assert segments(collection) == 20
    faults.clear()
    housekeeping._thread.join(30)
    assert (segments(collection), titles(collection)) == (20, {f"{n % 5}": f"{n}" for n in range(15, 20)})


def test_compactor_that_is_stopped_leaves_nothing_and_can_begin_again(collection: Collection) -> None:
    for number in range(10):
        collection.put(rows_of([f"{number}/{n}" for n in range(5000)]))
    bucket = collection.buckets[0]
    before = bucket.head()
    compactor = Compactor(bucket, storage.remove)
    for batches in range(3):
        asked = iter([False] * batches + [True] * 100)
        assert not compactor.run(lambda asked=asked: next(asked))  # type: ignore[misc]
        assert bucket.head() == before
        assert set(storage.list_names(bucket.location / "segments")) == {info.name for info in before.segments}
    assert compactor.run()
    assert len(bucket.head().segments) < 10
    assert collection.count() == 50_000
