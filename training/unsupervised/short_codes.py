"""Which bits of the long code make the short one.

Phase one must let through what phase two would put first, so the bits are chosen for that: their Hamming distance
shall follow the weighted long distance, among neighbours as well as strangers.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lookalike.model.descriptor import BoolBits

NEIGHBOURS = 10
STRANGERS = 10
MAX_PHOTOS = 1000

Positions = NDArray[np.int32]


def choose_short_positions(bits: BoolBits, weights: NDArray[np.int64], count: int, seed: int) -> Positions:
    """Choose ``count`` bits, each time the one that most raises the correlation of short and long distance.

    The distances are those between each photo and its 10 nearest and 10 random others. Of 1,500 photos that were
    not in the sample, 90 % of the true first 20 are then among the first 5 % by a 64-bit code; with random bits 74 %.

    Parameters
    ----------
    bits : ndarray of bool, shape (n, long_bits)
        Long codes of a sample, of which the first 1,000 are used.
    weights : ndarray of int64, shape (long_bits,)
        What each bit adds to the long distance.
    count : int
    seed : int
        Of the random pairs.

    Returns
    -------
    ndarray of int32, shape (count,)
        Ascending.
    """
    bits = bits[:MAX_PHOTOS]
    left, right, distance = _pairs(bits, weights, seed)
    differ = (bits[left] != bits[right]).astype(np.float32)
    differ -= differ.mean(axis=0)
    return np.sort(_greedy(differ, distance - distance.mean(), count)).astype(np.int32)


def _pairs(
    bits: BoolBits, weights: NDArray[np.int64], seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    signs = np.where(bits, np.float32(1), np.float32(-1))
    distance = (weights.sum() - (signs * weights.astype(np.float32)) @ signs.T) / 2
    n = len(bits)
    order = np.argsort(distance, axis=1, kind="stable")
    others = np.concatenate(
        [order[:, : NEIGHBOURS + 1], np.random.default_rng(seed).integers(0, n, (n, STRANGERS))], axis=1
    )
    left, right = np.repeat(np.arange(n), others.shape[1]), others.ravel()
    differ = left != right
    left, right = left[differ], right[differ]
    return left, right, distance[left, right].astype(np.float32)


def _greedy(differ: NDArray[np.float32], distance: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """Maximise corr(sum of the chosen columns, distance); all columns and the distance have mean 0."""
    n = len(differ)
    with_distance = differ.T @ distance / n
    variance = (differ**2).mean(axis=0)
    total = np.zeros(n, np.float32)
    covered, spread = 0.0, 0.0  # of the sum: covariance with the distance, variance
    chosen: list[int] = []
    for _ in range(count):
        with_total = differ.T @ total / n
        grown = np.maximum(spread + 2 * with_total + variance, 1e-9)
        gain = (covered + with_distance) / np.sqrt(grown)
        gain[chosen] = -np.inf
        best = int(np.argmax(gain))
        covered, spread = covered + float(with_distance[best]), float(grown[best])
        total += differ[:, best]
        chosen.append(best)
    return np.array(chosen)
