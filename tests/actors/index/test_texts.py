"""Texts on disk against a dict: of each slot the last entry counts, in views of any age."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lookalike.actors.index.texts import TextFile, Texts

BATCHES = st.lists(
    st.dictionaries(st.integers(0, 15), st.none() | st.text("ab ü漢", max_size=6), max_size=6), max_size=12
)


def texts_of(view: Texts) -> dict[int, str]:
    texts: dict[int, str] = {}
    for slots, values in view.blocks():
        texts.update(zip(slots.tolist(), values.to_pylist(), strict=True))
    return texts


def put(texts: TextFile, batch: dict[int, str | None]) -> None:
    texts.put(np.array(list(batch), np.int64), pa.array(list(batch.values()), pa.string()))


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batches=BATCHES, visible=st.integers(0, 2**16 - 1))
def test_text_file_gives_the_last_text_of_each_slot(
    monkeypatch: pytest.MonkeyPatch, batches: list[dict[int, str | None]], visible: int
) -> None:
    monkeypatch.setattr(TextFile, "_MIN_GARBAGE", 0)
    texts = TextFile(None)
    expected: dict[int, str] = {}
    views = []
    shown = {slot for slot in range(16) if visible >> slot & 1}
    for number, batch in enumerate(batches):
        put(texts, batch)
        expected |= {slot: text or "" for slot, text in batch.items()}
        views.append((texts.view(), dict(expected)))
        if number % 3 == 2:
            texts.tidy(np.array([visible], np.uint64), 16, len(shown & expected.keys()))
            kept = texts_of(texts.view())
            assert {slot: kept[slot] for slot in shown & expected.keys()} == {
                slot: text for slot, text in expected.items() if slot in shown
            }
            expected = kept
    for view, texts_then in views:
        assert texts_of(view) == texts_then


def test_text_file_takes_no_more_than_twice_the_disk_of_its_texts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(TextFile, "_MIN_GARBAGE", 0)
    texts = TextFile(tmp_path)
    sizes = []
    for step in range(50):
        put(texts, {slot: f"{step} {slot}" + "x" * 100 for slot in range(100)})
        texts.tidy(None, 100, 100)
        sizes.append(texts.disk_bytes)
    assert max(sizes) <= 2 * sizes[0] + 1000
    assert texts_of(texts.view())[99] == "49 99" + "x" * 100
    assert list(tmp_path.iterdir()) == []


def test_text_file_takes_a_part_of_a_column() -> None:
    texts = TextFile(None)
    column = pa.array(["no", "one", None, "größe", "no"]).slice(1, 3)
    texts.put(np.array([4, 2, 9]), column)
    texts.put(np.empty(0, np.int64), column.slice(0, 0))
    assert texts_of(texts.view()) == {4: "one", 2: "", 9: "größe"}
