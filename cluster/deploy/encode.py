"""Encode a catalogue into a collection: which model makes its codes, and when the result is served."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, PositiveInt

from lookalike import storage
from lookalike.errors import LookalikeError, NotFound, StoreUnavailable
from lookalike.ingest.catalogue.catalogue import Catalogue
from lookalike.ingest.catalogue.entries import Problem
from lookalike.ingest.encode import MAX_PROBLEMS, EncodeJob, Encodes, Report
from lookalike.ingest.reencode import (
    NO_KEYS,
    Commits,
    Pass,
    VersionsDiffer,
    check_same_images,
    delete_forgotten,
    missing_keys,
    reencode,
)
from lookalike.ingest.store import checked
from lookalike.ingest.store.alias import alias, collections, versions
from lookalike.ingest.store.collection import Collection
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


def no_progress(*_: object, **__: object) -> AbstractContextManager[Callable[[int], None]]:
    """A ``Progress`` that shows nothing."""
    return nullcontext(lambda _: None)


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
    _check_alias(root, name)
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


def _check_alias(root: Location, name: str) -> None:
    """Refuse a collection whose alias is lost: one made anew would be served without its uploads and deletions."""
    if name in collections(root):
        return
    known = versions(root, name)
    for version in known:  # one that was never written to is what a killed job began to make
        if any(bucket.head().sequence for bucket in Collection.open(root, name, version).buckets):
            raise StoreUnavailable(
                f"{(root / name / 'alias').shown} is missing, though there is {', '.join(known)}; write the name of "
                f"the version to serve into it"
            )


def encode(catalogue: Catalogue, collection: Collection, commit_every: int, force: bool, progress: Progress) -> Report:
    """Bring the collection up to date with the catalogue, and let its alias name this model version.

    Where another version is served, this one first takes over all of its rows; see ``switch_version``.

    Raises
    ------
    VersionsDiffer
        This version does not hold what the served one does, and ``force`` is not given.
    StoreUnavailable
        Among others: the alias was moved meanwhile.
    """
    encoder = _encoder_of(collection)
    passes = _move(collection, encoder, force, progress)
    left_out = passes[-1].problems if passes else []
    with progress("encoding", catalogue.estimate(), "photo") as advance:
        job = EncodeJob(catalogue, collection, encoder, encoder.spec.input_px, advance, commit_every, left_out)
        report = job.run()
    served = alias(collection.root, collection.name)
    if served != collection.version:
        raise StoreUnavailable(
            f"the catalogue was encoded by {collection.version}, but meanwhile the collection {collection.name!r} "
            f"moved to {served}; run this again"
        )
    return report


@dataclass(frozen=True)
class VersionDescription:
    """A model version of a collection: whether the alias names it, and what it holds or why it cannot be read."""

    version: str
    served: bool
    images: int
    error: str


def describe_versions(root: Location, name: str) -> list[VersionDescription]:
    """Describe the model versions of a collection; counts the images exactly, which reads every key.

    Raises
    ------
    StoreUnavailable
        There is no such collection.
    """
    served = alias(root, name)
    found = []
    for version in versions(root, name):
        images, error = 0, ""
        try:
            images = Collection.open(root, name, version).count()
        except LookalikeError as caught:
            error = str(caught)
        found.append(VersionDescription(version, version == served, images, error))
    return found


def switch(root: Location, name: str, version: str, force: bool, progress: Progress) -> list[Pass]:
    """Let a collection's alias name another of its model versions, once that one is up to date with the served one.

    Raises
    ------
    VersionsDiffer
        It cannot be brought up to date, and ``force`` is not given.
    StoreUnavailable
        There is no such collection or version.
    """
    alias(root, name)
    known = versions(root, name)
    if version not in known:
        raise StoreUnavailable(f"the collection {name!r} has no model version {version}; there: {', '.join(known)}")
    target = Collection.open(root, name, version)
    return _move(target, _encoder_of(target), force, progress)


def _move(target: Collection, encoder: Encoder, force: bool, progress: Progress) -> list[Pass]:
    """Let the alias name ``target``; or, where it does, end a switch that was killed."""
    served = alias(target.root, target.name)
    if served == target.version:
        return _end_switch(target, encoder, progress)
    source = Collection.open(target.root, target.name, served)
    end_killed_switch(source, progress)
    return switch_version(source, target, encoder, force, progress)


def switch_version(
    source: Collection, target: Collection, encoder: Encodes, force: bool, progress: Progress
) -> list[Pass]:
    """Take all rows of the served version over to another, and move the alias to that.

    What clients write to the served version meanwhile is taken over by further passes. Its writer acknowledges nothing
    once the alias has moved; what it took until then comes with a last pass. If this is killed before that, the next
    server, job or switch makes it.

    Returns
    -------
    list of Pass
        The last one's problems: images that the other version does not have as they are now.

    Raises
    ------
    VersionsDiffer
        The images differ after the last pass, and ``force`` is not given.
    """
    passes = [_pass(source, target, encoder, progress)]
    while len(passes) < MAX_PASSES and (passes[-1].encoded or passes[-1].deleted):
        problems = passes[-1].problems  # the photos may be readable now
        passes.append(_pass(source, target, encoder, progress, None if problems else passes[-1].seen))
    seen = passes[-1].seen
    left_out = _left_out(source)
    delete_forgotten(source, target, left_out)
    if not force:
        _check(passes[-1].problems, source, target, seen)
    _note_left_out(target, np.union1d(left_out, missing_keys(source, target)) if force else left_out)
    storage.write(_predecessor(target), checked.encode(_Predecessor(version=source.version, seen=seen)))
    target.publish()
    last = _pass(source, target, encoder, progress, seen)
    last.problems[:0] = passes[-1].problems
    storage.remove(_predecessor(target))
    return [*passes, last]


def _check(problems: list[Problem], source: Collection, target: Collection, seen: Commits) -> None:
    if problems:
        number = f"{len(problems):,}" if len(problems) < MAX_PROBLEMS else f"at least {MAX_PROBLEMS:,}"
        raise VersionsDiffer(
            f"photos that cannot be read: {number}, among them {problems[0].file!r} of {problems[0].image_id!r} "
            f"({problems[0].reason}); {source.version} stays served. Make them readable and run this again, or give "
            f"--force to go without them"
        )
    check_same_images(source, target, seen)


class _Predecessor(BaseModel):
    """The version from which the last pass of a switch is still to be made, and its commits that need no look."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: PositiveInt = 1
    version: str
    seen: dict[int, int]


def end_killed_switch(target: Collection, progress: Progress) -> list[Pass]:
    """Make the last pass of a switch to this version, if one was killed after it had moved the alias.

    Raises
    ------
    StoreUnavailable
        The version before cannot be read.
    """
    if not storage.exists(_predecessor(target)):
        return []
    return _end_switch(target, _encoder_of(target), progress)


def _end_switch(target: Collection, encoder: Encodes, progress: Progress) -> list[Pass]:
    location = _predecessor(target)
    try:
        content = storage.read(location)
    except NotFound:
        return []
    advice = "delete it; changes that clients made while the alias moved may then be missing"
    predecessor = checked.decode(content, _Predecessor, location, 1, restore=advice)
    source = Collection.open(target.root, target.name, predecessor.version)
    ended = _pass(source, target, encoder, progress, predecessor.seen)
    storage.remove(location)
    return [ended]


def _predecessor(target: Collection) -> Location:
    return target.location / "predecessor.json"


def _left_out(collection: Collection) -> NDArray[np.uint64]:
    """The keys of the images that were left out of a version by force, of which it never had a row."""
    try:
        return np.frombuffer(storage.read(collection.location / "left_out"), "<u8").astype(np.uint64)
    except NotFound:
        return NO_KEYS


def _note_left_out(target: Collection, keys: NDArray[np.uint64]) -> None:
    """Keep for the way back which images a version lacks: there they must not pass for deleted ones."""
    lacking = keys[~target.stored(keys).found]
    if len(lacking):
        storage.write(target.location / "left_out", lacking.astype("<u8").tobytes())
    else:
        storage.remove(target.location / "left_out")


def _pass(
    source: Collection, target: Collection, encoder: Encodes, progress: Progress, after: Commits | None = None
) -> Pass:
    with progress(f"encoding {source.version} anew", source.rows_at_most(), "image") as advance:
        return reencode(source, target, encoder, target.spec.input_px, advance, after)


def _encoder_of(collection: Collection) -> Encoder:
    from lookalike.model.encoder import Encoder  # imports TensorFlow

    with storage.local_folder(collection.model_location) as folder:
        return Encoder(folder)
