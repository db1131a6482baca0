"""Reading a message between coordinator and shard, strictly and to its last byte. ``wire`` has the layouts."""

from __future__ import annotations

import struct
import sys
from collections.abc import Sequence
from enum import IntEnum
from itertools import accumulate, pairwise
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lookalike.errors import LookalikeError

VERSION: Final = 1

_IS_LITTLE = sys.byteorder == "little"
_DTYPES = {name: np.dtype(name) for name in ("<u2", "<u4", "<u8", "u1")}


class WireError(LookalikeError):
    """A message between coordinator and shard is damaged, or not one of ours. Argument: what is wrong with it."""


class Kind(IntEnum):
    """What a message is."""

    QUERIES = 1
    REPLIES = 2
    LOOKUP = 3
    CODES = 4


def kind_of(message: bytes) -> Kind:
    """Tell what a message is.

    Raises
    ------
    WireError
        Of another version, or nothing that we know.
    """
    if len(message) < 2 or message[0] != VERSION:
        raise WireError(f"a message begins with {message[:2]!r}, but version {VERSION} is expected")
    try:
        return Kind(message[1])
    except ValueError:
        raise WireError(f"there is no kind {message[1]} of messages") from None


class Reader:
    """Reads a message of one kind; each call gives its next part.

    Every call raises ``WireError`` where the message cannot be what its header says. Nothing is allocated for a part
    that is not there.
    """

    def __init__(self, message: bytes, kind: Kind, header: struct.Struct) -> None:
        if (found := kind_of(message)) is not kind:
            raise WireError(f"a message is of the kind {found.name}, but {kind.name} is expected")
        if len(message) < header.size:
            raise WireError(f"a message has {len(message)} bytes, but its header {header.size}")
        self._message = message
        self._at = header.size
        self.header: tuple[int, ...] = header.unpack_from(message)[2:]

    def records(self, layout: struct.Struct, count: int) -> list[tuple[Any, ...]]:
        """The next ``count`` records."""
        start = self._at
        self._advance(count * layout.size)
        return [*layout.iter_unpack(memoryview(self._message)[start : self._at])]

    def array(self, dtype: str, count: int, width: int | None = None) -> NDArray[Any]:
        """The next array, shape (count,) or (count, width): not copied, read-only, in native byte order."""
        item, start = _DTYPES[dtype], self._at
        items = count if width is None else count * width
        self._advance(items * item.itemsize)
        array = np.frombuffer(self._message, item, items, start) if items else np.empty(0, item)
        if width is not None:
            array = array.reshape(count, width)
        return array if _IS_LITTLE else array.astype(item.newbyteorder("="))

    def texts(self, lengths: Sequence[int]) -> list[bytes]:
        """The next texts, which have these lengths in bytes."""
        bounds = [*accumulate(lengths, initial=self._at)]
        self._advance(bounds[-1] - self._at)
        return [self._message[start:end] for start, end in pairwise(bounds)]

    def end(self) -> None:
        """Raise unless all was read."""
        if self._at != len(self._message):
            raise WireError(f"a message has {len(self._message) - self._at} bytes more than it should")

    def _advance(self, size: int) -> None:
        self._at += size
        if self._at > len(self._message):
            raise WireError(f"a message ends after {len(self._message)} bytes, but says that it has more")


def check(holds: bool, what: str) -> None:
    """Raise ``WireError`` unless two parts of a message agree."""
    if not holds:
        raise WireError(f"a message contradicts itself: {what}")
