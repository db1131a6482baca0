"""Place the shards and watch them. Detached and restarted by Ray; all that it knows can be found out again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path

import ray
from ray.actor import ActorHandle
from ray.exceptions import RayError

from lookalike.actors.placement import Plan
from lookalike.actors.shard import ShardActor, ShardStatus

logger = logging.getLogger(__name__)

NAMESPACE = "lookalike"
NAME = "supervisor"
WATCH_S = 2.0
# A shard that is loading does not answer: 25 million rows load in about a minute from a local disk.
HUNG_S = 900.0

Routes = dict[str, list[list[ActorHandle]]]


class Supervisor:
    """Keep every replica of every shard running, and say where they are.

    The replicas are named and detached, so a supervisor that was restarted finds those that its forerunner made.
    """

    def __init__(self, root: Path, plans: Sequence[Plan]) -> None:
        self._routes = {plan.collection: _place(root, plan) for plan in plans}
        self._watching = asyncio.ensure_future(self._watch())

    async def routes(self) -> Routes:
        """The replicas of every shard of every collection."""
        return self._routes

    async def wait_until_loaded(self) -> None:
        """Return when every replica answers. A replica that cannot be built raises its reason."""
        await asyncio.gather(*(r.status.remote() for shards in self._routes.values() for rs in shards for r in rs))

    async def status(self) -> dict[str, list[list[ShardStatus | None]]]:
        """What every replica says of itself; None for one that does not answer within a second."""
        return {name: await _ask_all(shards) for name, shards in self._routes.items()}

    async def _watch(self) -> None:
        """Kill replicas that hang; Ray starts them again, as it does those that die by themselves."""
        silent: dict[ActorHandle, float] = {}
        while True:
            await asyncio.sleep(WATCH_S)
            for name, answers in (await self.status()).items():
                for replicas, statuses in zip(self._routes[name], answers, strict=True):
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


def start_supervisor(root: Path, plans: Sequence[Plan]) -> ActorHandle:
    """Start the supervisor and, through it, the shards; or find the one that runs."""
    actor = ray.remote(num_cpus=0, max_restarts=-1)(Supervisor)
    options = actor.options(name=NAME, namespace=NAMESPACE, lifetime="detached", get_if_exists=True)
    return options.remote(root, tuple(plans))


def find_supervisor() -> ActorHandle:
    """Find the supervisor of this cluster."""
    return ray.get_actor(NAME, namespace=NAMESPACE)


def _place(root: Path, plan: Plan) -> list[list[ActorHandle]]:
    return [
        [_replica(root, plan, shard, replica) for replica in range(plan.replicas)] for shard in range(len(plan.shards))
    ]


def _replica(root: Path, plan: Plan, shard: int, replica: int) -> ActorHandle:
    # SPREAD puts the copies of a shard on different nodes where there are any. Two threads: a search, and a
    # question for the status meanwhile.
    actor = ray.remote(num_cpus=0, max_restarts=-1, max_concurrency=2)(ShardActor)
    return actor.options(
        name=f"{plan.collection}-{plan.version}-{shard}-of-{len(plan.shards)}-copy-{replica}",
        namespace=NAMESPACE,
        lifetime="detached",
        get_if_exists=True,
        scheduling_strategy="SPREAD",
    ).remote(root, plan.collection, plan.version, plan.shards[shard])


async def _ask_all(shards: Sequence[Sequence[ActorHandle]]) -> list[list[ShardStatus | None]]:
    return [await asyncio.gather(*(_ask(replica) for replica in replicas)) for replicas in shards]


async def _ask(replica: ActorHandle) -> ShardStatus | None:
    try:
        status: ShardStatus = await asyncio.wait_for(replica.status.remote(), timeout=1.0)
    except (TimeoutError, RayError):
        return None
    return status
