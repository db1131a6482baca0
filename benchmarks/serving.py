"""A real server under load: requests per second, latencies, and the CPU of each of its processes, against the targets.

    python benchmarks/serving.py 1e6 20e6 --out benchmarks/results/2026-11-http.json
    python benchmarks/serving.py 1e6 --repo ../main --repo . --only id filters      # two checkouts, in one run

Everything alternates: by id, the same stack's no-op, photos and filters, on each server in turn, and medians over the
alternations are given. One server runs at a time, started anew in each alternation: an idle one takes a tenth of a
core. With ``--together`` all run at once, each load on one after the other, for ratios of the same minute. Some answers
of every load are compared with an oracle's, outside the timed region. In the end each is idle alone, since memory that
two share would count half.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from machine import machine
from serving_answers import Oracle
from serving_cases import PARTS, Case, Figures, Measurement, filter_cases, open_cases, photo_cases, plain_cases
from serving_client import Job, LoadProcess, run
from serving_encoder import EncoderProcess
from serving_process import Checkout, Server, commit_of, largest_first, serving
from serving_report import print_report, summary, write_results
from serving_requests import by_id, photo_request
from serving_store import BenchStore, bench_store

ROOT = Path(__file__).resolve().parents[1]
LARGE = 5_000_000
_REST_S = 3.0
# Of a server with nothing to do; its idle processes and the clock's ticks make 0.3 cores of half a second.
_SETTLE_S, _MAX_SETTLE_S, _SETTLED_CORES = 0.5, 20.0, 0.6


def main() -> None:
    given = arguments().parse_args()
    if given.quick:
        given.rows, given.rounds, given.seconds, given.idle_s = given.rows or [20_000], 1, 1.0, 2.0
    results: dict[str, Any] = {
        "machine": machine(),
        "commits": {checkout.name: commit_of(checkout.repo) for checkout in checkouts_of(given, [0])},
        "alternations": given.rounds,
        "seconds": given.seconds,
        "rows": {},
    }
    wrong = 0
    for rows in given.rows or [1e6, 20e6]:
        store = written_store(given.store.resolve(), int(rows), 24 if given.quick else 400)
        if given.write_only:
            continue
        shards = given.shards or ([0, 4] if store.count <= LARGE else [0])
        taken, measurement = measure(store, checkouts_of(given, shards), given)
        found = summary(taken.servers, taken.encoder, store.count)
        found["compared"] = measurement.compared
        found["wrong"] = measurement.wrong
        results["rows"][str(store.count)] = found
        print_report(found, store.count)
        print(f"{measurement.compared} answers compared with the oracle's, {measurement.wrong} wrong")
        if measurement.wrong:
            print(measurement.first_difference)
        wrong += measurement.wrong
        if given.out:  # after each size, so that an interrupted run leaves something
            write_results(given.out, results)
    sys.exit(1 if wrong else 0)


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", type=float, nargs="*", help="rows of each store [default: 1e6 20e6]")
    add_servers(parser)
    parser.add_argument(
        "--shards", type=int, nargs="+", help="0: the server's choice [default: 0 4; 0 beyond 5e6 rows]"
    )
    parser.add_argument("--rounds", type=int, default=5, help="alternations")
    parser.add_argument("--seconds", type=float, default=8.0, help="length of a load; of one with filters a quarter")
    parser.add_argument("--open-s", type=float, default=30.0, help="length of the open loop in each alternation")
    parser.add_argument("--idle-s", type=float, default=30.0, help="how long an idle server is looked at")
    parser.add_argument("--only", nargs="+", choices=PARTS, help="leave out the other parts")
    parser.add_argument("--checked", type=int, default=3, help="answers of each load that are compared")
    parser.add_argument("--together", action="store_true", help="all servers run at once, until the end")
    parser.add_argument("--quick", action="store_true", help="few rows, one short alternation: does it run at all?")
    parser.add_argument("--write-only", action="store_true", help="write the stores, and measure nothing")
    parser.add_argument("--out", type=Path, help="write the results as JSON")
    return parser


def add_servers(parser: argparse.ArgumentParser) -> None:
    """What serves, and from where."""
    parser.add_argument("--repo", type=Path, action="append", help="a checkout that serves; again for each [this one]")
    parser.add_argument("--python", type=Path, default=Path(sys.executable), help="of all checkouts")
    parser.add_argument("--store", type=Path, default=ROOT / "var/bench-http", help="kept, and used again")


def checkouts_of(given: argparse.Namespace, shards: Sequence[int]) -> list[Checkout]:
    """What serves: every checkout that was given, with every number of shards."""
    repos = [repo.resolve() for repo in given.repo or [ROOT]]
    if len({repo.name for repo in repos}) < len(repos):
        raise SystemExit("two checkouts have folders of one name, and could not be told apart in the results")
    return [Checkout(repo, given.python.absolute(), count) for count in shards for repo in repos]


def written_store(folder: Path, rows: int, drawn: int = 400) -> BenchStore:
    """Write the store in a process of its own, whose memory goes with it."""
    started = time.monotonic()
    process = multiprocessing.get_context("spawn").Process(target=bench_store, args=(folder, rows, drawn))
    process.start()
    process.join()
    if process.exitcode:
        raise SystemExit(f"the store in {folder} was not written")
    note(f"the store of {rows:,} rows is there after {time.monotonic() - started:.0f} s")
    return bench_store(folder, rows, drawn)


@dataclass
class Taken:
    """What was measured on one store.

    Attributes
    ----------
    servers : dict
        By name: ``starts``; ``loads``, by label the figures of each alternation; ``idle_cores`` and ``memory_mb``, by
        process.
    encoder : list of dict
        The time of one photo, in each alternation.
    """

    servers: dict[str, dict[str, Any]]
    encoder: list[dict[str, float]] = field(default_factory=list)


def measure(store: BenchStore, checkouts: Sequence[Checkout], given: argparse.Namespace) -> tuple[Taken, Measurement]:
    """All alternations on one store."""
    groups = [checkouts] if given.together else [[checkout] for checkout in checkouts]
    taken = Taken({checkout.name: {"starts": [], "loads": {}} for checkout in checkouts})
    parts = parts_of(store, given)
    rounds = given.rounds if set(parts) != {"idle"} else 0
    with contextlib.ExitStack() as whole:
        client = whole.enter_context(LoadProcess())
        measurement = Measurement(client, Oracle(store.rows, store.count, store.spec), given.checked)
        encoder = whole.enter_context(EncoderProcess(store.model)) if "photo" in parts else None
        running = whole.enter_context(started(store, checkouts, taken)) if given.together and rounds else None
        for number in range(rounds):
            for group in groups[:: 1 if number % 2 == 0 else -1]:
                with contextlib.ExitStack() as turn:
                    servers = running or turn.enter_context(started(store, group, taken))
                    alternate(servers, store, given, number, measurement, taken)
            if encoder is not None:
                taken.encoder.append(encoder.one_photo())
    if "idle" in parts:
        for checkout in checkouts:
            with started(store, [checkout], taken) as (server,):
                run(Job(server.port, by_id(store.rows, store.count, 1_000, 0), clients=32, seconds=2.0))
                cores = idle_cores(server, given.idle_s)
                taken.servers[checkout.name] |= {"idle_cores": cores, "memory_mb": server.memory()}
    return taken, measurement


def parts_of(store: BenchStore, given: argparse.Namespace) -> Sequence[str]:
    """Which parts are measured: of a large store not the photos, whose cost does not depend on it."""
    default = PARTS if store.count <= LARGE else [part for part in PARTS if part != "photo"]
    return given.only or default


@contextlib.contextmanager
def started(store: BenchStore, checkouts: Sequence[Checkout], taken: Taken) -> Iterator[list[Server]]:
    """Start servers one after the other, and note how long each took."""
    first = by_id(store.rows, store.count, 1, 0)[0]
    with contextlib.ExitStack() as stack:
        servers = []
        for checkout in checkouts:
            server = stack.enter_context(serving(checkout, store.root, first, photo_request(store.photos[0])))
            start = {"first_answer_s": server.first_answer_s, "first_photo_ms": server.first_photo_ms}
            taken.servers[checkout.name]["starts"].append(start)
            note(f"{checkout.name}: {start}")
            servers.append(server)
        yield servers


def alternate(
    servers: Sequence[Server],
    store: BenchStore,
    given: argparse.Namespace,
    number: int,
    measurement: Measurement,
    taken: Taken,
) -> None:
    """Run every load once on each server."""
    parts = parts_of(store, given)
    for case, everywhere in all_cases(store, given, parts):
        for server in servers[:: 1 if number % 2 == 0 else -1]:
            if not everywhere and server.checkout.shards != (given.shards or [0])[0]:
                continue  # another number of shards is compared by id alone
            settle(servers)
            figures = measurement.run(case, server, number)
            taken.servers[server.checkout.name]["loads"].setdefault(case.label, []).append(figures)
            note(line(case, server, figures))


def all_cases(store: BenchStore, given: argparse.Namespace, parts: Sequence[str]) -> list[tuple[Case, bool]]:
    """The cases of an alternation, and whether each is for servers of every number of shards."""
    cases = [(case, True) for case in plain_cases(store, given.seconds)] if "id" in parts else []
    if "photo" in parts:
        cases += [(case, False) for case in photo_cases(store, given.seconds)]
    if "filters" in parts:
        cases += [(case, False) for case in filter_cases(store, given.seconds / 4)]
    if "open" in parts:
        cases += [(case, False) for case in open_cases(store, min(given.open_s, 4 * given.seconds))]
    return cases


def settle(servers: Sequence[Server]) -> None:
    """Wait until no server works on what the last load left behind."""
    before = [sum(server.cpu().values()) for server in servers]
    for _ in range(round(_MAX_SETTLE_S / _SETTLE_S)):
        time.sleep(_SETTLE_S)
        now = [sum(server.cpu().values()) for server in servers]
        if max(b - a for a, b in zip(before, now, strict=True)) < _SETTLED_CORES * _SETTLE_S:
            return
        before = now


def idle_cores(server: Server, seconds: float) -> dict[str, float]:
    """How many cores each process of a server takes while nothing is asked."""
    time.sleep(_REST_S)
    before = server.cpu()
    time.sleep(seconds)
    cores: defaultdict[str, float] = defaultdict(float)
    for (role, thread), used in server.cpu().items():
        cores[role] += (used - before.get((role, thread), 0.0)) / seconds
    return {role: round(used, 4) for role, used in largest_first(cores)}


def line(case: Case, server: Server, figures: Figures) -> str:
    failures = f", failed: {figures['failures']}" if figures["failures"] else ""
    return (
        f"{server.checkout.name}: {case.label}: {figures['requests_per_s']} requests/s, p50 {figures['p50_ms']} ms, "
        f"p99 {figures['p99_ms']} ms, {figures['cpu_ms']} CPU ms{failures}"
    )


def note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
