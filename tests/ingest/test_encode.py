"""The job that encodes a catalogue: what it writes, what it passes over, and what it leaves to clients."""

from __future__ import annotations

import csv
import io
import json
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from support.encoders import HashEncoder
from support.s3 import Fault, Faults
from support.stores import new_collection, rows_of, titles

from lookalike import storage
from lookalike.errors import StorageUnavailable
from lookalike.ingest.attributes import Attributes
from lookalike.ingest.catalogue.catalogue import Catalogue
from lookalike.ingest.catalogue.entries import Entry, Problem
from lookalike.ingest.encode import EncodeJob, Report, _fingerprint
from lookalike.ingest.photos.fetch import source_state
from lookalike.ingest.store.collection import Collection
from lookalike.ingest.store.rows import Source, rows_table
from lookalike.model.descriptor import Descriptors
from lookalike.storage import Location

SIDE_PX = 32


def png(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


class Shop:
    """A catalogue on disk or S3 that is exported, and whose photos change, at moments that are told apart."""

    def __init__(self, root: Location, ids: Sequence[str]) -> None:
        self.root = root
        self.titles = {image_id: f"{image_id} at first" for image_id in ids}
        self.times: dict[str, int] = {}
        for number, image_id in enumerate(ids):
            self.change_photo(image_id, number)
        self.export()

    def change_photo(self, image_id: str, seed: int) -> None:
        self._write(f"{image_id}.png", png(seed))

    def export(self) -> None:
        text = io.StringIO()
        table = csv.writer(text)
        table.writerow(["image_id", "file", "title"])
        table.writerows([image_id, f"{image_id}.png", title] for image_id, title in self.titles.items())
        self._write("catalog.csv", text.getvalue().encode())

    def _write(self, name: str, content: bytes) -> None:
        storage.write(self.root / name, content)
        self.times[name] = time.time_ns() // 1000
        if self.root.is_local:  # the system's clock for files is 4 ms behind
            os.utime((self.root / name).path, ns=(1000 * self.times[name],) * 2)

    def encode(self, collection: Collection, encoder: HashEncoder | None = None, piece: int = 1024) -> Report:
        catalogue = Catalogue.open(str(self.root))
        return EncodeJob(catalogue, collection, encoder or HashEncoder(), SIDE_PX, piece=piece).run()


@pytest.fixture
def collection(tmp_path: Path) -> Collection:
    return new_collection(tmp_path / "store", 2)


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(Location.parse(tmp_path / "shop"), ["a", "b", "c"])


def counts(report: Report) -> tuple[int, int, int, int]:
    return report.encoded, report.unchanged, report.kept, report.left_out


def heads(collection: Collection) -> list[int]:
    return [bucket.head().sequence for bucket in collection.buckets]


def test_encode_job_writes_what_the_encoder_makes_of_each_photo(shop: Shop, collection: Collection) -> None:
    assert counts(shop.encode(collection)) == (3, 0, 0, 0)
    rows = collection.find(["a", "b", "c"])
    for seed, (image_id, row) in enumerate(rows.items()):
        with Image.open(io.BytesIO(png(seed))) as image:
            assert image.size == (8, 8)
        assert row["photo"] == f"catalogue/0/{image_id}.png"
        assert row["source"] == Source.CATALOGUE
        assert row["title"] == f"{image_id} at first"
    assert len({row["long"] for row in rows.values()}) == 3


def test_encode_job_passes_over_what_is_unchanged_and_commits_nothing(shop: Shop, collection: Collection) -> None:
    shop.encode(collection)
    before, encoder = heads(collection), HashEncoder()
    shop.export()
    assert counts(shop.encode(collection, encoder)) == (0, 3, 0, 0)
    assert (encoder.encoded, heads(collection)) == (0, before)
    shop.change_photo("b", 99)
    assert counts(shop.encode(collection, encoder)) == (1, 2, 0, 0)


# --- clients and the catalogue change the same images


class History:
    """The rule: what changed later is shown. A row whose photo changed is as old as that, one of a table as old as it.

    What a catalogue said at a run is no news at the next.
    """

    def __init__(self, shop: Shop) -> None:
        self.shop = shop
        self.shown: dict[str, str] = {}
        self._seen: dict[str, tuple[str, int]] = {}
        self._clients: dict[str, int] = {}

    def client(self, image_id: str, title: str | None) -> None:
        if title is not None or image_id in self.shown:
            self._clients[image_id] = time.time_ns() // 1000
        if title is None:
            self.shown.pop(image_id, None)
        else:
            self.shown[image_id] = title

    def encode(self) -> tuple[int, int, int, int]:
        encoded = unchanged = kept = 0
        for image_id, title in self.table.items():
            photo = self.shop.times[f"{image_id}.png"]
            if self._seen.get(image_id) == (title, photo):
                unchanged += 1
                continue
            self._seen[image_id] = (title, photo)
            if self._clients.get(image_id, 0) > max(photo, self.shop.times["catalog.csv"]):
                kept += 1
            else:
                encoded += 1
                self.shown[image_id] = title
                self._clients.pop(image_id, None)
        return encoded, unchanged, kept, 0

    def exported(self) -> None:
        self.table = dict(self.shop.titles)


events = st.lists(
    st.tuples(
        st.sampled_from(["put", "delete", "change photo", "change field", "export", "encode", "encode"]),
        st.sampled_from("abc"),
    ),
    max_size=25,
)


@settings(max_examples=40, deadline=None)
@given(events)
def test_encode_job_and_clients_agree_that_the_later_change_counts(done: list[tuple[str, str]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        shop = Shop(Location.parse(f"{folder}/shop"), ["a", "b", "c"])
        collection = new_collection(Path(folder) / "store", 2)
        history = History(shop)
        history.exported()
        for number, (event, image_id) in enumerate(done):
            match event:
                case "put":
                    collection.put(rows_of([image_id], f"put {number}", number))
                    history.client(image_id, f"put {number}")
                case "delete":
                    collection.delete([image_id])
                    history.client(image_id, None)
                case "change photo":
                    shop.change_photo(image_id, 100 + number)
                case "change field" | "export":
                    if event == "change field":
                        shop.titles[image_id] = f"field {number}"
                    shop.export()
                    history.exported()
                case "encode":
                    assert counts(shop.encode(collection)) == history.encode()
                    assert titles(collection) == history.shown
        assert counts(shop.encode(collection)) == history.encode()
        assert titles(collection) == history.shown


def test_encode_job_leaves_what_was_deleted_until_its_source_changes(shop: Shop, collection: Collection) -> None:
    shop.encode(collection)
    collection.delete(["a", "b", "c"])
    shop.encode(collection)
    shop.export()
    shop.encode(collection)
    assert titles(collection) == {}
    shop.change_photo("a", 77)
    assert counts(shop.encode(collection)) == (1, 2, 0, 0)
    shop.titles["b"] = "b changed"
    shop.export()
    assert counts(shop.encode(collection)) == (1, 2, 0, 0)
    assert titles(collection) == {"a": "a at first", "b": "b changed"}


def test_encode_job_leaves_what_a_client_did_after_an_export_though_it_is_exported_again(
    shop: Shop, collection: Collection
) -> None:
    """The table is exported each night, clients write after it, and the job runs later still."""
    shop.encode(collection)
    shop.titles |= {"a": "a by the shop", "b": "b by the shop"}
    shop.export()
    collection.put(rows_of(["a"], "a by a client"))
    collection.delete(["b"])
    encoder = HashEncoder()
    assert counts(shop.encode(collection, encoder)) == (0, 1, 2, 0)
    assert encoder.encoded == 0
    shop.export()
    assert counts(shop.encode(collection)) == (0, 3, 0, 0)
    assert titles(collection) == {"a": "a by a client", "c": "c at first"}


def test_encode_job_takes_what_the_catalogue_changes_whatever_its_times_say(shop: Shop, collection: Collection) -> None:
    """A photo is replaced by a copy of an older one: between two runs of a catalogue, what it says now counts."""
    shop.encode(collection)
    shop.change_photo("b", 42)
    for name in ("b.png", "catalog.csv"):
        os.utime((shop.root / name).path, (10**9, 10**9))
    assert counts(shop.encode(collection)) == (1, 2, 0, 0)
    assert counts(shop.encode(collection)) == (0, 3, 0, 0)


# --- what goes wrong


class Failing(HashEncoder):
    """Ends the job after some photos, as a kill would."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self._after = after

    def encode(self, pixels: NDArray[np.uint8]) -> Descriptors:
        if self.encoded >= self._after:
            raise KeyboardInterrupt
        return super().encode(pixels)


def test_encode_job_that_was_stopped_goes_on_where_it_was(tmp_path: Path, collection: Collection) -> None:
    shop = Shop(Location.parse(tmp_path / "many"), [f"{n:03d}" for n in range(300)])
    with pytest.raises(KeyboardInterrupt):
        shop.encode(collection, Failing(130), piece=20)
    done = collection.count()
    assert 100 <= done <= 140, "it lost more than the pieces in flight"
    encoder = HashEncoder()
    assert counts(shop.encode(collection, encoder)) == (300 - done, done, 0, 0)
    assert encoder.encoded == 300 - done
    assert titles(collection) == shop.titles


def test_encode_job_reports_what_it_left_out_and_what_it_could_not_read(shop: Shop, collection: Collection) -> None:
    storage.write(shop.root / "b.png", b"no photo")
    storage.remove(shop.root / "c.png")
    table = "image_id,file,title,price\na,a.png,x,dear\nb,b.png,,\nc,c.png,,\nd/photo,a.png,,\n"
    storage.write(shop.root / "catalog.csv", table.encode())
    catalogue = Catalogue.open(str(shop.root))
    shown: list[int] = []
    before = [Problem("it was missing", "earlier"), Problem("it was missing", "c")]
    report = EncodeJob(catalogue, collection, HashEncoder(), SIDE_PX, shown.append, left_out=before).run()
    assert counts(report) == (1, 0, 0, 4)
    assert (sum(shown), report.unread) == (4, 1)
    lines = [json.loads(line) for line in storage.read(collection.report_location).splitlines()]
    left_out = {line["image_id"]: line["reason"] for line in lines if line["left_out"]}
    assert left_out.keys() == {"earlier", "b", "c", "d/photo"}
    assert left_out["b"] == "text, not a photo that we read (JPEG, PNG or WebP)"
    assert sum(line["left_out"] for line in lines) == 4
    (note,) = [line for line in lines if not line["left_out"]]
    assert (note["image_id"], "price 'dear'" in note["reason"]) == ("a", True)


def test_encode_job_encodes_a_photo_that_can_be_read_again(shop: Shop, collection: Collection) -> None:
    photo = storage.read(shop.root / "b.png")
    storage.remove(shop.root / "b.png")
    assert counts(shop.encode(collection)) == (2, 0, 0, 1)
    storage.write(shop.root / "b.png", photo)
    assert counts(shop.encode(collection)) == (1, 2, 0, 0)


# --- size, and S3


def test_encode_job_needs_no_memory_for_the_rows_of_its_catalogue(tmp_path: Path, collection: Collection) -> None:
    """Beyond 8 bytes each, by which the catalogue sees ids that come twice. Photos on the web are not looked at."""
    rows = 60_000
    photos = [f"https://photos.example/{n}.jpg" for n in range(rows)]
    ids = [f"listing/{n}" for n in range(rows)]
    lines = [f"{image_id},{photo}\n" for image_id, photo in zip(ids, photos, strict=True)]
    (tmp_path / "catalog.csv").write_text("".join(["image_id,file\n", *lines]))
    catalogue = Catalogue.open(str(tmp_path / "catalog.csv"))
    for start in range(0, rows, 10_000):
        chosen = ids[start : start + 10_000]
        entries = [Entry(i, p, Attributes(listing_id=i)) for i, p in zip(chosen, photos[start:], strict=False)]
        prints = [_fingerprint(entry, source_state(entry.photo, tmp_path)) for entry in entries]
        table = rows_table(
            chosen,
            [entry.attributes for entry in entries],
            [entry.photo for entry in entries],
            Descriptors(np.zeros((len(chosen), 1), np.uint64), np.zeros((len(chosen), 2), np.uint64)),
            source=Source.CATALOGUE,
            stamps=[catalogue.modified] * len(chosen),  # type: ignore[list-item]
            fingerprints=prints,
        )
        collection.take_in(table)
    while collection.compact():
        pass
    del photos, ids, lines, entries, prints, table
    process, done = psutil.Process(), 0
    seen: list[int] = []

    def progress(count: int) -> None:
        nonlocal done
        done += count
        if done >= 10_000 * (len(seen) + 1):
            seen.append(process.memory_info().rss)

    report = EncodeJob(catalogue, collection, HashEncoder(), SIDE_PX, progress).run()
    assert counts(report) == (0, rows, 0, 0)
    assert len(seen) == 6
    # The first rows fill caches and Arrow's pools, once and for all.
    assert max(seen[2:]) - seen[1] < 200 * 40_000, "it grows by more than 200 bytes a row"


def test_encode_job_on_s3_through_faults(s3_root: Location, faults: Faults) -> None:
    """Table, photos and store are objects; requests fail, answers get lost."""
    shop = Shop(s3_root / "shop", ["a", "b", "c", "d"])
    collection = new_collection(s3_root / "store", 2)
    for fault in (Fault.UNAVAILABLE, Fault.DROPPED_AFTER, Fault.DROPPED_BEFORE, Fault.TRUNCATED):
        faults.add(fault, times=3, probability=0.2)
    assert counts(shop.encode(collection)) == (4, 0, 0, 0)
    assert titles(collection) == shop.titles
    assert counts(shop.encode(collection)) == (0, 4, 0, 0)
    faults.clear()
    shop.change_photo("c", 9)
    assert counts(shop.encode(collection)) == (1, 3, 0, 0)
    assert storage.read(collection.report_location) == b""


def test_encode_job_ends_where_the_store_cannot_be_written(s3_root: Location, faults: Faults) -> None:
    shop = Shop(s3_root / "shop", ["a", "b"])
    collection = new_collection(s3_root / "store", 2)
    faults.add(Fault.DENIED, times=None, methods={"PUT", "POST"}, key="buckets")
    with pytest.raises(StorageUnavailable, match="access denied"):
        shop.encode(collection)
    faults.clear()
    assert counts(shop.encode(collection)) == (2, 0, 0, 0)


def test_encode_job_does_not_renew_a_clients_row_whose_successor_may_be_damaged(
    shop: Shop, collection: Collection
) -> None:
    """The older row would be the newest: putting the damaged segment back would not bring the client's change back."""
    shop.titles["a"] = "a, another time"
    shop.export()
    collection.put(rows_of(["a"], "first"))
    collection.put(rows_of(["a"], "second"))
    (number,) = [number for number, bucket in enumerate(collection.buckets) if bucket.head().segments]
    segment = collection.buckets[number].segment_location(collection.buckets[number].head().segments[-1].name)
    content = storage.read(segment)
    storage.remove(segment)
    shop.encode(Collection.open(collection.root, collection.name))
    storage.write(segment, content)
    assert titles(Collection.open(collection.root, collection.name))["a"] == "second"
