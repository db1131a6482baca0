"""The deployment by which Serve runs the app.

Serve pickles what it deploys by value, so an app that is made in the process that deploys it travels with all its
routes, and their annotations can no longer be resolved. So it is made in the replica, by the method below that Serve
calls after the constructor (a function passed to ``serve.ingress`` is meant for that, and fails).
"""

from __future__ import annotations

from collections.abc import Mapping

import ray
from ray import serve
from ray.serve.handle import DeploymentHandle
from starlette.types import ASGIApp

from lookalike.actors.encoder import EncoderActor
from lookalike.actors.supervisor import NAMESPACE, find_supervisor
from lookalike.actors.writer import find_writer
from lookalike.cluster.coordinator import remote
from lookalike.cluster.coordinator.collection import ServedCollection
from lookalike.cluster.coordinator.decoding import Decoders
from lookalike.cluster.coordinator.shared_call import SharedCall
from lookalike.cluster.coordinator.warm_up import WarmUp
from lookalike.cluster.http.access import protected
from lookalike.cluster.http.app import create_app
from lookalike.cluster.http.locations import without_locations
from lookalike.cluster.http.state import ServerState
from lookalike.cluster.settings import Settings
from lookalike.ingest.store.collection import Collection

# More than the proxy's connections: what may be in flight of each kind is decided by ``limits``, which refuses at once.
# A number that could be reached would let clients that stall keep everybody waiting, /healthz included.
MAX_ONGOING = 10_000


@serve.deployment(max_ongoing_requests=MAX_ONGOING, ray_actor_options={"num_cpus": 0})
@serve.ingress()
class Ingress:
    """Answer HTTP requests."""

    def __init__(
        self,
        settings: Settings,
        versions: Mapping[str, str],
        encoders: Mapping[str, DeploymentHandle],
        unavailable: Mapping[str, str],
    ) -> None:
        supervisor = find_supervisor()
        routes = ray.get(supervisor.routes.remote())
        decoders = Decoders()
        collections = {
            name: ServedCollection.connect(
                Collection.open(settings.root, name, version),
                settings,
                [[remote.shard_replica(replica) for replica in replicas] for replicas in routes[name]],
                decoders,
                remote.encoder(encoders[name]),
                remote.RemoteWriter(find_writer(name, version, NAMESPACE)),
            )
            for name, version in versions.items()
        }
        reasons = {name: without_locations(reason, settings.root) for name, reason in unavailable.items()}
        statuses = SharedCall(supervisor.status.remote)
        self._state = ServerState(collections, statuses, reasons, WarmUp(collections.values()))
        self._settings = settings

    def __serve_build_asgi_app__(self) -> ASGIApp:
        """Make the app in the replica."""
        return protected(create_app(self._state), self._settings)


def serve_app(
    settings: Settings, stores: Mapping[str, Collection], unavailable: Mapping[str, str]
) -> serve.Application:
    """Bind the ingress and an encoder for each collection; ``unavailable``: reasons of those that are not served."""
    encoder = serve.deployment(EncoderActor, max_ongoing_requests=64, ray_actor_options={"num_cpus": 0})
    encoders = {
        name: encoder.options(name=f"encoder-{name}").bind(store.model_location) for name, store in stores.items()
    }
    versions = {name: store.version for name, store in stores.items()}
    bound: serve.Application = Ingress.bind(settings, versions, encoders, dict(unavailable))  # type: ignore[attr-defined]
    return bound
