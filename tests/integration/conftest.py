"""One sample catalogue, one store and one server for all integration tests; each is made once."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.processes import Server, lookalike, running
from support.s3 import faults, s3_root, s3_server
from support.stores import collection_in

from lookalike.model.encoder import Encoder

__all__ = ["faults", "s3_root", "s3_server"]

IMAGES = 240


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A drawn catalogue."""
    folder = tmp_path_factory.mktemp("sample") / "catalogue"
    lookalike("sample", str(folder), "--images", str(IMAGES))
    return folder


@pytest.fixture(scope="session")
def ids(sample: Path) -> list[str]:
    """The image ids of the drawn catalogue, in its order."""
    with (sample / "catalog.csv").open(newline="") as file:
        return [row["image_id"] for row in csv.DictReader(file)]


@pytest.fixture(scope="session")
def store(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The drawn catalogue, encoded."""
    root = tmp_path_factory.mktemp("store")
    lookalike("encode", str(sample), "--store", str(root), "--buckets", "5")
    return root


@pytest.fixture(scope="session")
def encoder(store: Path) -> Encoder:
    """The store's model, in this process."""
    return Encoder(collection_in(store).model_location.path)


@pytest.fixture(scope="session")
def server(sample: Path, ids: list[str], store: Path) -> Iterator[Server]:
    """A server with two shards over the drawn catalogue. A test that writes puts back what it found."""
    with running(store, "--shards", "2", "--candidates-per-hit", "4") as (url, process):
        yield Server(url, sample, ids, store, process)
