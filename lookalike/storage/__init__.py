"""Files and objects: the only place that opens either, whether on a disk, on S3 or (to read a photo) on the web.

Every function takes a ``Location``. What is said here holds for a disk and for S3 alike:

- A write is whole or not at all, and durable when the function returns.
- A file is a name with content. Folders come with the first file below them and are not listed without one.
- Errors are ``NotFound``, ``Conflict``, ``TooLarge``, ``StorageUnavailable`` and, of the latter, ``DiskFull``.
  Transient failures of the network are retried first.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from lookalike.errors import NotFound

from . import filesystem
from .backend import Backend, Info, Version
from .location import Location

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = [
    "Info",
    "Location",
    "Version",
    "copy_tree",
    "create",
    "create_file",
    "exists",
    "info",
    "list_names",
    "list_tree",
    "local_folder",
    "move",
    "open_random",
    "presigned_url",
    "read",
    "read_if_changed",
    "read_versioned",
    "remove",
    "remove_leftovers",
    "replace",
    "write",
]


def read(location: Location, *, max_bytes: int | None = None, allow_private: bool = False) -> bytes:
    """Read a whole file.

    Parameters
    ----------
    location : Location
    max_bytes : int, optional
        What the caller takes. More is an error, and is not read to its end.
    allow_private : bool
        Whether an ``https://`` host may have a private or loopback address.

    Raises
    ------
    NotFound, TooLarge, StorageUnavailable
    """
    if location.scheme == "https":
        from . import web

        return web.read(location, max_bytes=max_bytes, allow_private=allow_private)
    return _backend(location).read(location, max_bytes)


def read_versioned(location: Location) -> tuple[bytes, Version]:
    """Read a whole file and the version that ``replace`` and ``read_if_changed`` compare.

    Raises
    ------
    NotFound, StorageUnavailable
    """
    return _backend(location).read_versioned(location)


def read_if_changed(location: Location, version: Version | None) -> tuple[bytes, Version] | None:
    """Read a file unless it still has ``version``: then None. On S3 one conditional GET.

    Raises
    ------
    NotFound, StorageUnavailable
    """
    return _backend(location).read_if_changed(location, version)


def write(location: Location, content: bytes, *, durable: bool = True) -> Version:
    """Write a file, whether it is there or not, with the folders above it.

    Without ``durable`` a power cut may leave the old file or an empty one: for what only tells of something durable.

    On S3, a request that was given up for lost may still arrive after a later write of the same name: where that
    matters, use ``replace``.

    Raises
    ------
    StorageUnavailable
    """
    return _backend(location).write(location, content, durable=durable)


def create(location: Location, content: bytes) -> Version:
    """Write a file that is not there yet, with the folders above it.

    Raises
    ------
    Conflict
        It is there. See ``replace`` for the one case in which it is there because of this call.
    StorageUnavailable
    """
    return _backend(location).create(location, content)


def replace(location: Location, content: bytes, version: Version) -> Version:
    """Write a file if it is there with this version and nobody wrote it meanwhile (compare-and-swap).

    Raises
    ------
    Conflict
        It is not there or has another version. If an answer of S3 was lost and somebody replaced our content before
        we could look, this is raised although the content had been there for a moment: whoever repeats a
        change after a conflict should tell from the new content whether it is part of it.
    StorageUnavailable
        Whether the content was written may be unknown.
    """
    return _backend(location).replace(location, content, version)


def exists(location: Location) -> bool:
    """Say whether there is a file (not a folder).

    Raises
    ------
    StorageUnavailable
    """
    try:
        _backend(location).info(location)
    except NotFound:
        return False
    return True


def info(location: Location) -> Info:
    """Give size, time and version of a file without reading it.

    Raises
    ------
    NotFound, StorageUnavailable
    """
    return _backend(location).info(location)


def list_names(location: Location) -> list[str]:
    """List the names one level below, of files and of folders that hold one, sorted by code point; [] if none.

    Raises
    ------
    StorageUnavailable
    """
    return _backend(location).list_names(location)


def list_tree(location: Location) -> list[str]:
    """List all files below, at any depth, as names relative to the location such as ``"a/b.txt"``, sorted.

    Raises
    ------
    StorageUnavailable
    """
    return _backend(location).list_tree(location)


def remove(location: Location) -> None:
    """Remove a file; a missing one is no error.

    Raises
    ------
    StorageUnavailable
    """
    _backend(location).remove(location)


def remove_leftovers(location: Location, *, older_than_s: float) -> int:
    """Remove what writers left below a location when they were killed, and give how many files or uploads it were.

    No listing shows them: drafts on a disk, parts of unfinished uploads on S3. One that was touched within
    ``older_than_s`` seconds may still be written; a day is safe.

    Raises
    ------
    StorageUnavailable
    """
    return _backend(location).remove_leftovers(location, older_than_s)


def move(source: Location, target: Location) -> None:
    """Move one file, replacing what is at ``target``: a rename, or on S3 a copy within the service and a removal.

    Both must be of one scheme. A move on S3 that is cut short leaves both; doing it again ends it.

    Raises
    ------
    NotFound, StorageUnavailable
    """
    if source.scheme != target.scheme:
        raise ValueError(
            f"cannot move {source.shown} to {target.shown}: copy it with copy_tree or write, then remove it"
        )
    if source == target:
        info(source)
        return
    _backend(source).move(source, target)


def open_random(location: Location, *, keep_blocks: bool = True) -> pa.NativeFile:
    """Open a file for random access by Arrow: reads of a disk (no memory map), or range requests of S3.

    An object that is replaced while it is open is never mixed with the new one: reading raises ``Conflict``.

    Parameters
    ----------
    location : Location
    keep_blocks : bool
        Whether up to 32 MB of an object that were read stay in memory; what is read ahead of a stream always does.

    Raises
    ------
    NotFound, StorageUnavailable
        Also while reading.
    """
    return _backend(location).open_random(location, keep_blocks=keep_blocks)


@contextlib.contextmanager
def create_file(location: Location) -> Iterator[BinaryIO]:
    """Give a seekable file to write; it appears under its name, whole and durable, when the block ends well.

    After an exception in the block nothing is left. The block may close the file.

    Raises
    ------
    Conflict
        A file is there when the block ends: it stays.
    StorageUnavailable
        Also out of the methods of the file.
    """
    with _backend(location).create_file(location) as file:
        yield file


def copy_tree(source: Location, target: Location) -> None:
    """Copy all files below ``source``, replacing those of the same name: small ones, each is held in memory.

    Raises
    ------
    NotFound
        There is no file below ``source``.
    StorageUnavailable
    """
    names = list_tree(source)
    if not names:
        raise NotFound(f"there is no file below {source.shown}")
    for name in names:
        write(target / name, read(source / name))


@contextlib.contextmanager
def local_folder(location: Location) -> Iterator[Path]:
    """Give a folder on this machine with the files below ``location``: the same one, or a copy until the block ends.

    Raises
    ------
    NotFound, StorageUnavailable
    """
    if location.is_local:
        if not location.path.is_dir():
            raise NotFound(f"there is no folder {location.shown}")
        yield location.path
        return
    with tempfile.TemporaryDirectory(prefix="lookalike-") as folder:
        copy_tree(location, Location.parse(folder))
        yield Path(folder)


def presigned_url(location: Location, expires_s: int) -> str | None:
    """Give a URL under which anybody can read the file for a while; None for a local one.

    Raises
    ------
    StorageUnavailable
        There are no credentials to sign with.
    """
    return str(location) if location.scheme == "https" else _backend(location).presigned_url(location, expires_s)


def _backend(location: Location) -> Backend:
    if location.scheme == "file":
        return filesystem
    if location.scheme == "s3":
        from . import s3  # boto3 takes 0.3 s to import

        return s3
    raise ValueError(f"{location.shown} can only be read: use a local path or s3://bucket/prefix")
