"""Headers: what Pillow reads in them, and bounded work on those of nobody's making."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from support.photos import HOSTILE, noisy, png_chunk

from lookalike.errors import UndecodableImage
from lookalike.ingest.photos.decode import decode
from lookalike.ingest.photos.header import jpeg_segments, png_chunks, read_header


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("JPEG", {}),
        ("JPEG", {"progressive": True}),
        ("JPEG", {"icc_profile": bytes(200_000), "exif": b"Exif\0\0" + bytes(60_000), "comment": b"\xff\xc0" * 99}),
        ("PNG", {}),
        ("WEBP", {}),
        ("WEBP", {"lossless": True}),
        ("WEBP", {"exif": b"Exif\0\0" + bytes(100)}),
    ],
)
def test_read_header_says_what_pillow_says(kind: str, options: dict[str, Any]) -> None:
    for width, height in ((8, 8), (9, 200), (301, 64)):
        photo = noisy(kind, width, height, **options)
        with Image.open(io.BytesIO(photo)) as opened:
            header = read_header(photo)
            assert (header.width, header.height) == opened.size == (width, height)
            assert header.media_type == f"image/{kind.lower()}"
            assert header.progressive == bool(options.get("progressive"))


@pytest.mark.parametrize("name", HOSTILE)
def test_decode_refuses_a_hostile_photo_with_its_reason(name: str) -> None:
    """Within the time that a test may take; the first version took 5 s for 25 MB of 0xff, in Python."""
    make, reason = HOSTILE[name]
    with pytest.raises(UndecodableImage, match=reason):
        decode(make(), 32)


@given(st.binary(max_size=300), st.sampled_from([b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF\0\0\0\0WEBPVP8"]))
def test_read_header_of_any_bytes_is_a_header_or_a_reason(rest: bytes, start: bytes) -> None:
    with contextlib.suppress(UndecodableImage):
        header = read_header(start + rest)
        assert 64 <= header.width * header.height <= 50_000_000


@given(st.lists(st.tuples(st.integers(1, 200), st.binary(max_size=20).map(lambda b: b.replace(b"\xff", b"")))))
def test_jpeg_segments_step_over_fill_and_stray_bytes(between: list[tuple[int, bytes]]) -> None:
    whole = noisy("JPEG", 16, 16)
    plain = [(marker, whole[start:end]) for marker, start, end in jpeg_segments(whole)]
    padded = b"\xff\xd8"
    for number, (_, segment) in enumerate(plain):
        fill, stray = between[number] if number < len(between) else (1, b"")
        padded += stray + b"\xff" * (fill - 1) + segment
    assert [(marker, padded[start:end]) for marker, start, end in jpeg_segments(padded)] == plain


def steps(walk: Iterator[object]) -> int:
    """How many steps a walk takes until it is given up."""
    taken = 0
    with contextlib.suppress(SyntaxError):
        for _ in walk:
            taken += 1
    return taken


def test_walks_over_segments_and_chunks_are_bounded() -> None:
    assert steps(jpeg_segments(b"\xff\xd8" + b"\xff\xe1\0\2" * 1_000_000)) == 4_000
    assert steps(png_chunks(b"\x89PNG\r\n\x1a\n" + png_chunk(b"tEXt", b"") * 200_000)) == 100_000
