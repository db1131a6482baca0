"""Damaged files: the rest is read and written, errors name the file and say what to do, nothing is deleted."""

from __future__ import annotations

import contextlib
import random
import re
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.stores import new_collection, rows_of, titles

from lookalike import storage
from lookalike.errors import LookalikeError, StorageUnavailable, StoreUnavailable
from lookalike.ingest.store import compaction, segment
from lookalike.ingest.store.alias import collections
from lookalike.ingest.store.bucket import Bucket
from lookalike.ingest.store.collection import Collection
from lookalike.ingest.store.keys import bucket_of, keys_of
from lookalike.ingest.store.rows import SCHEMA
from lookalike.ingest.store.segment import Segment, SegmentDamaged, SegmentMissing, split, write_segment
from lookalike.storage import Location

IDS = [f"image {n}" for n in range(40)]


def remove(path: Path) -> None:
    path.unlink()


def empty(path: Path) -> None:
    path.write_bytes(b"")


def halve(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    for at in range(0, len(content), 7):
        content[at] ^= 4
    path.write_bytes(content)


def fill_with_noise(path: Path) -> None:
    path.write_bytes(random.Random(0).randbytes(path.stat().st_size))


def lengthen(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0" * 100)


DAMAGES = [remove, empty, halve, flip, fill_with_noise, lengthen]
Damage = Callable[[Path], None]


@pytest.fixture
def collection(tmp_path: Path) -> Collection:
    """Two buckets; all images once, and half of them a second time."""
    collection = new_collection(tmp_path / "store", 2)
    collection.put(rows_of(IDS, "first"))
    collection.put(rows_of(IDS[:20], "second"))
    return collection


def path_of_segment(collection: Collection, bucket: int, number: int) -> Path:
    chosen = collection.buckets[bucket]
    return chosen.segment_location(chosen.head().segments[number].name).path


def read_all(collection: Collection) -> tuple[dict[str, str], list[SegmentDamaged]]:
    """What a shard would show, and what it would be told of."""
    errors: list[SegmentDamaged] = []
    found: dict[str, str] = {}
    for bucket in collection.buckets:
        for batch in bucket.changes(bucket.head(), 0, ("image_id", "title"), errors.append):
            found |= dict(zip(batch["image_id"].to_pylist(), batch["title"].to_pylist(), strict=True))
    return found, errors


def in_bucket(collection: Collection, number: int) -> set[str]:
    keys = set(collection.live_keys(number).tolist())
    return {image_id for image_id in IDS if int(keys_of([image_id])[0]) in keys}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_segment_costs_its_rows_and_no_others(collection: Collection, damage: Damage) -> None:
    theirs = in_bucket(collection, 0)
    path = path_of_segment(collection, 0, 1)
    files = set(storage.list_tree(collection.root))
    damage(path)
    again = Collection.open(collection.root, collection.name)
    expected = {i: "second" if i in IDS[:20] and i not in theirs else "first" for i in IDS}

    found, errors = read_all(again)
    assert found == expected
    assert [error.args[0].path for error in errors] == [path]
    assert errors[0].rows == len(theirs & set(IDS[:20]))
    assert re.search(r"copy of the store|written again", str(errors[0]))
    assert {i: row["title"] for i, row in again.find(IDS, ["title"]).items()} == expected
    assert again.find(["unknown"]) == {}
    stored = again.stored(keys_of(IDS))
    assert stored.unreadable.tolist() == [i in theirs for i in IDS]

    unknown = [f"unknown {n}" for n in range(40)]
    lost = next(image_id for image_id in unknown if bucket_of(keys_of([image_id]), 2)[0] == 0)
    with pytest.raises(StoreUnavailable, match=f"whether there is '{lost}' cannot be said"):
        again.row(lost)
    there, _ = again.delete([lost])
    assert there == {lost}
    assert again.row(lost) is None

    assert again.put(rows_of(["new", IDS[0], IDS[39]], "third")).rows == 3
    again.delete([IDS[1]])
    found = {i: str(row["title"]) for i, row in again.find([*IDS, "new"], ["title"]).items()}
    changed = {"new": "third", IDS[0]: "third", IDS[39]: "third"}
    assert found == {i: title for i, title in (expected | changed).items() if i != IDS[1]}
    with pytest.raises(StoreUnavailable, match=re.escape(str(path))):
        again.count()
    assert set(storage.list_tree(collection.root)) >= files - {str(path.relative_to(collection.root.path))}


@pytest.mark.parametrize("damage", DAMAGES)
def test_merges_leave_a_damaged_segment_alone_and_go_on(collection: Collection, damage: Damage) -> None:
    for number in range(20):
        collection.put(rows_of(IDS[:4], f"round {number}"))
    path = path_of_segment(collection, 0, 10)
    damage(path)
    damaged = path.read_bytes() if path.exists() else None
    again = Collection.open(collection.root, collection.name)
    before, _ = read_all(again)
    assert again.compact() >= 3
    names = [info.name for info in again.buckets[0].head().segments]
    assert path.name in names
    assert (path.read_bytes() if path.exists() else None) == damaged
    assert len(names) <= 12
    assert len(again.buckets[1].head().segments) < 10
    assert read_all(again)[0] == before
    assert again.compact() == 0


def test_a_flipped_byte_is_noticed_or_harmless_wherever_it_is(tmp_path: Path) -> None:
    """And never anything but an error that says which file is damaged."""
    with mock.patch.object(segment, "BATCH_ROWS", 5):
        location = Location.parse(tmp_path / "a.seg")
        rows = rows_of(IDS[:10], "title").sort_by("key")
        written = write_segment(location, split(rows))
    whole = location.path.read_bytes()
    keys = rows["key"].to_numpy()
    messages: list[str] = []
    for at in range(len(whole)):
        location.path.write_bytes(whole[:at] + bytes([whole[at] ^ (1 << at % 8)]) + whole[at + 1 :])
        lost = 0
        try:
            opened = Segment(location, written.size_bytes, written.rows)
            found = opened.find(keys, SCHEMA.names)
            lost = len(found.unreadable)
            assert len(found.errors) == (lost > 0)
            assert found.rows.equals(rows.take(pa.array(found.which)))
            for number in range(len(opened)):
                opened.batch(number)
        except SegmentDamaged as error:
            messages.append(str(error))
        assert lost in (0, 5)
    assert all(str(location.path) in message for message in messages)
    assert len(messages) > 10 * 16  # at the least each byte of a code is a part of a row


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_any_bytes_in_the_place_of_a_segment_are_a_damaged_segment(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    location = Location.parse(tmp_path_factory.mktemp("segments") / "a.seg")
    written = write_segment(location, split(rows_of(IDS[:3]).sort_by("key")))
    whole = location.path.read_bytes()
    start = data.draw(st.integers(0, len(whole)))
    noise = data.draw(st.binary(max_size=300))
    location.path.write_bytes((whole[:start] + noise + whole[start + len(noise) :])[: len(whole)])
    try:
        opened = Segment(location, written.size_bytes, written.rows)
        opened.find(keys_of(IDS), SCHEMA.names)
        for number in range(len(opened)):
            opened.batch(number)
            opened.keys(number)
    except SegmentDamaged:
        pass


def test_a_segment_cut_short_while_it_is_open_is_damaged(tmp_path: Path) -> None:
    location = Location.parse(tmp_path / "a.seg")
    ids = [f"image {n}" for n in range(3000)]
    written = write_segment(location, split(rows_of(ids).sort_by("key")))
    opened = Segment(location, written.size_bytes, written.rows)
    with location.path.open("r+b") as file:
        file.truncate(1000)
    with pytest.raises(SegmentDamaged, match="too short"):
        opened.batch(1)
    with pytest.raises(SegmentDamaged, match=r"is damaged: 1,000 of"):
        Segment(location, written.size_bytes, written.rows)


def test_a_segment_that_cannot_be_read_now_is_not_damaged(collection: Collection) -> None:
    """A failing disk raises an error that is tried again, and not one that sets rows aside."""

    class FailingFile:
        def size(self) -> int:
            return opened_size

        def read_at(self, length: int, offset: int) -> bytes:
            raise OSError(5, "Input/output error")

    info = collection.buckets[0].head().segments[0]
    opened_size = info.size_bytes
    with (
        mock.patch.object(segment, "_SMALL_BYTES", 0),
        mock.patch.object(storage, "open_random", return_value=FailingFile()),
        pytest.raises(StorageUnavailable, match="Input/output") as raised,
    ):
        collection.buckets[0].open(info)
    assert not isinstance(raised.value, SegmentDamaged)


def test_a_segment_of_other_attributes_is_read_and_one_of_unknown_ones_refused(tmp_path: Path) -> None:
    """A new attribute must not make older segments unreadable, nor an older lookalike lose a newer one's values."""
    rows = rows_of(IDS[:3], "title").sort_by("key")

    def written_with(schema: pa.Schema, rows: pa.Table, name: str) -> tuple[Location, segment.Written]:
        location = Location.parse(tmp_path / name)
        message = schema.serialize().to_pybytes()
        crc32 = zlib.crc32(message)
        with mock.patch.multiple(segment, SCHEMA=schema, _SCHEMA_MESSAGE=message, _SCHEMA_CRC32=crc32):
            return location, write_segment(location, split(rows))

    older = SCHEMA.remove(SCHEMA.get_field_index("brand"))
    location, written = written_with(older, rows.select(older.names), "older.seg")
    opened = Segment(location, written.size_bytes, written.rows)
    batch = opened.batch(0)
    assert batch.schema.equals(SCHEMA)
    assert batch["brand"].null_count == 3
    assert batch["title"].to_pylist() == ["title"] * 3
    assert len(opened.find(keys_of(IDS), ["brand", "title"]).which) == 3

    newer = SCHEMA.append(pa.field("material", pa.string()))
    location, written = written_with(newer, rows.append_column("material", pa.array(["wool"] * 3)), "newer.seg")
    with pytest.raises(StoreUnavailable, match=r"newer\.seg has the columns material.*update"):
        Segment(location, written.size_bytes, written.rows)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_head_concerns_its_bucket_alone(collection: Collection, damage: Damage) -> None:
    theirs, others = sorted(in_bucket(collection, 0)), sorted(in_bucket(collection, 1))
    for number in range(8):
        collection.put(rows_of(others[:2], f"round {number}"))
    path = collection.buckets[0].head_location.path
    files = set(storage.list_tree(collection.root))
    damage(path)
    again = Collection.open(collection.root, collection.name)
    with pytest.raises(StoreUnavailable, match=rf"{path} is (damaged|missing).*put it back"):
        again.find(theirs)
    with pytest.raises(StoreUnavailable, match=str(path)):
        again.put(rows_of([theirs[0], others[0]], "both"))
    assert again.find(others[:1])[others[0]]["title"] == "both"  # each bucket commits by itself
    again.put(rows_of(others[:1], "alone"))
    assert again.find(others[:1])[others[0]]["title"] == "alone"
    with pytest.raises(StoreUnavailable, match=str(path)):
        again.compact()
    assert len(again.buckets[1].head().segments) < 8  # merged all the same
    assert set(storage.list_tree(collection.root)) >= files - {str(path.relative_to(collection.root.path))}


def test_a_flipped_bit_of_a_head_or_manifest_is_always_noticed(collection: Collection) -> None:
    """A digit in place of another would be as good JSON as before."""
    bucket = collection.buckets[0]
    for path, read in (
        (bucket.head_location.path, lambda: Bucket(bucket.location).head()),
        ((collection.location / "manifest.json").path, lambda: Collection.open(collection.root, collection.name)),
    ):
        whole = path.read_bytes()
        for at in range(len(whole)):
            path.write_bytes(whole[:at] + bytes([whole[at] ^ (1 << at % 8)]) + whole[at + 1 :])
            with pytest.raises(StoreUnavailable, match=str(path)):
                read()
        path.write_bytes(whole)
        read()


def test_a_head_put_back_is_as_if_nothing_had_been(collection: Collection) -> None:
    path = collection.buckets[0].head_location.path
    whole = path.read_bytes()
    path.write_bytes(b"{}")
    with pytest.raises(StoreUnavailable):
        collection.put(rows_of(IDS, "third"))
    path.write_bytes(whole)
    collection.put(rows_of(IDS, "fourth"))
    assert titles(collection) == dict.fromkeys(IDS, "fourth")


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", ["manifest.json", "model/model.json"])
def test_a_damaged_manifest_or_model_is_said_when_the_collection_is_opened(
    collection: Collection, name: str, damage: Damage
) -> None:
    path = (collection.location / name).path
    damage(path)
    with pytest.raises(LookalikeError, match=str(path)):
        Collection.open(collection.root, collection.name)
    collection.put(rows_of(["a"]))  # whoever has it open goes on
    assert collections(collection.root) == ["default"]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_alias_is_said_with_the_versions_that_there_are(collection: Collection, damage: Damage) -> None:
    path = (collection.folder / "alias").path
    damage(path)
    with pytest.raises(StoreUnavailable, match=r"alias|no collection|manifest") as raised:
        Collection.open(collection.root, collection.name)
    if path.exists() and b"\0" in path.read_bytes():
        assert collection.version in str(raised.value)
    assert Collection.open(collection.root, collection.name, collection.version).count() == len(IDS)
    collection.publish()
    assert Collection.open(collection.root, collection.name).count() == len(IDS)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_token_hinders_nobody_and_the_next_commit_mends_it(collection: Collection, damage: Damage) -> None:
    damage(collection.token_location.path)
    again = Collection.open(collection.root, collection.name)
    assert again.count() == len(IDS)
    again.put(rows_of(["a"]))
    assert re.fullmatch(rb"[0-9a-f]{32}", storage.read(again.token_location))


@pytest.mark.parametrize("damage", [empty, halve, flip, fill_with_noise, lengthen])
def test_damaged_sources_hinder_catalogue_photos_alone(collection: Collection, tmp_path: Path, damage: Damage) -> None:
    prefix = collection.sources.add(Location.parse(tmp_path / "catalogue"))
    uploaded = collection.add_photo("a", b"photo", ".jpg")
    path = (collection.folder / "sources.json").path
    damage(path)
    again = Collection.open(collection.root, collection.name)
    with pytest.raises(StoreUnavailable, match=rf"{path} is damaged.*put it back"):
        again.sources.resolve(prefix + "1.jpg")
    with pytest.raises(StoreUnavailable, match="is damaged"):
        again.sources.add(Location.parse(tmp_path / "other"))
    root, name = again.sources.resolve(uploaded)
    assert storage.read(root / name) == b"photo"
    assert again.count() == len(IDS)


ODD_SOURCES = [b"{}", b"null", b"[1]", b'["gs://b/x"]', b'["\\u0000"]', b"[" * 100_000, b"\xff", b'[""]']


@pytest.mark.parametrize("content", ODD_SOURCES)
def test_odd_sources_raise_no_error_but_ours(collection: Collection, content: bytes) -> None:
    storage.write(collection.folder / "sources.json", content)
    for photo in (
        "catalogue/0/a.jpg",
        "catalogue/99999999999/a",
        "catalogue/٣/a",
        "nonsense",
        "",
        "gs://x/y",
        "s3://_",
    ):
        with contextlib.suppress(StoreUnavailable):
            collection.sources.resolve(photo)


def test_a_missing_segment_is_told_apart_from_one_that_was_merged(collection: Collection) -> None:
    bucket = collection.buckets[0]
    path = path_of_segment(collection, 0, 0)
    path.unlink()
    with pytest.raises(SegmentMissing):
        bucket.open(bucket.head().segments[0])
    errors: list[SegmentDamaged] = []
    rows: Iterator[pa.RecordBatch] = bucket.changes(bucket.head(), 0, ("key",), errors.append)
    assert sum(map(len, rows)) == bucket.head().segments[1].rows
    assert len(errors) == 1
    assert compaction.plan_merge(bucket.head()) == ()
