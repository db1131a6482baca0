"""Laws of catalogues: every row is accounted for, none leaves the folder, no bytes stop the job."""

import csv
import os
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given
from hypothesis import strategies as st

from lookalike.ingest.catalogue.reader import Catalogue, Entry, Problem

TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=12)
PATHS = st.lists(st.sampled_from(["a.jpg", "b", "..", ".", "", "/", "ä", "c\\d"]), max_size=5).map("/".join)
NUMBERS = st.floats().map(str) | TEXT
QUOTING = st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL])
ROWS = st.lists(st.tuples(TEXT, PATHS | TEXT, TEXT, NUMBERS), min_size=1, max_size=12)


@given(rows=ROWS, delimiter=st.sampled_from(",;\t"), quoting=QUOTING)
def test_each_row_is_an_entry_or_a_problem_and_stays_in_the_folder(
    rows: list[tuple[str, str, str, str]], delimiter: str, quoting: int
) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder, "catalog.csv")
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, delimiter=delimiter, quoting=quoting)
            writer.writerows([("image_id", "file", "title", "price"), *rows])
        catalogue = Catalogue.open(path)
        found = list(catalogue)
    assert len(found) == len(rows)
    root = os.path.realpath(folder)
    for (image_id, file, title, price), item in zip(rows, found, strict=True):
        if isinstance(item, Problem):
            assert item.reason
            continue
        assert item.image_id == image_id.strip()
        assert item.title == title.strip()
        place = os.path.normpath(f"{root}/{item.photo}")
        assert place == os.path.normpath(Path(root) / file.strip())
        assert os.path.commonpath([root, place]) == root
        assert (item.price is None) == (not price.strip() or bool(item.notes))
        assert item.price is None or item.price == float(price)
    ids = [item.image_id for item in found if isinstance(item, Entry)]
    assert len(ids) == len(set(ids))


@given(body=st.binary(min_size=1, max_size=300) | st.text('",;\r\n\0a1', max_size=60).map(str.encode))
def test_no_bytes_below_the_first_rows_stop_the_job(body: bytes) -> None:
    wide = b"%40000s"  # so that the body lies behind the part that must be UTF-8 throughout
    head = b"image_id,file\n" + b"".join((b"%d," + wide + b"\n") % (n, b"a.jpg") for n in (1, 2))
    with TemporaryDirectory() as folder:
        path = Path(folder, "catalog.csv")
        path.write_bytes(head + body)
        found = list(Catalogue.open(path))
    assert all(isinstance(item, Entry) for item in found[:2])
    if b'"' not in body:  # a quote may join lines
        lines = body.decode("utf-8", "surrogateescape").replace("\r\n", "\n").replace("\r", "\n").split("\n")
        assert len(found) == 2 + sum(1 for line in lines if line)
