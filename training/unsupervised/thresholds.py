"""The threshold of each bit, and which features become bits, chosen on a sample."""

from __future__ import annotations

import numpy as np

from lookalike.model.descriptor import Features, Thresholds

MAX_IMBALANCE = 0.2
"""Of a feature that splits the sample 30 to 70; those no worse are taken first."""

MIN_GAP_DEVIATIONS = 1e-3
"""Between the two values beside a threshold, in standard deviations; roundings differ by about 1e-5."""


def choose_thresholds(features: Features, bits: int, rng: np.random.Generator) -> Thresholds:
    """Choose features at random, those first that split the sample well, and put their thresholds near the medians.

    Parameters
    ----------
    features : ndarray of float32, shape (n, f)
        Of a sample, n at least 2.
    bits : int
        At most f.
    rng : Generator

    Returns
    -------
    Thresholds
        Of shape (bits,), columns ascending.

    Raises
    ------
    ValueError
        There are fewer features than bits.
    """
    count = features.shape[1]
    if bits > count:
        raise ValueError(f"there are {count} features, not {bits}")
    values, imbalance = near_medians(features)
    shuffled = rng.permutation(count)
    balanced_first = shuffled[np.argsort(imbalance[shuffled] > MAX_IMBALANCE, kind="stable")]
    columns = np.sort(balanced_first[:bits]).astype(np.int32)
    return Thresholds(columns, values[columns])


def near_medians(features: Features) -> tuple[Features, Features]:
    """Find for each feature the threshold nearest its median that no photo of the sample lies on.

    A studio's white corner gives many photos one and the same value, which is then the median: with the threshold
    on it, another rounding of the last digit would turn the bit of all those photos. So a threshold lies in the
    middle of a gap. (Of 3,072,000 bits, oneDNN's AVX2 kernels in place of AVX-512 turned 95,970; now 7.)

    Parameters
    ----------
    features : ndarray of float32, shape (n, f), n at least 2

    Returns
    -------
    values : ndarray of float32, shape (f,)
    imbalance : ndarray of float32, shape (f,)
        How far the share of the sample above the threshold is from one half, 0..0.5.
    """
    ordered = np.sort(features, axis=0)
    gaps = np.diff(ordered, axis=0)
    above = 1 - np.arange(1, len(ordered), dtype=np.float32)[:, None] / len(ordered)
    imbalance = np.abs(above - 0.5)
    wide = gaps > MIN_GAP_DEVIATIONS * features.std(axis=0)
    best = np.argmin(np.where(wide, imbalance, imbalance + 1), axis=0)[None]
    low, high = (np.take_along_axis(ordered, best + side, axis=0)[0] for side in (0, 1))
    return ((low + high) / 2).astype(np.float32), np.take_along_axis(imbalance, best, axis=0)[0]
