"""What nobody needs goes to the trash first, for two days: a mistake can be undone with a plain copy."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta

from lookalike import storage
from lookalike.storage import Location

TRASH_FOR = timedelta(days=2)
_DAY = "%Y-%m-%d"


class Trash:
    """The folder ``trash`` of a collection, with one folder for each day."""

    def __init__(self, folder: Location) -> None:
        self._location = folder / "trash"

    def move(self, location: Location) -> None:
        """Move a file to the trash.

        Raises
        ------
        NotFound
            It is not there.
        StorageUnavailable
        """
        day = datetime.now(UTC).strftime(_DAY)
        storage.move(location, self._location / day / f"{uuid.uuid4().hex}-{location.name}")

    def empty(self) -> None:
        """Remove for good what was moved here two days ago or earlier: the only thing that is ever removed."""
        limit = (datetime.now(UTC) - TRASH_FOR).date()
        for name in storage.list_names(self._location):
            if _is_before(name, limit.strftime(_DAY)):
                for entry in storage.list_names(self._location / name):
                    storage.remove(self._location / name / entry)


def _is_before(name: str, limit: str) -> bool:
    try:
        return datetime.strptime(name, _DAY).replace(tzinfo=UTC).strftime(_DAY) == name < limit
    except ValueError:  # not ours
        return False
