"""Measure the whole walk on one machine: encoding, start, search over HTTP, memory.

    python benchmarks/walk.py CATALOGUE [--photos 1500] [--seconds 8] [--out benchmarks/results/walk.json]

Everything runs in real processes, as `lookalike demo` starts them. Rates are of this machine, ratios travel better.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import psutil
from machine import machine
from serving_client import Job, run

from lookalike.ingest.catalogue.catalogue import Catalogue
from lookalike.ingest.catalogue.entries import Entry
from lookalike.ingest.encode import EncodeJob
from lookalike.ingest.photos.decode import decode
from lookalike.ingest.photos.fetch import read_photo
from lookalike.ingest.store.collection import Collection
from lookalike.storage import Location

ROUNDS = 3
CLIENTS = (1, 32)
COMMAND = [sys.executable, "-m", "lookalike.cluster.cli.main"]


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("catalogue", type=Path, help="photos to encode and to search with")
    arguments.add_argument("--photos", type=int, default=1500, help="how many the encoding is measured on")
    arguments.add_argument("--seconds", type=float, default=8.0, help="length of each load")
    arguments.add_argument("--out", type=Path, help="write the results as JSON")
    arguments.add_argument("--bare", type=Path, help=argparse.SUPPRESS)
    given = arguments.parse_args()
    if given.bare:
        print(json.dumps(bare_rate(given.bare, given.catalogue, given.photos)))
        return
    with tempfile.TemporaryDirectory(prefix="walk-") as scratch:
        results = measure(given.catalogue, Path(scratch), given.photos, given.seconds)
    text = json.dumps(results, indent=2)
    print(text)
    if given.out:
        given.out.parent.mkdir(parents=True, exist_ok=True)
        given.out.write_text(text + "\n")


def measure(catalogue: Path, scratch: Path, photos: int, seconds: float) -> dict[str, Any]:
    """Take every measurement, one after the other."""
    with demo(catalogue, scratch / "demo") as (url, started):
        store = next(path for path in (scratch / "demo").iterdir() if path.is_dir())
        http = {f"{kind}_{n}": load(url, store, kind, n, seconds) for kind in ("id", "image") for n in CLIENTS}
        memory = memory_of_shards(url)
    started["serve_alone_to_first_answer_s"] = restart_s(store)
    part = first_photos(catalogue, scratch / "part", photos)
    return {
        "machine": machine(),
        "catalogue": catalogue.name,
        "demo": started,
        "encode": encoding(part, opened(store).model_location.path, scratch),
        "http": http,
        "memory": memory,
    }


def encoding(catalogue: Path, model: Path, scratch: Path) -> dict[str, Any]:
    """Photos per second of the whole job, alternating with the bare model call in a process of its own."""
    from lookalike.model.encoder import Encoder

    encoder = Encoder(model)
    whole, bare, one = [], [], []
    for number in range(ROUNDS):
        root = Location.parse(scratch / f"encoded-{number}")
        collection = Collection.create(root, "default", Location.parse(model))
        report = EncodeJob(Catalogue.open(catalogue), collection, encoder, encoder.spec.input_px).run()
        whole.append(report.encoded / report.seconds)
        command = [sys.executable, __file__, str(catalogue), "--bare", str(model)]
        bare.append(json.loads(subprocess.check_output(command, stderr=subprocess.DEVNULL)))
        pixels = np.zeros((1, *[encoder.spec.input_px] * 2, 3), np.uint8)
        one += [clocked(lambda pixels=pixels: encoder.encode(pixels)) for _ in range(20)]
    return {
        "photos_per_s": median(whole),
        "bare_model_call_per_s": median(bare),
        "ratio": round(statistics.median(w / b for w, b in zip(whole, bare, strict=True)), 3),
        "target": "ratio at least 0.8",
        "one_photo_ms": median([1e3 * seconds for seconds in one]),
    }


def bare_rate(model: Path, catalogue: Path, photos: int) -> float:
    """Photos per second of the network alone, in batches of 32, with TensorFlow's own choice of threads."""
    import tensorflow as tf

    tf.constant(0)  # TensorFlow now runs, so that the encoder's settings of threads come too late
    from lookalike.model.encoder import Encoder

    encoder = Encoder(model)
    photos_of = Catalogue.open(catalogue)
    entries = [entry for entry in photos_of if isinstance(entry, Entry)][: min(photos, 512)]
    pixels = np.stack([decode(read_photo(entry.photo, photos_of.root), encoder.spec.input_px) for entry in entries])
    batches = [pixels[start : start + 32] for start in range(0, len(pixels) - 31, 32)]
    encoder.bare(batches[0])
    seconds = clocked(lambda: [encoder.bare(batch) for batch in batches])
    return 32 * len(batches) / seconds


@contextmanager
def demo(catalogue: Path, store: Path) -> Iterator[tuple[str, dict[str, float]]]:
    """Run the demo as `make demo` does. Gives its address, and the seconds to each step."""
    port = 18000 + os.getpid() % 2000
    command = [*COMMAND, "demo", str(catalogue), "--store", str(store), "--port", str(port)]
    url = f"http://127.0.0.1:{port}"
    started = time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            while " is ready;" not in process.stdout.readline():
                assert process.poll() is None, "the demo ended"
            ready = time.monotonic() - started
            first = next(iter(stored_ids(next(path for path in store.iterdir() if path.is_dir()))))
            search(url, {"image_id": first})
            answered = time.monotonic() - started
            yield (
                url,
                {
                    "ready_s": round(ready, 1),
                    "first_answer_s": round(answered, 1),
                },
            )
        finally:
            process.send_signal(signal.SIGINT)


def restart_s(store: Path) -> float:
    """Seconds from `lookalike serve` on an encoded store to its first answer."""
    port = 20000 + os.getpid() % 2000
    started = time.monotonic()
    command = [*COMMAND, "serve", "--store", str(store), "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        while " is ready;" not in process.stdout.readline():
            assert process.poll() is None, "the server ended"
        search(f"http://127.0.0.1:{port}", {"image_id": next(iter(stored_ids(store)))})
        seconds = time.monotonic() - started
        process.send_signal(signal.SIGINT)
    return round(seconds, 1)


def load(url: str, store: Path, kind: str, clients: int, seconds: float) -> dict[str, float]:
    """Search from so many clients at once; each sends its next request when it has its answer."""
    requests = [request(url, kind, image_id) for image_id in sample(stored_ids(store), 200)]
    servers = [process for process in psutil.process_iter() if serves(process)]
    port = int(url.rpartition(":")[2])
    run(Job(port, requests, clients, 1.0))  # warm
    before = cpu_seconds(servers)
    taken = run(Job(port, requests, clients, seconds))
    used = cpu_seconds(servers) - before
    assert not taken.failures, taken.failures
    count = len(taken.status)
    return {
        "requests_per_s": round(count / taken.seconds, 1),
        "p50_ms": round(taken.percentile_ms(50), 2),
        "p99_ms": round(taken.percentile_ms(99), 2),
        "cpu_ms_per_request": round(1e3 * used / count, 2),
        "requests": count,
    }


def request(url: str, kind: str, image_id: str) -> bytes:
    if kind == "id":
        path, content_type = "/v1/collections/default/search", "application/json"
        body = json.dumps({"image_id": image_id, "count": 20}).encode()
    else:
        path, content_type = "/v1/collections/default/search/image?count=20", "image/jpeg"
        with urllib.request.urlopen(f"{url}/v1/collections/default/images/{quote(image_id)}/photo") as photo:
            body = photo.read()
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def serves(process: psutil.Process) -> bool:
    """Whether a process takes part in answering: HAProxy, the replicas, the shards."""
    names = ("ServeReplica", "ShardActor", "haproxy", "raylet", "ServeController")
    try:
        command = " ".join(process.cmdline())
    except psutil.Error:
        return False
    return any(name in command for name in names)


def cpu_seconds(processes: list[psutil.Process]) -> float:
    return sum(sum(process.cpu_times()[:2]) for process in processes if process.is_running())


def memory_of_shards(url: str) -> dict[str, Any]:
    """Memory of the shards' processes as the system counts it, and what they count themselves of their rows.

    A catalogue of a few thousand photos shows the fixed part; `benchmarks/shard_memory.py` measures it per million.
    """
    with urllib.request.urlopen(f"{url}/v1/status") as answer:
        shards = json.load(answer)["collections"][0]["shards"]
    rows = sum(shard["rows"] for shard in shards)
    return {
        "rows": rows,
        "shard_rss_mb": [round(size / 1e6, 1) for shard in shards for size in shard["rss_bytes"]],
        "held_bytes_per_row": round(sum(shard["held_bytes"] for shard in shards) / rows, 1),
        "code_bytes_per_row": round(sum(shard["code_bytes"] for shard in shards) / rows, 1),
    }


def first_photos(catalogue: Path, folder: Path, count: int) -> Path:
    """A catalogue of the first photos of another."""
    whole = Catalogue.open(catalogue)
    (folder / "photos").mkdir(parents=True)
    with (folder / "catalog.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["image_id", "file"])
        for number, entry in enumerate(e for e in whole if isinstance(e, Entry)):
            if number == count:
                break
            name = f"photos/{number}{Path(entry.photo).suffix}"
            shutil.copy(whole.root / entry.photo, folder / name)
            table.writerow([entry.image_id, name])
    return folder


def opened(store: Path) -> Collection:
    return Collection.open(Location.parse(store), "default")


def stored_ids(store: Path) -> list[str]:
    """The ids in a store that only ever had rows added."""
    return [
        image_id
        for bucket in opened(store).buckets
        for batch in bucket.changes(bucket.head(), 0, ["image_id"], fail)
        for image_id in batch["image_id"].to_pylist()
    ]


def fail(error: Exception) -> None:
    raise error


def sample(values: list[str], count: int) -> list[str]:
    return random.Random(0).sample(values, min(count, len(values)))


def search(url: str, request_body: dict[str, Any]) -> Any:
    body = json.dumps(request_body).encode()
    path = f"{url}/v1/collections/default/search"
    with urllib.request.urlopen(urllib.request.Request(path, body, {"Content-Type": "application/json"})) as answer:
        return json.load(answer)


def clocked(work: Any) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def median(values: list[float]) -> float:
    return round(statistics.median(values), 2)


if __name__ == "__main__":
    main()
