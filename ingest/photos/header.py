"""What the header of a photo says: its kind and its sides. Nothing is decoded, and Pillow is not needed.

Photos come from strangers. The walk over segments and chunks is bounded in steps, so the worst of 25 MB is refused in
milliseconds.
"""

from __future__ import annotations

import itertools
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from lookalike.errors import UndecodableImage

MAX_BYTES = 25_000_000  # a 50-megapixel phone JPEG has 10 to 20 MB
MAX_PIXELS = 50_000_000  # 200 MB as RGBA, and more than twice that while it is decoded and resized
MIN_SIDE_PX = 8  # one JPEG block; smaller "photos" are tracking pixels and spacers
MAX_ASPECT = 32  # beyond that the photo would be a strip of 7 pixels in a square of 224

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
START_OF_SCAN = 0xDA
_BARE_MARKERS = frozenset({0x00, 0x01, *range(0xD0, 0xDA)})  # without a length: TEM, RST, SOI, EOI
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # starts of frame; the three are tables and reserved
_PROGRESSIVE = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
# A 25 MB JPEG has some 400 segments of metadata at most. Stray bytes between them may hold what looks like markers.
_MAX_MARKERS = 4_000
_MAX_FILL_BYTES = 65_536  # 0xff before markers, in all; encoders write none or one
_MAX_CHUNKS = 100_000  # of 8 kB each in most PNGs, which makes 3,000
_MAX_CHUNKS_BEFORE_HEADER = 16
_FILL = re.compile(b"\xff{1,%d}" % (_MAX_FILL_BYTES + 2))

_SIGNATURES = (  # offset, magic, name: the first that fits
    (0, b"GIF8", "a GIF"),
    (0, b"BM", "a BMP"),
    (0, b"II*\x00", "a TIFF or camera raw file"),
    (0, b"MM\x00*", "a TIFF or camera raw file"),
    (4, b"ftypavif", "an AVIF"),
    (4, b"ftyphei", "a HEIC"),
    (4, b"ftypmif1", "a HEIC"),
    (4, b"ftyp", "a video"),
    (0, b"%PDF", "a PDF"),
    (0, b"PK\x03\x04", "a ZIP archive or office document"),
    (0, b"\x1f\x8b", "a gzip archive"),
    (0, b"PAR1", "a Parquet table"),
)


@dataclass(frozen=True, slots=True)
class Header:
    """What a photo says of itself.

    Attributes
    ----------
    media_type : str
        ``image/jpeg``, ``image/png`` or ``image/webp``.
    width, height : int
        In pixels, before any rotation.
    progressive : bool
        A JPEG that is decoded as a whole before any of it can be scaled.
    """

    media_type: str
    width: int
    height: int
    progressive: bool = False


def media_type(data: bytes) -> str | None:
    """Tell ``image/jpeg``, ``image/png`` or ``image/webp`` from the first 12 bytes; None for all else."""
    if data.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if data.startswith(PNG_SIGNATURE):
        return "image/png"
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "image/webp"
    return None


def read_header(data: bytes) -> Header:
    """Read the header of a photo, and refuse what it alone shows to be unfit.

    Raises
    ------
    UndecodableImage
        With a short reason: empty, over ``MAX_BYTES``, not a photo, no whole header, over ``MAX_PIXELS``, a side under
        ``MIN_SIDE_PX``, or one side over ``MAX_ASPECT`` times the other.
    """
    if not data:
        raise UndecodableImage("empty: 0 bytes")
    if len(data) > MAX_BYTES:
        raise UndecodableImage(f"too many bytes: {len(data):,}; at most {MAX_BYTES:,} are read")
    kind = media_type(data)
    if kind is None:
        raise UndecodableImage(f"{_looks_like(data)}, not a photo that we read (JPEG, PNG or WebP)")
    try:
        if kind == "image/jpeg":
            header = _jpeg_header(data)
        elif kind == "image/png":
            header = _png_header(data)
        else:
            header = Header(kind, *_webp_sides(data))
    except (EOFError, SyntaxError) as error:
        raise UndecodableImage(reason(error)) from error
    check_sides(header.width, header.height)
    return header


def check_sides(width: int, height: int) -> None:
    """Refuse a photo by its sides."""
    sides = f"{width:,} x {height:,} pixels"
    if width * height > MAX_PIXELS:
        raise UndecodableImage(f"too many pixels: {sides}; at most {MAX_PIXELS // 1_000_000} megapixels are read")
    if min(width, height) < MIN_SIDE_PX:
        raise UndecodableImage(f"too small: {sides}; each side must have at least {MIN_SIDE_PX}")
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise UndecodableImage(f"a strip: {sides}; one side may be at most {MAX_ASPECT} times the other")


def reason(error: Exception) -> str:
    """Say in a few words what an error that a file caused means."""
    text = str(error)
    if "truncated" in text.lower():
        return "truncated: the file ends before the photo does"
    if "not identified" in text:  # Pillow's word for any nonsense in a header
        return "damaged: its header describes no photo"
    return f"damaged: {text}"[:200]


def jpeg_segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Walk over the segments of a JPEG up to its first scan: (marker, start, end) each.

    The last one is the start of the scan, which is taken to end with the file.

    Raises
    ------
    EOFError
        The file ends before that.
    SyntaxError
        There are more markers or fill bytes than any encoder writes.
    """
    at, fill = 2, 0
    for _ in range(_MAX_MARKERS):
        start = data.find(b"\xff", at)  # stray bytes between segments: other viewers step over them too
        run = _FILL.match(data, start) if start >= 0 else None
        if run is None or run.end() + 3 > len(data):
            raise EOFError("truncated before the photo starts")
        at = run.end() - 1
        fill += at - start
        if fill > _MAX_FILL_BYTES:
            raise SyntaxError(f"more than {_MAX_FILL_BYTES:,} fill bytes")
        marker = data[at + 1]
        if marker in _BARE_MARKERS:
            at += 2
            continue
        if marker == START_OF_SCAN:
            yield marker, at, len(data)
            return
        end = at + 2 + struct.unpack_from(">H", data, at + 2)[0]
        yield marker, at, end
        at = end
    raise SyntaxError(f"no photo within its first {_MAX_MARKERS:,} markers")


def png_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Walk over the chunks of a PNG, its end included: (kind, start, end) each.

    Raises
    ------
    EOFError
        The file ends before its end chunk does.
    SyntaxError
        There are more chunks than any encoder writes.
    """
    at = len(PNG_SIGNATURE)
    for _ in range(_MAX_CHUNKS):
        if at + 12 > len(data):
            raise EOFError("truncated between two chunks")
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        if end > len(data):
            raise EOFError("truncated inside a chunk")
        yield kind, at, end
        if kind == b"IEND":
            return
        at = end
    raise SyntaxError(f"more than {_MAX_CHUNKS:,} chunks")


def _jpeg_header(data: bytes) -> Header:
    for marker, at, _ in jpeg_segments(data):
        if marker in _FRAMES:
            if at + 9 > len(data):
                raise EOFError("truncated in its header")
            height, width = struct.unpack_from(">HH", data, at + 5)
            return Header("image/jpeg", width, height, marker in _PROGRESSIVE)
    raise SyntaxError("its header describes no photo")


def _png_header(data: bytes) -> Header:
    for kind, at, end in itertools.islice(png_chunks(data), _MAX_CHUNKS_BEFORE_HEADER):
        if kind == b"IHDR":
            width, height = struct.unpack_from(">II", data, at + 8) if end - at >= 20 else (0, 0)
            if width and height:
                return Header("image/png", width, height)
            break
    raise SyntaxError("its header describes no photo")


def _webp_sides(data: bytes) -> tuple[int, int]:
    """Read the sides of the canvas as RFC 9649 lays them out; the RIFF length also shows a truncated file."""
    if len(data) < 30 or len(data) < 8 + struct.unpack_from("<I", data, 4)[0]:
        raise EOFError("truncated")
    chunk = data[12:16]
    if chunk == b"VP8X":
        width, height = (int.from_bytes(data[at : at + 3], "little") + 1 for at in (24, 27))
    elif chunk == b"VP8L":
        bits = struct.unpack_from("<I", data, 21)[0]
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    elif chunk == b"VP8 ":
        width, height = (side & 0x3FFF for side in struct.unpack_from("<2H", data, 26))
    else:
        raise SyntaxError(f"no image data in the WebP file, but {chunk!r}")
    return width, height


def _looks_like(data: bytes) -> str:
    for offset, magic, name in _SIGNATURES:
        if data.startswith(magic, offset):
            return name
    head = data[:512].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if head.startswith((b"<!doctype html", b"<html")):
        return "an HTML page"
    if head.startswith((b"<?xml", b"<svg")):
        return "an SVG or XML document"
    if not data[:512].strip(b"\x00"):
        return "zeros"
    if not any(byte < 9 or byte == 0x7F for byte in data[:512]):
        return "text"
    return "unknown bytes"
