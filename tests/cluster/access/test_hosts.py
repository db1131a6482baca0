"""Hosts and origins: what a page of another site can send in the browser of a user is refused."""

from __future__ import annotations

import ipaddress
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lookalike.cluster.access.hosts import host_of, host_policy, is_cross_origin, is_loopback, parse_allowed

names = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?(\.[a-z]{2,5}){1,3}", fullmatch=True)
ports = st.one_of(st.just(""), st.integers(0, 65535).map(lambda port: f":{port}"))


def spelled(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    return f"[{address}]" if address.version == 6 else str(address)


@given(names, ports)
def test_host_policy_of_loopback_refuses_every_other_name(name: str, port: str) -> None:
    """DNS rebinding: the browser sends the name that was made to resolve to us."""
    is_allowed = host_policy("127.0.0.1", ())
    assert is_allowed(name + port) is False
    for own in ("localhost", "LocalHost.", "127.0.0.1", "[::1]", "[0:0:0:0:0:0:0:1]"):
        assert is_allowed(own + port) is True


@given(st.ip_addresses(), ports)
def test_host_policy_of_loopback_refuses_other_addresses(address: ipaddress.IPv4Address, port: str) -> None:
    own = str(address) in ("127.0.0.1", "::1")
    assert host_policy("127.0.0.1", ())(spelled(address) + port) is own


@given(st.ip_addresses(), names, ports)
def test_host_policy_of_every_address_allows_addresses_and_names_that_are_given(
    address: ipaddress.IPv4Address, name: str, port: str
) -> None:
    is_allowed = host_policy("0.0.0.0", [parse_allowed("shop.example"), parse_allowed("*.internal.example")])
    assert is_allowed(spelled(address) + port) is True
    assert is_allowed(socket.gethostname() + port) is True
    assert is_allowed(f"shop.example{port}") is True
    assert is_allowed(f"{name}.internal.example{port}") is True
    assert is_allowed(f"internal.example{port}") is False
    assert is_allowed(f"{name}.shop.example{port}") is False
    assert is_allowed(name + port) is (name == socket.gethostname().lower())


def test_host_policy_of_one_address_allows_that_one() -> None:
    is_allowed = host_policy("10.0.0.5", ())
    assert is_allowed("10.0.0.5:8000") is True
    assert is_allowed("10.0.0.6:8000") is False
    assert is_allowed("localhost") is False
    assert host_policy("fe80::0:1", ())("[fe80::1]") is True


def test_host_policy_may_allow_any_host() -> None:
    is_allowed = host_policy("127.0.0.1", [parse_allowed("*")])
    assert is_allowed("evil.example") is True
    assert is_allowed("") is None


@pytest.mark.parametrize(
    "header",
    ["", ":8000", "a b", "a/b", "user@host", "host:port", "host:", "[::1", "::1", "[localhost]", "ä", "a\n", "."],
)
def test_host_that_is_malformed_is_none(header: str) -> None:
    assert host_of(header) is None
    assert host_policy("127.0.0.1", ())(header) is None


@pytest.mark.parametrize("text", ["", "http://shop", "shop:80", "a/b", "*.", "**", "*.*.a", "*.::1", "shop*"])
def test_parse_allowed_refuses_what_is_no_host(text: str) -> None:
    with pytest.raises(ValueError, match="is not a host"):
        parse_allowed(text)


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("localhost", True)]
    + [(host, False) for host in ("0.0.0.0", "::", "", "10.0.0.1", "example.com", "127.1", "localhost.example")],
)
def test_is_loopback_only_where_this_machine_alone_reaches_it(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


@pytest.mark.parametrize(
    ("host", "origin", "fetch_site", "cross"),
    [
        ("localhost:8000", None, None, False),  # no browser
        ("localhost:8000", "http://localhost:8000", "same-origin", False),
        ("localhost:8000", "http://localhost:8000", None, False),
        ("LOCALHOST:8000", "http://localhost:8000", None, False),
        ("localhost:8000", None, "none", False),  # typed by the user
        ("localhost:8000", "http://localhost:9000", "same-site", True),  # another server of this machine
        ("localhost:8000", "https://evil.example", "cross-site", True),
        ("localhost:8000", "http://localhost:8000", "cross-site", True),
        ("localhost:8000", "https://evil.example", None, True),
        ("localhost:8000", "http://localhost", None, True),
        ("localhost:8000", "null", None, True),  # a sandboxed frame, or a file
        ("localhost:8000", "", None, True),
        ("10.0.0.1", "http://10.0.0.1", None, False),
    ],
)
def test_cross_origin_is_what_a_page_of_another_origin_sends(
    host: str, origin: str | None, fetch_site: str | None, cross: bool
) -> None:
    assert is_cross_origin(host, origin, fetch_site) is cross
