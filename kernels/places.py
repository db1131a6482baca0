"""A circle on the globe, and degrees as columns hold them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

UNITS_PER_DEGREE: Final = 10_000_000  # 1e-7 degrees are 1 cm
NO_DEGREES: Final = np.iinfo(np.int32).min
_HALF_TURN: Final = 180 * UNITS_PER_DEGREE
# What the outer box of a circle is widened by and the inner one narrowed, 1 m: the rounding of edges is below 1e-7
# degrees, except that of the longitudes of a circle that nearly touches a pole, which is below 16.
_BOX_MARGIN: Final = 100

Interval = tuple[int, int]
"""First and last, in units of 1e-7 degrees."""
Box = tuple[Interval, tuple[Interval, Interval]]
"""South to north; west to east, cut in two at 180 degrees."""
_ALL_AROUND: Final = (-_HALF_TURN, _HALF_TURN)
_EMPTY: Final = (0, -1)


@dataclass(frozen=True, slots=True)
class Circle:
    """A point in degrees, and how far away a row may be: the angle between them, in radians, 0 to pi."""

    lat: float
    lon: float
    angle: float

    @property
    def limit(self) -> float:
        """The largest squared half chord."""
        return float(np.sin(self.angle / 2) ** 2)

    @property
    def margin(self) -> float:
        """Within so much of the limit the native loops do not decide.

        Their sines are off by 1e-11 of themselves, and differences of angles in radians by 6e-16, which weighs most
        where the circle is small: its half chord is the square root of the limit.
        """
        return 1e-9 * self.limit + 1e-14 * float(np.sqrt(self.limit)) + 1e-28

    @property
    def outer_box(self) -> Box:
        """No place outside of it is in the circle."""
        reach = np.degrees(self.angle) * UNITS_PER_DEGREE + _BOX_MARGIN
        lat = self.lat * UNITS_PER_DEGREE
        latitudes = _unit(lat - reach), _unit(lat + reach)
        if abs(self.lat) + np.degrees(self.angle) >= 90 - 1e-9:  # it holds a pole, or nearly
            return latitudes, (_ALL_AROUND, _EMPTY)
        # Where a meridian touches it (Napier's rule).
        half = np.degrees(np.arcsin(min(np.sin(self.angle) / np.cos(np.radians(self.lat)), 1.0)))
        return latitudes, self._around(half * UNITS_PER_DEGREE + _BOX_MARGIN)

    @property
    def inner_box(self) -> Box:
        """Every place inside of it is in the circle, by far more than the margin.

        Along a meridian no more than 90 degrees away the distance has one minimum, so that of a box its corners are
        farthest away. Here they are on a circle that is smaller by a millionth; two thirds of a small one's places
        are within the box.
        """
        reach = self.angle / np.sqrt(2)
        lat, nothing = np.radians(self.lat), (_EMPTY, (_EMPTY, _EMPTY))
        if abs(lat) + reach >= np.pi / 2:
            return nothing
        room = self.limit * (1 - 1e-6) - np.sin(reach / 2) ** 2
        largest = max(np.cos(lat - reach), np.cos(lat + reach)) * np.cos(lat)
        half = np.degrees(2 * np.arcsin(np.sqrt(np.clip(room / largest, 0, 0.5)))) * UNITS_PER_DEGREE - _BOX_MARGIN
        up = np.degrees(reach) * UNITS_PER_DEGREE - _BOX_MARGIN
        if min(half, up) < 0:
            return nothing
        point = self.lat * UNITS_PER_DEGREE
        return (_unit(point - up), _unit(point + up)), self._around(half)

    def _around(self, reach: float) -> tuple[Interval, Interval]:
        """Longitudes at most so many units away, up to a half turn."""
        west, east = self.lon * UNITS_PER_DEGREE - reach, self.lon * UNITS_PER_DEGREE + reach
        if west < -_HALF_TURN:
            return (-_HALF_TURN, _unit(east)), (_unit(west + 2 * _HALF_TURN), _HALF_TURN)
        if east > _HALF_TURN:
            return (_unit(west), _HALF_TURN), (-_HALF_TURN, _unit(east - 2 * _HALF_TURN))
        return (_unit(west), _unit(east)), _EMPTY


def _unit(degrees: float) -> int:
    """Whole units of 1e-7 degrees, none beyond those that a place can have."""
    return int(np.clip(np.rint(degrees), -_HALF_TURN, _HALF_TURN))
