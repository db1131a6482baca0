"""``lookalike store``: what its commands print, and how they end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from support.stores import new_collection, rows_of, write_spec
from support.version_one import StoreOfVersionOne, codes_of

from lookalike.cluster.cli.main import main


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
