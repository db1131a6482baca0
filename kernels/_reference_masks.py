"""The conditions in NumPy: slow, plain, and what every native variant must answer."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lookalike.kernels.places import NO_DEGREES, UNITS_PER_DEGREE, Circle

BEGINS_FIRST: Final = 1 << 15


def pack(mask: NDArray[np.bool_], out: NDArray[np.uint64]) -> None:
    """Row i is bit i % 64 of word i // 64, and the bits past the last row are 0."""
    packed = np.zeros(8 * len(out), np.uint8)
    packed[: -(-len(mask) // 8)] = np.packbits(mask, bitorder="little")
    out[:] = packed.view("<u8")


def unpack(words: NDArray[np.uint64], count: int) -> NDArray[np.bool_]:
    return np.unpackbits(words.astype("<u8", copy=False).view(np.uint8), count=count, bitorder="little").view(np.bool_)


def within(values: NDArray[Any], lower: float, upper: float, out: NDArray[np.uint64]) -> None:
    pack((values >= lower) & (values <= upper), out)


def members(numbers: NDArray[Any], table: NDArray[np.uint8], out: NDArray[np.uint64]) -> None:
    last = np.append(table, np.uint8(0))
    pack(np.take(last, numbers, mode="clip") != 0, out)


def near(
    lat: NDArray[np.int32],
    lon: NDArray[np.int32],
    circle: Circle,
    out: NDArray[np.uint64],
) -> None:
    rows = np.flatnonzero((lat != NO_DEGREES) & (lon != NO_DEGREES))
    met = np.zeros(len(lat), bool)
    met[rows] = is_near(lat[rows], lon[rows], circle)
    pack(met, out)


def is_near(lat: NDArray[np.int32], lon: NDArray[np.int32], circle: Circle) -> NDArray[np.bool_]:
    """Whether rows lie in a circle, by the haversine formula."""
    lat0, lon0 = np.radians(circle.lat), np.radians(circle.lon)
    lat1, lon1 = np.radians(lat / UNITS_PER_DEGREE), np.radians(lon / UNITS_PER_DEGREE)
    half_chord = np.sin((lat1 - lat0) / 2) ** 2 + np.cos(lat1) * np.cos(lat0) * np.sin((lon1 - lon0) / 2) ** 2
    met: NDArray[np.bool_] = half_chord <= circle.limit
    return met


def mark_below(parents: NDArray[np.uint32], marks: NDArray[np.uint8]) -> None:
    while True:
        marked = marks | marks[parents]
        if (marked == marks).all():
            return
        marks[:] = marked


def hash_texts(
    data: NDArray[np.uint8], starts: NDArray[np.int64], lengths: NDArray[np.int64], out: NDArray[np.uint16]
) -> None:
    hashes = np.full(len(starts), 0xCBF29CE484222325, np.uint64)
    for at in range(int(lengths.max(initial=0))):
        longer = np.flatnonzero(lengths > at)
        hashes[longer] = (hashes[longer] ^ data[starts[longer] + at]) * np.uint64(0x100000001B3)
    hashes ^= hashes >> np.uint64(32)
    out[:] = hashes * np.uint64(0x9E3779B97F4A7C15) >> np.uint64(48)


def second_ids_where(
    words: NDArray[np.uint32],
    offsets: NDArray[np.uint32],
    wanted: Collection[bytes],
    where: NDArray[np.uint64],
    out: NDArray[np.uint64],
) -> None:
    met = unpack(where, len(offsets)).copy()
    data = words.view(np.uint8)
    texts = set(wanted)
    for row in np.flatnonzero(met):
        offset = int(offsets[row])
        first, second = int(words[offset]) & 0xFFFF, int(words[offset]) >> 16
        start = 4 * (offset + 1) + (0 if second & BEGINS_FIRST else first)
        met[row] = data[start : start + (second & ~BEGINS_FIRST)].tobytes() in texts
    pack(met, out)
