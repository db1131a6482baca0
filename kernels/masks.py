"""Conditions on columns, evaluated to bitmaps: check the arguments, choose an instruction-set variant, call it.

A bitmap is uint64 of shape (ceil(n / 64),): row i is bit ``i & 63`` of word ``i >> 6``, and bits past row n are 0.
Every variant gives the answer of ``_reference_masks``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lookalike.kernels import _reference_masks, hamming
from lookalike.kernels.places import UNITS_PER_DEGREE, Circle
from lookalike.kernels.values import check_array

try:
    from lookalike.kernels import _masks
except ImportError:  # installed without a compiler: ACTIVE of the searches says so, and a shard reports it
    _NATIVE: dict[str, int] = {}
else:
    _NATIVE = _masks.VARIANTS

Bitmap = NDArray[np.uint64]

VARIANTS: Final[tuple[str, ...]] = (*reversed(_NATIVE), "numpy")
# The variant of the searches, so that LOOKALIKE_KERNEL chooses both; "popcnt" and "neon" have no loops of their own.
ACTIVE: Final = hamming.ACTIVE if hamming.ACTIVE in VARIANTS else "portable" if "portable" in VARIANTS else "numpy"
_MAX_COMPARED: Final = 8  # MK_MAX_COMPARED of masks.h


def words_for(count: int) -> int:
    """How many words a bitmap of so many rows has."""
    return -(-count // 64)


def pack(mask: NDArray[np.bool_]) -> Bitmap:
    """The bitmap of a mask, bool (n,)."""
    bitmap = np.empty(words_for(len(mask)), np.uint64)
    _reference_masks.pack(mask, bitmap)
    return bitmap


def unpack(bitmap: Bitmap, count: int) -> NDArray[np.bool_]:
    """The mask of the first ``count`` rows: bool (count,)."""
    return _reference_masks.unpack(bitmap, count)


def rows_of(bitmap: Bitmap) -> NDArray[np.int64]:
    """The rows of a bitmap: ascending int64. Its time is that of the words that are not 0."""
    words = np.flatnonzero(bitmap)
    rows: NDArray[np.int64] = (64 * words[:, None] + np.arange(64)).ravel()[unpack(bitmap[words], 64 * len(words))]
    return rows


def add_rows(bitmap: Bitmap, rows: NDArray[np.int64]) -> None:
    """Put rows, int64 (m,), into a bitmap."""
    np.bitwise_or.at(bitmap, rows >> 6, _bits(rows))


def remove_rows(bitmap: Bitmap, rows: NDArray[np.int64]) -> None:
    """Take rows, int64 (m,), out of a bitmap."""
    np.bitwise_and.at(bitmap, rows >> 6, ~_bits(rows))


def _bits(rows: NDArray[np.int64]) -> NDArray[np.uint64]:
    return np.left_shift(np.uint64(1), (rows & 63).astype(np.uint64))


def within(values: NDArray[Any], lower: float, upper: float, out: Bitmap, *, variant: str = ACTIVE) -> None:
    """Find the rows with a value between two bounds.

    Parameters
    ----------
    values : ndarray of float64 or int64, shape (n,), C-contiguous, not copied
    lower, upper : float or int
        Both inclusive. NaN lies between no bounds.
    out : ndarray of uint64, shape (ceil(n / 64),)
        Overwritten.
    variant : str
        One of ``VARIANTS``.

    Raises
    ------
    TypeError, ValueError
        An argument is of another type or length.
    """
    check_array("values", values, np.float64 if values.dtype == np.float64 else np.int64, 1)
    native = _check(variant, len(values), out)
    if native is None:
        _reference_masks.within(values, lower, upper, out)
    else:
        _masks.within(values, lower, upper, out, native)


def members(numbers: NDArray[Any], table: NDArray[np.bool_], out: Bitmap, *, variant: str = ACTIVE) -> None:
    """Find the rows with a number of a set.

    Parameters
    ----------
    numbers : ndarray of uint8, uint16 or uint32, shape (n,), C-contiguous, not copied
    table : ndarray of bool
        Whether each number is in the set; those past its end are not.
    out : ndarray of uint64, shape (ceil(n / 64),)
        Overwritten.

    Raises
    ------
    TypeError, ValueError
        An argument is of another type or length.
    """
    if numbers.dtype not in (np.uint8, np.uint16, np.uint32):
        raise TypeError(f"numbers are {numbers.dtype}, but must be uint8, uint16 or uint32")
    check_array("numbers", numbers, numbers.dtype.type, 1)
    check_array("table", table, np.bool_, 1)
    native = _check(variant, len(numbers), out)
    if native is None:
        _reference_masks.members(numbers, table.view(np.uint8), out)
        return
    largest = np.iinfo(numbers.dtype).max
    # Hidden rows may have any number: the table ends with the largest of its type, or with one that is not wanted.
    padded = np.zeros(min(len(table), largest) + 1 if numbers.dtype == np.uint32 else largest + 1, np.uint8)
    padded[: len(table)] = table[: len(padded)]
    wanted = np.flatnonzero(padded[: len(table)]).astype(np.uint32)
    few = len(wanted) <= _MAX_COMPARED and numbers.dtype != np.uint8
    _masks.members(numbers, padded, wanted if few and len(wanted) else None, out, native)


def near(
    lat: NDArray[np.int32],
    lon: NDArray[np.int32],
    circle: Circle,
    out: Bitmap,
    *,
    variant: str = ACTIVE,
) -> None:
    """Find the rows in a circle.

    The rows of a box around it are compared with it by a fast series. Those few that lie too close to its edge for
    that, and all rows in the variant ``numpy``, are decided by one formula, so that the variants agree.

    Parameters
    ----------
    lat, lon : ndarray of int32, shape (n,), C-contiguous, not copied
        In units of 1e-7 degrees; ``NO_DEGREES`` where there is none.
    out : ndarray of uint64, shape (ceil(n / 64),)
        Overwritten.

    Raises
    ------
    TypeError, ValueError
        An argument is of another type or length.
    """
    check_array("lat", lat, np.int32, 1)
    check_array("lon", lon, np.int32, 1)
    if len(lat) != len(lon):
        raise ValueError(f"there are {len(lat)} latitudes and {len(lon)} longitudes")
    native = _check(variant, len(lat), out)
    if native is None:
        _reference_masks.near(lat, lon, circle, out)
        return
    unsure = np.empty_like(out)
    point = circle.lat * UNITS_PER_DEGREE, circle.lon * UNITS_PER_DEGREE, float(np.cos(np.radians(circle.lat)))
    limits = circle.limit, circle.margin
    _masks.near(lat, lon, circle.outer_box, circle.inner_box, point, limits, out, unsure, native)
    if unsure.any():
        rows = rows_of(unsure)
        add_rows(out, rows[_reference_masks.is_near(lat[rows], lon[rows], circle)])


def mark_below(parents: NDArray[np.uint32], marks: NDArray[np.bool_], *, variant: str = ACTIVE) -> None:
    """Mark every node of a tree that is below a marked one.

    Parameters
    ----------
    parents : ndarray of uint32, shape (n,)
        The parent of each node, which precedes it; the root, node 0, is its own.
    marks : ndarray of bool, shape (n,)
        Changed in place.
    """
    check_array("parents", parents, np.uint32, 1)
    check_array("marks", marks, np.bool_, 1)
    if len(parents) != len(marks):
        raise ValueError(f"there are {len(parents)} parents and {len(marks)} marks")
    if _index_of(variant) is None:
        _reference_masks.mark_below(parents, marks.view(np.uint8))
    else:
        _masks.mark_below(parents, marks.view(np.uint8))


def hash_texts(
    data: NDArray[np.uint8], starts: NDArray[np.int64], lengths: NDArray[np.int64], *, variant: str = ACTIVE
) -> NDArray[np.uint16]:
    """Hash texts, which lie anywhere in one buffer, to 16 bits each.

    Parameters
    ----------
    data : ndarray of uint8
    starts, lengths : ndarray of int64, shape (n,)
        In bytes, each text within ``data``.

    Returns
    -------
    ndarray of uint16, shape (n,)

    Raises
    ------
    TypeError, ValueError
        An argument is of another type or length, or a text lies outside.
    """
    check_array("data", data, np.uint8, 1)
    check_array("starts", starts, np.int64, 1)
    check_array("lengths", lengths, np.int64, 1)
    if len(starts) != len(lengths):
        raise ValueError(f"there are {len(starts)} starts and {len(lengths)} lengths")
    if len(starts) and (starts.min() < 0 or lengths.min() < 0 or (starts + lengths).max() > len(data)):
        raise ValueError(f"a text lies outside the {len(data)} bytes")
    hashes = np.empty(len(starts), np.uint16)
    if _index_of(variant) is None:
        _reference_masks.hash_texts(data, starts, lengths, hashes)
    else:
        _masks.hash_texts(data, starts, lengths, hashes)
    return hashes


def second_ids(
    words: NDArray[np.uint32],
    offsets: NDArray[np.uint32],
    wanted: Sequence[str],
    out: Bitmap,
    *,
    where: Bitmap,
    variant: str = ACTIVE,
) -> None:
    """Find the rows of ``where`` whose second id is one of some texts.

    Parameters
    ----------
    words : ndarray of uint32
        Blobs of two ids: uint16 bytes of the first, uint16 bytes of the second, both ids in UTF-8. With the top bit of
        the second length set, the second id begins the first and is not stored again.
    offsets : ndarray of uint32, shape (n,)
        Where the blob of each row begins, in words. For rows of ``where`` it is one of ``words``.
    out : ndarray of uint64, shape (ceil(n / 64),)
        Overwritten.

    Raises
    ------
    TypeError, ValueError
        An argument is of another type or length.
    """
    check_array("words", words, np.uint32, 1)
    check_array("offsets", offsets, np.uint32, 1)
    native = _check(variant, len(offsets), out, where)
    encoded = [text.encode() for text in wanted]
    if native is None:
        _reference_masks.second_ids_where(words, offsets, encoded, where, out)
        return
    lengths = np.array([len(text) for text in encoded], np.int64)
    data = np.frombuffer(b"".join(encoded), np.uint8)
    _masks.second_ids_where(words, offsets, data, np.cumsum(lengths) - lengths, lengths, where, out)


def _index_of(variant: str) -> int | None:
    """Of the native table; None: NumPy."""
    if variant not in VARIANTS:
        raise ValueError(f"variant {variant!r} is unknown here; this machine can run {', '.join(VARIANTS)}")
    return _NATIVE.get(variant)


def _check(variant: str, count: int, out: Bitmap, where: Bitmap | None = None) -> int | None:
    for name, bitmap in (("out", out), ("where", where)):
        if bitmap is None:
            continue
        check_array(name, bitmap, np.uint64, 1)
        if len(bitmap) != words_for(count):
            raise ValueError(f"{name} has {len(bitmap)} words, but {count} rows need {words_for(count)}")
    return _index_of(variant)
