"""A folder of photos as a catalogue: every photo is an image, its sub-folders are its group."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from lookalike import storage
from lookalike.ingest.catalogue.entries import Entry, Problem, photo_entry
from lookalike.ingest.photos.location import printable
from lookalike.storage.location import Location

PHOTO_SUFFIXES = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp"})
# Photos of formats that are not read: each is reported. Any other file is passed over in silence.
UNREAD_SUFFIXES = frozenset({"", ".avif", ".bmp", ".gif", ".heic", ".heif", ".jp2", ".jxl", ".tif", ".tiff"})


class PhotoFolder:
    """Photos in local folders; hidden names are skipped, the order is that of the names."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.ignored_columns: list[str] = []

    def estimate(self) -> int:
        return sum(1 for _ in self.entries())

    def entries(self) -> Iterator[Entry | Problem]:
        pending = self._listed("")
        while pending:  # a stack: folders may lie deeper than Python recurses
            item = pending.pop()
            path = os.path.relpath(item.path, self._root)
            if item.is_dir(follow_symlinks=False):
                try:
                    pending += self._listed(path)
                except OSError as error:
                    yield Problem(f"folder cannot be read: {error.strerror}", file=printable(path))
            elif item.is_symlink() and (reason := self._bad_link(path)):
                yield Problem(reason, file=printable(path))
            elif entry := _file_entry(path):
                yield entry

    def _listed(self, folder: str) -> list[os.DirEntry[str]]:
        """What a folder holds, last name first, so that popping gives the order of the names."""
        with os.scandir(self._root / folder) as found:
            items = [item for item in found if not item.name.startswith(".")]
        return sorted(items, key=lambda item: item.name, reverse=True)

    def _bad_link(self, path: str) -> str:
        try:
            target = (self._root / path).resolve(strict=True)
        except (OSError, RuntimeError):  # it points at nothing, or in a circle
            return "a link that leads nowhere"
        if not target.is_relative_to(self._root):
            return "a link that leads out of the catalogue's folder"
        return "a link to a folder is not followed" if target.is_dir() else ""


class PhotoPrefix:
    """Photos below an S3 prefix, listed once and held: about 150 bytes a photo.

    A folder and a prefix of the same photos give the same entries in the same order.
    """

    def __init__(self, root: Location) -> None:
        names = sorted(storage.list_tree(root), key=lambda name: name.split("/"))
        self._names = [name for name in names if not name.startswith(".") and "/." not in name]
        self.ignored_columns: list[str] = []

    def estimate(self) -> int:
        return sum(1 for _ in self.entries())

    def entries(self) -> Iterator[Entry | Problem]:
        return filter(None, map(_file_entry, self._names))


def _file_entry(path: str) -> Entry | Problem | None:
    """Make the entry of a file, or a problem of a photo that is not read; None for any other file."""
    suffix = os.path.splitext(path)[1].lower()  # noqa: PTH122 - a Path for each file costs more
    if suffix in PHOTO_SUFFIXES:
        return photo_entry(path)
    if suffix in UNREAD_SUFFIXES:
        return Problem(f"{suffix or 'a file without ending'} is not read", file=printable(path))
    return None
