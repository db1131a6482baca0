"""Texts that are read in full or not at all (titles): in a scratch file that has no name, not in memory."""

from __future__ import annotations

import mmap
import os
import tempfile
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from lookalike.actors.index.ragged import parts_of
from lookalike.actors.index.slots import is_visible

_BLOCK = 1 << 16  # entries given at a time


class _File:
    """A file without a name: its space goes back when the last reader lets go of it, or the process ends."""

    def __init__(self, folder: Path | None) -> None:
        self._file: IO[bytes] = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - lives as long as its readers
        weakref.finalize(self, self._file.close)

    def write(self, values: NDArray[Any], offset: int) -> None:
        rest = memoryview(values.tobytes())
        while rest:
            written = os.pwrite(self._file.fileno(), rest, offset)
            rest, offset = rest[written:], offset + written

    def map(self, size: int) -> pa.Buffer:
        """The first ``size`` bytes, read in place."""
        if not size:
            return pa.py_buffer(b"")
        return pa.py_buffer(mmap.mmap(self._file.fileno(), size, access=mmap.ACCESS_READ))


class Texts:
    """The entries of a text file at one moment: later ones, and a file that replaced it, do not disturb it."""

    def __init__(self, files: tuple[_File, _File, _File], entries: int, size: int) -> None:
        self._files, self._entries, self._size = files, entries, size

    def blocks(self) -> Iterator[tuple[NDArray[np.uint32], pa.LargeStringArray]]:
        """Slots, uint32 (m,), and their texts, in the order of writing: the last entry of a slot counts."""
        texts, bounds, slots = self._files
        every = pa.LargeStringArray.from_buffers(
            self._entries, bounds.map(8 * (self._entries + 1)), texts.map(self._size)
        )
        slot_of = np.frombuffer(slots.map(4 * self._entries), np.uint32)
        for start in range(0, self._entries, _BLOCK):
            yield slot_of[start : start + _BLOCK], every.slice(start, _BLOCK)


class TextFile:
    """Texts by slot: appended, and rewritten when more than half of it counts no more. One thread writes."""

    # Rewriting a small file is not worth it; each entry costs 12 bytes and its text.
    _MIN_GARBAGE = 1 << 16

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._files = (_File(folder), _File(folder), _File(folder))  # texts, bounds in them, slots
        self._files[1].write(np.zeros(1, np.int64), 0)
        self._entries = self._size = 0

    @property
    def disk_bytes(self) -> int:
        return self._size + 12 * self._entries + 8

    def put(self, slots: NDArray[np.int64], values: pa.Array) -> None:
        """Append entries; a null is an empty text.

        Raises
        ------
        OSError
            The disk is full or fails. Nothing was appended.
        """
        values = pc.fill_null(values, "")
        data, within = parts_of(values)
        texts, bounds, numbers = self._files
        texts.write(data[within[0] : within[-1]], self._size)
        bounds.write(within[1:] - within[0] + self._size, 8 * (self._entries + 1))
        numbers.write(slots.astype(np.uint32), 4 * self._entries)
        self._entries += len(slots)
        self._size += int(within[-1] - within[0])

    def view(self) -> Texts:
        return Texts(self._files, self._entries, self._size)

    def tidy(self, visible: NDArray[np.uint64] | None, slots: int, rows: int) -> None:
        """Rewrite the file when less than half of its entries are of the ``rows`` visible ones.

        Each entry is copied about once for each time that one becomes void. Snapshots keep the old file.

        Raises
        ------
        OSError
            The disk is full or fails. The old file stays.
        """
        if self._entries <= 2 * rows + self._MIN_GARBAGE:
            return
        last = np.full(slots, -1, np.int64)
        first = 0
        for numbers, _ in self.view().blocks():
            inside = numbers < slots
            last[numbers[inside]] = first + np.flatnonzero(inside)
            first += len(numbers)
        rewritten = TextFile(self._folder)
        first = 0
        for numbers, values in self.view().blocks():
            shown = is_visible(visible, slots, numbers.astype(np.int64))
            kept = np.flatnonzero(shown)
            kept = kept[last[numbers[kept]] == first + kept]
            rewritten.put(numbers[kept].astype(np.int64), values.take(pa.array(kept)))
            first += len(numbers)
        self._files, self._entries, self._size = rewritten._files, rewritten._entries, rewritten._size
