"""A circle on the globe, and degrees as columns hold them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

UNITS_PER_DEGREE: Final = 10_000_000  # 1e-7 degrees are 1 cm
NO_DEGREES: Final = np.iinfo(np.int32).min
_MAX_DEGREES: Final = 180
# What the box of a circle is widened by, 1 m: the rounding of its edges is below 1e-7 degrees, except that of the
# longitudes of a circle that nearly touches a pole, which is below 16.
_BOX_MARGIN: Final = 100


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
    def latitudes(self) -> tuple[int, int]:
        """South and north of a box around it, in units of 1e-7 degrees."""
        reach = np.degrees(self.angle) * UNITS_PER_DEGREE + _BOX_MARGIN
        return _unit(self.lat * UNITS_PER_DEGREE - reach), _unit(self.lat * UNITS_PER_DEGREE + reach)

    @property
    def longitudes(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """West and east of a box around it, cut in two at 180 degrees; of an empty part the east is the lesser."""
        every, none = (_unit(-np.inf), _unit(np.inf)), (0, -1)
        if abs(self.lat) + np.degrees(self.angle) >= 90 - 1e-9:  # it holds a pole, or nearly
            return every, none
        # Where the meridian touches it (Napier's rule).
        half = np.degrees(np.arcsin(min(np.sin(self.angle) / np.cos(np.radians(self.lat)), 1.0)))
        reach = half * UNITS_PER_DEGREE + _BOX_MARGIN
        west, east = self.lon * UNITS_PER_DEGREE - reach, self.lon * UNITS_PER_DEGREE + reach
        half_turn = _MAX_DEGREES * UNITS_PER_DEGREE
        if west < -half_turn:
            return (_unit(-np.inf), _unit(east)), (_unit(west + 2 * half_turn), _unit(np.inf))
        if east > half_turn:
            return (_unit(west), _unit(np.inf)), (_unit(-np.inf), _unit(east - 2 * half_turn))
        return (_unit(west), _unit(east)), none


def _unit(degrees: float) -> int:
    """Units of 1e-7 degrees, none beyond those that a place can have."""
    most = _MAX_DEGREES * UNITS_PER_DEGREE
    return int(np.clip(np.rint(degrees), -most, most))
