"""A model fitted to the photos of a catalogue, some of which are none."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("keras", reason="needs the cpu or gpu extra")

from PIL import Image
from support.models import boxes

from lookalike import storage
from lookalike.errors import BadCatalogue
from lookalike.ingest.catalogue.catalogue import Catalogue
from lookalike.model.saved_model import load
from lookalike.storage import Location
from lookalike.training.unsupervised.from_catalogue import fit_on_catalogue


def write_photos(folder: Path, count: int, unreadable: int) -> None:
    folder.mkdir()
    for number, pixels in enumerate(boxes(count, side_px=128)):
        Image.fromarray(pixels).save(folder / f"{number}.png")
    for number in range(unreadable):
        (folder / f"damaged{number}.png").write_bytes(b"no photo")


def test_fit_on_catalogue_passes_over_what_cannot_be_read(tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", 12, unreadable=3)
    catalogue = Catalogue.open(tmp_path / "photos")
    seen: list[int] = []
    fit_on_catalogue(catalogue, tmp_path / "one", sample=100, seed=1, progress=seen.append)
    fit_on_catalogue(catalogue, tmp_path / "again", sample=100, seed=1)
    assert seen == [1] * 12
    one, again = load(tmp_path / "one"), load(tmp_path / "again")
    assert one.spec == again.spec
    assert "fitted on 12 photos" in one.card


def test_fit_on_catalogue_fits_the_same_model_to_photos_on_s3(s3_root: Location, tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", 6, unreadable=1)
    storage.copy_tree(Location.parse(tmp_path / "photos"), s3_root / "photos")
    catalogues: tuple[Path | Location, ...] = (tmp_path / "photos", s3_root / "photos")
    for number, catalogue in enumerate(catalogues):
        fit_on_catalogue(Catalogue.open(catalogue), tmp_path / f"model-{number}")
    assert load(tmp_path / "model-0").spec == load(tmp_path / "model-1").spec


def test_fit_on_catalogue_needs_two_photos(tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", 1, unreadable=2)
    with pytest.raises(BadCatalogue, match="has 1 readable photos; a model needs at least 2"):
        fit_on_catalogue(Catalogue.open(tmp_path / "photos"), tmp_path / "m")
    assert not (tmp_path / "m").exists()
