"""Values of different lengths, end to end in one buffer: to and from Arrow without an object per row."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
ItemT = TypeVar("ItemT", bound=np.generic)


def parts_of(array: pa.Array) -> tuple[Bytes, NDArray[np.int64]]:
    """The bytes of a binary or text column, and where each value begins and ends.

    Returns
    -------
    data : ndarray of uint8
        Not copied.
    bounds : ndarray of int64, shape (n + 1,)
        Value i is ``data[bounds[i]:bounds[i + 1]]``. Null values may have a length: see ``lengths_of``.
    """
    large = pa.types.is_large_string(array.type) or pa.types.is_large_binary(array.type)
    _, bounds, data = array.buffers()
    if not len(array) or bounds is None:
        return np.empty(0, np.uint8), np.zeros(len(array) + 1, np.int64)
    within = np.frombuffer(bounds, np.int64 if large else np.int32)[array.offset : array.offset + len(array) + 1]
    return (np.empty(0, np.uint8) if data is None else np.frombuffer(data, np.uint8)), within.astype(np.int64)


def lengths_of(array: pa.Array) -> NDArray[np.int64]:
    """The length of each value in bytes, -1 where it is null: int64, shape (n,)."""
    lengths = np.diff(parts_of(array)[1])
    if array.null_count:
        lengths[array.is_null().to_numpy(zero_copy_only=False)] = -1
    return lengths


def gather(data: NDArray[ItemT], starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[ItemT]:
    """Copy pieces of a buffer end to end."""
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if len(ends) else 0
    return data[np.repeat(starts - (ends - lengths), lengths) + np.arange(total)]


def texts_of(data: Bytes, starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> pa.LargeStringArray:
    """Copy pieces of a buffer into a text column."""
    bounds = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=bounds[1:])
    return pa.LargeStringArray.from_buffers(
        len(lengths), pa.py_buffer(bounds), pa.py_buffer(gather(data, starts, lengths))
    )


def binary_of(data: Bytes, lengths: NDArray[np.int64]) -> pa.BinaryArray:
    """Bytes that lie end to end as a column, without a copy of them."""
    bounds = np.zeros(len(lengths) + 1, np.int32)
    np.cumsum(lengths, out=bounds[1:])
    return pa.Array.from_buffers(pa.binary(), len(lengths), [None, pa.py_buffer(bounds), pa.py_buffer(data)])
