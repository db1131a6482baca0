"""Fit a model to a catalogue without training: decode a sample of its photos, calibrate, choose thresholds."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lookalike.errors import BadCatalogue, UndecodableImage
from lookalike.ingest.catalogue.catalogue import Catalogue
from lookalike.ingest.catalogue.entries import Entry
from lookalike.ingest.photos.decode import decode
from lookalike.ingest.photos.fetch import read_photo
from lookalike.model.fit import fit
from lookalike.model.folder import save

# The medians of 1,000 photos are known to 1.6 % of the rows (binomial), so a bit stays balanced within that.
SAMPLE = 1000
# A sample is drawn from the first so many rows: enough to be varied, few enough to be read at once.
DRAWN_FROM = 100_000
INPUT_PX = 128


def fit_on_catalogue(
    catalogue: Catalogue,
    folder: Path,
    name: str = "untrained",
    sample: int = SAMPLE,
    seed: int = 0,
    progress: Callable[[int], None] = lambda _: None,
) -> None:
    """Fit a model to a sample of a catalogue and save it in ``folder``.

    Parameters
    ----------
    sample : int
        How many photos to look at. One catalogue and seed give one model.
    progress : callable
        Called with 1 for each photo read.

    Raises
    ------
    BadCatalogue
        Fewer than two photos could be read.
    """
    photos = list(itertools.islice(_photos(catalogue, seed, progress), sample))
    if len(photos) < 2:
        raise BadCatalogue(f"{catalogue.root} has {len(photos)} readable photos; a model needs at least 2")
    save(fit(np.stack(photos), name=name, seed=seed), folder)


def _photos(catalogue: Catalogue, seed: int, progress: Callable[[int], None]) -> Iterator[NDArray[np.uint8]]:
    """Decode photos in random order; what cannot be read is passed over here and reported by the encoding job."""
    entries = [row for row in itertools.islice(catalogue, DRAWN_FROM) if isinstance(row, Entry)]
    for place in np.random.default_rng(seed).permutation(len(entries)):
        try:
            photo = decode(read_photo(entries[place].photo, catalogue.root), INPUT_PX)
        except UndecodableImage:
            continue
        progress(1)
        yield photo
