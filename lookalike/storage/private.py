"""Files of this machine that nobody but their owner may read (mode 0600): API keys, the log of writes.

What is said of ``lookalike.storage`` holds here too: a write is whole or not at all, and durable.
"""

from __future__ import annotations

import os
import stat
from typing import TextIO

from lookalike.errors import StorageUnavailable

from . import filesystem
from .backend import Version
from .filesystem import opened, writing
from .local import version_of
from .location import Location

MODE = 0o600
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def read_versioned(location: Location) -> tuple[bytes, Version]:
    """Read a whole file that only its owner may write, and its version.

    Others may read it where its owner lets them: a secret that Kubernetes mounts is 0644.

    Raises
    ------
    NotFound
    StorageUnavailable
        Also where the file's group or everybody may write it: they could put in it what they like.
    """
    with opened(location) as file:
        if os.fstat(file.fileno()).st_mode & _OTHERS_WRITE:
            raise StorageUnavailable(f"others than its owner may write {location.shown}; chmod 600 it")
        content = file.read()
    return content, version_of(content)


def create(location: Location, content: bytes) -> Version:
    """Write a file that is not there yet.

    Raises
    ------
    Conflict, StorageUnavailable
    """
    return filesystem.create(location, content, mode=MODE)


def replace(location: Location, content: bytes, version: Version) -> Version:
    """Write a file if it is there with this version; it is 0600 then, whatever it was.

    Raises
    ------
    Conflict, StorageUnavailable
    """
    return filesystem.replace(location, content, version, mode=MODE)


def open_to_append(location: Location) -> TextIO:
    """Open a file to append lines to, and make it where it is not there. One that is there keeps its mode.

    Raises
    ------
    StorageUnavailable
    """
    with writing(location):
        descriptor = os.open(location.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, MODE)
        return os.fdopen(descriptor, "a", encoding="utf-8")
