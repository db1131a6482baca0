"""What one client sends hurts nobody else: real sockets against the real server, good clients beside each."""

from __future__ import annotations

import concurrent.futures
import contextlib
import io
import json
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from threading import Event, Thread
from urllib.parse import urlsplit

import httpx
import numpy as np
import psutil
import pytest
from PIL import Image
from support.processes import Server

pytestmark = pytest.mark.integration

MB = 2**20
GOOD_CLIENTS = 8
PATIENCE_S = 8.0  # who has to wait for those that stall waits 10 s


@dataclass
class Good:
    """What good clients saw beside a hostile one."""

    answers: int = 0
    failures: list[str] = field(default_factory=list)
    slowest_s: float = 0.0

    def note(self, answer: httpx.Response, started: float, what: str) -> None:
        took_s = time.monotonic() - started
        self.answers += 1
        self.slowest_s = max(self.slowest_s, took_s)
        if answer.status_code != 200 or took_s > PATIENCE_S:
            self.failures.append(f"{what}: {answer.status_code} after {took_s:.2f} s")


@contextlib.contextmanager
def good_clients(server: Server, photo: bytes) -> Iterator[Good]:
    """Search, search by photo, ask for health and load photos without a pause until the block ends; none may fail."""
    seen = Good()
    done = Event()

    def run(image_id: str) -> None:
        with httpx.Client(timeout=30) as client:
            calls: dict[str, Callable[[], httpx.Response]] = {
                "search": lambda: client.post(f"{server.collection}/search", json={"image_id": image_id}),
                "photo": lambda: client.get(f"{server.collection}/images/{image_id}/photo"),
                "healthz": lambda: client.get(f"{server.url}/healthz"),
                "readyz": lambda: client.get(f"{server.url}/readyz"),
                "by photo": lambda: client.post(f"{server.collection}/search/image", content=photo),
            }
            while not done.is_set():
                for what, call in calls.items():
                    started = time.monotonic()
                    try:
                        seen.note(call(), started, what)
                    except httpx.HTTPError as error:
                        seen.failures.append(f"{what}: {error!r}")

    threads = [Thread(target=run, args=(image_id,)) for image_id in server.ids[:GOOD_CLIENTS]]
    for thread in threads:
        thread.start()
    try:
        yield seen
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert seen.failures == []
    assert seen.answers > 2 * GOOD_CLIENTS


def request(server: Server, method: str, path: str, length: int, content_type: str = "application/json") -> bytes:
    """The head of a request whose body is still to come."""
    return (
        f"{method} /v1/collections/default/{path} HTTP/1.1\r\nHost: {urlsplit(server.url).netloc}\r\n"
        f"Content-Type: {content_type}\r\nContent-Length: {length}\r\n\r\n"
    ).encode()


@contextlib.contextmanager
def sockets(server: Server, count: int, message: bytes) -> Iterator[list[socket.socket]]:
    """Connections that sent the same and then wait."""
    address = urlsplit(server.url)
    with contextlib.ExitStack() as stack:
        opened = []
        for _ in range(count):
            client = stack.enter_context(socket.create_connection((address.hostname, address.port), timeout=30))
            client.sendall(message)
            opened.append(client)
        yield opened


def status_of(client: socket.socket) -> int:
    """Wait for an answer, and give its status."""
    return int(client.recv(100).split(b" ")[1])


def noise_png(side: int) -> bytes:
    """A photo that no compression makes smaller."""
    pixels = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=0)
    return file.getvalue()


@pytest.fixture(scope="module")
def photo(server: Server) -> bytes:
    return httpx.get(f"{server.collection}/images/{server.ids[0]}/photo").content


@pytest.fixture(scope="module")
def ingress(server: Server) -> psutil.Process:
    processes = psutil.Process(server.process.pid).children(recursive=True)
    return next(p for p in processes if any("Ingress" in part for part in p.cmdline()))


@pytest.mark.parametrize(
    ("count", "path", "sent_bytes", "length"),
    [
        (300, "search", 10, 100),
        (300, "search", 40_000, 80_000),
        (12, "search/image", 24 * MB - 1, 24 * MB),
        (300, "search/image", 40_000, 24 * MB),
    ],
)
def test_stalled_bodies_hurt_nobody_and_are_ended(
    server: Server, photo: bytes, count: int, path: str, sent_bytes: int, length: int
) -> None:
    head = request(server, "POST", path, length)
    with good_clients(server, photo), sockets(server, count, head + bytes(sent_bytes)) as stalled:
        started = time.monotonic()
        statuses = {status_of(client) for client in stalled}
        assert statuses <= {408, 429}, "a client that stalls is told so"
        assert time.monotonic() - started < 25


def test_stalled_heads_hurt_nobody_and_are_ended(server: Server, photo: bytes) -> None:
    with (
        good_clients(server, photo),
        sockets(server, 300, b"POST /v1/collections/default/search HTTP/1.1\r\nHo") as stalled,
    ):
        assert {status_of(client) for client in stalled} == {408}


HOSTILE_JSON = {
    "lists": '{"filters":[' + "[]," * 1_000_000 + "[]]}",
    "names": '{"image_id":"a"' + "".join(f',"n{n}":1' for n in range(90_000)) + "}",
    "values": '{"image_id":"a","filters":[{"field":"group","in":[' + "1," * 39_000 + "1]}]}",
    "depth": "[" * 1_000_000,
    "33 MB": "[" + "[]," * 11_000_000 + "0]",
}


@pytest.mark.parametrize("name", HOSTILE_JSON)
def test_json_of_a_million_values_hurts_nobody(
    server: Server, photo: bytes, ingress: psutil.Process, name: str
) -> None:
    before = ingress.memory_info().rss
    with good_clients(server, photo), httpx.Client(timeout=30) as client:
        for _ in range(20):
            answer = client.post(
                f"{server.collection}/search",
                content=HOSTILE_JSON[name].encode(),
                headers={"Content-Type": "application/json"},
            )
            assert answer.status_code in (413, 422), answer.text
            assert len(answer.text) < 1000
    assert ingress.memory_info().rss - before < 150 * MB


def test_body_without_an_end_is_refused_at_once_and_cut(server: Server, photo: bytes, ingress: psutil.Process) -> None:
    """Neither a declared gigabyte nor endless chunks are kept; the answer comes while the client still sends."""
    before = ingress.memory_info().rss
    address = urlsplit(server.url)
    chunk = b"%x\r\n%s\r\n" % (MB, bytes(MB))
    head = request(server, "POST", "search/image", 0).replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
    get = head.replace(b"POST", b"GET").replace(b"/search/image", f"/images/{server.ids[0]}/photo".encode())
    with good_clients(server, photo):
        for message in (head, get, request(server, "POST", "encode", 10**9)):
            with socket.create_connection((address.hostname, address.port), timeout=30) as client:
                sent = 0
                with contextlib.suppress(ConnectionError):
                    client.sendall(message)
                    while sent < 1000:
                        client.sendall(chunk)
                        sent += 1
                assert sent < 1000, "the connection was not cut"
    assert ingress.memory_info().rss - before < 150 * MB


def test_slow_readers_of_large_photos_hurt_nobody(server: Server, photo: bytes, ingress: psutil.Process) -> None:
    """Twenty photos of 20 MB are read at a byte now and then: more than may be held of answers."""
    url = f"{server.collection}/images/large"
    assert httpx.put(url, files={"image": noise_png(2700)}, timeout=60).status_code == 200
    before = ingress.memory_info().rss
    try:
        with (
            good_clients(server, photo),
            sockets(server, 20, request(server, "GET", "images/large/photo", 0)) as readers,
        ):
            stop = time.monotonic() + 8
            while time.monotonic() < stop:
                for client in readers:
                    client.recv(1)
                time.sleep(0.2)
            whole = httpx.get(f"{url}/photo", timeout=30)
            assert (whole.status_code, len(whole.content) > 20 * MB - 1) == (200, True)
        assert ingress.memory_info().rss - before < 500 * MB
    finally:
        assert httpx.delete(url).status_code == 200


def test_flood_of_searches_is_answered_or_refused_with_429(server: Server) -> None:
    """More at once than may be in flight: nobody hangs, and what is refused says when to come again."""
    body = json.dumps({"image_id": server.ids[0], "count": 5}).encode()
    message = request(server, "POST", "search", len(body)) + body
    with sockets(server, 1500, message) as clients, concurrent.futures.ThreadPoolExecutor(16) as pool:
        heads = list(pool.map(lambda client: client.recv(1000), clients))
    statuses = {int(head.split(b" ")[1]) for head in heads}
    assert statuses <= {200, 429}
    assert all(b"retry-after" in head.lower() for head in heads if b" 429 " in head[:20])


@pytest.mark.parametrize("header", ["X-Request-Timeout-Seconds: 0.000001", "X-Request-Id: \xff", "X-Session-Id: \xff"])
def test_headers_that_serve_obeys_are_not_for_clients(server: Server, header: str) -> None:
    body = json.dumps({"image_id": server.ids[0]}).encode()
    head = request(server, "POST", "search", len(body)).replace(b"\r\n\r\n", f"\r\n{header}\r\n\r\n".encode("latin-1"))
    with sockets(server, 1, head + body) as (client,):
        assert status_of(client) == 200
