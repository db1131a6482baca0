"""The replicas of one shard as one thing to call: round robin, and failover to the next when one is lost or late."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from lookalike.errors import LookalikeError

RequestT = TypeVar("RequestT")
ReplyT = TypeVar("ReplyT")

# Calls one replica with a batch; raises ReplicaLostError where that replica cannot answer.
Replica = Callable[[Sequence[RequestT]], Awaitable[Sequence[ReplyT]]]


class ReplicaLostError(LookalikeError):
    """One replica has stopped or is restarting; another may answer. Argument: the reason."""


class ShardUnavailableError(LookalikeError):
    """No replica of a shard answered in time. Argument: the reason of each."""


class ReplicaSet(Generic[RequestT, ReplyT]):
    """Replicas that hold the same rows: each call goes to the next in turn, and to the others where that one fails.

    Parameters
    ----------
    replicas : sequence of Replica
        At least one.
    timeout_s : float
        How long a call waits for each replica.
    """

    def __init__(self, replicas: Sequence[Replica[RequestT, ReplyT]], timeout_s: float) -> None:
        self._replicas = replicas
        self._timeout_s = timeout_s
        self._next = 0

    async def __call__(self, batch: Sequence[RequestT]) -> Sequence[ReplyT]:
        """Answer a batch, in its order.

        Raises
        ------
        ShardUnavailableError
            Every replica is lost or late.
        """
        first, self._next = self._next, (self._next + 1) % len(self._replicas)
        failures: list[str] = []
        for replica in (*self._replicas[first:], *self._replicas[:first]):
            try:
                return await asyncio.wait_for(replica(batch), self._timeout_s)
            except ReplicaLostError as error:
                failures.append(str(error))
            except TimeoutError:
                failures.append(f"no answer within {self._timeout_s:g} s")
        raise ShardUnavailableError("; ".join(failures))
