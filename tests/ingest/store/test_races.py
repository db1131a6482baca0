"""Processes that write at once, are stopped in the middle, or are killed: nothing acknowledged is lost or doubled."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.context import BaseContext
from pathlib import Path

import pytest
from support.racer import (
    OLD,
    ids_of,
    stop_before_the_merge,
    stop_before_the_swap,
    write,
    write_until_killed,
)
from support.s3 import Fault, Faults, S3Server
from support.stores import new_collection, rows_of, titles

from lookalike import storage
from lookalike.ingest.store.collection import Collection
from lookalike.ingest.store.keys import bucket_of, keys_of
from lookalike.storage import Location

pytestmark = pytest.mark.integration


@pytest.fixture
def processes() -> BaseContext:
    """New processes, which take over the environment, and so the S3 server, of this one."""
    return multiprocessing.get_context("spawn")


def race(context: BaseContext, root: Location, rounds: int, writers: int, logs: Path) -> list[list[dict[str, object]]]:
    barrier = context.Barrier(writers)
    paths = [logs / f"{writer}.jsonl" for writer in range(writers)]
    started = [
        context.Process(target=write, args=(root, n, rounds, barrier, path))  # type: ignore[attr-defined]
        for n, path in enumerate(paths)
    ]
    for process in started:
        process.start()
    for process in started:
        process.join()
    assert [process.exitcode for process in started] == [0] * writers
    return [[json.loads(line) for line in path.read_text().splitlines()] for path in paths]


@pytest.mark.timeout(600)
def test_writers_at_once_lose_nothing_double_nothing_and_the_later_commit_wins(
    processes: BaseContext, root: Location, tmp_path: Path
) -> None:
    writers, rounds, buckets = (3, 100, 2) if root.is_local else (2, 100, 1)
    collection = new_collection(root, buckets)
    collection.put(rows_of(OLD, tag="old"))
    commits = []
    for writer, entries in enumerate(race(processes, root, rounds, writers, tmp_path)):
        assert len(entries) == rounds
        for entry in entries:
            committed = entry["committed"]
            assert isinstance(committed, dict)
            commits += [(sequence, int(bucket), writer, entry["round"]) for bucket, sequence in committed.items()]
    assert len({commit[:2] for commit in commits}) == len(commits)  # no number twice

    expected = dict.fromkeys(OLD, "old")
    for _, bucket, writer, number in sorted(commits):
        assert isinstance(number, int)
        ids = ids_of(writer, number)
        place = bucket_of(keys_of(ids), buckets).tolist()
        expected |= {i: f"{writer} in round {number}" for i, b in zip(ids, place, strict=True) if b == bucket}
    assert titles(collection) == expected
    assert collection.count() == len(expected)
    check_no_file_is_missing_or_left_over(collection)


@pytest.mark.timeout(600)
def test_writers_at_once_lose_nothing_when_answers_are_lost(
    processes: BaseContext, s3_server: S3Server, faults: Faults, tmp_path: Path
) -> None:
    """A swap whose answer is lost and that somebody else's follows at once looks like a lost race, but is none."""
    root = s3_server.new_root()
    collection = new_collection(root, 1)
    faults.add(Fault.DROPPED_AFTER, None, probability=0.2, methods={"PUT"})
    faults.add(Fault.UNAVAILABLE, None, probability=0.05)
    rounds, writers = 25, 3
    race(processes, root, rounds, writers, tmp_path)
    faults.clear()
    found = titles(collection)
    assert set(found) == {i for writer in range(writers) for number in range(rounds) for i in ids_of(writer, number)}
    for number in range(rounds):  # a round's new ids are put together: the last writer has all of them
        assert len({found[f"new {number}/{n}"] for n in range(6)}) == 1
    assert collection.buckets[0].head().sequence == rounds * writers  # no commit counts twice
    check_no_file_is_missing_or_left_over(collection)


def check_no_file_is_missing_or_left_over(collection: Collection) -> None:
    for bucket in collection.buckets:
        head = bucket.head()
        listed = {info.name for info in head.segments} | {entry.name for entry in head.retired}
        assert set(storage.list_names(bucket.location / "segments")) == listed


# --- stopped and continued


@contextmanager
def stopped_process(context: BaseContext, target: Callable[..., None], *arguments: object) -> Iterator[None]:
    """Run a process until it stops itself; it goes on, to its end, when the block ends."""
    process = context.Process(target=target, args=arguments)  # type: ignore[attr-defined]
    process.start()
    try:
        deadline = time.monotonic() + 60
        while Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
            assert process.is_alive()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        yield
        os.kill(process.pid, signal.SIGCONT)
        process.join(60)
        assert process.exitcode == 0
    finally:
        process.kill()
        process.join()


def test_a_writer_stopped_before_its_swap_overwrites_nothing(processes: BaseContext, root: Location) -> None:
    collection = new_collection(root, 1)
    collection.put(rows_of(["shared", "other"], "before"))
    with stopped_process(processes, stop_before_the_swap, root, ["shared", "mine"], "of the stopped"):
        for number in range(20):
            collection.put(rows_of(["shared", f"new {number}"], f"commit {number}"))
        collection.delete(["other"])
        collection.compact()
        between = titles(collection)
        assert between == {"shared": "commit 19"} | {f"new {number}": f"commit {number}" for number in range(20)}
    assert storage.read(root / "done") == b"of the stopped"
    assert titles(collection) == between | dict.fromkeys(["shared", "mine"], "of the stopped")
    assert collection.buckets[0].head().sequence == 23
    check_no_file_is_missing_or_left_over(collection)


def test_a_merge_stopped_before_its_swap_overwrites_nothing(processes: BaseContext, root: Location) -> None:
    collection = new_collection(root, 1)
    for number in range(9):
        collection.put(rows_of([f"old {number}"], "old"))
    with stopped_process(processes, stop_before_the_merge, root):
        for number in range(20):
            collection.put(rows_of(["shared", f"new {number}"], "new"))
            collection.compact()
        between = titles(collection)
        sequence = collection.buckets[0].head().sequence
    assert storage.read(root / "done") == b"merge"
    assert titles(collection) == between
    assert len(between) == 30
    assert collection.buckets[0].head().sequence == sequence
    check_no_file_is_missing_or_left_over(collection)


# --- killed


def test_a_writer_killed_at_any_moment_loses_nothing_acknowledged(tmp_path: Path) -> None:
    processes = multiprocessing.get_context("forkserver")  # twenty, each from one that has imported all it needs
    processes.set_forkserver_preload(["support.racer"])
    root = Location.parse(tmp_path / "store")
    new_collection(root, 2)
    log = tmp_path / "log"
    log.touch()
    moments = random.Random(0)
    expected: dict[str, str | None] = {}
    read = 0
    for number in range(20):
        process = processes.Process(target=write_until_killed, args=(root, number * 100_000, log))
        process.start()
        while log.stat().st_size == read:
            assert process.is_alive()
            time.sleep(0.002)
        time.sleep(moments.uniform(0, 0.3))
        process.kill()
        process.join()
        with log.open() as file:
            file.seek(read)
            lines = file.read().splitlines()
        for line in lines:
            kind, commit, ids = line.split(maxsplit=2)
            expected |= dict.fromkeys(json.loads(ids), commit if kind == "put" else None)
        read = log.stat().st_size
        collection = Collection.open(root, "default")
        found = titles(collection)
        # The commit under way may be there too, in one bucket or in both.
        newer = {i for i in {*found, *expected} if found.get(i) != expected.get(i)}
        assert len(newer) <= 5
        assert all(int(found[i]) > int(expected[i] or -1) for i in newer if i in found and expected.get(i))
        collection.put(rows_of(["next"], str(number)))
        assert titles(collection) == found | {"next": str(number)}
        expected |= {i: found.get(i) for i in newer} | {"next": str(number)}
    assert collection.compact() >= 0
    assert titles(collection) == {i: title for i, title in expected.items() if title is not None}
