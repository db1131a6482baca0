"""Where the photos of rows are: uploads in the store, a catalogue's own where they are, under names that can move.

    photos/3f/<key>-<hash>-<upload>.jpg   an upload, below the collection's folder
    catalogue/0/shoes/12.jpg              below the 0th folder of ``sources.json``
    s3://bucket/12.jpg                    an object, or an https address

A local source is written relative to the collection's folder, so a store that is moved together with its catalogue
finds the photos again, and one that is moved alone needs one line changed.
"""

from __future__ import annotations

import hashlib
import json
import os
import re

from lookalike import storage
from lookalike.errors import Conflict, NotFound, StoreUnavailable
from lookalike.ingest.store.keys import key_of
from lookalike.storage import Location

UPLOADS = "photos"
_CATALOGUE = "catalogue"
_NUMBER = re.compile(r"[0-9]{1,6}")


def is_upload(photo: str) -> bool:
    """Whether the store itself keeps this photo."""
    return photo.startswith(f"{UPLOADS}/")


def upload(folder: Location, image_id: str, content: bytes, suffix: str, number: str = "") -> str:
    """Keep an uploaded photo; durable on return.

    The name has the image's key and the hash of the content, so no photo is ever shared by two images.

    Parameters
    ----------
    folder : Location
        The collection's folder.
    number : str
        Differs for each upload where others may replace or delete the image meanwhile. Were the same photo, sent
        again, the same file, a merge could put it into the trash as that of the old row before the new row is there.

    Returns
    -------
    str
        For the ``photo`` column.
    """
    digest = hashlib.blake2b(content, digest_size=16).hexdigest()
    key = f"{key_of(image_id):016x}"
    photo = f"{UPLOADS}/{key[:2]}/{key}-{digest}{number and '-'}{number}{suffix}"
    storage.write(folder / photo, content)
    return photo


class Sources:
    """The folders of the catalogues that a collection was made from: ``sources.json`` beside its alias."""

    def __init__(self, folder: Location) -> None:
        self._folder = folder
        self._file = folder / "sources.json"

    def add(self, root: Location) -> str:
        """Note a catalogue's folder. Returns the prefix of its photos, ``catalogue/0/``."""
        wanted = self._written(root)
        while True:
            known, version = self._read()
            if wanted in known:
                return f"{_CATALOGUE}/{known.index(wanted)}/"
            content = json.dumps([*known, wanted], indent=2).encode()
            try:
                if version is None:
                    storage.create(self._file, content)
                else:
                    storage.replace(self._file, content, version)
            except Conflict:  # another job noted its folder meanwhile
                continue
            return f"{_CATALOGUE}/{len(known)}/"

    def resolve(self, photo: str) -> tuple[Location, str]:
        """Tell where a photo is: a folder, and the photo's name below it, which is checked when it is read.

        Raises
        ------
        StoreUnavailable
            ``sources.json`` does not name the folder.
        """
        if is_upload(photo):
            return self._folder, photo
        if "://" in photo:
            location = self._checked(photo, f"the photo {photo!r}")
            return location.parent, location.name
        kind, _, rest = photo.partition("/")
        number, _, name = rest.partition("/")
        known, _ = self._read()
        if kind != _CATALOGUE or not _NUMBER.fullmatch(number) or int(number) >= len(known):
            raise StoreUnavailable(
                f"{self._file.shown} names no folder for the photo {photo!r}; put the file back, or encode again"
            )
        return self._parsed(known[int(number)]), name

    def _written(self, root: Location) -> str:
        if root.is_local and self._folder.is_local:
            return os.path.relpath(root.path, self._folder.path)
        return str(root)

    def _parsed(self, written: str) -> Location:
        what = f"{self._file.shown} is damaged: the folder {written!r}"
        if "://" in written or not self._folder.is_local:
            return self._checked(written, what)
        return self._checked(os.path.normpath(self._folder.path / written), what)

    def _checked(self, text: str, what: str) -> Location:
        try:
            return Location.parse(text)
        except ValueError as error:
            raise StoreUnavailable(f"{what} cannot be read: {error}") from error

    def _read(self) -> tuple[list[str], str | None]:
        try:
            content, version = storage.read_versioned(self._file)
        except NotFound:
            return [], None
        try:
            known = json.loads(content)
        except (ValueError, RecursionError):
            known = None
        if not isinstance(known, list) or not all(isinstance(entry, str) for entry in known):
            raise StoreUnavailable(
                f"{self._file.shown} is damaged: it must be a JSON list of the folders of the catalogues, in their "
                f"order; put it back from a copy of the store, or write it anew"
            )
        return known, version
