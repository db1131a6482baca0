"""Free lists, bitmaps of visible slots and readers against lists, sets and counts."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lookalike.actors.index.slots import FreeList, Published, VisibleSlots, WriteLog, Writes, is_visible, write
from lookalike.kernels.memory import GrowableRows


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(0, 2**32 - 1), max_size=9) | st.integers(0, 12), max_size=20))
def test_free_list_gives_back_what_was_pushed_once_and_the_latest_first(actions: list[list[int] | int]) -> None:
    free = FreeList()
    stack: list[int] = []
    for action in actions:
        if isinstance(action, list):
            free.push(np.array(action, np.int64))
            stack += action
        else:
            popped = free.pop(action).tolist()
            latest = stack[len(stack) - min(action, len(stack)) :]
            assert sorted(popped) == sorted(latest)
            del stack[len(stack) - len(latest) :]
        assert len(free) == len(stack)
        assert free.held_bytes == 4 * len(stack)


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.booleans(), st.sets(st.integers(0, 300), max_size=40)), max_size=12), st.integers(301, 400)
)
def test_visible_slots_agree_with_a_set(actions: list[tuple[bool, set[int]]], count: int) -> None:
    slots = VisibleSlots()
    shown: set[int] = set()
    for show, changed in actions:
        if show:
            slots.show(np.array(sorted(changed - shown), np.int64))
            shown |= changed
        else:
            slots.hide(np.array(sorted(changed & shown), np.int64))
            shown -= changed
        assert slots.count == len(shown)
        visible = slots.freeze(count)
        assert visible is not None
        assert len(visible) == -(-count // 64)
        every = np.arange(-1, count + 70)
        assert np.flatnonzero(is_visible(visible, count, every)).tolist() == [slot + 1 for slot in sorted(shown)]


def test_visible_slots_freeze_to_nothing_when_all_are_visible() -> None:
    slots = VisibleSlots()
    slots.show(np.arange(100_000))
    assert slots.freeze(100_000) is None
    assert is_visible(None, 100_000, np.array([-1, 0, 99_999, 100_000])).tolist() == [False, True, True, False]
    frozen = slots.freeze(200_000)
    slots.hide(np.arange(100_000))
    assert frozen is not None
    assert int(np.bitwise_count(frozen).sum()) == 100_000


def test_write_makes_the_slots_that_are_missing() -> None:
    rows = GrowableRows(2)
    write(rows, np.array([5, 2]), np.array([[1, 2], [3, 4]], np.uint64))
    assert rows.view().tolist() == [[0, 0], [0, 0], [3, 4], [0, 0], [0, 0], [1, 2]]
    write(rows, np.empty(0, np.int64), np.empty((0, 2), np.uint64))
    assert len(rows) == 6


@dataclass(frozen=True)
class Numbered:
    generation: int


@settings(deadline=None)
@given(st.lists(st.sampled_from(["publish", "enter", "leave first", "leave last"]), max_size=30))
def test_published_knows_the_oldest_generation_that_is_read(actions: list[str]) -> None:
    published = Published(Numbered(0))
    generation = 0
    readers: list[tuple[ExitStack, int]] = []
    for action in actions:
        if action == "publish":
            generation += 1
            published.swap(Numbered(generation))
        elif action == "enter":
            stack = ExitStack()
            assert stack.enter_context(published.reading()).generation == generation
            readers.append((stack, generation))
        elif readers:
            readers.pop(0 if action == "leave first" else -1)[0].close()
        assert published.oldest() == min([generation, *(held for _, held in readers)])


def test_published_counts_a_reader_out_that_raises() -> None:
    published = Published(Numbered(0))
    with pytest.raises(ZeroDivisionError), published.reading():
        published.swap(Numbered(1 // 0))
    published.swap(Numbered(1))
    assert published.oldest() == 1


@settings(deadline=None)
@given(st.lists(st.lists(st.sets(st.integers(0, 99), max_size=30), max_size=3), max_size=12))
def test_write_log_tells_what_was_written_since_or_that_it_does_not_know(generations: list[list[set[int]]]) -> None:
    class SmallLog(WriteLog):
        _SHARE, _MIN_SLOTS, _MAX_PIECES = 1 / 100, 60, 5

    log = SmallLog()
    published = [Writes()]
    for generation, batches in enumerate(generations, start=1):
        for slots in batches:
            log.note(np.array(sorted(slots), np.int64), 100)
        published.append(log.publish(generation, 100))
        assert log.held_bytes <= 4 * 60
    for later, writes in enumerate(published):
        for earlier in range(later + 1):
            since = writes.since(earlier)
            written = [slots for batches in generations[earlier:later] for slots in batches]
            if since is None:
                assert sum(map(len, written)) > 60 or sum(map(bool, generations[earlier:later])) > 5
            else:
                assert since.tolist() == sorted(set().union(*written))


def test_write_log_keeps_nothing_of_a_load() -> None:
    log = WriteLog()
    for start in range(0, 100_000, 1000):
        log.note(np.arange(start, start + 1000), start + 1000)
    assert log.held_bytes < 20_000
    writes = log.publish(1, 100_000)
    assert writes.since(0) is None
    assert writes.since(1) is not None
