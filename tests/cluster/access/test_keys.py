"""The file of keys, and keys from the environment."""

from __future__ import annotations

import hashlib
import json
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lookalike.cluster.access.keys import (
    ApiKey,
    BadKeys,
    add_key,
    keys_from_environment,
    new_key,
    read_keys,
    remove_key,
)
from lookalike.cluster.access.rate import RateLimit
from lookalike.errors import NotFound, StorageUnavailable
from lookalike.storage import Location

KEY = "0123456789abcdef" * 4


@pytest.fixture
def file(tmp_path: Path) -> Location:
    return Location.parse(tmp_path / "keys.json")


def test_keys_are_unlike_each_other_and_only_their_hashes_are_kept(file: Location) -> None:
    keys = [add_key(file, f"n{n}", "read", None) for n in range(5)]
    assert len(set(keys)) == 5
    content = file.path.read_text()
    for key in keys:
        assert key.startswith("lk_")
        assert len(key) >= 46
        assert key not in content
        assert key[3:] not in content
    stored, _ = read_keys(file)
    assert [one.sha256 for one in stored] == [hashlib.sha256(key.encode()).hexdigest() for key in keys]
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600


def test_keys_are_read_back_as_they_were_added(file: Location) -> None:
    limit = RateLimit(rate=2.5, burst=9)
    add_key(file, "shop", "write", limit)
    add_key(file, "ops", "admin", None)
    stored, _ = read_keys(file)
    assert [(key.name, key.role, key.limit) for key in stored] == [("shop", "write", limit), ("ops", "admin", None)]
    remove_key(file, "shop")
    assert [key.name for key in read_keys(file)[0]] == ["ops"]
    with pytest.raises(BadKeys, match="no key 'shop'"):
        remove_key(file, "shop")
    with pytest.raises(BadKeys, match="already"):
        add_key(file, "ops", "read", None)


def test_keys_that_are_added_at_once_are_all_there(file: Location) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: add_key(file, f"n{n}", "read", None), range(16)))
    assert {key.name for key in read_keys(file)[0]} == {f"n{n}" for n in range(16)}


@pytest.mark.parametrize("name", ["", ".a", "-a", "a b", "a:b", "a\n", "ä", "x" * 65, 'a"'])
def test_key_of_a_name_that_is_none_is_refused(file: Location, name: str) -> None:
    with pytest.raises(BadKeys, match="is no name"):
        add_key(file, name, "read", None)
    assert not file.path.exists()


GOOD = {"name": "a", "role": "read", "sha256": "0" * 64}
DAMAGED: list[object] = [
    [],
    {"key": []},
    {"keys": [GOOD | {"sha256": KEY.upper()}]},
    {"keys": [GOOD | {"role": "root"}]},
    {"keys": [GOOD | {"role": "none"}]},
    {"keys": [GOOD | {"limits": {}}]},
    {"keys": [GOOD | {"limit": {"rate": 0, "burst": 1}}]},
    {"keys": [GOOD, GOOD | {"sha256": "1" * 64}]},
    {"keys": [GOOD, GOOD | {"name": "b"}]},
]


@pytest.mark.parametrize("content", [b"{", b"\xff", b"null", *(json.dumps(one).encode() for one in DAMAGED)])
def test_file_that_is_damaged_is_refused_as_a_whole(file: Location, content: bytes) -> None:
    file.path.write_bytes(content)
    file.path.chmod(0o600)
    with pytest.raises(BadKeys, match="is no file of keys"):
        read_keys(file)
    with pytest.raises(BadKeys):
        add_key(file, "new", "read", None)
    assert file.path.read_bytes() == content


@pytest.mark.parametrize("content", [b"", b"\n", b"{}", b'{"keys": []}'])
def test_file_that_is_empty_holds_no_key(file: Location, content: bytes) -> None:
    file.path.write_bytes(content)
    file.path.chmod(0o600)
    assert read_keys(file)[0] == ()


def test_file_that_is_missing_or_open_to_others_is_refused(file: Location) -> None:
    with pytest.raises(NotFound):
        read_keys(file)
    add_key(file, "a", "read", None)
    file.path.chmod(0o662)
    with pytest.raises(StorageUnavailable, match="chmod 600"):
        read_keys(file)


def test_environment_gives_names_roles_and_hashes() -> None:
    other = new_key()
    keys = keys_from_environment(f"shop:read:{KEY}, ops:admin:{other} ,")
    assert [(key.name, key.role) for key in keys] == [("shop", "read"), ("ops", "admin")]
    assert [key.sha256 for key in keys] == [hashlib.sha256(key.encode()).hexdigest() for key in (KEY, other)]
    assert keys_from_environment("") == ()


@pytest.mark.parametrize(
    "text",
    [
        "shop",
        "shop:read",
        KEY,
        f"shop:root:{KEY}",
        f"read:shop:{KEY}",
        f"a b:read:{KEY}",
        f"shop:read:{KEY[:31]}",
        f"shop:read:{KEY * 5}",
        f"shop:read:{KEY} x",
        f"shop:read:{KEY},shop:read:{KEY[::-1]}",
        f"shop:read:{KEY},other:read:{KEY}",
    ],
)
def test_environment_that_is_malformed_is_refused_without_a_word_of_a_key(text: str) -> None:
    with pytest.raises(BadKeys, match="LOOKALIKE_API_KEYS") as refused:
        keys_from_environment(text)
    assert KEY[:20] not in str(refused.value)


@given(st.text())
def test_environment_is_read_or_refused_whatever_it_holds(text: str) -> None:
    try:
        keys = keys_from_environment(text)
    except BadKeys:
        return
    assert all(isinstance(key, ApiKey) for key in keys)
