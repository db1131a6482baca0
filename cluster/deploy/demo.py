"""Where the demo keeps its drawn samples and its stores, so that a second run finds those of the first."""

from __future__ import annotations

import hashlib
from pathlib import Path


def sample_folder(root: Path, images: int) -> Path:
    """The folder of a drawn sample: one for each number of images."""
    return root / f"sample-{images}"


def store_folder(root: Path, photos: Path) -> Path:
    """The folder of a catalogue's store: one for each catalogue, wherever it lies, so that each is encoded once."""
    digest = hashlib.blake2b(str(photos.resolve()).encode(), digest_size=4).hexdigest()
    return root / f"{photos.stem or 'photos'}-{digest}"
