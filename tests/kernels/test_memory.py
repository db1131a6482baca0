"""Rows that grow in place: earlier views stay, limits on address space are accepted, memory is freed."""

from __future__ import annotations

import gc
import mmap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from support.arrays import odd_arrays

from lookalike.kernels.memory import GrowableRows


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE


def some_rows(n: int, words: int, start: int = 0) -> Any:
    return np.arange(start, start + n * words, dtype=np.uint64).reshape(n, words)


def test_growable_rows_return_rows_in_order() -> None:
    rows = GrowableRows(3)
    assert rows.view().shape == (0, 3)
    for start in range(0, 30, 6):
        rows.append(some_rows(2, 3, start))
    rows.append(some_rows(0, 3))
    np.testing.assert_array_equal(rows.view(), some_rows(10, 3))
    assert len(rows) == 10


def test_growable_rows_keep_a_view_where_and_as_it_was() -> None:
    rows = GrowableRows(4)
    rows.append(some_rows(1000, 4))
    before = rows.view()
    address, content = before.ctypes.data, before.copy()
    rows.append(some_rows(500_000, 4))
    assert before.ctypes.data == rows.view().ctypes.data == address
    np.testing.assert_array_equal(before, content)
    with pytest.raises(ValueError, match="read-only"):
        before[0] = 1


def test_growable_rows_are_aligned_to_huge_pages() -> None:
    assert GrowableRows(1).view().ctypes.data % (2 << 20) == 0


def test_growable_rows_copy_a_full_mapping_and_keep_old_views() -> None:
    rows = GrowableRows(8, reserve_bytes=6400)
    rows.append(some_rows(100, 8))
    before = rows.view()
    rows.append(some_rows(1, 8, 800))
    np.testing.assert_array_equal(before, some_rows(100, 8))
    np.testing.assert_array_equal(rows.view(), some_rows(101, 8))


def test_growable_rows_free_memory_with_the_last_view() -> None:
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


def test_growable_rows_append_copies_only_the_new_rows() -> None:
    rows = GrowableRows(32)
    rows.append(np.ones((200_000, 32), np.uint64))
    start = resident_bytes()
    rows.append(np.ones((2_000, 32), np.uint64))
    assert resident_bytes() - start < 16 << 20  # the rows themselves are 51 MB


def test_growable_rows_hold_other_types() -> None:
    rows = GrowableRows(2, np.int32)
    rows.append(np.array([[1, -2]], np.int32))
    assert rows.view().dtype == np.int32
    assert rows.view().tolist() == [[1, -2]]


@pytest.mark.parametrize("wrong", [np.zeros((2, 3), np.uint32), np.zeros((2, 4), np.uint64), np.zeros(3, np.uint64)])
def test_growable_rows_refuse_other_rows(wrong: Any) -> None:
    rows = GrowableRows(3)
    with pytest.raises(ValueError, match="rows are"):
        rows.append(wrong)
    assert len(rows) == 0


def test_growable_rows_refuse_impossible_settings() -> None:
    with pytest.raises(ValueError, match="words"):
        GrowableRows(0)
    with pytest.raises(ValueError, match="reserve_bytes"):
        GrowableRows(1, reserve_bytes=0)
    with pytest.raises(TypeError, match="objects"):
        GrowableRows(1, object)


def test_growable_rows_accept_a_limit_on_address_space(monkeypatch: pytest.MonkeyPatch) -> None:
    real = mmap.mmap

    def limited(descriptor: int, size: int, *flags: int) -> mmap.mmap:
        if size > 1 << 30:
            raise OSError(12, "Cannot allocate memory")
        return real(descriptor, size, *flags)

    monkeypatch.setattr(mmap, "mmap", limited)
    rows = GrowableRows(4)
    rows.append(some_rows(10, 4))
    np.testing.assert_array_equal(rows.view(), some_rows(10, 4))


@settings(max_examples=300, deadline=None)
@given(pieces=st.lists(odd_arrays(), max_size=5))
def test_growable_rows_append_or_refuse_odd_arrays(pieces: list[Any]) -> None:
    rows, added = GrowableRows(4), 0
    for piece in pieces:
        try:
            rows.append(piece)
        except (TypeError, ValueError):
            continue
        added += len(piece)
    assert rows.view().shape == (added, 4)


def test_growable_rows_stay_intact_when_no_larger_mapping_is_granted(monkeypatch: pytest.MonkeyPatch) -> None:
    real = mmap.mmap

    def limited(descriptor: int, size: int, *flags: int) -> mmap.mmap:
        if size > 16 << 20:
            raise OSError(12, "Cannot allocate memory")
        return real(descriptor, size, *flags)

    monkeypatch.setattr(mmap, "mmap", limited)
    rows = GrowableRows(4, reserve_bytes=3200)
    rows.append(some_rows(100, 4))
    with pytest.raises(MemoryError):
        rows.extend(1 << 20)
    np.testing.assert_array_equal(rows.view(), some_rows(100, 4))
    rows.append(some_rows(1, 4, 400))
    np.testing.assert_array_equal(rows.view(), some_rows(101, 4))


class GrowableRowsMachine(RuleBasedStateMachine):
    """Rows against a list of rows, with a mapping so small that it is copied now and then."""

    def __init__(self) -> None:
        super().__init__()
        self.rows = GrowableRows(2, np.uint32, reserve_bytes=100)
        self.expected: list[list[int]] = []
        self.views: list[tuple[Any, int]] = []  # each with its address when it was given
        self.written = 0

    def new_rows(self, count: int) -> Any:
        self.written += count
        return np.arange(self.written - count, self.written, dtype=np.uint32).repeat(2).reshape(count, 2)

    @rule(count=st.integers(0, 30))
    def append(self, count: int) -> None:
        new = self.new_rows(count)
        self.rows.append(new)
        self.expected += new.tolist()

    @rule(count=st.integers(0, 30))
    def extend(self, count: int) -> None:
        self.rows.extend(count)
        self.expected += [[0, 0]] * count

    @precondition(lambda self: self.expected)
    @rule(data=st.data())
    def put(self, data: Any) -> None:
        slots = data.draw(st.lists(st.integers(0, len(self.expected) - 1), max_size=8))
        new = self.new_rows(len(slots))
        shared = [view for view, _ in self.views if np.shares_memory(view, self.rows.view())]
        self.rows.put(np.array(slots, np.int64), new)
        for slot, row in zip(slots, new.tolist(), strict=True):
            self.expected[slot] = row
        for view in shared:  # in place: whoever shares the memory sees the new rows
            assert view.tolist() == self.expected[: len(view)]

    @rule()
    def keep_a_view(self) -> None:
        view = self.rows.view()
        self.views.append((view, view.ctypes.data))

    @invariant()
    def holds_what_the_list_holds(self) -> None:
        assert len(self.rows) == len(self.expected)
        assert self.rows.view().tolist() == self.expected
        assert all(view.ctypes.data == address for view, address in self.views)


TestGrowableRowsMachine = GrowableRowsMachine.TestCase
TestGrowableRowsMachine.settings = settings(max_examples=100, stateful_step_count=20, deadline=None)


def test_growable_rows_put_overwrites_in_place() -> None:
    rows = GrowableRows(2)
    rows.append(some_rows(5, 2))
    before = rows.view()
    rows.put(np.array([3, 0]), some_rows(2, 2, 100))
    assert before.tolist() == [[102, 103], [2, 3], [4, 5], [100, 101], [8, 9]]
    assert rows.view().ctypes.data == before.ctypes.data


def test_growable_rows_extend_uses_no_memory() -> None:
    rows, start = GrowableRows(8), resident_bytes()
    rows.extend(1 << 20)
    assert resident_bytes() - start < 4 << 20  # the rows are 64 MB
    assert not rows.view()[-1].any()
    with pytest.raises(ValueError, match="count"):
        rows.extend(-1)


@pytest.mark.parametrize(
    ("slots", "rows", "error"),
    [
        (np.array([4]), np.zeros((1, 3), np.uint64), ValueError),
        (np.array([-1]), np.zeros((1, 3), np.uint64), ValueError),
        (np.array([0, 1]), np.zeros((1, 3), np.uint64), ValueError),
        (np.array([[0]]), np.zeros((1, 3), np.uint64), ValueError),
        (np.array([0], np.int32), np.zeros((1, 3), np.uint64), TypeError),
        ([0], np.zeros((1, 3), np.uint64), TypeError),
        (np.array([0]), np.zeros((1, 3), np.int64), ValueError),
        (np.array([0]), np.zeros((1, 2), np.uint64), ValueError),
        (np.array([0]), [[0, 0, 0]], TypeError),
        (np.array([1, 4]), np.zeros((2, 3), np.uint64), ValueError),
    ],
)
def test_growable_rows_put_refuses_what_does_not_fit(slots: Any, rows: Any, error: type[Exception]) -> None:
    full = GrowableRows(3)
    full.append(some_rows(4, 3))
    with pytest.raises(error):
        full.put(slots, rows)
    np.testing.assert_array_equal(full.view(), some_rows(4, 3))
