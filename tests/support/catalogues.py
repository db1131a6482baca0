"""Small catalogues on disk, and their only row."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from lookalike.ingest.catalogue.catalogue import Catalogue, Entry, Problem


def photo(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (16, 16), "red").save(path)
    return path


def table(folder: Path, text: str | bytes, name: str = "catalog.csv") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def only_entry(path: Path) -> Entry:
    (entry,) = Catalogue.open(path)
    assert isinstance(entry, Entry), entry
    return entry


def only_problem(path: Path) -> Problem:
    (problem,) = Catalogue.open(path)
    assert isinstance(problem, Problem), problem
    return problem
