"""Pixels in, descriptors out: the only door that the other rooms use.

The law: a picture's codes do not depend on the batch that it came in, bit for bit. A sum of floats depends on its
order, and a library may choose another order for another shape; so the network is only ever called on one picture,
or on exactly eight where a trial at the start shows that eight give the floats of one. TensorFlow's convolutions pass
that trial at some widths and fail it at others (docs/model.md).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lookalike.model import colour, runtime
from lookalike.model.descriptor import Descriptors, Features, describe
from lookalike.model.folder import load, network_table
from lookalike.model.spec import COLOUR_SOURCE, ModelSpec

Pixels = NDArray[np.uint8]

EIGHT = 8
"""Pictures in a full call. On two cores 8 a call do 1.6 times the pictures per second of one a call; 16 add nothing."""

WORTH_PADDING = 5
"""From this many left-over pictures on, a padded call of eight costs less than as many single calls."""


class Encoder:
    """Encode pictures with the model of a folder.

    Calls from several threads at once are allowed.

    Parameters
    ----------
    folder : Path
        A model folder.
    threads : int or None
        CPU threads to encode with; None takes all that this process may use.

    Raises
    ------
    BadModel
        The folder is incomplete or damaged.
    """

    def __init__(self, folder: Path, *, threads: int | None = None) -> None:
        self._model = load(folder)
        threads = threads or len(os.sched_getaffinity(0))
        self._pools = self._network(runtime.start(threads))
        self._by_eight = self._eight_equal_one()
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="encode")

    @property
    def spec(self) -> ModelSpec:
        """What this encoder makes."""
        return self._model.spec

    @property
    def pictures_per_call(self) -> int:
        """8, or 1 where this machine's arithmetic for eight pictures is not that for one."""
        return EIGHT if self._by_eight else 1

    def encode(self, pixels: Pixels) -> Descriptors:
        """Encode pictures.

        Parameters
        ----------
        pixels : ndarray of uint8, shape (n, input_px, input_px, 3)
            sRGB; n may be 0.

        Returns
        -------
        Descriptors
            Row i is that of ``pixels[i]`` alone, bit for bit, whatever the batch.

        Raises
        ------
        ValueError
            Another shape or type.
        """
        side = self.spec.input_px
        if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[1:] != (side, side, 3):
            raise ValueError(f"expected uint8 of shape (n, {side}, {side}, 3), got {pixels.dtype} of {pixels.shape}")
        parts = list(self._executor.map(self._encode_call, self._calls(pixels)))
        none = np.empty((0, self.spec.short_words), np.uint64), np.empty((0, self.spec.long_words), np.uint64)
        return Descriptors(
            np.concatenate([none[0], *(p.short for p in parts)]),
            np.concatenate([none[1], *(p.long for p in parts)]),
        )

    def bare(self, pixels: Pixels) -> list[Features]:
        """Call the network once on the whole batch, for comparison: no colour, no bits, and not under the law."""
        return self._pools(pixels)

    def _calls(self, pixels: Pixels) -> Iterator[Pixels]:
        """Cut a batch into calls of one or eight (or a remainder that will be padded to eight)."""
        full = 0
        if self._by_eight:
            left_over = len(pixels) % EIGHT
            full = len(pixels) if left_over >= WORTH_PADDING else len(pixels) - left_over
        for start in range(0, full, EIGHT):
            yield pixels[start : start + EIGHT]
        for start in range(full, len(pixels)):
            yield pixels[start : start + 1]

    def _encode_call(self, pixels: Pixels) -> Descriptors:
        n = len(pixels)
        padded = pixels
        if 1 < n < EIGHT:
            padded = np.concatenate([pixels, np.zeros((EIGHT - n, *pixels.shape[1:]), np.uint8)])
        pools = iter(self._pools(padded))
        features = [
            colour.features(pixels) if c.source == COLOUR_SOURCE else next(pools)[:n] for c in self.spec.components
        ]
        return describe(features, self._model.thresholds, self._model.short_positions)

    def _network(self, backend: str) -> runtime.Run:
        if not self.spec.layer_sources:
            return lambda _: []
        from lookalike.model import network

        spec = self.spec
        return network.pools(network_table(spec), spec.input_px, spec.layer_sources, self._model.parameters, backend)

    def _eight_equal_one(self) -> bool:
        """Try both calls on noise, all eight places, float for float.

        The order of a sum should follow from shapes and threads, not from the values, so one trial stands for all
        pictures: evidence, not proof. It also compiles both shapes before the first real picture comes.
        """
        side = self.spec.input_px
        noise = np.random.default_rng(0).integers(0, 256, (EIGHT, side, side, 3), np.uint8)
        together = self._pools(noise)
        alone = [self._pools(noise[i : i + 1]) for i in range(EIGHT)]
        return all(
            np.array_equal(pool[i : i + 1], single)
            for i, singles in enumerate(alone)
            for pool, single in zip(together, singles, strict=True)
        )
