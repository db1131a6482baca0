"""Catalogues as people send them: good ones, odd ones, hostile ones."""

import csv
import os
from datetime import UTC, date, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from lookalike.errors import BadCatalogue, UndecodableImage
from lookalike.ingest.catalogue.reader import Catalogue, Entry, Problem, _Seen, read_photo
from lookalike.ingest.photos import decode as images

REAL = Path(__file__).resolve().parents[3] / "shared" / "data" / "catalog"


def photo(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (16, 16), "red").save(path)
    return path


def table(folder: Path, text: str | bytes, name: str = "catalog.csv") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def only_entry(path: Path) -> Entry:
    (entry,) = Catalogue.open(path)
    assert isinstance(entry, Entry)
    return entry


def only_problem(path: Path) -> Problem:
    (problem,) = Catalogue.open(path)
    assert isinstance(problem, Problem)
    return problem


# Folders


def test_a_folder_gives_its_photos_by_name_with_sub_folders_as_groups(
    tmp_path: Path,
) -> None:
    for place in ("b.jpg", "Shoes/Boots/2.PNG", "Shoes/1.webp", "a.jpeg", ".hidden.jpg", ".cache/x.jpg"):
        photo(tmp_path / place)
    (tmp_path / "notes.txt").write_text("not ours")
    catalogue = Catalogue.open(tmp_path)
    entries = list(catalogue)
    assert [(e.image_id, e.group) for e in entries if isinstance(e, Entry)] == [
        ("Shoes/1.webp", "Shoes"),
        ("Shoes/Boots/2.PNG", "Shoes/Boots"),
        ("a.jpeg", ""),
        ("b.jpg", ""),
    ]
    assert all(e.photo == e.listing_id == e.image_id for e in entries if isinstance(e, Entry))
    assert catalogue.estimate() == len(entries) == 4
    assert list(catalogue) == entries  # again, the same


def test_a_folder_reports_pictures_that_we_do_not_read_and_bad_names(tmp_path: Path) -> None:
    photo(tmp_path / "good.jpg")
    (tmp_path / "phone.HEIC").touch()
    (tmp_path / "download").touch()
    (tmp_path / "new\nline.jpg").touch()
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/latin-\xe4.jpg")).touch()
    problems = {p.file: p.reason for p in Catalogue.open(tmp_path) if isinstance(p, Problem)}
    assert problems == {
        "phone.HEIC": ".heic is not read",
        "download": "a file without ending is not read",
        "new\\nline.jpg": "image_id holds control characters",
        "latin-\\udce4.jpg": "image_id is not UTF-8",
    }


def test_links_that_lead_out_in_circles_or_nowhere_are_refused(tmp_path: Path) -> None:
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
    assert {place for place, e in found.items() if isinstance(e, Entry)} == {"own.jpg", "same.jpg"}
    assert len(found) == 7
    with pytest.raises(UndecodableImage, match="leads out"):
        read_photo("out.jpg", root)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read_is_reported(tmp_path: Path) -> None:
    photo(tmp_path / "a.jpg")
    photo(tmp_path / "locked" / "b.jpg").parent.chmod(0)
    try:
        assert [e.reason for e in Catalogue.open(tmp_path) if isinstance(e, Problem)] == [
            "folder cannot be read: Permission denied"
        ]
    finally:
        (tmp_path / "locked").chmod(0o700)


# Tables


def test_a_table_with_every_column(tmp_path: Path) -> None:
    table(
        tmp_path,
        "image_id,file,listing_id,level2,level1,title,description,price,lat,lon,created_at,colour,brand,extra\n"
        'i/1,x/1.jpg,i,T-Shirts/Tops,Apparel,"Red, ""new""\nand good",old,12.5,48.2,-16.4,'
        "2026-01-31T12:00:00+02:00,Red,Nike,?\n",
    )
    catalogue = Catalogue.open(tmp_path)
    assert catalogue.root == tmp_path
    assert catalogue.ignored_columns == ["extra"]
    assert list(catalogue) == [
        Entry(
            image_id="i/1",
            photo="x/1.jpg",
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
    ]


@pytest.mark.parametrize(
    "text",
    [
        "\ufeffimage_id;file;title\r\n1;a.jpg;x, y\r\n",
        'Image_ID , FILE,title\n1,a.jpg,"x, y"\n',
        "image_id\tfile\ttitle\n1\ta.jpg\tx, y",
        '"image_id","file","title"\r\n\r\n"1","a.jpg","x, y"\r\n\r\n',
    ],
)
def test_the_dialects_of_csv(tmp_path: Path, text: str) -> None:
    assert only_entry(table(tmp_path, text)) == Entry("1", "a.jpg", "1", title="x, y")


def test_a_group_column_is_a_path_and_wins_over_levels(tmp_path: Path) -> None:
    entry = only_entry(table(tmp_path, "image_id,file,level1,group\n1,a.jpg,,/ Apparel /Topwear//Tshirts/\n"))
    assert entry.group == "Apparel/Topwear/Tshirts"
    assert Catalogue.open(tmp_path).ignored_columns == ["level1"]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (",a.jpg", "no image_id"),
        ("1,", "no file"),
        ("x" * 513 + ",a.jpg", "512"),
        ("a\tb,a.jpg", "control"),
        ("1,../a.jpg", "leads out"),
        ("1,b/../../a.jpg", "leads out"),
        ("1,/etc/passwd", "leads out"),
        ("1,.", "leads out"),
        ("1,a\0.jpg", "control"),
        ("1,s3://bucket/a.jpg", "s3:// is not supported yet: local files only"),
        ("1,HTTPS://host/a.jpg", "not supported yet"),
        ("1,file:///etc/passwd", "not supported yet"),
        ("1,a.jpg,more", "3 fields, but the header has 2"),
        ("1", "1 fields, but the header has 2"),
        ('1,"a.jpg', "quote"),
        ('1,"a.jpg" b', "quote"),
        ("1," + "a" * 200_000, "field larger"),
        ("1," + "a" * 5_000_000, "a line of more than"),
    ],
)
def test_a_bad_row_is_reported_and_the_next_is_read(tmp_path: Path, row: str, reason: str) -> None:
    before, after = "0,0.jpg", "2,2.jpg"
    is_open = row.startswith('1,"a.jpg') and not row.endswith("b")
    rows = [before, row] if is_open else [before, row, after]  # an open quote has no next row
    path = table(tmp_path, "image_id,file\n" + "\n".join(rows) + "\n")
    good, problem, *rest = Catalogue.open(path)
    assert isinstance(good, Entry)
    assert isinstance(problem, Problem)
    assert reason in problem.reason
    assert problem.row == 3
    assert [entry.image_id for entry in rest] == ([] if is_open else ["2"])


def test_a_row_that_is_not_utf8_spoils_only_itself(tmp_path: Path) -> None:
    filler = b"".join(b"%d,%d.jpg,ok\n" % (n, n) for n in range(10_000))
    path = table(tmp_path, b"image_id,file,title\n" + filler + b"x,x.jpg,M\xfctze\ny,y.jpg,ok\n")
    found = list(Catalogue.open(path))
    assert [(p.image_id, p.reason) for p in found if isinstance(p, Problem)] == [("x", "title is not UTF-8")]
    assert len(found) == 10_002


def test_an_absolute_file_inside_the_folder_becomes_relative(tmp_path: Path) -> None:
    assert only_entry(table(tmp_path, f"image_id,file\n1,{tmp_path}/x/../a.jpg\n")).photo == "a.jpg"


def test_an_id_that_comes_twice_is_reported_and_the_first_kept(tmp_path: Path) -> None:
    first, second, other = Catalogue.open(table(tmp_path, "image_id,file\n1,a.jpg\n1,b.jpg\n2,c.jpg\n"))
    assert isinstance(first, Entry)
    assert isinstance(second, Problem)
    assert (second.image_id, second.file, second.row) == ("1", "b.jpg", 3)
    assert isinstance(other, Entry)


def test_seen_ids_are_found_in_the_newest_and_in_the_sorted_part() -> None:
    seen = _Seen(recent=7)
    ids = [f"{n}/{n}" for n in range(100)]
    assert all(seen.add(name) for name in ids)
    assert not any(seen.add(name) for name in ids)
    assert seen.add("new")


@pytest.mark.parametrize(
    ("column", "value", "note"),
    [
        ("price", "cheap", "price 'cheap' is not a number"),
        ("price", "-1", "price '-1'"),
        ("price", "nan", "price 'nan'"),
        ("price", "1e999", "price '1e999'"),
        ("price", "1_000", "price '1_000'"),
        ("price", "12,50", "price '12,50'"),
        ("lat", "90.1", "lat '90.1' is not a number from -90 to 90"),
        ("lat", "48.2", "a place needs both"),
        ("created_at", "yesterday", "created_at 'yesterday'"),
        ("created_at", "0001-01-01T00:00:00+14:00", "created_at"),
        ("listing_id", "a\x01b", "listing_id"),
    ],
)
def test_an_optional_field_that_cannot_be_read_leaves_a_note(
    tmp_path: Path, column: str, value: str, note: str
) -> None:
    entry = only_entry(table(tmp_path, f'image_id,file,{column}\n1,a.jpg,"{value}"\n'))
    assert getattr(entry, column) == ("1" if column == "listing_id" else None)
    assert any(note in text for text in entry.notes)


def test_times_without_an_offset_are_utc(tmp_path: Path) -> None:
    path = table(tmp_path, "image_id,file,created_at\n1,a.jpg,2026-01-31\n")
    assert only_entry(path).created_at == datetime(2026, 1, 31, tzinfo=UTC)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.csv", b"", "is empty"),
        ("a.csv", b"\n \n", "is empty"),
        ("a.csv", b"image_id,file\n", "no rows"),
        ("a.csv", b"id,path\n1,a.jpg\n", "no column image_id and no column file; found: id, path"),
        ("a.csv", b"image_id\n1\n", "no column file"),
        ("a.csv", b"image_id,file,File\n1,a.jpg,b.jpg\n", "file is there twice"),
        ("a.csv", "image_id,file\n1,a.jpg\n".encode("utf-16"), "not UTF-8"),
        ("a.csv", "image_id,file\n1,Mütze.jpg\n".encode("latin-1"), "byte 0xfc in line 2"),
        ("a.csv", b"x" * 200_000, "no column"),
        ("a.parquet", b"PAR1 but no more", "not a Parquet file"),
        ("a.parquet", b"", "not a Parquet file"),
        ("a.jpg", b"\xff\xd8\xff", "neither a folder"),
    ],
)
def test_a_table_that_cannot_be_read_at_all(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    with pytest.raises(BadCatalogue, match=says):
        Catalogue.open(table(tmp_path, content, name))


def test_places_that_are_no_catalogue(tmp_path: Path) -> None:
    with pytest.raises(BadCatalogue, match="No such file"):
        Catalogue.open(tmp_path / "missing")
    with pytest.raises(BadCatalogue, match="no photos"):
        Catalogue.open(tmp_path)
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(BadCatalogue, match="neither a folder nor a file"):
        Catalogue.open(tmp_path / "pipe.csv")
    for name in ("catalog.csv", "catalogue.csv"):
        table(tmp_path, "image_id,file\n1,a.jpg\n", name)
    with pytest.raises(BadCatalogue, match=r"catalog\.csv and catalogue\.csv"):
        Catalogue.open(tmp_path)


# Parquet


def test_parquet_gives_what_the_csv_gives(tmp_path: Path) -> None:
    header = ["image_id", "file", "level1", "price", "lat", "lon", "created_at", "title"]
    rows = [
        [
            "7",
            "7.jpg",
            "Shoes",
            "12.5",
            "48",
            "-16.25",
            "2026-01-31T12:00:00.000001+00:00",
            "Für dich",
        ],
        ["8", "8.jpg", "", "", "", "", "", ""],
        ["7", "9.jpg", "", "3", "", "", "", ""],
    ]
    with (tmp_path / "a.csv").open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    moment = datetime(2026, 1, 31, 12, 0, 0, 1, tzinfo=UTC)
    columns = {
        "image_id": pa.array([7, 8, 7], pa.int64()),
        "file": pa.array([row[1] for row in rows], pa.large_string()),
        "level1": pa.array(["Shoes", None, None]).dictionary_encode(),
        "price": pa.array([12.5, float("nan"), 3.0]),
        "lat": pa.array([48.0, None, None], pa.float32()),
        "lon": pa.array([-16.25, None, None]),
        "created_at": pa.array([moment, None, None], pa.timestamp("us", tz="Europe/Vienna")),
        "title": pa.array(["Für dich", None, ""]),
    }
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    from_csv = list(Catalogue.open(tmp_path / "a.csv"))
    from_parquet = list(Catalogue.open(tmp_path / "a.parquet"))
    assert from_parquet[:2] == from_csv[:2]
    assert isinstance(from_parquet[2], Problem)
    assert from_parquet[2].row == 3
    assert Catalogue.open(tmp_path / "a.parquet").estimate() == 3


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (pa.array([date(2026, 1, 31)]), datetime(2026, 1, 31, tzinfo=UTC)),
        (pa.array([1_000_000_001], pa.timestamp("ns")), datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)),
        (pa.array([86_400], pa.timestamp("s")), datetime(1970, 1, 2, tzinfo=UTC)),
        (pa.array([2**62], pa.timestamp("ms")), None),
        (pa.array(["2026-01-31"]), datetime(2026, 1, 31, tzinfo=UTC)),
        (pa.array([5], pa.int64()), None),
    ],
)
def test_parquet_times_of_every_unit(tmp_path: Path, values: pa.Array, expected: datetime | None) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"image_id": ["1"], "file": ["a.jpg"], "created_at": values}), path)
    entry = only_entry(path)
    assert entry.created_at == expected
    assert bool(entry.notes) == (expected is None)


def test_parquet_with_bad_text_long_text_and_nested_columns(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    not_utf8 = pa.Array.from_buffers(pa.string(), 1, pa.array([b"M\xfctze"], pa.binary()).buffers())
    pq.write_table(pa.table({"image_id": ["1"], "file": ["a.jpg"], "title": not_utf8}), path)
    assert only_problem(path).reason == "title is not UTF-8"
    pq.write_table(pa.table({"image_id": ["1"], "file": ["a.jpg"], "title": ["x" * 131_073]}), path)
    assert "131,073 characters" in only_problem(path).reason
    pq.write_table(pa.table({"image_id": [["1"]], "file": ["a.jpg"]}), path)
    with pytest.raises(BadCatalogue, match="image_id holds list"):
        Catalogue.open(path)


# Reading photos


def test_read_photo_gives_the_bytes(tmp_path: Path) -> None:
    path = photo(tmp_path / "x" / "a.png")
    assert read_photo("x/a.png", tmp_path) == path.read_bytes()


def test_read_photo_says_what_is_wrong_and_never_waits(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "circle.jpg").symlink_to("circle.jpg")
    with (tmp_path / "huge.jpg").open("wb") as file:
        file.truncate(images.MAX_BYTES + 1)
    for name, reason in {
        "missing.jpg": "no such file",
        "pipe.jpg": "not a regular file",
        "folder.jpg": "cannot be read: Is a directory",
        "circle.jpg": "cannot be read",
        "huge.jpg": "too many bytes: 25,000,001",
        "../other.jpg": "no such file|leads out",
        "/etc/passwd": "leads out",
        "nul\0.jpg": "cannot be read",
        "long" * 1_000: "cannot be read: File name too long",
    }.items():
        with pytest.raises(UndecodableImage, match=reason):
            read_photo(name, tmp_path)


@pytest.mark.real_data
@pytest.mark.skipif(not REAL.exists(), reason="needs ../shared/data")
def test_the_real_catalogue_has_no_problem_and_every_photo_decodes() -> None:
    catalogue = Catalogue.open(REAL)
    entries = [entry for entry in catalogue if isinstance(entry, Entry)]
    assert len(entries) == catalogue.estimate() == 5_378
    assert not any(entry.notes for entry in entries)
    assert len({entry.group for entry in entries}) == 36
    for entry in entries[::50]:
        assert images.decode(read_photo(entry.photo, catalogue.root), 64).std() > 1
