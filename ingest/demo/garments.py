"""Garments as outlines: what `studio` cuts from cloth and photographs.

A garment is a list of parts, painted in order. Coordinates run from -1 to 1, x to the right, y down, before any pose.
Each kind varies its own proportions with the random source that it is given, so two shirts are two shirts.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from random import Random

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]
Corner = tuple[float, float]
Bend = tuple[float, float, float, float]  # a quadratic curve: its control point, then its end
_STEPS = np.linspace(0, 1, 9)[1:, None]


class Stuff(IntEnum):
    """What a part is made of; `studio` gives each a colour."""

    NOTHING = 0
    FABRIC = 1  # carries the pattern
    PLAIN = 2  # the same cloth without it: collars, cuffs, bands
    INSIDE = 3  # the same cloth in its own shadow
    SEAM = 4
    TRIM = 5  # the second colour
    SOLE = 6
    METAL = 7


@dataclass(frozen=True, slots=True)
class Part:
    """A filled outline, or with a ``width`` a line along the points. ``points`` has shape (n, 2)."""

    stuff: Stuff
    points: Points
    width: float = 0.0


def path(start: Corner, *steps: Corner | Bend) -> Points:
    """Flatten lines and quadratic curves to points, shape (n, 2)."""
    points = [np.array([start])]
    for step in steps:
        end = np.array(step[-2:])
        if len(step) == 4:
            control, begin = np.array(step[:2]), points[-1][-1]
            points.append((1 - _STEPS) ** 2 * begin + 2 * _STEPS * (1 - _STEPS) * control + _STEPS**2 * end)
        else:
            points.append(end[None])
    return np.concatenate(points)


def _mirrored(half: Points) -> Points:
    """Close the right half of an outline, given from top to bottom, with its mirror image."""
    return np.concatenate([half, half[::-1] * (-1, 1)])


def _both(stuff: Stuff, points: Points, width: float = 0.0) -> list[Part]:
    """A part on the right and its twin on the left."""
    return [Part(stuff, points, width), Part(stuff, points * (-1, 1), width)]


def _dot(stuff: Stuff, x: float, y: float, radius: float) -> Part:
    turns = np.linspace(0, 2 * np.pi, 13)
    return Part(stuff, np.stack([x + radius * np.cos(turns), y + radius * np.sin(turns)], axis=1))


def _seam(start: Corner, *steps: Corner | Bend, width: float = 0.014) -> Part:
    return Part(Stuff.SEAM, path(start, *steps), width)


def _neck(width: float, depth: float, top: float = -0.78) -> list[Part]:
    """The inside of the back, seen through the neck; painted before the front."""
    return [Part(Stuff.INSIDE, path((-width, top), (0, top - 0.05, width, top), (0, depth + 0.2, -width, top)))]


def _top(rng: Random, sleeve: Corner, cuff: float, hem: float, waist: float, neck: float) -> tuple[Points, Points]:
    """The body with sleeves and one cuff. ``sleeve`` is the outer end of the sleeve, ``cuff`` its width."""
    x, y = sleeve
    shoulder, armpit = (0.56 + rng.uniform(-0.03, 0.03), -0.69), (0.47, -0.24)
    along = np.array([x, y]) - shoulder
    across = np.array([-along[1], along[0]]) / np.hypot(*along)
    inner = np.array([x, y]) + cuff * across
    body = path(
        (0, -0.60 + neck),
        (0.17, -0.60 + neck, 0.23, -0.78),
        shoulder,
        (shoulder[0] + 0.13, shoulder[1] + 0.03, *(shoulder + 0.4 * along + 0.05 * -across)),
        (x, y),
        (float(inner[0]), float(inner[1])),
        (0.56, -0.1, *armpit) if y > 0 else armpit,
        (waist, 0.25, waist + 0.04, hem),
        (0.25, hem + 0.05, 0, hem + 0.05),
    )
    back = -0.11 * along / np.hypot(*along)
    band = np.array([(x, y), inner, inner + back, np.array([x, y]) + back])
    return _mirrored(body), band


def tshirt(rng: Random) -> list[Part]:
    neck, hem = rng.uniform(-0.02, 0.16), rng.uniform(0.68, 0.86)
    end = (rng.uniform(0.86, 0.98), rng.uniform(-0.26, -0.02))
    body, band = _top(rng, end, 0.28, hem, rng.uniform(0.42, 0.5), neck)
    rib = path((-0.23, -0.78), (-0.17, -0.6 + neck, 0, -0.6 + neck), (0.17, -0.6 + neck, 0.23, -0.78))
    return [
        *_neck(0.23, neck - 0.6),
        Part(Stuff.FABRIC, body),
        Part(Stuff.PLAIN, rib, 0.05),
        *_both(Stuff.SEAM, band[[3, 2]], 0.012),
        _seam((-0.46, hem - 0.05), (0, hem, 0.46, hem - 0.05), width=0.01),
    ]


def shirt(rng: Random) -> list[Part]:
    hem = rng.uniform(0.72, 0.84)
    body, band = _top(rng, (rng.uniform(0.86, 0.98), rng.uniform(0.42, 0.6)), 0.2, hem, rng.uniform(0.4, 0.48), 0.04)
    collar = path((0, -0.56), (0.05, -0.78), (0.14, -0.86, 0.25, -0.8), (0.22, -0.52), (0, -0.56))
    parts = [
        *_neck(0.23, -0.6, top=-0.8),
        Part(Stuff.FABRIC, body),
        *_both(Stuff.PLAIN, band),
        *_both(Stuff.SEAM, band[[3, 2]], 0.014),
        *_both(Stuff.PLAIN, collar),
        *_both(Stuff.SEAM, collar, 0.016),
        _seam((0.045, -0.56), (0.045, hem + 0.04)),
        _seam((-0.045, -0.56), (-0.045, hem + 0.04)),
    ]
    parts += [_dot(Stuff.SOLE, 0, y, 0.022) for y in np.linspace(-0.42, hem - 0.1, 6)]
    if rng.random() < 0.6:
        parts.append(_seam((0.16, -0.3), (0.38, -0.3), (0.38, -0.06), (0.27, 0.0), (0.16, -0.06), (0.16, -0.3)))
    return parts


def sweater(rng: Random) -> list[Part]:
    """A hooded one, with a pouch."""
    hem = rng.uniform(0.6, 0.72)
    end = (rng.uniform(0.9, 1.0), rng.uniform(0.4, 0.56))
    body, band = _top(rng, end, 0.23, hem, rng.uniform(0.5, 0.56), 0.08)
    rim = 0.5 + rng.uniform(-0.04, 0.06)
    hood = path((0, -1.0), (0.3, -1.0, 0.36, -0.72), (0.36, -rim, 0, -rim + 0.06))
    hole = path((0, -0.9), (0.2, -0.9, 0.22, -0.72), (0.2, -rim - 0.04, 0, -rim))
    pouch = path((0.22, 0.16), (0.38, 0.44), (0.38, 0.62), (0, 0.62))
    waistband = path((0, hem - 0.06), (0.53, hem - 0.06), (0.52, hem + 0.08), (0, hem + 0.1))
    return [
        Part(Stuff.FABRIC, body),
        Part(Stuff.PLAIN, _mirrored(waistband)),
        *_both(Stuff.PLAIN, band),
        *_both(Stuff.SEAM, band[[3, 2]], 0.014),
        _seam((-0.53, hem - 0.06), (0.53, hem - 0.06)),
        Part(Stuff.PLAIN, _mirrored(hood)),
        Part(Stuff.INSIDE, _mirrored(hole)),
        *_both(Stuff.SEAM, pouch, 0.016),
        _seam((-0.22, 0.16), (0.22, 0.16)),
        *_both(Stuff.SOLE, path((0.08, -rim + 0.02), (0.1, -0.3, 0.07, -0.12 + rng.uniform(-0.06, 0.06))), 0.022),
    ]


def jacket(rng: Random) -> list[Part]:
    """A zipped one, with a band at hem and cuffs."""
    hem = rng.uniform(0.62, 0.8)
    end = (rng.uniform(0.88, 1.0), rng.uniform(0.44, 0.6))
    body, band = _top(rng, end, 0.25, hem, rng.uniform(0.48, 0.54), 0.0)
    collar = path((0.02, -0.42), (0.02, -0.8), (0.16, -0.9, 0.27, -0.84), (0.32, -0.66, 0.26, -0.56), (0.02, -0.42))
    waistband = path((0, hem - 0.08), (0.53, hem - 0.08), (0.5, hem + 0.08), (0, hem + 0.1))
    pocket_y = rng.uniform(0.12, 0.24)
    return [
        *_neck(0.23, -0.6, top=-0.84),
        Part(Stuff.FABRIC, body),
        Part(Stuff.TRIM, _mirrored(waistband)),
        *_both(Stuff.TRIM, band),
        *_both(Stuff.PLAIN, collar),
        *_both(Stuff.SEAM, collar, 0.018),
        *_both(Stuff.SEAM, path((0.2, pocket_y + 0.26), (0.36, pocket_y)), 0.034),
        *_both(Stuff.SEAM, path((0.5, -0.66), (0.4, -0.4, 0.46, -0.22)), 0.014),
        Part(Stuff.INSIDE, path((0, -0.8), (0, hem + 0.09)), 0.06),
        Part(Stuff.METAL, path((0, -0.8), (0, hem + 0.09)), 0.026),
    ]


def dress(rng: Random) -> list[Part]:
    waist, flare, hem = rng.uniform(0.22, 0.28), rng.uniform(0.46, 0.74), rng.uniform(0.8, 0.98)
    neck = rng.uniform(-0.72, -0.58)
    half = path(
        (0, neck),
        (0.15, neck, 0.19, -0.95),
        (0.3, -0.95),
        (0.24, -0.58, 0.36, -0.5),
        (waist + 0.05, -0.25, waist, -0.06),
        (waist + 0.12, 0.3, flare, hem),
        (flare / 2, hem + 0.07, 0, hem + 0.07),
    )
    folds = [
        _seam((side * 0.6 * waist, 0.02), (side * waist, 0.4, side * flare * far, hem), width=0.011)
        for side in (-1, 1)
        for far in (0.25, 0.6)
    ]
    belt = path((0, -0.1), (waist + 0.01, -0.1), (waist + 0.01, -0.02), (0, -0.02))
    return [
        Part(Stuff.INSIDE, path((-0.2, -0.93), (0, -0.8, 0.2, -0.93), (0, neck + 0.1, -0.2, -0.93))),
        Part(Stuff.FABRIC, _mirrored(half)),
        Part(Stuff.TRIM if rng.random() < 0.4 else Stuff.PLAIN, _mirrored(belt)),
        *folds,
    ]


def skirt(rng: Random) -> list[Part]:
    waist, flare, hem = rng.uniform(0.34, 0.42), rng.uniform(0.6, 0.86), rng.uniform(0.5, 0.8)
    half = path((0, -0.6), (waist, -0.6), (waist + 0.12, -0.2, flare, hem), (flare / 2, hem + 0.12, 0, hem + 0.12))
    band = path((0, -0.74), (waist - 0.02, -0.74), (waist, -0.6), (0, -0.6))
    pleats = [
        _seam((waist * at, -0.58), (waist * at * 1.3, 0.0, flare * at, hem + 0.1 * (1 - at * at)), width=0.013)
        for at in (-0.75, -0.45, -0.15, 0.15, 0.45, 0.75)
    ]
    return [
        Part(Stuff.FABRIC, _mirrored(half)),
        Part(Stuff.PLAIN, _mirrored(band)),
        _seam((-waist, -0.6), (waist, -0.6)),
        *pleats,
    ]


def _legs(hem: float, knee: float, ankle: float, gap: float) -> list[Part]:
    top = -0.95
    half = path((0, top), (0.36, top), (0.44, -0.7, 0.46, -0.46), (0.5, -0.2, knee, hem), (gap + ankle, hem))
    outline = _mirrored(np.concatenate([half, path((gap, hem), (0.03, -0.1, 0, -0.3))]))
    band = path((0, top - 0.01), (0.365, top - 0.01), (0.39, top + 0.11), (0, top + 0.11))
    loops = [Part(Stuff.SEAM, path((x, top - 0.02), (x, top + 0.12)), 0.024) for x in (-0.24, 0.24)]
    return [
        Part(Stuff.FABRIC, outline),
        Part(Stuff.PLAIN, _mirrored(band)),
        _seam((-0.39, top + 0.11), (0.39, top + 0.11)),
        _seam((0, top + 0.1), (0, -0.3)),
        _seam((0.05, top + 0.12), (0.1, -0.5, 0, -0.4), width=0.01),
        *_both(Stuff.SEAM, path((0.2, top + 0.11), (0.24, -0.64, 0.44, -0.6)), 0.014),
        *_both(Stuff.SEAM, path((gap + 0.02, hem - 0.06), (knee - 0.01, hem - 0.06)), 0.01),
        *loops,
        _dot(Stuff.METAL, 0, top + 0.05, 0.022),
    ]


def trousers(rng: Random) -> list[Part]:
    gap = rng.uniform(0.06, 0.16)
    width = rng.uniform(0.2, 0.32)
    return _legs(0.97, gap + width, width, gap)


def shorts(rng: Random) -> list[Part]:
    gap, width = rng.uniform(0.05, 0.1), rng.uniform(0.4, 0.5)
    shift = np.array([0.0, 0.4])
    parts = _legs(rng.uniform(0.12, 0.34), gap + width, width, gap)
    return [Part(part.stuff, (part.points + shift) * 1.25, part.width * 1.2) for part in parts]


def shoe(rng: Random) -> list[Part]:
    """A sneaker from the side."""
    thick, tongue = rng.uniform(0.12, 0.2), rng.uniform(-0.52, -0.4)
    floor = 0.42
    upper = path(
        (-0.88, floor),
        (-0.96, 0.0, -0.84, -0.3),
        (-0.62, -0.16, -0.4, -0.3),
        (-0.24, tongue),
        (-0.08, tongue - 0.02, -0.06, -0.36),
        (0.2, -0.02, 0.56, 0.06),
        (0.96, 0.14, 0.94, floor),
    )
    sole = path((-0.93, floor - 0.04), (0.97, floor - 0.04), (1.0, floor + thick, 0.84, floor + thick))
    sole = np.concatenate([sole, path((-0.86, floor + thick), (-0.96, floor + thick, -0.93, floor - 0.04))])
    laces = [
        Part(Stuff.SOLE, path((x - 0.09, y + 0.1), (x + 0.04, y - 0.02)), 0.04)
        for x, y in ((-0.1, -0.26), (0.02, -0.17), (0.15, -0.08), (0.28, -0.02))
    ]
    swoop = path((-0.5, 0.16), (-0.1, 0.34, 0.34, 0.02), (0.34, 0.1), (-0.1, 0.46, -0.5, 0.16))
    heel = path((-0.9, floor), (-0.97, 0.0, -0.84, -0.3), (-0.7, -0.2), (-0.72, 0.1, -0.62, floor))
    toe = path((0.94, floor), (0.95, 0.16, 0.62, 0.09), (0.52, 0.2, 0.56, floor))
    return [
        Part(Stuff.INSIDE, path((-0.82, -0.28), (-0.6, -0.36, -0.3, -0.4), (-0.4, -0.2), (-0.82, -0.24))),
        Part(Stuff.FABRIC, upper),
        Part(Stuff.PLAIN, heel),
        Part(Stuff.PLAIN, toe),
        Part(Stuff.SEAM, toe[-9:], 0.014),
        Part(Stuff.SEAM, heel[-9:], 0.014),
        _seam((-0.28, -0.16), (0.1, 0.2, 0.44, 0.06)),
        Part(Stuff.TRIM, swoop),
        *laces,
        Part(Stuff.SOLE, sole),
        _seam((-0.93, floor + thick * 0.55), (0.95, floor + thick * 0.55), width=0.012),
    ]


def boot(rng: Random) -> list[Part]:
    """An ankle boot from the side, with an elastic."""
    shaft, heel = rng.uniform(-0.95, -0.6), rng.uniform(0.1, 0.24)
    floor = 0.62
    upper = path(
        (-0.66, floor),
        (-0.74, 0.2, -0.58, -0.1),
        (-0.62, shaft),
        (-0.3, shaft + 0.05, 0.06, shaft - 0.02),
        (0.0, -0.1, 0.2, 0.1),
        (0.44, 0.2, 0.62, 0.24),
        (0.92, 0.34, 0.9, floor),
    )
    elastic = path(
        (-0.36, shaft + 0.03), (-0.14, shaft + 0.03), (-0.2, 0.0, -0.24, 0.12), (-0.32, 0.0, -0.36, shaft + 0.03)
    )
    return [
        Part(Stuff.FABRIC, upper),
        Part(Stuff.INSIDE, elastic),
        _seam((-0.66, 0.34), (-0.2, 0.1, 0.02, 0.3), (0.2, 0.44, 0.3, floor)),
        Part(Stuff.PLAIN, path((-0.7, shaft + 0.1), (-0.66, shaft - 0.12, -0.58, shaft + 0.1)), 0.03),
        Part(
            Stuff.INSIDE, path((-0.68, floor - 0.02), (0.93, floor - 0.02), (0.9, floor + 0.08), (-0.68, floor + 0.08))
        ),
        Part(Stuff.INSIDE, path((-0.68, floor), (-0.24, floor), (-0.28, floor + heel), (-0.66, floor + heel))),
    ]


def bag(rng: Random) -> list[Part]:
    """A handbag with a flap and a clasp."""
    low, high, top = rng.uniform(0.72, 0.86), rng.uniform(0.56, 0.7), rng.uniform(-0.26, -0.1)
    bottom, handle = rng.uniform(0.6, 0.78), rng.uniform(-0.98, -0.7)
    half = path((0, top), (high, top), (low, bottom - 0.1), (low, bottom, low - 0.12, bottom), (0, bottom))
    flap = path(
        (0, top - 0.03), (high + 0.01, top - 0.03), (high + 0.05, top + 0.32, high - 0.2, top + 0.36), (0, top + 0.44)
    )
    strap = path((-high * 0.62, top), (-high * 0.6, handle, 0, handle), (high * 0.6, handle, high * 0.62, top))
    return [
        Part(Stuff.PLAIN, strap, 0.09),
        Part(Stuff.SEAM, strap + np.array([0, 0.035]), 0.014),
        Part(Stuff.FABRIC, _mirrored(half)),
        Part(Stuff.PLAIN, _mirrored(flap)),
        Part(Stuff.SEAM, _mirrored(flap)[9:-9], 0.018),
        *_both(Stuff.METAL, _dot(Stuff.METAL, high * 0.62, top + 0.02, 0.045).points),
        Part(Stuff.METAL, path((-0.07, top + 0.36), (0.07, top + 0.36), (0.07, top + 0.5), (-0.07, top + 0.5))),
        _seam((-low + 0.05, bottom - 0.07), (low - 0.05, bottom - 0.07), width=0.012),
    ]


def cap(rng: Random) -> list[Part]:
    """A peaked cap, from the front and a little from the side."""
    tall, peak = rng.uniform(-0.66, -0.5), rng.uniform(0.84, 1.0)
    dome = path((-0.62, 0.22), (-0.66, tall, 0, tall), (0.62, tall, 0.6, 0.16), (0.1, 0.02, -0.62, 0.22))
    brim = path(
        (-0.5, 0.16),
        (0.1, -0.02, 0.6, 0.14),
        (peak, 0.22, peak, 0.42),
        (0.5, 0.26, -0.3, 0.5),
        (-0.56, 0.4, -0.5, 0.16),
    )
    return [
        Part(Stuff.FABRIC, dome),
        _seam((0.02, tall), (0.22, -0.3, 0.16, 0.1)),
        _seam((-0.02, tall), (-0.4, -0.3, -0.36, 0.14)),
        Part(Stuff.TRIM if rng.random() < 0.4 else Stuff.PLAIN, brim),
        _seam((-0.44, 0.28), (0.2, 0.06, peak - 0.08, 0.32), width=0.012),
        _dot(Stuff.PLAIN, 0, tall + 0.01, 0.05),
    ]


KINDS: dict[str, Callable[[Random], list[Part]]] = {
    "T-shirt": tshirt,
    "shirt": shirt,
    "hoodie": sweater,
    "jacket": jacket,
    "dress": dress,
    "skirt": skirt,
    "trousers": trousers,
    "shorts": shorts,
    "sneaker": shoe,
    "boot": boot,
    "bag": bag,
    "cap": cap,
}
