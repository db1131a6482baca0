"""A real S3 server over HTTP for tests, behind a proxy that loses, delays and cuts what passes, and counts it.

In a conftest: ``from support.s3 import faults, root, s3_server`` gives the fixtures. ``root`` is a folder in one run
of a test and an S3 prefix in the other, empty in both. A test of S3 alone takes ``s3_server`` and ``s3_root``. Other
processes inherit the environment that ``s3_server`` sets and so use the same server.
"""

from __future__ import annotations

import http.client
import os
import random
import socket
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from lookalike.storage import Location, s3

BUCKET = "test-bucket"
_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "date", "server", "expect"}


class Fault(Enum):
    """What can happen to a request."""

    UNAVAILABLE = "answered with 503 SlowDown and not carried out"
    BROKEN = "carried out, but answered with 500 InternalError"
    BUSY = "answered with 409 ConditionalRequestConflict and not carried out"
    GONE = "answered with 404 NoSuchUpload and not carried out"
    DENIED = "answered with 403 AccessDenied and not carried out"
    DROPPED_BEFORE = "the connection ends before the server has seen it"
    DROPPED_AFTER = "carried out, but the connection ends without an answer"
    TRUNCATED = "carried out, but half of the answer's body is missing (all of an answer without one)"
    SLOW = "carried out, but answered slowly"


_CODES = {
    Fault.UNAVAILABLE: (503, "SlowDown"),
    Fault.BROKEN: (500, "InternalError"),
    Fault.BUSY: (409, "ConditionalRequestConflict"),
    Fault.GONE: (404, "NoSuchUpload"),
    Fault.DENIED: (403, "AccessDenied"),
}


@dataclass
class _Rule:
    fault: Fault
    times: int | None
    probability: float
    methods: frozenset[str]
    key: str
    delay_s: float


class Faults:
    """What is to happen to the next requests, and a count of those that came, failed ones included."""

    def __init__(self) -> None:
        self.requests: Counter[str] = Counter()
        self._rules: list[_Rule] = []
        self._lock = threading.Lock()
        self._random = random.Random(0)

    def add(
        self,
        fault: Fault,
        times: int | None = 1,
        *,
        probability: float = 1.0,
        methods: set[str] | None = None,
        key: str = "",
        delay_s: float = 1.0,
    ) -> None:
        """Let a fault happen to the next ``times`` requests (None: to all) of these methods that name this key.

        The rules are tried in the order in which they were added; a request meets at most one fault.
        """
        with self._lock:
            self._rules.append(_Rule(fault, times, probability, frozenset(methods or ()), key, delay_s))

    def clear(self) -> None:
        with self._lock:
            self._rules.clear()

    @contextmanager
    def counting(self) -> Iterator[Counter[str]]:
        """Give a counter that holds, when the block ends, the requests of the block by method."""
        before = self.requests.copy()
        counted: Counter[str] = Counter()
        yield counted
        counted.update(self.requests - before)

    def _take(self, method: str, path: str) -> _Rule | None:
        with self._lock:
            self.requests[method] += 1
            for rule in self._rules:
                if (rule.methods and method not in rule.methods) or rule.key not in path or rule.times == 0:
                    continue
                if self._random.random() < rule.probability:
                    if rule.times is not None:
                        rule.times -= 1
                    return rule
        return None


@dataclass(frozen=True)
class S3Server:
    """A running server with one bucket."""

    url: str
    faults: Faults = field(repr=False)

    def new_root(self) -> Location:
        """Give a prefix that nobody else uses."""
        return Location.parse(f"s3://{BUCKET}/{uuid.uuid4().hex}")


@contextmanager
def run_s3_server() -> Iterator[S3Server]:
    """Run a server, and point the environment of this process and of its children at it."""
    from moto.server import ThreadedMotoServer

    moto = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    moto.start()
    faults = Faults()
    proxy = _Proxy(moto.get_host_and_port(), faults)
    threading.Thread(target=proxy.serve_forever, args=(0.05,), daemon=True).start()
    url = f"http://127.0.0.1:{proxy.server_address[1]}"
    environment = {
        "AWS_ENDPOINT_URL_S3": url,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test-secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("AWS_PROFILE", raising=False)
        for name, value in environment.items():
            patch.setenv(name, value)
        s3.forget_client()
        s3.client().create_bucket(Bucket=BUCKET)
        faults.requests.clear()
        try:
            yield S3Server(url, faults)
        finally:
            s3.forget_client()
            proxy.shutdown()
            proxy.server_close()
            moto.stop()


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    with run_s3_server() as server:
        yield server


@pytest.fixture
def faults(s3_server: S3Server) -> Iterator[Faults]:
    s3_server.faults.clear()
    yield s3_server.faults
    s3_server.faults.clear()


@pytest.fixture
def s3_root(s3_server: S3Server) -> Location:
    return s3_server.new_root()


@pytest.fixture(params=["local", "s3"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Location:
    """An empty location, on a disk and on S3."""
    if request.param == "local":
        return Location.parse(tmp_path / "root")
    server: S3Server = request.getfixturevalue("s3_server")
    return server.new_root()


class _Proxy(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, upstream: tuple[str, int], faults: Faults) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream = upstream
        self.faults = faults
        # Unlike S3, the server checks the condition of a put and carries it out in two steps.
        self.one_write_at_a_time = threading.Lock()

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients end connections in the middle: that is what the tests are about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Proxy

    def setup(self) -> None:
        super().setup()
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is inherited
        pass

    def _serve(self) -> None:
        sent = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        rule = self.server.faults._take(self.command, self.path)
        fault = rule.fault if rule else None
        if fault is Fault.DROPPED_BEFORE:
            return self._drop()
        if fault in {Fault.UNAVAILABLE, Fault.BUSY, Fault.GONE, Fault.DENIED}:
            return self._answer(*_error(fault))
        status, headers, content = self._forward(sent)
        if fault is Fault.BROKEN:
            return self._answer(*_error(fault))
        if fault is Fault.SLOW:
            assert rule is not None
            time.sleep(rule.delay_s)
        if fault is Fault.DROPPED_AFTER or (fault is Fault.TRUNCATED and not content):
            return self._drop()
        return self._answer(status, headers, content, truncated=fault is Fault.TRUNCATED)

    def _forward(self, sent: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        headers = {name: value for name, value in self.headers.items() if name.lower() not in _HOP_BY_HOP}
        writes = self.command not in {"GET", "HEAD"}
        connection = http.client.HTTPConnection(*self.server.upstream, timeout=60)
        if writes:
            self.server.one_write_at_a_time.acquire()
        try:
            connection.request(self.command, self.path, sent, headers)
            answer = connection.getresponse()
            return answer.status, answer.getheaders(), answer.read()
        finally:
            if writes:
                self.server.one_write_at_a_time.release()
            connection.close()

    def _answer(self, status: int, headers: list[tuple[str, str]], content: bytes, *, truncated: bool = False) -> None:
        self.send_response(status)
        has_length = False
        for name, value in headers:
            if name.lower() not in _HOP_BY_HOP:
                self.send_header(name, value)
                has_length = has_length or name.lower() == "content-length"
        if not has_length and status not in {204, 304}:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content[: len(content) // 2] if truncated else content)
        if truncated:
            self._drop()

    def _drop(self) -> None:
        self.wfile.flush()
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _serve  # noqa: N815 - the names that http.server looks for


def _error(fault: Fault) -> tuple[int, list[tuple[str, str]], bytes]:
    status, code = _CODES[fault]
    content = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>As the test wants.</Message></Error>"
    return status, [("Content-Type", "application/xml")], content.encode()
