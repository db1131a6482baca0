"""Pixels in, descriptors out: what the other folders use of this one.

The law: a photo's codes do not depend on the batch that it came in, bit for bit. A sum of floats depends on its
order, and a library may choose another order for another shape; so the network is only ever called on one photo,
or on exactly eight where a trial at the start shows that eight give the floats of one. TensorFlow's convolutions pass
that trial at some widths and fail it at others (docs/model.md).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from lookalike.model import keras_runtime
from lookalike.model.backbones.registry import network_table
from lookalike.model.descriptor import Descriptors, Features, Pixels, describe
from lookalike.model.features import colour
from lookalike.model.saved_model import load
from lookalike.model.spec import COLOUR_SOURCE, ModelSpec

FULL_CALL_PHOTOS = 8
"""On two cores 8 photos a call do 1.6 times the photos per second of one a call; 16 add nothing."""

MIN_PADDED_PHOTOS = 5
"""From this many left-over photos on, a padded full call costs less than as many single calls."""


class Encoder:
    """Encode photos with the model of a folder.

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
        self._pools = self._network(keras_runtime.start(threads))
        self._full_calls_allowed = self._full_call_equals_single_calls()
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="encode")

    @property
    def spec(self) -> ModelSpec:
        """What this encoder makes."""
        return self._model.spec

    @property
    def photos_per_call(self) -> int:
        """8, or 1 where this machine's arithmetic for eight photos is not that for one."""
        return FULL_CALL_PHOTOS if self._full_calls_allowed else 1

    @property
    def compilations(self) -> int:
        """How often the network was compiled: for the trial at the start, and never again."""
        return self._pools.compilations if isinstance(self._pools, keras_runtime.Compiled) else 0

    def encode(self, pixels: Pixels) -> Descriptors:
        """Encode photos.

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
        if self._full_calls_allowed:
            left_over = len(pixels) % FULL_CALL_PHOTOS
            full = len(pixels) if left_over >= MIN_PADDED_PHOTOS else len(pixels) - left_over
        for start in range(0, full, FULL_CALL_PHOTOS):
            yield pixels[start : start + FULL_CALL_PHOTOS]
        for start in range(full, len(pixels)):
            yield pixels[start : start + 1]

    def _encode_call(self, pixels: Pixels) -> Descriptors:
        n = len(pixels)
        padded = pixels
        if 1 < n < FULL_CALL_PHOTOS:
            padded = np.concatenate([pixels, np.zeros((FULL_CALL_PHOTOS - n, *pixels.shape[1:]), np.uint8)])
        pools = iter(self._pools(padded))
        features = [
            colour.features(pixels) if c.source == COLOUR_SOURCE else next(pools)[:n] for c in self.spec.components
        ]
        return describe(features, self._model.thresholds, self._model.short_positions)

    def _network(self, backend: str) -> keras_runtime.Run:
        if not self.spec.layer_sources:
            return lambda _: []
        from lookalike.model.backbones import build

        spec = self.spec
        table = network_table(spec.backbone, spec.width, spec.layer_sources)
        return build.pools(table, spec.input_px, spec.layer_sources, self._model.parameters, backend)

    def _full_call_equals_single_calls(self) -> bool:
        """Try both calls on noise, at all eight positions, float for float.

        The order of a sum should follow from shapes and threads, not from the values, so one trial stands for all
        photos: evidence, not proof. It also compiles both shapes before the first real photo comes.
        """
        side = self.spec.input_px
        noise = np.random.default_rng(0).integers(0, 256, (FULL_CALL_PHOTOS, side, side, 3), np.uint8)
        together = self._pools(noise)
        alone = [self._pools(noise[i : i + 1]) for i in range(FULL_CALL_PHOTOS)]
        return all(
            np.array_equal(pool[i : i + 1], single)
            for i, singles in enumerate(alone)
            for pool, single in zip(together, singles, strict=True)
        )
