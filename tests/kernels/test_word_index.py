"""The word index against dicts of sets: collected, looked up, matched and merged, by each variant."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from lookalike.kernels import word_index
from lookalike.kernels._reference_word_index import postings_of
from lookalike.kernels.word_index import (
    MAX_MERGED,
    MAX_WORD_BYTES,
    VARIANTS,
    Collected,
    Collector,
    Merge,
    Run,
    can_merge,
)

Texts = dict[int, bytes]

SLOTS = 200
WORDS = [b"a", b"ab", b"abcdefgh", b"abcdefghi", b"abcdefghij", b"AB", b"b7", b"7", b"x" * 300, b"x" * 256 + b"y"]
PIECES = ["ü".encode(), "ÜB".encode(), "aü-漢".encode(), "漢".encode() * 100, b"\xff"]
texts = st.lists(st.sampled_from([*WORDS, *PIECES, b" ", b"-", b"\0", b"_"]), max_size=6).map(b" ".join)
slots_and_texts = st.dictionaries(st.integers(0, SLOTS - 1), texts, max_size=12)
variants = pytest.mark.parametrize("variant", VARIANTS)


def fold(pieces: bytes) -> bytes:
    """Lower case, where a dash separates words."""
    return pieces.decode("utf-8", "replace").lower().replace("-", " ").encode()


def words_of(text: bytes) -> set[bytes]:
    pieces = re.findall(rb"[0-9A-Za-z\x80-\xff]+", text)
    return {word[:MAX_WORD_BYTES] for piece in pieces for word in fold(piece).split()}


def run_of(given_texts: Texts, variant: str, sparse: int = 32) -> Run:
    collector = Collector(fold, variant=variant)
    add(collector, list(given_texts.values()))
    slots = np.array(sorted(given_texts), np.uint32)
    entries = np.array([list(given_texts).index(slot) for slot in slots.tolist()], np.uint32)
    return written(collector.prepare(entries, slots, sparse=sparse))


def written(prepared: Collected | Merge) -> Run:
    data = np.full(prepared.max_bytes, 255, np.uint8)
    return Run.of(data[: prepared.write(data)])


def add(collector: Collector, batch: list[bytes]) -> None:
    bounds = np.cumsum([3, *map(len, batch)])
    collector.add(np.frombuffer(b"abc" + b"".join(batch), np.uint8), bounds)


def covered(run: Run) -> list[int]:
    if run.is_sparse:
        return [int(slot) for slot in run.cover]
    return [run.base + slot for slot in slots_of(run.cover)]


def slots_of(bits: NDArray[Any]) -> list[int]:
    return [64 * at + bit for at, word in enumerate(bits.tolist()) for bit in range(64) if word >> bit & 1]


def expected_postings(by_slot: Texts) -> dict[bytes, list[int]]:
    postings: dict[bytes, list[int]] = {}
    for slot in sorted(by_slot):
        for word in words_of(by_slot[slot]):
            postings.setdefault(word, []).append(slot)
    return postings


def check(run: Run, by_slot: Texts) -> None:
    assert covered(run) == sorted(by_slot)
    assert run.slots == len(by_slot)
    assert all(slot < run.end for slot in by_slot)
    postings = postings_of(run.sections)
    assert list(postings) == sorted(postings)
    assert postings == expected_postings(by_slot)


@variants
@pytest.mark.parametrize("sparse", [0, 10**9])
@settings(deadline=None)
@given(by_slot=slots_and_texts)
def test_collector_makes_the_run_of_its_texts(variant: str, sparse: int, by_slot: Texts) -> None:
    check(run_of(by_slot, variant, sparse), by_slot)


@variants
@settings(deadline=None)
@given(batches=st.lists(st.lists(texts, max_size=4), max_size=6), data=st.data())
def test_collector_makes_a_run_of_some_entries_and_keeps_all(
    variant: str, batches: list[list[bytes]], data: st.DataObject
) -> None:
    collector = Collector(fold, variant=variant)
    every: list[bytes] = []
    for batch in batches:
        add(collector, batch)
        every += batch
        assert len(collector) == len(every)
        chosen = data.draw(st.permutations(range(len(every)))) if every else []
        chosen = chosen[: data.draw(st.integers(0, len(chosen)))]
        prepared = collector.prepare(np.array(chosen, np.uint32), np.arange(7, 7 + len(chosen), dtype=np.uint32))
        check(written(prepared), {7 + at: every[entry] for at, entry in enumerate(chosen)})
    collector.clear()
    assert len(collector) == 0
    add(collector, [b"again"])
    check(written(collector.prepare(np.zeros(1, np.uint32), np.zeros(1, np.uint32))), {0: b"again"})


@variants
@settings(deadline=None)
@given(by_slot=slots_and_texts.filter(bool), prefixes=st.lists(st.sampled_from(WORDS + PIECES), min_size=1, max_size=3))
@pytest.mark.parametrize("sparse", [0, 10**9])
def test_run_finds_the_slots_of_each_beginning(
    variant: str, sparse: int, by_slot: Texts, prefixes: list[bytes]
) -> None:
    run = run_of(by_slot, variant, sparse)
    prefixes = [prefix[:MAX_WORD_BYTES] for prefix in prefixes]
    ranges = [run.find(prefix, variant=variant) for prefix in prefixes]
    having = {slot: words_of(text) for slot, text in by_slot.items()}
    met = [{slot for slot in having if any(word.startswith(p) for word in having[slot])} for p in prefixes]
    if run.is_sparse:
        bits, marks = np.full(SLOTS, ~np.uint64(0)), np.zeros(SLOTS, np.uint64)
        run.match(ranges, bits, marks, variant=variant)
        untouched = set(range(64 * SLOTS)) - set(by_slot)
        assert set(slots_of(bits)) == untouched | set.intersection(*met)
        assert not marks.any()
    else:
        for (first, last), slots in zip(ranges, met, strict=True):
            assert {run.base + slot for slot in slots_of(run.select(first, last, variant=variant))} == slots


@variants
@settings(deadline=None)
@given(
    parts=st.lists(st.tuples(slots_and_texts, st.booleans()), min_size=1, max_size=6),
    visible=st.none() | st.integers(0, (1 << SLOTS) - 1),
    slots=st.none() | st.integers(0, SLOTS + 70),
)
def test_merge_keeps_the_newest_entry_of_each_visible_slot(
    variant: str, parts: list[tuple[Texts, bool]], visible: int | None, slots: int | None
) -> None:
    runs = [run_of(by_slot, variant, 10**9 * sparse) for by_slot, sparse in parts]
    expected: Texts = {}
    for by_slot, _ in parts:
        expected |= by_slot
    if visible is not None:
        expected = {slot: text for slot, text in expected.items() if visible >> slot & 1}
    if slots is not None:
        expected = {slot: text for slot, text in expected.items() if slot < slots}
    bits = None if visible is None else np.frombuffer(visible.to_bytes(32, "little"), np.uint64)
    check(written(Merge(runs, bits, slots, variant=variant)), expected)


@variants
def test_merge_brings_many_postings_in_order(variant: str) -> None:
    """So many that each way to sort them is taken, from runs whose slots interleave."""
    rng = np.random.default_rng(4)
    slots = 40_000
    parts: list[Texts] = []
    for number in range(5):
        chosen = np.sort(rng.choice(slots, 4000, replace=False)).tolist()
        parts.append({slot: b"all some%d few%d" % (slot % 9, slot % 900) for slot in chosen if slot % 5 != number})
    runs = [run_of_many(by_slot, variant) for by_slot in parts]
    expected = {slot: text for by_slot in parts for slot, text in by_slot.items()}
    check(written(Merge(runs, variant=variant)), expected)


def run_of_many(by_slot: Texts, variant: str) -> Run:
    collector = Collector(fold, variant=variant)
    add(collector, list(by_slot.values()))
    slots = np.array(list(by_slot), np.uint32)
    return written(collector.prepare(np.arange(len(slots), dtype=np.uint32), slots))


@variants
def test_collector_brings_many_words_in_order(variant: str) -> None:
    rng = np.random.default_rng(5)
    numbers = rng.integers(0, 10**9, 5000).tolist()
    by_slot = {slot: b"number%012d %d" % (number, number) for slot, number in enumerate(numbers)}
    check(run_of_many(by_slot, variant), by_slot)


@variants
def test_word_index_refuses_what_it_cannot_take(variant: str) -> None:
    collector = Collector(fold, variant=variant)
    data = np.frombuffer(b"one two", np.uint8)
    for bounds in ([], [0, 8], [-1, 3], [3, 0, 7]):
        with pytest.raises(ValueError, match="bounds"):
            collector.add(data, np.array(bounds, np.int64))
    with pytest.raises(TypeError, match="bounds"):
        collector.add(data, np.array([0, 7], np.int32))
    collector.add(data, np.array([0, 4, 7]))
    for entries, slots, message in (([0], [0, 1], "entries"), ([2], [0], "entries"), ([0, 1], [1, 1], "ascend")):
        with pytest.raises(ValueError, match=message):
            collector.prepare(np.array(entries, np.uint32), np.array(slots, np.uint32))
    run = written(collector.prepare(np.array([0, 1], np.uint32), np.array([0, 1], np.uint32)))
    assert not can_merge([run] * (MAX_MERGED + 1))
    for runs in ([], [run] * (MAX_MERGED + 1)):
        with pytest.raises(ValueError, match="cannot be merged"):
            Merge(runs, variant=variant)
    with pytest.raises(ValueError, match="bytes"):
        Merge([run], variant=variant).write(np.zeros(8, np.uint8))
    with pytest.raises(ValueError, match="variant"):
        run.find(b"x", variant="other")


@variants
@pytest.mark.parametrize("lines", [b"a\nb", b"", b"a\0"])
def test_collector_refuses_lines_that_are_not_those_of_its_pieces(variant: str, lines: bytes) -> None:
    collector = Collector(lambda _: lines, variant=variant)
    add(collector, ["ü ö ä".encode()])
    with pytest.raises(ValueError, match="3 pieces were folded"):
        collector.prepare(np.zeros(1, np.uint32), np.zeros(1, np.uint32))


@variants
def test_collector_folds_many_pieces_in_parts(variant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(word_index, "_FOLDED_BYTES", 20)
    by_slot = {slot: "ü".encode() * (slot % 15 + 1) + b"%d" % slot for slot in range(100)}
    check(run_of_many(by_slot, variant), by_slot)
