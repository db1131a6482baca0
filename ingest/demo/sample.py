"""A drawn catalogue: garments of known kind, colour and pattern, to try and to tune on without anybody's photos.

A cluster is one kind in one colour and one pattern (red striped shirts); it is the truth that a search is judged by. It
holds about ten photos, of several listings, some of them with several photos. What photo ``i`` shows depends on the
seed and on ``i`` alone, so a small sample is the beginning of a large one.
"""

import csv
import itertools
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from random import Random

from PIL import Image

from lookalike.errors import BadCatalogue
from lookalike.ingest.demo.garments import KINDS
from lookalike.ingest.demo.studio import COLOURS, PATTERNS, Item, photograph

DRAWING = 1  # to be raised whenever the same seed gives other photos
MARKER = "sample.json"
TABLE = "catalog.csv"
HEADER = [
    *("image_id", "file", "listing_id", "level1", "level2", "level3", "title", "description"),
    *("price", "lat", "lon", "created_at", "colour", "brand", "kind", "pattern", "cluster"),
]

_LEVELS = {
    "T-shirt": ("Apparel", "Topwear", "T-shirts"),
    "shirt": ("Apparel", "Topwear", "Shirts"),
    "hoodie": ("Apparel", "Topwear", "Hoodies"),
    "jacket": ("Apparel", "Topwear", "Jackets"),
    "dress": ("Apparel", "Dresses", "Dresses"),
    "skirt": ("Apparel", "Bottomwear", "Skirts"),
    "trousers": ("Apparel", "Bottomwear", "Trousers"),
    "shorts": ("Apparel", "Bottomwear", "Shorts"),
    "sneaker": ("Footwear", "Shoes", "Sneakers"),
    "boot": ("Footwear", "Shoes", "Boots"),
    "bag": ("Accessories", "Bags", "Handbags"),
    "cap": ("Accessories", "Headwear", "Caps"),
}
_PRICES = {"jacket": 60.0, "boot": 55.0, "sneaker": 45.0, "bag": 40.0, "dress": 35.0, "hoodie": 28.0}
_BRANDS = ("", "", "", "Alderby", "Brigg & Tarn", "Corvelle", "Dunholm", "Estrand", "Fjellmark")  # invented
_STATES = ("as good as new", "worn twice", "well kept", "a bit faded", "never worn", "from a smoke-free home")
_CITIES = ((48.21, 16.37), (47.07, 15.44), (48.31, 14.29), (47.80, 13.04), (47.27, 11.39), (46.62, 14.31))
_EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class _Shot:
    """One photo to be taken: of which listing, the how-manieth, of what."""

    number: int
    listing: int
    position: int
    kind: str
    colour: str
    pattern: str


def draw(out: Path, images: int, seed: int = 0, progress: Callable[[int], None] = lambda _: None) -> Path:
    """Draw a sample catalogue: ``out/images/*.jpg`` and ``out/catalog.csv``.

    May be killed at any moment: the same call completes what is there, and does nothing if nothing is missing. Files
    appear under their names only when they are whole, the table last.

    Parameters
    ----------
    out : Path
        A new or empty folder, or one that this function began with the same arguments.
    images : int
        At least 1. There are about a tenth as many clusters, at most 672; from 6,720 photos on they grow.
    seed : int
        The same seed gives the same photos, to the byte with the same Pillow.
    progress : Callable
        Called with 1 for each photo that is done.

    Returns
    -------
    Path
        ``out``, to be opened as a catalogue.

    Raises
    ------
    BadCatalogue
        The folder holds something else; nothing in it is touched.
    OSError
        The disk is full, or the folder cannot be written.
    """
    if images < 1:
        raise ValueError(f"images is {images}, but must be at least 1")
    _claim(out, {"drawing": DRAWING, "images": images, "seed": seed})
    photos = out / "images"
    photos.mkdir(exist_ok=True)
    there = {name.name for name in photos.iterdir()}
    for shot in itertools.islice(_shots(seed), images):
        if _file_name(shot) not in there:
            _replace(photos / _file_name(shot), partial(_take, shot, seed))
        progress(1)
    if not (out / TABLE).exists():
        rows = [_row(shot, seed) for shot in itertools.islice(_shots(seed), images)]
        _replace(out / TABLE, partial(_write_table, rows))
    return out


def _claim(out: Path, arguments: dict[str, int]) -> None:
    """Make the folder ours, or refuse it."""
    out.mkdir(parents=True, exist_ok=True)
    marker = out / MARKER
    if marker.exists():
        try:
            found = json.loads(marker.read_text())
        except ValueError:
            found = "something else"
        if found != arguments:
            raise BadCatalogue(f"{out} holds another sample ({found}, not {arguments}); choose another folder")
    elif any(not name.name.startswith(f".{MARKER}") for name in out.iterdir()):
        raise BadCatalogue(f"{out} is not empty and no sample of ours; choose another folder")
    else:
        _replace(marker, lambda path: path.write_text(json.dumps(arguments)))


def _replace(path: Path, write: Callable[[Path], object]) -> None:
    """Write under a hidden name of this process, then rename: a reader sees all of the file or none."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        write(draft)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def _shots(seed: int) -> Iterator[_Shot]:
    """All photos, without end; how they are divided into clusters and listings depends on the seed alone."""
    clusters = list(itertools.product(KINDS, COLOURS, PATTERNS))
    Random(f"{seed}/clusters").shuffle(clusters)
    number = listing = 0
    for turn in itertools.count():
        rng = Random(f"{seed}/sizes/{turn}")
        kind, colour, pattern = clusters[turn % len(clusters)]
        left = rng.randint(8, 12)
        while left:
            photos = min(left, rng.choice((1, 1, 2, 3)))
            for position in range(1, photos + 1):
                yield _Shot(number, listing, position, kind, colour, pattern)
                number += 1
            left -= photos
            listing += 1


def _file_name(shot: _Shot) -> str:
    return f"{shot.number:07}.jpg"


def _take(shot: _Shot, seed: int, path: Path) -> None:
    own = Random(f"{seed}/listing/{shot.listing}")  # so that every photo of a listing shows the same thing
    item = Item.made(KINDS[shot.kind](own), shot.colour, shot.pattern, own)
    rng = Random(f"{seed}/photo/{shot.number}")
    photo: Image.Image = photograph(item, rng.randint(224, 300), rng.randint(224, 300), rng)
    photo.save(path, "JPEG", quality=rng.randint(82, 93))


def _row(shot: _Shot, seed: int) -> list[str]:
    rng = Random(f"{seed}/words/{shot.listing}")
    kind, colour, pattern = shot.kind, shot.colour, shot.pattern
    brand = rng.choice(_BRANDS)
    cloth = colour if pattern == "plain" else f"{pattern} {colour}"
    price = _PRICES.get(kind, 18.0) * rng.lognormvariate(0, 0.35)
    lat, lon = (degrees + rng.gauss(0, 0.05) for degrees in rng.choice(_CITIES))
    created = _EPOCH + timedelta(minutes=rng.randrange(180 * 24 * 60))
    listing = str(220_000_000 + shot.listing)
    return [
        f"{listing}/{shot.position}",
        f"images/{_file_name(shot)}",
        listing,
        *_LEVELS[kind],
        f"{brand} {cloth} {kind}".strip().capitalize() if not brand else f"{brand} {cloth} {kind}",
        f"{cloth} {kind}, {rng.choice(_STATES)}".capitalize(),
        f"{price:.2f}",
        f"{lat:.5f}",
        f"{lon:.5f}",
        created.isoformat(),
        colour,
        brand,
        kind,
        pattern,
        f"{pattern} {colour} {kind}",
    ]


def _write_table(rows: list[list[str]], path: Path) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([HEADER, *rows])
