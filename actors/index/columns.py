"""Attributes of every slot in memory. Each column takes an Arrow column for some slots, and is read as an array.

Slots may be written while others are read: only those that a snapshot shows keep their values.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Final, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from lookalike.actors.index.blobs import Blobs, ValueArena, Values
from lookalike.actors.index.slots import write
from lookalike.actors.index.tree import Tree
from lookalike.kernels import places
from lookalike.kernels.memory import GrowableRows

NO_TIME: Final = np.iinfo(np.int64).min
NO_DEGREES: Final = places.NO_DEGREES
DEGREE: Final = places.UNITS_PER_DEGREE


class Categories:
    """Slots of a category column.

    Attributes
    ----------
    numbers : ndarray of uint8, uint16 or uint32, shape (n,)
        0: no value. Hidden slots may have numbers of values that came later.
    """

    def __init__(
        self,
        numbers: NDArray[np.unsignedinteger],
        values: Sequence[str],
        known: dict[str, int],
        count: int,
        encoded: Values,
        tree: Tree | None,
    ) -> None:
        self.numbers = numbers
        self._encoded = encoded
        # Values that came since, numbered from the count on, are left out.
        self._values, self._known, self._count, self._tree = values, known, count, tree

    def take(self, rows: NDArray[np.int64]) -> list[str]:
        """The values of some visible rows."""
        return [self._values[number] for number in self.numbers[rows].tolist()]

    def distinct(self, rows: NDArray[np.int64]) -> tuple[Blobs, NDArray[np.uint32]]:
        """The values of some visible rows, for a reply: each once, and which of them each row has."""
        numbers, which = np.unique(self.numbers[rows], return_inverse=True)
        return self._encoded.blobs(numbers), which.astype(np.uint32)

    def numbers_of(self, wanted: Collection[str]) -> NDArray[np.bool_]:
        """Whether each number is of one of some values, or of one below it where values are paths: bool (count,)."""
        values = set(wanted) - {""}
        if self._tree is not None:
            return self._tree.below(values, self._count)
        table = np.zeros(self._count, bool)
        numbers = [self._known.get(value, 0) for value in values]
        table[[number for number in numbers if 0 < number < self._count]] = True
        return table


class CategoryColumn:
    """Texts of which many rows share one: a number per slot, and each value once, for as long as the column lives.

    ``tree``: the texts are paths.
    """

    def __init__(self, tree: bool = False) -> None:
        self._values = [""]
        self._known = {"": 0}
        self._value_bytes = 0
        self._encoded = ValueArena()
        self._encoded.append(self._values)
        self._numbers = GrowableRows(1, np.uint8)
        self._tree = Tree() if tree else None
        self._grow_tree()

    @property
    def held_bytes(self) -> int:
        """Of the numbers, and about what the values take: a text object and an entry in a dict and a list each."""
        values = self._value_bytes + 160 * len(self._values)
        tree = 0 if self._tree is None else self._tree.held_bytes
        return self._numbers.held_bytes + values + self._encoded.held_bytes + tree

    def put(self, slots: NDArray[np.int64], values: pa.Array) -> None:
        if not pa.types.is_dictionary(values.type):
            values = values.dictionary_encode()
        numbers = np.array([*self._numbers_of(values.dictionary.to_pylist()), 0], np.uint32)
        if len(self._values) > np.iinfo(self._numbers.view().dtype).max:
            self._widen()
        rows = numbers[pc.fill_null(values.indices, len(numbers) - 1).to_numpy(zero_copy_only=False)]
        write(self._numbers, slots, rows.astype(self._numbers.view().dtype).reshape(-1, 1))

    def view(self, slots: int) -> Categories:
        numbers = self._numbers.view()[:slots, 0]
        return Categories(numbers, self._values, self._known, len(self._values), self._encoded.view(), self._tree)

    def _numbers_of(self, values: list[str | None]) -> list[int]:
        texts = [value or "" for value in values]
        fresh = [text for text in dict.fromkeys(texts) if text not in self._known]
        self._encoded.append(fresh)  # first, since it may lack memory: then nothing has changed
        for text in fresh:
            self._known[text] = len(self._values)
            self._values.append(text)
            self._value_bytes += len(text)
        self._grow_tree()
        return [self._known[text] for text in texts]

    def _grow_tree(self) -> None:
        if self._tree is not None and len(self._tree) < len(self._values):
            self._tree.add(self._values[len(self._tree) :])

    def _widen(self) -> None:
        """Move to the narrowest type for all values; snapshots keep the old numbers."""
        wider = np.uint16 if len(self._values) <= np.iinfo(np.uint16).max else np.uint32
        numbers = GrowableRows(1, wider)
        numbers.append(self._numbers.view().astype(wider))
        self._numbers = numbers


class SlotColumn(Protocol):
    """What every column does."""

    @property
    def held_bytes(self) -> int:
        """Bytes in memory."""

    def put(self, slots: NDArray[np.int64], values: pa.Array) -> None:
        """Write the values of some free slots; a null is no value."""

    def view(self, slots: int) -> Any:
        """Read the first slots."""


class NumberColumn:
    """float64, NaN where there is none: every comparison with it is false."""

    def __init__(self) -> None:
        self._rows = GrowableRows(1, np.float64)

    @property
    def held_bytes(self) -> int:
        return self._rows.held_bytes

    def put(self, slots: NDArray[np.int64], values: pa.Array) -> None:
        write(self._rows, slots, _floats(values).reshape(-1, 1))

    def view(self, slots: int) -> NDArray[np.float64]:
        numbers: NDArray[np.float64] = self._rows.view()[:slots, 0]
        return numbers


class TimeColumn:
    """int64, microseconds since 1970 in UTC; ``NO_TIME`` where there is none."""

    def __init__(self) -> None:
        self._rows = GrowableRows(1, np.int64)

    @property
    def held_bytes(self) -> int:
        return self._rows.held_bytes

    def put(self, slots: NDArray[np.int64], values: pa.Array) -> None:
        microseconds = pc.fill_null(pc.cast(values, pa.timestamp("us", values.type.tz)).view(pa.int64()), NO_TIME)
        write(self._rows, slots, microseconds.to_numpy(zero_copy_only=False).reshape(-1, 1))

    def view(self, slots: int) -> NDArray[np.int64]:
        times: NDArray[np.int64] = self._rows.view()[:slots, 0]
        return times


class DegreesColumn:
    """int32 in units of 1e-7 degrees; ``NO_DEGREES`` where there is none, or where it is no angle of a place."""

    def __init__(self) -> None:
        self._rows = GrowableRows(1, np.int32)

    @property
    def held_bytes(self) -> int:
        return self._rows.held_bytes

    def put(self, slots: NDArray[np.int64], values: pa.Array) -> None:
        degrees = _floats(values)
        known = np.abs(degrees) <= 180  # false for NaN
        units = np.where(known, np.rint(np.where(known, degrees, 0) * DEGREE), NO_DEGREES)
        write(self._rows, slots, units.astype(np.int32).reshape(-1, 1))

    def view(self, slots: int) -> NDArray[np.int32]:
        degrees: NDArray[np.int32] = self._rows.view()[:slots, 0]
        return degrees


def _floats(values: pa.Array) -> NDArray[np.float64]:
    floats: NDArray[np.float64] = pc.fill_null(values, np.nan).to_numpy(zero_copy_only=False)
    return floats
