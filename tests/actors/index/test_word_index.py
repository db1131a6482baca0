"""The words of a field against a dict of texts: of each slot the last text counts, in views of any age."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.rows import words_by_slot
from support.words import indexed_words, plain_words

from lookalike.actors.index.word_index import WordIndex, Words
from lookalike.actors.index.words import words_of

SLOTS = 150  # of the tests by Hypothesis
VOCABULARY = ["rot", "Rote", "jacke", "Größe", "gro\u0308sse", "ﬁt", "İ", "漢字", "7", "x" * 300, "❤", "a\u0301b"]
TEXTS = st.none() | st.lists(st.sampled_from(VOCABULARY), max_size=4).map(" ".join) | st.text(max_size=8)
BATCHES = st.dictionaries(st.integers(0, SLOTS - 1), TEXTS, max_size=6)
DELETIONS = st.sets(st.integers(0, SLOTS - 1), max_size=SLOTS)
QUERIES = st.lists(st.sampled_from(["r", *VOCABULARY]), min_size=1, max_size=3).map(" ".join).filter(words_of)


@pytest.fixture(autouse=True)
def small_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs after a few entries, so that there are many to merge."""
    small = {"_TAIL_ENTRIES": 4, "_MIN_GARBAGE": 4, "_MAX_LOADED_RUNS": 3, "_PART_BYTES": 40}
    for name, size in small.items():
        monkeypatch.setattr(WordIndex, name, size)


def put(index: WordIndex, batch: dict[int, str | None]) -> None:
    index.put(np.array(list(batch), np.int64), pa.array(list(batch.values()), pa.string()))


def found(view: Words, query: str) -> set[int]:
    bits = view.matching(words_of(query))
    return {64 * at + bit for at, word in enumerate(bits.tolist()) for bit in range(64) if word >> bit & 1}


def expected(texts: dict[int, str], query: str) -> set[int]:
    wanted = [word.encode()[:256] for word in plain_words(query)]
    return {
        slot
        for slot, text in texts.items()
        if all(any(word.startswith(prefix) for word in indexed_words(text)) for prefix in wanted)
    }


def bitmap(slots: set[int], count: int) -> np.ndarray[Any, np.dtype[np.uint64]]:
    bits = sum(1 << slot for slot in slots)
    return np.frombuffer(bits.to_bytes(-(-count // 64) * 8, "little"), np.uint64)


@settings(deadline=None)
@given(st.lists(BATCHES | DELETIONS | st.sampled_from(["publish", "load"]), max_size=30), QUERIES)
def test_word_index_answers_for_the_visible_slots_of_every_view(actions: list[Any], query: str) -> None:
    """As a shard does it: a slot that a living view shows is not written again."""
    index = WordIndex(None)
    texts: dict[int, str] = {}
    views: list[tuple[Words, dict[int, str]]] = []
    for action in actions:
        if action == "publish":
            index.tidy(bitmap(set(texts), SLOTS), SLOTS, len(texts))
            views.append((index.view(SLOTS), dict(texts)))
        elif isinstance(action, set):
            texts = {slot: text for slot, text in texts.items() if slot not in action}
        elif action == "load":
            index._RUN_BYTES = 0 if index._RUN_BYTES else 1 << 20
        else:
            shown = {slot for _, texts_then in views for slot in texts_then}
            batch = {slot: text for slot, text in action.items() if slot not in shown}
            put(index, batch)
            texts |= {slot: text or "" for slot, text in batch.items()}
        if len(views) > 2:  # the last reader of the oldest leaves
            views.pop(0)
        for view, texts_then in views:
            assert found(view, query) & texts_then.keys() == expected(texts_then, query)
    index.wait()
    for view, texts_then in views:
        by_slot = words_by_slot(view)
        assert {slot: by_slot[slot] for slot in texts_then} == {s: indexed_words(t) for s, t in texts_then.items()}
        assert found(view, query) & texts_then.keys() == expected(texts_then, query)


def test_word_index_takes_no_more_than_a_few_times_the_disk_of_its_texts(tmp_path: Path) -> None:
    index = WordIndex(tmp_path)
    sizes, runs = [], []
    for step in range(200):
        put(index, {slot: f"{step} {slot} jacke" for slot in range(step % 2 * 100, step % 2 * 100 + 100)})
        every = bitmap(set(range(step % 2 * 100, step % 2 * 100 + 100)), 200)
        index.tidy(every, 200, 100)
        view = index.view(200)
        index.wait()
        sizes.append(index.disk_bytes)
        runs.append(len(view.runs))
    assert max(sizes[20:]) <= 4 * max(sizes[:20])
    assert max(runs) <= 8
    assert expected({150: "199 150 jacke"}, "199 150") <= found(view, "199 150 jack")
    assert list(tmp_path.iterdir()) == []
    assert index.held_bytes < 1 << 20


def test_word_index_shows_a_merge_to_the_latest_view_without_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(WordIndex, "_MAX_LOADED_RUNS", 1000)  # so that nothing is merged before `tidy`
    index = WordIndex(None)
    for step in range(40):
        put(index, {step * 5 + at: f"word{at} step{step}" for at in range(5)})
        view = index.view(200)
    before = len(view.runs)
    index.tidy(None, 200, 200)
    latest = index.view(200)
    index.wait()
    assert len(latest.runs) < before
    for each in (view, latest):
        assert found(each, "word3") == set(range(3, 200, 5))
        assert found(each, "step7 word") == set(range(35, 40))
        assert found(each, "step70") == set()


def test_word_index_counts_what_a_filter_would_read() -> None:
    index = WordIndex(None)
    put(index, {slot: "rot jacke" if slot % 2 else "rot" for slot in range(100)})
    view = index.view(100)
    assert view.cost(["rot"]) == 200
    assert view.cost(["rot", "ja"]) == 250
    assert view.cost(["blau"]) == 100
    assert WordIndex(None).view(0).cost(["rot"]) == 0


def test_word_index_stops_where_the_check_raises() -> None:
    index = WordIndex(None)
    put(index, dict.fromkeys(range(100), "rot jacke"))
    view = index.view(100)
    calls = 0

    def check() -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise TimeoutError

    with pytest.raises(TimeoutError):
        view.matching(["rot", "jacke"], check)
    assert calls == 2


def test_word_index_says_nothing_of_slots_beyond_the_view() -> None:
    index = WordIndex(None)
    put(index, dict.fromkeys(range(100), "rot"))
    assert found(index.view(70), "rot") == set(range(70))
    assert found(index.view(64), "rot") == set(range(64))
    assert len(index.view(0).matching(["rot"])) == 0
    assert len(index.view(1000).matching(["rot"])) == 16


def test_word_index_takes_a_part_of_a_column_of_any_text_type() -> None:
    index = WordIndex(None)
    for kind in (pa.string(), pa.large_string()):
        column = pa.array(["no", "eins", None, "größe", "no"], kind).slice(1, 3)
        index.put(np.array([4, 2, 9]), column)
        index.put(np.empty(0, np.int64), column.slice(0, 0))
        assert words_by_slot(index.view(10)) == {4: {b"eins"}, 2: set(), 9: {"grösse".encode()}}


def test_word_index_keeps_what_it_has_while_the_disk_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    index = WordIndex(None)
    index._RUN_BYTES = 0
    put(index, dict.fromkeys(range(10), "eins"))

    def full(*args: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(os, "posix_fallocate", full)
        for _ in range(3):
            with pytest.raises(OSError, match="No space"):
                put(index, {20: "zwei"})
            index.tidy(None, 10, 10)
            assert found(index.view(30), "eins") == set(range(10))
            assert found(index.view(30), "zwei") <= {20}
            index.wait()
        held = index.held_bytes
        with pytest.raises(OSError, match="No space"):
            put(index, {21: "drei " * 10_000})
        assert index.held_bytes == held
    put(index, {20: "drei"})
    assert found(index.view(30), "eins") == set(range(10))
    assert found(index.view(30), "drei") == {20}
    assert found(index.view(30), "zwei") == set()


def test_word_index_stays_as_it_is_when_a_merge_finds_no_room(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    index = WordIndex(None)
    for step in range(6):
        put(index, {step * 10 + at: f"step{step}" for at in range(10)})
        index.view(60)

    def full(*args: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(os, "posix_fallocate", full)
        index.tidy(None, 60, 60)
        index.wait()
    assert "cannot merge words" in caplog.text
    view = index.view(60)
    assert found(view, "step3") == set(range(30, 40))
    index.tidy(None, 60, 60)
    view = index.view(60)
    index.wait()
    assert len(view.runs) <= 2
    assert found(view, "step3") == set(range(30, 40))
