"""The alias of a collection: a file with the name of the model version that is served."""

from __future__ import annotations

import contextlib

from lookalike import storage
from lookalike.errors import Conflict, NotFound
from lookalike.storage import Location


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
