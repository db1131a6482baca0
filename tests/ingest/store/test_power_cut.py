"""A power cut at any moment: every acknowledged row is there, the bucket opens, and it takes the next commit."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from unittest import mock

import pytest
from support.power_cut import Recording, record
from support.store_oracle import raise_
from support.stores import new_collection, rows_of, titles, write_spec

from lookalike import storage
from lookalike.ingest.store import compaction
from lookalike.ingest.store.alias import collections
from lookalike.ingest.store.collection import Collection
from lookalike.storage import Location

State = dict[str, str]


def check_every_cut(recording: Recording, states: list[State], scratch: Path) -> int:
    """Restore whatever could be left after each step; ``states`` are what was there after each acknowledgement."""
    seen = set()
    shown = set()
    for number, cut in enumerate(recording.cuts()):
        known = (len(cut.notes), frozenset(cut.tree.items()))
        if known in seen:
            continue
        seen.add(known)
        folder = scratch / str(number)
        cut.restore(folder)
        collection = Collection.open(Location.parse(folder), "default")
        found = titles(collection)
        acknowledged = len(cut.notes)
        assert found in states[acknowledged : acknowledged + 2], cut
        shown.add(acknowledged + (found != states[acknowledged]))
        assert {i: row["title"] for i, row in collection.find(["a", "b", "c"], ["title"]).items()} == found
        if number % 5 == 0:
            collection.put(rows_of(["next"], "next"))
            collection.compact()
            assert titles(collection) == found | {"next": "next"}
        else:
            assert collection.count() == len(found)
    assert shown == set(range(len(states)))
    return len(seen)


def test_commits_survive_a_power_cut_at_any_moment(tmp_path: Path) -> None:
    root = tmp_path / "store"
    collection = new_collection(root, 1)
    collection.put(rows_of(["a", "b"], "old"))
    states = [titles(collection)]
    changes: list[Callable[[], object]] = [
        lambda: collection.put(rows_of(["b", "c"], "new")),
        lambda: collection.delete(["a", "c"]),
        lambda: collection.put(rows_of(["a"], "again")),
    ]
    with record(root) as recording:
        for number, change in enumerate(changes):
            change()
            recording.note(str(number))
            states.append(titles(collection))
    assert check_every_cut(recording, states, tmp_path / "cuts") > 30


def test_merges_survive_a_power_cut_at_any_moment(tmp_path: Path) -> None:
    """Also one after the replaced segments and photos went to the trash."""
    root = tmp_path / "store"
    collection = new_collection(root, 1)
    kept = {}
    for title in ("0", "1", "2"):
        photo = collection.add_photo("a", title.encode(), ".jpg")
        collection.put(rows_of(["a", title], title, photos=[photo, ""]))
        kept[title] = photo
    state = titles(collection)
    with (
        mock.patch.object(compaction, "FACTOR", 3),
        mock.patch.object(compaction, "RETIRED_FOR", timedelta(0)),
        record(root) as recording,
    ):
        assert collection.compact() == 1
        assert collection.compact() == 0
    assert check_every_cut_of_a_merge(recording, state, kept["2"], tmp_path / "cuts") > 20
    assert storage.list_names(collection.folder / "photos" / kept["2"].split("/")[1]) == [kept["2"].split("/")[2]]
    assert len(storage.list_tree(collection.folder / "trash")) == 5


def check_every_cut_of_a_merge(recording: Recording, state: State, photo: str, scratch: Path) -> int:
    count = 0
    for count, cut in enumerate(recording.cuts(), 1):
        folder = scratch / str(count)
        cut.restore(folder)
        collection = Collection.open(Location.parse(folder), "default")
        assert titles(collection) == state, cut
        assert collection.find(["a"])["a"]["photo"] == photo
        assert storage.read(collection.folder / photo) == b"2"
        if count % 5 == 0:
            with mock.patch.object(compaction, "FACTOR", 3), mock.patch.object(compaction, "RETIRED_FOR", timedelta(0)):
                collection.put(rows_of(["b"], "next"))
                collection.compact()
                collection.compact()
            assert titles(collection) == state | {"b": "next"}
    return count


def test_a_collection_made_before_a_power_cut_is_whole_or_not_there(tmp_path: Path) -> None:
    model = Location.parse(write_spec(tmp_path / "model"))
    root = tmp_path / "store"
    root.mkdir()
    with record(root) as recording:
        Collection.create(Location.parse(root), "default", model, 2).put(rows_of(["a", "b", "c"], "first"))
        recording.note("acknowledged")
    made = 0
    for number, cut in enumerate(recording.cuts()):
        folder = tmp_path / f"cut {number}"
        cut.restore(folder)
        here = Location.parse(folder)
        if collections(here):
            made += 1
            found = titles(Collection.open(here, "default"))
            assert found == dict.fromkeys("abc", "first") if cut.notes else set(found) <= set("abc"), cut
        else:
            assert not cut.notes
        if number % 10 == 0:
            Collection.create(here, "default", model, 2).put(rows_of(["d"], "next"))
            assert titles(Collection.open(here, "default"))["d"] == "next"
    assert made > 10


def test_an_upload_named_by_an_acknowledged_row_survives_a_power_cut(tmp_path: Path) -> None:
    root = tmp_path / "store"
    collection = new_collection(root, 1)
    with record(root) as recording:
        photo = collection.add_photo("a", b"photo", ".jpg")
        collection.put(rows_of(["a"], photos=[photo]))
    named = 0
    for number, cut in enumerate(recording.cuts()):
        cut.restore(tmp_path / "cuts" / str(number))
        again = Collection.open(Location.parse(tmp_path / "cuts" / str(number)), "default")
        bucket = again.buckets[0]
        for batch in bucket.changes(bucket.head(), 0, ("photo",), raise_):
            named += 1
            assert [storage.read(again.folder / name) for name in batch["photo"].to_pylist()] == [b"photo"], cut
    assert named


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is checked here was synced or not by the recorder's account: no need to wait for the disk again."""
    monkeypatch.setattr("os.fsync", lambda _: None)
