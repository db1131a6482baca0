"""What a search takes and gives: codes in memory, a query, what was found. Inputs are checked when made."""

from __future__ import annotations

from dataclasses import dataclass
from operator import index
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

MAX_SHORT_WORDS: Final = 4
MAX_LONG_WORDS: Final = 128
MAX_WEIGHT: Final = 1000
MAX_ROWS: Final = 1 << 48  # a hit keeps its row in 48 bits and its distance above


def check_array(name: str, array: Any, dtype: type[np.generic], ndim: int) -> None:
    """Raise unless ``array`` is an aligned, C-contiguous array of that type: the kernels read it in place."""
    if not isinstance(array, np.ndarray):
        raise TypeError(f"{name} is a {type(array).__name__}, but must be a NumPy array")
    if array.dtype != np.dtype(dtype):
        raise TypeError(f"{name} has dtype {array.dtype}, but must be {np.dtype(dtype)} in native byte order")
    if array.ndim != ndim:
        raise ValueError(f"{name} has shape {array.shape}, but must have {ndim} dimension{'s'[: ndim > 1]}")
    if not (array.flags.c_contiguous and array.flags.aligned):
        raise ValueError(f"{name} must be C-contiguous and aligned, but has strides {array.strides}")


def check_words(name: str, words: int, max_words: int) -> None:
    if not 1 <= words <= max_words:
        raise ValueError(f"{name} has {words} words per code, but must have 1 to {max_words}")


@dataclass(frozen=True, slots=True)
class Codes:
    """The codes of ``n`` rows, in memory, read in place and never written. Arrays may be read-only.

    Parameters
    ----------
    short : ndarray of uint64, shape (n, short_words)
        Short codes of 64 to 256 bits.
    long : ndarray of uint64, shape (n, long_words)
        Long codes of up to 8,192 bits.
    keys : ndarray of uint64, shape (n,)
        The tie-breaker of every order. Where two rows share a key, the earlier row wins.
    component_words : tuple of int
        Words of each component of the long code, in order; they add up to ``long_words``.

    Raises
    ------
    TypeError
        An argument is no array, or no array of uint64.
    ValueError
        Shapes disagree or are out of range, or an array is not C-contiguous.
    """

    short: NDArray[np.uint64]
    long: NDArray[np.uint64]
    keys: NDArray[np.uint64]
    component_words: tuple[int, ...]

    def __post_init__(self) -> None:
        check_array("short", self.short, np.uint64, 2)
        check_array("long", self.long, np.uint64, 2)
        check_array("keys", self.keys, np.uint64, 1)
        check_words("short", self.short.shape[1], MAX_SHORT_WORDS)
        check_words("long", self.long.shape[1], MAX_LONG_WORDS)
        if not len(self.short) == len(self.long) == len(self.keys) < MAX_ROWS:
            raise ValueError(f"short, long and keys hold {len(self.short)}, {len(self.long)} and {len(self.keys)} rows")
        words = tuple(index(w) for w in self.component_words)
        if any(w < 1 for w in words) or sum(words) != self.long.shape[1]:
            raise ValueError(f"component_words {words} must add up to the {self.long.shape[1]} words of long")
        object.__setattr__(self, "component_words", words)

    def __len__(self) -> int:
        return len(self.keys)


@dataclass(frozen=True, slots=True)
class KernelQuery:
    """One query: its codes, how many rows it wants and how its components count.

    Parameters
    ----------
    short : ndarray of uint64, shape (short_words,)
    long : ndarray of uint64, shape (long_words,)
    count : int
        How many rows the answer has, at least 1.
    candidates : int
        Phase one keeps the rows of the smallest distance that gives at least this many, all ties included.
    weights : tuple of int
        One per component, 0 to 1000: what a bit of that component counts.

    Raises
    ------
    TypeError, ValueError
        As for ``Codes``; a count below 1, a weight out of range.
    """

    short: NDArray[np.uint64]
    long: NDArray[np.uint64]
    count: int
    candidates: int
    weights: tuple[int, ...]

    def __post_init__(self) -> None:
        check_array("short", self.short, np.uint64, 1)
        check_array("long", self.long, np.uint64, 1)
        check_words("short", len(self.short), MAX_SHORT_WORDS)
        check_words("long", len(self.long), MAX_LONG_WORDS)
        for name in ("count", "candidates"):
            value = index(getattr(self, name))
            if not 1 <= value < 1 << 63:
                raise ValueError(f"{name} is {value}, but must be at least 1")
            object.__setattr__(self, name, value)
        weights = tuple(index(w) for w in self.weights)
        if not all(0 <= w <= MAX_WEIGHT for w in weights):
            raise ValueError(f"weights {weights} must each be 0 to {MAX_WEIGHT}")
        object.__setattr__(self, "weights", weights)


@dataclass(frozen=True, slots=True)
class Found:
    """What a search over one shard found for one query.

    Attributes
    ----------
    rows : ndarray of int64, shape (m,)
    short : ndarray of uint16, shape (m,)
        Short distances of those rows, in bits.
    long : ndarray of uint32, shape (m,)
        Weighted long distances: the sum over components of weight times bits.
    histogram : ndarray of int64, shape (short bits + 1,)
        How many allowed rows are at each short distance, up to the shard's own threshold; 0 above it.
    """

    rows: NDArray[np.int64]
    short: NDArray[np.uint16]
    long: NDArray[np.uint32]
    histogram: NDArray[np.int64]
