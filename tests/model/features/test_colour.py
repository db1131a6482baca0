"""The colour component against CIELAB's own yardstick, CIEDE2000."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import ArrayLike, NDArray

from lookalike.model.descriptor import BoolBits, Pixels, binarise
from lookalike.model.features import colour

Floats = NDArray[np.float64]

# Sharma, Wu and Dalal 2005, table 1: L a b, L a b, CIEDE2000
SHARMA = """
50 2.6772 -79.7751 50 0 -82.7485 2.0425
50 3.1571 -77.2803 50 0 -82.7485 2.8615
50 2.8361 -74.0200 50 0 -82.7485 3.4412
50 -1.3802 -84.2814 50 0 -82.7485 1.0000
50 -1.1848 -84.8006 50 0 -82.7485 1.0000
50 -0.9009 -85.5211 50 0 -82.7485 1.0000
50 0 0 50 -1 2 2.3669
50 -1 2 50 0 0 2.3669
50 2.4900 -0.0010 50 -2.4900 0.0009 7.1792
50 2.4900 -0.0010 50 -2.4900 0.0010 7.1792
50 2.4900 -0.0010 50 -2.4900 0.0011 7.2195
50 2.4900 -0.0010 50 -2.4900 0.0012 7.2195
50 -0.0010 2.4900 50 0.0009 -2.4900 4.8045
50 -0.0010 2.4900 50 0.0010 -2.4900 4.8045
50 -0.0010 2.4900 50 0.0011 -2.4900 4.7461
50 2.5 0 50 0 -2.5 4.3065
50 2.5 0 73 25 -18 27.1492
50 2.5 0 61 -5 29 22.8977
50 2.5 0 56 -27 -3 31.9030
50 2.5 0 58 24 15 19.4535
50 2.5 0 50 3.1736 0.5854 1.0000
50 2.5 0 50 3.2972 0 1.0000
50 2.5 0 50 1.8634 0.5757 1.0000
50 2.5 0 50 3.2592 0.3350 1.0000
60.2574 -34.0099 36.2677 60.4626 -34.1751 39.4387 1.2644
63.0109 -31.0961 -5.8663 62.8187 -29.7946 -4.0864 1.2630
61.2901 3.7196 -5.3901 61.4292 2.2480 -4.9620 1.8731
35.0831 -44.1164 3.7933 35.0232 -40.0716 1.5901 1.8645
22.7233 20.0904 -46.6940 23.0331 14.9730 -42.5619 2.0373
36.4612 47.8580 18.3852 36.2715 50.5065 21.2231 1.4146
90.8027 -2.0831 1.4410 91.1528 -1.6435 0.0447 1.4441
90.9257 -0.5406 -0.9208 88.6381 -0.8985 -0.7239 1.5381
6.7747 -0.2908 -2.4247 5.8714 -0.0985 -2.2286 0.6377
2.0776 0.0795 -1.1350 0.9033 -0.0636 -0.5514 0.9082
"""


def ciede2000(one: Floats, other: Floats) -> Floats:
    """The colour difference of Lab arrays of shape (..., 3), with kL = kC = kH = 1."""
    (l1, a1, b1), (l2, a2, b2) = np.moveaxis(one, -1, 0), np.moveaxis(other, -1, 0)
    mean_c = (np.hypot(a1, b1) + np.hypot(a2, b2)) / 2
    g = 0.5 * (1 - np.sqrt(mean_c**7 / (mean_c**7 + 25.0**7)))
    c1, c2 = np.hypot((1 + g) * a1, b1), np.hypot((1 + g) * a2, b2)
    h1, h2 = (np.degrees(np.arctan2(b, (1 + g) * a)) % 360 for a, b in ((a1, b1), (a2, b2)))
    grey = c1 * c2 == 0
    turn = np.where(grey, 0, (h2 - h1 + 180) % 360 - 180)
    turn = np.where((h2 - h1 == 180) & ~grey, 180, turn)
    d_hue = 2 * np.sqrt(c1 * c2) * np.sin(np.radians(turn) / 2)
    total = h1 + h2
    far = np.abs(h1 - h2) > 180
    mean_h = np.where(grey, total, np.where(far, np.where(total < 360, total + 360, total - 360), total) / 2)
    mean_l, mean_c = (l1 + l2) / 2, (c1 + c2) / 2
    t = 1 - 0.17 * np.cos(np.radians(mean_h - 30)) + 0.24 * np.cos(np.radians(2 * mean_h))
    t += 0.32 * np.cos(np.radians(3 * mean_h + 6)) - 0.20 * np.cos(np.radians(4 * mean_h - 63))
    turned = np.radians(60 * np.exp(-(((mean_h - 275) / 25) ** 2)))
    r_t = -2 * np.sqrt(mean_c**7 / (mean_c**7 + 25.0**7)) * np.sin(turned)
    light = (l2 - l1) / (1 + 0.015 * (mean_l - 50) ** 2 / np.sqrt(20 + (mean_l - 50) ** 2))
    chroma = (c2 - c1) / (1 + 0.045 * mean_c)
    hue = d_hue / (1 + 0.015 * mean_c * t)
    difference: Floats = np.sqrt(light**2 + chroma**2 + hue**2 + r_t * chroma * hue)
    return difference


def ranks(values: NDArray[np.number]) -> Floats:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    mean_ranks: Floats = (np.cumsum(counts) - (counts + 1) / 2)[inverse]
    return mean_ranks


def plain(rgb: ArrayLike, side_px: int = 32) -> Pixels:
    """Photos of one colour each."""
    pixels = np.asarray(rgb, np.uint8).reshape(-1, 1, 1, 3)
    return np.broadcast_to(pixels, (len(pixels), side_px, side_px, 3))


def bits_of(pixels: Pixels, bits: int = 384) -> BoolBits:
    return binarise(colour.features(pixels), colour.thermometer(bits))


def test_ciede2000_is_the_published_one() -> None:
    table = np.array([line.split() for line in SHARMA.strip().splitlines()], float)
    assert len(table) == 34
    np.testing.assert_allclose(ciede2000(table[:, :3], table[:, 3:6]), table[:, 6], atol=5e-5)


@pytest.mark.parametrize(
    ("rgb", "lab"),  # D65, as printed by Lindbloom's calculator
    [
        ((0, 0, 0), (0, 0, 0)),
        ((255, 255, 255), (100, 0, 0)),
        ((255, 0, 0), (53.24, 80.09, 67.20)),
        ((0, 255, 0), (87.73, -86.18, 83.18)),
        ((0, 0, 255), (32.30, 79.19, -107.86)),
        ((128, 128, 128), (53.59, 0, 0)),
    ],
)
def test_srgb_to_lab_gives_the_known_values(rgb: tuple[int, ...], lab: tuple[float, ...]) -> None:
    np.testing.assert_allclose(colour.srgb_to_lab(np.array(rgb, np.uint8)), lab, atol=0.02)


def test_thermometer_ranks_plain_colours_as_ciede2000_does() -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (4000, 3)).astype(np.uint8)
    bits = bits_of(plain(rgb))
    hamming = (bits[:2000] != bits[2000:]).sum(axis=1)
    lab = colour.srgb_to_lab(rgb).astype(float)
    difference = ciede2000(lab[:2000], lab[2000:])
    assert np.corrcoef(ranks(hamming), ranks(difference))[0, 1] > 0.92


@pytest.mark.parametrize("axis", range(3))
def test_thermometer_distance_grows_along_each_axis(axis: int) -> None:
    thresholds = colour.thermometer(384)
    lab = np.repeat(np.array([[50.0, 0.0, 0.0]], np.float32), 200, axis=0)
    lab[:, axis] = np.linspace(*((0, 100), (-86, 98), (-107, 94))[axis], 200)
    bits = binarise(np.tile(lab, 3), thresholds)
    hamming = (bits != bits[0]).sum(axis=1)
    assert (np.diff(hamming) >= 0).all()
    assert hamming[-1] >= 3 * 39


@pytest.mark.parametrize("background", [(255, 255, 255), (200, 30, 30), (10, 60, 10)])
def test_features_are_of_the_thing_and_not_of_the_background(background: tuple[int, int, int]) -> None:
    photo = plain([background], 64).copy()
    photo[:, 16:48, 20:44] = (30, 60, 160)
    thing = plain([(30, 60, 160)], 64)
    np.testing.assert_allclose(colour.features(photo), colour.features(thing), atol=0.5)


def test_features_of_stripes_differ_from_both_of_their_colours() -> None:
    striped = plain([(20, 20, 20)], 64).copy()
    striped[:, :, (np.arange(64) // 8) % 2 == 0] = (230, 230, 230)
    dark, light = bits_of(plain([(20, 20, 20)], 64)), bits_of(plain([(230, 230, 230)], 64))
    both = bits_of(striped)
    apart = (dark != light).sum()
    assert 0 < (both != dark).sum() < apart
    assert 0 < (both != light).sum() < apart


def test_thermometer_has_its_bits_and_orders_them() -> None:
    thresholds = colour.thermometer(384)
    assert len(thresholds.values) == 384
    assert np.bincount(thresholds.columns).tolist() == [48, 40, 40] * 3
    for column in range(colour.FEATURES):
        assert (np.diff(thresholds.values[thresholds.columns == column]) > 0).all()


@pytest.mark.parametrize("bits", [0, 64, 128, 200])
def test_thermometer_refuses_other_numbers_of_bits(bits: int) -> None:
    with pytest.raises(ValueError, match="multiple of 192"):
        colour.thermometer(bits)


LAB = st.tuples(st.floats(0, 100, width=32), st.floats(-86, 98, width=32), st.floats(-107, 94, width=32))


@given(LAB, LAB)
def test_thermometer_distance_is_the_number_of_thresholds_between(
    one: tuple[float, float, float], other: tuple[float, float, float]
) -> None:
    thresholds = colour.thermometer(192)
    bits = binarise(np.array([one * 3, other * 3], np.float32), thresholds)
    between = 0
    for axis in range(3):
        low, high = sorted((np.float32(one[axis]), np.float32(other[axis])))
        steps = thresholds.values[thresholds.columns == axis]
        between += int(((steps >= low) & (steps < high)).sum())
    assert (bits[0] != bits[1]).sum() == 3 * between


@given(hnp.arrays(np.uint8, st.tuples(st.integers(1, 4), st.just(32), st.just(32), st.just(3))))
def test_features_of_a_photo_do_not_depend_on_its_batch(pixels: Pixels) -> None:
    together = colour.features(pixels)
    for i in range(len(pixels)):
        assert colour.features(pixels[i : i + 1]).tobytes() == together[i : i + 1].tobytes()
