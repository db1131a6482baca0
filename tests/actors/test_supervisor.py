"""The supervisor: it places what a plan says, finds it again, restarts what hangs, leaves out what cannot load."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import ray
from ray.actor import ActorHandle
from ray.exceptions import GetTimeoutError, RayError
from support.ray_cluster import kill, pid_of, ray_cluster, until
from support.s3 import Faults, S3Server
from support.stores import new_collection, rows_of
from support.unreachable import unreachable

from lookalike.actors import supervisor as supervisor_module
from lookalike.actors.placement import Plan, cut
from lookalike.actors.supervisor import NAMESPACE, find_supervisor, replica_name, start_supervisor
from lookalike.actors.writer import find_writer
from lookalike.ingest.store.collection import Collection
from lookalike.storage import Location


@pytest.fixture(scope="module")
def cluster(s3_server: S3Server) -> Iterator[None]:
    """A Ray whose supervisor looks often, and whose shards look at S3 by themselves once an hour."""
    own, shard = supervisor_module.__name__, "lookalike.actors.shard"
    quick = {"WATCH_S": 0.3, "HUNG_S": 3.0, "REMOTE_TOKEN_POLL_S": 0.5}
    with ray_cluster({**{f"{own}.{name}": value for name, value in quick.items()}, f"{shard}.REMOTE_POLL_S": 3600.0}):
        yield


def plan_of(collection: Collection, shards: int = 2, replicas: int = 1) -> Plan:
    return Plan(collection.name, collection.version, cut(collection.manifest.buckets, shards), replicas)


class Supervised:
    """A supervisor, and what it placed."""

    def __init__(self, root: Location, plans: list[Plan]) -> None:
        self.actor = start_supervisor(root, plans)
        self.plans = plans
        self.left_out: dict[str, str] = ray.get(self.actor.wait_until_loaded.remote())

    def replicas(self, collection: str) -> list[ActorHandle]:
        routes = ray.get(self.actor.routes.remote())
        return [replica for replicas in routes[collection] for replica in replicas]

    def pids(self, collection: str) -> list[int]:
        return [pid_of(replica) for replica in self.replicas(collection)]

    def rows(self, collection: str) -> list[list[int | None]]:
        """Of each replica of each shard; None for one that does not answer."""
        statuses = ray.get(self.actor.status.remote())[collection]
        return [[replica and replica.rows for replica in replicas] for replicas in statuses]

    def stop(self) -> None:
        ray.kill(self.actor)
        for plan in self.plans:
            names = [replica_name(plan, n, r) for n in range(len(plan.shards)) for r in range(plan.replicas)]
            for name in [*names, f"{plan.collection}/{plan.version}/writer"]:
                if name in {actor["name"] for actor in ray.util.list_named_actors(all_namespaces=True)}:
                    ray.kill(ray.get_actor(name, namespace=NAMESPACE))
        until(lambda: not ray.util.list_named_actors(all_namespaces=True), 20, "actors are left")


def answers(actor: ActorHandle) -> bool:
    try:
        ray.get(actor.ready.remote(), timeout=5)
    except (RayError, GetTimeoutError):
        return False
    return True


def stored(folder: Path) -> Collection:
    collection = new_collection(folder, 4)
    collection.put(rows_of([str(n) for n in range(40)]))
    return collection


def test_supervisor_leaves_out_what_cannot_load_and_serves_the_rest(cluster: None, tmp_path: Path) -> None:
    collection = stored(tmp_path)
    names = ("broken", "out-of-reach", "damaged")
    others = {name: new_collection(tmp_path, 2, name) for name in names}
    for other in others.values():
        other.put(rows_of([str(n) for n in range(20)]))
    (others["broken"].location / "manifest.json").path.write_text("{")
    others["damaged"].buckets[0].head_location.path.write_text("{")
    heads = [bucket.head_location.path for bucket in others["out-of-reach"].buckets]
    with unreachable(heads[0]), unreachable(heads[1]):
        plans = [plan_of(one, 1) for one in (collection, *others.values())]
        supervised = Supervised(collection.root, plans)
    try:
        assert supervised.left_out.keys() == {"broken", "out-of-reach"}
        assert "manifest.json is damaged" in supervised.left_out["broken"]
        assert "head.json" in supervised.left_out["out-of-reach"]
        assert not any("\n" in reason for reason in supervised.left_out.values())
        assert supervised.rows("default") == [[40]]
        assert supervised.rows("damaged") == [[others["damaged"].buckets[1].head().rows]]
        assert ray.get(supervised.actor.routes.remote()).keys() == {"default", "damaged"}
        until(
            lambda: len(ray.util.list_named_actors(all_namespaces=True)) == 1 + 2 * 2,
            20,
            "actors of what is left out still run",
        )
    finally:
        supervised.stop()


def test_supervisor_tells_the_shards_of_commits_of_others_on_s3(
    cluster: None, s3_server: S3Server, faults: Faults
) -> None:
    collection = new_collection(s3_server.new_root(), 2)
    collection.put(rows_of(["a"]))
    supervised = Supervised(collection.root, [plan_of(collection, 1)])
    try:
        assert supervised.rows("default") == [[1]]
        collection.put(rows_of(["b", "c"]))
        until(lambda: supervised.rows("default") == [[3]], 20, "nobody told the shard")
    finally:
        supervised.stop()


# The others share one supervisor, which there can be only one of at a time.


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Collection:
    return stored(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def supervised(cluster: None, collection: Collection) -> Iterator[Supervised]:
    supervised = Supervised(collection.root, [plan_of(collection, shards=2, replicas=2)])
    yield supervised
    supervised.stop()


def test_supervisor_places_what_the_plan_says(supervised: Supervised, collection: Collection) -> None:
    heads = [bucket.head() for bucket in collection.buckets]
    expected = [sum(head.rows for head in half) for half in (heads[:2], heads[2:])]
    assert supervised.left_out == {}
    assert supervised.rows("default") == [[rows, rows] for rows in expected]
    assert len(set(supervised.pids("default"))) == 4
    (plan,) = supervised.plans
    by_name = [ray.get_actor(replica_name(plan, n, r), namespace=NAMESPACE) for n in range(2) for r in range(2)]
    assert [pid_of(actor) for actor in by_name] == supervised.pids("default")
    assert ray.get(find_writer("default", collection.version, NAMESPACE).ready.remote())


def test_supervisor_is_started_once(supervised: Supervised, collection: Collection) -> None:
    again = start_supervisor(collection.root, supervised.plans)
    assert pid_of(again) == pid_of(find_supervisor()) == pid_of(supervised.actor)


def test_supervisor_that_is_killed_finds_what_runs(supervised: Supervised, collection: Collection) -> None:
    before = supervised.pids("default")
    writer = pid_of(find_writer("default", collection.version, NAMESPACE))
    old = pid_of(supervised.actor)
    kill(old)
    until(lambda: _pid_or_none(supervised.actor) not in (None, old), 60, "the supervisor did not come back")
    assert ray.get(supervised.actor.wait_until_loaded.remote()) == {}
    assert supervised.pids("default") == before
    assert pid_of(find_writer("default", collection.version, NAMESPACE)) == writer
    assert len(ray.util.list_named_actors(all_namespaces=True)) == 1 + 4 + 1


def _pid_or_none(actor: ActorHandle) -> int | None:
    try:
        return pid_of(actor)
    except RayError:
        return None


def test_supervisor_restarts_a_replica_that_hangs(supervised: Supervised) -> None:
    victim, *others = supervised.pids("default")
    replica = supervised.replicas("default")[0]
    until(lambda: answers(replica), 10, "it never answered")
    process = psutil.Process(victim)
    process.send_signal(signal.SIGSTOP)
    try:
        until(lambda: None in supervised.rows("default")[0], 10, "the status does not show it")
        until(lambda: not process.is_running() or process.status() == psutil.STATUS_ZOMBIE, 60, "it hangs on")
    finally:
        if process.is_running():
            process.send_signal(signal.SIGCONT)
    until(lambda: None not in supervised.rows("default")[0], 60, "it did not come back")
    first, *rest = supervised.pids("default")
    assert first != victim
    assert rest == others


def test_supervisor_shows_a_replica_that_was_killed_once_it_is_back(supervised: Supervised) -> None:
    victim = supervised.pids("default")[1]
    before = supervised.rows("default")
    os.kill(victim, signal.SIGKILL)
    until(lambda: supervised.rows("default") != before, 10, "nobody noticed")
    until(lambda: supervised.rows("default") == before, 60, "it did not come back")
    assert victim not in supervised.pids("default")
