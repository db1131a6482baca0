"""Which model encodes a catalogue, and when the result is served."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from lookalike.ingest.catalogue.reader import Catalogue
from support.stores import write_spec

from lookalike.cluster.deploy.encode import collection_for, encode_and_publish
from lookalike.ingest.demo.sample import draw
from lookalike.ingest.store.collection import Store

IMAGES = 6


class Steps:
    """A progress that keeps what it was shown: label, total, done."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, int, int]] = []

    @contextmanager
    def __call__(self, label: str, total: int, unit: str) -> Iterator[Callable[[int], None]]:
        done: list[int] = []
        yield done.append
        self.seen.append((label, total, sum(done)))


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> Catalogue:
    folder = tmp_path_factory.mktemp("sample") / "catalogue"
    draw(folder, IMAGES, 0, lambda _: None)
    return Catalogue.open(folder)


def test_collection_for_takes_the_model_given_before_the_collections_own(catalogue: Catalogue, tmp_path: Path) -> None:
    steps = Steps()
    one, other = (write_spec(tmp_path / name, name=name, arrays=digit * 64) for name, digit in (("a", "1"), ("b", "2")))
    first = collection_for(catalogue, tmp_path / "store", "default", one, 2, steps)
    again = collection_for(catalogue, tmp_path / "store", "default", None, 2, steps)
    changed = collection_for(catalogue, tmp_path / "store", "default", other, 2, steps)
    assert first.store.version == again.store.version != changed.store.version
    assert [target.fitted for target in (first, again, changed)] == [False] * 3
    assert steps.seen == []


def test_collection_for_refuses_a_name_before_it_does_anything(catalogue: Catalogue, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="No Name"):
        collection_for(catalogue, tmp_path / "store", "No Name", None, 2, Steps())
    assert not (tmp_path / "store").exists()


def test_encode_and_publish_serves_a_fitted_collection_and_finds_it_unchanged(
    catalogue: Catalogue, tmp_path: Path
) -> None:
    steps = Steps()
    target = collection_for(catalogue, tmp_path, "default", None, 2, steps)
    assert target.fitted
    report = encode_and_publish(catalogue, target.store, 4, steps)
    assert (report.encoded, report.unchanged, report.problems) == (IMAGES, 0, [])
    assert Store.open(tmp_path, "default").version == target.store.version
    again = collection_for(catalogue, tmp_path, "default", None, 2, steps)
    assert not again.fitted
    report = encode_and_publish(catalogue, again.store, 4, steps)
    assert (report.encoded, report.unchanged) == (0, IMAGES)
    assert [(total, done) for _, total, done in steps.seen] == [(IMAGES, IMAGES)] * 3
