"""What a collection does besides holding rows, what it refuses, and what it says then."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from unittest import mock

import pytest
from support.stores import new_collection, rows_of, titles, write_spec

from lookalike import storage
from lookalike.errors import DiskFull, StorageUnavailable, StoreMismatch, StoreUnavailable
from lookalike.ingest.store.alias import collections, versions
from lookalike.ingest.store.bucket import Bucket
from lookalike.ingest.store.collection import Collection
from lookalike.storage import Location


@pytest.fixture
def collection(root: Location) -> Collection:
    return new_collection(root, 2)


def create(root: Location, folder: Path, arrays: str = "0" * 64, buckets: int = 2) -> Collection:
    return Collection.create(root, "default", Location.parse(write_spec(folder / arrays[:4], arrays=arrays)), buckets)


def test_collection_created_again_is_opened_as_it_is(root: Location, tmp_path: Path) -> None:
    create(root, tmp_path).put(rows_of(["a"], tag="kept"))
    again = create(root, tmp_path, buckets=7)
    assert titles(again) == {"a": "kept"}
    assert again.manifest.buckets == 2


def test_token_changes_with_every_commit_and_with_nothing_else(collection: Collection) -> None:
    tokens = [storage.read(collection.token_location)]
    for change in (lambda: collection.put(rows_of(["a", "b"])), lambda: collection.delete(["a"])):
        change()
        tokens.append(storage.read(collection.token_location))
    assert len(set(tokens)) == 3
    collection.delete(["not there"])
    collection.put(rows_of([]))
    collection.compact()
    assert storage.read(collection.token_location) == tokens[-1]


def test_token_that_cannot_be_written_makes_no_commit_fail(collection: Collection) -> None:
    with mock.patch.object(storage, "write", side_effect=StorageUnavailable("away")):
        assert collection.put(rows_of(["a"], "stored")).rows == 1
    assert titles(collection) == {"a": "stored"}


def test_another_model_is_another_version_and_served_once_it_is_published(root: Location, tmp_path: Path) -> None:
    first = create(root, tmp_path)
    first.put(rows_of(["a"], tag="of the first"))
    other = create(root, tmp_path, arrays="1" * 64)
    assert other.version != first.version
    assert Collection.open(root, "default").version == first.version
    other.publish()
    assert Collection.open(root, "default").version == other.version
    assert titles(Collection.open(root, "default", first.version)) == {"a": "of the first"}
    assert set(versions(root, "default")) == {first.version, other.version}


def test_a_model_exchanged_behind_our_back_is_refused(collection: Collection, tmp_path: Path) -> None:
    other = write_spec(tmp_path / "other", arrays="1" * 64)
    storage.write(collection.model_location / "model.json", (other / "model.json").read_bytes())
    with pytest.raises(StoreMismatch, match="default"):
        Collection.open(collection.root, "default")


def test_unknown_collection_names_those_there_are(collection: Collection) -> None:
    with pytest.raises(StoreUnavailable, match=r"no collection 'shoes'.*default"):
        Collection.open(collection.root, "shoes")
    assert collections(collection.root) == ["default"]


@pytest.mark.parametrize("name", ["", "../x", "A", "a/b", "-x", "x" * 64])
def test_collection_names_cannot_leave_the_store(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="a collection is named"):
        Collection.open(Location.parse(tmp_path), name)


def test_a_location_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageUnavailable, match="file"):
        new_collection(tmp_path / "file/store")


def test_half_made_collection_is_not_seen_and_is_made_whole_the_next_time(tmp_path: Path) -> None:
    with (
        mock.patch.object(Bucket, "create", side_effect=StorageUnavailable("the machine went away")),
        pytest.raises(StorageUnavailable, match="went away"),
    ):
        new_collection(tmp_path)
    assert collections(Location.parse(tmp_path)) == []
    assert versions(Location.parse(tmp_path), "default") == []
    new_collection(tmp_path).put(rows_of(["a"]))
    assert collections(Location.parse(tmp_path)) == ["default"]


def test_a_bucket_that_fails_keeps_no_other_from_committing(collection: Collection) -> None:
    ids = [f"image {n}" for n in range(20)]
    before = storage.read(collection.token_location)
    with (
        mock.patch.object(collection.buckets[0], "commit", side_effect=StorageUnavailable("away")),
        pytest.raises(StorageUnavailable, match="away"),
    ):
        collection.put(rows_of(ids))
    assert 0 < len(titles(collection)) < len(ids)
    assert storage.read(collection.token_location) != before
    collection.put(rows_of(ids))
    assert set(titles(collection)) == set(ids)


def test_check_writable_leaves_nothing_behind(collection: Collection) -> None:
    before = storage.list_tree(collection.root)
    collection.check_writable()
    assert storage.list_tree(collection.root) == before


def test_a_full_disk_is_said_and_nothing_is_lost(tmp_path: Path) -> None:
    """A file system of 2 MB fills up: the write fails with its reason, what was there is there, later writes work."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", disk], check=False)
    if mounted.returncode:
        pytest.skip("mounting a small file system needs root")
    try:
        collection = new_collection(disk / "store", 1)
        collection.put(rows_of(["a"], tag="kept"))
        filler = disk / "filler"
        with pytest.raises(OSError, match="No space"):
            filler.write_bytes(os.urandom(2**21))
        with pytest.raises(DiskFull, match="make room"):
            collection.put(rows_of([str(n) for n in range(2000)], tag="new"))
        assert titles(collection) == {"a": "kept"}
        filler.unlink()
        collection.put(rows_of(["b"], tag="later"))
        assert titles(collection) == {"a": "kept", "b": "later"}
    finally:
        subprocess.run(["umount", disk], check=True)
