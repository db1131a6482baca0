"""Files that are there and cannot be read for a while."""

from __future__ import annotations

import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def unreachable(path: Path) -> Iterator[None]:
    """Let a file fail to open until the block ends: a socket lies in its place, as permissions do not stop root."""
    aside = path.with_name(f"{path.name}-aside")
    path.rename(aside)
    # Made elsewhere: the name that a socket is bound to may have 107 bytes.
    with tempfile.TemporaryDirectory(dir="/tmp") as folder, socket.socket(socket.AF_UNIX) as bound:
        bound.bind(f"{folder}/s")
        Path(folder, "s").rename(path)
    try:
        yield
    finally:
        path.unlink()
        aside.rename(path)
