"""Local files: what is special about a disk."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lookalike import storage
from lookalike.errors import Conflict, DiskFull, NotFound, StorageUnavailable
from lookalike.storage import Location, local
from lookalike.storage.local import Disk

ROOM = 256 << 10


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 kB."""
    mounted = tmp_path / "small"
    mounted.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={ROOM}", "tmpfs", str(mounted)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("to mount a small file system one must be root, with the capability to mount")
    yield mounted
    subprocess.run(["umount", str(mounted)], check=True)


def test_filesystem_full_disk_is_reported_and_changes_nothing(small_disk: Path) -> None:
    root = Location.parse(small_disk)
    version = storage.create(root / "head", b"old")
    large = bytes(ROOM * 2)

    def stream() -> None:
        with storage.create_file(root / "streamed") as file:
            for _ in range(8):
                file.write(bytes(ROOM // 4))

    def stream_and_go_on() -> None:
        with storage.create_file(root / "streamed") as file:
            try:
                file.write(bytes(ROOM * 8))
            except StorageUnavailable:
                file.write(b"end")

    for write in (
        lambda: storage.write(root / "head", large),
        lambda: storage.create(root / "new/file", large),
        lambda: storage.replace(root / "head", large, version),
        stream,
        stream_and_go_on,
    ):
        with pytest.raises(DiskFull, match=f"cannot write {small_disk}/.*make room"):
            write()
        assert storage.list_tree(root) == ["head"]
        assert [path for path in small_disk.rglob("*") if path.is_file()] == [small_disk / "head"]
        assert storage.read_versioned(root / "head") == (b"old", version)
    storage.replace(root / "head", b"new", version)


def test_filesystem_full_disk_for_temporary_files_is_reported(
    small_disk: Path, s3_root: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(small_disk))

    def write() -> None:
        with storage.create_file(s3_root / "a") as file:
            file.write(bytes(ROOM * 2))

    with pytest.raises(DiskFull, match=str(small_disk)):
        write()
    assert storage.list_tree(s3_root) == []


class _NoLinks(Disk):
    """A disk of a file system without hard links, such as FAT."""

    def link(self, source: Path, target: Path) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))


def test_filesystem_without_hard_links_can_write_but_not_create(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "disk", _NoLinks())
    at = Location.parse(tmp_path / "a")
    storage.write(at, b"1")
    version = storage.write(at, b"2")
    storage.replace(at, b"3", version)
    assert storage.read(at) == b"3"
    with pytest.raises(StorageUnavailable, match="no hard links"):
        storage.create(Location.parse(tmp_path / "b"), b"")
    assert storage.list_names(Location.parse(tmp_path)) == ["a"]


class _FailingSync(Disk):
    """A disk that cannot make anything durable."""

    def fsync(self, descriptor: int, path: Path) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))


def test_filesystem_write_that_was_not_synced_is_not_acknowledged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = Location.parse(tmp_path)
    version = storage.create(root / "a", b"old")
    monkeypatch.setattr(local, "disk", _FailingSync())

    def stream() -> None:
        with storage.create_file(root / "b") as file:
            file.write(b"new")

    for write in (
        lambda: storage.write(root / "a", b"new"),
        lambda: storage.create(root / "b", b"new"),
        lambda: storage.replace(root / "a", b"new", version),
        stream,
    ):
        with pytest.raises(StorageUnavailable, match="Input/output error"):
            write()
    assert storage.read(root / "a") == b"old"
    assert list(tmp_path.iterdir()) == [tmp_path / "a"]


def test_filesystem_opens_no_pipe_and_no_device(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero"), tmp_path):
        with pytest.raises(NotFound, match="is not a file"):
            storage.read(Location.parse(path), max_bytes=10)
    assert storage.list_names(Location.parse(tmp_path)) == []


def test_filesystem_listings_leave_out_drafts_and_follow_links(tmp_path: Path) -> None:
    root = Location.parse(tmp_path)
    storage.write(root / "folder/file", b"1")
    (tmp_path / f".file.{'0' * 32}").write_bytes(b"left behind by kill -9")
    (tmp_path / "folder" / "up").symlink_to(tmp_path)
    (tmp_path / "link").symlink_to("folder/file")
    (tmp_path / "dangling").symlink_to("nothing")
    (tmp_path / "empty/empty").mkdir(parents=True)
    assert storage.list_names(root) == ["folder", "link"]
    assert storage.list_tree(root) == ["folder/file", "link"]


@pytest.mark.parametrize(
    "operation",
    [
        lambda at: storage.write(at, b"1"),
        lambda at: storage.replace(at, b"1", "version"),
        lambda at: storage.move(at.parent / "a", at),
        storage.remove,
    ],
)
def test_filesystem_dangling_link_is_an_error_not_a_loop(
    tmp_path: Path, operation: Callable[[Location], object]
) -> None:
    at = Location.parse(tmp_path / "dangling")
    at.path.symlink_to("nothing")
    storage.write(at.parent / "a", b"1")
    with pytest.raises(StorageUnavailable, match="symbolic link to nothing"):
        operation(at)


def test_filesystem_move_between_two_names_of_one_file_leaves_one(tmp_path: Path) -> None:
    root = Location.parse(tmp_path)
    storage.write(root / "a", b"1")
    (tmp_path / "b").hardlink_to(tmp_path / "a")
    storage.move(root / "a", root / "b")
    assert storage.list_names(root) == ["b"]
    (tmp_path / "c").symlink_to("b")
    storage.move(root / "b", root / "c")
    assert storage.list_names(root) == ["c"]
    assert storage.read(root / "c") == b"1"


class _Slow(Disk):
    """A disk on which others have time to come between a check and the change that relies on it."""

    def __init__(self) -> None:
        self.failures: list[str] = []

    def rename(self, source: Path, target: Path) -> None:
        time.sleep(random.uniform(0, 0.003))
        content = source.read_bytes()
        if content.startswith(b"after ") and target.read_bytes() != content[6:]:
            self.failures.append("replaced what it had not read")
        super().rename(source, target)

    def link(self, source: Path, target: Path) -> None:
        time.sleep(random.uniform(0, 0.003))
        super().link(source, target)


def test_filesystem_replace_sees_every_write_and_removal_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Threads write and remove one file; a replace succeeds only in the place of the version that it names."""
    at = Location.parse(tmp_path / "a")
    disk = _Slow()
    monkeypatch.setattr(local, "disk", disk)
    stop = threading.Event()

    def disturb() -> None:
        while not stop.is_set():
            storage.write(at, os.urandom(8))
            storage.remove(at)

    threads = [threading.Thread(target=disturb) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        replaced = 0
        while replaced < 20:
            with contextlib.suppress(NotFound, Conflict):
                content, version = storage.read_versioned(at)
                storage.replace(at, b"after " + content, version)
                replaced += 1
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert disk.failures == []


def test_filesystem_moves_in_opposite_directions_do_not_wait_for_each_other(tmp_path: Path) -> None:
    root = Location.parse(tmp_path)
    storage.write(root / "a", b"1")
    storage.write(root / "b", b"2")

    def shuttle(source: str, target: str) -> None:
        for _ in range(50):
            storage.write(root / source, source.encode())
            with contextlib.suppress(NotFound):
                storage.move(root / source, root / target)

    threads = [threading.Thread(target=shuttle, args=pair) for pair in (("a", "b"), ("b", "a"))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert set(storage.list_names(root)) <= {"a", "b"}
