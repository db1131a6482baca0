"""A catalogue in: a folder of photos or a table, as a stream of entries and problems.

Fifty million rows are never held. What is kept of each is 8 bytes, the hash of its id, because an id that
comes twice must be seen: two photos under one id would overwrite each other in the store.
"""

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from lookalike.errors import BadCatalogue, UndecodableImage
from lookalike.ingest.catalogue.entries import Entry, Problem, photo_entry, printable, table_entry
from lookalike.ingest.catalogue.tables import BadRow, CsvTable, ParquetTable
from lookalike.ingest.photos.decode import MAX_BYTES

__all__ = ["Catalogue", "Entry", "Problem", "read_photo"]

TABLE_NAMES = ("catalog.csv", "catalogue.csv", "catalog.parquet", "catalogue.parquet")
PHOTO_SUFFIXES = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp"})
# Pictures that we do not read: each is reported. Any other file beside the photos is none of our business.
PICTURE_SUFFIXES = frozenset({"", ".avif", ".bmp", ".gif", ".heic", ".heif", ".jp2", ".jxl", ".tif", ".tiff"})


class _Source(Protocol):
    ignored_columns: list[str]

    def estimate(self) -> int: ...

    def entries(self) -> Iterator[Entry | Problem]: ...


class Catalogue:
    """A folder of photos, or a table of them.

    Iterating gives an `Entry` for each usable row and a `Problem` for each other, always in the same order;
    it may be done any number of times.
    """

    def __init__(self, root: Path, source: _Source) -> None:
        self.root = root
        self._source = source

    @classmethod
    def open(cls, path: Path) -> "Catalogue":
        """Open a folder of photos, a folder that holds one of `TABLE_NAMES`, or a CSV or Parquet file.

        Raises
        ------
        BadCatalogue
            There is no such thing, it cannot be read, it holds no photos or rows, or it lacks a column.
        """
        try:
            path = path.resolve(strict=True)
            table = _table_in(path) if path.is_dir() else path
            catalogue = cls(table.parent, _Table(table)) if table else cls(path, _Folder(path))
            if table is None and not any(isinstance(entry, Entry) for entry in catalogue):
                raise BadCatalogue(f"{path} holds no photos (.jpg, .png, .webp) and no {TABLE_NAMES[0]}")
            if next(iter(catalogue), None) is None:
                raise BadCatalogue(f"{table} has a header but no rows")
        except (OSError, RuntimeError) as error:  # RuntimeError: links that go in a circle
            raise BadCatalogue(f"{path} cannot be read: {_why(error)}") from error
        return catalogue

    @property
    def ignored_columns(self) -> list[str]:
        """The columns of the table that mean nothing to us."""
        return self._source.ignored_columns

    def estimate(self) -> int:
        """Count the rows for a progress bar: exact but for a CSV with line breaks inside its fields."""
        return self._source.estimate()

    def __iter__(self) -> Iterator[Entry | Problem]:
        return self._source.entries()


def read_photo(photo: str, root: Path) -> bytes:
    """Read the file of a photo.

    Parameters
    ----------
    photo : str
        `Entry.photo`, or one from the store: it is checked again.
    root : Path
        `Catalogue.root`.

    Raises
    ------
    UndecodableImage
        With a short reason: missing, unreadable, no regular file (which is never waited for), outside the
        root once links are followed, or over `MAX_BYTES`.
    """
    try:
        real_root = root.resolve()
        path = (real_root / photo).resolve(strict=True)
        if not path.is_relative_to(real_root):
            raise UndecodableImage("leads out of the catalogue's folder")
        # Without NONBLOCK, opening a pipe would wait for a writer.
        with open(path, "rb", opener=_open_at_once) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise UndecodableImage("not a regular file")
            if status.st_size > MAX_BYTES:
                raise UndecodableImage(f"too many bytes: {status.st_size:,}; at most {MAX_BYTES:,} are read")
            return file.read(MAX_BYTES + 1)  # one more, so that `decode` sees a file that grew
    except FileNotFoundError:
        raise UndecodableImage("no such file") from None
    except (OSError, RuntimeError, ValueError) as error:  # a circle of links; a NUL in the name
        raise UndecodableImage(f"cannot be read: {_why(error)}") from error


def _why(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


def _open_at_once(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY)


def _table_in(folder: Path) -> Path | None:
    tables = [folder / name for name in TABLE_NAMES if (folder / name).exists()]
    if len(tables) > 1:
        names = " and ".join(table.name for table in tables)
        raise BadCatalogue(f"{folder} holds {names}; name the one to read")
    return tables[0] if tables else None


class _Folder:
    """Photos in folders; hidden names are skipped, the order is that of the names."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.ignored_columns: list[str] = []

    def estimate(self) -> int:
        return sum(1 for _ in self.entries())

    def entries(self) -> Iterator[Entry | Problem]:
        waiting = self._listed("")
        while waiting:  # a stack: folders may lie deeper than Python recurses
            item = waiting.pop()
            place = os.path.relpath(item.path, self._root)
            if item.is_dir(follow_symlinks=False):
                try:
                    waiting += self._listed(place)
                except OSError as error:
                    yield Problem(f"folder cannot be read: {error.strerror}", file=printable(place))
            elif item.is_symlink() and (reason := self._bad_link(place)):
                yield Problem(reason, file=printable(place))
            else:
                suffix = os.path.splitext(place)[1].lower()  # noqa: PTH122 - a Path for each file costs more
                if suffix in PHOTO_SUFFIXES:
                    yield photo_entry(place)
                elif suffix in PICTURE_SUFFIXES:
                    yield Problem(f"{suffix or 'a file without ending'} is not read", file=printable(place))

    def _listed(self, folder: str) -> list[os.DirEntry[str]]:
        """What a folder holds, last name first, so that popping gives the order of the names."""
        with os.scandir(self._root / folder) as found:
            items = [item for item in found if not item.name.startswith(".")]
        return sorted(items, key=lambda item: item.name, reverse=True)

    def _bad_link(self, place: str) -> str:
        try:
            target = (self._root / place).resolve(strict=True)
        except (OSError, RuntimeError):  # it points at nothing, or in a circle
            return "a link that leads nowhere"
        if not target.is_relative_to(self._root):
            return "a link that leads out of the catalogue's folder"
        return "a link to a folder is not followed" if target.is_dir() else ""


class _Table:
    """The rows of a CSV or Parquet file, checked one by one."""

    def __init__(self, path: Path) -> None:
        self._root = path.parent
        if not path.is_file():  # a pipe would be waited for
            raise BadCatalogue(f"{path} is neither a folder nor a file")
        with path.open("rb") as file:
            is_parquet = file.read(4) == b"PAR1"
        if is_parquet or path.suffix.lower() in (".parquet", ".pq"):
            self._table: CsvTable | ParquetTable = ParquetTable(path)
        elif path.suffix.lower() in (".csv", ".tsv", ".txt"):
            self._table = CsvTable(path)
        else:
            raise BadCatalogue(f"{path} is neither a folder of photos nor a .csv or .parquet file")
        self.ignored_columns = self._table.ignored_columns

    def estimate(self) -> int:
        return self._table.estimate()

    def entries(self) -> Iterator[Entry | Problem]:
        seen = _Seen()
        for row in self._table:
            if isinstance(row, BadRow):
                yield Problem(row.reason, row=row.row)
                continue
            at, fields = row
            entry = table_entry(fields, at, self._root)
            if isinstance(entry, Entry) and not seen.add(entry.image_id):
                entry = Problem("image_id came before; the first is kept", entry.image_id, entry.photo, at)
            yield entry


class _Seen:
    """Which ids came before, in 8 bytes each.

    Python's own hash of a string is used: 64 bits, and keyed anew in each process, so that no stranger can
    make two ids meet. By chance, among 50 million ids, two meet once in 15,000 catalogues. A plain set of
    these hashes takes 80 bytes an id; here it only holds the newest million and the others lie sorted in one
    array.
    """

    def __init__(self, recent: int = 1 << 20) -> None:
        self._limit = recent
        self._recent: set[int] = set()
        self._sorted: NDArray[np.int64] = np.empty(0, np.int64)

    def add(self, image_id: str) -> bool:
        """Remember an id; False if it was there."""
        key = hash(image_id)
        if key in self._recent:
            return False
        at = self._sorted.searchsorted(key)
        if at < len(self._sorted) and self._sorted[at] == key:
            return False
        self._recent.add(key)
        if len(self._recent) >= self._limit:
            new = np.fromiter(self._recent, np.int64, len(self._recent))
            self._sorted = np.sort(np.concatenate([self._sorted, new]), kind="stable")
            self._recent.clear()
        return True
