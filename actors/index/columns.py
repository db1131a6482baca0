"""Columns of a shard that only grow: a reader that holds the first n rows is never disturbed by later ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from lookalike.kernels.memory import GrowableRows

# Chunks of a text column are joined past this number, so that looking up a row stays a short search.
MOST_CHUNKS = 64


class TextColumn:
    """Strings, in Arrow memory: the characters and 8 bytes a row (a shard's titles can exceed 2 GB)."""

    def __init__(self) -> None:
        self._chunks: list[pa.Array] = []

    def append(self, values: pa.ChunkedArray) -> None:
        """Add rows; a null becomes an empty string."""
        filled = pc.fill_null(values, "").cast(pa.large_string())
        self._chunks.extend(chunk for chunk in filled.chunks if len(chunk))
        if len(self._chunks) > MOST_CHUNKS:
            self._join_small_chunks()

    def view(self) -> Texts:
        """The rows so far."""
        return Texts(self._chunks)

    def _join_small_chunks(self) -> None:
        """Join the short chunks at the end; long ones are left, so a row is copied a few times, not often."""
        rows = sum(map(len, self._chunks))
        long = next(i for i, chunk in enumerate([*self._chunks, ""]) if len(chunk) < rows / 8)
        self._chunks[long:] = [pa.concat_arrays(self._chunks[long:])]


class Texts:
    """Rows of a text column."""

    def __init__(self, chunks: Sequence[pa.Array]) -> None:
        self.array = pa.chunked_array(chunks, pa.large_string())
        self._starts = np.cumsum([0, *map(len, chunks)])

    def take(self, rows: NDArray[np.int64]) -> list[str]:
        """The values of some rows.

        A chunk at a time: Arrow's own ``take`` joins all chunks first (10 ms for a million rows, 0.01 ms so).
        """
        chunk = np.searchsorted(self._starts, rows, side="right") - 1
        values = np.empty(len(rows), object)
        for number in np.unique(chunk).tolist():
            here = chunk == number
            values[here] = self.array.chunk(number).take(pa.array(rows[here] - self._starts[number])).to_pylist()
        return values.tolist()


class CategoryColumn:
    """Strings with few different values: a number a row, and the values once."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._rows = GrowableRows(1, np.dtype(np.int32))

    def append(self, values: pa.ChunkedArray) -> None:
        """Add rows; a null becomes an empty string."""
        encoded = pc.fill_null(values, "").combine_chunks().dictionary_encode()
        known = [self._numbers.setdefault(value, len(self._numbers)) for value in encoded.dictionary.to_pylist()]
        self._rows.append(np.array(known, np.int32)[encoded.indices.to_numpy()].reshape(-1, 1))

    def view(self) -> Categories:
        """The rows so far."""
        return Categories(self._rows.view()[:, 0], list(self._numbers))


class Categories:
    """Rows of a category column: ``numbers`` int32 (n,) into ``values``."""

    def __init__(self, numbers: NDArray[np.int32], values: list[str]) -> None:
        self.numbers = numbers
        self.values = values

    def take(self, rows: NDArray[np.int64]) -> list[str]:
        """The values of some rows."""
        return [self.values[number] for number in self.numbers[rows].tolist()]

    def where(self, chosen: Sequence[bool]) -> NDArray[np.bool_]:
        """Which rows have a value that is chosen; ``chosen`` has one entry per value. bool (n,)."""
        return np.array([*chosen, False])[self.numbers]


class NumberColumn:
    """Floats; NaN where a row has none, so that every comparison with it is false."""

    def __init__(self) -> None:
        self._rows = GrowableRows(1, np.dtype(np.float64))

    def append(self, values: pa.ChunkedArray) -> None:
        """Add rows; a time becomes seconds since 1970."""
        if pa.types.is_timestamp(values.type):
            microseconds = pc.cast(pc.cast(values, pa.timestamp("us", tz="UTC")), pa.int64())
            values = pc.divide(pc.cast(microseconds, pa.float64()), 1e6)
        self._rows.append(pc.fill_null(values, np.nan).to_numpy().reshape(-1, 1))

    def view(self) -> NDArray[np.float64]:
        """The rows so far: float64 (n,)."""
        return self._rows.view()[:, 0]


class KeyIndex:
    """Which row holds a key: 4 bytes a row, sorted now and then, and a small dictionary of what came since."""

    # Sorting a million keys takes 80 ms: done each time the rows grew by an eighth, it costs 1 microsecond a row.
    _GROWTH = 8

    def __init__(self) -> None:
        self._order = np.empty(0, np.uint32)
        self._since: dict[int, int] = {}

    def find(self, keys: NDArray[np.uint64], wanted: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Find the newest row of each key.

        Parameters
        ----------
        keys : ndarray of uint64, shape (n,)
            Of all rows.
        wanted : ndarray of uint64, shape (m,)

        Returns
        -------
        ndarray of int64, shape (m,)
            -1 for a key that no row has.
        """
        place = np.searchsorted(keys[: len(self._order)], wanted, side="right", sorter=self._order) - 1
        rows = np.full(len(wanted), -1, np.int64)
        if len(self._order):
            nearest = self._order[place]  # place is -1 for keys below all: the check of the key sees to it
            same = keys[nearest] == wanted
            rows[same] = nearest[same]
        for position, key in enumerate(wanted.tolist()):
            rows[position] = self._since.get(key, rows[position])
        return rows

    def add(self, keys: NDArray[np.uint64], first: int) -> NDArray[np.int64]:
        """Index the rows from ``first`` on. Returns the older rows of the same keys, which are now void."""
        new = keys[first:]
        if first + len(new) > len(self._order) + max(len(self._order) // self._GROWTH, 1024):
            return self._sort(keys)
        older = self.find(keys, new)
        last = {key: row for row, key in enumerate(new.tolist(), start=first)}
        repeated = [row for row, key in enumerate(new.tolist(), start=first) if last[key] != row]
        self._since.update(last)
        return np.concatenate([older[older >= 0], np.array(repeated, np.int64)])

    def _sort(self, keys: NDArray[np.uint64]) -> NDArray[np.int64]:
        order = np.argsort(keys, kind="stable").astype(np.uint32)
        ordered = keys[order]
        self._order, self._since = order, {}
        void: NDArray[np.int64] = order[:-1][ordered[:-1] == ordered[1:]].astype(np.int64)
        return void
