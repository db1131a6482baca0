"""Catalogues as people have them: folders, tables, and what is neither."""

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.catalogues import photo, table
from support.s3 import Faults

from lookalike import storage
from lookalike.errors import BadCatalogue, Conflict, LookalikeError, UndecodableImage
from lookalike.ingest.catalogue.catalogue import Catalogue, Entry, Problem
from lookalike.ingest.photos.decode import decode
from lookalike.ingest.photos.fetch import read_photo
from lookalike.storage import Location

REAL = Path(__file__).resolve().parents[3] / "shared" / "data" / "catalog"


def test_photo_folder_gives_photos_by_name_with_sub_folders_as_groups(tmp_path: Path) -> None:
    for name in ("b.jpg", "Shoes/Boots/2.PNG", "Shoes/1.webp", "a.jpeg", ".hidden.jpg", ".cache/x.jpg"):
        photo(tmp_path / name)
    (tmp_path / "notes.txt").write_text("not ours")
    catalogue = Catalogue.open(tmp_path)
    entries = list(catalogue)
    assert [(e.image_id, e.attributes.group) for e in entries if isinstance(e, Entry)] == [
        ("Shoes/1.webp", "Shoes"),
        ("Shoes/Boots/2.PNG", "Shoes/Boots"),
        ("a.jpeg", ""),
        ("b.jpg", ""),
    ]
    assert all(e.photo == e.attributes.listing_id == e.image_id for e in entries if isinstance(e, Entry))
    assert catalogue.estimate() == len(entries) == 4
    assert list(catalogue) == entries  # again, the same


def test_photo_folder_reports_unread_formats_and_bad_names(tmp_path: Path) -> None:
    photo(tmp_path / "good.jpg")
    (tmp_path / "phone.HEIC").touch()
    (tmp_path / "download").touch()
    photo(tmp_path / "C:" / "a.jpg")
    (tmp_path / "new\nline.jpg").touch()
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/latin-\xe4.jpg")).touch()
    problems = {p.file: p.reason for p in Catalogue.open(tmp_path) if isinstance(p, Problem)}
    assert problems == {
        "phone.HEIC": ".heic is not read",
        "download": "a file without ending is not read",
        "new\\nline.jpg": "image_id holds control characters",
        "C:/a.jpg": "file lost a slash: write C://",
        "latin-\\udce4.jpg": "image_id is not UTF-8",
    }


def test_photo_folder_refuses_links_that_lead_out_in_circles_or_nowhere(tmp_path: Path) -> None:
    outside = photo(tmp_path / "outside" / "secret.jpg")
    root = tmp_path / "root"
    photo(root / "own.jpg")
    (root / "out.jpg").symlink_to(outside)
    (root / "out").symlink_to(outside.parent)
    (root / "up").symlink_to(root)
    (root / "circle.jpg").symlink_to(root / "circle.jpg")
    (root / "nowhere.jpg").symlink_to(root / "missing.jpg")
    (root / "same.jpg").symlink_to("own.jpg")
    found = {e.photo if isinstance(e, Entry) else e.file: e for e in Catalogue.open(root)}
    assert {path for path, e in found.items() if isinstance(e, Entry)} == {"own.jpg", "same.jpg"}
    assert len(found) == 7
    with pytest.raises(UndecodableImage, match="leads out"):
        read_photo("out.jpg", root)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_photo_folder_reports_a_folder_that_may_not_be_read(tmp_path: Path) -> None:
    photo(tmp_path / "a.jpg")
    photo(tmp_path / "locked" / "b.jpg").parent.chmod(0)
    try:
        assert [e.reason for e in Catalogue.open(tmp_path) if isinstance(e, Problem)] == [
            "folder cannot be read: Permission denied"
        ]
    finally:
        (tmp_path / "locked").chmod(0o700)


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
    for given in (str(path), path, Location.parse(path)):
        catalogue = Catalogue.open(given)
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
