"""Photos: a store that is moved finds them, replaced ones go to the trash, and none that is named is ever lost."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.stores import new_collection, rows_of, write_spec

from lookalike import storage
from lookalike.errors import NotFound, StoreUnavailable
from lookalike.ingest.store import compaction
from lookalike.ingest.store.collection import Collection
from lookalike.ingest.store.photos import Sources
from lookalike.storage import Location


@contextmanager
def merging_at_once() -> Iterator[None]:
    with mock.patch.object(compaction, "FACTOR", 2), mock.patch.object(compaction, "RETIRED_FOR", timedelta(0)):
        yield


def upload(collection: Collection, image_id: str, content: bytes) -> str:
    """Put an image as the writer does."""
    photo = collection.add_photo(image_id, content, ".jpg")
    collection.put(rows_of([image_id], photos=[photo]))
    return photo


def photo_of(collection: Collection, image_id: str) -> bytes:
    photo = collection.find([image_id], ["photo"])[image_id]["photo"]
    root, name = collection.sources.resolve(str(photo))
    return storage.read(root / name)


def uploads(collection: Collection) -> int:
    return len(storage.list_tree(collection.folder / "photos"))


def in_trash(collection: Collection) -> list[bytes]:
    trash = collection.folder / "trash"
    names = [name for name in storage.list_tree(trash) if name.endswith(".jpg")]
    return sorted(storage.read(trash / name) for name in names)


def test_replaced_and_deleted_uploads_go_to_the_trash_with_the_merge(root: Location) -> None:
    collection = new_collection(root, 1)
    for content in (b"1", b"2", b"3"):
        upload(collection, "a", content)
    upload(collection, "b", b"deleted")
    collection.delete(["b"])
    assert (uploads(collection), in_trash(collection)) == (4, [])
    with merging_at_once():
        collection.compact()
    assert photo_of(collection, "a") == b"3"
    assert (uploads(collection), in_trash(collection)) == (1, [b"1", b"2", b"deleted"])


def test_the_same_upload_again_is_never_lost_with_its_old_row(root: Location) -> None:
    """Also when the merge comes between the photo and the row that names it."""
    collection = new_collection(root, 1)
    upload(collection, "a", b"same")
    upload(collection, "a", b"other")
    again = collection.add_photo("a", b"same", ".jpg")
    with merging_at_once():
        collection.compact()
    assert in_trash(collection) == [b"same"]
    collection.put(rows_of(["a"], photos=[again]))
    assert photo_of(collection, "a") == b"same"
    with merging_at_once():
        collection.compact()
    assert photo_of(collection, "a") == b"same"
    assert (uploads(collection), in_trash(collection)) == (1, [b"other", b"same"])


def test_the_same_content_for_two_images_is_two_photos(root: Location) -> None:
    collection = new_collection(root, 1)
    for image_id in ("a", "b"):
        upload(collection, image_id, b"same")
    collection.delete(["a"])
    with merging_at_once():
        collection.compact()
    assert photo_of(collection, "b") == b"same"
    assert (uploads(collection), in_trash(collection)) == (1, [b"same"])


def test_a_photo_that_another_version_names_is_kept(root: Location, tmp_path: Path) -> None:
    first = new_collection(root, 1)
    photo = upload(first, "a", b"shared")
    model = Location.parse(write_spec(tmp_path / "other", arrays="1" * 64))
    second = Collection.create(root, "default", model, 2)
    second.copy_in(rows_of(["a"], photos=[photo]))
    upload(first, "a", b"newer")
    with merging_at_once():
        first.compact()
    assert photo_of(second, "a") == b"shared"
    assert in_trash(first) == []
    second.delete(["a"])
    second.drop_photo("a", photo)
    assert in_trash(first) == [], "a version that is not served drops nothing"
    second.publish()
    second.drop_photo("a", photo)
    assert in_trash(first) == [b"shared"]
    assert photo_of(first, "a") == b"newer"


def test_a_photo_that_a_damaged_part_may_name_is_kept(tmp_path: Path) -> None:
    collection = new_collection(tmp_path, 1)
    photo = upload(collection, "a", b"photo")
    bucket = collection.buckets[0]
    collection.put(rows_of(["a"], photos=[photo]))
    newest = bucket.segment_location(bucket.head().segments[-1].name).path
    content = newest.read_bytes()
    newest.write_bytes(content[: len(content) // 2])
    collection = Collection.open(collection.root, "default")
    collection.drop_photo("a", photo)
    collection.drop_photo("a", photo.replace("-", "-0"))  # not there: no error
    assert in_trash(collection) == []
    newest.write_bytes(content)
    assert photo_of(collection, "a") == b"photo"


def test_photos_are_kept_when_another_version_cannot_be_read(root: Location, tmp_path: Path) -> None:
    first = new_collection(root, 1)
    model = Location.parse(write_spec(tmp_path / "other", arrays="1" * 64))
    second = Collection.create(root, "default", model, 1)
    photo = upload(first, "a", b"photo")
    first.delete(["a"])
    storage.write(second.buckets[0].head_location, b"")
    with merging_at_once():
        first.compact()
    first.drop_photo("a", photo)
    assert (uploads(first), in_trash(first)) == (1, [])


def test_photos_that_are_no_uploads_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "catalogue").mkdir()
    (tmp_path / "catalogue/a.jpg").write_bytes(b"theirs")
    collection = new_collection(tmp_path / "store", 1)
    prefix = collection.sources.add(Location.parse(tmp_path / "catalogue"))
    for photo in (prefix + "a.jpg", "s3://bucket/a.jpg", "https://host/a.jpg", ""):
        collection.put(rows_of(["a"], photos=[photo]))
    collection.delete(["a"])
    with merging_at_once():
        collection.compact()
    assert (tmp_path / "catalogue/a.jpg").read_bytes() == b"theirs"
    assert in_trash(collection) == []


steps = st.lists(
    st.tuples(st.sampled_from(["upload", "delete", "merge"]), st.sampled_from("ab"), st.sampled_from([b"1", b"2"])),
    max_size=20,
)


@settings(max_examples=30, deadline=None)
@given(steps)
def test_every_image_has_its_photo_whatever_was_done(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, str, bytes]]
) -> None:
    collection = new_collection(tmp_path_factory.mktemp("store"), 1)
    expected: dict[str, bytes] = {}
    for step, image_id, content in steps:
        if step == "upload":
            upload(collection, image_id, content)
            expected[image_id] = content
        elif step == "delete":
            collection.delete([image_id])
            expected.pop(image_id, None)
        else:
            with merging_at_once():
                collection.compact()
    assert {image_id: photo_of(collection, image_id) for image_id in expected} == expected
    put = [step for step in steps if step[0] == "upload"]
    assert uploads(collection) + len(in_trash(collection)) == len(put)


# --- moves


@pytest.fixture
def moved_from(tmp_path: Path) -> Path:
    """A store beside its catalogue, and a catalogue elsewhere."""
    here = tmp_path / "here"
    for folder in ("here/shoes", "far"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "1.jpg").write_bytes(folder.encode())
    collection = new_collection(here / "store", 2)
    near = collection.sources.add(Location.parse(here / "shoes"))
    far = collection.sources.add(Location.parse(tmp_path / "far"))
    assert (near, far) == ("catalogue/0/", "catalogue/1/")
    collection.put(rows_of(["near"], photos=[near + "1.jpg"]))
    collection.put(rows_of(["far"], photos=[far + "1.jpg"]))
    for number in range(5):
        upload(collection, f"upload {number}", b"%d" % number)
    return here


def check_uploads(root: Path) -> Collection:
    before = storage.list_tree(Location.parse(root))
    collection = Collection.open(Location.parse(root), "default")
    collection.compact()
    assert storage.list_tree(Location.parse(root)) == before  # nothing is deleted at a start
    assert [photo_of(collection, f"upload {number}") for number in range(5)] == [b"%d" % n for n in range(5)]
    assert collection.count() == 7
    return collection


@pytest.mark.parametrize("move", [shutil.copytree, shutil.move])
def test_a_moved_store_has_its_uploads(moved_from: Path, tmp_path: Path, move: object) -> None:
    assert callable(move)
    move(moved_from / "store", tmp_path / "there/deep/store")
    collection = check_uploads(tmp_path / "there/deep/store")
    # The catalogue is no longer beside it: one line says where it is.
    with pytest.raises(NotFound):
        photo_of(collection, "near")
    sources = tmp_path / "there/deep/store/default/sources.json"
    sources.write_text(sources.read_text().replace("../../shoes", str(moved_from / "shoes")))
    assert photo_of(collection, "near") == b"here/shoes"


@pytest.mark.parametrize("move", [shutil.copytree, shutil.move])
def test_a_store_moved_with_its_catalogue_has_all_photos(moved_from: Path, tmp_path: Path, move: object) -> None:
    assert callable(move)
    move(moved_from, tmp_path / "there")
    collection = check_uploads(tmp_path / "there/store")
    assert photo_of(collection, "near") == b"here/shoes"
    assert photo_of(collection, "far") == b"far"
    assert collection.sources.add(Location.parse(tmp_path / "there/shoes")) == "catalogue/0/"
    upload(collection, "later", b"later")
    assert photo_of(collection, "later") == b"later"


def test_a_store_opens_without_work_that_grows_with_it(tmp_path: Path) -> None:
    """Opening reads the same few files, whatever there is."""
    collection = new_collection(tmp_path, 4)

    def files_read() -> int:
        calls: list[Location] = []
        read, listed = storage.read, storage.list_names

        def counting_read(location: Location, **options: object) -> bytes:
            calls.append(location)
            return read(location, **options)  # type: ignore[arg-type]

        def counting_list(location: Location) -> list[str]:
            calls.append(location)
            return listed(location)

        with mock.patch.object(storage, "read", counting_read), mock.patch.object(storage, "list_names", counting_list):
            Collection.open(Location.parse(tmp_path), "default")
        return len(calls)

    before = files_read()
    for number in range(30):
        upload(collection, f"image {number}", b"photo")
    assert files_read() == before <= 4


# --- sources


@settings(deadline=None, max_examples=30)
@given(st.lists(st.sampled_from(["shoes", "bags/new", "../elsewhere", "Ünïcode 鞋", "a b"]), max_size=8))
def test_sources_number_each_folder_once(tmp_path_factory: pytest.TempPathFactory, names: list[str]) -> None:
    top = tmp_path_factory.mktemp("top")
    sources = Sources(Location.parse(top / "store/default"))
    prefixes: dict[str, str] = {}
    for name in names:
        folder = Location.parse(top / name)
        prefix = sources.add(folder)
        assert prefixes.setdefault(name, prefix) == prefix
        assert sources.resolve(prefix + "deep/1.jpg") == (folder, "deep/1.jpg")
    assert sorted(prefixes.values()) == [f"catalogue/{number}/" for number in range(len(prefixes))]


def test_sources_of_objects_and_addresses_are_written_as_they_are(root: Location) -> None:
    sources = Sources(root / "default")
    prefix = sources.add(Location.parse("s3://bucket/catalogue"))
    assert sources.resolve(f"{prefix}a/1.jpg") == (Location.parse("s3://bucket/catalogue"), "a/1.jpg")
    assert sources.resolve("https://host/a/1.jpg") == (Location.parse("https://host/a"), "1.jpg")
    with pytest.raises(StoreUnavailable, match="names no folder"):
        sources.resolve("catalogue/1/1.jpg")
