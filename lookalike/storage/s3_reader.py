"""Random access to an object: what Arrow needs to read the columns and batches that it wants and no others."""

from __future__ import annotations

import io
import os
from collections import OrderedDict
from typing import Any

import pyarrow as pa
from botocore.exceptions import ClientError

from lookalike.errors import Conflict

from . import s3, s3_retry
from .backend import Version
from .location import Location

BLOCK_BYTES = 256 << 10
CACHE_BLOCKS = 128  # 32 MB
AHEAD_BLOCKS = 32  # 8 MB: at 20 ms until the first byte, a stream of small reads still fills a fast line
TAIL_BLOCKS = 2


def open_random(location: Location, *, keep_blocks: bool) -> pa.NativeFile:
    """Open an object with one request, which also brings its end: an Arrow file is read from there."""
    tail_bytes = TAIL_BLOCKS * BLOCK_BYTES

    def get(client: Any) -> tuple[bytes, int, Version]:
        try:
            answer = client.get_object(**s3.address(location), Range=f"bytes=-{tail_bytes}")
        except ClientError as error:
            if s3_retry.status_of(error) == 416:  # an empty object has no last bytes
                return b"", 0, ""
            raise
        length = answer["ContentLength"]
        size = int(answer["ContentRange"].rpartition("/")[2]) if "ContentRange" in answer else length
        return s3.body(answer, length), size, answer["ETag"]

    tail, size, version = s3.call("open", location, get)
    return pa.PythonFile(RangeReader(location, size, version, tail, keep_blocks=keep_blocks), mode="r")


class RangeReader(io.RawIOBase):
    """Reads blocks of one version of an object, and keeps those used last, or else those that it read ahead."""

    def __init__(self, location: Location, size: int, version: Version, tail: bytes, *, keep_blocks: bool) -> None:
        self._location = location
        self._size = size
        self._version = version
        self._keep_blocks = keep_blocks
        self._position = 0
        self._read_until = -1
        self._blocks: OrderedDict[int, bytes] = OrderedDict()
        start = size - len(tail)
        first = -(-start // BLOCK_BYTES)  # the first that the tail holds whole
        self._keep(first, tail[first * BLOCK_BYTES - start :])

    def read(self, size: int | None = -1) -> bytes:
        """Read up to ``size`` bytes from the position on, all of them unless the object ends before."""
        if self.closed:
            raise ValueError(f"{self._location.shown} is closed")
        start = min(self._position, self._size)
        stop = self._size if size is None or size < 0 else min(start + size, self._size)
        if start == stop:
            return b""
        content = self._range(start, stop)
        self._position = self._read_until = stop
        return content

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        content = self.read(len(view))
        view[: len(content)] = content
        return len(content)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._position = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        return self._position

    def tell(self) -> int:
        return self._position

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def close(self) -> None:
        self._blocks.clear()
        super().close()

    def _range(self, start: int, stop: int) -> bytes:
        first, last = start // BLOCK_BYTES, (stop - 1) // BLOCK_BYTES
        ahead = start == self._read_until
        pieces = []
        for number in range(first, last + 1):
            if number not in self._blocks:
                self._fetch(number, last, ahead)
            self._blocks.move_to_end(number)
            pieces.append(self._blocks[number])
        if not self._keep_blocks:
            for number in [n for n in self._blocks if not last <= n < last + AHEAD_BLOCKS]:
                del self._blocks[number]
        pieces[-1] = pieces[-1][: stop - last * BLOCK_BYTES]
        pieces[0] = pieces[0][start - first * BLOCK_BYTES :]
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _fetch(self, first: int, last: int, ahead: bool) -> None:
        """Fetch the missing blocks from ``first`` on with one request, up to ``last`` or as far as one reads ahead."""
        end = first + AHEAD_BLOCKS if ahead else min(first + AHEAD_BLOCKS, last + 1)
        end = min(end, -(-self._size // BLOCK_BYTES))
        stop = next((number for number in range(first, end) if number in self._blocks), end)
        start_byte, stop_byte = first * BLOCK_BYTES, min(stop * BLOCK_BYTES, self._size)
        try:
            content = s3.read_range(self._location, self._version, start_byte, stop_byte)
        except Conflict:
            raise Conflict(f"{self._location.shown} was replaced while it was open; open it again") from None
        self._keep(first, content)

    def _keep(self, first: int, content: bytes) -> None:
        for offset in range(0, len(content), BLOCK_BYTES):
            self._blocks[first + offset // BLOCK_BYTES] = content[offset : offset + BLOCK_BYTES]
        while len(self._blocks) > CACHE_BLOCKS:
            self._blocks.popitem(last=False)
