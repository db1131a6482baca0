"""What the routes work with: the collections, and how to read the status of every shard."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, cast

from fastapi import Depends, Request

from lookalike.actors.shard import ShardStatus
from lookalike.cluster.coordinator.collection import Collection
from lookalike.errors import LookalikeError

# Per collection and shard, what each replica says; None for one that does not answer.
Statuses = Mapping[str, Sequence[Sequence[ShardStatus | None]]]


class UnknownCollectionError(LookalikeError):
    """There is no such collection. Arguments: the name in the request, the names there are."""

    def __str__(self) -> str:
        return "there is no collection {!r}; there are: {}".format(self.args[0], ", ".join(self.args[1]) or "none")


@dataclass(frozen=True)
class ServerState:
    """The collections by name, and how to read the status of their shards."""

    collections: Mapping[str, Collection]
    shard_statuses: Callable[[], Awaitable[Statuses]]


async def _state(request: Request) -> ServerState:
    return cast(ServerState, request.app.state.server)


State = Annotated[ServerState, Depends(_state)]


async def _chosen(state: State, collection: str) -> Collection:
    if collection not in state.collections:
        raise UnknownCollectionError(collection, sorted(state.collections))
    return state.collections[collection]


ChosenCollection = Annotated[Collection, Depends(_chosen)]
"""The collection that the path names."""
