"""Encode a catalogue into a collection: which model makes its codes, and when the result is served."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple, Protocol

from lookalike.ingest.catalogue.reader import Catalogue

from lookalike.ingest.encode import Report, encode_catalogue
from lookalike.ingest.store.collection import Store, check_name, collections
from lookalike.training.unsupervised.from_catalogue import SAMPLE, fit_on_catalogue


class Progress(Protocol):
    """Shows how far a step has come: entered with its label, its total and its unit, told what was done."""

    def __call__(self, label: str, total: int, unit: str) -> AbstractContextManager[Callable[[int], None]]: ...


class Target(NamedTuple):
    """Where a catalogue is encoded to, and whether a model had to be fitted to it."""

    store: Store
    fitted: bool


def collection_for(
    catalogue: Catalogue, root: Path, collection: str, model_folder: Path | None, buckets: int, progress: Progress
) -> Target:
    """Open the collection at the model given; at its own if none is; a new one at a model fitted to the catalogue.

    Parameters
    ----------
    catalogue : Catalogue
    root : Path
        Of the store.
    collection : str
    model_folder : Path or None
    buckets : int
        Of a new collection; one that is there keeps its own.
    progress : Progress

    Raises
    ------
    ValueError
        ``collection`` cannot be a collection's name.
    BadCatalogue, BadModel, StoreMismatch, StoreUnavailable
    """
    check_name(collection)
    if model_folder is not None:
        return Target(Store.create(root, collection, model_folder, buckets), fitted=False)
    if collection in collections(root):
        return Target(Store.open(root, collection), fitted=False)
    sample = min(SAMPLE, catalogue.estimate())
    with (
        tempfile.TemporaryDirectory() as scratch,
        progress("fitting a model to the catalogue", sample, "photo") as advance,
    ):
        fitted = Path(scratch) / "model"
        fit_on_catalogue(catalogue, fitted, progress=advance)
        return Target(Store.create(root, collection, fitted, buckets), fitted=True)


def encode_and_publish(catalogue: Catalogue, store: Store, commit_every: int, progress: Progress) -> Report:
    """Bring the collection up to date with the catalogue; servers started from then on serve this model version."""
    from lookalike.model.encoder import Encoder  # imports TensorFlow

    encoder = Encoder(store.model_folder)
    with progress("encoding", catalogue.estimate(), "photo") as advance:
        report = encode_catalogue(catalogue, store, encoder, encoder.spec.input_px, advance, commit_every)
    store.publish()
    return report
