"""A garment to a photo: cloth, pattern, pose, background, shadow and light, drawn with Pillow.

The outlines and the pattern are painted at twice the size and reduced, so their edges are smooth; light and shade are
worked out at the final size. No sines over pixels: they differ in the last bit between processors, and one seed shall
give one photo.
"""

import math
from dataclasses import dataclass
from random import Random

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from lookalike.ingest.demo.garments import Part, Stuff

Floats = NDArray[np.float32]
Rgb = tuple[int, int, int]

COLOURS: dict[str, Rgb] = {
    "black": (34, 34, 38),
    "white": (240, 240, 238),
    "grey": (138, 140, 144),
    "red": (196, 32, 40),
    "orange": (232, 118, 30),
    "yellow": (242, 202, 56),
    "green": (42, 128, 66),
    "turquoise": (50, 178, 178),
    "blue": (48, 108, 200),
    "navy": (30, 42, 88),
    "purple": (112, 56, 142),
    "pink": (240, 146, 178),
    "brown": (112, 70, 42),
    "beige": (214, 194, 158),
}
_SECOND: dict[str, str] = {  # the other colour of a pattern; white for all that are not named
    "white": "navy",
    "beige": "brown",
    "yellow": "grey",
    "pink": "red",
    "turquoise": "navy",
    "orange": "black",
}
PATTERNS = ("plain", "striped", "checked", "dotted")
_OVERSAMPLED = 2


@dataclass(frozen=True, slots=True)
class Item:
    """One thing that is for sale, whichever photo shows it."""

    parts: list[Part]
    cloth: Rgb
    second: Rgb
    pattern: str
    period: float  # of the pattern, in the garment's own units

    @classmethod
    def made(cls, parts: list[Part], colour: str, pattern: str, rng: Random) -> "Item":
        """Choose the dye lot and the size of the pattern."""
        cloth, second = (
            _dyed(COLOURS[name], rng, spread) for name, spread in ((colour, 10), (_SECOND.get(colour, "white"), 5))
        )
        return cls(parts, cloth, second, pattern, rng.uniform(0.16, 0.24))


def _dyed(colour: Rgb, rng: Random, spread: int) -> Rgb:
    lighter = rng.randint(-spread, spread)
    red, green, blue = (min(255, max(0, part + lighter + rng.randint(-4, 4))) for part in colour)
    return red, green, blue


def photograph(item: Item, width: int, height: int, rng: Random) -> Image.Image:
    """Take one photo of an item; everything that is not the item's own is drawn from ``rng``.

    Returns
    -------
    Image
        RGB, ``width`` x ``height`` pixels.
    """
    grain = np.random.default_rng(rng.getrandbits(64))
    to_pixels = _pose(item.parts, width, height, rng)
    cloth, mask = _cut(item, to_pixels, width, height)
    scene = _background(width, height, rng, grain)
    scene *= _shadow(mask, width, height, rng)[..., None]
    light = _relief(mask, width, height, rng, grain)
    alpha = _unit(mask)[..., None]
    lit = np.asarray(cloth, np.float32) * light[..., None] + 26 * (light[..., None] - 1)  # black cloth shines too
    scene += alpha * (lit - scene)
    return _exposed(scene, rng, grain)


def _pose(parts: list[Part], width: int, height: int, rng: Random) -> NDArray[np.float64]:
    """Turn, flip, lean, stretch and place the garment inside the frame: the map to pixels, shape (2, 3)."""
    turn, lean = rng.gauss(0, 0.12), rng.uniform(-0.08, 0.08)
    cos, sin = math.cos(turn), math.sin(turn)
    turned = np.array([[cos, -sin], [sin, cos]]) @ np.array([[1, lean], [0, 1]])
    turned = turned @ np.diag([rng.choice((-1, 1)) * rng.uniform(0.94, 1.06), rng.uniform(0.94, 1.06)])
    points = np.concatenate([part.points for part in parts]) @ turned.T
    low, high = points.min(axis=0), points.max(axis=0)
    frame = np.array([width, height])
    size = rng.uniform(0.66, 0.9) * (frame / (high - low)).min()
    room = frame - size * (high - low)
    corner = room * [rng.uniform(0.25, 0.75), rng.uniform(0.25, 0.75)]
    return np.column_stack([size * turned, corner - size * low])


def _cut(item: Item, to_pixels: NDArray[np.float64], width: int, height: int) -> tuple[Image.Image, Image.Image]:
    """Paint the parts. Returns the cloth (RGB, also around the garment, so that edges do not fringe) and its mask."""
    scale = _OVERSAMPLED
    labels = Image.new("P", (scale * width, scale * height), Stuff.NOTHING)
    draw = ImageDraw.Draw(labels)
    unit = float(np.hypot(*to_pixels[:, 0])) * scale
    for part in item.parts:
        points = (part.points @ to_pixels[:, :2].T + to_pixels[:, 2]) * scale
        flat = [(x, y) for x, y in points.tolist()]
        if part.width:
            draw.line(flat, fill=int(part.stuff), width=max(1, round(part.width * unit)), joint="curve")
        else:
            draw.polygon(flat, fill=int(part.stuff))
    labels.putpalette(_palette(item))
    cloth = labels.convert("RGB")
    box = labels.getbbox()
    if item.pattern != "plain" and box:
        woven = _woven(item, to_pixels, box)
        woven[np.asarray(labels.crop(box)) != Stuff.FABRIC] = 0
        cloth.paste(item.second, box, Image.fromarray(woven))
    mask = labels.point([0] + [255] * 255, "L")
    return cloth.reduce(scale), mask.reduce(scale)


def _palette(item: Item) -> list[int]:
    shades = {
        Stuff.NOTHING: item.cloth,
        Stuff.FABRIC: item.cloth,
        Stuff.PLAIN: _shaded(item.cloth, 0.93),
        Stuff.INSIDE: _shaded(item.cloth, 0.5),
        Stuff.SEAM: _shaded(item.cloth, 0.7),
        Stuff.TRIM: item.second if item.pattern != "plain" else _shaded(item.cloth, 0.8),
        Stuff.SOLE: (232, 230, 224),
        Stuff.METAL: (188, 172, 130),
    }
    return [part for stuff in Stuff for part in shades[stuff]]


def _shaded(colour: Rgb, factor: float) -> Rgb:
    red, green, blue = (round(part * factor + (1 - factor) * 12) for part in colour)
    return red, green, blue


def _woven(item: Item, to_pixels: NDArray[np.float64], box: tuple[int, int, int, int]) -> NDArray[np.uint8]:
    """How much of the second colour shows at each pixel of the box, 0 to 255; it turns with the garment."""
    across, down = np.linalg.inv(to_pixels[:, :2] * _OVERSAMPLED * item.period).astype(np.float32)
    left, top = (to_pixels[:, 2] * _OVERSAMPLED).astype(np.float32)
    x = np.arange(box[0], box[2], dtype=np.float32) - left
    y = np.arange(box[1], box[3], dtype=np.float32)[:, None] - top
    v = down[0] * x + down[1] * y
    row = np.floor(v)
    v -= row  # from 0 to 1 in each period, as u below; `% 1` takes four times as long
    if item.pattern == "striped":
        return np.where(v < 0.45, np.uint8(255), np.uint8(0))
    u = across[0] * x + across[1] * y
    if item.pattern == "checked":
        u -= np.floor(u)
        return np.where(u < 0.5, np.uint8(120), np.uint8(0)) + np.where(v < 0.5, np.uint8(120), np.uint8(0))
    u += row / 2  # every other row of dots lies in the gaps
    u -= np.floor(u)
    return np.where((u - 0.5) ** 2 + (v - 0.5) ** 2 < 0.075, np.uint8(255), np.uint8(0))


def _clouds(width: int, height: int, cells: int, grain: np.random.Generator, across: int = 0) -> Floats:
    """Soft noise from 0 to 1, with about ``cells`` hills from top to bottom and ``across`` from side to side."""
    small = grain.integers(0, 256, (cells + 2, (across or cells) + 2), dtype=np.uint8)
    return _unit(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))


def _unit(photo: Image.Image) -> Floats:
    return np.asarray(photo, np.float32) / np.float32(255)


def _relief(mask: Image.Image, width: int, height: int, rng: Random, grain: np.random.Generator) -> Floats:
    """How bright the cloth is, around 1: folds, a fine weave, and edges that turn away from the light."""
    folds = _clouds(width, height, rng.randint(3, 5), grain, rng.randint(4, 8))
    creases = np.abs(_clouds(width, height, 5, grain, 7) - np.float32(0.5))
    rounded = _unit(mask.filter(ImageFilter.GaussianBlur(min(width, height) / 32)))
    weave = grain.integers(-10, 11, (height, width), dtype=np.int8).astype(np.float32) / 400
    side = np.linspace(-1, 1, width, dtype=np.float32) * np.float32(rng.uniform(-0.07, 0.07))
    relief: Floats = np.float32(0.64) + 0.26 * rounded + 0.2 * folds + 0.14 * np.minimum(creases, 0.25)
    return relief + weave + side


def _shadow(mask: Image.Image, width: int, height: int, rng: Random) -> Floats:
    """What the garment leaves of the light on the background, 0 to 1."""
    reach = min(width, height) / 40
    moved = Image.new("L", (width, height))
    moved.paste(mask, (round(reach * rng.uniform(-1.2, 1.2)), round(reach * rng.uniform(0.2, 1.6))))
    soft = _unit(moved.filter(ImageFilter.GaussianBlur(reach * rng.uniform(0.5, 1.3))))
    return 1 - np.float32(rng.uniform(0.25, 0.5)) * soft


def _exposed(scene: Floats, rng: Random, grain: np.random.Generator) -> Image.Image:
    """Exposure, white balance and the sensor's noise."""
    exposure, warm = rng.uniform(0.86, 1.08), rng.uniform(-0.05, 0.05)
    scene *= np.array([exposure * (1 + warm), exposure, exposure * (1 - warm)], np.float32)
    scene += grain.integers(-4, 5, scene.shape[:2], dtype=np.int8)[..., None]
    return Image.fromarray(np.clip(scene, 0, 255).astype(np.uint8))


def _background(width: int, height: int, rng: Random, grain: np.random.Generator) -> Floats:
    """A studio, a wall, a bed sheet, a carpet or a wooden floor, as floats of shape (height, width, 3)."""
    kind = rng.choices(("studio", "wall", "sheet", "carpet", "wood"), (45, 15, 14, 12, 14))[0]
    if kind == "studio":
        tone = np.full((height, width), rng.uniform(228, 252), np.float32)
        tone -= np.linspace(0, rng.uniform(0, 24), height, dtype=np.float32)[:, None]
        return tone[..., None] * _tint(rng, 0.012)
    if kind == "wall":
        down = np.linspace(rng.uniform(-26, 26), rng.uniform(-26, 26), height, dtype=np.float32)[:, None]
        tone = down + np.linspace(-12, 12, width, dtype=np.float32) + np.float32(rng.uniform(140, 216))
        return tone[..., None] * _tint(rng, 0.14)
    if kind == "sheet":
        tone = np.float32(rng.uniform(176, 220)) + 40 * (_clouds(width, height, 4, grain, 7) - np.float32(0.5))
        return tone[..., None] * _tint(rng, 0.07)
    if kind == "carpet":
        knots = grain.integers(-22, 23, (height, width), dtype=np.int8) + 30 * _clouds(width, height, 30, grain)
        return (knots + np.float32(rng.uniform(96, 176)))[..., None] * _tint(rng, 0.12)
    return _planks(width, height, rng, grain)


def _tint(rng: Random, strength: float) -> Floats:
    return np.array([1 + rng.uniform(-strength, strength) for _ in range(3)], np.float32)


def _planks(width: int, height: int, rng: Random, grain: np.random.Generator) -> Floats:
    """Boards of a floor, each of its own tone, with grain along them and a dark gap between."""
    across = rng.randint(4, 7)
    board = np.arange(width) * across // width
    tones = np.array([rng.uniform(-14, 14) for _ in range(across)], np.float32)[board]
    fibre = 44 * (_clouds(width, height, 4, grain, 90) - np.float32(0.5))
    tone = np.float32(rng.uniform(112, 176)) + tones + fibre
    tone[:, np.flatnonzero(np.diff(board))] *= np.float32(0.55)
    wood = tone[..., None] * np.array([1.14, 0.94, 0.72], np.float32)
    return wood if rng.random() < 0.5 or width != height else np.ascontiguousarray(wood.transpose(1, 0, 2))
