"""Folders of photos: their order and groups, formats that are not read, links that lead astray."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from support.catalogues import photo

from lookalike.errors import UndecodableImage
from lookalike.ingest.catalogue.catalogue import Catalogue, Entry, Problem
from lookalike.ingest.photos.fetch import read_photo


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
