"""Which collections and model versions there are, and the alias of each: the version that is served."""

from __future__ import annotations

import contextlib
import re

from lookalike import storage
from lookalike.errors import Conflict, NotFound, StoreUnavailable
from lookalike.storage import Location

_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def move_alias(folder: Location, version: str) -> None:
    """Let the alias in a collection's folder name a version.

    By compare-and-swap: a plain write that was given up for lost could arrive after a later one, and move it back.
    """
    location = folder / "alias"
    while True:
        with contextlib.suppress(Conflict):
            try:
                storage.replace(location, version.encode(), storage.read_versioned(location)[1])
            except NotFound:
                storage.create(location, version.encode())
            return


def alias(root: Location, name: str) -> str:
    """The model version that a collection's alias names.

    Raises
    ------
    StoreUnavailable
        There is no such collection, or the alias is damaged.
    """
    try:
        version = storage.read(root / name / "alias").decode("utf-8", "replace").strip()
    except NotFound:
        known = ", ".join(collections(root)) or "none"
        raise StoreUnavailable(
            f"no collection {name!r} in {root} (there: {known}); make one with `lookalike encode`"
        ) from None
    if not _VERSION.fullmatch(version):
        known = ", ".join(versions(root, name)) or "none"
        raise StoreUnavailable(
            f"{(root / name / 'alias').shown} is damaged: it must hold the name of a model version (there: {known}); "
            f"write the one to serve into it"
        )
    return version


def collections(root: Location) -> list[str]:
    """List the collections of a store, by name."""
    return [name for name in storage.list_names(root) if storage.exists(root / name / "alias")]


def versions(root: Location, name: str) -> list[str]:
    """List the model versions of a collection."""
    names = storage.list_names(root / name)
    return [version for version in names if storage.exists(root / name / version / "manifest.json")]
