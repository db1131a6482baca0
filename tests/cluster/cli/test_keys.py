"""The commands for the file of keys."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from lookalike.cluster.access.key_ring import KeyRing
from lookalike.cluster.cli.main import main
from lookalike.storage import Location


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


def keys(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["keys", *arguments])


def test_keys_add_prints_the_key_once_and_keeps_its_hash(file: Path) -> None:
    key = keys("add", "shop", "--file", str(file), "--role", "read").stdout.strip()
    caller = KeyRing((), Location.parse(file)).find(key)
    assert caller is not None
    assert caller.name == "shop"
    assert key not in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert keys("list", "--file", str(file)).stdout == "shop  read\n"


def test_keys_list_shows_names_roles_and_limits(file: Path) -> None:
    keys("add", "shop", "--file", str(file), "--role", "write", "--limit", "50:200")
    keys("add", "ops", "--file", str(file), "--role", "admin")
    assert keys("list", "--file", str(file)).stdout.splitlines() == ["shop  write  50:200", "ops  admin"]
    assert json.loads(keys("list", "--file", str(file), "--json").stdout) == [
        {"name": "shop", "role": "write", "limit": {"rate": 50.0, "burst": 200}},
        {"name": "ops", "role": "admin"},
    ]


def test_keys_remove_revokes_one_key(file: Path) -> None:
    for name in ("shop", "ops"):
        keys("add", name, "--file", str(file), "--role", "read")
    assert keys("remove", "shop", "--file", str(file)).exit_code == 0
    assert keys("list", "--file", str(file)).stdout == "ops  read\n"
    again = keys("remove", "shop", "--file", str(file))
    assert (again.exit_code, "no key 'shop'" in again.stderr) == (1, True)


def test_keys_add_refuses_a_name_that_is_taken(file: Path) -> None:
    keys("add", "shop", "--file", str(file), "--role", "read")
    before = file.read_bytes()
    again = keys("add", "shop", "--file", str(file), "--role", "admin")
    assert (again.exit_code, again.stdout, "already" in again.stderr) == (1, "", True)
    assert file.read_bytes() == before
