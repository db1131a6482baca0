"""The keys that a running server knows: those of the file as it is now."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from lookalike.cluster.access.key_ring import LOOK_S, KeyRing
from lookalike.cluster.access.keys import BadKeys, add_key, keys_from_environment, new_key, remove_key
from lookalike.cluster.access.rate import RateLimit
from lookalike.cluster.access.roles import Role
from lookalike.errors import LookalikeError, NotFound
from lookalike.storage import Location

KEY = "0123456789abcdef" * 4


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def file(tmp_path: Path) -> Location:
    return Location.parse(tmp_path / "keys.json")


def test_ring_finds_keys_of_file_and_environment_and_no_others(file: Location) -> None:
    key = add_key(file, "shop", "write", None)
    ring = KeyRing(keys_from_environment(f"ops:admin:{KEY}"), file)
    for given, name, role in ((key, "shop", Role.WRITE), (KEY, "ops", Role.ADMIN)):
        caller = ring.find(given)
        assert caller is not None
        assert (caller.name, caller.role, caller.bucket) == (name, role, None)
    for other in ("", key[:-1], f"{key}x", key.upper(), f" {key}", new_key(), "\ud800", "x" * 10**6):
        assert ring.find(other) is None


def test_ring_follows_the_file_at_the_first_request_of_a_second(file: Location) -> None:
    clock = Clock()
    first = add_key(file, "first", "read", None)
    ring = KeyRing((), file, clock)
    remove_key(file, "first")
    second = add_key(file, "second", "read", None)
    clock.now = LOOK_S / 2
    assert (ring.find(first) is None, ring.find(second) is None) == (False, True)
    clock.now = LOOK_S
    assert (ring.find(first) is None, ring.find(second) is None) == (True, False)


@pytest.mark.parametrize("fault", ["damaged", "missing", "open", "twice"])
def test_ring_keeps_the_last_good_keys_and_says_so_once(
    file: Location, caplog: pytest.LogCaptureFixture, fault: str
) -> None:
    clock = Clock()
    key = add_key(file, "shop", "read", None)
    ring = KeyRing(keys_from_environment(f"ops:admin:{KEY}"), file, clock)
    whole = file.path.read_bytes()
    match fault:
        case "damaged":
            file.path.write_bytes(whole[:-9])
        case "missing":
            file.path.unlink()
        case "open":
            file.path.chmod(0o666)
        case "twice":
            file.path.write_bytes(whole.replace(b'"shop"', b'"ops"'))
    with caplog.at_level(logging.INFO):
        for second in range(1, 5):
            clock.now = second * LOOK_S
            assert ring.find(key) is not None
    (record,) = caplog.records
    assert "API keys are still those that were read last" in record.message
    file.path.unlink(missing_ok=True)
    new = add_key(file, "new", "read", None)
    clock.now += LOOK_S
    assert (ring.find(key) is None, ring.find(new) is None) == (True, False)


def test_ring_of_an_emptied_file_knows_nobody(file: Location) -> None:
    clock = Clock()
    key = add_key(file, "shop", "read", None)
    ring = KeyRing((), file, clock)
    file.path.write_bytes(b"")
    clock.now = LOOK_S
    assert ring.find(key) is None


def test_ring_starts_with_a_whole_file_or_not_at_all(file: Location) -> None:
    with pytest.raises(NotFound):
        KeyRing((), file)
    add_key(file, "ops", "read", None)
    with pytest.raises(BadKeys, match="'ops' is there 2 times"):
        KeyRing(keys_from_environment(f"ops:admin:{KEY}"), file)
    file.path.write_bytes(b"{")
    with pytest.raises(LookalikeError):
        KeyRing((), file)


def test_ring_of_a_process_that_is_started_again_refuses_what_it_cannot_know(file: Location) -> None:
    clock = Clock()
    file.path.write_bytes(b"{")
    file.path.chmod(0o600)
    ring = KeyRing(keys_from_environment(f"ops:admin:{KEY}"), file, clock, must_read=False)
    assert (ring.find(new_key()), ring.find(KEY) is None) == (None, False)
    file.path.write_bytes(b"")
    key = add_key(file, "shop", "read", None)
    clock.now = LOOK_S
    assert ring.find(key) is not None


def test_ring_keeps_the_bucket_of_a_key_while_others_change(file: Location) -> None:
    clock = Clock()
    key = add_key(file, "shop", "read", RateLimit(rate=0.001, burst=2))
    ring = KeyRing((), file, clock)

    def take() -> float:
        caller = ring.find(key)
        assert caller is not None
        assert caller.bucket is not None
        return caller.bucket.take()

    assert (take(), take()) == (0, 0)
    add_key(file, "other", "read", None)
    clock.now = LOOK_S
    assert take() > 0
