"""What is served of a store that is partly broken, and what is refused before anything starts."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path

import pytest
from support.models import tiny_model
from support.stores import new_collection, rows_of
from support.unreachable import unreachable

from lookalike.cluster.deploy import local
from lookalike.cluster.deploy.local import (
    FIRST_PORT,
    LAST_PORT,
    PORTS,
    BadPlan,
    PortTaken,
    check_port,
    open_collections,
    own_ports,
    plan_of,
    unusable_models,
)
from lookalike.cluster.settings import Settings
from lookalike.errors import DiskFull, StoreUnavailable
from lookalike.ingest.store.collection import Collection
from lookalike.model import saved_model
from lookalike.storage import Location
from lookalike.storage.local import Disk


@pytest.fixture
def collection(tmp_path: Path) -> Collection:
    collection = new_collection(tmp_path, 4)
    collection.put(rows_of([str(n) for n in range(40)]))
    return collection


def test_open_collections_leaves_out_what_is_broken_with_its_reason(collection: Collection, tmp_path: Path) -> None:
    for name in ("no-manifest", "no-model", "bad-alias", "out-of-reach"):
        new_collection(tmp_path, 2, name)
    version = collection.version
    (tmp_path / "no-manifest" / version / "manifest.json").unlink()
    (tmp_path / "no-model" / version / "model" / "model.json").write_text("{")
    (tmp_path / "bad-alias" / "alias").write_text("../..")
    with unreachable(tmp_path / "out-of-reach" / version / "manifest.json"):
        opened, unavailable = open_collections(collection.root)
    assert opened.keys() == {"default"}
    assert unavailable.keys() == {"no-manifest", "no-model", "bad-alias", "out-of-reach"}
    assert "manifest.json is missing" in unavailable["no-manifest"]
    assert "model.json is damaged" in unavailable["no-model"]
    assert "alias is damaged" in unavailable["bad-alias"]
    assert "cannot read" in unavailable["out-of-reach"]


def test_open_collections_refuses_a_store_with_nothing_to_serve(collection: Collection, tmp_path: Path) -> None:
    (collection.folder / "alias").path.write_text("?")
    with pytest.raises(StoreUnavailable, match="alias is damaged"):
        open_collections(collection.root)
    with pytest.raises(StoreUnavailable, match="holds no collection; make one with `lookalike encode`"):
        open_collections(Location.parse(tmp_path / "empty"))


def test_open_collections_names_one_whose_alias_is_missing(collection: Collection, tmp_path: Path) -> None:
    lost = new_collection(tmp_path, 2, "lost")
    (lost.folder / "alias").path.unlink()
    opened, unavailable = open_collections(collection.root)
    assert opened.keys() == {"default"}
    assert unavailable.keys() == {"lost"}
    assert "alias is missing" in unavailable["lost"]
    assert lost.version in unavailable["lost"]


class FullDisk(Disk):
    def create(self, path: Path) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


def test_open_collections_serves_a_store_whose_disk_is_full(
    collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lookalike.storage.local.disk", FullDisk())
    with pytest.raises(DiskFull):
        collection.check_writable()
    opened, unavailable = open_collections(collection.root)
    assert opened.keys() == {"default"}
    assert unavailable == {}


def test_check_port_refuses_one_that_is_taken() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(PortTaken, match="choose another --port"):
            check_port("127.0.0.1", taken.getsockname()[1])
        free = taken.getsockname()[1]
    check_port("127.0.0.1", free)


def settings(collection: Collection, **values: int) -> Settings:
    return Settings.model_validate({"store": str(collection.root), **values})


def test_plan_has_one_shard_unless_told_otherwise(collection: Collection) -> None:
    plan = plan_of(collection, settings(collection))
    assert (plan.shards, plan.replicas) == (((0, 1, 2, 3),), 1)
    plan = plan_of(collection, settings(collection, shards=2, replicas=3))
    assert (plan.shards, plan.replicas) == (((0, 1), (2, 3)), 3)
    with pytest.raises(BadPlan, match="'default': 5 shards cannot share 4 buckets"):
        plan_of(collection, settings(collection, shards=5))


@pytest.mark.parametrize("damaged", saved_model.FILES)
def test_unusable_models_names_a_model_of_which_any_file_is_damaged(tmp_path: Path, damaged: str) -> None:
    saved_model.save(tiny_model(), tmp_path / "model")
    root, model = Location.parse(tmp_path / "store"), Location.parse(tmp_path / "model")
    opened = {name: Collection.create(root, name, model, 1) for name in ("broken", "good")}
    assert unusable_models(opened) == {}
    (opened["broken"].model_location / damaged).path.write_bytes(b"?")
    unusable = unusable_models(opened)
    assert unusable.keys() == {"broken"}
    assert damaged in unusable["broken"]


def test_own_ports_are_those_of_no_other_server() -> None:
    with own_ports() as one, own_ports() as other, own_ports() as third:
        assert len({*one, *other, *third}) == len(one) + len(other) + len(third) == 3 * (PORTS - 1)
        assert {*one, *other, *third} <= set(range(FIRST_PORT, LAST_PORT + 1))


def test_own_ports_are_free_again_when_the_server_has_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "LAST_PORT", FIRST_PORT + 2 * PORTS - 1)
    with own_ports() as one:
        with own_ports() as other:
            assert set(one).isdisjoint(other)
            with pytest.raises(PortTaken, match="every range of ports is taken"), own_ports():
                pass
        with own_ports() as again:
            assert again == other
