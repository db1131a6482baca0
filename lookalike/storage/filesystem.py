"""The backend of ``lookalike.storage`` for local paths; what each function promises is said there."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import shutil
import stat
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from lookalike.errors import Conflict, DiskFull, LookalikeError, NotFound, StorageUnavailable, TooLarge

from . import local
from .backend import Info, Version
from .local import (
    DRAFT_NAME,
    NO_HARD_LINKS,
    draft_of,
    hold,
    make_folder,
    put_in_place,
    sync,
    version_of,
    write_atomically,
)
from .location import Location

if TYPE_CHECKING:
    import pyarrow as pa
    from _typeshed import ReadableBuffer

BUFFER_BYTES = 1 << 20
_NO_SUCH_FILE = {errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP}
_FULL = {errno.ENOSPC, errno.EDQUOT}


def read(location: Location, max_bytes: int | None) -> bytes:
    with opened(location) as file:
        if max_bytes is None:
            return file.read()
        content = file.read(max_bytes + 1)  # it may grow meanwhile, so its size alone says nothing
    if len(content) > max_bytes:
        raise TooLarge(f"{location.shown} has more than {max_bytes:,} bytes")
    return content


def read_versioned(location: Location) -> tuple[bytes, Version]:
    content = read(location, None)
    return content, version_of(content)


def read_if_changed(location: Location, version: Version | None) -> tuple[bytes, Version] | None:
    content, present = read_versioned(location)
    return None if present == version else (content, present)


def write(location: Location, content: bytes, *, durable: bool) -> Version:
    path = location.path
    with writing(location):
        make_folder(path.parent)
        write_atomically(path, content, durable=durable)
    return version_of(content)


def create(location: Location, content: bytes, *, mode: int = 0o666) -> Version:
    path = location.path
    with writing(location):
        make_folder(path.parent)
        with draft_of(path, content, mode=mode) as draft:
            _link(draft.path, location)
        sync(path.parent)
    return version_of(content)


def replace(location: Location, content: bytes, version: Version, *, mode: int = 0o666) -> Version:
    path = location.path
    with writing(location):
        try:
            with draft_of(path, content, mode=mode) as draft:
                put_in_place(draft.path, path, version)
        except (FileNotFoundError, NotADirectoryError):  # no folder, so no file either
            raise Conflict(f"{location.shown} is not there any more") from None
        sync(path.parent)
    return version_of(content)


def info(location: Location) -> Info:
    with opened(location) as file:
        found = os.fstat(file.fileno())
    version = f"{found.st_size:x}-{found.st_mtime_ns:x}-{found.st_ino:x}"
    return Info(found.st_size, datetime.fromtimestamp(found.st_mtime, UTC), version)


def list_names(location: Location) -> list[str]:
    try:
        entries = _entries(location.path)
        return sorted(entry.name for entry in entries if entry.is_file() or (entry.is_dir() and _holds_files(entry)))
    except OSError as error:
        return _nothing(location, error)


def list_tree(location: Location) -> list[str]:
    try:
        return sorted(_walk(location.path, "", frozenset()))
    except OSError as error:
        return _nothing(location, error)


def remove(location: Location) -> None:
    path = location.path
    with writing(location):
        with hold(path) as descriptor:
            if descriptor is not None:
                local.disk.unlink(path)
        if path.parent.is_dir():  # also when somebody else removed it, perhaps without coming to the sync
            sync(path.parent)


def remove_leftovers(location: Location, older_than_s: float) -> int:
    removed = 0
    with writing(location):
        for folder, folders, files in os.walk(location.path):
            for name in filter(DRAFT_NAME.fullmatch, [*folders, *files]):
                path = Path(folder, name)
                with contextlib.suppress(FileNotFoundError):
                    if time.time() - path.stat().st_mtime <= older_than_s:
                        continue
                    if path.is_dir():
                        shutil.rmtree(path)
                    else:
                        local.disk.unlink(path)
                    removed += 1
    return removed


def move(source: Location, target: Location) -> None:
    with opened(source):  # a missing one is no reason to make a folder
        pass
    with writing(target):
        make_folder(target.path.parent)
        try:
            _rename(source.path, target.path)
        except FileNotFoundError:
            raise NotFound(f"{source.shown} is not there") from None
        for folder in dict.fromkeys([target.path.parent, source.path.parent]):
            sync(folder)


def _rename(source: Path, target: Path) -> None:
    """Rename while nobody may write either. One order of locks, so that two moves never wait for each other."""
    same = target.exists() and source.samefile(target)
    with contextlib.ExitStack() as locks:
        for path in sorted([source] if same else [source, target]):
            locks.enter_context(hold(path))
        if same and not target.is_symlink():  # two hard links to one file, of which a rename would leave both
            local.disk.unlink(source)
        else:
            local.disk.rename(source, target)


def open_random(location: Location, *, keep_blocks: bool) -> pa.NativeFile:  # noqa: ARG001 - the system keeps pages
    import pyarrow as pa  # 0.1 s, and most that read files have no need of it

    info(location)  # a missing file, or one that is none
    try:
        # Not a memory map: a file cut short while it is mapped kills the process that reads it.
        return pa.OSFile(location.key)
    except OSError as error:
        raise _unavailable("read", location, error) from error


@contextlib.contextmanager
def create_file(location: Location) -> Iterator[BinaryIO]:
    path = location.path
    with contextlib.ExitStack() as stack:
        with writing(location):
            make_folder(path.parent)
            draft = stack.enter_context(draft_of(path))
        with buffered(draft.descriptor, location) as file:
            yield file
        with writing(location):
            local.disk.fsync(draft.descriptor, draft.path)
            _link(draft.path, location)
    with writing(location):
        sync(path.parent)


@contextlib.contextmanager
def buffered(descriptor: int, location: Location) -> Iterator[BinaryIO]:
    """Give a buffered file that writes to ``descriptor``, which stays open; all is written when the block ends.

    Raises
    ------
    StorageUnavailable
        A write failed; also at the end of a block that went on all the same.
    """
    writer = FileWriter(descriptor, location)
    file = io.BufferedWriter(writer, BUFFER_BYTES)
    try:
        yield cast(BinaryIO, file)
        if not file.closed:
            file.flush()
    except BaseException:  # raised again: whatever it is, closing the file must not write the rest
        writer.abandon()
        raise
    finally:
        file.close()
    if writer.error is not None:
        raise writer.error


def presigned_url(location: Location, expires_s: int) -> str | None:  # noqa: ARG001 - no server gives out local files
    return None


class FileWriter(io.RawIOBase):
    """Writes to a descriptor and raises our errors. Closing it closes nothing, so the block may close its file."""

    def __init__(self, descriptor: int, location: Location) -> None:
        self.error: LookalikeError | None = None
        self._descriptor = descriptor
        self._location = location
        self._offset = 0
        self._abandoned = False

    def abandon(self) -> None:
        """Let what is still buffered go nowhere."""
        self._abandoned = True

    def write(self, content: ReadableBuffer) -> int:
        if self._abandoned:
            return memoryview(content).nbytes
        try:
            with writing(self._location):
                written = local.disk.write(self._descriptor, content, self._offset)
        except LookalikeError as error:
            self.error = error
            self._abandoned = True
            raise
        self._offset += written
        return written

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {
            os.SEEK_SET: 0,
            os.SEEK_CUR: self._offset,
            os.SEEK_END: os.fstat(self._descriptor).st_size,
        }[whence]
        self._offset = base + offset
        return self._offset

    def tell(self) -> int:
        return self._offset

    def seekable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True


def _link(draft: Path, location: Location) -> None:
    try:
        local.disk.link(draft, location.path)
    except FileExistsError:
        raise Conflict(f"{location.shown} is there already") from None
    except OSError as error:
        if error.errno in NO_HARD_LINKS:
            raise StorageUnavailable(
                f"the file system of {location.shown} has no hard links, without which two writers could both believe "
                "that they made it; use another file system"
            ) from error
        raise


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return [entry for entry in entries if not DRAFT_NAME.fullmatch(entry.name)]


def _holds_files(folder: os.DirEntry[str]) -> bool:
    """Say whether a folder is worth a mention: an object store has no empty ones."""
    try:
        entries = _entries(Path(folder.path))
    except PermissionError:
        return True
    return any(entry.is_file() or (entry.is_dir() and (entry.is_symlink() or _holds_files(entry))) for entry in entries)


def _walk(folder: Path, prefix: str, above: frozenset[tuple[int, int]]) -> Iterator[str]:
    found = folder.stat()
    inode = (found.st_dev, found.st_ino)
    if inode in above:  # a symbolic link that leads back up
        return
    for entry in _entries(folder):
        if entry.is_dir():
            yield from _walk(Path(entry.path), f"{prefix}{entry.name}/", above | {inode})
        elif entry.is_file():
            yield prefix + entry.name


@contextlib.contextmanager
def opened(location: Location) -> Iterator[BinaryIO]:
    """Open a file to read; what goes wrong, in the block as well, is one of our errors."""
    try:
        descriptor = os.open(location.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe would wait for ever
    except OSError as error:
        if error.errno in _NO_SUCH_FILE:
            raise NotFound(f"{location.shown} is not there") from None
        raise _unavailable("read", location, error) from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise NotFound(f"{location.shown} is not a file")
    with os.fdopen(descriptor, "rb") as file:
        try:
            yield file
        except OSError as error:
            raise _unavailable("read", location, error) from error


def _nothing(location: Location, error: OSError) -> list[str]:
    """Give the names in a folder that could not be listed: none, if there is no such folder."""
    if error.errno in _NO_SUCH_FILE:
        return []
    raise _unavailable("list", location, error) from error


@contextlib.contextmanager
def writing(location: Location) -> Iterator[None]:
    """Turn what the system says while ``location`` is written into one of our errors."""
    try:
        yield
    except OSError as error:
        raise _unavailable("write", location, error) from error


def _unavailable(verb: str, location: Location, error: OSError) -> StorageUnavailable:
    if error.errno in _FULL:
        return DiskFull(f"cannot write {location.shown}: {error.strerror}; make room or raise the quota")
    return StorageUnavailable(f"cannot {verb} {location.shown}: {error.strerror or error}")
