"""Files that are either there whole or not at all, also after kill -9 or a power cut.

Acknowledged means: the content is synced, the name is in place, the folder that holds the name is synced, and so are
the folders that were made for it. A file system that keeps its names in a journal (ext4, xfs, btrfs, apfs) is taken
for granted. Failures are ``OSError``, which ``filesystem`` turns into ours.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from lookalike.errors import Conflict

from .backend import Version

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

DRAFT_NAME = re.compile(r"\..+\.[0-9a-f]{32}")
"""Names that listings leave out: kill -9 leaves a draft behind."""

NO_HARD_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK}
_NOT_SYNCABLE = {errno.EACCES, errno.EPERM, errno.EINVAL, errno.EROFS}


class Disk:
    """The system calls that change a disk; nothing here changes one in another way, save the removal of drafts.

    A test replaces ``disk`` by a recorder and builds from its record what a power cut could have left.
    """

    def create(self, path: Path, mode: int = 0o666) -> int:
        """Make a file that is not there yet, and open it to write; the process's umask narrows ``mode``."""
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)

    def write(self, descriptor: int, content: ReadableBuffer, offset: int) -> int:
        return os.pwrite(descriptor, content, offset)

    def fsync(self, descriptor: int, path: Path) -> None:  # noqa: ARG002 - a recorder needs the path
        """Make durable what ``descriptor``, opened at ``path``, holds: a file's content or the names in a folder."""
        os.fsync(descriptor)

    def rename(self, source: Path, target: Path) -> None:
        source.rename(target)

    def link(self, source: Path, target: Path) -> None:
        os.link(source, target)

    def unlink(self, path: Path) -> None:
        path.unlink()

    def mkdir(self, path: Path) -> None:
        path.mkdir()


disk = Disk()
_durable_folders: set[Path] = set()


def write_atomically(path: Path, content: bytes, *, durable: bool = True) -> None:
    """Write ``content`` to ``path``, whose folder exists, so that a reader sees the old file or the new one."""
    with draft_of(path, content, durable=durable) as draft:
        put_in_place(draft.path, path)
    if durable:
        sync(path.parent)


@contextlib.contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Give an empty folder that becomes ``folder`` when the block ends: whole and on disk, or not at all.

    Raises
    ------
    OSError
        Among others when ``folder`` is there by then and not empty: it is never replaced.
    """
    make_folder(folder.parent)
    draft = _draft_path(folder)
    disk.mkdir(draft)
    try:
        yield draft
        for path in [*draft.rglob("*"), draft]:
            sync(path)
        disk.rename(draft, folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    sync(folder.parent)


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, where missing, durably.

    The folders above are synced once in each process also when they are there: another process may have made them
    a moment ago and not have come to the sync.
    """
    if folder in _durable_folders and folder.is_dir():
        return
    if folder.parent == folder:
        return
    make_folder(folder.parent)
    try:
        disk.mkdir(folder)
        made = True
    except FileExistsError:
        made = False
    try:
        sync(folder.parent)
    except OSError as error:
        if made or error.errno not in _NOT_SYNCABLE:  # such as a read-only / or a /home that we may not read
            raise
    _durable_folders.add(folder)


def sync(path: Path) -> None:
    """Make a file's content, or the names in a folder, durable: a rename alone may be lost in a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        disk.fsync(descriptor, path)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on the file ``path``, among the processes and the threads of one machine.

    The kernel frees it when its holder dies, so kill -9 leaves no stale lock behind.
    """
    with path.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


class Draft:
    """A hidden file beside the one that it will become: a rename and a link work only within one file system."""

    def __init__(self, path: Path, mode: int = 0o666) -> None:
        self.path = path
        self.descriptor = disk.create(path, mode)


def _draft_path(path: Path) -> Path:
    return path.with_name(f".{path.name[:50]}.{uuid.uuid4().hex}")


@contextlib.contextmanager
def draft_of(path: Path, content: bytes | None = None, *, durable: bool = True, mode: int = 0o666) -> Iterator[Draft]:
    """Give a draft of ``path``, holding ``content`` (durably) if that is given; gone at the end unless renamed."""
    draft = Draft(_draft_path(path), mode)
    try:
        if content is not None:
            rest, offset = memoryview(content), 0
            while offset < len(rest):
                offset += disk.write(draft.descriptor, rest[offset:], offset)
            if durable:
                disk.fsync(draft.descriptor, draft.path)
        yield draft
    finally:
        os.close(draft.descriptor)
        with contextlib.suppress(FileNotFoundError):
            disk.unlink(draft.path)


@contextlib.contextmanager
def hold(path: Path) -> Iterator[int | None]:
    """Lock the file that is at ``path`` now, so that nobody else replaces or removes it; None if there is none.

    The lock is on the file itself and not on one beside it, which could never be removed safely. Whoever waited for
    it checks that it still is the file at ``path``.
    """
    while True:
        descriptor = _open_if_there(path)
        if descriptor is None:
            yield None
            return
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if _is_at(descriptor, path):
                yield descriptor
                return
        finally:
            os.close(descriptor)


def _open_if_there(path: Path) -> int | None:
    try:
        return os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)  # a lock over NFS needs a writable one
    except FileNotFoundError:
        if path.is_symlink():
            raise OSError(errno.ELOOP, "a symbolic link to nothing", str(path)) from None
        return None


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def put_in_place(draft: Path, path: Path, expected: Version | None = None) -> None:
    """Give a draft its name. With ``expected``, only as the successor of a file of that version."""
    while True:
        with hold(path) as descriptor:
            if expected is not None:
                _check_version(path, descriptor, expected)
            if descriptor is not None:
                disk.rename(draft, path)
                return
        try:
            disk.link(draft, path)  # not a rename, which would pass by the lock of a file made in between
        except FileExistsError:
            continue
        except OSError as error:
            if error.errno not in NO_HARD_LINKS:
                raise
            disk.rename(draft, path)
        return


def _check_version(path: Path, descriptor: int | None, expected: Version) -> None:
    if descriptor is None:
        raise Conflict(f"{path} is not there any more")
    with os.fdopen(descriptor, "rb", closefd=False) as file:
        if version_of(file.read()) != expected:
            raise Conflict(f"{path} was changed by somebody else; read it again")


def version_of(content: bytes) -> Version:
    return hashlib.blake2b(content, digest_size=16).hexdigest()
