"""What a kind of location must be able to do; ``local`` and ``s3`` are modules that do it."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, BinaryIO, Protocol

from .location import Location

if TYPE_CHECKING:
    import pyarrow as pa

Version = str
"""Opaque. Equal versions of one object mean equal content. S3: the ETag; local: a hash of the content."""


@dataclass(frozen=True, slots=True)
class Info:
    """What is known about a file or an object without reading it.

    ``modified`` is in UTC. ``version`` changes with the content; compare it only with that of another ``info``: a
    local one is made of size, time and inode.
    """

    size_bytes: int
    modified: datetime
    version: str


class Backend(Protocol):
    """The operations of ``lookalike.storage``, for one scheme; see there for what they promise."""

    def read(self, location: Location, max_bytes: int | None) -> bytes: ...
    def read_versioned(self, location: Location) -> tuple[bytes, Version]: ...
    def read_if_changed(self, location: Location, version: Version | None) -> tuple[bytes, Version] | None: ...
    def write(self, location: Location, content: bytes) -> Version: ...
    def create(self, location: Location, content: bytes) -> Version: ...
    def replace(self, location: Location, content: bytes, version: Version) -> Version: ...
    def info(self, location: Location) -> Info: ...
    def list_names(self, location: Location) -> list[str]: ...
    def list_tree(self, location: Location) -> list[str]: ...
    def remove(self, location: Location) -> None: ...
    def move(self, source: Location, target: Location) -> None: ...
    def open_random(self, location: Location) -> pa.NativeFile: ...
    def create_file(self, location: Location) -> AbstractContextManager[BinaryIO]: ...
    def presigned_url(self, location: Location, expires_s: int) -> str | None: ...
