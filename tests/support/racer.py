"""Processes that write to one collection; a module of its own, so that a new process can import it."""

from __future__ import annotations

import json
import os
import signal
from multiprocessing.synchronize import Barrier
from pathlib import Path

from lookalike import storage
from lookalike.ingest.store.bucket import Bucket
from lookalike.ingest.store.collection import Collection
from lookalike.ingest.store.head import Head
from lookalike.storage import Location
from support.stores import rows_of

OLD = [f"old {n}" for n in range(30)]


def ids_of(writer: int, number: int) -> list[str]:
    """The ids that a writer puts in one round: new ones that all share, old ones that overlap."""
    new = [f"new {number}/{n}" for n in range(6)]
    old = [OLD[(number + writer * 3 + n) % len(OLD)] for n in range(8)]
    return new + old


def write(root: Location, writer: int, rounds: int, barrier: Barrier, log: Path) -> None:
    """Put in each round, all writers at once, and note which commit of each bucket that was; merge now and then."""
    collection = Collection.open(root, "default")
    barrier.wait()
    with log.open("w") as file:
        for number in range(rounds):
            written = collection.put(rows_of(ids_of(writer, number), tag=f"{writer} in round {number}"))
            committed = {bucket: commit.head.sequence for bucket, commit in written.commits.items()}
            file.write(json.dumps({"round": number, "committed": committed}) + "\n")
            if number % 8 == writer:
                collection.compact()


def write_until_killed(root: Location, start: int, log: Path) -> None:
    """Put and delete, noting what is acknowledged, and merge all the time."""
    collection = Collection.open(root, "default")
    with log.open("a", buffering=1) as file:
        for number in range(start, start + 100_000):
            ids = [f"image {(number * 7 + n) % 50}" for n in range(5)]
            collection.put(rows_of(ids, tag=str(number)))
            file.write(f"put {number} {json.dumps(ids)}\n")
            if number % 3 == 0:
                collection.delete(ids[:1])
                file.write(f"delete {number} {json.dumps(ids[:1])}\n")
            collection.compact()


def stop_before_the_swap(root: Location, ids: list[str], tag: str) -> None:
    """Put, but be stopped when all is ready and the head is about to be replaced."""
    swap = Bucket._swap

    def stopped(self: Bucket, newer: Head, version: str) -> None:
        if not STOPPED:
            STOPPED.append(version)
            os.kill(os.getpid(), signal.SIGSTOP)
        swap(self, newer, version)

    Bucket._swap = stopped  # type: ignore[method-assign]
    Collection.open(root, "default").put(rows_of(ids, tag=tag))
    storage.write(root / "done", tag.encode())


def stop_before_the_merge(root: Location) -> None:
    """Merge, but be stopped before the merge is committed."""
    with_merged = Head.with_merged

    def stopped(self: Head, *arguments: object) -> Head | None:
        if not STOPPED:
            STOPPED.append("")
            os.kill(os.getpid(), signal.SIGSTOP)
        return with_merged(self, *arguments)  # type: ignore[arg-type]

    Head.with_merged = stopped  # type: ignore[assignment,method-assign]
    Collection.open(root, "default").compact()
    storage.write(root / "done", b"merge")


STOPPED: list[str] = []
