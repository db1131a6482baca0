"""Encode a catalogue into a collection: which model makes its codes, and when the result is served."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from lookalike import storage
from lookalike.actors.writer import ALIAS_CHECK_S
from lookalike.ingest.catalogue.catalogue import Catalogue
from lookalike.ingest.encode import EncodeJob, Report
from lookalike.ingest.reencode import Pass, check_same_images, reencode
from lookalike.ingest.store.collection import Collection, alias, collections
from lookalike.ingest.store.manifest import check_name
from lookalike.storage import Location
from lookalike.training.unsupervised.from_catalogue import DEFAULT_SAMPLE_PHOTOS, fit_on_catalogue

if TYPE_CHECKING:
    from lookalike.model.encoder import Encoder

# Passes over the rows until nothing was written meanwhile; a store that is written to faster than it can be encoded
# never gets there, and the check says so.
MAX_PASSES = 5


class Progress(Protocol):
    """Shows how far a step has come: entered with its label, its total and its unit, called with what was done."""

    def __call__(self, label: str, total: int, unit: str) -> AbstractContextManager[Callable[[int], None]]: ...


def collection_for(
    catalogue: Catalogue, root: Location, name: str, model: Location | None, buckets: int, progress: Progress
) -> tuple[Collection, bool]:
    """Open the collection at the model given; at its own if none is; a new one at a model fitted to the catalogue.

    Parameters
    ----------
    catalogue : Catalogue
    root : Location
        Of the store.
    name : str
    model : Location or None
        A model's folder.
    buckets : int
        Of a new collection; one that is there keeps its own.
    progress : Progress

    Returns
    -------
    collection : Collection
    fitted : bool
        Whether a model was fitted.

    Raises
    ------
    ValueError
        ``name`` cannot be a collection's name.
    BadCatalogue, BadModel, StoreMismatch, StoreUnavailable
    """
    check_name(name)
    if model is not None:
        return Collection.create(root, name, model, buckets), False
    if name in collections(root):
        return Collection.open(root, name), False
    sample = min(DEFAULT_SAMPLE_PHOTOS, catalogue.estimate())
    with (
        tempfile.TemporaryDirectory() as scratch,
        progress("fitting a model to the catalogue", sample, "photo") as advance,
    ):
        fitted = Path(scratch) / "model"
        fit_on_catalogue(catalogue, fitted, progress=advance)
        return Collection.create(root, name, Location.parse(fitted), buckets), True


def encode(catalogue: Catalogue, collection: Collection, commit_every: int, force: bool, progress: Progress) -> Report:
    """Bring the collection up to date with the catalogue, and let its alias name this model version.

    Where another version is served, this one first takes over all of its rows, and the alias moves only if both hold
    the same images then, or with ``force``.

    Raises
    ------
    VersionsDiffer
        They do not.
    """
    from lookalike.model.encoder import Encoder  # imports TensorFlow

    with storage.local_folder(collection.model_location) as folder:
        encoder = Encoder(folder)
    served = alias(collection.root, collection.name)
    if served != collection.version:
        source = Collection.open(collection.root, collection.name, served)
        switch_version(source, collection, encoder, force, progress)
    with progress("encoding", catalogue.estimate(), "photo") as advance:
        return EncodeJob(catalogue, collection, encoder, encoder.spec.input_px, advance, commit_every).run()


def switch_version(
    source: Collection, target: Collection, encoder: Encoder, force: bool, progress: Progress
) -> list[Pass]:
    """Take all rows of the served version over to another, and move the alias to that.

    What clients write to the served version meanwhile is taken over by further passes. Its writer refuses changes once
    the alias has moved; what it took until then comes with a last pass.

    Returns
    -------
    list of Pass

    Raises
    ------
    VersionsDiffer
        The images differ after the last pass, and ``force`` is not given.
    """
    passes: list[Pass] = []
    while len(passes) < MAX_PASSES and (not passes or passes[-1].encoded or passes[-1].deleted):
        passes.append(_pass(source, target, encoder, progress))
    if not force:
        check_same_images(source, target)
    target.publish()
    time.sleep(2 * ALIAS_CHECK_S)
    passes.append(_pass(source, target, encoder, progress))
    return passes


def _pass(source: Collection, target: Collection, encoder: Encoder, progress: Progress) -> Pass:
    label = f"encoding {source.version} anew"
    with progress(label, source.rows_at_most(), "image") as advance:
        return reencode(source, target, encoder, encoder.spec.input_px, advance)
