"""Files that only their owner may read, whatever the umask."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from lookalike.errors import Conflict, NotFound, StorageUnavailable
from lookalike.storage import Location, private


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture(autouse=True)
def nothing_masked() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def test_private_files_are_for_their_owner_alone(tmp_path: Path) -> None:
    file = Location.parse(tmp_path / "new" / "keys.json")
    version = private.create(file, b"1")
    assert (mode_of(file.path), file.path.read_bytes()) == (0o600, b"1")
    file.path.chmod(0o644)
    private.replace(file, b"2", version)
    assert (mode_of(file.path), private.read_versioned(file)[0]) == (0o600, b"2")
    with private.open_to_append(Location.parse(tmp_path / "log")) as log:
        log.write("line\n")
    assert (mode_of(tmp_path / "log"), (tmp_path / "log").read_text()) == (0o600, "line\n")


def test_private_appends_to_what_is_there_and_leaves_its_mode(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("one\n")
    log.chmod(0o640)
    with private.open_to_append(Location.parse(log)) as file:
        file.write("two\n")
    assert (log.read_text(), mode_of(log)) == ("one\ntwo\n", 0o640)


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_private_read_refuses_what_others_may_write(tmp_path: Path, mode: int) -> None:
    (tmp_path / "keys").write_bytes(b"{}")
    (tmp_path / "keys").chmod(mode)
    with pytest.raises(StorageUnavailable, match="chmod 600"):
        private.read_versioned(Location.parse(tmp_path / "keys"))


@pytest.mark.parametrize("mode", [0o400, 0o600, 0o444, 0o644])
def test_private_read_takes_what_only_its_owner_may_write(tmp_path: Path, mode: int) -> None:
    (tmp_path / "keys").write_bytes(b"{}")
    (tmp_path / "keys").chmod(mode)
    assert private.read_versioned(Location.parse(tmp_path / "keys"))[0] == b"{}"


def test_private_replaces_one_version_only(tmp_path: Path) -> None:
    file = Location.parse(tmp_path / "keys")
    version = private.create(file, b"1")
    private.replace(file, b"2", version)
    with pytest.raises(Conflict):
        private.replace(file, b"3", version)
    with pytest.raises(Conflict):
        private.create(file, b"3")
    assert file.path.read_bytes() == b"2"
    with pytest.raises(NotFound):
        private.read_versioned(Location.parse(tmp_path / "none"))
