"""A load client in a process of its own: a closed loop, or a schedule whose latencies count from the intended time.

Raw HTTP/1.1 over kept connections: a client library would use more of the cores than the server.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import re
import time
from collections.abc import Coroutine, Iterator, Sequence
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection as Pipe
from typing import Any, TypeVar, cast

import numpy as np
import uvloop
from numpy.typing import NDArray
from worker import Worker

T = TypeVar("T")

# A request, or the two parts around a text of ``UNIQUE_CHARS`` that no two requests share.
Request = bytes | tuple[bytes, bytes]
UNIQUE_CHARS = 20
# Below this rate the last milliseconds before a request are waited for by turns: timers are a millisecond late.
_MAX_SPIN_RATE = 50.0
_SPIN_S = 0.002
_RECONNECT_S = 0.02

# A search that some shards did not answer is no success, though its status is 200.
_SHARDS = re.compile(rb'"shards_answered": ?(\d+), ?"shards_total": ?(\d+)')
PARTIAL = 206
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)")


@dataclass(frozen=True)
class Job:
    """A load.

    Attributes
    ----------
    requests : sequence of Request
        Sent in their order, and again from the first when they are used up.
    clients : int
        Connections, each with one request in flight.
    rate : float or None
        Requests per second by a Poisson process, whatever the answers take; None: each client sends its next request
        when it has its answer.
    kept_answers : int
        How many of the first answers are given back whole.
    timeout_s : float
        After which a request is given up, and its connection closed.
    """

    port: int
    requests: Sequence[Request]
    clients: int
    seconds: float
    rate: float | None = None
    kept_answers: int = 0
    timeout_s: float = 60.0


@dataclass
class Load:
    """What became of a job; the arrays have an entry per request, in the order of the answers.

    Attributes
    ----------
    seconds : float
        From the first request to the last answer.
    latency_s : ndarray of float64
        From the intended time of a request, which in a closed loop is when it was sent.
    service_s : ndarray of float64
        From when it was sent.
    status : ndarray of int64
        0 without an answer: refused, broken off or timed out; ``PARTIAL`` where shards did not answer.
    cpu_s : float
        Of the client.
    answers : list of (int, bytes)
        The number of a request, and the body of its answer.
    """

    seconds: float = 0.0
    latency_s: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    service_s: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    status: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    cpu_s: float = 0.0
    answers: list[tuple[int, bytes]] = field(default_factory=list)

    @property
    def good(self) -> NDArray[np.bool_]:
        """Which requests were answered with 200."""
        return np.equal(self.status, 200)

    @property
    def failures(self) -> dict[str, int]:
        """How many requests ended otherwise, by status; 0: no answer."""
        values, counts = np.unique(self.status[~self.good], return_counts=True)
        return {str(value): int(count) for value, count in zip(values.tolist(), counts.tolist(), strict=True)}

    def percentile_ms(self, percent: float, of: str = "latency_s") -> float:
        """Of the requests that were answered with 200; NaN without one."""
        taken = getattr(self, of)[self.good]
        return round(1e3 * float(np.percentile(taken, percent)), 3) if len(taken) else float("nan")


class Connection(asyncio.Protocol):
    """One connection with one request in flight."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._received = bytearray()
        self._head = b""
        self._body = slice(0)
        self._answer: asyncio.Future[tuple[int, bytes]] | None = None

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's does not derive from it

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error or ConnectionResetError("closed"))

    def data_received(self, data: bytes) -> None:
        self._received += data
        if not self._head:
            end = self._received.find(b"\r\n\r\n")
            if end < 0:
                return
            self._head = bytes(self._received[:end]).lower()
            found = _LENGTH.search(self._head)
            if found is None:
                self.close()
                return
            self._body = slice(end + 4, end + 4 + int(found[1]))
        if len(self._received) < self._body.stop:
            return
        body = bytes(self._received[self._body])
        status = int(self._head[9:12])
        if b"connection: close" in self._head:
            self.close()
        self._received.clear()
        self._head = b""
        if self._answer is not None and not self._answer.done():
            self._answer.set_result((status, body))

    def ask(self, request: bytes) -> asyncio.Future[tuple[int, bytes]]:
        """Send a request; its status and body are to come."""
        assert self._transport is not None
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return self._answer

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()


class Client:
    """Asks over one connection, which is made anew after it broke."""

    def __init__(self, port: int, timeout_s: float) -> None:
        self._port, self._timeout_s = port, timeout_s
        self._connection: Connection | None = None

    async def ask(self, request: bytes) -> tuple[int, bytes]:
        """Status and body; status 0 without an answer."""
        try:
            async with asyncio.timeout(self._timeout_s):
                if self._connection is None or not self._connection.is_open:
                    self._connection = await self._connected()
                return await self._connection.ask(request)
        except (OSError, TimeoutError):
            self.close()
            await asyncio.sleep(_RECONNECT_S)
            return 0, b""

    async def _connected(self) -> Connection:
        _, connection = await asyncio.get_running_loop().create_connection(Connection, "127.0.0.1", self._port)
        return connection

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()


class _Run:
    """A job while it runs."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._numbers = itertools.count()
        self._taken: list[tuple[float, float, int]] = []
        self._answers: list[tuple[int, bytes]] = []
        self._begun = 0.0

    async def __call__(self) -> Load:
        job = self._job
        clients = [Client(job.port, job.timeout_s) for _ in range(job.clients)]
        cpu = time.process_time()
        self._begun = time.perf_counter()
        if job.rate is None:
            await asyncio.gather(*map(self._closed, clients))
        else:
            count = max(1, round(job.rate * job.seconds))
            times = np.cumsum(np.random.default_rng(0).exponential(1 / job.rate, count)).tolist()
            await asyncio.gather(*(self._scheduled(client, times) for client in clients))
        seconds = time.perf_counter() - self._begun
        cpu = time.process_time() - cpu
        for client in clients:
            client.close()
        taken = np.array(self._taken, np.float64).reshape(-1, 3)
        return Load(seconds, taken[:, 0], taken[:, 1], taken[:, 2].astype(np.int64), cpu, self._answers)

    async def _closed(self, client: Client) -> None:
        stop = self._begun + self._job.seconds
        while (now := time.perf_counter()) < stop:
            await self._ask(client, next(self._numbers), now)

    async def _scheduled(self, client: Client, times: Sequence[float]) -> None:
        """Take the next request of the schedule; where all clients were busy at its time, the wait counts."""
        spin_s = _SPIN_S if self._job.rate is not None and self._job.rate <= _MAX_SPIN_RATE else 0.0
        while (number := next(self._numbers)) < len(times):
            intended = self._begun + times[number]
            while (left := intended - time.perf_counter()) > 0:  # noqa: ASYNC110 - a time, not an event
                await asyncio.sleep(max(0.0, left - spin_s))
            await self._ask(client, number, intended)

    async def _ask(self, client: Client, number: int, intended: float) -> None:
        content = content_of(self._job.requests[number % len(self._job.requests)])
        sent = time.perf_counter()
        status, body = await client.ask(content)
        now = time.perf_counter()
        shards = _SHARDS.search(body, 0, 400)
        if shards is not None and shards[1] != shards[2]:
            status = PARTIAL
        self._taken.append((now - intended, now - sent, status))
        if len(self._answers) < self._job.kept_answers:
            self._answers.append((number, body))


_unique_numbers: Iterator[int] = itertools.count(time.time_ns())


def content_of(request: Request) -> bytes:
    """The bytes of a request, with a text that was not used before where it takes one."""
    if isinstance(request, bytes):
        return request
    return b"%b%0*d%b" % (request[0], UNIQUE_CHARS, next(_unique_numbers), request[1])


def run_async(work: Coroutine[Any, Any, T]) -> T:
    """Run on uvloop, which takes half of the client's CPU."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


def run(job: Job) -> Load:
    """Run a job in this process."""
    return run_async(_Run(job)())


def ask_once(port: int, request: Request, timeout_s: float) -> tuple[int, bytes]:
    """Send one request over a new connection; status 0 without an answer."""

    async def ask() -> tuple[int, bytes]:
        client = Client(port, timeout_s)
        answer = await client.ask(content_of(request))
        client.close()
        return answer

    return run_async(ask())


def _serve(pipe: Pipe) -> None:
    with contextlib.suppress(EOFError):  # the parent has closed its end
        while True:
            job = pipe.recv()
            gc.collect()
            gc.freeze()
            pipe.send(run(job))


class LoadProcess(Worker):
    """A process that runs jobs."""

    def __init__(self) -> None:
        super().__init__(_serve)

    def run(self, job: Job) -> Load:
        """Run a job to its end."""
        load: Load = self.ask(job)
        return load

    def warm_up(self, job: Job, seconds: float) -> Job:
        """Run the beginning of a job; gives what is left of it."""
        sent = len(self.run(replace(job, seconds=seconds, kept_answers=0)).status)
        first = sent % len(job.requests)
        return replace(job, requests=[*job.requests[first:], *job.requests[:first]])
