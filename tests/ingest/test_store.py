"""What a store refuses, and what it says then."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from support.stores import rows_of, titles, write_spec

from lookalike.errors import StoreMismatch, StoreUnavailable
from lookalike.ingest.store.collection import Store, collections


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.create(tmp_path / "store", "default", write_spec(tmp_path / "model"), buckets=2)


def test_later_row_of_one_id_wins(store: Store) -> None:
    store.upsert(rows_of(["a", "b", "a"], tag="x").set_column(4, "title", [["first", "b", "last"]]))
    assert titles(store) == {"a": "last", "b": "b"}


def test_create_again_opens_what_is_there(store: Store, tmp_path: Path) -> None:
    store.upsert(rows_of(["a"], tag="kept"))
    again = Store.create(tmp_path / "store", "default", tmp_path / "model", buckets=7)
    assert titles(again) == {"a": "kept"}
    assert again.manifest.buckets == 2


def test_head_changes_with_every_commit(store: Store) -> None:
    heads = [store.head()]
    for change in (lambda: store.upsert(rows_of(["a"])), lambda: store.delete(["a"]), store.compact):
        change()
        heads.append(store.head())
    assert len(set(heads)) == len(heads)
    store.delete(["not there"])
    assert store.head() == heads[-1]


def test_another_model_is_another_version_and_served_once_it_is_published(store: Store, tmp_path: Path) -> None:
    store.upsert(rows_of(["a"], tag="of the first"))
    other = Store.create(tmp_path / "store", "default", write_spec(tmp_path / "other", arrays="1" * 64))
    assert other.version != store.version
    assert Store.open(tmp_path / "store", "default").version == store.version
    other.publish()
    assert Store.open(tmp_path / "store", "default").version == other.version
    assert titles(Store.open(tmp_path / "store", "default", store.version)) == {"a": "of the first"}


def test_unnamed_photos_are_swept_when_they_are_old(store: Store) -> None:
    named, unnamed, young = (store.add_photo("a", b"photo", ".jpg") for _ in range(3))
    store.upsert(rows_of(["a"]).set_column(12, "photo", [[named]]))
    for location in (named, unnamed):
        os.utime(location, (0, 0))
    assert store.sweep_photos() == 1
    assert [Path(p).exists() for p in (named, unnamed, young)] == [True, False, True]


def test_a_model_folder_exchanged_behind_our_back_is_refused(store: Store, tmp_path: Path) -> None:
    write_spec(store.model_folder, arrays="1" * 64)
    with pytest.raises(StoreMismatch, match="default"):
        Store.open(tmp_path / "store", "default")


def test_unknown_collection_names_those_there_are(store: Store, tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match=r"no collection 'shoes'.*default"):
        Store.open(tmp_path / "store", "shoes")
    assert collections(tmp_path / "store") == ["default"]


@pytest.mark.parametrize("name", ["", "../x", "A", "a/b", "-x", "x" * 64])
def test_collection_names_cannot_leave_the_store(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="a collection is named"):
        Store.open(tmp_path, name)


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreUnavailable, match="file"):
        Store.create(tmp_path / "file" / "store", "default", write_spec(tmp_path / "model"))


def test_half_made_collection_is_not_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError("the machine went away")

    monkeypatch.setattr("lookalike.ingest.store.bucket.Bucket.create", fail)
    with pytest.raises(StoreUnavailable, match="went away"):
        Store.create(tmp_path / "store", "default", write_spec(tmp_path / "model"))
    assert collections(tmp_path / "store") == []
    assert not any((tmp_path / "store" / "default").iterdir())


def test_a_full_disk_is_said_and_nothing_is_lost(tmp_path: Path) -> None:
    """A file system of 2 MB fills up: the write fails with its reason, what was there is there, later writes work."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", disk], check=False)
    if mounted.returncode:
        pytest.skip("mounting a small file system needs root")
    try:
        store = Store.create(disk / "store", "default", write_spec(tmp_path / "model"), buckets=1)
        store.upsert(rows_of(["a"], tag="kept"))
        filler = disk / "filler"
        with pytest.raises(OSError, match="No space"):
            filler.write_bytes(os.urandom(2**21))
        with pytest.raises(StoreUnavailable, match="disk is full"):
            store.upsert(rows_of([str(n) for n in range(2000)], tag="new"))
        assert titles(store) == {"a": "kept"}
        filler.unlink()
        store.upsert(rows_of(["b"], tag="later"))
        assert titles(store) == {"a": "kept", "b": "later"}
    finally:
        subprocess.run(["umount", disk], check=True)
