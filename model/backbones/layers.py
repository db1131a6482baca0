"""The layers that a network's table is written in.

A table is a tuple of these, applied from first to last; it holds no Keras object, so a weights file can be checked
against it without TensorFlow. ``filters`` are those of the published network; a width multiplier scales them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Activation = Literal["leaky", "relu", "linear"]

BATCH_NORM_ARRAYS = ("gamma", "beta", "moving_mean", "moving_variance")
"""The arrays of a batch normalisation, in Keras's words and order."""

BATCH_NORM_EPSILON = 1e-5
"""Added to the variance, inside the root, by Darknet and Keras alike."""

LEAKY_SLOPE = 0.1


class Conv(NamedTuple):
    """A convolution, with or without batch normalisation, and its activation; zero padding keeps ``side / stride``."""

    name: str
    filters: int
    size: int
    stride: int = 1
    batch_norm: bool = True
    activation: Activation = "leaky"


class MaxPool(NamedTuple):
    """The largest value of each ``size`` x ``size`` window; padding as for a convolution."""

    name: str
    size: int
    stride: int


class LocalResponseNorm(NamedTuple):
    """Each value divided by ``(bias + alpha / size * sum of squares over size channels) ** beta``."""

    name: str
    size: int = 5
    alpha: float = 1e-4
    beta: float = 0.75
    bias: float = 1.0


class Inception(NamedTuple):
    """Four branches side by side, joined by channel: 1x1; 1x1 then 3x3; 1x1 then 5x5; 3x3 max pool then 1x1."""

    name: str
    ones: int
    threes_reduce: int
    threes: int
    fives_reduce: int
    fives: int
    pooled: int


class GlobalAverage(NamedTuple):
    """The mean of each channel over the whole plane."""

    name: str


class Dropout(NamedTuple):
    """Zero this share of the values while training."""

    name: str
    rate: float


class Dense(NamedTuple):
    """One linear unit per class, with bias."""

    name: str
    units: int


Layer = Conv | MaxPool | LocalResponseNorm | Inception | GlobalAverage | Dropout | Dense
Table = Sequence[Layer]

Parameters = Mapping[str, NDArray[np.float32]]
"""A network's arrays, named and shaped as ``parameter_shapes`` says."""


def scaled(filters: int, width: float) -> int:
    """Scale a number of filters by a width multiplier, to a multiple of 8 (one vector register), at least 8.

    Filters that are no multiple of 8 stay as published when ``width`` is 1.
    """
    if width == 1:
        return filters
    return max(8, round(filters * width / 8) * 8)


def truncated(table: Table, deepest: Sequence[str]) -> Table:
    """Cut a table after the last of the named layers.

    Raises
    ------
    ValueError
        The table has no such layer.
    """
    names = [layer.name for layer in table]
    missing = sorted(set(deepest) - set(names))
    if missing:
        raise ValueError(f"this network has no layer {', '.join(missing)}")
    return table[: 1 + max((names.index(name) for name in deepest), default=-1)]


def convolutions(inception: Inception) -> dict[str, tuple[Conv, ...]]:
    """Name the convolutions of an Inception's four branches, in the order in which the branches are joined."""

    def conv(part: str, filters: int, size: int) -> Conv:
        return Conv(f"{inception.name}_{part}", filters, size, 1, batch_norm=False, activation="relu")

    return {
        "1x1": (conv("1x1", inception.ones, 1),),
        "3x3": (conv("3x3_reduce", inception.threes_reduce, 1), conv("3x3", inception.threes, 3)),
        "5x5": (conv("5x5_reduce", inception.fives_reduce, 1), conv("5x5", inception.fives, 5)),
        "pooled": (conv("pooled", inception.pooled, 1),),
    }


def channels(table: Table, inputs: int = 3) -> dict[str, int]:
    """Say how many channels each layer of a table puts out, by name."""
    out: dict[str, int] = {}
    for layer in table:
        match layer:
            case Conv():
                inputs = layer.filters
            case Inception():
                inputs = layer.ones + layer.threes + layer.fives + layer.pooled
            case Dense():
                inputs = layer.units
        out[layer.name] = inputs
    return out


def sides(table: Table, side_px: int) -> dict[str, int]:
    """Say how many cells each side of a layer's output plane has, by name, for a square photo of ``side_px``."""
    out: dict[str, int] = {}
    for layer in table:
        match layer:
            case Conv() | MaxPool():
                side_px = -(-side_px // layer.stride)
            case GlobalAverage():
                side_px = 1
        out[layer.name] = side_px
    return out


def parameter_shapes(table: Table, inputs: int = 3) -> dict[str, tuple[int, ...]]:
    """Say which arrays the network's parameters are.

    Returns
    -------
    dict of str to tuple of int
        ``layer/array`` to shape, in the order of the table. Kernels are height, width, in, out.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    outputs = channels(table, inputs)
    for layer in table:
        match layer:
            case Conv():
                shapes |= _conv_shapes(layer, inputs)
            case Inception():
                for branch in convolutions(layer).values():
                    width = inputs
                    for conv in branch:
                        shapes |= _conv_shapes(conv, width)
                        width = conv.filters
            case Dense(name, units):
                shapes |= {f"{name}/kernel": (inputs, units), f"{name}/bias": (units,)}
        inputs = outputs[layer.name]
    return shapes


def _conv_shapes(conv: Conv, channels: int) -> dict[str, tuple[int, ...]]:
    per_filter = (conv.filters,)
    kernel: dict[str, tuple[int, ...]] = {f"{conv.name}/kernel": (conv.size, conv.size, channels, conv.filters)}
    if not conv.batch_norm:
        return kernel | {f"{conv.name}/bias": per_filter}
    return kernel | {f"{conv.name}_bn/{array}": per_filter for array in BATCH_NORM_ARRAYS}
