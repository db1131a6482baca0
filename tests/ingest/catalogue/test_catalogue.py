"""Catalogues as people have them, and their laws: every row is accounted for and valid, both kinds of table agree."""

from __future__ import annotations

import csv
import dataclasses
import os
import posixpath
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.catalogues import table
from support.s3 import Faults

from lookalike import storage
from lookalike.errors import BadCatalogue, Conflict, LookalikeError
from lookalike.ingest.attributes import Attributes, bad_id, columns
from lookalike.ingest.catalogue.catalogue import Catalogue, Entry, Problem
from lookalike.ingest.photos.decode import decode
from lookalike.ingest.photos.fetch import read_photo
from lookalike.ingest.photos.location import is_url, normal_photo
from lookalike.storage import Location

REAL = Path(__file__).resolve().parents[4] / "shared" / "data" / "catalog"


def test_catalogue_open_refuses_what_is_no_catalogue(tmp_path: Path) -> None:
    with pytest.raises(BadCatalogue, match="No such file"):
        Catalogue.open(tmp_path / "missing")
    with pytest.raises(BadCatalogue, match="no photos"):
        Catalogue.open(tmp_path)
    with pytest.raises(BadCatalogue, match="only photos may be at https"):
        Catalogue.open("https://shop.example/catalog.csv")
    with pytest.raises(BadCatalogue, match="ftp:// is not supported"):
        Catalogue.open("ftp://shop.example/catalog.csv")
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(BadCatalogue, match="neither a folder nor a file"):
        Catalogue.open(tmp_path / "pipe.csv")
    for name in ("catalog.csv", "catalogue.csv"):
        table(tmp_path, "image_id,file\n1,a.jpg\n", name)
    with pytest.raises(BadCatalogue, match=r"catalog\.csv and catalogue\.csv"):
        Catalogue.open(tmp_path)


def test_catalogue_open_takes_a_text_a_path_and_a_location(tmp_path: Path) -> None:
    path = table(tmp_path, "image_id,file\n1,a.jpg\n", "a.csv")
    for location in (str(path), path, Location.parse(path)):
        catalogue = Catalogue.open(location)
        assert catalogue.root == tmp_path
        assert catalogue.location == Location.parse(tmp_path)
        assert len(list(catalogue)) == 1


def test_catalogue_of_a_table_is_the_same_on_a_disk_and_on_s3(root: Location, tmp_path: Path) -> None:
    rows = [(f"{n}/1", f"photos/{n}.jpg", f"Boots {n}") for n in range(3000)]
    lines = "".join(",".join(row) + "\n" for row in rows)
    storage.write(root / "photos/7.jpg", b"photo")
    storage.write(root / "catalog.csv", b"image_id,file,title\n" + lines.encode())
    columns = dict(zip(("image_id", "file", "title"), map(list, zip(*rows, strict=True)), strict=True))
    pq.write_table(pa.table(columns), tmp_path / "table")
    storage.write(root / "other.parquet", (tmp_path / "table").read_bytes())
    for table_location in (root, root / "catalog.csv", root / "other.parquet"):
        catalogue = Catalogue.open(table_location)
        entries = [entry for entry in catalogue if isinstance(entry, Entry)]
        assert [(e.image_id, e.photo, e.attributes.title) for e in entries] == rows
        assert catalogue.location == root
        assert abs(catalogue.estimate() - 3000) < 100
        assert read_photo(entries[7].photo, catalogue.location) == b"photo"


def test_catalogue_of_a_csv_on_s3_is_streamed(s3_root: Location, faults: Faults) -> None:
    row = b"%d,a.jpg," + b"x" * 4000 + b"\n"
    storage.write(s3_root / "large.csv", b"image_id,file,title\n" + b"".join(row % n for n in range(10_000)))
    catalogue = Catalogue.open(f"{s3_root}/large.csv")
    with faults.counting() as requests:
        assert next(iter(catalogue))
        assert 9_000 < catalogue.estimate() < 11_000
    assert requests["GET"] <= 4  # of 256 kB to 8 MB each, of 40 MB
    assert len(list(catalogue)) == 10_000
    rows = iter(catalogue)
    next(rows)
    storage.write(s3_root / "large.csv", b"image_id,file,title\n")
    with pytest.raises(Conflict, match="replaced while it was open"):  # never half of one and half of the other
        list(rows)


def test_catalogue_of_photos_is_the_same_on_a_disk_and_on_s3(s3_root: Location, tmp_path: Path) -> None:
    for name in (
        "b.jpg",
        "Shoes/Boots/2.PNG",
        "Shoes/1.webp",
        "Shoes.jpg",
        ".cache/x.jpg",
        "a/.b.jpg",
        "c.heic",
        "d.txt",
    ):
        for root in (s3_root, Location.parse(tmp_path)):
            storage.write(root / name, b"photo")
    on_s3, on_disk = Catalogue.open(s3_root), Catalogue.open(tmp_path)
    assert list(on_s3) == list(on_disk)
    assert on_s3.estimate() == on_disk.estimate() == 5
    assert read_photo("Shoes/1.webp", on_s3.location) == b"photo"


def test_catalogue_open_says_what_is_wrong_on_s3(s3_root: Location) -> None:
    for location, reason in {
        s3_root: "holds no photos",
        s3_root / "missing.csv": "there is no .*missing.csv",
        Location.parse("s3://bucket-that-is-not-there/catalog.csv"): "there is no bucket",
    }.items():
        with pytest.raises(LookalikeError, match=reason):
            Catalogue.open(location)
    with pytest.raises(BadCatalogue, match="lost a slash"):
        Catalogue.open(Path("s3://bucket/catalog.csv"))
    for name in ("catalog.csv", "catalog.parquet"):
        storage.write(s3_root / name, b"image_id,file\n1,a.jpg\n")
    with pytest.raises(BadCatalogue, match=r"catalog\.csv and catalog\.parquet"):
        Catalogue.open(s3_root)
    with pytest.raises(BadCatalogue, match="not a Parquet file"):
        Catalogue.open(s3_root / "catalog.parquet")


@pytest.mark.real_data
@pytest.mark.skipif(not REAL.exists(), reason="needs ../shared/data")
def test_catalogue_of_real_photos_has_no_problem_and_every_photo_decodes() -> None:
    catalogue = Catalogue.open(REAL)
    entries = [entry for entry in catalogue if isinstance(entry, Entry)]
    assert len(entries) == catalogue.estimate() == 5_378
    assert not any(entry.notes for entry in entries)
    assert len({entry.attributes.group for entry in entries}) == 36
    for entry in entries[::50]:
        assert decode(read_photo(entry.photo, catalogue.location), 64).std() > 1


PROPERTIES = Attributes.model_json_schema()["properties"]
MAX_CHARS = {name: said["maxLength"] for name, said in PROPERTIES.items() if "maxLength" in said}
NUMBERS = {
    name: (said["anyOf"][0]["minimum"], said["anyOf"][0]["maximum"])
    for name, said in PROPERTIES.items()
    if said.get("anyOf", [{}])[0].get("type") == "number"
}

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
PARTS = st.sampled_from(["a.jpg", "b", "..", ".", "", "ä", "c\\d", "photo", "s3:", "https:", "bucket.name", "u:p@h"])
PATHS = st.lists(PARTS, max_size=5).map("/".join)
TIMES = st.datetimes().map(str) | st.sampled_from(["9999-12-31T23:00-05:00", "0001-01-01T00:00+14:00", "20260131", "5"])
LONG = st.sampled_from([limit + more for limit in MAX_CHARS.values() for more in (0, 1)]).map(lambda n: "x" * n)
VALUES = TEXT | PATHS | TIMES | LONG | st.floats().map(str) | st.integers(-200, 200).map(str)
HEADER = ("image_id", "file", *columns())
LEVELS = ("image_id", "file", "level2", "level1", *(name for name in columns() if name != "group"))
IDS = st.integers(0, 20).map(str) | PATHS | TEXT
TABLES = st.sampled_from([HEADER, LEVELS]).flatmap(
    lambda header: st.tuples(
        st.just(header),
        st.lists(st.tuples(IDS, PATHS | TEXT, *[VALUES | st.just("")] * (len(header) - 2)), min_size=1, max_size=8),
    )
)


def check(found: list[Entry | Problem]) -> None:
    """Every entry is what HTTP would take too, every problem says why."""
    ids = [item.image_id for item in found if isinstance(item, Entry)]
    assert len(ids) == len(set(ids))
    for item in found:
        if isinstance(item, Problem):
            assert item.reason
            assert not {"\n", "\0"} & set(item.reason + item.image_id + item.file)
            continue
        assert not bad_id(item.image_id)
        assert Attributes.model_validate_json(item.attributes.model_dump_json()) == item.attributes
        assert item.attributes.listing_id
        assert all(item.notes)
        assert normal_photo(item.photo) == item.photo
        assert is_url(item.photo) or not posixpath.normpath("root/" + item.photo).startswith(("..", "/"))


@settings(deadline=None)
@given(table=TABLES, delimiter=st.sampled_from(",;\t"), quoting=st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]))
def test_catalogue_accounts_for_every_row(
    table: tuple[tuple[str, ...], list[tuple[str, ...]]], delimiter: str, quoting: int
) -> None:
    header, rows = table
    with TemporaryDirectory() as folder:
        path = Path(folder, "catalog.csv")
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, delimiter=delimiter, quoting=cast(Any, quoting)).writerows([header, *rows])
        found = list(Catalogue.open(path))
    assert len(found) == len(rows)
    check(found)
    for row, item in zip(rows, found, strict=True):
        if isinstance(item, Problem):
            continue
        fields = {name: text.strip() for name, text in zip(header, row, strict=True)}
        assert item.image_id == fields["image_id"]
        for name in columns():
            text, value = fields.get(name, ""), getattr(item.attributes, name)
            noted = any(note.startswith(name) or (name in ("lat", "lon") and "place" in note) for note in item.notes)
            if name == "listing_id":
                assert value == (text if text and not noted else item.image_id)
            elif name != "group":
                assert (value in (None, "")) == (not text or noted)
            if isinstance(value, float):
                assert value == float(text)


@settings(deadline=None)
@given(table=TABLES)
def test_catalogue_of_parquet_is_that_of_the_same_csv(table: tuple[tuple[str, ...], list[tuple[str, ...]]]) -> None:
    header, rows = table
    with TemporaryDirectory() as folder:
        with Path(folder, "a.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, quoting=csv.QUOTE_ALL).writerows([header, *rows])
        texts = {name: [row[at] or None for row in rows] for at, name in enumerate(header)}
        pq.write_table(pa.table({name: pa.array(text, pa.string()) for name, text in texts.items()}), f"{folder}/a.pq")
        from_csv = list(Catalogue.open(Path(folder, "a.csv")))
        from_parquet = list(Catalogue.open(Path(folder, "a.pq")))

    def without_row(item: Entry | Problem) -> Entry | Problem:
        return dataclasses.replace(item, row=None) if isinstance(item, Problem) else item

    assert list(map(without_row, from_parquet)) == list(map(without_row, from_csv))


@settings(deadline=None)
@given(values=st.dictionaries(st.sampled_from(sorted(MAX_CHARS)), st.booleans()))
def test_catalogue_keeps_text_of_the_longest_allowed_length_and_none_beyond(values: dict[str, bool]) -> None:
    texts = {name: "x" * (MAX_CHARS[name] + beyond) for name, beyond in values.items()}
    with TemporaryDirectory() as folder:
        path = Path(folder, "catalog.csv")
        with path.open("w", newline="") as file:
            csv.writer(file).writerows([("image_id", "file", *texts), ("1", "a.jpg", *texts.values())])
        (entry,) = Catalogue.open(path)
    assert isinstance(entry, Entry)
    kept = {name: text for name, text in texts.items() if not values[name]}
    assert entry.attributes == Attributes(**{"listing_id": "1", **kept})
    for name, beyond in values.items():
        assert beyond == any(f"{name} has {MAX_CHARS[name] + 1:,} characters" in note for note in entry.notes)


@pytest.mark.parametrize("name", sorted(NUMBERS))
@settings(deadline=None)
@given(data=st.data())
def test_catalogue_keeps_numbers_within_their_limits_and_none_beyond(name: str, data: st.DataObject) -> None:
    low, high = NUMBERS[name]
    value = data.draw(st.floats() | st.floats(low, high) | st.sampled_from([low, high]))
    other = {"lat": "lon", "lon": "lat"}.get(name, "title")
    with TemporaryDirectory() as folder:
        path = Path(folder, "catalog.csv")
        path.write_text(f"image_id,file,{name},{other}\n1,a.jpg,{value!r},0\n")
        (entry,) = Catalogue.open(path)
    assert isinstance(entry, Entry)
    assert getattr(entry.attributes, name) == (value if low <= value <= high else None)
    assert any(note.startswith(f"{name} {str(value)!r}") for note in entry.notes) == (not low <= value <= high)


@settings(deadline=None)
@given(body=st.binary(min_size=1, max_size=300) | st.text('",;\r\n\0a1', max_size=60).map(str.encode))
def test_catalogue_of_csv_goes_on_whatever_bytes_follow_its_first_rows(body: bytes) -> None:
    wide = b"%40000s"  # so that the body lies behind the part that must be UTF-8 throughout
    head = b"image_id,file\n" + b"".join((b"%d," + wide + b"\n") % (n, b"a.jpg") for n in (1, 2))
    with TemporaryDirectory() as folder:
        path = Path(folder, "catalog.csv")
        path.write_bytes(head + body)
        found = list(Catalogue.open(path))
    check(found)
    assert all(isinstance(item, Entry) for item in found[:2])
    if b'"' not in body:  # a quote may join lines
        lines = body.decode("utf-8", "surrogateescape").replace("\r\n", "\n").replace("\r", "\n").split("\n")
        assert len(found) == 2 + sum(1 for line in lines if line)


@settings(deadline=None)
@given(
    head=st.binary(max_size=60) | TEXT.map(str.encode),
    body=st.binary(max_size=100),
    suffix=st.sampled_from(["csv", "pq"]),
)
def test_catalogue_of_any_bytes_is_refused_or_accounted_for(head: bytes, body: bytes, suffix: str) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder, f"catalog.{suffix}")
        for content in (
            head + body,
            b"image_id,file,title,price\n" + body,
            b"\xef\xbb\xbffile;image_id\n" + head + body,
        ):
            path.write_bytes(content)
            try:
                check(list(Catalogue.open(path)))
            except BadCatalogue:
                continue


@settings(deadline=None)
@given(data=st.data())
def test_catalogue_of_damaged_parquet_is_refused_or_accounted_for(data: st.DataObject) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder, "catalog.parquet")
        columns = {name: [f"{name}{n}" for n in range(40)] for name in ("image_id", "file", "title")}
        pq.write_table(pa.table({**columns, "price": [float(n) for n in range(40)]}), path)
        content = bytearray(path.read_bytes())
        for _ in range(data.draw(st.integers(0, 4))):
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
        path.write_bytes(content[: data.draw(st.sampled_from([len(content), len(content) // 2, 3]))])
        try:
            check(list(Catalogue.open(path)))
        except BadCatalogue:
            return
