"""Column sketches: whatever classes were chosen, they leave out no row that a condition could take."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lookalike.actors.index import sketches
from lookalike.actors.index.columns import NO_TIME
from lookalike.actors.index.sketches import (
    NumberSketchColumn,
    PlaceSketchColumn,
    hashes_of_texts,
)
from lookalike.kernels import _reference_masks
from lookalike.kernels.places import NO_DEGREES, Circle

SEEDS = st.integers(0, 2**32)


@pytest.fixture(autouse=True)
def _choose_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sketches, "_MIN_DRIFT", 64)
    monkeypatch.setattr(sketches, "_CHUNK", 100)


def some_values(rng: np.random.Generator, dtype: Any, count: int) -> np.ndarray:
    """Values of which many are alike, or all are, or none is; some are missing."""
    spread = rng.choice([0, 3, 500, 10**9])
    values = (rng.integers(0, spread + 1, count) + rng.integers(0, 10**6)).astype(dtype)
    missing = np.nan if dtype is np.float64 else NO_TIME
    values[rng.random(count) < rng.choice([0, 0.1, 1])] = missing
    return values


@pytest.mark.parametrize("dtype", [np.float64, np.int64])
@settings(deadline=None)
@given(seed=SEEDS, batches=st.integers(1, 8))
def test_number_sketch_tells_what_lies_between_bounds(dtype: Any, seed: int, batches: int) -> None:
    rng = np.random.default_rng(seed)
    column, values = NumberSketchColumn(dtype), np.zeros(0, dtype)
    put: set[int] = set()
    for _ in range(batches):
        slots = np.unique(rng.integers(0, len(values) + 50, rng.integers(1, 90)))
        grown = np.zeros(max(len(values), int(slots.max()) + 1), dtype)
        grown[: len(values)] = values
        grown[slots] = some_values(rng, dtype, len(slots))
        values = grown
        column.put(slots, values)
        put.update(slots.tolist())
    sketch = column.view(len(values))
    known = [value for value in values[sorted(put)].tolist() if value == value and value != NO_TIME]
    edges = [*known[:4], 0, 10**12] + ([-math.inf, math.inf] if dtype is np.float64 else [])
    for lower in edges:
        for upper in edges:
            inside, partly = sketch.tables(lower, upper)
            for slot in put:
                value, number = values[slot], sketch.classes[slot]
                met = lower <= value <= upper and value != NO_TIME
                assert not (inside[number] and not met)
                assert not (met and not inside[number] and not partly[number])


def test_number_sketch_leaves_two_classes_to_look_up_and_follows_drift() -> None:
    rng = np.random.default_rng(0)
    column, values = NumberSketchColumn(np.float64), np.zeros(0)
    for step in range(20):  # each later than all before
        slots = np.arange(len(values), len(values) + 1000)
        values = np.concatenate([values, rng.uniform(step, step + 1, 1000)])
        column.put(slots, values)
    sketch = column.view(len(values))
    inside, partly = sketch.tables(3.5, 5.5)
    assert partly.sum() == 2
    assert partly[sketch.classes].mean() < 0.02
    assert inside[sketch.classes].mean() > 0.08
    assert column.held_bytes < 2 * len(values) + 4096


@settings(deadline=None)
@given(
    SEEDS,
    st.integers(1, 6),
    st.tuples(st.floats(-90, 90), st.floats(-180, 180) | st.sampled_from([-180.0, 179.99, 180.0])),
    st.floats(0, math.pi) | st.sampled_from([1e-6, 0.01]),
)
def test_place_sketch_leaves_out_no_place_in_a_circle(
    seed: int, batches: int, of: tuple[float, float], angle: float
) -> None:
    rng = np.random.default_rng(seed)
    circle = Circle(*of, angle)
    column = PlaceSketchColumn()
    lat, lon = np.zeros(0, np.int32), np.zeros(0, np.int32)
    for _ in range(batches):
        slots = np.arange(len(lat), len(lat) + rng.integers(1, 200))
        spread = rng.choice([0, 10**6, 9 * 10**8])
        near = rng.integers(-spread, spread + 1, len(slots)) + int(of[0] * 1e7)
        lat = np.concatenate([lat, near.clip(-9 * 10**8, 9 * 10**8).astype(np.int32)])
        lon = np.concatenate([lon, rng.integers(-18 * 10**8, 18 * 10**8 + 1, len(slots)).astype(np.int32)])
        lat[slots[rng.random(len(slots)) < 0.1]] = NO_DEGREES
        lon[slots[rng.random(len(slots)) < 0.1]] = NO_DEGREES
        column.put(slots, lat, lon)
    sketch = column.view(len(lat))
    known = (lat != NO_DEGREES) & (lon != NO_DEGREES)
    touched = sketch.touched(circle)[sketch.classes]
    assert not touched[~known].any()
    met = np.flatnonzero(known)[_reference_masks.is_near(lat[known], lon[known], circle)]
    assert touched[met].all()


def test_place_sketch_takes_few_rows_for_a_small_circle() -> None:
    rng = np.random.default_rng(0)
    lat = rng.integers(46 * 10**7, 49 * 10**7, 20_000).astype(np.int32)
    lon = rng.integers(9 * 10**7, 17 * 10**7, 20_000).astype(np.int32)
    column = PlaceSketchColumn()
    column.put(np.arange(20_000), lat, lon)
    sketch = column.view(20_000)
    assert sketch.touched(Circle(48.2, 16.4, 25 / 6371))[sketch.classes].mean() < 0.06


def test_hashes_spread_over_all_bytes() -> None:
    for pattern in ("{:09}", "listing {:06} of the seller", "{:09}/1", "x{:05}y"):
        counts = np.bincount(hashes_of_texts([pattern.format(number) for number in range(25_600)]), minlength=256)
        assert 40 < counts.min() <= counts.max() < 200, pattern
