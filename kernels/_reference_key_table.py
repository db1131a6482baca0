"""The key table as a dict: what the native table must answer, and what runs where it was not built."""

from __future__ import annotations

import sys

import numpy as np
from numpy.typing import NDArray


class Table:
    def __init__(self) -> None:
        self._slots: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._slots)

    @property
    def held_bytes(self) -> int:
        """The dict alone; its keys and values are objects of 32 bytes each beside it."""
        return sys.getsizeof(self._slots)

    def find(self, keys: NDArray[np.uint64], wanted: NDArray[np.uint64], found: NDArray[np.int64]) -> None:  # noqa: ARG002
        found[:] = [self._slots.get(key, -1) for key in wanted.tolist()]

    def put(self, keys: NDArray[np.uint64], slots: NDArray[np.int64], previous: NDArray[np.int64]) -> None:
        for i, (key, slot) in enumerate(zip(keys[slots].tolist(), slots.tolist(), strict=True)):
            previous[i] = self._slots.get(key, -1)
            self._slots[key] = slot

    def remove(self, keys: NDArray[np.uint64], wanted: NDArray[np.uint64], found: NDArray[np.int64]) -> None:  # noqa: ARG002
        found[:] = [self._slots.pop(key, -1) for key in wanted.tolist()]
