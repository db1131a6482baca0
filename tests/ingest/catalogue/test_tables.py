"""CSV and Parquet files as strangers write them: good ones, odd ones, hostile ones."""

import csv
from datetime import UTC, date, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.catalogues import only_entry, only_problem, table

from lookalike.errors import BadCatalogue
from lookalike.ingest.attributes import Attributes
from lookalike.ingest.catalogue.catalogue import Catalogue, Entry, Problem


@pytest.mark.parametrize(
    "text",
    [
        "\ufeffimage_id;file;title\r\n1;a.jpg;x, y\r\n",
        'Image_ID , FILE,title\n1,a.jpg,"x, y"\n',
        "image_id\tfile\ttitle\n1\ta.jpg\tx, y",
        '"image_id","file","title"\r\n\r\n"1","a.jpg","x, y"\r\n\r\n',
    ],
)
def test_csv_table_reads_every_dialect(tmp_path: Path, text: str) -> None:
    assert only_entry(table(tmp_path, text)) == Entry("1", "a.jpg", Attributes(listing_id="1", title="x, y"))


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (",a.jpg", "image_id is empty"),
        ("1,", "file is empty"),
        ("x" * 513 + ",a.jpg", "512"),
        ("a\tb,a.jpg", "control"),
        ("x/photo,a.jpg", "image_id ends in /photo"),
        ("a/../b,a.jpg", "image_id has '.' or '..'"),
        ("1,../a.jpg", "file has '..'"),
        ("1,b/../a.jpg", "file has '..'"),
        ("1,/etc/passwd", "file is an absolute path"),
        ("1,./s3:/a.jpg", "file is a path that reads like a URL"),
        ("1,.", "file is the catalogue's folder"),
        ("1,a\0.jpg", "control"),
        ("1,s3://bucket", "file names no photo"),
        ("1,http://host/a.jpg", "file is at http://, which is not read"),
        ("1,https://user:secret@host/a.jpg", "must not hold a user name"),
        ("1,file:///etc/passwd", "file is at file://, which is not read"),
        ("1,a.jpg,more", "3 fields, but the header has 2"),
        ("1", "1 fields, but the header has 2"),
        ('1,"a.jpg', "quote"),
        ('1,"a.jpg" b', "quote"),
        ("1," + "a" * 200_000, "field larger"),
        ("1," + "a" * 5_000_000, "a line of more than"),
    ],
)
def test_csv_table_reports_a_bad_row_and_reads_the_next(tmp_path: Path, row: str, reason: str) -> None:
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


def test_csv_table_of_a_field_that_is_not_utf8_keeps_the_row(tmp_path: Path) -> None:
    filler = b"".join(b"%d,%d.jpg,ok\n" % (n, n) for n in range(10_000))
    path = table(tmp_path, b"image_id,file,title\n" + filler + b"x,x.jpg,M\xfctze\ny,y.jpg,ok\n")
    found = list(Catalogue.open(path))
    assert [(e.image_id, e.notes) for e in found if isinstance(e, Entry) and e.notes] == [
        ("x", ("title is not UTF-8",))
    ]
    assert len(found) == 10_002


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
def test_table_that_cannot_be_read_at_all_is_refused(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    with pytest.raises(BadCatalogue, match=says):
        Catalogue.open(table(tmp_path, content, name))


def test_parquet_table_of_typed_columns_gives_what_the_csv_gives(tmp_path: Path) -> None:
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
def test_parquet_table_reads_times_of_every_unit(tmp_path: Path, values: pa.Array, expected: datetime | None) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"image_id": ["1"], "file": ["a.jpg"], "created_at": values}), path)
    entry = only_entry(path)
    assert entry.attributes.created_at == expected
    assert bool(entry.notes) == (expected is None)


def test_parquet_table_of_bad_text_long_text_and_nested_columns(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    not_utf8 = pa.Array.from_buffers(pa.string(), 1, pa.array([b"M\xfctze"], pa.binary()).buffers())
    pq.write_table(pa.table({"image_id": ["1"], "file": ["a.jpg"], "title": not_utf8}), path)
    assert only_entry(path).notes == ("title is not UTF-8",)
    pq.write_table(pa.table({"image_id": ["1"], "file": ["a.jpg"], "title": ["x" * 131_073]}), path)
    assert "131,073 characters" in only_problem(path).reason
    pq.write_table(pa.table({"image_id": [["1"]], "file": ["a.jpg"]}), path)
    with pytest.raises(BadCatalogue, match="image_id holds list"):
        Catalogue.open(path)
