"""Pixels in, descriptors out: the only door that the other rooms use.

The codes of a picture do not depend on the batch that it came in.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lookalike.model import colour, runtime
from lookalike.model.descriptor import Descriptors, Features, describe
from lookalike.model.folder import Model, load, network_table
from lookalike.model.spec import COLOUR_SOURCE, ModelSpec

Pixels = NDArray[np.uint8]


class Encoder:
    """Encode pictures with the model of a folder.

    Parameters
    ----------
    folder : Path
        A model folder.
    threads : int or None
        CPU threads; None takes what this process may use.

    Raises
    ------
    BadModel
        The folder is incomplete or damaged.
    """

    def __init__(self, folder: Path, *, threads: int | None = None) -> None:
        self._model = load(folder)
        self._threads = threads or len(os.sched_getaffinity(0))
        self._run = features_of(self._model, self._threads)
        self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="encode")

    @property
    def spec(self) -> ModelSpec:
        """What this encoder makes."""
        return self._model.spec

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
            raise ValueError(
                f"expected uint8 of shape (n, {side}, {side}, 3), got {pixels.dtype} of {pixels.shape}"
            )
        parts = list(self._pool.map(self._encode_one, pixels))
        if not parts:
            return Descriptors(
                np.empty((0, self.spec.short_words), np.uint64),
                np.empty((0, self.spec.long_words), np.uint64),
            )
        return Descriptors(np.concatenate([p.short for p in parts]), np.concatenate([p.long for p in parts]))

    def _encode_one(self, picture: Pixels) -> Descriptors:
        features = self._run(picture[None])
        return describe(features, self._model.thresholds, self._model.short_positions)


def features_of(model: Model, threads: int) -> Callable[[Pixels], list[Features]]:
    """Build the function from pictures to the features of each component."""
    backend = runtime.start(threads)
    from lookalike.model import network

    spec = model.spec
    extractor = network.extractor(network_table(spec), spec.input_px, spec.layer_sources)
    network.set_parameters(extractor, model.parameters)
    pools = runtime.compiled(extractor, backend)

    def features(pixels: Pixels) -> list[Features]:
        layers = iter(pools(pixels) if spec.layer_sources else ())
        return [
            colour.features(pixels) if c.source == COLOUR_SOURCE else next(layers) for c in spec.components
        ]

    return features
