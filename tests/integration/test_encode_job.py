"""The encoding job as users run it: killed, repeated, fed with broken photos, and with another model."""

from __future__ import annotations

import csv
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from support.models import tiny_model
from support.photos import png_header
from support.processes import lookalike
from support.stores import collection_in, titles

from lookalike import storage
from lookalike.errors import LookalikeError
from lookalike.ingest.photos.decode import decode
from lookalike.ingest.store.alias import alias
from lookalike.ingest.store.collection import Collection
from lookalike.ingest.store.rows import SCHEMA, codes_array
from lookalike.model.encoder import Encoder
from lookalike.model.saved_model import save
from lookalike.storage import Location

pytestmark = pytest.mark.integration


def contents(collection: Collection) -> pa.Table:
    """Every row of a collection, by id, but for the times and numbers of its commits."""
    tables = [SCHEMA.empty_table()]
    for bucket in collection.buckets:
        batches = bucket.changes(bucket.head(), 0, SCHEMA.names, lambda error: pytest.fail(str(error)))
        tables.extend(pa.Table.from_batches([batch]) for batch in batches)
    return pa.concat_tables(tables).sort_by("image_id").drop_columns(["sequence", "stamp"])


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that encodes quickly."""
    folder = tmp_path_factory.mktemp("model") / "tiny"
    save(tiny_model(), folder)
    return folder


def start(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "lookalike.cluster.cli.main", *arguments]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def count(root: Path) -> int:
    try:
        return collection_in(root).count()
    except LookalikeError:  # it is not made yet
        return 0


def until_begun(root: Path, job: subprocess.Popen[str], images: int) -> int:
    while not 0 < (done := count(root)) < images:
        assert job.poll() is None, "the job ended before it could be stopped"
        time.sleep(0.02)
    return done


def test_encode_that_was_killed_goes_on_and_ends_as_if_undisturbed(sample: Path, store: Path, tmp_path: Path) -> None:
    model = str(collection_in(store).model_location.path)
    root = tmp_path / "killed"
    arguments = [str(sample), "--store", str(root), "--model", model, "--buckets", "5", "--commit-every", "20"]
    expected = contents(collection_in(store))
    job = start("encode", *arguments)
    done = until_begun(root, job, len(expected))
    job.kill()
    job.communicate()
    again = json.loads(lookalike("encode", *arguments, "--json").stdout)
    assert again["unchanged"] >= done
    assert again["encoded"] + again["unchanged"] == len(expected)
    assert again["encoded"] > 0
    assert contents(collection_in(root)).equals(expected)


def test_encode_ends_soon_at_ctrl_c_and_keeps_what_it_has_done(sample: Path, store: Path, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    shutil.copytree(sample / "images", photos / "images")
    files = sorted((sample / "images").rglob("*.jpg"))
    table = [f"{n},images/{files[n % len(files)].relative_to(sample / 'images')}" for n in range(20_000)]
    (photos / "catalog.csv").write_text("\n".join(["image_id,file", *table]))
    root = tmp_path / "stopped"
    model = str(collection_in(store).model_location.path)
    job = start("encode", str(photos), "--store", str(root), "--model", model, "--commit-every", "50")
    done = until_begun(root, job, 20_000)
    job.send_signal(signal.SIGINT)
    _, said = job.communicate(timeout=30)
    assert (job.returncode, "Error: stopped" in said, "Traceback" in said) == (1, True, False), said
    assert done <= count(root) < 20_000


def test_encode_leaves_broken_photos_out_and_says_why(sample: Path, model: Path, tmp_path: Path) -> None:
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
    root = tmp_path / "store"
    report = json.loads(lookalike("encode", str(photos), "--store", str(root), "--model", str(model), "--json").stdout)
    assert (report["encoded"], report["left_out"]) == (3, 5)
    collection = collection_in(root)
    lines = [json.loads(line) for line in storage.read(collection.report_location).splitlines()]
    reasons = {line["file"]: line["reason"] for line in lines}
    assert reasons.keys() == {"truncated.jpg", "text.jpg", "empty.jpg", "bomb.png", "large.jpg"}
    words = {"truncated.jpg": "trunc", "empty.jpg": "empty", "bomb.png": "pixels", "large.jpg": "bytes"}
    for file, word in words.items():
        assert word in reasons[file], reasons[file]
    assert contents(collection)["image_id"].to_pylist() == sorted(path.name for path in good)


def test_encode_gives_the_codes_of_the_photo_alone(sample: Path, store: Path, encoder: Encoder) -> None:
    """Encoded again one at a time, in another process and another order, each photo has its stored codes."""
    collection = collection_in(store)
    rows = contents(collection).take(np.random.default_rng(0).permutation(40))
    short, long = (
        codes_array(rows[name], words) for name, words in (("short", 1), ("long", collection.spec.long_words))
    )
    assert collection.spec.short_words == short.shape[1]
    for number, row in enumerate(rows.select(["photo"]).to_pylist()):
        root, name = collection.sources.resolve(row["photo"])
        codes = encoder.encode(decode(storage.read(root / name), encoder.spec.input_px)[None])
        assert codes.short[0].tolist() == short[number].tolist()
        assert codes.long[0].tolist() == long[number].tolist()


def test_encode_with_another_model_moves_to_it_only_when_nothing_is_missing(
    sample: Path, model: Path, tmp_path: Path
) -> None:
    """A photo is missing, then by force without it; and back by ``store switch`` to the version that still has it."""
    photos = tmp_path / "photos"
    shutil.copytree(sample, photos)
    with (photos / "catalog.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))[:30]
    with (photos / "catalog.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, rows[0].keys())
        table.writeheader()
        table.writerows(rows)
    other = tmp_path / "other"
    save(tiny_model(seed=1), other)
    root = tmp_path / "store"
    arguments = [str(photos), "--store", str(root)]
    lookalike("encode", *arguments, "--model", str(model))
    first = collection_in(root)
    missing = photos / rows[0]["file"]
    missing.rename(tmp_path / "missing.jpg")

    refused = lookalike("encode", *arguments, "--model", str(other), check=False)
    assert refused.returncode == 1
    assert "stays served" in refused.stderr
    assert rows[0]["image_id"] in refused.stderr
    assert "Traceback" not in refused.stderr
    assert alias(Location.parse(root), "default") == first.version

    forced = json.loads(lookalike("encode", *arguments, "--model", str(other), "--force", "--json").stdout)
    second = collection_in(root)
    assert second.version != first.version
    assert forced["left_out"] == 1
    assert titles(first).keys() - titles(second).keys() == {rows[0]["image_id"]}

    listed = json.loads(lookalike("store", "versions", str(root), "--json").stdout)["collections"]["default"]
    assert {one["version"]: (one["served"], one["images"]) for one in listed} == {
        first.version: (False, 30),
        second.version: (True, 29),
    }
    (tmp_path / "missing.jpg").rename(missing)
    lookalike("store", "switch", str(root), first.version, "--force")
    assert collection_in(root).version == first.version
    assert titles(first).keys() == {row["image_id"] for row in rows}
