"""The key index where the table itself fails; its other laws are those of the rows' snapshots (test_rows)."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from lookalike.actors.index.key_index import KeyIndex
from lookalike.kernels.key_table import KeyTable


class TableOutOfMemory(KeyTable):
    """Takes a few keys of a call, as the native table does when it cannot grow."""

    fails = False

    def put(self, keys: NDArray[np.uint64], slots: NDArray[np.int64]) -> NDArray[np.int64]:
        if not self.fails:
            return super().put(keys, slots)
        self.fails = False
        super().put(keys, slots[: len(slots) // 2])
        raise MemoryError


def test_key_index_is_as_before_when_its_table_cannot_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lookalike.actors.index.key_index.KeyTable", TableOutOfMemory)
    index = KeyIndex()
    keys = np.arange(10, 20, dtype=np.uint64)
    index.put(np.arange(10), keys)
    index.publish(1, None, 10)
    monkeypatch.setattr(TableOutOfMemory, "fails", True)
    more = np.arange(15, 35, dtype=np.uint64)
    with pytest.raises(MemoryError):
        index.put(np.arange(10, 30), more)
    assert index.find(np.concatenate([keys, more]), 1, None, 10).tolist() == [
        *range(10), *range(5, 10), *[-1] * 15,
    ]  # fmt: skip
    assert index.reclaim(2).tolist() == []
    replaced, free = index.put(np.arange(10, 30), more)
    assert replaced[replaced >= 0].tolist() == [5, 6, 7, 8, 9]
    assert free.tolist() == []
    assert index.reclaim(1).tolist() == []
    assert index.reclaim(2).tolist() == [5, 6, 7, 8, 9]
