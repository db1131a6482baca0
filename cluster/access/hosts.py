"""Which ``Host`` and which ``Origin`` a request may name: against pages of other sites in the browser of a user.

A page whose own name was made to resolve to this server (DNS rebinding) is of the same origin for the browser and may
read and write what it likes; what gives it away is its name in ``Host``. A page of another origin cannot read an
answer, since there is no CORS here, but its requests arrive.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Callable, Sequence
from functools import lru_cache

_HOST = re.compile(r"(\[[0-9a-fA-F:.]{2,45}\]|[A-Za-z0-9._-]{1,253})(?::[0-9]{1,5})?", re.ASCII)
_WILDCARD_ADDRESSES = {"", "0.0.0.0", "::"}  # noqa: S104 - to be recognised, not to be bound to


def host_of(header: str) -> str | None:
    """The name or address in a ``Host`` header, in one spelling: no port, no brackets, lower case. None: malformed."""
    found = _HOST.fullmatch(header)
    if found is None:
        return None
    name = found[1].lower().rstrip(".")
    if not name.startswith("["):
        return name or None
    address = _address(name[1:-1])
    return None if address is None else address.compressed


def is_loopback(host: str) -> bool:
    """Whether what listens on ``host`` is reached from this machine alone."""
    address = _address(host)
    return host == "localhost" if address is None else address.is_loopback


def parse_allowed(text: str) -> str:
    """Read a value of ``--allowed-host``: a name, ``*.name`` for all below it, an address, or ``*`` for any.

    Raises
    ------
    ValueError
        It is none of these.
    """
    name = text.removeprefix("*.")
    host = "*" if text == "*" else host_of(f"[{name}]" if ":" in name else name)
    if host is None or (":" in name and name != text):
        raise ValueError(f"{text!r} is not a host: give a name or an address without port, *.example.com, or *")
    return host if name == text else f"*.{host}"


def host_policy(bound: str, allowed: Sequence[str]) -> Callable[[str], bool | None]:
    """Make the test of ``Host`` headers: whether one is allowed, or None if it is malformed. Ports do not count.

    On loopback the names of loopback are allowed; beyond it the address that is bound and the name of the machine. A
    server that is bound to every address cannot know by which it is reached (NAT, containers), so any address is
    allowed there: a page cannot make its own name look like one. ``allowed`` comes on top, in any case.
    """
    names = {host for host in allowed if not host.startswith("*.")}
    names.add(host_of(f"[{bound}]" if ":" in bound else bound) or bound)
    suffixes = tuple(host[1:] for host in allowed if host.startswith("*."))
    any_address = bound in _WILDCARD_ADDRESSES
    if is_loopback(bound) or any_address:
        names |= {"localhost", "127.0.0.1", "::1"}
    if not is_loopback(bound):
        machine = socket.gethostname().lower()
        names |= {machine, machine.partition(".")[0]}

    @lru_cache(maxsize=1024)
    def is_allowed(header: str) -> bool | None:
        host = host_of(header)
        if host is None:
            return None
        return host in names or "*" in names or host.endswith(suffixes) or (any_address and _address(host) is not None)

    return is_allowed


def is_cross_origin(host: str, origin: str | None, fetch_site: str | None) -> bool:
    """Whether a browser sent this request for a page of another origin.

    The rule of Go's ``http.CrossOriginProtection``: ``Sec-Fetch-Site`` decides where there is one. It is not sent over
    plain HTTP to another machine; there ``Origin`` must name the host that the request names. What sends neither is no
    browser of the last years.
    """
    if fetch_site is not None:
        return fetch_site not in ("same-origin", "none")
    if origin is None:
        return False
    return origin.partition("://")[2].lower() != host.lower()


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None
