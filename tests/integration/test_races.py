"""Processes that write the same ids at once."""

from __future__ import annotations

import json
import multiprocessing
from pathlib import Path

import pytest
from support.racer import OLD, ids_of, write
from support.stores import rows_of, titles, write_spec

from lookalike.actors.shard import Shard
from lookalike.ingest.store.collection import Store
from lookalike.ingest.store.keys import bucket_of, keys_of

pytestmark = pytest.mark.integration

WRITERS, BUCKETS = 4, 2


@pytest.mark.timeout(600)
def test_no_id_twice_last_commit_wins_nothing_lost(tmp_path: Path) -> None:
    root = tmp_path / "store"
    store = Store.create(root, "default", write_spec(tmp_path / "model"), buckets=BUCKETS)
    store.upsert(rows_of(OLD, tag="old"))
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(WRITERS)
    logs = [tmp_path / f"{writer}.jsonl" for writer in range(WRITERS)]
    writers = [context.Process(target=write, args=(root, n, barrier, log)) for n, log in enumerate(logs)]
    for process in writers:
        process.start()
    for process in writers:
        process.join()
    assert [process.exitcode for process in writers] == [0] * WRITERS

    expected = dict.fromkeys(OLD, "old")
    commits = []
    for writer, log in enumerate(logs):
        for line in log.read_text().splitlines():
            entry = json.loads(line)
            commits += [(version, int(b), writer, entry["round"]) for b, version in entry["committed"].items()]
    for _, bucket, writer, number in sorted(commits):
        ids = ids_of(writer, number)
        place = bucket_of(keys_of(ids), BUCKETS).tolist()
        expected |= {i: f"{writer} in round {number}" for i, b in zip(ids, place, strict=True) if b == bucket}

    assert titles(store) == expected
    shard = Shard(root, "default", store.version, range(BUCKETS))
    assert shard.status().rows == len(expected)
