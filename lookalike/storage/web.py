"""Photos on other people's web servers: read only, and on guard, since the addresses come from strangers.

An address is resolved once, every answer of the resolver must be public, and the connection goes to the address that
was checked: so a name that resolves differently the next time leads nowhere ("DNS rebinding"). The same holds for
each redirect. Proxies of the environment are not used, as they would resolve the name again.

Of urllib3, which boto3 brings along, only the connection is used: its pools and redirects resolve names by themselves.
"""

from __future__ import annotations

import http.client
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from urllib.parse import urljoin

from urllib3.connection import HTTPSConnection
from urllib3.exceptions import HTTPError
from urllib3.response import BaseHTTPResponse
from urllib3.util import parse_url

from lookalike.errors import NotFound, StorageUnavailable, TooLarge

from .location import Location

DEADLINE_S = 20.0
CONNECT_TIMEOUT_S = 5.0
MAX_ATTEMPTS = 3
FIRST_PAUSE_S = 0.5
MAX_REDIRECTS = 3
_CHUNK_BYTES = 64 << 10
_REDIRECTS = {301, 302, 303, 307, 308}
_TRANSIENT_STATUSES = {408, 429, 500, 502, 503, 504}
_NO_SUCH_HOST = {socket.EAI_NONAME, socket.EAI_NODATA}
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_COMPATIBLE = ipaddress.IPv6Network("::/96")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class _TransientError(Exception):
    """A failure that another attempt may not have. Argument: the reason."""


def read(location: Location, *, max_bytes: int | None = None, allow_private: bool = False) -> bytes:
    """Read a photo.

    Parameters
    ----------
    location : Location
        With the scheme ``https``.
    max_bytes : int, optional
        What the caller takes. More is an error, and is not read to its end.
    allow_private : bool
        Whether private, loopback and other addresses that are not public are allowed.

    Raises
    ------
    NotFound, TooLarge
    StorageUnavailable
        Also for an address that is not public, and when ``DEADLINE_S`` is over.
    """
    ends = time.monotonic() + DEADLINE_S
    for attempt in range(1, MAX_ATTEMPTS + 1):
        try:
            return _follow(location, max_bytes, allow_private, ends)
        except _TransientError as error:
            pause_s = FIRST_PAUSE_S * 2 ** (attempt - 1)
            if attempt == MAX_ATTEMPTS or time.monotonic() + pause_s > ends:
                raise StorageUnavailable(f"cannot read {location.shown}: {error} (tried {attempt} times)") from None
            time.sleep(pause_s)
    raise AssertionError("the last attempt returns or raises")


def _follow(location: Location, max_bytes: int | None, allow_private: bool, ends: float) -> bytes:
    """Read from where the redirects lead."""
    at = location
    for _ in range(MAX_REDIRECTS + 1):
        found = _read_once(at, max_bytes, allow_private, ends)
        if isinstance(found, bytes):
            return found
        at = found
    raise StorageUnavailable(f"cannot read {location.shown}: more than {MAX_REDIRECTS} redirects")


def _read_once(location: Location, max_bytes: int | None, allow_private: bool, ends: float) -> bytes | Location:
    """Send one request; give the content or where a redirect leads."""
    try:
        with _answer(location, allow_private, ends) as answer:
            if answer.status in _REDIRECTS:
                return _target(location, answer.headers.get("Location", ""))
            _check(location, answer)
            return _content(location, answer, max_bytes, ends)
    except (HTTPError, http.client.HTTPException, OSError) as error:
        # Not the text of the error, which may hold the URL with its query.
        reason = "the time is over" if time.monotonic() >= ends else _reason(error)
        lasting = isinstance(error, ssl.SSLCertVerificationError) or (
            isinstance(error, socket.gaierror) and error.errno in _NO_SUCH_HOST
        )
        if lasting:
            raise StorageUnavailable(f"cannot read {location.shown}: {reason}") from None
        raise _TransientError(reason) from None


def _check(location: Location, answer: BaseHTTPResponse) -> None:
    """Raise what a status means, unless it is 200."""
    if answer.status in {404, 410}:
        raise NotFound(f"{location.shown} is not there (HTTP {answer.status})")
    if answer.status in _TRANSIENT_STATUSES:
        raise _TransientError(f"the server answers HTTP {answer.status}")
    if answer.status != 200:
        raise StorageUnavailable(f"cannot read {location.shown}: the server answers HTTP {answer.status}")
    if answer.headers.get("Content-Encoding", "identity").lower() not in {"identity", ""}:
        raise StorageUnavailable(f"cannot read {location.shown}: the server compresses it unasked")


def _content(location: Location, answer: BaseHTTPResponse, max_bytes: int | None, ends: float) -> bytes:
    pieces: list[bytes] = []
    size = 0
    limit = float("inf") if max_bytes is None else max_bytes
    if (answer.length_remaining or 0) > limit:
        raise TooLarge(f"{location.shown} has more than {max_bytes:,} bytes")
    while True:
        piece = answer.read(_CHUNK_BYTES)
        if time.monotonic() >= ends:  # what looks like the end may be our own cut
            raise TimeoutError
        if not piece:
            return b"".join(pieces)
        size += len(piece)
        if size > limit:
            raise TooLarge(f"{location.shown} has more than {max_bytes:,} bytes")
        pieces.append(piece)


def _target(location: Location, to: str) -> Location:
    """Resolve a redirect, which may only lead to another ``https`` URL."""
    try:
        target = Location.parse(urljoin(str(location), to))
        if target.scheme == "https":
            return target
    except ValueError:
        pass
    raise StorageUnavailable(f"cannot read {location.shown}: it redirects to something that is not an https:// URL")


@contextmanager
def _answer(location: Location, allow_private: bool, ends: float) -> Iterator[BaseHTTPResponse]:
    """Send the request to the first address that takes the connection; at the deadline the connection is cut."""
    url = parse_url(str(location))
    assert url.host is not None
    host = url.host.strip("[]")
    addresses = _addresses(location, host, url.port or 443, allow_private, ends)
    connection = _connect(host, url.port or 443, addresses, ends)
    # Timeouts are per packet, so a server that sends a byte now and then could hold us for ever without this.
    assert connection.sock is not None
    cutter = threading.Timer(max(0.0, ends - time.monotonic()), _cut, [connection.sock])
    cutter.daemon = True
    cutter.start()
    try:
        headers = {"Host": url.netloc or host, "Accept-Encoding": "identity", "User-Agent": "lookalike"}
        connection.request("GET", url.request_uri, headers=headers, preload_content=False, decode_content=False)
        with connection.getresponse() as answer:  # it holds the socket by itself where the server ends the connection
            yield answer
    finally:
        cutter.cancel()
        connection.close()


def _cut(connection: socket.socket) -> None:
    with suppress(OSError):  # closed meanwhile
        socket.socket.shutdown(connection, socket.SHUT_RDWR)  # that of TLS would take its state away from the reader


def _connect(host: str, port: int, addresses: list[Address], ends: float) -> HTTPSConnection:
    failed: Exception = TimeoutError()
    for address in addresses:
        left_s = ends - time.monotonic()
        if left_s <= 0:
            break
        connection = HTTPSConnection(
            str(address),
            port,
            timeout=min(CONNECT_TIMEOUT_S, left_s),
            server_hostname=host,
            ssl_context=_tls(),
        )
        try:
            connection.connect()
        except (HTTPError, OSError) as error:
            connection.close()
            failed = error
        else:
            return connection
    raise failed


@cache
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()


def _addresses(location: Location, host: str, port: int, allow_private: bool, ends: float) -> list[Address]:
    """Resolve a host, and refuse it if any of its addresses is not public."""
    addresses = [ipaddress.ip_address(each) for each in _resolve(host, port, ends)]
    if not allow_private and not all(_is_public(each) for each in addresses):
        raise StorageUnavailable(f"cannot read {location.shown}: its host has an address that is not public")
    return addresses


def _resolve(host: str, port: int, ends: float) -> list[str]:
    """Call the resolver, in a thread of its own: it has no timeout."""
    found: list[str] = []
    failed: list[OSError] = []

    def look_up() -> None:
        try:
            infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            failed.append(error if isinstance(error, OSError) else OSError("not the name of a host"))
        else:
            found.extend(dict.fromkeys(str(info[4][0]).partition("%")[0] for info in infos))

    thread = threading.Thread(target=look_up, daemon=True)
    thread.start()
    thread.join(max(0.0, ends - time.monotonic()))
    if failed:
        raise failed[0]
    if not found:
        raise TimeoutError
    return found


def _is_public(address: Address) -> bool:
    """Say whether an address is one of the internet's, also if it is one of IPv4 that an IPv6 address holds."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
        if address in _NAT64 or address in _COMPATIBLE:
            inner.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
        if not all(each is None or _is_public(each) for each in inner):
            return False
        if address.ipv4_mapped is not None:
            return True
    return address.is_global and not address.is_multicast


def _reason(error: Exception) -> str:
    """Name a failure of the network without the URL that it may quote."""
    if isinstance(error, socket.gaierror):
        return "its host has no address"
    if isinstance(error, ssl.SSLError):
        return f"no secure connection ({error.reason})"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return f"the connection failed ({type(error).__name__})"
