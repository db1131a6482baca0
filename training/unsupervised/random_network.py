"""A backbone that is not trained: seeded random filters, batch normalisations calibrated on photos."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lookalike.model import keras_runtime
from lookalike.model.backbones.layers import Table, parameter_shapes
from lookalike.model.backbones.registry import network_table
from lookalike.model.descriptor import Features, Pixels

if TYPE_CHECKING:
    import keras

CALIBRATION_PHOTOS = 128
_BATCH_PHOTOS = 64


def random_parameters(table: Table, seed: int) -> dict[str, NDArray[np.float32]]:
    """Draw an untrained network: He-normal kernels, identity batch normalisations, no biases.

    Drawn by NumPy, so one seed gives the same filters under every Keras backend.
    """
    rng = np.random.default_rng(seed)
    drawn: dict[str, NDArray[np.float32]] = {}
    for name, shape in parameter_shapes(table).items():
        array = name.rpartition("/")[2]
        if array == "kernel":
            scale = np.sqrt(2 / np.prod(shape[:-1]))
            drawn[name] = (rng.standard_normal(shape) * scale).astype(np.float32)
        else:
            drawn[name] = np.full(shape, array in ("gamma", "moving_variance"), np.float32)
    return drawn


def calibrate(model: keras.Model, pixels: Pixels) -> None:
    """Set every batch normalisation to the statistics of these photos, in one pass from the first to the last.

    Parameters
    ----------
    model : keras.Model
        Takes photos in 0..1.
    pixels : ndarray of uint8, shape (n, side_px, side_px, 3)
    """
    from keras import layers, ops

    norms = [layer for layer in model.layers if isinstance(layer, layers.BatchNormalization)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0  # the moving statistics become those of the batch
    model(ops.cast(pixels, "float32") / 255, training=True)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def random_network(
    pixels: Pixels, backbone: str, width: float, sources: Sequence[str], seed: int
) -> tuple[dict[str, NDArray[np.float32]], list[Features]]:
    """Draw a network and calibrate it on photos.

    Parameters
    ----------
    pixels : ndarray of uint8, shape (n, side_px, side_px, 3)
    backbone : str
    width : float
    sources : sequence of str
        For example ``["conv8@2x2", "conv13"]``; none need no network.
    seed : int
        Of the filters and of the choice of the photos to calibrate on.

    Returns
    -------
    parameters : dict of str to ndarray of float32
        Down to the deepest layer of the sources.
    pools : list of ndarray of float32, shape (n, f)
        Of all photos, one per source.

    Raises
    ------
    ValueError
        There is no such backbone, it has no such layer, or the layer's plane has fewer cells than the source's grid.
    """
    if not sources:
        return {}, []
    backend = keras_runtime.start(len(os.sched_getaffinity(0)))
    from lookalike.model.backbones import build

    side_px = pixels.shape[1]
    table = network_table(backbone, width, sources)
    chosen = np.random.default_rng(seed).permutation(len(pixels))[:CALIBRATION_PHOTOS]
    extractor = build.extractor(table, side_px, sources)
    build.set_parameters(extractor, random_parameters(table, seed))
    calibrate(extractor, pixels[np.sort(chosen)])
    parameters = build.get_parameters(extractor)
    run = build.pools(table, side_px, sources, parameters, backend)
    batches = [run(pixels[i : i + _BATCH_PHOTOS]) for i in range(0, len(pixels), _BATCH_PHOTOS)]
    return parameters, [np.concatenate(parts) for parts in zip(*batches, strict=True)]
