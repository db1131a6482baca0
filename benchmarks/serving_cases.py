"""The loads that a server is measured under, and how one is run, counted and checked."""

from __future__ import annotations

import json
import math
import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from serving_answers import Hits, Oracle, hits_of
from serving_client import Job, Load, LoadProcess, Request, content_of
from serving_process import Server, largest_first
from serving_requests import COLLECTION_PATH, COUNT, NO_OP, body_of, by_id, filter_kinds, filtered, photo_request
from serving_store import BenchStore

# More than one load sends, so that none is sent twice; of those that are slow to make, fewer.
REQUESTS, FILTERED_REQUESTS = 20_000, 4_000
OPEN_RATE, OPEN_CLIENTS = 4.0, 64
CLIENTS = (1, 32)
PARTS = ("id", "photo", "filters", "open", "idle")

Figures = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """A load of the benchmark.

    Attributes
    ----------
    requests : callable
        From the number of the alternation, its requests.
    is_checked : bool
        Whether answers are compared with the oracle's.
    """

    name: str
    clients: int
    seconds: float
    requests: Callable[[int], Sequence[Request]]
    rate: float | None = None
    is_checked: bool = True

    @property
    def label(self) -> str:
        return f"{self.name}, {self.clients} client{'s' * (self.clients > 1)}"


def plain_cases(store: BenchStore, seconds: float) -> list[Case]:
    """By id, beside what the same stack needs for an answer that costs nothing."""

    def ids(clients: int) -> Callable[[int], Sequence[Request]]:
        return lambda number: by_id(store.rows, store.count, REQUESTS, _seed(number, clients))

    return [
        case
        for clients in CLIENTS
        for case in (
            Case("no-op", clients, seconds / 2, lambda _: [NO_OP], is_checked=False),
            Case("by id", clients, seconds, ids(clients)),
        )
    ]


def _seed(number: int, load: int) -> int:
    """No two loads of a run send the same: what one sent, the server may have kept."""
    return 1_000 * number + load


def photo_cases(store: BenchStore, seconds: float) -> list[Case]:
    requests = [photo_request(photo) for photo in store.photos]
    same = [content_of(request) for request in requests[:8]]
    return [
        *(Case("by photo", clients, seconds, lambda _: requests) for clients in CLIENTS),
        Case("by photo, sent before", 1, seconds / 4, lambda _: same),
    ]


def open_cases(store: BenchStore, seconds: float) -> list[Case]:
    """Requests at random times, four a second, as independent users send them."""

    def ids(number: int) -> Sequence[Request]:
        return by_id(store.rows, store.count, 1_000, _seed(number, 999))

    return [Case("by id, open loop", OPEN_CLIENTS, seconds, ids, rate=OPEN_RATE)]


def filter_cases(store: BenchStore, seconds: float) -> list[Case]:
    """Every kind of filter: another one in each request, by 1 and 32 clients, and the same one in all."""

    def requests(kind: str, load: int, *, new: bool) -> Callable[[int], Sequence[Request]]:
        def make(number: int) -> Sequence[Request]:
            seed = _seed(number, load)
            chosen = next(k for k in filter_kinds(store.rows, store.count, seed) if k.name == kind)
            return filtered(store.rows, store.count, FILTERED_REQUESTS, chosen, new=new, seed=seed)

        return make

    cases = []
    for kind in filter_kinds(store.rows, store.count, 0):
        cases += [
            Case(f"new filter: {kind.name}", 1, seconds, requests(kind.name, 101, new=True)),
            Case(f"same filter: {kind.name}", 1, seconds, requests(kind.name, 102, new=False)),
            Case(f"new filter: {kind.name}", 32, seconds, requests(kind.name, 103, new=True)),
        ]
    return cases


class Measurement:
    """Runs cases on servers, and compares some of the answers.

    Attributes
    ----------
    compared, wrong : int
        Answers that were compared with the oracle's, and those that differ.
    """

    def __init__(self, client: LoadProcess, oracle: Oracle, checked: int) -> None:
        self._client, self._oracle, self._checked = client, oracle, checked
        self.compared = self.wrong = 0
        self.first_difference = ""

    def run(self, case: Case, server: Server, number: int) -> Figures:
        """Run one load of one alternation; gives its figures."""
        kept = self._checked if case.is_checked and number == 0 else 0
        job = Job(server.port, case.requests(number), case.clients, case.seconds, case.rate, kept)
        if case.rate is None:
            job = self._client.warm_up(job, min(1.0, case.seconds / 4))
        steps, cpu = _step_seconds(server), server.cpu()
        load = self._client.run(job)
        used = {thread: seconds - cpu.get(thread, 0.0) for thread, seconds in server.cpu().items()}
        figures = _figures(load, used) | _per_request(steps, _step_seconds(server), load)
        for at, body in load.answers:
            self._compare(case, server, job.requests[at % len(job.requests)], body)
        return figures

    def _compare(self, case: Case, server: Server, request: Request, body: bytes) -> None:
        if b'"hits"' not in body:
            return  # counted as a failure
        self.compared += 1
        found, expected = hits_of(json.loads(body)), self._expected(server, request)
        if found != expected:
            self.wrong += 1
            place = next((i for i, pair in enumerate(zip(found, expected, strict=False)) if pair[0] != pair[1]), -1)
            self.first_difference = self.first_difference or (
                f"{server.checkout.name}, {case.label}: {len(found)} hits for {len(expected)}, different from number "
                f"{place} on: {found[place : place + 2]} for {expected[place : place + 2]}; "
                f"{content_of(request)[-300:]!r}"
            )

    def _expected(self, server: Server, request: Request) -> Hits:
        if isinstance(request, bytes) and b"image_id" in request[:1000]:
            return self._oracle.by_id(body_of(request))
        photo = content_of(request).partition(b"\r\n\r\n")[2]
        codes = server.post(f"{COLLECTION_PATH}/encode", photo, "image/jpeg")
        short, long = (np.array([int(text[i : i + 16], 16) for i in range(0, len(text), 16)], np.uint64)
                       for text in (codes["short"], codes["long"]))  # fmt: skip
        return self._oracle.by_codes(short, long, COUNT)


def _figures(load: Load, used: Mapping[tuple[str, str], float]) -> Figures:
    """What a load says; CPU in milliseconds per request that was answered with 200, NaN where none was."""
    good = int(load.good.sum())
    ms = 1e3 / good if good else math.nan
    by_process: defaultdict[str, float] = defaultdict(float)
    by_thread: defaultdict[str, float] = defaultdict(float)
    for (role, thread), seconds in used.items():
        by_process[role] += seconds * ms
        by_thread[f"{role}: {thread}"] += seconds * ms
    return {
        "requests_per_s": round(good / load.seconds, 1),
        "p50_ms": load.percentile_ms(50),
        "p99_ms": load.percentile_ms(99),
        "cpu_ms": round(sum(by_process.values()), 3),
        "client_cpu_ms": round(load.cpu_s * ms, 3),
        "requests": good,
        "failures": load.failures,
        "cpu_ms_by_process": {role: round(used_ms, 4) + 0.0 for role, used_ms in largest_first(by_process)},
        "cpu_ms_by_thread": {name: round(used_ms, 4) + 0.0 for name, used_ms in largest_first(by_thread)[:16]},
    }


def _step_seconds(server: Server) -> dict[str, float]:
    """The sums of the histograms of seconds at ``/metrics``, where the server has that."""
    text = server.text("/metrics")
    return {name: float(value) for name, value in re.findall(r"^(\w+_seconds_sum(?:\{[^}]*\})?) (\S+)$", text, re.M)}


def _per_request(before: Mapping[str, float], after: Mapping[str, float], load: Load) -> Figures:
    good = max(1, int(load.good.sum()))
    spent = {name: after[name] - before.get(name, 0.0) for name in after}
    return {"ms_by_step": {name: round(1e3 * seconds / good, 4) for name, seconds in spent.items() if seconds > 0}}
