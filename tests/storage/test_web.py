"""Photos on the web: everything that a stranger's server or address may try."""

from __future__ import annotations

import ipaddress
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from support.web import Answer, run_web_server, write_certificate

from lookalike import storage
from lookalike.errors import NotFound, StorageUnavailable, TooLarge
from lookalike.storage import Location, web

PHOTO = bytes(range(256)) * 1000
Site = tuple[str, dict[str, Answer]]


def says(status: int, content: bytes = b"", **headers: str) -> Answer:
    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            request.send_header(name.replace("_", "-"), value)
        request.end_headers()
        request.wfile.write(content)

    return answer


def in_turn(*answers: Answer) -> Answer:
    waiting = list(answers)
    return lambda request: waiting.pop(0)(request)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """A server on this machine, with a certificate for localhost that is trusted."""
    certificate = write_certificate(tmp_path, "localhost")
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    monkeypatch.setattr(web, "FIRST_PAUSE_S", 0.01)
    web._tls.cache_clear()
    answers: dict[str, Answer] = {}
    with run_web_server(certificate, answers) as port:
        yield f"https://localhost:{port}", answers
    web._tls.cache_clear()


def read(url: str, max_bytes: int | None = None) -> bytes:
    return storage.read(Location.parse(url), max_bytes=max_bytes, allow_private=True)


def test_web_reads_a_photo_and_sends_path_query_and_host_as_given(site: Site) -> None:
    url, answers = site
    seen = []

    def answer(request: BaseHTTPRequestHandler) -> None:
        seen.append((request.path, request.headers["Host"], request.headers["Accept-Encoding"]))
        says(200, PHOTO)(request)

    answers["/a%20b//c.jpg?size=1&x=%2F"] = answer
    assert read(f"{url}/a%20b//c.jpg?size=1&x=%2F") == PHOTO
    assert seen == [("/a%20b//c.jpg?size=1&x=%2F", url.removeprefix("https://"), "identity")]


def test_web_read_refuses_more_than_the_limit_whatever_the_header_says(site: Site) -> None:
    url, answers = site

    def endless(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.end_headers()
        with suppress(OSError):
            while True:
                request.wfile.write(bytes(100_000))

    answers["/exact"] = says(200, PHOTO)
    answers["/endless"] = endless
    assert read(f"{url}/exact", len(PHOTO)) == PHOTO
    with pytest.raises(TooLarge, match="more than 255,999 bytes"):
        read(f"{url}/exact", len(PHOTO) - 1)
    with pytest.raises(TooLarge, match="more than 5,000,000 bytes"):
        read(f"{url}/endless", 5_000_000)


def test_web_follows_three_redirects_and_only_to_https(site: Site, tmp_path: Path) -> None:
    url, answers = site
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    for number in range(4):
        answers[f"/{number}"] = says(302, Location=f"/{number - 1}" if number % 2 else f"{url}/{number - 1}")
    answers["/0"] = says(200, PHOTO)
    answers["/4"] = says(301, Location=f"{url}/3")
    assert read(f"{url}/3") == PHOTO
    with pytest.raises(StorageUnavailable, match="more than 3 redirects"):
        read(f"{url}/4")
    for number, target in enumerate(
        [
            "http://localhost/",
            f"file://{secret}",
            str(secret),
            "s3://bucket/key",
            "https://a:b@localhost/",
            "",
            "gopher://x",
        ]
    ):
        answers[f"/bad/{number}"] = says(302, Location=target)
        answers[str(secret)] = says(404)
        with pytest.raises((StorageUnavailable, NotFound)):
            read(f"{url}/bad/{number}")


def test_web_error_says_what_the_server_answered(site: Site) -> None:
    url, answers = site
    for status in (404, 410):
        answers[f"/{status}"] = says(status)
        with pytest.raises(NotFound, match=f"HTTP {status}"):
            read(f"{url}/{status}")
    answers["/403"] = says(403)
    with pytest.raises(StorageUnavailable, match="HTTP 403"):
        read(f"{url}/403")
    answers["/403?X-Amz-Signature=hidden"] = says(403)
    with pytest.raises(StorageUnavailable, match="HTTP 403") as caught:
        read(f"{url}/403?X-Amz-Signature=hidden")
    assert "hidden" not in str(caught.value)
    answers["/gzip"] = says(200, b"zip bomb", Content_Encoding="gzip")
    with pytest.raises(StorageUnavailable, match="compresses"):
        read(f"{url}/gzip")


def test_web_tries_again_after_transient_faults(site: Site) -> None:
    url, answers = site

    def half(request: BaseHTTPRequestHandler) -> None:
        says(200, PHOTO[: len(PHOTO) // 2], Content_Length=str(len(PHOTO)))(request)

    def nothing(request: BaseHTTPRequestHandler) -> None:
        request.connection.shutdown(socket.SHUT_RDWR)

    def nonsense(request: BaseHTTPRequestHandler) -> None:
        request.wfile.write(b"nonsense\r\n\r\n")

    answers["/a"] = in_turn(half, says(503), says(200, PHOTO))
    assert read(f"{url}/a") == PHOTO
    answers["/b"] = in_turn(nothing, nonsense, says(200, PHOTO))
    assert read(f"{url}/b") == PHOTO
    answers["/c"] = in_turn(says(429), says(500), says(502))
    with pytest.raises(StorageUnavailable, match=r"HTTP 502 \(tried 3 times\)"):
        read(f"{url}/c")


@pytest.mark.parametrize("part", ["header", "body"])
def test_web_cuts_a_server_that_sends_a_byte_now_and_then(
    site: Site, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    url, answers = site
    monkeypatch.setattr(web, "DEADLINE_S", 0.6)
    stopped = []

    def drip(request: BaseHTTPRequestHandler) -> None:
        request.wfile.write(b"HTTP/1.0 200 OK\r\nX: " if part == "header" else b"HTTP/1.0 200 OK\r\n\r\n")
        try:
            for _ in range(2000):
                request.wfile.write(b"x")
                time.sleep(0.01)
        except OSError:
            stopped.append(True)

    answers["/a"] = drip
    with pytest.raises(StorageUnavailable, match="the time is over"):
        read(f"{url}/a")
    for _ in range(500):
        if stopped:
            break
        time.sleep(0.01)
    assert stopped


@pytest.mark.usefixtures("site")
@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
        "::1",
        "::",
        "fe80::1",
        "fc00::1",
        "ff02::1",
        "::ffff:127.0.0.1",
        "::127.0.0.1",
        "64:ff9b::127.0.0.1",
        "2002:7f00:1::1",
        "2001:0:7f00:1::1",
    ],
)
def test_web_refuses_addresses_that_are_not_public(address: str) -> None:
    host = f"[{address}]" if ":" in address else address
    with pytest.raises(StorageUnavailable, match="not public"):
        storage.read(Location.parse(f"https://{host}/latest/meta-data"))


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8"])
def test_web_takes_public_addresses(address: str) -> None:
    assert web._is_public(ipaddress.ip_address(address))


def test_web_refuses_a_host_with_one_private_address_among_public_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "_resolve", lambda *_: ["8.8.8.8", "10.0.0.1"])
    with pytest.raises(StorageUnavailable, match="not public"):
        storage.read(Location.parse("https://example.com/a"))


def test_web_connects_to_the_address_that_was_checked(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that resolves to another address the second time is resolved once only, also after a redirect."""
    url, answers = site
    port = int(url.rpartition(":")[2])
    looked_up = []
    original = socket.getaddrinfo

    def getaddrinfo(host: str, *arguments: object, **options: object) -> object:
        if host != "127.0.0.1":  # numbers are not resolved
            looked_up.append(host)
        return original(host, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    monkeypatch.setattr(socket, "has_ipv6", False)
    answers["/a"] = says(200, PHOTO)
    answers["/b"] = says(302, Location="/a")
    assert read(f"https://localhost:{port}/a") == PHOTO
    assert looked_up == ["localhost"]
    assert read(f"https://localhost:{port}/b") == PHOTO
    assert looked_up == ["localhost"] * 3


def test_web_refuses_a_redirect_to_a_private_address(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    url, answers = site
    answers["/a"] = says(302, Location="https://10.0.0.1/secret")
    answers["/b"] = says(200, PHOTO)
    monkeypatch.setattr(web, "_is_public", lambda address: str(address) in {"127.0.0.1", "::1"})
    assert storage.read(Location.parse(f"{url}/b")) == PHOTO
    with pytest.raises(StorageUnavailable, match="not public"):
        storage.read(Location.parse(f"{url}/a"))


def test_web_trusts_only_a_certificate_for_the_host(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, answers = site
    answers["/a"] = says(200, PHOTO)
    with pytest.raises(StorageUnavailable, match=r"no secure connection.*CERTIFICATE_VERIFY_FAILED"):
        read(url.replace("localhost", "127.0.0.1") + "/a")
    monkeypatch.setenv("SSL_CERT_FILE", str(write_certificate(tmp_path, "other")))
    web._tls.cache_clear()
    with pytest.raises(StorageUnavailable, match="no secure connection"):
        read(f"{url}/a")


def test_web_says_that_a_host_does_not_exist() -> None:
    with pytest.raises(StorageUnavailable, match=r"cannot read https://no-such-host\.invalid/a"):
        storage.read(Location.parse("https://no-such-host.invalid/a"))


@pytest.mark.usefixtures("site")
def test_web_error_says_that_nobody_listens() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        with pytest.raises(StorageUnavailable, match=r"Connection refused|connection failed"):
            read(f"https://127.0.0.1:{port}/a")
