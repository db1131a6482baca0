"""Photos from every kind of location, with limits, and what is said when there is none."""

import os
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support.catalogues import photo
from support.s3 import Fault, Faults

from lookalike import storage
from lookalike.errors import UndecodableImage
from lookalike.ingest.photos import fetch
from lookalike.ingest.photos.fetch import MAX_FAILURES, PhotoReader, read_photo, source_state
from lookalike.ingest.photos.header import MAX_BYTES
from lookalike.storage import Location, s3_retry, web


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


def test_source_state_changes_with_the_file(tmp_path: Path) -> None:
    path = photo(tmp_path / "a.png")
    first = source_state("a.png", tmp_path).identity
    assert source_state("a.png", Location.parse(tmp_path)).identity == first
    path.write_bytes(path.read_bytes() + b"more")
    grown = source_state("a.png", tmp_path).identity
    os.utime(path, ns=(0, 1))
    touched = source_state("a.png", tmp_path).identity
    assert len({first, grown, touched}) == 3
    assert str(tmp_path) not in first  # a catalogue that was moved is the same
    path.unlink()
    with pytest.raises(UndecodableImage, match="no such file"):
        source_state("a.png", tmp_path)


def test_source_state_of_a_url_sends_no_request() -> None:
    url = "https://nobody.invalid/a.jpg?v=2"
    assert source_state(url, Path("/")).identity == url


def test_read_photo_reads_from_s3_below_a_root_and_by_url(s3_root: Location) -> None:
    storage.write(s3_root / "x/a b.jpg", b"photo")
    assert read_photo("x/a b.jpg", s3_root) == b"photo"
    assert read_photo(f"{s3_root}/x/a b.jpg", Path("/anywhere")) == b"photo"


def test_read_photo_says_what_is_wrong_on_s3(
    s3_root: Location, faults: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "MAX_BYTES", 4)
    monkeypatch.setattr(s3_retry, "DEADLINE_S", 0.0)
    storage.write(s3_root / "large.jpg", b"12345")
    storage.write(s3_root / "fits.jpg", b"1234")
    assert read_photo("fits.jpg", s3_root) == b"1234"
    for name, reason in {
        "large.jpg": "too many bytes: at most 4 are read",
        "missing.jpg": "^no such object$",
        "back\\slash.jpg": "is not a name below",
        "../a.jpg": "has '..'",
        "s3://bucket-that-is-not-there/a.jpg": "unreachable: .*there is no bucket",
    }.items():
        with pytest.raises(UndecodableImage, match=reason):
            read_photo(name, s3_root)
    faults.add(Fault.UNAVAILABLE, None)
    with pytest.raises(UndecodableImage, match=r"unreachable: .*fits\.jpg"):
        read_photo("fits.jpg", s3_root)


def test_read_photo_of_a_private_address_needs_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "MAX_ATTEMPTS", 1)
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(10)
        url = f"https://127.0.0.1:{server.getsockname()[1]}/a.jpg?signature"
        with pytest.raises(UndecodableImage, match=r"unreachable: .*not public") as refused:
            read_photo(url, Path("/"))
        assert "signature" not in str(refused.value)
        server.setblocking(False)
        with pytest.raises(BlockingIOError):
            server.accept()
        server.setblocking(True)
        with ThreadPoolExecutor(1) as pool:
            reading = pool.submit(read_photo, url, Path("/"), allow_private=True)
            server.accept()[0].close()  # it came; that it hears no TLS is another matter
            with pytest.raises(UndecodableImage, match="unreachable"):
                reading.result()


def test_source_state_of_an_object_changes_with_its_content(s3_root: Location) -> None:
    with pytest.raises(UndecodableImage, match="no such object"):
        source_state("a.jpg", s3_root)
    storage.write(s3_root / "a.jpg", b"old")
    first = source_state("a.jpg", s3_root).identity
    assert source_state(f"{s3_root}/a.jpg", Path("/")).identity == first
    storage.write(s3_root / "a.jpg", b"new")
    assert source_state("a.jpg", s3_root).identity != first


def test_photo_reader_gives_up_a_host_that_does_not_answer_and_tries_it_again(
    s3_root: Location, faults: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_retry, "DEADLINE_S", 0.0)
    storage.write(s3_root / "a.jpg", b"photo")
    faults.add(Fault.UNAVAILABLE, None)
    patient = PhotoReader(s3_root, slow_s=0.0, pause_s=1e9)
    with faults.counting() as requests:
        for _ in range(MAX_FAILURES + 5):
            with pytest.raises(UndecodableImage, match="unreachable"):
                patient.read("a.jpg")
    assert requests.total() == MAX_FAILURES
    faults.clear()
    with pytest.raises(UndecodableImage, match=f"s3://{s3_root.host} did not answer {MAX_FAILURES} times"):
        patient.read("a.jpg")

    faults.add(Fault.UNAVAILABLE, MAX_FAILURES + 1)
    eager = PhotoReader(s3_root, slow_s=0.0, pause_s=0.0)
    for _ in range(MAX_FAILURES + 1):
        with pytest.raises(UndecodableImage):
            eager.state("a.jpg")
    assert eager.read("a.jpg") == b"photo"


def test_photo_reader_goes_on_reading_where_refusals_are_quick(s3_root: Location, faults: Faults) -> None:
    storage.write(s3_root / "a.jpg", b"photo")
    reader = PhotoReader(s3_root, pause_s=1e9)
    for name in ["missing.jpg", "s3://bucket-that-is-not-there/a.jpg"] * (MAX_FAILURES + 1):
        with pytest.raises(UndecodableImage):
            reader.read(name)
    assert reader.read("a.jpg") == b"photo"
