"""The key table against a dict, on keys that collide as well as on keys that do not."""

from __future__ import annotations

import mmap
import threading
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from lookalike.kernels.key_table import MAX_SLOT, VARIANTS, KeyTable

U8 = np.uint64
SLOTS = 700
# key_table.c multiplies by 2**64 over the golden ratio: multiples of the inverse of that have products 0, 1, 2, ...,
# which share the first position; negative ones share the last, so their run goes over the end of the table.
INVERSE = pow(0x9E3779B97F4A7C15, -1, 1 << 64)

one_home = st.integers(-30, 30).map(lambda i: i * INVERSE % (1 << 64))
some_keys = st.lists(
    st.one_of(
        st.sampled_from([0, (1 << 64) - 1]),
        st.integers(0, 40),
        st.integers(0, 40).map(lambda i: i << 48),
        one_home,
        st.integers(0, (1 << 64) - 1),
    ),
    max_size=40,
)
runs_of_keys = st.builds(
    lambda start, step, count: [(start + i * step) % (1 << 64) for i in range(count)],
    st.sampled_from([0, (1 << 64) - 100, 1 << 62]),
    st.sampled_from([1, 1 << 48, INVERSE]),
    st.integers(1, 300),
)
batches = st.one_of(some_keys, some_keys, runs_of_keys)


class KeyTableMachine(RuleBasedStateMachine):
    """Rows are written to slots that the table does not hold, as a shard reuses the rows of deleted images."""

    def __init__(self, variant: str) -> None:
        super().__init__()
        self.table = KeyTable(variant=variant)
        self.keys = np.zeros(SLOTS, U8)
        self.slots: dict[int, int] = {}
        self.most = 0

    @rule(batch=batches, random=st.randoms(use_true_random=False))
    def put_new_rows(self, batch: list[int], random: Any) -> None:
        free = sorted(set(range(SLOTS)) - set(self.slots.values()))
        random.shuffle(free)
        slots = free[: len(batch)]
        batch = batch[: len(slots)]
        self.keys[slots] = np.array(batch, U8)
        self.put(batch, slots)

    @rule(batch=some_keys)
    def put_present_rows_again(self, batch: list[int]) -> None:
        present = [key for key in batch if key in self.slots]
        self.put(present, [self.slots[key] for key in present])

    def put(self, batch: list[int], slots: list[int]) -> None:
        expected = []
        for key, slot in zip(batch, slots, strict=True):
            expected.append(self.slots.get(key, -1))
            self.slots[key] = slot
        assert self.table.put(self.keys, np.array(slots, np.int64)).tolist() == expected
        self.most = max(self.most, len(self.slots))

    @rule(batch=batches)
    def remove(self, batch: list[int]) -> None:
        expected = [self.slots.pop(key, -1) for key in batch]
        assert self.table.remove(self.keys, np.array(batch, U8)).tolist() == expected

    @rule(batch=batches)
    def find(self, batch: list[int]) -> None:
        expected = [self.slots.get(key, -1) for key in batch]
        assert self.table.find(self.keys, np.array(batch, U8)).tolist() == expected

    @invariant()
    def holds_what_the_dict_holds(self) -> None:
        assert len(self.table) == len(self.slots)
        found = self.table.find(self.keys, np.array(list(self.slots), U8))
        assert found.tolist() == list(self.slots.values())


@pytest.mark.parametrize("variant", VARIANTS)
def test_key_table_answers_as_a_dict(variant: str) -> None:
    run_state_machine_as_test(
        partial(KeyTableMachine, variant),  # type: ignore[arg-type]  # any callable that makes one
        settings=settings(max_examples=120, stateful_step_count=25, deadline=None),
    )


@pytest.mark.skipif("native" not in VARIANTS, reason="the extension was not built")
@pytest.mark.parametrize("count", [0, 1, 12, 13, 1000, 30_000])
def test_key_table_holds_five_to_six_and_a_quarter_bytes_per_key(count: int) -> None:
    table = KeyTable()
    table.put(np.arange(count, dtype=U8), np.arange(count))
    assert table.held_bytes % mmap.PAGESIZE == 0
    assert 5 * count <= table.held_bytes <= max(6.25 * count, 64) + mmap.PAGESIZE


@pytest.mark.skipif("native" not in VARIANTS, reason="the extension was not built")
def test_key_table_loses_nothing_while_keys_come_and_go() -> None:
    """Long enough that every length of run, and the end of the table, is met many times."""
    rng = np.random.default_rng(5)
    table, keys = KeyTable(), rng.integers(0, 1 << 64, 50_000, U8)
    present = np.zeros(len(keys), bool)
    for _ in range(30):
        chosen = np.unique(rng.integers(0, len(keys), 10_000))
        expected = np.where(present[chosen], chosen, -1)
        np.testing.assert_array_equal(table.remove(keys, keys[chosen]), expected)
        present[chosen] = False
        chosen = np.unique(rng.integers(0, len(keys), 12_000))
        table.put(keys, chosen)
        present[chosen] = True
        np.testing.assert_array_equal(table.find(keys, keys), np.where(present, np.arange(len(keys)), -1))
        assert len(table) == present.sum()


@pytest.mark.parametrize("variant", VARIANTS)
def test_key_table_takes_the_highest_slot(variant: str) -> None:
    size = (MAX_SLOT + 2) * 8  # address space only: three of its pages are touched
    keys = np.frombuffer(mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000), U8)
    keys[MAX_SLOT] = 7
    table = KeyTable(variant=variant)
    assert table.put(keys, np.array([MAX_SLOT])).tolist() == [-1]
    assert table.find(keys, np.array([7, 8], U8)).tolist() == [MAX_SLOT, -1]
    assert table.put(keys, np.array([MAX_SLOT])).tolist() == [MAX_SLOT]
    with pytest.raises(ValueError, match="slots"):
        table.put(keys, np.array([MAX_SLOT + 1]))
    assert table.remove(keys, np.array([7], U8)).tolist() == [MAX_SLOT]


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(
    ("keys", "slots", "error"),
    [
        (np.arange(9, dtype=U8), np.array([9]), ValueError),
        (np.arange(9, dtype=U8), np.array([-1]), ValueError),
        (np.arange(9, dtype=U8), np.array([0, 1 << 40]), ValueError),
        (np.arange(9, dtype=U8), np.array([[0]]), ValueError),
        (np.arange(9, dtype=U8), np.arange(8)[::2], ValueError),
        (np.arange(9, dtype=U8), np.array([0], np.int32), TypeError),
        (np.arange(9, dtype=U8), [0], TypeError),
        (np.arange(2, dtype=U8), np.array([0]), ValueError),  # the table has had slot 5
        (np.arange(9), np.array([0]), TypeError),
        (np.arange(18, dtype=U8)[::2], np.array([0]), ValueError),
        (np.zeros((9, 1), U8), np.array([0]), ValueError),
    ],
)
def test_key_table_refuses_what_does_not_fit_and_stays_the_same(
    variant: str, keys: Any, slots: Any, error: type[Exception]
) -> None:
    table, right = KeyTable(variant=variant), np.arange(9, dtype=U8)
    table.put(right, np.array([5]))
    with pytest.raises(error):
        table.put(keys, slots)
    for call in (table.find, table.remove):
        with pytest.raises((TypeError, ValueError)):
            call(right[:5], right)
        with pytest.raises((TypeError, ValueError)):
            call(right, slots)
    assert table.find(right, right).tolist() == [-1] * 5 + [5] + [-1] * 3


@pytest.mark.skipif("native" not in VARIANTS, reason="the extension was not built")
def test_key_table_refuses_a_call_beside_a_write() -> None:
    keys = np.random.default_rng(6).integers(0, 1 << 64, 1_000_000, U8)
    table = KeyTable()
    write = threading.Thread(target=table.put, args=(keys, np.arange(len(keys))))
    write.start()
    while not len(table):  # the write has begun, and takes a tenth of a second
        pass
    for call in (table.find, table.remove):
        with pytest.raises(RuntimeError, match="serialise"):
            call(keys, keys[:1])
    write.join()
    assert table.find(keys, keys[-1:]).tolist() == [len(keys) - 1]


def test_key_table_refuses_an_unknown_variant() -> None:
    with pytest.raises(ValueError, match="abacus"):
        KeyTable(variant="abacus")
