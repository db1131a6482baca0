"""The colour part of a descriptor: what colours the thing in the middle of a photo has, in CIELAB.

Each pixel counts the more, the nearer it is to the middle and the more it differs from the photo's border. Of the
pixels so weighted the three quartiles of L, a and b are the features: a plain thing has three equal ones, a striped
one does not. Their bits are a thermometer: the Hamming distance counts the thresholds between two colours.
Measurements behind the choices: docs/model.md.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lookalike.model.descriptor import Features, Pixels, Thresholds

Lab = NDArray[np.float32]
Weights = NDArray[np.float64]
Levels = NDArray[np.float64]

FEATURES = 9
"""Quartiles 1, 2, 3, each as L, a, b."""

_QUARTILES = (0.25, 0.5, 0.75)
_GRID_PX = 32  # pixels sampled per side: 64 gains nothing measurable for the whole descriptor, at four times the work
_BORDER_SHARE = 1 / 16  # of the side
_CENTRE_DEVIATION = 0.3  # of the Gaussian centre weight, in half sides
_CONTRAST_SCALE = 6.0  # Lab distance from the border at which a pixel counts by 1 - 1/e
_MIN_CONTRAST = 1e-3  # so that a white shirt on white still has weight

# IEC 61966-2-1: linear sRGB to XYZ under D65, each row divided by the white point's X, Y or Z.
_WHITE = np.array([0.95047, 1.0, 1.08883])
_TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
_DELTA = 6 / 29
_SRGB = np.arange(256) / 255
_LINEAR = np.where(_SRGB <= 0.04045, _SRGB / 12.92, ((_SRGB + 0.055) / 1.055) ** 2.4).astype(np.float32)

# The ends of the sRGB gamut on each axis, and the chroma term of CIEDE2000 (S_C = 1 + 0.045 C).
_ENDS = ((0.0, 100.0), (-86.2, 98.3), (-107.9, 94.5))
_CHROMA = 0.045


def srgb_to_lab(rgb: Pixels) -> Lab:
    """Convert sRGB to CIELAB with the D65 white.

    Parameters
    ----------
    rgb : ndarray of uint8, shape (..., 3)

    Returns
    -------
    ndarray of float32, shape (..., 3)
        L in 0..100, a in -86.2..98.3, b in -107.9..94.5.
    """
    xyz = _LINEAR[rgb] @ (_TO_XYZ / _WHITE[:, None]).T.astype(np.float32)
    f = np.where(xyz > _DELTA**3, np.cbrt(xyz), xyz / (3 * _DELTA**2) + 4 / 29)
    x, y, z = f[..., 0], f[..., 1], f[..., 2]
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1).astype(np.float32)


def features(pixels: Pixels) -> Features:
    """Find the colours of the thing in the middle of each photo.

    One photo at a time, so that no result depends on its neighbours.

    Parameters
    ----------
    pixels : ndarray of uint8, shape (n, side, side, 3)
        sRGB.

    Returns
    -------
    ndarray of float32, shape (n, 9)
        L, a, b of the first, second and third quartile.
    """
    out = np.empty((len(pixels), FEATURES), np.float32)
    for quartiles, photo in zip(out, pixels, strict=True):
        quartiles[:] = _quartiles(photo)
    return out


def _quartiles(photo: Pixels) -> Lab:
    step = max(1, photo.shape[0] // _GRID_PX)
    lab = srgb_to_lab(photo[step // 2 :: step, step // 2 :: step])
    weights = _weights(lab).ravel()
    pixels = lab.reshape(-1, 3)
    order = np.argsort(pixels, axis=0, kind="stable")
    reached = np.cumsum(weights[order], axis=0)
    columns = [
        pixels[order[np.searchsorted(reached[:, c], np.multiply(_QUARTILES, reached[-1, c])), c], c] for c in range(3)
    ]
    return np.stack(columns, axis=1).ravel()


def _weights(lab: Lab) -> Weights:
    side = lab.shape[0]
    edge = max(1, round(side * _BORDER_SHARE))
    border = np.concatenate(
        [
            lab[:edge].reshape(-1, 3),
            lab[-edge:].reshape(-1, 3),
            lab[:, :edge].reshape(-1, 3),
            lab[:, -edge:].reshape(-1, 3),
        ]
    )
    square = ((lab - np.median(border, axis=0)) ** 2).sum(axis=-1, dtype=np.float64)
    from_middle = (np.arange(side) + 0.5) / side * 2 - 1
    bell = np.exp(-(from_middle**2) / (2 * _CENTRE_DEVIATION**2))
    weights: Weights = np.outer(bell, bell) * (1 - np.exp(-square / _CONTRAST_SCALE**2) + _MIN_CONTRAST)
    return weights


def thermometer(bits: int) -> Thresholds:
    """Make the thresholds.

    Each quartile has a third of the bits: 3/8 of those on L, evenly, and 5/16 each on a and b, dense near grey and
    sparse far out as CIEDE2000 weighs chroma.

    Parameters
    ----------
    bits : int
        A multiple of 192.

    Returns
    -------
    Thresholds
        Of the features above, ascending on each.

    Raises
    ------
    ValueError
        Another number of bits.
    """
    if bits < 1 or bits % 192:
        raise ValueError(f"colour takes a multiple of 192 bits, not {bits}")
    per_quartile = bits // len(_QUARTILES)
    chroma = per_quartile * 5 // 16
    counts = (per_quartile - 2 * chroma, chroma, chroma)
    axes = [_even(*_ENDS[0], counts[0]), _even_in_chroma(*_ENDS[1], chroma), _even_in_chroma(*_ENDS[2], chroma)]
    columns = np.repeat(np.arange(FEATURES, dtype=np.int32), counts * len(_QUARTILES))
    return Thresholds(columns, np.tile(np.concatenate(axes), len(_QUARTILES)).astype(np.float32))


def _even(low: float, high: float, count: int) -> Levels:
    return np.linspace(low, high, count + 2)[1:-1]


def _even_in_chroma(low: float, high: float, count: int) -> Levels:
    """Spread values evenly on the scale sign(v) * log(1 + 0.045 |v|), the integral of 1 / S_C."""
    ends = np.sign([low, high]) * np.log1p(_CHROMA * np.abs([low, high]))
    steps = _even(ends[0], ends[1], count)
    return np.sign(steps) * np.expm1(np.abs(steps)) / _CHROMA
