"""The drawn catalogue: repeatable, true, and not to be confused with anybody's folder."""

import csv
import hashlib
import multiprocessing
import signal
import time
from pathlib import Path
from random import Random

import numpy as np
import pytest

from lookalike.errors import BadCatalogue
from lookalike.ingest.catalogue.catalogue import Catalogue, Entry
from lookalike.ingest.demo import garments, sample
from lookalike.ingest.photos.decode import decode
from lookalike.ingest.photos.fetch import read_photo


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "catalog.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sample.draw(tmp_path_factory.mktemp("sample") / "new" / "folder", images=240, seed=3)


def test_draw_gives_the_same_bytes_for_a_seed_and_others_for_another(drawn: Path, tmp_path: Path) -> None:
    again = sample.draw(tmp_path / "again", images=20, seed=3)
    other = sample.draw(tmp_path / "other", images=20, seed=4)
    first, same, different = (digests(folder / "images") for folder in (drawn, again, other))
    assert len(same) == 20
    assert all(first[name] == digest for name, digest in same.items())  # and a small sample begins a large one
    assert not set(same.values()) & set(different.values())
    assert rows(again) == rows(drawn)[:20]


def test_draw_makes_a_catalogue_without_a_problem_whose_truth_agrees_with_its_columns(drawn: Path) -> None:
    catalogue = Catalogue.open(drawn)
    entries = [entry for entry in catalogue if isinstance(entry, Entry) and not entry.notes]
    assert len(entries) == catalogue.estimate() == 240
    assert catalogue.ignored_columns == ["kind", "pattern", "cluster"]
    for entry, row in zip(entries, rows(drawn), strict=True):
        assert row["cluster"] == f"{row['pattern']} {entry.attributes.colour} {row['kind']}"
        assert entry.image_id.startswith(entry.attributes.listing_id + "/")
        assert entry.attributes.price is not None
        assert entry.attributes.lat is not None
        assert entry.attributes.created_at is not None
    assert any(entry.image_id.endswith("/2") for entry in entries)


def test_draw_makes_clusters_of_eight_to_twelve_photos_of_several_listings(drawn: Path) -> None:
    clusters: dict[str, list[str]] = {}
    for row in rows(drawn):
        clusters.setdefault(row["cluster"], []).append(row["listing_id"])
    whole = list(clusters.values())[:-1]  # the last may be cut off
    assert len(whole) >= 19
    assert all(8 <= len(listings) <= 12 and len(set(listings)) >= 3 for listings in whole)


def test_garments_lie_inside_their_frame_and_in_the_tree() -> None:
    assert set(sample._LEVELS) == set(garments.KINDS)
    for kind, made in garments.KINDS.items():
        for seed in range(20):
            points = np.concatenate([part.points for part in made(Random(f"{kind}/{seed}"))])
            assert np.abs(points).max() < 1.35, kind


def middle_colour(pixels: np.ndarray) -> np.ndarray:
    """The median of the middle third."""
    third = len(pixels) // 3
    middle: np.ndarray = np.median(pixels[third:-third, third:-third].reshape(-1, 3), axis=0)
    return middle


def test_draw_makes_plain_garments_of_one_colour_nearest_to_each_other(drawn: Path) -> None:
    plain = [row for row in rows(drawn) if row["pattern"] == "plain"]
    colours = np.array([row["colour"] for row in plain])
    listings = np.array([row["listing_id"] for row in plain])
    seen = np.stack([middle_colour(decode(read_photo(row["file"], drawn), 48)) for row in plain])
    apart = np.abs(seen[:, None] - seen[None]).sum(axis=-1)
    apart[listings[:, None] == listings] = np.inf  # another listing's photo must be found
    nearest = colours[apart.argmin(axis=1)]
    chance = max(np.mean(colours == colour) for colour in colours)
    assert len(set(colours)) >= 4
    assert np.mean(nearest == colours) > max(0.8, chance + 0.3)


def test_draw_draws_nothing_twice_and_what_is_missing_again(tmp_path: Path) -> None:
    folder = sample.draw(tmp_path / "s", images=6)
    before = digests(folder)
    times = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    sample.draw(folder, images=6)
    assert times == {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    (folder / "images" / "0000003.jpg").unlink()
    (folder / "catalog.csv").unlink()
    done: list[int] = []
    sample.draw(folder, images=6, progress=done.append)
    assert digests(folder) == before
    assert done == [1] * 6


def test_draw_completes_what_a_killed_call_began(tmp_path: Path) -> None:
    folder = tmp_path / "killed"
    child = multiprocessing.get_context("spawn").Process(target=sample.draw, args=(folder, 60))
    child.start()
    deadline = time.monotonic() + 60
    while len(list(folder.glob("images/*.jpg"))) < 5 and time.monotonic() < deadline:
        time.sleep(0.01)
    child.kill()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    assert not (folder / "catalog.csv").exists()
    sample.draw(folder, 60)
    undisturbed = digests(sample.draw(tmp_path / "undisturbed", 60))
    assert {name: digest for name, digest in digests(folder).items() if "/." not in name} == undisturbed
    assert len(list(Catalogue.open(folder))) == 60


def test_draw_touches_no_folder_of_somebody_else(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").write_bytes(b"mine")
    with pytest.raises(BadCatalogue, match="not empty"):
        sample.draw(tmp_path, images=1)
    assert [path.name for path in tmp_path.iterdir()] == ["holiday.jpg"]
    folder = sample.draw(tmp_path / "s", images=1)
    with pytest.raises(BadCatalogue, match="another sample"):
        sample.draw(folder, images=1, seed=1)
    with pytest.raises(ValueError, match="images"):
        sample.draw(tmp_path / "none", images=0)
    assert not (tmp_path / "none").exists()
