"""Floats to packed bits: the one definition.

A component is a run of bits; bit ``j`` is set where ``features[column[j]] > threshold[j]``, strictly. Words are
uint64, and bit ``j`` of a code is bit ``j % 64`` (least significant first) of word ``j // 64``. The long code is the
components one after the other; the short code is chosen bit positions of the long one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lookalike.model.spec import WORD_BITS

Pixels = NDArray[np.uint8]
"""Photos, sRGB: shape (n, side, side, 3)."""

Features = NDArray[np.float32]
BoolBits = NDArray[np.bool_]
Words = NDArray[np.uint64]


@dataclass(frozen=True)
class Descriptors:
    """The short and the long code of each of n photos.

    Attributes
    ----------
    short : ndarray of uint64, shape (n, short_words)
    long : ndarray of uint64, shape (n, long_words)
        Row i is photo i's.
    """

    short: Words
    long: Words

    def __post_init__(self) -> None:
        if len(self.short) != len(self.long):
            raise ValueError(f"{len(self.short)} short codes but {len(self.long)} long ones")

    def __len__(self) -> int:
        return len(self.short)


@dataclass(frozen=True)
class Thresholds:
    """How one component's features become bits.

    Attributes
    ----------
    columns : ndarray of int32, shape (bits,)
        The feature that each bit looks at; several bits may look at one feature (a thermometer).
    values : ndarray of float32, shape (bits,)
        A bit is set when its feature is strictly greater.
    """

    columns: NDArray[np.int32]
    values: NDArray[np.float32]

    def __post_init__(self) -> None:
        if self.columns.shape != self.values.shape or self.columns.ndim != 1:
            raise ValueError(f"{self.columns.shape} columns but {self.values.shape} thresholds")


def binarise(features: Features, thresholds: Thresholds) -> BoolBits:
    """Compare features with thresholds.

    Parameters
    ----------
    features : ndarray of float32, shape (n, f)
    thresholds : Thresholds

    Returns
    -------
    ndarray of bool, shape (n, bits)
    """
    return features[:, thresholds.columns] > thresholds.values


def pack(bits: BoolBits) -> Words:
    """Pack bits into words.

    Parameters
    ----------
    bits : ndarray of bool, shape (n, b), b a multiple of 64

    Returns
    -------
    ndarray of uint64, shape (n, b // 64), C-contiguous

    Raises
    ------
    ValueError
        ``b`` is no multiple of 64.
    """
    n, b = bits.shape
    if b % WORD_BITS:
        raise ValueError(f"{b} bits do not fill whole words of {WORD_BITS}")
    octets = np.packbits(np.ascontiguousarray(bits), axis=1, bitorder="little")
    return octets.reshape(n, b // 8).view("<u8").astype(np.uint64, copy=False)


def unpack(codes: Words) -> BoolBits:
    """Undo ``pack``.

    Parameters
    ----------
    codes : ndarray of uint64, shape (n, words)

    Returns
    -------
    ndarray of bool, shape (n, 64 * words)
    """
    octets = np.ascontiguousarray(codes, "<u8").view(np.uint8).reshape(len(codes), codes.shape[1] * 8)
    return np.unpackbits(octets, axis=1, bitorder="little").astype(bool)


def describe(
    features: Sequence[Features], thresholds: Sequence[Thresholds], short_positions: NDArray[np.int32]
) -> Descriptors:
    """Turn the features of n photos into their codes.

    Parameters
    ----------
    features : sequence of ndarray of float32, shape (n, f)
        One per component, in the order of the spec.
    thresholds : sequence of Thresholds
        One per component.
    short_positions : ndarray of int32, shape (short_bits,)
        Which bits of the long code make the short one, in order.

    Returns
    -------
    Descriptors
    """
    bits = np.concatenate([binarise(f, t) for f, t in zip(features, thresholds, strict=True)], axis=1)
    return Descriptors(short=pack(bits[:, short_positions]), long=pack(bits))
