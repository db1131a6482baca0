"""What the key table costs: ns per key, one thread, and bytes per key.

python benchmarks/kernels_key_table.py [N] [--variant native]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from lookalike.kernels.key_table import VARIANTS, KeyTable

BATCH = 4096  # keys per call, as a write has them


def ns_per_key(name: str, keys: int, work: Callable[[], Any]) -> Any:
    start = time.perf_counter()
    answer = work()
    print(f"{name:32s} {(time.perf_counter() - start) * 1e9 / keys:7.1f} ns per key", flush=True)
    return answer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("N", type=float, nargs="?", default=5e6, help="keys")
    parser.add_argument("--variant", choices=VARIANTS, default=VARIANTS[0])
    given = parser.parse_args()
    n = int(given.N)
    rng = np.random.default_rng(1)
    keys = rng.integers(0, 1 << 62, 2 * n, np.uint64)  # a shard's keys share their top bits
    present, order = keys[:n], rng.permutation(n)
    shuffled, absent = present[order], keys[n:]
    table, rows = KeyTable(variant=given.variant), np.arange(n)
    batches = [slice(start, start + BATCH) for start in range(0, n, BATCH)]
    ns_per_key("put, from empty", n, lambda: [table.put(present, rows[batch]) for batch in batches])
    print(f"{'memory':32s} {table.held_bytes / n:7.2f} bytes per key")
    found = ns_per_key(
        "find, present", n, lambda: np.concatenate([table.find(present, shuffled[batch]) for batch in batches])
    )
    np.testing.assert_array_equal(found, order)
    missed = ns_per_key("find, absent", n, lambda: [table.find(present, absent[batch]) for batch in batches])
    assert all((slots == -1).all() for slots in missed)
    one = min(n, 100_000)
    ns_per_key("find, one per call", one, lambda: [table.find(present, shuffled[i : i + 1]) for i in range(one)])
    ns_per_key("put again", n, lambda: [table.put(present, order[batch]) for batch in batches])
    ns_per_key("remove", n, lambda: [table.remove(present, shuffled[batch]) for batch in batches])
    assert len(table) == 0


if __name__ == "__main__":
    main()
