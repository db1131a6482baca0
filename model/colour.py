"""The colour part of a descriptor: the main colour of the middle of the picture, in CIELAB.

Thermometer bits: the Hamming distance of two codes counts the thresholds between two colours.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lookalike.model.descriptor import Features, Thresholds

Pixels = NDArray[np.uint8]
Lab = NDArray[np.float32]

# IEC 61966-2-1: linear sRGB to XYZ for D65, each row divided by the white point's X, Y and Z.
_WHITE = np.array([0.95047, 1.0, 1.08883])
_TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
_DELTA = 6 / 29


def _linear(levels: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(levels <= 0.04045, levels / 12.92, ((levels + 0.055) / 1.055) ** 2.4)


_LINEAR = _linear(np.arange(256) / 255).astype(np.float32)


def srgb_to_lab(rgb: Pixels) -> Lab:
    """Convert sRGB to CIELAB with the D65 white.

    Parameters
    ----------
    rgb : ndarray of uint8, shape (..., 3)

    Returns
    -------
    ndarray of float32, shape (..., 3)
        L in 0..100, a and b in about -110..100.
    """
    xyz = _LINEAR[rgb] @ (_TO_XYZ / _WHITE[:, None]).T.astype(np.float32)
    f = np.where(xyz > _DELTA**3, np.cbrt(xyz), xyz / (3 * _DELTA**2) + 4 / 29)
    x, y, z = f[..., 0], f[..., 1], f[..., 2]
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1).astype(np.float32)


def features(pixels: Pixels) -> Features:
    """Find the main colour of the middle of each picture.

    Parameters
    ----------
    pixels : ndarray of uint8, shape (n, side, side, 3)

    Returns
    -------
    ndarray of float32, shape (n, 3)
        CIELAB.
    """
    n, side = pixels.shape[:2]
    low, high = side // 4, side - side // 4
    middle = srgb_to_lab(pixels[:, low:high:2, low:high:2]).reshape(n, -1, 3)
    return np.median(middle, axis=1).astype(np.float32)


def thermometer(bits: int) -> Thresholds:
    """Place ``bits`` thresholds over the three axes: a quarter on L, the rest halved between a and b."""
    lightness = bits // 4
    a = (bits - lightness) // 2
    b = bits - lightness - a
    columns = np.repeat(np.arange(3, dtype=np.int32), (lightness, a, b))
    values = np.concatenate([_inner(0, 100, lightness), _inner(-86, 98, a), _inner(-108, 94, b)])
    return Thresholds(columns, values.astype(np.float32))


def _inner(low: float, high: float, count: int) -> NDArray[np.float64]:
    return np.linspace(low, high, count + 2)[1:-1]
