"""What version 0.1 left on a disk, to be read once more: a Lance dataset per bucket, and uploads beside them.

    <root>/<collection>/<version>/manifest.json   format 1
                                  model/
                                  head            changed after every commit
                                  buckets/NN.lance, NN.lock
                                  photos/ab/<key>-<random>.jpg

The alias was what it is now. Photos were noted by their absolute paths, uploads too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
from pydantic import ValidationError

from lookalike.errors import LookalikeError, StoreMismatch, StoreUnavailable
from lookalike.ingest.store.checked import format_of
from lookalike.ingest.store.manifest import Manifest, read_spec, version_of
from lookalike.storage import Location, local

FORMAT: Final = 1
BATCH_ROWS: Final = 8192
ATTRIBUTES: Final = (
    *("listing_id", "group", "title", "description"),
    *("price", "lat", "lon", "created_at", "colour", "brand"),
)
COLUMNS: Final = ("image_id", *ATTRIBUTES, "photo", "fingerprint", "short", "long")


class OldBucket:
    """The newest version of a Lance dataset.

    Attributes
    ----------
    rows : int
        Without those that are deleted.
    written : datetime
        When the last commit was made, as Lance recorded it: a copy of the files does not change it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        lance = _lance()
        with _readable(path):
            self._dataset = lance.dataset(str(path))
            self.rows: int = self._dataset.count_rows()
            # Lance gives the time of this machine's zone, without saying so.
            self.written: datetime = self._dataset.versions()[-1]["timestamp"].astimezone(UTC)

    def batches(self, columns: Sequence[str] = COLUMNS) -> Iterator[pa.RecordBatch]:
        """Read all rows, those of older commits first.

        Raises
        ------
        StoreUnavailable
            A file of Lance is missing or damaged.
        """
        with _readable(self.path):
            # Without these limits Lance reads 16 batches ahead of each of several files.
            yield from self._dataset.scanner(
                columns=list(columns),
                batch_size=BATCH_ROWS,
                batch_readahead=2,
                fragment_readahead=1,
                scan_in_order=True,
            ).to_batches()

    def sample(self, count: int) -> pa.RecordBatch | None:
        """Read some rows, chosen by chance; None if there are none."""
        chosen = np.random.default_rng(self.rows).choice(self.rows, min(count, self.rows), replace=False)
        with _readable(self.path):
            table: pa.Table = self._dataset.take(np.sort(chosen).tolist(), columns=list(COLUMNS))
        return next(iter(table.combine_chunks().to_batches()), None)


class OldVersion:
    """A collection at one model version, as 0.1 wrote it.

    Raises
    ------
    StoreUnavailable, BadModel
        It is damaged.
    StoreMismatch
        Its own model folder is not the one that made its codes.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        manifest = read_manifest(folder)
        if manifest is None:
            raise StoreUnavailable(f"{folder} was not written by lookalike 0.1")
        self.manifest = manifest
        self.model = Location.parse(folder / "model")
        self.spec = read_spec(self.model)
        if self.spec.digest() != manifest.model_digest:
            raise StoreMismatch(
                f"{folder} was encoded by the model {manifest.model} (digest {manifest.model_digest}), but its model "
                f"folder holds {version_of(self.spec)} (digest {self.spec.digest()}); put the right model there"
            )

    @property
    def name(self) -> str:
        """The model version."""
        return self.folder.name

    def buckets(self) -> list[OldBucket]:
        """Open every bucket."""
        return [OldBucket(self.folder / f"buckets/{number:02d}.lance") for number in range(self.manifest.buckets)]

    @contextmanager
    def writers_locked_out(self) -> Iterator[None]:
        """Let a server of 0.1 that still runs wait with its commits; after this block it no longer finds the buckets.

        So it acknowledges nothing that would be lost.
        """
        with ExitStack() as locks:
            for number in range(self.manifest.buckets):
                locks.enter_context(local.locked(self.folder / f"buckets/{number:02d}.lock"))
            yield


def read_manifest(folder: Path) -> Manifest | None:
    """Read the manifest of 0.1; None if there is none, or one of another format.

    Raises
    ------
    StoreUnavailable
        It is damaged.
    """
    path = folder / "manifest.json"
    try:
        content = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    written = format_of(content)
    if written is not None and written != FORMAT:
        return None
    try:
        return Manifest.model_validate_json(content)
    except ValidationError as error:
        raise StoreUnavailable(f"{path} is damaged: {error.errors()[0]['msg']}") from error


def _lance() -> Any:
    try:
        import lance
    except ImportError as error:
        raise LookalikeError(
            "reading a store of version 0.1 needs Lance: pip install 'lookalike[upgrade]', then run this again"
        ) from error
    return lance


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Say what Lance could not read as our kind of error."""
    try:
        yield
    except LookalikeError:
        raise
    except BaseException as error:
        # Lance panics on some damaged files, and a panic of Rust is no Exception. Its type cannot be imported.
        if isinstance(error, (OSError, ValueError, RuntimeError)) or type(error).__name__ == "PanicException":
            raise StoreUnavailable(f"cannot read the bucket {path}: {' '.join(str(error).split())[:500]}") from error
        raise
