"""32 good clients alone, and beside each hostile one: nothing that one client sends may hurt another.

    python benchmarks/serving_hostile.py 1e6 [--repo ../main --repo .] [--only "a PNG of 50 megapixels"] [--out FILE]

The good clients search by id at half of what the server can do, at random times; their latencies count from the
intended times, so a server that stands still for five seconds cannot hide it. Beside them, one client asks for
`/healthz` five times a second. In the end five times as many requests are offered as the server can answer.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from machine import machine
from serving import add_servers, checkouts_of, note, settle, written_store
from serving_attacks import Attack, AttackProcess, attacks
from serving_client import Job, Load, LoadProcess, ask_once
from serving_process import Server, commit_of, serving
from serving_report import print_table, write_results
from serving_requests import NO_OP, by_id, photo_request
from serving_store import BenchStore

GOOD_CLIENTS = 32
HEALTH_RATE = 5.0
TIMEOUT_S = 20.0
MAX_RATIO = 3.0
RECOVERY_S = 60.0
OVERLOAD, OVERLOAD_CLIENTS = 5.0, 512
MIN_OVERLOADED, MAX_REFUSAL_MS = 0.9, 50.0


class Good:
    """The good clients and the one that asks for the health, each in a process of its own. A context manager."""

    def __init__(self, store: BenchStore) -> None:
        self._requests = by_id(store.rows, store.count, 20_000, 0)
        self.search = self._requests[0]
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Good:
        self._searching, self._watching = (self._stack.enter_context(LoadProcess()) for _ in range(2))
        self._pool = self._stack.enter_context(ThreadPoolExecutor(2))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def best(self, server: Server, seconds: float) -> float:
        """Requests per second of a closed loop."""
        job = self._searching.warm_up(Job(server.port, self._requests, GOOD_CLIENTS, seconds), 1.0)
        load = self._searching.run(job)
        return int(load.good.sum()) / load.seconds

    def offer(self, server: Server, rate: float, clients: int, seconds: float) -> tuple[Load, Load]:
        """Search at a rate; gives the searches, and the answers to `/healthz` beside them."""
        searches = Job(server.port, self._requests, clients, seconds, rate, timeout_s=TIMEOUT_S)
        health = Job(server.port, [NO_OP], 4, seconds, HEALTH_RATE, timeout_s=TIMEOUT_S)
        running = self._pool.submit(self._searching.run, searches), self._pool.submit(self._watching.run, health)
        return running[0].result(), running[1].result()


@contextlib.contextmanager
def most_memory(server: Server) -> Iterator[list[float]]:
    """Watch the memory of a server while the block runs; the list has its growth in MB afterwards."""
    before, most = server.anonymous_mb(), [0.0]
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.5):
            most[0] = max(most[0], server.anonymous_mb() - before)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield most
    finally:
        done.set()
        watcher.join()


def beside(
    server: Server, good: Good, hostile: AttackProcess, attack: Attack, rate: float, seconds: float
) -> dict[str, Any]:
    """The good clients alone, then beside an attack."""
    settle([server])
    alone, _ = good.offer(server, rate, GOOD_CLIENTS, seconds)
    with most_memory(server) as grown, ThreadPoolExecutor(1) as pool:
        running = pool.submit(hostile.attack, attack, server.port, seconds + 1)
        time.sleep(1.0)  # the attack has begun
        attacked, health = good.offer(server, rate, GOOD_CLIENTS, seconds)
        answers = running.result()
    recovered_s = recovery(server, good)
    failed = int((~attacked.good).sum() + (~health.good).sum())
    ratio = round(attacked.percentile_ms(99) / alone.percentile_ms(99), 2) if attacked.good.any() else float("nan")
    return {
        "attack": attack.name,
        "alone_p50_ms": alone.percentile_ms(50),
        "alone_p99_ms": alone.percentile_ms(99),
        "p50_ms": attacked.percentile_ms(50),
        "p99_ms": attacked.percentile_ms(99),
        "p99_ratio": ratio,
        "failures": attacked.failures,
        "alone_failures": alone.failures,
        "health_p99_ms": health.percentile_ms(99),
        "health_failures": health.failures,
        "attacker_answers": answers,
        "memory_grown_mb": round(grown[0]),
        "recovered_s": recovered_s,
        "verdict": "holds" if not failed and ratio <= MAX_RATIO else "fails",
    }


def recovery(server: Server, good: Good) -> float | None:
    """Seconds until a search is answered; None if none is for a minute."""
    started = time.monotonic()
    while server.process.poll() is None and time.monotonic() - started < RECOVERY_S:
        if ask_once(server.port, good.search, TIMEOUT_S)[0] == 200:
            return round(time.monotonic() - started, 1)
        time.sleep(0.2)
    return None


def overload(server: Server, good: Good, best: float, seconds: float) -> dict[str, Any]:
    """Offer five times what the server can do."""
    settle([server])
    load, health = good.offer(server, OVERLOAD * best, OVERLOAD_CLIENTS, seconds)
    refused = load.service_s[~load.good] * 1e3
    answered = int(load.good.sum()) / load.seconds
    met = answered >= MIN_OVERLOADED * best and not (refused > MAX_REFUSAL_MS).any()
    return {
        "best_per_s": round(best, 1),
        "offered_per_s": round(OVERLOAD * best, 1),
        "sent_per_s": round(len(load.status) / load.seconds, 1),
        "answered_per_s": round(answered, 1),
        "answered_of_best": round(answered / best, 3),
        "p99_ms": load.percentile_ms(99, "service_s"),
        "refusals": load.failures,
        "longest_refusal_ms": round(float(refused.max()), 1) if len(refused) else 0.0,
        "health_p99_ms": health.percentile_ms(99),
        "verdict": "holds" if met else "fails",
    }


def measure(store: BenchStore, given: argparse.Namespace) -> dict[str, Any]:
    """Every attack on every server, in turns; a server that does not come back is started again."""
    first, photo = by_id(store.rows, store.count, 1, 0)[0], photo_request(store.photos[0])
    checkouts = checkouts_of(given, [given.shards])
    found: dict[str, Any] = {checkout.name: {"attacks": []} for checkout in checkouts}
    with contextlib.ExitStack() as whole:
        good = whole.enter_context(Good(store))
        hostile = whole.enter_context(AttackProcess())
        stacks = {checkout: whole.enter_context(contextlib.ExitStack()) for checkout in checkouts}
        servers = {c: stack.enter_context(serving(c, store.root, first, photo)) for c, stack in stacks.items()}
        best = {checkout: good.best(server, given.seconds) for checkout, server in servers.items()}
        for attack in attacks(store):
            if given.only and attack.name not in given.only:
                continue
            for checkout in checkouts:
                rate = given.load * best[checkout]
                result = beside(servers[checkout], good, hostile, attack, rate, given.seconds)
                found[checkout.name]["attacks"].append(result)
                note(f"{checkout.name}: {json.dumps(result)}")
                if result["recovered_s"] is None:
                    stacks[checkout].close()
                    servers[checkout] = stacks[checkout].enter_context(serving(checkout, store.root, first, photo))
        for checkout, server in servers.items():
            if not given.only:
                found[checkout.name]["overload"] = overload(server, good, best[checkout], given.seconds)
    return found


def print_report(found: dict[str, Any]) -> None:
    columns = ("attack", "alone_p50_ms", "alone_p99_ms", "p50_ms", "p99_ms", "p99_ratio", "failures",
               "health_p99_ms", "health_failures", "memory_grown_mb", "recovered_s", "verdict")  # fmt: skip
    for name, results in found.items():
        print(f"\n## {name}: 32 good clients beside\n")
        print_table(columns, [[one[column] for column in columns] for one in results["attacks"]])
        if "overload" in results:
            print(f"offered {OVERLOAD:g} x what it can do: {json.dumps(results['overload'])}")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", type=float, nargs="?", default=1e6)
    add_servers(parser)
    parser.add_argument("--shards", type=int, default=0, help="0: the server's choice")
    parser.add_argument("--seconds", type=float, default=15.0, help="length of each load")
    parser.add_argument("--load", type=float, default=0.5, help="of the good clients, of what the server can do")
    parser.add_argument("--only", nargs="+", help="the names of some attacks")
    parser.add_argument("--out", type=Path, help="write the results as JSON")
    parser.add_argument("--quick", action="store_true", help="few rows and short loads: does it run at all?")
    given = parser.parse_args(arguments)
    if given.quick:
        given.rows, given.seconds = 20_000, 3.0
    store = written_store(given.store.resolve(), int(given.rows), 24 if given.quick else 400)
    found = measure(store, given)
    print_report(found)
    if given.out:
        commits = {checkout.name: commit_of(checkout.repo) for checkout in checkouts_of(given, [0])}
        report = {"machine": machine(), "commits": commits, "rows": store.count, "servers": found}
        write_results(given.out, report)


if __name__ == "__main__":
    main()
