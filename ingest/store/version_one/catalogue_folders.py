"""The folders of the catalogues that a collection of version 0.1 was made from."""

from __future__ import annotations

import os.path

# More folders than this are taken together by the folders above them.
MAX_ROOTS = 64


class CatalogueFolders:
    """Finds the folders of the catalogues that a collection was made from, of which 0.1 noted absolute paths of photos.

    Where the id is the end of the path, as in a catalogue that is a folder of photos, the folder is the rest of it.
    Of all other photos it is the deepest folder that has all those that agree in the first two folders, such as
    ``/data/shoes``. If that makes too many, it is the first folder that they agree in.
    """

    def __init__(self) -> None:
        self._by_id: set[str] = set()
        self._common: dict[str, str] = {}
        self._depth = 2
        self._ids_are_ends = True

    def add(self, photo: str, image_id: str) -> None:
        """Take note of a catalogue's photo."""
        if self._ids_are_ends and photo.endswith(f"/{image_id}"):
            self._by_id.add(photo[: -len(image_id) - 1] or "/")
            if len(self._by_id) > MAX_ROOTS:
                self._ids_are_ends = False
                for folder in self._by_id:
                    self._add_folder(folder)
                self._by_id.clear()
        else:
            self._add_folder(os.path.dirname(photo))  # noqa: PTH120 - a Path for each row costs more

    def _add_folder(self, folder: str) -> None:
        start = "/".join(folder.split("/", self._depth + 1)[: self._depth + 1])
        known = self._common.get(start)
        if known is None or not f"{folder}/".startswith(f"{known.rstrip('/')}/"):
            self._common[start] = os.path.commonpath([known or folder, folder])
        if len(self._common) > MAX_ROOTS and self._depth:
            self._depth -= 1
            folders = list(self._common.values())
            self._common.clear()
            for other in folders:
                self._add_folder(other)

    def roots(self) -> list[str]:
        """The folders; none is below another."""
        roots: list[str] = []
        for folder in sorted({*self._by_id, *self._common.values()}):
            if not any(is_below(folder, root) for root in roots):
                roots.append(folder)
        return roots


def is_below(path: str, folder: str) -> bool:
    """Whether a path lies below a folder."""
    return path.startswith(f"{folder.rstrip('/')}/")
