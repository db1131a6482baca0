"""Photos that mean harm, and a large one that does not."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims to be very large: its header, and a little of its compressed zeros."""
    size = struct.pack(">II", width, height) + b"\x08\x02\0\0\0"
    pixels = png_chunk(b"IDAT", zlib.compress(bytes(100_000)))
    return PNG_SIGNATURE + png_chunk(b"IHDR", size) + pixels + png_chunk(b"IEND", b"")


def small_png(side: int) -> bytes:
    """A grey square."""
    return plain_png(side, side)


def plain_png(width: int, height: int, level: int = 128) -> bytes:
    """A grey PNG of any size: 50 megapixels are 0.2 MB of file."""
    deflate = zlib.compressobj(9)
    line = b"\0" + bytes([level]) * (3 * width)
    data = b"".join([*(deflate.compress(line) for _ in range(height)), deflate.flush()])
    size = struct.pack(">II", width, height) + b"\x08\x02\0\0\0"
    return PNG_SIGNATURE + png_chunk(b"IHDR", size) + png_chunk(b"IDAT", data) + png_chunk(b"IEND", b"")


def noisy(kind: str, width: int, height: int, seed: int = 0, **options: Any) -> bytes:
    """A photo of noise."""
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, kind, **options)
    return file.getvalue()


def animation(kind: str, frames: int) -> bytes:
    """Frames of noise, one after the other."""
    rng = np.random.default_rng(0)
    first, *others = [Image.fromarray(rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)) for _ in range(frames)]
    file = io.BytesIO()
    first.save(file, kind, save_all=True, append_images=others, duration=40)
    return file.getvalue()


def _many_scans() -> bytes:
    one = noisy("JPEG", 64, 64, progressive=True)
    return one[:-2] + one[one.rindex(b"\xff\xda") : -2] * 1000 + b"\xff\xd9"


def _claiming(sides: int) -> bytes:
    """A JPEG whose header lies."""
    return noisy("JPEG", 64, 64).replace(struct.pack(">HH", 64, 64), struct.pack(">HH", sides, sides), 1)


# What is refused, each with a part of the reason. Most have the 25 MB that a photo may have.
HOSTILE: dict[str, tuple[Callable[[], bytes], str]] = {
    "nothing": (bytes, "empty"),
    "0xff": (lambda: b"\xff" * 25_000_000, "not a photo"),
    "a JPEG of 0xff": (lambda: b"\xff\xd8" + b"\xff" * 24_999_998, "fill bytes"),
    "fill bytes before many markers": (lambda: b"\xff\xd8" + (b"\xff" * 2000 + b"\x01") * 12_000, "fill bytes"),
    "a JPEG of markers": (lambda: b"\xff\xd8\xff" + b"\x01\xff" * 12_000_000, "markers"),
    "a JPEG of empty segments": (lambda: b"\xff\xd8" + b"\xff\xe1\0\2" * 6_000_000, "markers"),
    "a JPEG of stray bytes": (lambda: b"\xff\xd8\xff\x01" + bytes(24_000_000), "truncated"),
    "a JPEG of stray 0xff": (lambda: b"\xff\xd8" + b"\xff\0" * 12_000_000, "markers"),
    "a JPEG of many scans": (_many_scans, "scans"),
    "a JPEG that claims 65,500 x 65,500": (lambda: _claiming(65_500), "too many pixels"),
    "a PNG of empty chunks": (lambda: PNG_SIGNATURE + png_chunk(b"teXt", b"") * 2_000_000, "no photo"),
    "empty chunks in a PNG": (lambda: png_header(64, 64)[:33] + png_chunk(b"IDAT", b"") * 2_000_000, "chunks"),
    "a PNG that claims 100,000 x 100,000": (lambda: png_header(100_000, 100_000), "too many pixels"),
    "a PNG with a hundredth of its pixels": (lambda: png_header(2000, 2000), "truncated"),
    "a WebP that claims 16,777,216 x 16,777,216": (
        lambda: b"RIFF\x16\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + b"\xff" * 6,
        "too many pixels",
    ),
    "half a JPEG": (lambda: noisy("JPEG", 64, 64)[:2000], "truncated"),
    "half a PNG": (lambda: noisy("PNG", 64, 64)[:6000], "truncated"),
    "half a WebP": (lambda: noisy("WEBP", 64, 64)[:500], "truncated"),
}
