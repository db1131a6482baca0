"""Place the shards and writers and watch them. Detached and restarted by Ray; all it knows can be found out again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

import ray
from ray.actor import ActorHandle
from ray.exceptions import RayError

from lookalike import storage
from lookalike.actors.placement import Plan
from lookalike.actors.shard import ShardActor, ShardStatus
from lookalike.actors.writer import WriterActor, writer_name
from lookalike.errors import LookalikeError
from lookalike.storage import Location, Version

logger = logging.getLogger(__name__)

NAMESPACE = "lookalike"
NAME = "supervisor"
WATCH_S = 2.0
# A shard that is loading does not answer: 25 million rows load in about a minute from a local disk.
HUNG_S = 900.0
# On an object store the supervisor looks at a collection's token for all of its shards: 0.33 requests/s at rest.
REMOTE_TOKEN_POLL_S = 3.0

Routes = dict[str, list[list[ActorHandle]]]


class Supervisor:
    """Keep every replica of every shard running, and say where they are.

    The replicas and writers are named and detached, so a supervisor that was restarted finds those that were made
    before.
    """

    def __init__(self, root: Location, plans: Sequence[Plan]) -> None:
        self._routes = {plan.collection: _place(root, plan) for plan in plans}
        self._writers = [_writer(root, plan, self._routes[plan.collection]) for plan in plans]
        self._tasks = [asyncio.ensure_future(self._watch())]
        if not root.is_local:
            self._tasks += [asyncio.ensure_future(self._poll_token(root, plan)) for plan in plans]

    async def routes(self) -> Routes:
        """The replicas of every shard of every collection."""
        return self._routes

    async def wait_until_loaded(self) -> dict[str, str]:
        """Return when every replica answers. What cannot be loaded is left out: its reason by collection."""
        failed: dict[str, str] = {}
        for name, shards in list(self._routes.items()):
            try:
                await asyncio.gather(*(replica.status.remote() for replicas in shards for replica in replicas))
            except RayError as error:
                failed[name] = str(getattr(error, "cause", None) or error)
                del self._routes[name]
        return failed

    async def status(self) -> dict[str, list[list[ShardStatus | None]]]:
        """What every replica says of itself; None for one that does not answer within a second."""
        return {name: await _ask_all(shards) for name, shards in self._routes.items()}

    async def _poll_token(self, root: Location, plan: Plan) -> None:
        """Tell the shards when the token changed: writers of other clusters, and jobs, cannot."""
        location = root / plan.collection / plan.version / "token"
        version: Version | None = None
        while True:
            await asyncio.sleep(REMOTE_TOKEN_POLL_S)
            try:
                changed = await asyncio.to_thread(storage.read_if_changed, location, version)
            except LookalikeError:
                logger.warning("cannot read %s", location, exc_info=True)
                continue
            if changed is not None:
                version = changed[1]
                for replicas in self._routes.get(plan.collection, ()):
                    for replica in replicas:
                        replica.notify.remote()

    async def _watch(self) -> None:
        """Kill replicas that hang; Ray starts them again, as it does those that die by themselves."""
        silent: dict[ActorHandle, float] = {}
        while True:
            await asyncio.sleep(WATCH_S)
            for name, answers in (await self.status()).items():
                for replicas, statuses in zip(self._routes.get(name, ()), answers, strict=True):
                    for replica, status in zip(replicas, statuses, strict=True):
                        silent[replica] = 0.0 if status else silent.get(replica, 0.0) + WATCH_S
                        if silent[replica] > HUNG_S:
                            _restart(replica, name)
                            silent[replica] = 0.0


def _restart(replica: ActorHandle, collection: str) -> None:
    logger.error("a replica of a shard of %s hangs: restarting it", collection)
    try:
        ray.kill(replica, no_restart=False)
    except RayError:
        logger.exception("cannot restart it")


def start_supervisor(root: Location, plans: Sequence[Plan]) -> ActorHandle:
    """Start the supervisor and, through it, the shards; or find the one that runs."""
    actor = ray.remote(num_cpus=0, max_restarts=-1)(Supervisor)
    options = actor.options(name=NAME, namespace=NAMESPACE, lifetime="detached", get_if_exists=True)
    return options.remote(root, tuple(plans))


def find_supervisor() -> ActorHandle:
    """Find the supervisor of this cluster."""
    return ray.get_actor(NAME, namespace=NAMESPACE)


def _place(root: Location, plan: Plan) -> list[list[ActorHandle]]:
    return [
        [_replica(root, plan, shard, replica) for replica in range(plan.replicas)] for shard in range(len(plan.shards))
    ]


def _replica(root: Location, plan: Plan, shard: int, replica: int) -> ActorHandle:
    # SPREAD puts the copies of a shard on different nodes where there are any. Three threads: a search, a call for the
    # status, and a notification.
    actor = ray.remote(num_cpus=0, max_restarts=-1, max_concurrency=3)(ShardActor)
    return actor.options(
        name=f"{plan.collection}-{plan.version}-{shard}-of-{len(plan.shards)}-copy-{replica}",
        namespace=NAMESPACE,
        lifetime="detached",
        get_if_exists=True,
        scheduling_strategy="SPREAD",
    ).remote(root, plan.collection, plan.version, plan.shards[shard])


def _writer(root: Location, plan: Plan, shards: Sequence[Sequence[ActorHandle]]) -> ActorHandle:
    # Two threads commit: while one waits for its fsyncs, or for an object store, the other prepares.
    actor = ray.remote(num_cpus=0, max_restarts=-1, max_concurrency=2)(WriterActor)
    return actor.options(
        name=writer_name(plan.collection, plan.version), namespace=NAMESPACE, lifetime="detached", get_if_exists=True
    ).remote(root, plan.collection, plan.version, [replica for replicas in shards for replica in replicas])


async def _ask_all(shards: Sequence[Sequence[ActorHandle]]) -> list[list[ShardStatus | None]]:
    return [await asyncio.gather(*(_ask(replica) for replica in replicas)) for replicas in shards]


async def _ask(replica: ActorHandle) -> ShardStatus | None:
    try:
        status: ShardStatus = await asyncio.wait_for(replica.status.remote(), timeout=1.0)
    except (TimeoutError, RayError):
        return None
    return status
