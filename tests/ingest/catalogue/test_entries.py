"""What a row becomes: attributes by the rules of `Attributes`, notes for what breaks one."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from support.catalogues import only_entry, only_problem, table

from lookalike.ingest.attributes import Attributes
from lookalike.ingest.catalogue.catalogue import Catalogue, Entry
from lookalike.ingest.catalogue.entries import COLUMNS


def test_entry_of_every_column(tmp_path: Path) -> None:
    table(
        tmp_path,
        "image_id,file,listing_id,level2,level1,title,description,price,lat,lon,created_at,colour,brand,extra\n"
        'i/1,x/1.jpg,i,T-Shirts/Tops,Apparel,"Red, ""new""\nand good",old,12.5,48.2,-16.4,'
        "2026-01-31T12:00:00+02:00,Red,Nike,?\n",
    )
    catalogue = Catalogue.open(tmp_path)
    assert catalogue.ignored_columns == ["extra"]
    attributes = Attributes(
        listing_id="i",
        group="Apparel/T-Shirts-Tops",
        title='Red, "new"\nand good',
        description="old",
        price=12.5,
        lat=48.2,
        lon=-16.4,
        created_at=datetime(2026, 1, 31, 10, tzinfo=UTC),
        colour="Red",
        brand="Nike",
    )
    assert list(catalogue) == [Entry("i/1", "x/1.jpg", attributes)]


def test_entry_group_is_a_path_and_wins_over_levels(tmp_path: Path) -> None:
    entry = only_entry(table(tmp_path, "image_id,file,level1,group\n1,a.jpg,,/ Apparel /Topwear//Tshirts/\n"))
    assert entry.attributes.group == "Apparel/Topwear/Tshirts"
    assert Catalogue.open(tmp_path).ignored_columns == ["level1"]


@pytest.mark.parametrize(
    ("column", "value", "note"),
    [
        ("price", "cheap", "price 'cheap' is not a number"),
        ("price", "-1", "price '-1' is not a number from 0 to 1,000,000,000,000,000 (write 12.50"),
        ("price", "nan", "price 'nan'"),
        ("price", "1e999", "price '1e999'"),
        ("price", "1_000", "price '1_000'"),
        ("price", "12,50", "price '12,50'"),
        ("price", "1" * 131_000 + "x", f"price '{'1' * 40}' is not a number"),  # in linear time
        ("lat", "90.1", "lat '90.1' is not a number from -90 to 90"),
        ("lat", "48.2", "a place needs both"),
        ("created_at", "yesterday", "created_at 'yesterday'"),
        ("created_at", "5", "created_at '5' is not a time of the years 1 to 9999 in UTC (write 2026-01-31"),
        ("created_at", "0001-01-01T00:00:00+14:00", "created_at"),
        ("created_at", "9999-12-31T23:00-05:00", "created_at '9999-12-31T23:00-05:00' is not a time"),
        ("listing_id", "a\x01b", "listing_id holds control characters; image_id stands in"),
        ("listing_id", "a/photo", "listing_id ends in /photo"),
        ("listing_id", "x" * 513, "listing_id has 513 characters; at most 512 are allowed; image_id stands in"),
        ("colour", "x" * 257, "colour has 257 characters; at most 256 are allowed"),
        ("description", "x" * 65_537, "description has 65,537 characters; at most 65,536 are allowed"),
    ],
)
def test_entry_notes_an_attribute_that_cannot_be_read(tmp_path: Path, column: str, value: str, note: str) -> None:
    entry = only_entry(table(tmp_path, f'image_id,file,{column}\n1,a.jpg,"{value}"\n'))
    assert entry.attributes == Attributes(listing_id="1")
    assert any(note in text for text in entry.notes)


def test_entry_times_without_an_offset_are_utc(tmp_path: Path) -> None:
    path = table(tmp_path, "image_id,file,created_at\n1,a.jpg,2026-01-31\n")
    assert only_entry(path).attributes.created_at == datetime(2026, 1, 31, tzinfo=UTC)


def test_entry_keeps_the_attributes_beside_an_unreadable_one(tmp_path: Path) -> None:
    entry = only_entry(table(tmp_path, "image_id,file,lat,lon,price,title\n1,a.jpg,91,16,cheap,Boots\n"))
    assert entry.attributes == Attributes(listing_id="1", title="Boots")
    assert [note.split()[0] for note in entry.notes] == ["price", "lat", "a"]


@pytest.mark.parametrize(
    ("file", "photo"),
    [
        ("./x//a.jpg", "x/a.jpg"),
        ("x/.hidden/...jpg", "x/.hidden/...jpg"),
        ("s3://bucket/Photos/a b.jpg", "s3://bucket/Photos/a b.jpg"),
        ("HTTPS://Host.example/a.jpg?v=2#top", "https://host.example/a.jpg?v=2"),
    ],
)
def test_entry_photo_is_a_normal_path_or_url(tmp_path: Path, file: str, photo: str) -> None:
    assert only_entry(table(tmp_path, f"image_id,file\n1,{file}\n")).photo == photo


def test_problem_shows_no_password_and_no_signature(tmp_path: Path) -> None:
    for url in ("https://me:secret@host/a.jpg?secret", "https:/me:secret@host/a.jpg", "http://host/a.jpg?sig=secret"):
        problem = only_problem(table(tmp_path, f"image_id,file\n1,{url}\n"))
        assert problem.file
        assert "secret" not in repr(problem)


def test_columns_are_all_documented() -> None:
    page = (Path(__file__).parents[3] / "docs" / "catalogue.md").read_text()
    assert {name for name in COLUMNS if f"`{name}`" not in page} == set()
