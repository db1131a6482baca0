"""What single reads and writes of a store cost: on a disk with large buckets, and in requests on S3.

    python benchmarks/store.py 5000000 --buckets 4

Makes a store of synthetic rows (64 + 2,048 bits, all attributes), then finds, upserts and deletes single images, and
upserts groups of 256, alternately, ``--rounds`` times each. A figure is the median, with the part of it that is spent
in fsync. On S3 (a server on this machine, which costs more CPU than a real one) requests are counted, not timed.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
from following import GROUP, build, rows_of
from shard_memory import Catalogue

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from support.s3 import run_s3_server

from lookalike.actors.shard import REMOTE_FULL_LOOK_S
from lookalike.actors.supervisor import REMOTE_TOKEN_POLL_S
from lookalike.ingest.store.collection import Collection
from lookalike.storage import Location, local


class TimedDisk(local.Disk):
    """Adds up what fsync takes."""

    seconds = 0.0

    def fsync(self, descriptor: int, path: Path) -> None:
        started = time.perf_counter()
        super().fsync(descriptor, path)
        self.seconds += time.perf_counter() - started


def ids_of(table: pa.Table) -> list[str]:
    ids: list[str] = table["image_id"].to_pylist()
    return ids


def timed_on_disk(root: Location, rows: int, rounds: int) -> dict[str, dict[str, float]]:
    """Medians in milliseconds, alternating; the fsyncs of threads that commit at once are added up."""
    collection = Collection.open(root, "default")
    catalogue, rng = Catalogue(seed=2), np.random.default_rng(2)
    disk = TimedDisk()
    local.disk = disk

    def some(count: int) -> pa.Table:
        return rows_of(catalogue, rng.choice(rows, count, replace=False))

    acts: dict[str, Callable[[pa.Table], object]] = {
        "find one": lambda table: collection.find(ids_of(table)),
        "upsert one": collection.put,
        "delete one": lambda table: collection.delete(ids_of(table)),
        f"upsert {GROUP}": collection.put,
    }
    taken: dict[str, list[float]] = {name: [] for name in acts}
    synced: dict[str, list[float]] = {name: [] for name in acts}
    for number in range(rounds):
        for name, act in acts.items():
            table = some(GROUP if name.endswith(str(GROUP)) else 1)
            disk.seconds = 0.0
            started = time.perf_counter()
            act(table)
            taken[name].append(time.perf_counter() - started)
            synced[name].append(disk.seconds)
        if number % 20 == 19:
            collection.compact()
    return {
        name: {
            "ms_p50": round(1e3 * float(np.median(taken[name])), 2),
            "ms_p99": round(1e3 * float(np.percentile(taken[name], 99)), 2),
            "fsync_ms_p50": round(1e3 * float(np.median(synced[name])), 2),
        }
        for name in acts
    }


def requests_on_s3(rows: int, buckets: int) -> dict[str, object]:
    """Requests by kind for each act, on a store that is as small as tests can make it."""
    catalogue, rng = Catalogue(seed=3), np.random.default_rng(3)
    with run_s3_server() as server:
        root = server.new_root()
        build(root, rows, buckets)
        collection = Collection.open(root, "default")
        collection.put(rows_of(catalogue, np.arange(GROUP)))
        counts: dict[str, object] = {}
        for name, act, size in (
            ("find one", lambda table: collection.find(ids_of(table)), 1),
            ("upsert one", collection.put, 1),
            ("delete one", lambda table: collection.delete(ids_of(table)), 1),
            (f"upsert {GROUP} over {buckets} buckets", collection.put, GROUP),
        ):
            table = rows_of(catalogue, rng.choice(rows, size, replace=False))
            with server.faults.counting() as requests:
                act(table)
            counts[name] = dict(requests)
    at_rest = 1 / REMOTE_TOKEN_POLL_S + buckets / REMOTE_FULL_LOOK_S
    return {"requests": counts, "requests_per_s_at_rest": round(at_rest, 3)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", type=float)
    parser.add_argument("--buckets", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--store", type=Path, help="Kept, and used again if it is there.")
    options = parser.parse_args()
    rows = int(options.rows)
    with tempfile.TemporaryDirectory() as scratch:
        root = Location.parse(options.store or Path(scratch) / "store")
        builder = multiprocessing.get_context("spawn").Process(target=build, args=(root, rows, options.buckets))
        builder.start()
        builder.join()
        result = {
            "rows_per_bucket": rows // options.buckets,
            "disk": timed_on_disk(root, rows, options.rounds),
            "s3": requests_on_s3(20_000, 16),
        }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
