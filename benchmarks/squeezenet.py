"""SqueezeNet v1.0 trained on ImageNet, as a yardstick: what the same number of bits of a trained network find.

Not part of the product. The weights are arrays `<layer>.weight` (O, I, kh, kw) and `<layer>.bias`, with the input rules
of the original Caffe network: 227 px, BGR, means taken off, no scaling.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

SIDE_PX = 227
BITS = 512
MEANS = (104.0, 117.0, 123.0)  # blue, green, red
BATCH = 16
Tensor = Any


def features(weights_file: Path, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The mean of each of fire9's 512 channels: uint8 (n, 227, 227, 3) RGB to float32 (n, 512)."""
    import tensorflow as tf

    with np.load(weights_file) as archive:
        weights = dict(archive)

    def conv(x: Tensor, name: str, stride: int = 1, padding: str = "SAME") -> Tensor:
        kernel = weights[f"{name}.weight"].transpose(2, 3, 1, 0)
        return tf.nn.relu(tf.nn.conv2d(x, kernel, stride, padding) + weights[f"{name}.bias"])

    def fire(x: Tensor, name: str) -> Tensor:
        squeezed = conv(x, f"{name}/conv1x1_1")
        return tf.concat([conv(squeezed, f"{name}/conv1x1_2"), conv(squeezed, f"{name}/conv3x3_2")], axis=-1)

    def network(levels: Tensor) -> Tensor:
        x = conv(tf.cast(levels[..., ::-1], tf.float32) - MEANS, "conv1", 2, "VALID")  # 111 x 111 x 96
        for number in range(2, 10):
            if number in (2, 5, 9):  # 55, 27, 13: every plane is odd, so Caffe's rounding up changes nothing
                x = tf.nn.max_pool2d(x, 3, 2, "VALID")
            x = fire(x, f"fire{number}")
        return tf.reduce_mean(x, axis=(1, 2))

    compiled = tf.function(network)
    parts = [compiled(pixels[start : start + BATCH]).numpy() for start in range(0, len(pixels), BATCH)]
    return np.concatenate(parts)
