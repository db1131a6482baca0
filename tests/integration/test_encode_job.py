"""The encoding job: killed, repeated, and fed with broken photos."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from support.photos import png_header
from support.processes import lookalike

from lookalike.errors import StoreUnavailable
from lookalike.ingest.catalogue.catalogue import Catalogue
from lookalike.ingest.encode import EncodeJob, Report
from lookalike.ingest.photos.decode import decode
from lookalike.ingest.photos.fetch import read_photo
from lookalike.ingest.store.collection import Collection
from lookalike.ingest.store.rows import SCHEMA
from lookalike.model.encoder import Encoder
from lookalike.storage import Location

pytestmark = pytest.mark.integration


def contents(root: Path) -> pa.Table:
    """Every row of a collection, by id."""
    collection = opened(root)
    names = [name for name in SCHEMA.names if name != "sequence"]
    tables = []
    for bucket in collection.buckets:
        keys = np.concatenate([b["key"].to_numpy() for b in bucket.changes(bucket.head(), 0, ["key"], _fail)] or [[]])
        tables.append(bucket.look_up(np.unique(keys.astype(np.uint64)), names)[1])
    return pa.concat_tables(tables).sort_by("image_id")


def opened(root: Path) -> Collection:
    return Collection.open(Location.parse(root), "default")


def new(root: Path, like: Path) -> Collection:
    """An empty collection of another's model."""
    return Collection.create(Location.parse(root), "default", opened(like).model_location)


def run(photos: Path, collection: Collection, encoder: Encoder) -> Report:
    return EncodeJob(Catalogue.open(photos), collection, encoder, encoder.spec.input_px).run()


def _fail(error: Exception) -> None:
    raise error


def test_killed_and_started_again_equals_undisturbed(sample: Path, store: Path, tmp_path: Path) -> None:
    model = opened(store).model_location
    killed = tmp_path / "killed"
    arguments = [str(sample), "--store", str(killed), "--model", str(model), "--buckets", "5", "--commit-every", "20"]
    job = subprocess.Popen(
        [sys.executable, "-m", "lookalike.cluster.cli.main", "encode", *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    expected = contents(store)
    while not 0 < (done := _count(killed)) < len(expected):
        assert job.poll() is None, "the job ended before it could be killed"
        time.sleep(0.05)
    job.kill()
    job.wait()
    again = json.loads(lookalike("encode", *arguments, "--json").stdout)
    assert again["unchanged"] >= done
    assert again["encoded"] + again["unchanged"] == len(expected)
    assert again["encoded"] > 0
    assert contents(killed).equals(expected)


def _count(root: Path) -> int:
    try:
        return opened(root).count()
    except StoreUnavailable:
        return 0


def test_second_run_changes_nothing_and_changed_photos_are_encoded_again(
    sample: Path, store: Path, encoder: Encoder, tmp_path: Path
) -> None:
    photos = tmp_path / "photos"
    shutil.copytree(sample, photos)
    own = new(tmp_path / "store", store)
    first, heads = run(photos, own, encoder), [bucket.head() for bucket in own.buckets]
    second = run(photos, own, encoder)
    assert (second.encoded, second.unchanged) == (0, first.encoded)
    assert [bucket.head() for bucket in own.buckets] == heads
    with (photos / "catalog.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    shutil.copy(photos / rows[0]["file"], photos / rows[-1]["file"])
    assert run(photos, own, encoder).encoded == 1
    codes = {row["image_id"]: row["long"] for row in contents(tmp_path / "store").to_pylist()}
    assert codes[rows[0]["image_id"]] == codes[rows[-1]["image_id"]]


def test_broken_photos_are_listed_and_stop_nothing(sample: Path, store: Path, encoder: Encoder, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    good = sorted((sample / "images").rglob("*.jpg"))[:3]
    for path in good:
        shutil.copy(path, photos / path.name)
    whole = good[0].read_bytes()
    (photos / "truncated.jpg").write_bytes(whole[: len(whole) // 2])
    (photos / "text.jpg").write_text("this is no photo")
    (photos / "empty.jpg").write_bytes(b"")
    (photos / "bomb.png").write_bytes(png_header(30_000, 30_000))
    (photos / "large.jpg").write_bytes(whole + bytes(30_000_000))
    own = new(tmp_path / "store", store)
    report = run(photos, own, encoder)
    assert (report.encoded, len(report.problems)) == (3, 5)
    lines = [json.loads(line) for line in own.report_location.path.read_text().splitlines()]
    reasons = {line["file"]: line["reason"] for line in lines}
    assert reasons.keys() == {"truncated.jpg", "text.jpg", "empty.jpg", "bomb.png", "large.jpg"}
    words = {"truncated.jpg": "trunc", "empty.jpg": "empty", "bomb.png": "pixels", "large.jpg": "bytes"}
    for file, word in words.items():
        assert word in reasons[file], reasons[file]
    assert contents(tmp_path / "store")["image_id"].to_pylist() == sorted(path.name for path in good)


def test_codes_are_those_of_the_photo_alone(store: Path, encoder: Encoder) -> None:
    """Encoded again one at a time, in another process and another order, each photo has its stored codes."""
    rows = contents(store).take(np.random.default_rng(0).permutation(40)).to_pylist()
    for row in rows:
        root, name = opened(store).sources.resolve(row["photo"])
        codes = encoder.encode(decode(read_photo(name, root), encoder.spec.input_px)[None])
        assert codes.short[0].astype("<u8").tobytes() == row["short"]
        assert codes.long[0].astype("<u8").tobytes() == row["long"]
