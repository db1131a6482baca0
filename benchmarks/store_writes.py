"""What a store costs at 1.25M rows in one bucket: look-ups, writes, fsyncs, merges, and requests to an S3 server.

    python benchmarks/store_writes.py [N] [--out results.json] [--folder /tmp]

Acts on one row alternate, and merges are done in between. Bytes are counted where they are written.
"""

from __future__ import annotations

import argparse
import json
import logging
import multiprocessing
import os
import platform
import resource
import shutil
import statistics
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import numpy as np
import pyarrow as pa
from following import spec_folder
from numpy.typing import NDArray
from shard_memory import Catalogue
from store_rows import rows_of

from lookalike import storage
from lookalike.ingest.store import compaction
from lookalike.ingest.store.collection import Collection
from lookalike.storage import Location, local

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

LOAD_GROUP = 50_000
GROUP = 256
ROUNDS = 200
GROUP_ROUNDS = 60
UPSERTS = 100_000


class CountingDisk(local.Disk):
    """Counts what is written and synced, and how long syncs take."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.reset()

    def reset(self) -> None:
        self.bytes_written = self.fsyncs = 0
        self.fsync_s = 0.0

    def write(self, descriptor: int, content: ReadableBuffer, offset: int) -> int:
        written = super().write(descriptor, content, offset)
        with self._lock:
            self.bytes_written += written
        return written

    def fsync(self, descriptor: int, path: Path) -> None:
        start = time.perf_counter()
        super().fsync(descriptor, path)
        took = time.perf_counter() - start
        with self._lock:
            self.fsyncs += 1
            self.fsync_s += took


def create(root: Location, buckets: int, scratch: Path) -> Collection:
    model = scratch / f"model {uuid.uuid4().hex}"
    return Collection.create(root, "default", spec_folder(model), buckets)


def rows(numbers: NDArray[np.int64], seed: int) -> pa.Table:
    """The rows of some images; the codes differ by the seed."""
    return rows_of(Catalogue(seed=seed), numbers)


def ids_of(numbers: NDArray[np.int64]) -> list[str]:
    ids: list[str] = rows(numbers, 0)["image_id"].to_pylist()
    return ids


def load(collection: Collection, count: int) -> float:
    """Fill a collection with large groups, without merges. Gives rows per second, their making left out."""
    took = 0.0
    for start in range(0, count, LOAD_GROUP):
        table = rows(np.arange(start, min(start + LOAD_GROUP, count)), start)
        begun = time.perf_counter()
        collection.put(table)
        took += time.perf_counter() - begun
    return count / took


def timed(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return (time.perf_counter() - start) * 1e3


def quantiles(times_ms: list[float]) -> dict[str, float]:
    return {"p50_ms": round(statistics.median(times_ms), 2), "p99_ms": round(float(np.percentile(times_ms, 99)), 2)}


def _merge(root: Location, answer: Any) -> None:
    """Merge all segments of the only bucket, in a process of its own, whose memory is looked at."""
    collection = Collection.open(root, "default")
    collection.find(["nothing"])
    before = _rss_mb()
    start = time.perf_counter()
    with mock.patch.object(compaction, "plan_merge", lambda head, _: head.segments if len(head.segments) > 1 else ()):
        collection.compact()
    took = time.perf_counter() - start
    answer.send((before, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, took))


def _rss_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def measure_merge(collection: Collection) -> dict[str, object]:
    head = collection.buckets[0].head()
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_merge, args=(collection.root, theirs))
    process.start()
    before, peak, took = ours.recv()
    process.join()
    size = sum(info.size_bytes for info in head.segments)
    return {
        "rows": head.rows,
        "segments": len(head.segments),
        "mb": round(size / 1e6),
        "seconds": round(took, 2),
        "mb_per_s": round(size / 1e6 / took),
        "rss_before_mb": round(before),
        "peak_rss_mb": round(peak),
        "peak_beyond_mb": round(peak - before),
    }


def measure_one(collection: Collection, count: int, disk: CountingDisk) -> dict[str, object]:
    """Look-ups and writes of one row, in alternation."""
    rng = np.random.default_rng(0)
    names = ["find", "find_missing", "upsert", "delete"]
    times: dict[str, list[float]] = {name: [] for name in names}
    syncs: dict[str, list[tuple[int, float]]] = {name: [] for name in names}
    for number in range(ROUNDS):
        chosen = rng.integers(0, count, 3)
        table = rows(chosen[:1], number)
        one, other = ids_of(chosen[1:])
        acts: dict[str, Callable[[], object]] = {
            "find": partial(collection.find, [one]),
            "find_missing": partial(collection.find, [f"new{number}"]),
            "upsert": partial(collection.put, table),
            "delete": partial(collection.delete, [other]),
        }
        for name, act in acts.items():
            disk.reset()
            times[name].append(timed(act))
            syncs[name].append((disk.fsyncs, disk.fsync_s * 1e3))
        collection.compact()
    result: dict[str, object] = {"segments": len(collection.buckets[0].head().segments)}
    for name in names:
        entry: dict[str, object] = dict(quantiles(times[name]))
        if name in ("upsert", "delete"):
            entry["fsyncs"] = int(statistics.median(count for count, _ in syncs[name]))
            entry["fsync_p50_ms"] = round(statistics.median(ms for _, ms in syncs[name]), 2)
        result[name] = entry
    return result


def measure_groups(root: Location, count: int, disk: CountingDisk, scratch: Path) -> dict[str, object]:
    """Groups of 256 over 16 buckets."""
    collection = create(root, 16, scratch)
    load(collection, count)
    collection.compact()
    rng = np.random.default_rng(1)
    times, syncs = [], []
    for number in range(GROUP_ROUNDS):
        table = rows(rng.choice(count, GROUP, replace=False), number)
        disk.reset()
        times.append(timed(partial(collection.put, table)))
        syncs.append((disk.fsyncs, disk.fsync_s * 1e3))
        collection.compact()
    return {
        **quantiles(times),
        "fsyncs": int(statistics.median(count for count, _ in syncs)),
        "fsync_p50_ms_of_8_threads_together": round(statistics.median(ms for _, ms in syncs), 1),
    }


def measure_amplification(collection: Collection, count: int, disk: CountingDisk) -> dict[str, object]:
    """100,000 upserts in groups of 256, half of them of images that are there, merging as it goes."""
    rng = np.random.default_rng(2)
    disk.reset()
    upserted = most = 0
    start = time.perf_counter()
    building = 0.0
    for number in range(UPSERTS // GROUP):
        begun = time.perf_counter()
        old = rng.choice(count, GROUP // 2, replace=False)
        new = count + np.arange(GROUP // 2) + number * (GROUP // 2)
        table = rows(np.concatenate([old, new]), number)
        building += time.perf_counter() - begun
        upserted += table.nbytes
        collection.put(table)
        collection.compact()
        most = max(most, *(len(bucket.head().segments) for bucket in collection.buckets))
    took = time.perf_counter() - start - building
    heads = [bucket.head() for bucket in collection.buckets]
    return {
        "rows_before": count,
        "buckets": len(collection.buckets),
        "upserts": UPSERTS // GROUP * GROUP,
        "upserted_mb": round(upserted / 1e6, 1),
        "written_mb": round(disk.bytes_written / 1e6, 1),
        "bytes_written_per_byte_upserted": round(disk.bytes_written / upserted, 2),
        "upserts_per_s_with_merges": round(UPSERTS / took),
        "fsyncs_per_group": round(disk.fsyncs / (UPSERTS // GROUP), 1),
        "most_segments": most,
        "head_bytes": max(len(head.encoded()) for head in heads),
    }


def measure_s3(count: int, scratch: Path) -> dict[str, object]:
    """Requests, and times that are those of a server in the same two cores."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    from support.s3 import run_s3_server

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    with run_s3_server() as server:
        collection = create(server.new_root(), 16, scratch)
        load(collection, count)
        collection.compact()
        reader = Collection.open(collection.root, "default")
        ids = ids_of(np.random.default_rng(3).permutation(count))
        acts: dict[str, Callable[[int], object]] = {
            "find": lambda number: reader.find(ids[number : number + 1]),
            "upsert": lambda number: collection.put(rows(np.array([number * 41 % count]), number)),
            "delete": lambda number: collection.delete(ids[-number - 2 : -number - 1]),
            "group_of_256": lambda number: collection.put(
                rows(np.arange(number * GROUP, (number + 1) * GROUP), number)
            ),
        }
        result: dict[str, object] = {"rows": count, "buckets": 16}
        for name, act in acts.items():
            act(0)
            rounds = 20
            with server.faults.counting() as requests:
                times = [timed(partial(act, number)) for number in range(1, rounds + 1)]
            by_method = {method: round(number / rounds, 1) for method, number in sorted(requests.items())}
            result[name] = {**quantiles(times), "requests": by_method}
        _, token = storage.read_versioned(collection.token_location)
        with server.faults.counting() as requests:
            polls = 50
            for _ in range(polls):
                assert storage.read_if_changed(collection.token_location, token) is None
        result["poll_at_rest"] = {"requests": sum(requests.values()) / polls}
        collection.compact()
        with server.faults.counting() as requests:
            collection.compact()
        result["look_for_merges_in_16_buckets_at_rest"] = {"requests": sum(requests.values())}
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("N", type=float, nargs="?", default=1.25e6, help="rows in the bucket")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--folder", type=Path, help="where the stores are made; the disk that is measured")
    given = parser.parse_args()
    count = int(given.N)
    folder = Path(tempfile.mkdtemp(prefix="lookalike-bench-", dir=given.folder))
    machine = {"cpu": platform.processor() or platform.machine(), "cores": os.cpu_count()}
    results: dict[str, object] = {"machine": {**machine, "python": platform.python_version()}, "rows": count}

    def note(name: str, value: object) -> None:
        results[name] = value
        print(json.dumps({name: value}), flush=True)

    disk = CountingDisk()
    try:
        with mock.patch.object(local, "disk", disk):
            one = create(Location.parse(folder / "one"), 1, folder)
            note("load_rows_per_s", round(load(one, count)))
            assert one.buckets[0].head().rows == count
            note("merge_of_all", measure_merge(one))
            one = Collection.open(one.root, "default")
            note("one_row", measure_one(one, count, disk))
            note("amplification_one_bucket", measure_amplification(one, count, disk))
            assert one.count() <= count + UPSERTS
            shutil.rmtree(folder / "one")
            note("group_of_256_over_16_buckets", measure_groups(Location.parse(folder / "many"), count, disk, folder))
            shutil.rmtree(folder / "many")
            empty = create(Location.parse(folder / "empty"), 16, folder)
            load(empty, GROUP)
            note("amplification_16_buckets_from_empty", measure_amplification(empty, GROUP, disk))
        note("s3", measure_s3(min(count, 50_000), folder))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if given.out:
        given.out.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
