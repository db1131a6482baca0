"""The index of words: what it costs to load, to hold and to follow, and what a filter costs.

    python benchmarks/words.py 1000000

Titles of seven words, whose frequencies fall as in a language (Zipf), one in eight of them with an umlaut, and a number
that no other title has. They are put in batches of 8,192, as a shard is loaded, and merged; then a tenth is replaced in
batches of 256 with a view each, as a shard follows. Each filter is measured before and after, and checked against a
regular expression over all titles. CPU time of this thread, without the merges, whose time is given beside it.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lookalike.actors.index.word_index import WordIndex, Words

WORDS = 7
VOCABULARY = 100_000
MB = 1e6
FILTERS = {
    "a rare word": ["nummer77"],
    "a word of a tenth of the rows": ["wort0003"],
    "a beginning of two letters that a third of the rows have": ["be"],
    "a beginning that all rows have, six times each": ["wo"],
    "two frequent words": ["wort0001", "wort0002"],
    "three words": ["wort0001", "wört0005", "wort0050"],
    "a word that no title has": ["nichts"],
}


def rss_anonymous() -> int:
    found = re.search(r"RssAnon:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return 1024 * int(found[1])


def make_titles(numbers: np.ndarray, rng: np.random.Generator) -> pa.Array:
    """Titles as a text column, made without an object per title."""
    names = [f"W{'ö' if at % 8 == 5 else 'o'}rt{at:04}" for at in range(VOCABULARY // 2)]
    names += [f"Begriff{at}" for at in range(VOCABULARY // 2)]
    rank = np.exp(rng.uniform(0, np.log(VOCABULARY), (WORDS, len(numbers)))).astype(np.int64) - 1
    columns = [pa.array(names).take(pa.array(ranks)) for ranks in rank]
    unique = pc.binary_join_element_wise("Nummer", pa.array(numbers).cast(pa.string()), "")
    return pc.binary_join_element_wise(*columns, unique, " ")


def cpu_ms(work: Callable[[], Any], repeats: int = 7) -> float:
    """The median."""
    times = []
    for _ in range(repeats):
        started = time.thread_time()
        work()
        times.append(1000 * (time.thread_time() - started))
    return round(float(np.median(times)), 3)


def filters(view: Words, titles: pa.Array) -> dict[str, Any]:
    report = {}
    for name, words in FILTERS.items():
        bits = view.matching(words)
        met = np.unpackbits(bits.view(np.uint8), count=len(titles), bitorder="little")
        expected = np.ones(len(titles), bool)
        for word in words:
            found = pc.match_substring_regex(titles, f"(^| ){word}", ignore_case=True)
            expected &= found.to_numpy(zero_copy_only=False)
        assert (met == expected).all(), name
        report[name] = {
            "rows": int(met.sum()),
            "cpu_ms": cpu_ms(lambda words=words: view.matching(words)),  # type: ignore[misc]
            "cost": view.cost(words),
        }
    return report


def batches(rows: int, size: int) -> Iterator[np.ndarray]:
    for start in range(0, rows, size):
        yield np.arange(start, min(start + size, rows))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", type=int)
    parser.add_argument("--scratch", type=Path, default=Path("/var/tmp"))
    args = parser.parse_args()
    rng = np.random.default_rng(1)
    rows, millions = args.rows, args.rows / 1e6
    parts = [make_titles(numbers, rng) for numbers in batches(rows, 8192)]
    start = rss_anonymous()
    index = WordIndex(args.scratch)
    process, thread = time.process_time(), time.thread_time()
    for numbers, titles in zip(batches(rows, 8192), parts, strict=True):
        index.put(numbers, titles)
    index.tidy(None, rows, rows)
    view = index.view(rows)
    report: dict[str, Any] = {
        "rows": rows,
        "mb_of_titles": round(sum(titles.nbytes for titles in parts) / MB, 1),
        "load_cpu_s_per_million": round((time.thread_time() - thread) / millions, 2),
        "runs_loaded": len(view.runs),
    }
    index.wait()
    process = time.process_time() - process
    report["mb_per_million_rss"] = round((rss_anonymous() - start) / MB / millions, 1)
    unmerged = pa.concat_arrays(parts)
    report["load_and_merge_cpu_s_per_million"] = round(process / millions, 2)
    report["runs"] = len(view.runs)
    report["mb_held"] = round(index.held_bytes / MB, 2)
    report["bytes_per_row_on_disk"] = round(index.disk_bytes / rows, 1)
    report["filters"] = filters(view, unmerged)
    process, thread = time.process_time(), time.thread_time()
    replaced = rng.permutation(rows)[: rows // 10]
    latest = unmerged.to_numpy(zero_copy_only=False)
    slowest = 0.0
    for at in range(0, len(replaced), 256):
        slots = replaced[at : at + 256]
        titles = make_titles(slots, rng)
        latest[slots] = titles.to_numpy(zero_copy_only=False)
        began = time.thread_time()
        index.put(slots, titles)
        index.tidy(None, rows, rows)
        view = index.view(rows)
        slowest = max(slowest, time.thread_time() - began)
    report["following"] = {"slowest_batch_cpu_ms": round(1000 * slowest, 1), "runs": len(view.runs)}
    report["following"]["filters"] = filters(view, pa.array(latest, pa.string()))
    index.wait()
    report["following"]["bytes_per_row_on_disk"] = round(index.disk_bytes / rows, 1)
    print(json.dumps(report, indent=2, ensure_ascii=False))


if __name__ == "__main__":
    main()
