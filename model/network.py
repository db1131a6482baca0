"""A network's table to a Keras model, whole or only as deep as the pools that a descriptor asks for.

Written in ``keras.layers`` and ``keras.ops`` alone, so the backend is Keras's to choose. Pictures are float32
RGB in 0..1, channels last. This module imports Keras: only the encoder, fitting and training import it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import layers, ops
from numpy.typing import NDArray

from lookalike.model import runtime
from lookalike.model.folding import fold
from lookalike.model.layers import (
    BATCH_NORM_EPSILON,
    LEAKY_SLOPE,
    Conv,
    Dense,
    Dropout,
    GlobalAverage,
    Inception,
    Layer,
    LocalResponseNorm,
    MaxPool,
    Table,
    convolutions,
    truncated,
)
from lookalike.model.spec import parse_source

Tensor = Any


def classifier(table: Table, side_px: int) -> keras.Model:
    """Build the whole network of a table.

    Returns
    -------
    keras.Model
        float32 (n, side_px, side_px, 3) in 0..1 to the last layer's output; logits where the table has classes.
    """
    picture = keras.Input((side_px, side_px, 3), name="picture")
    x = picture
    for row in table:
        x = _apply(row, x)
    return keras.Model(picture, x)


def extractor(table: Table, side_px: int, sources: Sequence[str]) -> keras.Model:
    """Build the network only down to the deepest layer asked for, ending in average pools.

    Parameters
    ----------
    table : Table
    side_px : int
    sources : sequence of str
        For example ``["conv8@2x2", "conv13"]``.

    Returns
    -------
    keras.Model
        float32 (n, side_px, side_px, 3) in 0..1 to one output per source (Keras unwraps a single one):
        float32 (n, rows * columns * channels), cells from top left row by row, the channels of a cell together.

    Raises
    ------
    ValueError
        The table has no such layer.
    """
    wanted = [parse_source(s) for s in sources]
    picture = keras.Input((side_px, side_px, 3), name="picture")
    x, planes = picture, {}
    for row in truncated(table, [s.layer for s in wanted]):
        x = planes[row.name] = _apply(row, x)
    return keras.Model(picture, [_grid_pool(planes[s.layer], s.rows, s.columns) for s in wanted])


def pools(
    table: Table, side_px: int, sources: Sequence[str], parameters: Mapping[str, NDArray[np.float32]], backend: str
) -> runtime.Run:
    """Make the function that computes a descriptor's pools: folded, with its parameters, compiled.

    Returns
    -------
    callable
        uint8 (n, side_px, side_px, 3) to a list, one per source, of float32 (n, f), as ``extractor`` orders them.
    """
    plain, folded = fold(table, parameters)
    model = extractor(plain, side_px, sources)
    set_parameters(model, folded)
    return runtime.compiled(model, backend)


def _grid_pool(plane: Tensor, rows: int, columns: int) -> Tensor:
    _, height, width, _ = plane.shape
    if rows > height or columns > width:
        raise ValueError(f"a plane of {height} x {width} cannot be pooled {rows} x {columns}")
    if height % rows == 0 and width % columns == 0:
        pooled = layers.AveragePooling2D((height // rows, width // columns))(plane)
        return layers.Flatten()(pooled)
    cells = [
        ops.mean(plane[:, top:bottom, left:right, :], axis=(1, 2))
        for top, bottom in _edges(height, rows)
        for left, right in _edges(width, columns)
    ]
    return ops.concatenate(cells, axis=-1)


def _edges(length: int, parts: int) -> list[tuple[int, int]]:
    """Cut ``length`` into nearly equal parts that touch; where it does not divide, neighbours share a row."""
    return [(length * i // parts, -(-length * (i + 1) // parts)) for i in range(parts)]


def _apply(row: Layer, x: Tensor) -> Tensor:
    match row:
        case Conv():
            return _conv(row, x)
        case MaxPool(name, size, stride):
            return layers.MaxPooling2D(size, stride, padding="same", name=name)(x)
        case LocalResponseNorm():
            return _local_response_norm(row, x)
        case Inception():
            return _inception(row, x)
        case GlobalAverage(name):
            return layers.GlobalAveragePooling2D(name=name)(x)
        case Dropout(name, rate):
            return layers.Dropout(rate, name=name)(x)
        case Dense(name, units):
            return layers.Dense(units, name=name)(x)


def _conv(row: Conv, x: Tensor) -> Tensor:
    x = layers.Conv2D(
        row.filters,
        row.size,
        row.stride,
        padding="same",
        use_bias=not row.batch_norm,
        kernel_initializer="he_normal",
        name=row.name,
    )(x)
    if row.batch_norm:
        x = layers.BatchNormalization(epsilon=BATCH_NORM_EPSILON, name=f"{row.name}_bn")(x)
    match row.activation:
        case "leaky":
            return layers.LeakyReLU(LEAKY_SLOPE, name=f"{row.name}_leaky")(x)
        case "relu":
            return layers.ReLU(name=f"{row.name}_relu")(x)
        case "linear":
            return x


def _inception(row: Inception, x: Tensor) -> Tensor:
    joined = []
    for branch, convs in convolutions(row).items():
        y = layers.MaxPooling2D(3, 1, padding="same", name=f"{row.name}_pool")(x) if branch == "pooled" else x
        for conv in convs:
            y = _conv(conv, y)
        joined.append(y)
    return layers.Concatenate(name=row.name)(joined)


def _local_response_norm(row: LocalResponseNorm, x: Tensor) -> Tensor:
    channels, half = x.shape[-1], row.size // 2
    squares = ops.pad(ops.square(x), ((0, 0), (0, 0), (0, 0), (half, half)))
    total = sum(squares[..., i : i + channels] for i in range(row.size))
    return x / ops.power(row.bias + row.alpha / row.size * total, row.beta)


def get_parameters(model: keras.Model) -> dict[str, NDArray[np.float32]]:
    """Copy a model's parameters out, by the names of ``layers.parameter_shapes``."""
    return {name: np.array(ops.convert_to_numpy(v)) for name, v in _variables(model).items()}


def set_parameters(model: keras.Model, arrays: Mapping[str, NDArray[np.float32]]) -> None:
    """Copy parameters into a model; a missing array is a ``KeyError``, another shape a ``ValueError``."""
    for name, variable in _variables(model).items():
        variable.assign(arrays[name])


def _variables(model: keras.Model) -> dict[str, Any]:
    return {f"{layer.name}/{v.name}": v for layer in model.layers for v in layer.weights}


def calibrate(model: keras.Model, pixels: NDArray[np.uint8]) -> None:
    """Set every batch normalisation to the statistics of these pictures, in one pass from the first to the last.

    Parameters
    ----------
    model : keras.Model
        Takes pictures in 0..1.
    pixels : ndarray of uint8, shape (n, side_px, side_px, 3)
    """
    norms = [layer for layer in model.layers if isinstance(layer, layers.BatchNormalization)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0  # the moving statistics become those of the batch
    model(ops.cast(pixels, "float32") / 255, training=True)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
