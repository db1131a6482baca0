"""A model without training for one catalogue: decode a sample of its photos and fit."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from lookalike.errors import BadCatalogue, UndecodableImage
from lookalike.ingest.catalogue.catalogue import Catalogue
from lookalike.ingest.catalogue.entries import Entry
from lookalike.ingest.photos.decode import decode
from lookalike.ingest.photos.fetch import read_photo
from lookalike.model.descriptor import Pixels
from lookalike.model.saved_model import save
from lookalike.training.unsupervised.fit import fit

# The medians of 1,000 photos are known to 1.6 % of the rows (binomial), so a bit stays balanced within that.
DEFAULT_SAMPLE_PHOTOS = 1000
# A sample is drawn from the first so many rows: enough to be varied, few enough to be read at once.
MAX_ROWS_DRAWN_FROM = 100_000
DEFAULT_INPUT_PX = 128


def fit_on_catalogue(
    catalogue: Catalogue,
    folder: Path,
    name: str = "untrained",
    sample: int = DEFAULT_SAMPLE_PHOTOS,
    seed: int = 0,
    progress: Callable[[int], None] = lambda _: None,
) -> None:
    """Fit a model to a sample of a catalogue and save it in ``folder``.

    Parameters
    ----------
    sample : int
        How many photos to fit to. One catalogue and seed give one model.
    progress : callable
        Called with 1 for each photo read.

    Raises
    ------
    BadCatalogue
        Fewer than two photos could be read.
    """
    photos = list(itertools.islice(_photos(catalogue, seed, progress), sample))
    if len(photos) < 2:
        raise BadCatalogue(f"{catalogue.location.shown} has {len(photos)} readable photos; a model needs at least 2")
    save(fit(np.stack(photos), name=name, seed=seed), folder)


def _photos(catalogue: Catalogue, seed: int, progress: Callable[[int], None]) -> Iterator[Pixels]:
    """Decode photos in random order; what cannot be read is passed over here and reported by the encoding job."""
    entries = [row for row in itertools.islice(catalogue, MAX_ROWS_DRAWN_FROM) if isinstance(row, Entry)]
    for index in np.random.default_rng(seed).permutation(len(entries)):
        try:
            photo = decode(read_photo(entries[index].photo, catalogue.location), DEFAULT_INPUT_PX)
        except UndecodableImage:
            continue
        progress(1)
        yield photo
