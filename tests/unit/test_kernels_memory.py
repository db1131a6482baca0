"""Rows that grow in place: earlier views stay, huge limits are survived, memory comes back."""

from __future__ import annotations

import gc
import mmap
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lookalike.kernels.memory import GrowableRows


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE


def some_rows(n: int, words: int, start: int = 0) -> Any:
    return np.arange(start, start + n * words, dtype=np.uint64).reshape(n, words)


def test_rows_come_back_in_order() -> None:
    rows = GrowableRows(3)
    assert rows.view().shape == (0, 3)
    for start in range(0, 30, 6):
        rows.append(some_rows(2, 3, start))
    rows.append(some_rows(0, 3))
    np.testing.assert_array_equal(rows.view(), some_rows(10, 3))
    assert len(rows) == 10


def test_a_view_stays_where_and_as_it_was() -> None:
    rows = GrowableRows(4)
    rows.append(some_rows(1000, 4))
    before = rows.view()
    address, content = before.ctypes.data, before.copy()
    rows.append(some_rows(500_000, 4))
    assert before.ctypes.data == rows.view().ctypes.data == address
    np.testing.assert_array_equal(before, content)
    with pytest.raises(ValueError, match="read-only"):
        before[0] = 1


def test_rows_are_aligned_to_huge_pages() -> None:
    assert GrowableRows(1).view().ctypes.data % (2 << 20) == 0


def test_a_full_stretch_moves_the_rows_once_and_keeps_old_views() -> None:
    rows = GrowableRows(8, reserve_bytes=6400)
    rows.append(some_rows(100, 8))
    before = rows.view()
    rows.append(some_rows(1, 8, 800))
    np.testing.assert_array_equal(before, some_rows(100, 8))
    np.testing.assert_array_equal(rows.view(), some_rows(101, 8))


def test_memory_is_given_back_with_the_last_view() -> None:
    size = 64 << 20
    start = resident_bytes()
    rows = GrowableRows(8)
    rows.append(np.ones((size // 64, 8), np.uint64))
    view = rows.view()
    assert rows.held_bytes >= size
    assert resident_bytes() - start > size * 0.9
    del rows
    assert view[-1, -1] == 1
    assert resident_bytes() - start > size * 0.9
    del view
    gc.collect()
    assert resident_bytes() - start < size * 0.2


def test_appending_a_little_copies_only_that() -> None:
    rows = GrowableRows(32)
    rows.append(np.ones((200_000, 32), np.uint64))
    start = resident_bytes()
    rows.append(np.ones((2_000, 32), np.uint64))
    assert resident_bytes() - start < 16 << 20  # the rows themselves are 51 MB


def test_other_types_are_kept() -> None:
    rows = GrowableRows(2, np.int32)
    rows.append(np.array([[1, -2]], np.int32))
    assert rows.view().dtype == np.int32
    assert rows.view().tolist() == [[1, -2]]


@pytest.mark.parametrize("wrong", [np.zeros((2, 3), np.uint32), np.zeros((2, 4), np.uint64), np.zeros(3, np.uint64)])
def test_other_rows_are_refused(wrong: Any) -> None:
    rows = GrowableRows(3)
    with pytest.raises(ValueError, match="rows are"):
        rows.append(wrong)
    assert len(rows) == 0


def test_impossible_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="words"):
        GrowableRows(0)
    with pytest.raises(ValueError, match="reserve_bytes"):
        GrowableRows(1, reserve_bytes=0)
    with pytest.raises(TypeError, match="objects"):
        GrowableRows(1, object)


def test_a_limit_on_address_space_only_means_a_smaller_stretch(monkeypatch: pytest.MonkeyPatch) -> None:
    real = mmap.mmap

    def limited(descriptor: int, size: int, *flags: int) -> mmap.mmap:
        if size > 1 << 30:
            raise OSError(12, "Cannot allocate memory")
        return real(descriptor, size, *flags)

    monkeypatch.setattr(mmap, "mmap", limited)
    rows = GrowableRows(4)
    rows.append(some_rows(10, 4))
    np.testing.assert_array_equal(rows.view(), some_rows(10, 4))
