"""Hamming search against FAISS and against memory itself, in one run. See KERNELS.md.

    python benchmarks/kernels.py [N] [--rounds 7] [--json results/kernels-1m.json]

Each line alternates our call with its peer's, one thread each, and gives the ratio of the medians of CPU time and of
the best wall times. Answers are checked before anything is timed. Needs the ``bench`` extra (faiss-cpu).
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from kernels_data import Catalogue, make_catalogue, some_queries

from lookalike.kernels import _hamming, _reference, hamming
from lookalike.kernels.hamming import Codes, KernelQuery

BATCH = 64
Call = Callable[[int], Any]  # the number of the query -> its answer


@dataclass(frozen=True)
class Line:
    work: str
    peer: str
    ours_ms: float  # best wall per query
    peer_ms: float
    cpu_ratio: float
    wall_ratio: float
    target: float | None

    @property
    def verdict(self) -> str:
        if self.target is None:
            return ""
        return "pass" if max(self.cpu_ratio, self.wall_ratio) <= self.target else "short"


def alternate(calls: dict[str, Call], rounds: int, queries: int) -> dict[str, tuple[float, float]]:
    """Per call: (median CPU, best wall) in ms, the calls taking turns so that noise hits all alike."""
    wall: dict[str, list[float]] = {name: [] for name in calls}
    cpu: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(rounds):
        for query in range(queries):
            for name, call in calls.items():
                start, start_cpu = time.perf_counter(), time.process_time()
                call((turn + query) % queries)
                cpu[name].append((time.process_time() - start_cpu) * 1e3)
                wall[name].append((time.perf_counter() - start) * 1e3)
    return {name: (float(np.median(cpu[name])), min(wall[name])) for name in calls}


def compare(
    work: str, ours: Call, peers: dict[str, Call], target: float | None, rounds: int, queries: int = 8, per: int = 1
) -> Line:
    """One line of the table; of several peers the fastest counts."""
    times = alternate({"ours": ours, **peers}, rounds, queries)
    mine = times.pop("ours")
    best = min(times, key=lambda name: times[name][0])
    cpu, wall = times[best][0], min(w for _, w in times.values())
    line = Line(work, best, mine[1] / per, wall / per, mine[0] / cpu, mine[1] / wall, target)
    times_ms, ratios = f"{line.ours_ms:9.3f} {line.peer_ms:9.3f}", f"{line.cpu_ratio:5.2f} {line.wall_ratio:5.2f}"
    goal = "" if target is None else f"{target:5.3f}"
    print(f"{line.work:50s} {line.peer:22s} {times_ms}  {ratios}  {goal}  {line.verdict}", flush=True)
    return line


def faiss_index(short: Any) -> faiss.IndexBinaryFlat:
    index = faiss.IndexBinaryFlat(short.shape[1] * 64)
    index.add(short.view(np.uint8))
    return index


def faiss_search(index: Any, codes: Any, k: int, heap: bool, params: Any = None) -> Any:
    index.use_heap = heap
    return index.search(codes.view(np.uint8), k, params=params)


def reads(rows: Any) -> dict[str, Call]:
    """Two ways to read every byte once; the faster is the floor."""
    variant = _hamming.VARIANTS[hamming.ACTIVE]
    return {"read (popcount)": lambda _: _hamming.population(rows, variant), "read (NumPy max)": lambda _: rows.max()}


def check(
    catalogue: Catalogue, index: Any, queries: list[KernelQuery], k: int, allowed: Any = None, params: Any = None
) -> None:
    """Check that our answers are those of the reference and have FAISS's distances."""
    found = hamming.two_phase(queries, catalogue.codes, allowed)
    for query, ours in zip(queries[:2], found, strict=False):
        expected = _reference.two_phase(query, catalogue.codes, allowed)
        np.testing.assert_array_equal(ours.rows, expected.rows)
        np.testing.assert_array_equal(ours.long, expected.long)
        np.testing.assert_array_equal(ours.histogram, expected.histogram)
    for query, ours in zip(queries[:4], hamming.candidates(queries, catalogue.codes, allowed), strict=False):
        theirs = faiss_search(index, query.short[None], k, True, params)[0][0]
        np.testing.assert_array_equal(ours.short[:k], np.sort(theirs)[: len(ours.short)])


def batches_and_singles(catalogue: Catalogue, index: Any, rounds: int) -> list[Line]:
    codes, short, large = catalogue.codes, catalogue.codes.short, len(catalogue.codes) > 5_000_000
    queries = some_queries(BATCH, 10, 2560)
    wide = some_queries(8, 50, 12_800)
    check(catalogue, index, queries, 2560)
    check(catalogue, index, wide, 12_800)
    stacked = np.stack([query.short for query in queries])

    def flat(k: int, heap: bool) -> Call:
        return lambda q: faiss_search(index, stacked[q : q + 1], k, heap)

    def batch(heap: bool) -> Call:
        return lambda _: faiss_search(index, stacked, 2560, heap)

    peers = {"FAISS heap": flat(2560, True), "FAISS counting": flat(2560, False)}
    one = lambda q: hamming.candidates([queries[q]], codes)  # noqa: E731
    return [
        compare("one query, k=2560, to reading once", one, reads(short), 1.15, rounds),
        compare("one query, k=2560", one, peers, 0.55 if large else 0.50, rounds),
        compare(
            "one query, k=12800",
            lambda q: hamming.candidates([wide[q]], codes),
            {"FAISS heap": flat(12_800, True)},
            0.20,
            rounds,
        ),
        compare(
            f"batch of {BATCH}, k=2560",
            lambda _: hamming.candidates(queries, codes),
            {"FAISS heap": batch(True), "FAISS counting": batch(False)},
            0.18 if large else 0.12,
            max(2, rounds // 2),
            queries=1 if large else 3,
            per=BATCH,
        ),
    ]


def both_phases(catalogue: Catalogue, index: Any, rounds: int) -> list[Line]:
    codes = catalogue.codes
    queries = some_queries(BATCH, 10, 2560)
    first = queries[:8]

    def rerank(q: int) -> Any:
        rows = faiss_search(index, first[q].short[None], 2560, False)[1][0]
        long = np.bitwise_count(codes.long[rows] ^ first[q].long).sum(axis=1, dtype=np.uint32)
        return rows[np.lexsort((codes.keys[rows], long))[:10]]

    few = some_bitmap(len(codes), 0.01)  # a short phase one, so that the difference is not lost in its noise
    times = alternate(
        {
            "one": lambda q: hamming.candidates([first[q]], codes, few),
            "two": lambda q: hamming.two_phase([first[q]], codes, few),
        },
        rounds,
        8,
    )
    second = times["two"][1] - times["one"][1]
    phase_two = Line("phase two alone, n=10 (target in ms)", "", second, 0.6, second, second, 0.6)
    print(f"{phase_two.work:50s} {'':22s} {second:9.3f} {'':9s}  {'':11s}  0.600  {phase_two.verdict}", flush=True)
    return [
        phase_two,
        compare(
            "two phases, n=10",
            lambda q: hamming.two_phase([first[q]], codes),
            {"FAISS + NumPy rerank": rerank},
            0.5,
            rounds,
        ),
        compare(
            f"two phases, n=10, batch of {BATCH}",
            lambda _: hamming.two_phase(queries, codes),
            {"one at a time": lambda _: [hamming.two_phase([query], codes) for query in queries]},
            None,
            2,
            queries=1,
            per=BATCH,
        ),
    ]


def some_bitmap(rows: int, share: float) -> Any:
    bits = np.zeros(-(-rows // 64) * 64, bool)
    bits[:rows] = np.random.default_rng(3).random(rows) < share
    return np.packbits(bits, bitorder="little").view(np.uint64)


def filters(catalogue: Catalogue, index: Any, rounds: int) -> list[Line]:
    codes = catalogue.codes
    queries = some_queries(8, 10, 2560)
    lines = []
    for share, target in ((0.01, 0.05), (0.10, 0.09), (0.50, 0.30)):
        allowed = some_bitmap(len(codes), share)
        params = faiss.SearchParameters(sel=faiss.IDSelectorBitmap(allowed.view(np.uint8)))
        check(catalogue, index, queries, min(2560, int(np.bitwise_count(allowed).sum())), allowed, params)

        def ours(q: int, allowed: Any = allowed) -> Any:
            return hamming.candidates([queries[q]], codes, allowed)

        def peer(q: int, params: Any = params) -> Any:
            return faiss_search(index, queries[q].short[None], 2560, True, params)

        lines.append(compare(f"filter allows {share:.0%}, k=2560", ours, {"FAISS bitmap": peer}, target, rounds, 4))
        unfiltered = {"ours, no filter": lambda q: hamming.candidates([queries[q]], codes)}
        lines.append(compare(f"filter allows {share:.0%}, to no filter", ours, unfiltered, 1.1, rounds, 4))
        lines.append(filtered_batch(codes, allowed, share))
    return lines


def filtered_batch(codes: Codes, allowed: Any, share: float) -> Line:
    queries = some_queries(BATCH, 10, 2560)
    ours = lambda _: hamming.candidates(queries, codes, allowed)  # noqa: E731
    single = {"one at a time": lambda _: [hamming.candidates([query], codes, allowed) for query in queries]}
    return compare(f"filter allows {share:.0%}, batch of {BATCH}", ours, single, None, 2, queries=1, per=BATCH)


def narrow_codes(catalogue: Catalogue, rounds: int) -> list[Line]:
    """64-bit short codes, n=20: 5,120 candidates.

    The target, for 20M rows, is 1.25 x reading once plus phase two for the whole search: 1.25 for phase one.
    """
    short = catalogue.narrow
    codes = Codes(short, catalogue.codes.long, catalogue.codes.keys, catalogue.codes.component_words)
    wide = some_queries(8, 20, 5120)
    queries = [KernelQuery(query.short[:1], query.long, 20, 5120, query.weights) for query in wide]
    expected = _reference.two_phase(queries[0], codes, None)
    np.testing.assert_array_equal(hamming.two_phase(queries[:1], codes)[0].rows, expected.rows)
    return [
        compare(
            "64 bits, n=20, phase one, to reading once",
            lambda q: hamming.candidates([queries[q]], codes),
            reads(short),
            1.25 if len(codes) > 5_000_000 else None,
            rounds,
        ),
        compare(
            "64 bits, n=20, both phases, to reading once",
            lambda q: hamming.two_phase([queries[q]], codes),
            reads(short),
            None,
            rounds,
        ),
    ]


def more(catalogue: Catalogue, rounds: int) -> list[Line]:
    """Without a target: a second thread, and the search in one phase."""
    codes = catalogue.codes
    queries = some_queries(BATCH, 10, 2560)
    lines = [
        compare(
            "two phases on 2 threads",
            lambda q: hamming.two_phase([queries[q]], codes, threads=2),
            {"on 1": lambda q: hamming.two_phase([queries[q]], codes)},
            None,
            rounds,
        ),
        compare(
            "exhaustive, one query, to reading long codes once",
            lambda q: hamming.exhaustive([queries[q]], codes),
            {"read (NumPy max)": lambda _: codes.long.max()},
            None,
            2,
            queries=2,
        ),
    ]
    if len(codes) <= 2_000_000:
        ours = lambda _: hamming.exhaustive(queries, codes)  # noqa: E731
        single = {"one at a time": lambda _: [hamming.exhaustive([query], codes) for query in queries]}
        lines.append(compare(f"exhaustive, batch of {BATCH}", ours, single, None, 1, queries=1, per=BATCH))
    return lines


def memory(catalogue: Catalogue) -> list[Line]:
    """Megabytes per million rows, and what appending 1 % adds beyond the rows themselves."""
    per_million = catalogue.held_bytes / len(catalogue.codes)
    before, rows = resident_bytes(), len(catalogue.codes) // 100
    catalogue.append(rows)
    extra = (resident_bytes() - before) / (per_million * rows)
    lines = [
        Line("memory, MB per million rows", "", per_million, 300, per_million, per_million, 300),
        Line("memory added by 1 % more rows, to their size", "", extra, 1.5, extra, extra, 1.5),
    ]
    for line in lines:
        print(
            f"{line.work:50s} {'':22s} {line.ours_ms:9.2f} {'':9s}  {'':11s}  {line.target:5g}  {line.verdict}",
            flush=True,
        )
    return lines


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def cpu_name() -> str:
    for row in Path("/proc/cpuinfo").read_text().splitlines():
        if row.startswith("model name"):
            return row.split(":")[1].strip()
    return platform.processor()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("N", type=float, nargs="?", default=1e6, help="rows; 20e6 needs 8 GB")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="where to write the results")
    given = parser.parse_args()
    faiss.omp_set_num_threads(1)
    start = time.perf_counter()
    catalogue = make_catalogue(int(given.N))
    index = faiss_index(catalogue.codes.short)
    huge = "huge pages" if catalogue.huge_pages else "plain pages"
    print(
        f"{len(catalogue.codes):,} rows, 256 + 2,048 bits, variant {hamming.ACTIVE}, {huge}, FAISS {faiss.__version__}"
    )
    print(f"{'':50s} {'peer':22s} {'ours ms':>9s} {'peer ms':>9s}  {'CPU':>5s} {'wall':>5s}  target")
    lines = batches_and_singles(catalogue, index, given.rounds)
    lines += both_phases(catalogue, index, given.rounds)
    lines += filters(catalogue, index, given.rounds)
    del index
    lines += narrow_codes(catalogue, given.rounds) + more(catalogue, given.rounds) + memory(catalogue)
    seconds = time.perf_counter() - start
    print(f"took {seconds:.0f} s; every answer was checked")
    if given.json:
        run = {
            "command": f"python benchmarks/kernels.py {given.N:g} --rounds {given.rounds}",
            "rows": len(catalogue.codes),
            "variant": hamming.ACTIVE,
            "cpu": cpu_name(),
            "faiss": faiss.__version__,
            "numpy": np.__version__,
            "python": sys.version.split()[0],
            "huge_pages": catalogue.huge_pages,
            "seconds": round(seconds),
            "lines": [{**asdict(line), "verdict": line.verdict} for line in lines],
        }
        given.json.write_text(json.dumps(run, indent=1) + "\n")


if __name__ == "__main__":
    main()
