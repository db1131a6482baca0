"""What a shard's rows take in memory: of the process, beyond its fixed cost, and counted per part.

    python benchmarks/shard_memory.py 1000000

Applies synthetic rows (64 + 2,048 bits, image ids of 11 characters, listing ids of 9, titles of 45, all attributes) in
batches of 8,192, then as many replacements of the same keys in batches of 1,000 with a publication each, and searches
once. Memory is RssAnon of the process: without file pages.
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from lookalike.actors.index.rows import Rows
from lookalike.kernels import hamming

SHORT_WORDS, LONG_WORDS = 1, 32
MB = 1e6
GROUPS, COLOURS, BRANDS = 228, 12, 5_000


def rss_anonymous() -> int:
    """Bytes of the process that are no file pages."""
    found = re.search(r"RssAnon:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return 1024 * int(found[1])


class Catalogue:
    """Synthetic rows; the same number gives the same ids and key at any time, and other codes with each call."""

    def __init__(self, apart: bool = False, seed: int = 0) -> None:
        self._apart = apart
        self._rng = np.random.default_rng(seed)
        self._values = {
            "group": pa.array([f"Apparel/Part {number % 19}/Group {number}" for number in range(GROUPS)]),
            "colour": pa.array([f"colour {number}" for number in range(COLOURS)]),
            "brand": pa.array([f"brand {number}" for number in range(BRANDS)]),
        }

    def batch(self, numbers: np.ndarray) -> pa.RecordBatch:
        rng, n = self._rng, len(numbers)
        listings = (220_000_000 + numbers // 4).astype(str)
        listing_ids = (990_000_000 - numbers // 4).astype(str) if self._apart else listings
        columns = {
            "key": pa.array((numbers.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)),
            "image_id": pa.array(np.char.add(np.char.add(listings, "/"), (numbers % 4).astype(str))),
            "deleted": pa.array(np.zeros(n, bool)),
            "short": self._codes(n, SHORT_WORDS),
            "long": self._codes(n, LONG_WORDS),
            "listing_id": pa.array(listing_ids),
            "title": pa.array([f"Rote Jacke, kaum getragen, Nummer {number:011}" for number in numbers.tolist()]),
            "description": pa.nulls(n, pa.string()),
            "price": pa.array(rng.uniform(1, 500, n)),
            "lat": pa.array(rng.uniform(46, 49, n)),
            "lon": pa.array(rng.uniform(9, 17, n)),
            "created_at": pa.array(
                rng.integers(1_600_000_000, 1_800_000_000, n) * 1_000_000, pa.timestamp("us", "UTC")
            ),
            **{name: values.take(pa.array(rng.integers(0, len(values), n))) for name, values in self._values.items()},
        }
        return pa.RecordBatch.from_arrays(list(columns.values()), list(columns))

    def _codes(self, n: int, words: int) -> pa.Array:
        data = pa.py_buffer(self._rng.integers(0, 2**64, (n, words), np.uint64))
        return pa.Array.from_buffers(
            pa.binary(), n, [None, pa.py_buffer(np.arange(n + 1, dtype=np.int32) * 8 * words), data]
        )

    def batches(self, rows: int, size: int) -> Iterator[pa.RecordBatch]:
        for start in range(0, rows, size):
            yield self.batch(np.arange(start, min(start + size, rows)))


def load(rows: Rows, batches: Iterator[pa.RecordBatch], publish_each: bool) -> tuple[float, float]:
    """Apply batches; seconds taken in all, and by the slowest of them."""
    total = slowest = 0.0
    for batch in batches:
        started = time.perf_counter()
        rows.apply(batch)
        if publish_each:
            rows.publish()
        took = time.perf_counter() - started
        total, slowest = total + took, max(slowest, took)
    rows.publish()
    return total, slowest


def check(rows: Rows, expected: int) -> None:
    """All rows are there, and a search for the codes of one finds it."""
    with rows.reading() as snapshot:
        assert snapshot.rows_visible == expected, (snapshot.rows_visible, expected)
        row = int(next(snapshot.visible_rows())[0])
        query = hamming.KernelQuery(snapshot.codes.short[row], snapshot.codes.long[row], 1, 256, (1,))
        (found,) = hamming.two_phase([query], snapshot.codes, snapshot.visible)
        assert found.rows.tolist() == [row], found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", type=int)
    parser.add_argument("--scratch", type=Path, default=Path("/var/tmp"))
    parser.add_argument("--apart", action="store_true", help="listing ids that do not begin the image ids")
    args = parser.parse_args()
    catalogue = Catalogue(args.apart)
    with tempfile.TemporaryDirectory() as warm:  # the fixed cost: libraries loaded, pools filled
        load(Rows(SHORT_WORDS, LONG_WORDS, (LONG_WORDS,), Path(warm)), catalogue.batches(20_000, 8192), False)
    start = rss_anonymous()
    rows = Rows(SHORT_WORDS, LONG_WORDS, (LONG_WORDS,), args.scratch)
    millions = args.rows / 1e6
    report: dict[str, object] = {"rows": args.rows, "mb_fixed": round(start / MB, 1)}
    for name, size, publish_each in (("load", 8192, False), ("replace", 1000, True)):
        seconds, slowest = load(rows, catalogue.batches(args.rows, size), publish_each)
        check(rows, args.rows)
        counted = rows.held_bytes
        report[name] = {
            "mb_per_million_rss": round((rss_anonymous() - start) / MB / millions, 1),
            "mb_per_million_counted": round(sum(counted.values()) / MB / millions, 1),
            "seconds_per_million": round(seconds / millions, 2),
            "ms_slowest_batch": round(1000 * slowest, 1),
            "mb_per_million_on_disk": round(rows.disk_bytes / MB / millions, 1),
            "mb_per_million_by_part": {part: round(size / MB / millions, 2) for part, size in counted.items()},
        }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
