"""``lookalike store``: what its commands print, and how they end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from support.encoders import HashEncoder
from support.stores import new_collection, rows_of, write_spec
from support.version_one import StoreOfVersionOne, codes_of

from lookalike.cluster.cli.main import main
from lookalike.cluster.deploy import encode
from lookalike.ingest.store.collection import Collection
from lookalike.storage import Location


@pytest.fixture
def old(tmp_path: Path) -> StoreOfVersionOne:
    store = StoreOfVersionOne(tmp_path / "store", write_spec(tmp_path / "model"))
    codes = codes_of(store.spec, 0)
    store.upsert([{"image_id": i, "photo": f"{tmp_path}/{i}", "fingerprint": 1, **codes} for i in ("a", "b")])
    return store


def test_store_upgrade_says_what_it_did_and_then_that_nothing_is_to_do(tmp_path: Path, old: StoreOfVersionOne) -> None:
    done = CliRunner().invoke(main, ["store", "upgrade", str(tmp_path / "store")])
    assert done.exit_code == 0, done.output
    assert f"default, {old.version}: 2 rows, 2 taken over, 0 left out" in done.stderr
    assert str(tmp_path / "store/default/v1" / old.version) in done.stderr
    again = CliRunner().invoke(main, ["store", "upgrade", str(tmp_path / "store"), "--collection", "default"])
    assert again.exit_code == 0
    assert "nothing to do" in again.stderr
    as_json = CliRunner().invoke(main, ["store", "upgrade", str(tmp_path / "store"), "--json"])
    assert json.loads(as_json.stdout) == {"versions": []}


def test_store_upgrade_fails_if_something_could_not_be_taken_over(tmp_path: Path, old: StoreOfVersionOne) -> None:
    odd = {"image_id": "a", "price": -1.0, "photo": f"{tmp_path}/a", "fingerprint": 1, **codes_of(old.spec, 0)}
    old.upsert([odd, {**odd, "image_id": "x/photo"}])
    done = CliRunner().invoke(main, ["store", "upgrade", str(tmp_path / "store"), "--json"])
    assert done.exit_code == 1
    (version,) = json.loads(done.stdout)["versions"]
    assert {name: version[name] for name in ("rows", "taken", "left_out", "attributes_unknown")} == {
        "rows": 3,
        "taken": 2,
        "left_out": 1,
        "attributes_unknown": 1,
    }
    assert {problem["image_id"] for problem in version["problems"]} == {"a", "x/photo"}
    assert len(Path(version["report"]).read_text().splitlines()) == 2


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["s3://bucket/store"], 2, "local folders only"),
        (["ftp://x"], 2, "not supported"),
        (["{store}", "--collection", "../x"], 2, "a collection is named"),
        (["{store}", "--collection", "shoes"], 1, "no collection 'shoes'"),
        (["{store}/nowhere"], 1, "there is no collection"),
    ],
)
def test_store_upgrade_refuses_what_is_no_store_of_version_one(
    tmp_path: Path, old: StoreOfVersionOne, arguments: list[str], status: int, message: str
) -> None:
    given = [argument.format(store=tmp_path / "store") for argument in arguments]
    done = CliRunner().invoke(main, ["store", "upgrade", *given])
    assert (done.exit_code, message in done.stderr) == (status, True), done.stderr
    assert (old.folder / "head").exists()


def test_store_upgrade_without_lance_says_what_to_install(tmp_path: Path, old: StoreOfVersionOne) -> None:
    code = "import sys; sys.modules['lance'] = None; from lookalike.cluster.cli.main import main; main()"
    command = [sys.executable, "-c", code, "store", "upgrade", str(tmp_path / "store")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "pip install 'lookalike[upgrade]'" in done.stderr
    assert (old.folder / "head").exists()


def test_store_clean_removes_old_drafts_and_nothing_else(tmp_path: Path) -> None:
    collection = new_collection(tmp_path / "store")
    collection.put(rows_of(["a"]))
    old, young = (tmp_path / "store" / f".draft.{letter * 32}" for letter in "ab")
    for draft in (old, young):
        draft.write_bytes(b"half")
    os.utime(old, (0, 0))
    result = CliRunner().invoke(main, ["store", "clean", str(tmp_path / "store")])
    assert (result.exit_code, result.stderr) == (0, "1 drafts and unfinished uploads removed\n")
    assert (old.exists(), young.exists()) == (False, True)
    assert list(collection.find(["a"])) == ["a"]


@pytest.fixture
def served(tmp_path: Path) -> Collection:
    """A collection of which a second model version is begun."""
    collection = new_collection(tmp_path / "new", 2)
    collection.put(rows_of(["a", "b"]))
    model = Location.parse(write_spec(tmp_path / "other", arrays="1" * 64))
    Collection.create(collection.root, collection.name, model, 2)
    return collection


def test_store_versions_lists_them_and_says_which_is_served(served: Collection) -> None:
    done = CliRunner().invoke(main, ["store", "versions", str(served.root)])
    assert done.exit_code == 0, done.output
    lines = [line.split("\t") for line in done.stdout.splitlines()]
    assert ["default", served.version, "served", "2 images"] in lines
    assert [line[2:] for line in lines if line[1] != served.version] == [["-", "0 images"]]
    as_json = json.loads(CliRunner().invoke(main, ["store", "versions", str(served.root), "--json"]).stdout)
    described = {one["version"]: one for one in as_json["collections"]["default"]}
    assert described[served.version] == {"version": served.version, "served": True, "images": 2, "error": ""}
    assert len(described) == 2


def test_store_versions_and_switch_say_what_there_is_not(served: Collection, tmp_path: Path) -> None:
    for arguments, words in (
        (["versions", str(tmp_path / "none")], "no collection in"),
        (["versions", str(served.root), "--collection", "shoes"], "no collection 'shoes'"),
        (["switch", str(served.root), "tiny-9"], "no model version tiny-9"),
        (["switch", str(served.root), "tiny-9", "--collection", "shoes"], "no collection 'shoes'"),
    ):
        done = CliRunner().invoke(main, ["store", *arguments])
        assert (done.exit_code, words in done.output) == (1, True), done.output
    for arguments in (["switch", str(served.root), "x", "--collection", "No Name"], ["versions", "https://a.example"]):
        assert CliRunner().invoke(main, ["store", *arguments]).exit_code == 2


def test_store_switch_to_the_version_that_is_served_does_nothing(
    served: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encode, "_encoder_of", lambda _: HashEncoder())
    done = CliRunner().invoke(main, ["store", "switch", str(served.root), served.version, "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout) == {"served": served.version, "encoded": 0, "deleted": 0, "left_out": 0}
