"""Clustered codes for the kernel benchmark, in memory as a shard holds them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.kernels.hamming import Codes, KernelQuery
from lookalike.kernels.memory import GrowableRows

CENTRES = 10_000
CHUNK_ROWS = 1 << 18
COMPONENT_WORDS = (16, 12, 4)
SHORT_WORDS, LONG_WORDS = 4, sum(COMPONENT_WORDS)


def clustered(rows: int, words: int, seed: int) -> NDArray[np.uint64]:
    """Codes around 10,000 random centres, each row with 5 to 30 % of its bits flipped."""
    centres = np.random.default_rng(777).integers(0, 2**64, (CENTRES, words), np.uint64)
    rng = np.random.Generator(np.random.SFC64(seed))
    flip = np.rint(rng.uniform(0.05, 0.30, rows) * 64).astype(np.uint64)
    noise = np.zeros((rows, words), np.uint64)
    for bit in range(6):  # binary expansion of the probability
        random = rng.integers(0, 2**64, (rows, words), np.uint64)
        one = (flip >> np.uint64(bit) & np.uint64(1)).astype(bool)[:, None]
        noise = np.where(one, noise | random, noise & random)
    return centres[rng.integers(0, CENTRES, rows)] ^ noise


class Catalogue:
    """Short and long codes and keys, grown in place; ``narrow`` is a 64-bit short code of the same rows."""

    def __init__(self) -> None:
        self._short, self._long = GrowableRows(SHORT_WORDS), GrowableRows(LONG_WORDS)
        self._keys, self._narrow = GrowableRows(1), GrowableRows(1)
        self._seed = 0

    def append(self, rows: int) -> None:
        """Add rows. Long codes repeat the short ones with noise of their own: only their order differs."""
        for start in range(0, rows, CHUNK_ROWS):
            count = min(CHUNK_ROWS, rows - start)
            self._seed += 1
            rng = np.random.Generator(np.random.SFC64([self._seed, 1]))
            short = clustered(count, SHORT_WORDS, self._seed)
            noise = rng.integers(0, 2**64, (count, LONG_WORDS), np.uint64)
            noise &= rng.integers(0, 2**64, (count, LONG_WORDS), np.uint64)
            self._short.append(short)
            self._long.append(np.tile(short, LONG_WORDS // SHORT_WORDS) ^ noise)
            self._keys.append(rng.integers(0, 2**64, (count, 1), np.uint64))
            self._narrow.append(np.ascontiguousarray(short[:, :1]))

    @property
    def codes(self) -> Codes:
        return Codes(self._short.view(), self._long.view(), self._keys.view()[:, 0], COMPONENT_WORDS)

    @property
    def narrow(self) -> NDArray[Any]:
        return self._narrow.view()

    @property
    def held_bytes(self) -> int:
        return self._short.held_bytes + self._long.held_bytes + self._keys.held_bytes

    @property
    def huge_pages(self) -> bool:
        return self._long.huge_pages


def make_catalogue(rows: int) -> Catalogue:
    catalogue = Catalogue()
    catalogue.append(rows)
    return catalogue


def some_queries(number: int, count: int, candidates: int) -> list[KernelQuery]:
    """Codes from the same clusters that are not in the catalogue."""
    short = clustered(number, SHORT_WORDS, 1 << 30)
    long = np.tile(short, LONG_WORDS // SHORT_WORDS)
    weights = (1,) * len(COMPONENT_WORDS)
    return [KernelQuery(short[i], long[i], count, candidates, weights) for i in range(number)]
