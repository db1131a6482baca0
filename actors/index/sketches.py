"""A byte per slot that says roughly what a column holds there: a filter reads it in place of the column.

A *column sketch* (Hentschel, Kester, Idreos 2018) puts values into at most 255 classes of about equal size. A range
takes whole classes but for the two that its bounds fall into; only rows of these are looked up in the column. So a
filter on 8 bytes a row reads 1.1. A row's byte is written with its columns, and as a column it is right for every
snapshot that shows the row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import DTypeLike, NDArray

from lookalike.actors.index.slots import write
from lookalike.kernels import masks
from lookalike.kernels.memory import GrowableRows
from lookalike.kernels.places import NO_DEGREES, Circle

_CLASSES: Final = 255
_NO_VALUE: Final = 255
_SAMPLE: Final = 1 << 16
_CHUNK: Final = 1 << 18
# Classes are chosen anew when so many rows were written since, as a share of all: values drift, times above all.
_MAX_DRIFT: Final = 0.5
_MIN_DRIFT: Final = 4096


def _new_classes() -> GrowableRows:
    return GrowableRows(1, np.uint8, reserve_bytes=1 << 32)  # there are no more slots than that


@dataclass(frozen=True, slots=True)
class NumberSketch:
    """The classes of numbers as a snapshot sees them.

    ``classes`` uint8 (n,): of each slot the number of ``bounds`` that its value is not below; 255 for NaN.
    """

    classes: NDArray[np.uint8]
    bounds: NDArray[Any]

    def tables(self, lower: float, upper: float) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """The classes that lie between two bounds, and those that may hold values between and others: bool (256,)."""
        inside, partly = np.zeros(256, bool), np.zeros(256, bool)
        first, last = np.searchsorted(self.bounds, np.array([lower, upper], self.bounds.dtype), side="right")
        inside[first + 1 : last] = True
        partly[[first, last]] = True
        return inside, partly


class NumberSketchColumn:
    """Classes of a column of float64 or int64. One thread writes."""

    def __init__(self, dtype: DTypeLike) -> None:
        self._classes = _new_classes()
        self._bounds: NDArray[Any] = np.empty(0, dtype)
        self._written = 0  # since the classes were chosen

    @property
    def held_bytes(self) -> int:
        return self._classes.held_bytes

    def view(self, slots: int) -> NumberSketch:
        return NumberSketch(self._classes.view()[:slots, 0], self._bounds)

    def put(self, slots: NDArray[np.int64], values: NDArray[Any]) -> None:
        """Classify some slots of a column, given as a whole."""
        self._written += len(slots)
        if self._written > max(_MAX_DRIFT * len(values), _MIN_DRIFT) or not len(self._classes):
            self._choose(values)
        else:
            write(self._classes, slots, self._classes_of(values[slots]).reshape(-1, 1))

    def _choose(self, values: NDArray[Any]) -> None:
        """Take classes of equal size, and classify all slots. Snapshots keep the classes that they have."""
        sample = np.sort(values[:: len(values) // _SAMPLE + 1])
        sample = sample[~np.isnan(sample)] if sample.dtype.kind == "f" else sample
        self._bounds = np.unique(sample[np.arange(1, _CLASSES) * len(sample) // _CLASSES]) if len(sample) else sample
        self._written = 0
        classes = _new_classes()
        for start in range(0, len(values), _CHUNK):
            classes.append(self._classes_of(values[start : start + _CHUNK]).reshape(-1, 1))
        self._classes = classes

    def _classes_of(self, values: NDArray[Any]) -> NDArray[np.uint8]:
        classes = np.searchsorted(self._bounds, values, side="right").astype(np.uint8)
        if values.dtype.kind == "f":
            classes[np.isnan(values)] = _NO_VALUE
        return classes


def hashes_of_texts(texts: Sequence[str]) -> NDArray[np.uint8]:
    """Hash each text to a byte, as ``masks.hash_texts`` does."""
    encoded = [text.encode() for text in texts]
    lengths = np.array([len(text) for text in encoded], np.int64)
    return masks.hash_texts(np.frombuffer(b"".join(encoded), np.uint8), np.cumsum(lengths) - lengths, lengths)


@dataclass(frozen=True, slots=True)
class PlaceSketch:
    """The cells of places as a snapshot sees them: bands of latitude, each cut by its own longitudes.

    ``classes`` uint8 (n,): the cell of each slot, 255 where it has no place.
    """

    classes: NDArray[np.uint8]
    latitudes: NDArray[np.int32]  # where bands begin, but the first
    longitudes: NDArray[np.int32]  # of each band, where its cells begin, but the first

    def touched(self, circle: Circle) -> NDArray[np.bool_]:
        """The cells that may hold a place in a circle: bool (256,)."""
        south, north = circle.latitudes
        band_south, band_north = _ranges(self.latitudes)
        west_of, east_of = _ranges(self.longitudes)
        touched = np.zeros(west_of.shape, bool)
        for west, east in circle.longitudes:
            touched |= (west_of <= east) & (east_of >= west) & (west <= east)
        touched &= ((band_south <= north) & (band_north >= south))[:, None]
        table = np.zeros(256, bool)
        table[: touched.size] = touched.ravel()
        return table


def _ranges(begins: NDArray[np.int32]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First and last of each part of an axis that is cut where parts begin, along the last dimension."""
    most = np.full((*begins.shape[:-1], 1), np.iinfo(np.int32).max, np.int64)
    return np.concatenate([-most, begins], axis=-1), np.concatenate([begins.astype(np.int64) - 1, most], axis=-1)


class PlaceSketchColumn:
    """Cells of places in 15 bands of 17, each with about as many rows. One thread writes."""

    _BANDS, _CELLS = 15, 17

    def __init__(self) -> None:
        self._classes = _new_classes()
        self._latitudes = np.zeros(self._BANDS - 1, np.int32)
        self._longitudes = np.zeros((self._BANDS, self._CELLS - 1), np.int32)
        self._written = 0  # since the cells were chosen

    @property
    def held_bytes(self) -> int:
        return self._classes.held_bytes

    def view(self, slots: int) -> PlaceSketch:
        return PlaceSketch(self._classes.view()[:slots, 0], self._latitudes, self._longitudes)

    def put(self, slots: NDArray[np.int64], lat: NDArray[np.int32], lon: NDArray[np.int32]) -> None:
        """Classify some slots of two columns, given as a whole."""
        shared = min(len(lat), len(lon))  # one is longer after a batch that failed between the two
        lat, lon = lat[:shared], lon[:shared]
        self._written += len(slots)
        if self._written > max(_MAX_DRIFT * len(lat), _MIN_DRIFT) or not len(self._classes):
            self._choose(lat, lon)
        else:
            write(self._classes, slots, self._classes_of(lat[slots], lon[slots]).reshape(-1, 1))

    def _choose(self, lat: NDArray[np.int32], lon: NDArray[np.int32]) -> None:
        step = len(lat) // _SAMPLE + 1
        known = (lat[::step] != NO_DEGREES) & (lon[::step] != NO_DEGREES)
        some_lat, some_lon = lat[::step][known], lon[::step][known]
        self._latitudes = _cut(some_lat, self._BANDS)
        band = np.searchsorted(self._latitudes, some_lat, side="right")
        self._longitudes = np.stack([_cut(some_lon[band == number], self._CELLS) for number in range(self._BANDS)])
        self._written = 0
        classes = _new_classes()
        for start in range(0, len(lat), _CHUNK):
            part = slice(start, start + _CHUNK)
            classes.append(self._classes_of(lat[part], lon[part]).reshape(-1, 1))
        self._classes = classes

    def _classes_of(self, lat: NDArray[np.int32], lon: NDArray[np.int32]) -> NDArray[np.uint8]:
        band = np.searchsorted(self._latitudes, lat, side="right")
        cell = np.zeros(len(lat), np.int64)
        for begins in self._longitudes.T:
            cell += begins[band] <= lon
        known = (lat != NO_DEGREES) & (lon != NO_DEGREES)
        return np.where(known, band * self._CELLS + cell, _NO_VALUE).astype(np.uint8)


def _cut(values: NDArray[np.int32], parts: int) -> NDArray[np.int32]:
    """Where parts of about equal size begin, but the first: int32 (parts - 1,), ascending."""
    if not len(values):
        return np.zeros(parts - 1, np.int32)
    return np.sort(values)[np.arange(1, parts) * len(values) // parts]
