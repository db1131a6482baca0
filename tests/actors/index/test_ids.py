"""Ids of slots against a dict, over writing, freeing and writing again."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lookalike.actors.index.ids import MAX_ID_BYTES, IdColumn, Ids, hashes_of_texts
from lookalike.kernels import masks

TEXTS = st.text("ab/ü漢", min_size=1, max_size=9) | st.sampled_from(["1/2", "größe/7", "y" * 400])


@st.composite
def ids_of_slot(draw: st.DrawFn) -> tuple[str, str | None]:
    image_id = draw(TEXTS)
    parts = [None, "", image_id, image_id[:-1], image_id[:1], image_id + "x", image_id[1:]]
    return image_id, draw(st.sampled_from(parts) | TEXTS)


def put(column: IdColumn, given: dict[int, tuple[str, str | None]]) -> None:
    image_ids, listing_ids = (pa.array([ids[i] for ids in given.values()], pa.string()) for i in (0, 1))
    column.put(np.array(list(given), np.int64), image_ids, listing_ids)


@settings(deadline=None)
@given(
    st.lists(st.dictionaries(st.integers(0, 20), ids_of_slot(), max_size=8) | st.sets(st.integers(0, 20)), max_size=12)
)
def test_ids_come_back_as_they_were_put(actions: list[dict[int, tuple[str, str | None]] | set[int]]) -> None:
    column = IdColumn()
    held: dict[int, tuple[str, str | None]] = {}
    for action in actions:
        if isinstance(action, set):
            column.free(np.array(sorted(action), np.int64))
            held = {slot: ids for slot, ids in held.items() if slot not in action}
        else:
            column.free(np.array(sorted(action.keys() & held.keys()), np.int64))
            put(column, action)
            held |= action
        view = column.view(21)
        slots = np.array(sorted(held), np.int64)
        listings = [held[slot][1] or held[slot][0] for slot in slots.tolist()]
        assert view.image_ids(slots) == [held[slot][0] for slot in slots.tolist()]
        assert view.listings(slots).to_pylist() == listings
        for wanted in ([], listings[:2], ["nobody"]):
            having = [slot for slot, listing in zip(slots.tolist(), listings, strict=True) if listing in wanted]
            assert slots[view.have_listings(wanted, slots)].tolist() == having
            count = len(view.listing_hashes)
            out, where = (np.zeros(masks.words_for(count), np.uint64) for _ in range(2))
            masks.add_rows(where, slots)
            view.find_listings(wanted, slice(0, count), where, out)
            assert masks.rows_of(out).tolist() == having
            hashes = hashes_of_texts(wanted)
            assert set(having) <= set(slots[np.isin(view.listing_hashes[slots], hashes)].tolist())


def test_ids_use_the_bytes_of_freed_slots_again() -> None:
    column = IdColumn()
    slots = np.arange(2000)

    def replace(step: int) -> Ids:
        column.free(slots)
        put(column, {slot: (f"{slot}/{step:0300}", f"{slot:020}") for slot in slots.tolist()})
        return column.view(2000)

    replace(0)
    counted = column.held_bytes
    for step in range(1, 12):  # 0.6 MB each
        assert replace(step).image_ids(slots[-1:]) == [f"1999/{step:0300}"]
    assert column.held_bytes == counted


@pytest.mark.parametrize("length", [1, 300, MAX_ID_BYTES])
def test_ids_may_have_any_length_up_to_the_limit(length: int) -> None:
    column = IdColumn()
    put(column, {0: ("i" * length, "l" * length), 1: ("i" * length, None)})
    view = column.view(2)
    assert view.image_ids(np.array([0, 1])) == ["i" * length] * 2
    assert view.listings(np.array([0, 1])).to_pylist() == ["l" * length, "i" * length]


def test_hashes_of_listings_spread_over_all_values() -> None:
    for pattern in ("{:09}", "listing {:06} of the seller", "{:09}/1", "x{:05}y"):
        hashes = hashes_of_texts([pattern.format(number) for number in range(25_600)])
        for byte in (hashes >> 8, hashes & 255):
            counts = np.bincount(byte, minlength=256)
            assert 40 < counts.min() <= counts.max() < 200, pattern
        assert len(np.unique(hashes)) > 20_000, pattern
