"""Rows in memory that grow at the end without moving, and can be overwritten in place.

A search reads the codes at the speed of memory, and phase two reads a few thousand rows at random: on 4 KB
pages such a row costs six times as much as on huge pages (2 MB). So rows lie in one mapping, aligned to 2 MB and
advised to be huge beyond its first 2 MB. Its address space is reserved far beyond what is needed; memory is used
only where rows were written.
"""

from __future__ import annotations

import mmap
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from lookalike.kernels.values import check_array

_HUGE_PAGE = 2 << 20
_MAP_NORESERVE = 0x4000  # Linux; not named by the mmap module of Python 3.11
_HUGE_PAGE_SETTING = Path("/sys/kernel/mm/transparent_hugepage/enabled")


class GrowableRows:
    """Rows of one type and width in one mapping that never moves while it has room.

    Parameters
    ----------
    words : int
        Values per row, at least 1.
    dtype : dtype
        uint64 by default.
    reserve_bytes : int
        Address space to reserve, 1 TB by default; no memory is used before rows are written. Where the system
        grants less, or when it is full, the rows are copied to a larger mapping; earlier views keep the old one
        alive.

    Notes
    -----
    One thread writes; any number may read the views. Memory is freed when the rows and the last view are gone.
    """

    def __init__(self, words: int, dtype: DTypeLike = np.uint64, *, reserve_bytes: int = 1 << 40) -> None:
        if words < 1:
            raise ValueError(f"words is {words}, but a row needs at least 1")
        if reserve_bytes < 1:
            raise ValueError(f"reserve_bytes is {reserve_bytes}, but must be at least 1")
        self._dtype = np.dtype(dtype)
        if self._dtype.hasobject:
            raise TypeError(f"dtype {self._dtype} holds Python objects, but rows are plain memory")
        self._words = words
        self._rows = 0
        self._values, self.huge_pages = self._reserve(reserve_bytes)

    def __len__(self) -> int:
        return self._rows

    @property
    def row_bytes(self) -> int:
        return self._words * self._dtype.itemsize

    @property
    def held_bytes(self) -> int:
        """Bytes of memory in use, whole pages: what the system has handed out, not what is reserved."""
        size = self._rows * self.row_bytes
        page = _HUGE_PAGE if self.huge_pages and size > _HUGE_PAGE else mmap.PAGESIZE
        return -(-size // page) * page

    def view(self) -> NDArray[Any]:
        """Give the rows so far, shape (n, words), read-only.

        ``append`` and ``extend`` neither move nor change them; ``put`` changes the rows that it names.
        """
        view = self._values[: self._rows]
        view.flags.writeable = False
        return view

    def append(self, rows: NDArray[Any]) -> None:
        """Add rows at the end.

        Raises
        ------
        TypeError
            ``rows`` is no array.
        ValueError
            It has another type or another number of columns.
        MemoryError
            The system has no room for more.
        """
        self._check_rows(rows)
        end = self._rows + len(rows)
        self._make_room(end)
        self._values[self._rows : end] = rows
        self._rows = end  # last, so that a reader never sees a row before its values

    def extend(self, count: int) -> None:
        """Add ``count`` rows of zeros at the end; they use no memory before they are written.

        Raises
        ------
        ValueError
            ``count`` is negative.
        MemoryError
            The system has no room for more.
        """
        if count < 0:
            raise ValueError(f"count is {count}, but must be at least 0")
        self._make_room(self._rows + count)
        self._rows += count

    def put(self, slots: NDArray[np.int64], rows: NDArray[Any]) -> None:
        """Overwrite existing rows in place; where a slot comes twice, the later row stays.

        Views given earlier show the new rows, and a reader beside this call may see half of one: the caller makes sure
        that nobody reads these slots any more.

        Parameters
        ----------
        slots : ndarray of int64, shape (m,)
            Each from 0 to n - 1.
        rows : ndarray, shape (m, words)
            Of the type of these rows.

        Raises
        ------
        TypeError, ValueError
            An argument is of another type or shape, the lengths differ, or a slot is out of range. Nothing is written.
        """
        self._check_rows(rows)
        check_array("slots", slots, np.int64, 1)
        if len(slots) != len(rows):
            raise ValueError(f"there are {len(slots)} slots for {len(rows)} rows")
        if not len(slots):
            return
        lowest, highest = int(slots.min()), int(slots.max())
        if lowest < 0 or highest >= self._rows:
            raise ValueError(f"slots are {lowest} to {highest}, but there are {self._rows} rows")
        self._values[slots] = rows

    def _check_rows(self, rows: NDArray[Any]) -> None:
        if not isinstance(rows, np.ndarray):
            raise TypeError(f"rows are a {type(rows).__name__}, but must be a NumPy array")
        if rows.dtype != self._dtype or rows.ndim != 2 or rows.shape[1] != self._words:
            raise ValueError(
                f"rows are {rows.dtype} of shape {rows.shape}, but must be {self._dtype} of shape (n, {self._words})"
            )

    def _make_room(self, rows: int) -> None:
        if rows <= len(self._values):
            return
        values, huge_pages = self._reserve(2 * rows * self.row_bytes)
        if len(values) < rows:
            raise MemoryError(f"the system grants no address space for {rows} rows of {self.row_bytes} bytes")
        values[: self._rows] = self._values[: self._rows]
        self._values, self.huge_pages = values, huge_pages

    def _reserve(self, size: int) -> tuple[NDArray[Any], bool]:
        """As much of ``size`` bytes as the system grants, and whether its pages may be huge."""
        mapping = None
        while mapping is None:
            try:
                mapping = mmap.mmap(-1, size + _HUGE_PAGE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_NORESERVE)
            except (OSError, OverflowError):  # a limit on address space (ulimit -v, strict overcommit)
                if size < _HUGE_PAGE:
                    raise MemoryError(
                        f"the system grants no address space for rows of {self.row_bytes} bytes"
                    ) from None
                size //= 2
        start = -np.frombuffer(mapping, np.uint8, 1).ctypes.data % _HUGE_PAGE
        huge = _advise_huge(mapping, start + _HUGE_PAGE)
        count = size // self.row_bytes
        values = np.frombuffer(mapping, self._dtype, count * self._words, start).reshape(count, self._words)
        return values, huge


def _advise_huge(mapping: mmap.mmap, start: int) -> bool:
    """Advise huge pages from ``start`` on, so that a column of few rows takes small ones; say if they can be huge."""
    try:
        setting = _HUGE_PAGE_SETTING.read_text()
        if start < len(mapping):
            mapping.madvise(mmap.MADV_HUGEPAGE, start)
    except (OSError, AttributeError):  # no such pages here: plain ones serve, and the status says so
        return False
    return "[never]" not in setting
