"""The boxes of a circle: nothing outside the outer one is near, everything in the inner one is."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from lookalike.kernels import _reference_masks
from lookalike.kernels.places import UNITS_PER_DEGREE, Box, Circle

LATITUDES = st.floats(-90, 90) | st.sampled_from([-90.0, -0.01, 0.0, 48.4, 89.9999, 90.0])
LONGITUDES = st.floats(-180, 180) | st.sampled_from([-180.0, 0.0, 179.99, 180.0])
ANGLES = st.floats(0, math.pi) | st.floats(-9, 0).map(lambda power: 10**power)
CIRCLES = st.builds(Circle, LATITUDES, LONGITUDES, ANGLES)


def is_in(box: Box, lat: NDArray[np.int32], lon: NDArray[np.int32]) -> NDArray[np.bool_]:
    (south, north), parts = box
    between = np.zeros(len(lon), bool)
    for west, east in parts:
        between |= (lon >= west) & (lon <= east)
    return (lat >= south) & (lat <= north) & between


def points_of(box: Box, rng: np.random.Generator, count: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Points anywhere in a box, half of them at its edges and corners."""
    axes = []
    for parts in ((box[0],), box[1]):
        kept = [part for part in parts if part[0] <= part[1]]
        if not kept:
            return np.zeros(0, np.int32), np.zeros(0, np.int32)
        first, last = np.array(kept)[rng.integers(0, len(kept), count)].T
        share = rng.choice([0.0, 1.0, -1.0], count)
        axes.append(np.rint(first + (last - first) * np.where(share < 0, rng.random(count), share)).astype(np.int32))
    return axes[0], axes[1]


@settings(deadline=None, max_examples=400)
@given(CIRCLES, st.integers(0, 2**32))
def test_inner_box_holds_only_places_in_the_circle(circle: Circle, seed: int) -> None:
    lat, lon = points_of(circle.inner_box, np.random.default_rng(seed), 200)
    assert _reference_masks.is_near(lat, lon, circle).all()


@settings(deadline=None, max_examples=400)
@given(CIRCLES, st.integers(0, 2**32))
def test_outer_box_holds_every_place_in_the_circle(circle: Circle, seed: int) -> None:
    rng = np.random.default_rng(seed)
    bearing, angle = rng.uniform(0, 2 * np.pi, 300), circle.angle * rng.choice([1, 1 - 1e-9, 0.5], 300)
    lat0 = math.radians(circle.lat)
    sine = math.sin(lat0) * np.cos(angle) + math.cos(lat0) * np.sin(angle) * np.cos(bearing)
    turn = np.arctan2(np.sin(bearing) * np.sin(angle) * math.cos(lat0), np.cos(angle) - math.sin(lat0) * sine)
    lat = np.rint(np.degrees(np.arcsin(np.clip(sine, -1, 1))) * UNITS_PER_DEGREE).astype(np.int32)
    lon = np.rint(((circle.lon + np.degrees(turn) + 180) % 360 - 180) * UNITS_PER_DEGREE).astype(np.int32)
    near = _reference_masks.is_near(lat, lon, circle)
    assert is_in(circle.outer_box, lat, lon)[near].all()


def test_boxes_are_close_to_a_small_circle() -> None:
    rng = np.random.default_rng(0)
    for lat in (0.0, 48.2, -70.0):
        circle = Circle(lat, 179.95, 25 / 6371)
        points = points_of(circle.outer_box, rng, 20_000)
        near, inner = _reference_masks.is_near(*points, circle), is_in(circle.inner_box, *points)
        assert 0.6 * near.sum() < inner.sum() < 0.7 * near.sum() + 200
