"""Texts of rows as blobs in an arena of words: copied into a reply without an object per row, decoded for hits only.

A blob begins on a word of 4 bytes and fills whole words, with zeros at its end.

    the ids of a row     uint16 bytes of the image id, uint16 bytes of the listing id, both ids. With the top bit of the
                         second length set, the listing id begins the image id and is not stored again
    the value of a row   uint32 bytes of the text, the text

Texts are UTF-8, numbers little-endian.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lookalike.actors.index.ragged import gather
from lookalike.kernels.memory import GrowableRows

HEADER_BYTES: Final = 4
BEGINS_IMAGE_ID: Final = 1 << 15
_ID_LENGTHS = struct.Struct("<HH")
_VALUE_LENGTH = struct.Struct("<I")
# Of address space; the arena grows by itself, and the values of a column are few.
_RESERVED_BYTES: Final = 1 << 26


@dataclass(frozen=True, slots=True)
class Blobs:
    """The blobs of some rows, end to end.

    Attributes
    ----------
    words : ndarray of uint32
    sizes : ndarray of uint16 (ids) or uint32 (values), shape (rows,)
        How many words each has.
    """

    words: NDArray[np.uint32]
    sizes: NDArray[np.unsignedinteger]

    def starts(self) -> NDArray[np.int64]:
        """Where each blob begins, in words: int64 (rows,)."""
        starts: NDArray[np.int64] = np.cumsum(self.sizes, dtype=np.int64) - self.sizes
        return starts

    def ids(self, rows: NDArray[np.int64]) -> list[tuple[str, str]]:
        """Decode image id and listing id of some rows.

        Raises
        ------
        UnicodeDecodeError
            An id is not UTF-8.
        """
        data = self.words.tobytes()
        ids = []
        for begin in self._begins(rows):
            image, listing = _ID_LENGTHS.unpack_from(data, begin)
            begin += HEADER_BYTES
            end = begin + image
            image_id = data[begin:end].decode()
            if not listing & BEGINS_IMAGE_ID:
                ids.append((image_id, data[end : end + listing].decode()))
            else:
                ids.append((image_id, data[begin : begin + listing - BEGINS_IMAGE_ID].decode()))
        return ids

    def listings(self, rows: NDArray[np.int64]) -> list[bytes]:
        """The listing ids of some rows as they are stored, to be compared."""
        _, _, starts, lengths = id_layout(self.words, self.starts()[rows])
        data = self.words.tobytes()
        return [data[start : start + length] for start, length in zip(starts.tolist(), lengths.tolist(), strict=True)]

    def values(self, rows: NDArray[np.integer]) -> list[str]:
        """Decode the values of some rows. Raises as ``ids`` does."""
        data = self.words.tobytes()
        values = []
        for begin in self._begins(rows):
            (length,) = _VALUE_LENGTH.unpack_from(data, begin)
            values.append(data[begin + HEADER_BYTES : begin + HEADER_BYTES + length].decode())
        return values

    def _begins(self, rows: NDArray[np.integer]) -> list[int]:
        begins: list[int] = (4 * self.starts()[rows]).tolist()
        return begins


def join(parts: Sequence[Blobs]) -> Blobs:
    """Put the blobs of several replies one after the other."""
    return Blobs(np.concatenate([part.words for part in parts]), np.concatenate([part.sizes for part in parts]))


def words_of(text_bytes: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many words a blob with so many bytes of texts has."""
    return (text_bytes + HEADER_BYTES + 3) >> 2


def id_layout(words: NDArray[np.uint32], offsets: NDArray[np.int64]) -> tuple[NDArray[np.int64], ...]:
    """Start and length in bytes of the image id, then of the listing id, of the blobs at some words."""
    header = words[offsets].astype(np.int64)
    image, listing = header & 0xFFFF, header >> 16
    starts = offsets * 4 + HEADER_BYTES
    return starts, image, np.where(listing & BEGINS_IMAGE_ID, starts, starts + image), listing & ~BEGINS_IMAGE_ID


def id_sizes(headers: NDArray[np.uint32]) -> NDArray[np.int64]:
    """How many words the blob of ids has that begins with each word."""
    header = headers.astype(np.int64)
    listing = header >> 16
    return words_of((header & 0xFFFF) + np.where(listing & BEGINS_IMAGE_ID, 0, listing))


def value_sizes(headers: NDArray[np.uint32]) -> NDArray[np.int64]:
    """How many words the blob of a value has that begins with each word."""
    return words_of(headers.astype(np.int64))


@dataclass(frozen=True, slots=True)
class Values:
    """Texts by their number, as far as there were any when this was made."""

    _words: NDArray[np.uint32]
    _offsets: NDArray[np.int64]

    def blobs(self, numbers: NDArray[np.integer]) -> Blobs:
        """Copy the blobs of the texts with some numbers."""
        offsets = self._offsets[numbers]
        sizes = value_sizes(self._words[offsets])
        return Blobs(gather(self._words, offsets, sizes), sizes.astype(np.uint32))


class ValueArena:
    """Texts that are numbered in the order in which they come, from 0, and never go. One thread writes."""

    def __init__(self) -> None:
        self._words = GrowableRows(1, np.uint32, reserve_bytes=_RESERVED_BYTES)
        self._offsets = GrowableRows(1, np.int64, reserve_bytes=_RESERVED_BYTES)

    @property
    def held_bytes(self) -> int:
        return self._words.held_bytes + self._offsets.held_bytes

    def append(self, texts: Sequence[str]) -> None:
        """Number some more texts. After a ``MemoryError`` nothing has changed."""
        if not texts:
            return
        encoded = [text.encode() for text in texts]
        lengths = np.array([len(text) for text in encoded], np.int64)
        data = b"".join(len(text).to_bytes(HEADER_BYTES, "little") + text + bytes(-len(text) % 4) for text in encoded)
        sizes = words_of(lengths)
        offsets = len(self._words) + np.cumsum(sizes) - sizes
        self._words.append(np.frombuffer(data, np.uint32).reshape(-1, 1))
        self._offsets.append(offsets.reshape(-1, 1))

    def view(self) -> Values:
        return Values(self._words.view()[:, 0], self._offsets.view()[:, 0])
