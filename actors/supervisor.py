"""Place the shards and writers and watch them. Detached and restarted by Ray; all it knows can be found out again."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass

import ray
from ray.actor import ActorHandle
from ray.exceptions import RayActorError, RayError, RayTaskError

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
# An actor answers within milliseconds from threads of its own; with memory being swapped it may take seconds.
ANSWER_S = 1.0
HUNG_S = 60.0
# One that loads does not answer: 25 million rows take about a minute from a local disk.
LOADING_S = 900.0
# On an object store the supervisor looks at a collection's token for all of its shards: 0.33 requests/s at rest.
REMOTE_TOKEN_POLL_S = 3.0

Routes = dict[str, list[list[ActorHandle]]]


@dataclass(frozen=True)
class _Placed:
    """The actors of a collection."""

    plan: Plan
    shards: list[list[ActorHandle]]
    writer: ActorHandle

    def actors(self) -> list[ActorHandle]:
        return [self.writer, *(replica for replicas in self.shards for replica in replicas)]


@dataclass
class _Seen:
    """When an actor answered last, or was last known to be started again, and whether it has answered since then."""

    at: float
    has_answered: bool = False


class Supervisor:
    """Keep every replica of every shard and every writer running, and say where they are.

    They are named and detached, so a supervisor that was restarted finds those that were made before.
    """

    def __init__(self, root: Location, plans: Sequence[Plan]) -> None:
        self._root = root
        self._placed = {plan.collection: _place(root, plan) for plan in plans}
        self._seen: dict[ActorHandle, _Seen] = {}
        self._tasks = [asyncio.ensure_future(self._watch())]
        if not root.is_local:
            self._tasks += [asyncio.ensure_future(self._poll_token(plan)) for plan in plans]

    async def routes(self) -> Routes:
        """The replicas of every shard of every collection."""
        return {name: placed.shards for name, placed in self._placed.items()}

    async def wait_until_loaded(self) -> dict[str, str]:
        """Return when every replica and writer answers. What cannot be loaded is taken away: reasons by collection."""
        names = list(self._placed)
        reasons = await asyncio.gather(*(_failure_of(self._placed[name]) for name in names))
        failed = {name: reason for name, reason in zip(names, reasons, strict=True) if reason is not None}
        for name in failed:
            for actor in self._placed.pop(name).actors():
                ray.kill(actor)
        return failed

    async def status(self) -> dict[str, list[list[ShardStatus | None]]]:
        """What every replica says of itself; None for one that does not answer within a second."""
        placed = list(self._placed.items())
        answers = await asyncio.gather(*(_statuses(one.shards) for _, one in placed))
        return {name: answer for (name, _), answer in zip(placed, answers, strict=True)}

    async def _poll_token(self, plan: Plan) -> None:
        """Tell the shards when the token changed: writers of other clusters, and jobs, cannot."""
        location = self._root / plan.collection / plan.version / "token"
        version: Version | None = None
        while plan.collection in self._placed:
            await asyncio.sleep(REMOTE_TOKEN_POLL_S)
            try:
                changed = await asyncio.to_thread(storage.read_if_changed, location, version)
            except LookalikeError:
                logger.warning("cannot read %s", location, exc_info=True)
                continue
            if changed is not None and plan.collection in self._placed:
                version = changed[1]
                for replicas in self._placed[plan.collection].shards:
                    for replica in replicas:
                        replica.notify.remote()

    async def _watch(self) -> None:
        """Kill actors that hang; Ray starts them again, as it does those that die by themselves."""
        while True:
            await asyncio.sleep(WATCH_S)
            try:
                actors = [actor for placed in self._placed.values() for actor in placed.actors()]
                await asyncio.gather(*(self._look_at(actor) for actor in actors))
            except Exception:  # whatever it is: nobody else would restart what hangs
                logger.exception("cannot watch the shards")

    async def _look_at(self, actor: ActorHandle) -> None:
        seen = self._seen.setdefault(actor, _Seen(time.monotonic()))
        try:
            await asyncio.wait_for(actor.ready.remote(), ANSWER_S)
        except RayActorError:  # it died; Ray starts it again, and it loads
            self._seen[actor] = _Seen(time.monotonic())
        except RayTaskError:  # it cannot load, and says so
            seen.at = time.monotonic()
        except TimeoutError:
            if time.monotonic() - seen.at > (HUNG_S if seen.has_answered else LOADING_S):
                logger.error("%s hangs: restarting it", actor)
                ray.kill(actor, no_restart=False)
                self._seen[actor] = _Seen(time.monotonic())
        else:
            seen.at, seen.has_answered = time.monotonic(), True


def start_supervisor(root: Location, plans: Sequence[Plan]) -> ActorHandle:
    """Start the supervisor and, through it, the shards; or find the one that runs."""
    actor = ray.remote(num_cpus=0, max_restarts=-1)(Supervisor)
    options = actor.options(name=NAME, namespace=NAMESPACE, lifetime="detached", get_if_exists=True)
    return options.remote(root, tuple(plans))


def find_supervisor() -> ActorHandle:
    """Find the supervisor of this cluster."""
    return ray.get_actor(NAME, namespace=NAMESPACE)


def replica_name(plan: Plan, shard: int, replica: int) -> str:
    """The name of a replica in Ray. No part of it holds a slash, so no two have the same."""
    return f"{plan.collection}/{plan.version}/shard-{shard}-of-{len(plan.shards)}/replica-{replica}"


def _place(root: Location, plan: Plan) -> _Placed:
    shards = [
        [_replica(root, plan, shard, replica) for replica in range(plan.replicas)] for shard in range(len(plan.shards))
    ]
    return _Placed(plan, shards, _writer(root, plan, shards))


def _replica(root: Location, plan: Plan, shard: int, replica: int) -> ActorHandle:
    # SPREAD puts the replicas of a shard on different nodes where there are any. Four threads: a search, a look-up of
    # codes, a call for the status, and a notification.
    actor = ray.remote(num_cpus=0, max_restarts=-1, max_concurrency=4)(ShardActor)
    return actor.options(
        name=replica_name(plan, shard, replica),
        namespace=NAMESPACE,
        lifetime="detached",
        get_if_exists=True,
        scheduling_strategy="SPREAD",
    ).remote(root, plan.collection, plan.version, plan.shards[shard], plan.threads)


def _writer(root: Location, plan: Plan, shards: Sequence[Sequence[ActorHandle]]) -> ActorHandle:
    # Two threads commit: while one waits for its fsyncs, or for an object store, the other prepares. The third answers
    # the supervisor.
    actor = ray.remote(num_cpus=0, max_restarts=-1, max_concurrency=3)(WriterActor)
    return actor.options(
        name=writer_name(plan.collection, plan.version), namespace=NAMESPACE, lifetime="detached", get_if_exists=True
    ).remote(root, plan.collection, plan.version, [replica for replicas in shards for replica in replicas])


async def _failure_of(placed: _Placed) -> str | None:
    """Wait until all actors of a collection have loaded. Returns why they could not; None if they have."""
    outcomes = await asyncio.gather(*(actor.ready.remote() for actor in placed.actors()), return_exceptions=True)
    for error in outcomes:
        if isinstance(error, RayTaskError):
            return str(error.cause)
        if isinstance(error, RayError):
            return f"a process that should hold it ended while it loaded ({type(error).__name__}); is memory short?"
        if isinstance(error, BaseException):
            raise error
    return None


async def _statuses(shards: Sequence[Sequence[ActorHandle]]) -> list[list[ShardStatus | None]]:
    return await asyncio.gather(
        *(asyncio.gather(*(_status(replica.status.remote()) for replica in replicas)) for replicas in shards)
    )


async def _status(answer: Awaitable[ShardStatus]) -> ShardStatus | None:
    try:
        return await asyncio.wait_for(answer, ANSWER_S)
    except (TimeoutError, RayError):
        return None
