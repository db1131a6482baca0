"""The rows of a shard in memory: codes, keys and the fields that answers and filters read."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lookalike.actors.index.columns import Categories, CategoryColumn, KeyIndex, NumberColumn, TextColumn, Texts
from lookalike.ingest.store.collection import codes_array
from lookalike.kernels.hamming import Codes
from lookalike.kernels.memory import GrowableRows

TEXTS = ("image_id", "listing_id", "title")
CATEGORIES = ("group", "colour", "brand")
NUMBERS = ("price", "lat", "lon", "created_at")
COLUMNS = ("key", "short", "long", *TEXTS, *CATEGORIES, *NUMBERS)


@dataclass(frozen=True)
class Snapshot:
    """The rows at one moment; nothing that happens to the shard later changes it.

    Attributes
    ----------
    codes : Codes
        Of all n rows, dead ones included.
    alive : ndarray of bool, shape (n,), or None
        Which rows count. None: all.
    """

    codes: Codes
    alive: NDArray[np.bool_] | None
    _texts: dict[str, Texts]
    _categories: dict[str, Categories]
    _numbers: dict[str, NDArray[np.float64]]

    def __len__(self) -> int:
        return len(self.codes.keys)

    @property
    def rows_alive(self) -> int:
        """How many rows count."""
        return len(self) if self.alive is None else int(self.alive.sum())

    def categories(self, field: str) -> Categories:
        """A column of few different strings."""
        return self._categories[field]

    def text(self, field: str) -> pa.ChunkedArray:
        """A column of strings."""
        return self._texts[field].array

    def numbers(self, field: str) -> NDArray[np.float64]:
        """A column of numbers, NaN where a row has none: float64 (n,)."""
        return self._numbers[field]

    def texts_of(self, field: str, rows: NDArray[np.int64]) -> list[str]:
        """Some rows of a column of strings."""
        return self._texts[field].take(rows)


class Rows:
    """All rows that a shard holds, in the order in which they came. One thread writes, any number read."""

    def __init__(self, short_words: int, long_words: int, component_words: tuple[int, ...]) -> None:
        self._component_words = component_words
        self._short = GrowableRows(short_words)
        self._long = GrowableRows(long_words)
        self._keys = GrowableRows(1)
        self._texts = {name: TextColumn() for name in TEXTS}
        self._categories = {name: CategoryColumn() for name in CATEGORIES}
        self._numbers = {name: NumberColumn() for name in NUMBERS}
        self._index = KeyIndex()
        self._alive = np.empty(0, bool)

    def __len__(self) -> int:
        return len(self._keys.view())

    @property
    def code_bytes(self) -> int:
        """Bytes of codes and keys, counted from the arrays."""
        return sum(array.view().nbytes for array in (self._short, self._long, self._keys))

    @property
    def huge_pages(self) -> bool:
        """Whether the system granted huge pages to the long codes."""
        return self._long.huge_pages

    def append(self, table: pa.Table) -> int:
        """Add the rows of a table with ``COLUMNS``; they count once ``admit`` is called. Returns the first's number."""
        first = len(self)
        self._short.append(codes_array(table["short"]))
        self._long.append(codes_array(table["long"]))
        self._keys.append(table["key"].to_numpy().reshape(-1, 1))
        for columns in (self._texts, self._categories, self._numbers):
            for name, column in columns.items():
                column.append(table[name])
        return first

    def admit(self) -> None:
        """Let the rows appended since the last time count: a row replaces an older one of its key."""
        first = len(self._alive)
        if first < len(self):
            self._alive = np.concatenate([self._alive, np.ones(len(self) - first, bool)])
            self.kill(self._index.add(self._keys.view()[:, 0], first))

    def kill(self, rows: NDArray[np.int64]) -> None:
        """Let some rows count no more. Snapshots taken before still see them."""
        if len(rows):
            self._alive = self._alive.copy()
            self._alive[rows] = False

    @property
    def dead(self) -> int:
        """How many rows count no more."""
        return int(len(self._alive) - self._alive.sum())

    def find(self, keys: NDArray[np.uint64]) -> NDArray[np.int64]:
        """The row of each key that counts, or -1: int64, shape of ``keys``."""
        rows = self._index.find(self._keys.view()[:, 0], keys)
        rows[rows >= 0] = np.where(self._alive[rows[rows >= 0]], rows[rows >= 0], -1)
        return rows

    def snapshot(self) -> Snapshot:
        """Freeze the rows as they are now; nothing is copied."""
        return Snapshot(
            codes=Codes(
                short=self._short.view(),
                long=self._long.view(),
                keys=self._keys.view()[:, 0],
                component_words=self._component_words,
            ),
            alive=None if self._alive.all() else self._alive,
            _texts={name: column.view() for name, column in self._texts.items()},
            _categories={name: column.view() for name, column in self._categories.items()},
            _numbers={name: column.view() for name, column in self._numbers.items()},
        )
