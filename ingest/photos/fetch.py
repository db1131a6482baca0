"""A photo's bytes, from wherever its catalogue says that they are: with limits, and never waited for in vain."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from lookalike import storage
from lookalike.errors import NotFound, StorageUnavailable, TooLarge, UndecodableImage
from lookalike.ingest.photos.header import MAX_BYTES
from lookalike.ingest.photos.location import is_url, normal_photo
from lookalike.storage import Location

T = TypeVar("T")

SLOW_S = 2.0  # a refusal that comes sooner (access denied, no such host) may be had for every photo
MAX_FAILURES = 3
PAUSE_S = 60.0


def read_photo(photo: str, root: Location | Path, *, allow_private: bool = False) -> bytes:
    """Read the file of one photo.

    Parameters
    ----------
    photo : str
        `Entry.photo`, or one from the store: it is checked again.
    root : Location or Path
        `Catalogue.location`, which a path is relative to. A URL needs none.
    allow_private : bool
        Whether ``https://`` may lead to an address of a private network: only where whoever wrote the catalogue may
        see what is behind it.

    Raises
    ------
    UndecodableImage
        With a short reason: missing, unreadable, no regular file (which is never waited for), outside the
        root once links are followed, over `MAX_BYTES`, or ``unreachable: ...``.
    """
    location = _location(photo, root)
    if location.is_local:
        return _read_local(location.path, _path(root))
    try:
        return storage.read(location, max_bytes=MAX_BYTES, allow_private=allow_private)
    except (NotFound, TooLarge, StorageUnavailable) as error:
        raise UndecodableImage(_reason(error)) from error


@dataclass(frozen=True, slots=True)
class SourceState:
    """What is known of a photo without reading it.

    Attributes
    ----------
    identity : str
        Changes when the photo's bytes change. Of a local file it is made of path, size and time of change; of an S3
        object of URL, version and size. An ``https://`` URL stands for itself: its server gets no request, so its
        photo is taken to be the same for as long as its row is.
    modified : datetime or None
        When the photo changed last, in UTC; None for ``https://``.
    """

    identity: str
    modified: datetime | None


def source_state(photo: str, root: Location | Path) -> SourceState:
    """Find out what is known of a photo without reading it.

    Raises
    ------
    UndecodableImage
        As `read_photo`.
    """
    location = _location(photo, root)
    if location.scheme == "https":
        return SourceState(str(location), None)
    try:
        if location.is_local:
            status = location.path.stat()
            modified = datetime.fromtimestamp(status.st_mtime, UTC)
            return SourceState(f"{photo} {status.st_size} {status.st_mtime_ns}", modified)
        info = storage.info(location)
    except (NotFound, StorageUnavailable) as error:
        raise UndecodableImage(_reason(error)) from error
    except FileNotFoundError:
        raise UndecodableImage("no such file") from None
    except (OSError, OverflowError, ValueError) as error:  # a time of change beyond the calendar
        raise UndecodableImage(f"cannot be read: {getattr(error, 'strerror', None) or error}") from error
    return SourceState(f"{location} {info.version} {info.size_bytes}", info.modified)


@dataclass(slots=True)
class _Circuit:
    """What is known of a bucket or host: slow failures in a row, and until when it gets no request."""

    failures: int = 0
    retry_at_s: float = 0.0


class PhotoReader:
    """Read the photos of a catalogue, one after the other or in threads, past hosts that do not answer.

    A photo at a bucket or host that is down costs up to 30 s. After `MAX_FAILURES` such photos in a row, those of
    the same host are given up at once for `PAUSE_S`, then one is tried again (a circuit breaker). The first
    failures say why, and those given up say so: whoever counts the problems sees all of them.
    """

    def __init__(
        self, root: Location | Path, *, allow_private: bool = False, slow_s: float = SLOW_S, pause_s: float = PAUSE_S
    ) -> None:
        self._root = root
        self._allow_private = allow_private
        self._slow_s = slow_s
        self._pause_s = pause_s
        self._circuits: dict[str, _Circuit] = {}

    def read(self, photo: str) -> bytes:
        """As `read_photo`."""
        return self._guarded(photo, lambda: read_photo(photo, self._root, allow_private=self._allow_private))

    def state(self, photo: str) -> SourceState:
        """As `source_state`."""
        return self._guarded(photo, lambda: source_state(photo, self._root))

    def _guarded(self, photo: str, fetch: Callable[[], T]) -> T:
        location = _location(photo, self._root)
        if location.is_local:
            return fetch()
        host = f"{location.scheme}://{location.host}"
        circuit = self._circuits.setdefault(host, _Circuit())
        started = time.monotonic()
        if circuit.failures >= MAX_FAILURES:
            if started < circuit.retry_at_s:
                raise UndecodableImage(
                    f"unreachable: {host} did not answer {circuit.failures} times, so it was not tried"
                )
            circuit.retry_at_s = started + self._pause_s  # the other threads go on giving up while this one tries
        try:
            answer = fetch()
        except UndecodableImage as error:
            now = time.monotonic()
            if isinstance(error.__cause__, StorageUnavailable) and now - started >= self._slow_s:
                circuit.failures += 1
                circuit.retry_at_s = now + self._pause_s
            else:
                circuit.failures = 0
            raise
        circuit.failures = 0
        return answer


def _location(photo: str, root: Location | Path) -> Location:
    try:
        photo = normal_photo(photo)
        if is_url(photo):
            return Location.parse(photo)
        return Location.parse(_path(root) / photo) if isinstance(root, Path) or root.is_local else root / photo
    except ValueError as error:
        raise UndecodableImage(f"its location {error}") from error


def _path(root: Location | Path) -> Path:
    return root if isinstance(root, Path) else root.path


def _read_local(path: Path, root: Path) -> bytes:
    try:
        path = path.resolve(strict=True)
        if not path.is_relative_to(root.resolve()):
            raise UndecodableImage("leads out of the catalogue's folder")
        # Without NONBLOCK, opening a pipe would wait for a writer.
        with open(path, "rb", opener=_open_at_once) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise UndecodableImage("not a regular file")
            if status.st_size > MAX_BYTES:
                raise UndecodableImage(f"too many bytes: {status.st_size:,}; at most {MAX_BYTES:,} are read")
            return file.read(MAX_BYTES + 1)  # one more, so that `decode` sees a file that grew
    except FileNotFoundError:
        raise UndecodableImage("no such file") from None
    except (OSError, RuntimeError) as error:  # a circle of links
        raise UndecodableImage(f"cannot be read: {getattr(error, 'strerror', None) or error}") from error


def _open_at_once(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY)


def _reason(error: NotFound | TooLarge | StorageUnavailable) -> str:
    if isinstance(error, NotFound):
        return "no such object"
    if isinstance(error, TooLarge):
        return f"too many bytes: at most {MAX_BYTES:,} are read"
    return f"unreachable: {error}"
