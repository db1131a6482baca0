"""Photos that mean harm."""

from __future__ import annotations

import zlib


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims to be very large: its header, and a little of its compressed zeros."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    size = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    pixels = zlib.compress(bytes(100_000))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size + b"\x08\x02\0\0\0") + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )


def small_png(side: int) -> bytes:
    """A grey square."""
    data = zlib.compress((b"\0" + b"\x80" * (3 * side)) * side)
    chunk = len(data).to_bytes(4, "big") + b"IDAT" + data + zlib.crc32(b"IDAT" + data).to_bytes(4, "big")
    whole = png_header(side, side)
    return whole[: whole.index(b"IDAT") - 4] + chunk + whole[-12:]
