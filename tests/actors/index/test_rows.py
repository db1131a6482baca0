"""Rows against a dict of rows: each snapshot shows exactly the state that was published, for as long as it is read."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.rows import (
    COMPONENT_WORDS,
    EPOCH,
    LONG_WORDS,
    SHORT_WORDS,
    Shown,
    batch_of,
    expected_of,
    make_row,
    make_tombstone,
    shown_by,
)

from lookalike.actors.index.rows import Rows, Snapshot
from lookalike.actors.index.word_index import WordIndex
from lookalike.ingest.attributes import Held, names_held
from lookalike.ingest.store.keys import key_of, keys_of
from lookalike.kernels import hamming

IDS = ["a", "b", "7/1", "7/2", "größe/1", "x" * 300, "y" * 13, "z" * 14, "220232453/1", "220232453/10"]
TEXTS = st.sampled_from([None, "", "red", "Rot", "größe", "long " * 30])
MOMENTS = st.none() | st.integers(-(10**10), 10**11).map(lambda seconds: EPOCH + timedelta(seconds=seconds))
PLACES = st.none() | st.tuples(st.floats(-90, 90), st.floats(-180, 180))


def make_rows() -> Rows:
    return Rows(SHORT_WORDS, LONG_WORDS, COMPONENT_WORDS)


@st.composite
def rows_of_batch(draw: st.DrawFn) -> dict[str, Any]:
    image_id = draw(st.sampled_from(IDS))
    kind = draw(st.sampled_from(["live"] * 6 + ["deleted"] * 3 + ["bad"]))
    if kind == "deleted":
        return make_tombstone(image_id)
    lat, lon = draw(PLACES) or (None, None)
    listing = draw(st.sampled_from([None, "", image_id, image_id[:1], image_id[:-1], "another", "größer" * 4]))
    row = make_row(
        image_id,
        draw(st.integers(0, 50)),
        listing_id=listing,
        **{name: draw(TEXTS) for name in ("group", "colour", "brand", "title", "description")},
        price=draw(st.none() | st.floats(0, 1e15)),
        lat=lat,
        lon=lon,
        created_at=draw(MOMENTS),
    )
    if kind == "bad":
        row |= draw(st.sampled_from([{"short": b"short"}, {"long": None}, {"image_id": ""}, {"image_id": None}]))
    return row


BATCHES = st.lists(rows_of_batch(), max_size=8)
ACTIONS = st.lists(BATCHES | st.sampled_from(["publish", "enter", "leave first", "leave last"]), max_size=25)


def is_good(row: dict[str, Any]) -> bool:
    codes = len(row["short"] or b"") == 8 * SHORT_WORDS and len(row["long"] or b"") == 8 * LONG_WORDS
    return row["deleted"] or (codes and bool(row["image_id"]))


def apply_to(state: dict[int, Shown], batch: list[dict[str, Any]]) -> dict[int, Shown]:
    state = dict(state)
    for row in filter(is_good, batch):
        if row["deleted"]:
            state.pop(row["key"], None)
        else:
            state[row["key"]] = expected_of(row)
    return state


def check(snapshot: Snapshot, state: dict[int, Shown]) -> None:
    assert shown_by(snapshot) == state
    wanted = keys_of([*IDS, "nobody"])
    rows = snapshot.find(wanted)
    assert (rows >= 0).tolist() == [key in state for key in wanted.tolist()]
    assert snapshot.codes.keys[rows[rows >= 0]].tolist() == [key for key in wanted.tolist() if key in state]
    visible = {row for block in snapshot.visible_rows() for row in block.tolist()}
    assert visible >= set(rows[rows >= 0].tolist())


@settings(deadline=None)
@given(ACTIONS)
def test_rows_show_each_reader_the_state_that_was_published(actions: list[Any]) -> None:
    rows = make_rows()
    pending: dict[int, Shown] = {}
    published = pending
    bad = 0
    readers: list[tuple[ExitStack, Snapshot, dict[int, Shown]]] = []
    for action in actions:
        if action == "publish":
            rows.publish()
            published = pending
        elif action == "enter":
            stack = ExitStack()
            readers.append((stack, stack.enter_context(rows.reading()), published))
        elif action in ("leave first", "leave last"):
            if readers:
                readers.pop(0 if action == "leave first" else -1)[0].close()
        else:
            rows.apply(batch_of(action))
            pending = apply_to(pending, action)
            bad += sum(not is_good(row) for row in action)
        for _, snapshot, state in readers:
            check(snapshot, state)
        with rows.reading() as snapshot:
            check(snapshot, published)
    assert rows.bad_rows == bad


@settings(deadline=None)
@given(st.lists(BATCHES | st.just("publish"), max_size=20))
def test_rows_tell_which_slots_were_written_since_an_earlier_snapshot(actions: list[Any]) -> None:
    rows = make_rows()
    seen: list[tuple[Snapshot, dict[int, Shown]]] = []
    for action in actions:
        if action != "publish":
            rows.apply(batch_of(action))
            continue
        rows.publish()
        with rows.reading() as snapshot:
            shown = {int(snapshot.find(np.array([key], np.uint64))[0]): row for key, row in shown_by(snapshot).items()}
            for earlier, before in seen:
                written = snapshot.written_since(earlier.generation)
                assert written is not None
                assert written.tolist() == sorted(set(written.tolist()))
                kept = shown.keys() - set(written.tolist())
                assert {slot: shown[slot] for slot in kept} == {slot: before[slot] for slot in kept}
            seen.append((snapshot, shown))


@settings(deadline=None)
@given(st.lists(rows_of_batch(), max_size=30), st.lists(st.integers(0, 30), max_size=4))
def test_rows_do_not_depend_on_how_they_are_cut_into_batches(batch: list[dict[str, Any]], cuts: list[int]) -> None:
    rows = make_rows()
    whole = batch_of(batch)
    edges = sorted({0, len(batch), *(min(cut, len(batch)) for cut in cuts)})
    for start, stop in pairwise(edges):
        rows.apply(whole.slice(start, stop - start))
    rows.publish()
    with rows.reading() as snapshot:
        check(snapshot, apply_to({}, batch))


def test_rows_agree_with_the_oracle_at_a_larger_scale(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, size in (("_TAIL_ENTRIES", 100), ("_MIN_GARBAGE", 100)):  # so that runs are written and merged many times
        monkeypatch.setattr(WordIndex, name, size)
    rng = np.random.default_rng(6)
    rows = Rows(SHORT_WORDS, LONG_WORDS, COMPONENT_WORDS, tmp_path)
    ids = [f"{number // 3}/{number}" for number in range(3000)]
    state: dict[int, Shown] = {}
    with ExitStack() as oldest:
        for step in range(24):
            chosen = rng.choice(len(ids), rng.integers(1, 2000)).tolist()
            batch = [
                make_tombstone(ids[number])
                if rng.random() < 0.3
                else make_row(
                    ids[number],
                    step,
                    listing_id=str(number // 3),
                    title=f"{step} {number}",
                    brand=f"{step} {number % 400}",
                )
                for number in chosen
            ]
            rows.apply(batch_of(batch))
            state = apply_to(state, batch)
            if step % 3 == 2:
                rows.publish()
                with rows.reading() as snapshot:
                    assert shown_by(snapshot) == state
            if step == 8:
                first = oldest.enter_context(rows.reading())
                first_state = state
        assert shown_by(first) == first_state
    assert list(tmp_path.iterdir()) == []


def test_rows_hold_as_many_slots_as_rows_under_endless_replacement() -> None:
    rows = make_rows()
    ids = [f"{number:0400}/1" for number in range(500)]  # 0.2 MB, so that what is not used again shows
    for step in range(40):
        rows.apply(batch_of([make_row(image_id, step, title=f"title {step}", listing_id="7") for image_id in ids]))
        rows.publish()
        if step == 9:
            counted = rows.held_bytes
    with rows.reading() as snapshot:
        assert snapshot.rows_visible == 500
        assert len(snapshot) <= 1000
    words = names_held(Held.WORDS)
    held = rows.held_bytes
    assert {part: size for part, size in held.items() if part not in words} == {
        part: size for part, size in counted.items() if part not in words
    }
    assert sum(held[name] for name in words) < 2 * len(words) * WordIndex._TAIL_BYTES  # what came last is in memory


@pytest.mark.parametrize("distinct", [250, 300, 70_000])
def test_rows_take_any_number_of_distinct_categories(distinct: int) -> None:
    rows = make_rows()
    row = make_row("1", colour="first")
    rows.apply(batch_of([row]))
    rows.publish()
    with rows.reading() as before:
        many = [make_row(str(number), brand=f"brand {number}", colour="first") for number in range(2, distinct + 2)]
        rows.apply(batch_of(many))
        rows.publish()
        assert shown_by(before) == {key_of("1"): expected_of(row)}
        assert before.categories("brand").numbers_of([f"brand {number}" for number in range(100)]).sum() == 0
    with rows.reading() as snapshot:
        brands = snapshot.categories("brand")
        wanted = [f"brand {number}" for number in range(2, distinct + 2, 7)]
        found = np.flatnonzero(brands.numbers_of(wanted)[brands.numbers])
        assert brands.take(found) == [many[int(image_id) - 2]["brand"] for image_id in snapshot.image_ids(found)]
        assert sorted(brands.take(found)) == sorted(wanted)
        colours = snapshot.categories("colour")
        assert colours.numbers_of(["first"])[colours.numbers].all()


def test_rows_take_dictionary_columns_and_large_types_as_plain_ones() -> None:
    given = [make_row("1", brand="Nike", title="shoe"), make_row("2"), make_row("3", brand="Nike", listing_id="9")]
    batch = batch_of(given)
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        if pa.types.is_string(column.type) and name not in ("image_id", "listing_id", *names_held(Held.WORDS)):
            batch = batch.set_column(batch.schema.get_field_index(name), name, column.dictionary_encode())
        elif pa.types.is_string(column.type):
            batch = batch.set_column(batch.schema.get_field_index(name), name, column.cast(pa.large_string()))
        elif pa.types.is_binary(column.type):
            batch = batch.set_column(batch.schema.get_field_index(name), name, column.cast(pa.large_binary()))
    rows = make_rows()
    rows.apply(batch)
    rows.publish()
    with rows.reading() as snapshot:
        check(snapshot, apply_to({}, given))


def test_rows_are_as_before_when_a_batch_cannot_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = make_rows()
    before = [make_row("1", title="one"), make_row("2", title="two")]
    rows.apply(batch_of(before))
    rows.publish()
    batch = [make_row("2", 7, title="other"), make_row("3", 8), make_tombstone("1")]

    def full(*args: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(WordIndex, "_RUN_BYTES", 0)  # so that each batch is written
    for cut in (
        "lookalike.actors.index.scratch.os.posix_fallocate",
        "lookalike.actors.index.key_index.KeyIndex.put",
    ):
        with monkeypatch.context() as broken:
            broken.setattr(cut, full)
            with pytest.raises(OSError, match="No space"):
                rows.apply(batch_of(batch))
        rows.publish()
        with rows.reading() as snapshot:
            check(snapshot, apply_to({}, before))
    rows.apply(batch_of(batch))
    rows.publish()
    with rows.reading() as snapshot:
        check(snapshot, apply_to(apply_to({}, before), batch))
        assert len(snapshot) == 4  # two of the first batch, and the two that the failed attempts had taken


def test_rows_that_no_reader_can_hold_are_bad_and_leave_others_alone() -> None:
    rows = make_rows()
    good = make_row("1")
    bad = [make_row("i" * 40_000), make_row("3", listing_id="l" * 40_000), make_row("4", key=None)]
    rows.apply(batch_of([good, *bad]))
    rows.publish()
    with rows.reading() as snapshot:
        check(snapshot, apply_to({}, [good]))
    assert rows.bad_rows == 3


def test_rows_take_numbers_that_are_no_place_as_no_place() -> None:
    rows = make_rows()
    rows.apply(batch_of([make_row("1", lat=1e300, lon=float("inf")), make_row("2", lat=float("nan"), lon=180.0)]))
    rows.apply(batch_of([make_row("3", created_at=datetime.max.replace(tzinfo=EPOCH.tzinfo))]))
    rows.publish()
    with rows.reading() as snapshot:
        shown = shown_by(snapshot)
    assert shown[key_of("1")] == expected_of(make_row("1"))
    assert shown[key_of("2")] == expected_of(make_row("2", lon=180.0))
    assert shown[key_of("3")]["created_at"] == 253402300799999999


def test_rows_let_threads_read_while_a_writer_applies(monkeypatch: pytest.MonkeyPatch) -> None:
    """All rows of a generation have its price, title and codes; a reader must never see two generations at once."""
    monkeypatch.setattr(WordIndex, "_TAIL_ENTRIES", 100)  # so that runs are merged meanwhile
    ids = [f"{number}/1" for number in range(300)]
    rows = make_rows()
    done = threading.Event()
    errors: list[BaseException] = []

    def batch(generation: int) -> pa.RecordBatch:
        kept = [image_id for number, image_id in enumerate(ids) if (number + generation) % 5]
        gone = [image_id for number, image_id in enumerate(ids) if not (number + generation) % 5]
        fields: dict[str, Any] = {"price": float(generation), "title": f"of {generation}a", "listing_id": "1"}
        live = [make_row(image_id, generation, **fields) for image_id in kept]
        return batch_of([*live, *map(make_tombstone, gone)])

    def read() -> None:
        keys = keys_of(ids)
        try:
            while not done.is_set():
                with rows.reading() as snapshot:
                    found = snapshot.find(keys)
                    held = found >= 0
                    (generation,) = set(snapshot.numbers("price")[found[held]].tolist())
                    visible = np.concatenate([*snapshot.visible_rows()])
                    gone = (np.arange(len(ids)) + int(generation)) % 5 == 0
                    assert (held == ~gone).all()
                    assert snapshot.image_ids(found[held]) == [ids[number] for number in np.flatnonzero(held)]
                    having = snapshot.words("title").matching([f"{int(generation)}a", "o"])
                    titled = np.unpackbits(having.view(np.uint8), count=len(snapshot), bitorder="little")
                    assert np.flatnonzero(titled[visible]).tolist() == np.flatnonzero(np.isin(visible, found)).tolist()
                    code = np.frombuffer(make_row("1", int(generation))["short"], np.uint64)
                    query = hamming.KernelQuery(code, snapshot.codes.long[found[held][0]], 400, 400, (1, 1))
                    (answer,) = hamming.two_phase([query], snapshot.codes, snapshot.visible)
                    assert not answer.short.any()
                    assert sorted(answer.rows.tolist()) == sorted(found[held].tolist())
        except BaseException as error:  # noqa: BLE001 - whatever a reader meets is for the test to raise
            errors.append(error)

    batches = [batch(generation) for generation in range(1, 41)]
    rows.apply(batches[0])
    rows.publish()
    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    try:
        for each in batches * 2:
            rows.apply(each)
            rows.publish()
    finally:
        done.set()
        for reader in readers:
            reader.join()
    if errors:
        raise errors[0]
