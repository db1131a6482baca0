"""A network's table to a Keras model, whole or only as deep as the pools that a descriptor needs.

Written in ``keras.layers`` and ``keras.ops`` alone, so the backend is Keras's to choose. Photos are float32
RGB in 0..1, channels last. This module imports Keras: only the encoder, fitting and training import it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import layers, ops
from numpy.typing import NDArray

from lookalike.model import keras_runtime
from lookalike.model.backbones.fold import fold
from lookalike.model.backbones.layers import (
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
    Parameters,
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
    photo = keras.Input((side_px, side_px, 3), name="photo")
    x = photo
    for layer in table:
        x = _apply(layer, x)
    return keras.Model(photo, x)


def extractor(table: Table, side_px: int, sources: Sequence[str]) -> keras.Model:
    """Build the network only down to the deepest of the sources' layers, ending in average pools.

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
        float32 (n, rows * columns * channels), cells from the top left line by line, the channels of a cell together.

    Raises
    ------
    ValueError
        The table has no such layer, or the layer's plane has fewer cells than the source's grid.
    """
    wanted = [parse_source(s) for s in sources]
    photo = keras.Input((side_px, side_px, 3), name="photo")
    x, planes = photo, {}
    for layer in truncated(table, [s.layer for s in wanted]):
        x = planes[layer.name] = _apply(layer, x)
    return keras.Model(photo, [_grid_pool(planes[s.layer], s.rows, s.columns) for s in wanted])


def pools(
    table: Table, side_px: int, sources: Sequence[str], parameters: Parameters, backend: str
) -> keras_runtime.Run:
    """Make the function that computes a descriptor's pools: folded, with its parameters, compiled.

    Returns
    -------
    callable
        uint8 (n, side_px, side_px, 3) to a list, one per source, of float32 (n, f), as ``extractor`` orders them.
    """
    plain, folded = fold(table, parameters)
    model = extractor(plain, side_px, sources)
    set_parameters(model, folded)
    return keras_runtime.compiled(model, backend)


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
    """Cut ``length`` into nearly equal parts that touch; where it does not divide, neighbours share a line."""
    return [(length * i // parts, -(-length * (i + 1) // parts)) for i in range(parts)]


def _apply(layer: Layer, x: Tensor) -> Tensor:
    match layer:
        case Conv():
            return _conv(layer, x)
        case MaxPool(name, size, stride):
            return layers.MaxPooling2D(size, stride, padding="same", name=name)(x)
        case LocalResponseNorm():
            return _local_response_norm(layer, x)
        case Inception():
            return _inception(layer, x)
        case GlobalAverage(name):
            return layers.GlobalAveragePooling2D(name=name)(x)
        case Dropout(name, rate):
            return layers.Dropout(rate, name=name)(x)
        case Dense(name, units):
            return layers.Dense(units, name=name)(x)


def _conv(layer: Conv, x: Tensor) -> Tensor:
    x = layers.Conv2D(
        layer.filters,
        layer.size,
        layer.stride,
        padding="same",
        use_bias=not layer.batch_norm,
        kernel_initializer="he_normal",
        name=layer.name,
    )(x)
    if layer.batch_norm:
        x = layers.BatchNormalization(epsilon=BATCH_NORM_EPSILON, name=f"{layer.name}_bn")(x)
    match layer.activation:
        case "leaky":
            return layers.LeakyReLU(LEAKY_SLOPE, name=f"{layer.name}_leaky")(x)
        case "relu":
            return layers.ReLU(name=f"{layer.name}_relu")(x)
        case "linear":
            return x


def _inception(layer: Inception, x: Tensor) -> Tensor:
    joined = []
    for branch, convs in convolutions(layer).items():
        y = layers.MaxPooling2D(3, 1, padding="same", name=f"{layer.name}_pool")(x) if branch == "pooled" else x
        for conv in convs:
            y = _conv(conv, y)
        joined.append(y)
    return layers.Concatenate(name=layer.name)(joined)


def _local_response_norm(layer: LocalResponseNorm, x: Tensor) -> Tensor:
    channels, half = x.shape[-1], layer.size // 2
    squares = ops.pad(ops.square(x), ((0, 0), (0, 0), (0, 0), (half, half)))
    total = sum(squares[..., i : i + channels] for i in range(layer.size))
    return x / ops.power(layer.bias + layer.alpha / layer.size * total, layer.beta)


def get_parameters(model: keras.Model) -> dict[str, NDArray[np.float32]]:
    """Copy a model's parameters out, by the names of ``layers.parameter_shapes``."""
    return {name: np.array(ops.convert_to_numpy(v)) for name, v in _variables(model).items()}


def set_parameters(model: keras.Model, arrays: Parameters) -> None:
    """Copy parameters into a model; a missing array is a ``KeyError``, another shape a ``ValueError``."""
    for name, variable in _variables(model).items():
        variable.assign(arrays[name])


def _variables(model: keras.Model) -> dict[str, Any]:
    return {f"{layer.name}/{v.name}": v for layer in model.layers for v in layer.weights}
