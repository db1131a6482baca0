"""A catalogue in: a folder of photos or a table, as a stream of entries and problems."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Protocol

from lookalike import storage
from lookalike.errors import BadCatalogue, NotFound
from lookalike.ingest.catalogue.entries import Entry, Problem
from lookalike.ingest.catalogue.folder import PhotoFolder, PhotoPrefix
from lookalike.ingest.catalogue.table import CSV_SUFFIXES, PARQUET_SUFFIXES, CatalogueTable
from lookalike.storage.location import Location

__all__ = ["Catalogue", "Entry", "Problem"]

TABLE_NAMES = ("catalog.csv", "catalogue.csv", "catalog.parquet", "catalogue.parquet")


class _Source(Protocol):
    ignored_columns: list[str]

    def estimate(self) -> int: ...

    def entries(self) -> Iterator[Entry | Problem]: ...


class Catalogue:
    """A folder of photos, or a table of them, on a local path or on S3.

    Iterating gives an `Entry` for each usable row and a `Problem` for each other, always in the same order;
    it may be done any number of times. ``location`` is the folder, or the folder of the table: what `Entry.photo` is
    relative to. ``modified``: when the table changed last, None for a folder of photos.
    """

    def __init__(self, location: Location, source: _Source, modified: datetime | None = None) -> None:
        self.location = location
        self.modified = modified
        self._source = source

    @classmethod
    def open(cls, path: str | os.PathLike[str] | Location) -> Catalogue:
        """Open a folder of photos, a folder that holds one of `TABLE_NAMES`, or a CSV or Parquet file.

        Raises
        ------
        BadCatalogue
            There is no such thing, it cannot be read, it holds no photos or rows, or it lacks a column.
        StorageUnavailable
            S3 does not answer.
        """
        try:
            location = path if isinstance(path, Location) else Location.parse(path)
        except ValueError as error:
            raise BadCatalogue(f"{str(path)!r} is no catalogue: {error}") from error
        if location.scheme == "https":
            raise BadCatalogue(
                f"{location.shown}: a catalogue is a local path or at s3://, only photos may be at https://"
            )
        try:
            return cls._opened(_resolved(location) if location.is_local else location)
        except NotFound as error:
            raise BadCatalogue(f"there is no {location.shown}") from error
        except (OSError, RuntimeError) as error:  # RuntimeError: links that go in a circle
            raise BadCatalogue(f"{location.shown} cannot be read: {_why(error)}") from error

    @classmethod
    def _opened(cls, location: Location) -> Catalogue:
        table = _table_of(location)
        if table is not None:
            catalogue = cls(table.parent, CatalogueTable(table), storage.info(table).modified)
            if next(iter(catalogue), None) is None:
                raise BadCatalogue(f"{table.shown} has a header but no rows")
            return catalogue
        catalogue = cls(location, PhotoFolder(location.path) if location.is_local else PhotoPrefix(location))
        if not any(isinstance(entry, Entry) for entry in catalogue):
            raise BadCatalogue(f"{location.shown} holds no photos (.jpg, .png, .webp) and no {TABLE_NAMES[0]}")
        return catalogue

    @property
    def root(self) -> Path:
        """``location`` as a path.

        Raises
        ------
        ValueError
            The catalogue is on S3.
        """
        return self.location.path

    @property
    def ignored_columns(self) -> list[str]:
        """The columns of the table that mean nothing to us."""
        return self._source.ignored_columns

    def estimate(self) -> int:
        """Estimate the rows, for a progress bar.

        Exact for folders, Parquet, and a local CSV without line breaks inside its fields.
        """
        return self._source.estimate()

    def __iter__(self) -> Iterator[Entry | Problem]:
        return self._source.entries()


def _resolved(location: Location) -> Location:
    return Location.parse(location.path.resolve(strict=True))


def _table_of(location: Location) -> Location | None:
    """Find the table that is meant: the file itself, or the one in the folder. None: a folder of photos."""
    if location.is_local:
        if not location.path.is_dir():
            if not location.path.is_file():  # a pipe would be waited for
                raise BadCatalogue(f"{location.shown} is neither a folder nor a file")
            return location
        tables = [name for name in TABLE_NAMES if (location.path / name).exists()]
    else:
        if location.name.lower().endswith((*CSV_SUFFIXES, *PARQUET_SUFFIXES)):
            return location
        tables = sorted({*TABLE_NAMES} & {*storage.list_names(location)})
    if len(tables) > 1:
        raise BadCatalogue(f"{location.shown} holds {' and '.join(tables)}; name the one to read")
    return location / tables[0] if tables else None


def _why(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
