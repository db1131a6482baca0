"""Photos from every kind of location, with limits, and what is said when there is none."""

import os
from pathlib import Path

import pytest
from support.catalogues import photo

from lookalike.errors import UndecodableImage
from lookalike.ingest.photos.decode import MAX_BYTES
from lookalike.ingest.photos.fetch import read_photo, source_identity
from lookalike.storage.location import Location


def test_read_photo_gives_the_bytes(tmp_path: Path) -> None:
    path = photo(tmp_path / "x" / "a.png")
    assert read_photo("x/a.png", tmp_path) == path.read_bytes()
    assert read_photo("x/a.png", Location.parse(tmp_path)) == path.read_bytes()


def test_read_photo_says_what_is_wrong_and_never_waits(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "circle.jpg").symlink_to("circle.jpg")
    with (tmp_path / "huge.jpg").open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    for name, reason in {
        "missing.jpg": "no such file",
        "pipe.jpg": "not a regular file",
        "folder.jpg": "cannot be read: Is a directory",
        "circle.jpg": "cannot be read",
        "huge.jpg": "too many bytes: 25,000,001",
        "../other.jpg": "has '..'",
        "/etc/passwd": "is an absolute path",
        "nul\0.jpg": "holds control characters",
        "long" * 1_000: "cannot be read: File name too long",
    }.items():
        with pytest.raises(UndecodableImage, match=reason):
            read_photo(name, tmp_path)


def test_source_identity_changes_with_the_file(tmp_path: Path) -> None:
    path = photo(tmp_path / "a.png")
    first = source_identity("a.png", tmp_path)
    assert source_identity("a.png", Location.parse(tmp_path)) == first
    path.write_bytes(path.read_bytes() + b"more")
    grown = source_identity("a.png", tmp_path)
    os.utime(path, ns=(0, 1))
    touched = source_identity("a.png", tmp_path)
    assert len({first, grown, touched}) == 3
    assert str(tmp_path) not in first  # a catalogue that was moved is the same
    path.unlink()
    with pytest.raises(UndecodableImage, match="no such file"):
        source_identity("a.png", tmp_path)


def test_source_identity_of_a_url_asks_nobody() -> None:
    url = "https://nobody.invalid/a.jpg?v=2"
    assert source_identity(url, Path("/")) == url
