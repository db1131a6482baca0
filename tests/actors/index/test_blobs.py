"""Blobs give back the texts that went in, whichever rows are taken, and joined in whichever order."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.hits import id_blobs, value_blobs

from lookalike.actors.index.blobs import Blobs, ValueArena, id_sizes, join, value_sizes

TEXTS = st.text("ab/ü漢", max_size=9) | st.sampled_from(["größe/7", "y" * 400])
IDS = st.tuples(TEXTS.filter(bool), TEXTS) | TEXTS.filter(bool).map(lambda image_id: (image_id, image_id[:3]))


@settings(deadline=None)
@given(st.lists(IDS, max_size=6), st.lists(IDS, max_size=6), st.data())
def test_blobs_of_ids_are_decoded_row_by_row(
    first: list[tuple[str, str]], second: list[tuple[str, str]], data: st.DataObject
) -> None:
    blobs = join([id_blobs(first), id_blobs(second)])
    expected = [(image_id, listing or image_id) for image_id, listing in first + second]
    rows = data.draw(st.lists(st.sampled_from(range(len(expected))), max_size=9)) if expected else []
    assert blobs.ids(np.array(rows, np.int64)) == [expected[row] for row in rows]
    assert blobs.listings(np.array(rows, np.int64)) == [expected[row][1].encode() for row in rows]
    np.testing.assert_array_equal(id_sizes(blobs.words[blobs.starts()]), blobs.sizes)


@settings(deadline=None)
@given(st.lists(TEXTS, max_size=8), st.data())
def test_blobs_of_values_are_decoded_row_by_row(values: list[str], data: st.DataObject) -> None:
    blobs = value_blobs(values)
    rows = data.draw(st.lists(st.sampled_from(range(len(values))), max_size=9)) if values else []
    assert blobs.values(np.array(rows, np.int64)) == [values[row] for row in rows]
    np.testing.assert_array_equal(value_sizes(blobs.words[blobs.starts()]), blobs.sizes)


@settings(deadline=None)
@given(st.lists(st.lists(TEXTS, max_size=4), max_size=5))
def test_value_arena_keeps_what_a_view_shows(batches: list[list[str]]) -> None:
    arena, views = ValueArena(), []
    for batch in batches:
        arena.append(batch)
        views.append(arena.view())
    texts = [text for batch in batches for text in batch]
    for number, view in enumerate(views):
        shown = texts[: sum(map(len, batches[: number + 1]))]
        numbers = np.arange(len(shown))
        assert view.blobs(numbers).values(numbers) == shown
    assert arena.held_bytes >= sum(len(text.encode()) for text in texts)


def test_blobs_of_damaged_texts_are_an_error() -> None:
    damaged = value_blobs(["abcd"]).words.copy()
    damaged[1] = 0xFFFFFFFF
    with pytest.raises(UnicodeDecodeError):
        Blobs(damaged, np.array([2], np.uint32)).values(np.array([0]))
