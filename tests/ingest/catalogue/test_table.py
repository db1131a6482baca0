"""`CatalogueTable`: ids that come twice."""

from pathlib import Path

from support.catalogues import table

from lookalike.ingest.catalogue.catalogue import Catalogue, Entry, Problem
from lookalike.ingest.catalogue.table import _Seen


def test_catalogue_table_reports_an_id_that_comes_twice_and_keeps_the_first(tmp_path: Path) -> None:
    first, second, other = Catalogue.open(table(tmp_path, "image_id,file\n1,a.jpg\n1,b.jpg\n2,c.jpg\n"))
    assert isinstance(first, Entry)
    assert isinstance(second, Problem)
    assert (second.image_id, second.file, second.row) == ("1", "b.jpg", 3)
    assert isinstance(other, Entry)


def test_seen_finds_ids_in_the_newest_and_in_the_sorted_part() -> None:
    seen = _Seen(recent=7)
    ids = [f"{n}/{n}" for n in range(100)]
    assert all(seen.add(name) for name in ids)
    assert not any(seen.add(name) for name in ids)
    assert seen.add("new")
