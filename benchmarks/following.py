"""A shard that loads a store and follows it: time, memory, and how late it sees what is written.

    python benchmarks/following.py 1000000 --upserts 100000

Makes a store of synthetic rows (64 + 2,048 bits, all attributes), loads it as one shard in a process of its own, then
lets another process replace rows in groups of 256, merging segments meanwhile, as the writer of a cluster does. Memory
is RssAnon of the shard's process beyond what it had before it loaded. The lag is the time from the return of a commit
until the shard shows it. Bytes written are those that the writing process caused, as the kernel counts them.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import re
import tempfile
import threading
import time
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
from shard_memory import Catalogue, rss_anonymous
from store_rows import rows_of

from lookalike.actors.shard import Shard
from lookalike.ingest.store.collection import Collection
from lookalike.ingest.store.housekeeping import Housekeeping
from lookalike.model.spec import ComponentSpec, ModelSpec
from lookalike.storage import Location

CHUNK = 100_000
GROUP = 256
MB = 1e6


def spec_folder(folder: Path) -> Location:
    """A model's folder that is all spec: a store never runs its model."""
    spec = ModelSpec(
        name="synthetic",
        version="1",
        backbone="darknet19",
        width=0.5,
        input_px=32,
        short_bits=64,
        components=(ComponentSpec(name="conv1", source="conv1", bits=2048, weight=100),),
        arrays_sha256="0" * 64,
    )
    folder.mkdir(parents=True)
    (folder / "model.json").write_text(spec.model_dump_json())
    return Location.parse(folder)


def build(root: Location, rows: int, buckets: int) -> None:
    """Make the store, if it is not there."""
    scratch = Path(tempfile.mkdtemp())
    collection = Collection.create(root, "default", spec_folder(scratch / "model"), buckets)
    catalogue = Catalogue()
    for start in range(collection.rows_at_most(), rows, CHUNK):
        collection.put(rows_of(catalogue, np.arange(start, min(start + CHUNK, rows))))
    collection.compact()


def written_bytes() -> int:
    """Bytes that this process caused to be written to a disk."""
    found = re.search(r"^write_bytes: (\d+)", Path("/proc/self/io").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1])


def write(root: Location, rows: int, upserts: int, commits: Connection) -> None:
    """Replace random rows in groups, and tell of each commit: the time, and the sequence number by bucket."""
    collection = Collection.open(root, "default")
    catalogue, rng = Catalogue(seed=1), np.random.default_rng(1)
    seconds = 0.0
    row_bytes = 0
    before = written_bytes()
    with Housekeeping(collection) as housekeeping:
        for _ in range(upserts // GROUP):
            table = rows_of(catalogue, rng.choice(rows, GROUP, replace=False))
            row_bytes += table.nbytes
            started = time.monotonic()
            written = collection.put(table)
            seconds += time.monotonic() - started
            commits.send((time.monotonic(), {bucket: c.head.sequence for bucket, c in written.commits.items()}))
            housekeeping.poke()
    commits.send({"write_s": seconds, "amplification": (written_bytes() - before) / row_bytes})


def follow(shard: Shard, commits: Connection, lags: list[float]) -> dict[str, float]:
    """Refresh the shard as it is notified of commits, and note how late it shows each."""
    pending: list[tuple[float, dict[int, int]]] = []
    result: dict[str, float] = {}
    notified = threading.Event()

    def listen() -> None:
        while True:
            message = commits.recv()
            if isinstance(message, dict):
                result.update(message)
                notified.set()
                return
            pending.append(message)
            notified.set()

    listener = threading.Thread(target=listen)
    listener.start()
    while not result or pending:
        notified.wait(0.25)
        notified.clear()
        shard.refresh()
        now = time.monotonic()
        applied = {number: follower.applied for number, follower in enumerate(shard.followers)}
        for entry in list(pending):
            at, sequences = entry
            if all(applied[bucket] >= sequence for bucket, sequence in sequences.items()):
                lags.append(now - at)
                pending.remove(entry)
    listener.join()
    return result


def measure(root: Location, rows: int, upserts: int) -> dict[str, object]:
    """Load and follow, in this process."""
    collection = Collection.open(root, "default")
    fixed = rss_anonymous()
    peak = [0]
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.02):
            peak[0] = max(peak[0], rss_anonymous())

    watcher = threading.Thread(target=watch)
    watcher.start()
    started = time.monotonic()
    shard = Shard(root, "default", collection.version, range(collection.manifest.buckets))
    load_s = time.monotonic() - started
    loaded, load_peak = rss_anonymous() - fixed, peak[0] - fixed
    ours, theirs = multiprocessing.get_context("spawn").Pipe(duplex=False)
    writer = multiprocessing.get_context("spawn").Process(target=write, args=(root, rows, upserts, theirs))
    lags: list[float] = []
    peak[0] = 0
    started = time.monotonic()
    writer.start()
    result = follow(shard, ours, lags)
    writer.join()
    seconds = time.monotonic() - started
    done.set()
    watcher.join()
    per_million = rows / 1e6 * MB
    return {
        "rows": rows,
        "load_s_per_million": round(load_s / rows * 1e6, 2),
        "rss_mb_per_million": round(loaded / per_million, 1),
        "load_peak_mb_per_million": round(load_peak / per_million, 1),
        "upserts": len(lags) * GROUP,
        "upserts_per_s": round(len(lags) * GROUP / result["write_s"]),
        "upserts_per_s_with_a_shard_on_the_same_cores": round(len(lags) * GROUP / seconds),
        "lag_ms_p50": round(1e3 * float(np.percentile(lags, 50)), 1),
        "lag_ms_p99": round(1e3 * float(np.percentile(lags, 99)), 1),
        "bytes_written_per_byte_upserted": round(result["amplification"], 2),
        "rss_mb_per_million_after": round((rss_anonymous() - fixed) / per_million, 1),
        "peak_mb_per_million_while_following": round((peak[0] - fixed) / per_million, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", type=float)
    parser.add_argument("--upserts", type=float, default=100_000)
    parser.add_argument("--buckets", type=int, default=16)
    parser.add_argument("--store", type=Path, help="Kept, and used again if it is there.")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        root = Location.parse(options.store or Path(scratch) / "store")
        rows = int(options.rows)
        builder = multiprocessing.get_context("spawn").Process(target=build, args=(root, rows, options.buckets))
        builder.start()
        builder.join()
        print(json.dumps(measure(root, rows, int(options.upserts)), indent=2))


if __name__ == "__main__":
    main()
