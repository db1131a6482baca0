"""What the routes work with: the collections, and how to read the status of every shard."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, cast

from fastapi import Depends, Request

from lookalike.actors.shard import ShardStatus
from lookalike.cluster.coordinator.collection import ServedCollection
from lookalike.cluster.coordinator.warm_up import WarmUp
from lookalike.errors import LookalikeError

# Per collection and shard, what each replica says; None for one that does not answer.
Statuses = Mapping[str, Sequence[Sequence[ShardStatus | None]]]


class UnknownCollectionError(LookalikeError):
    """There is no such collection. Arguments: the name in the request, the names there are."""

    def __str__(self) -> str:
        return "there is no collection {!r}; there are: {}".format(self.args[0], ", ".join(self.args[1]) or "none")


class CollectionUnavailableError(LookalikeError):
    """The collection could not be opened when the server was started. Arguments: its name, why."""

    def __str__(self) -> str:
        return "the collection {!r} is not served: {}".format(*self.args)


@dataclass(frozen=True)
class ServerState:
    """The collections by name, how to read the status of their shards, and why others are not served, by name.

    ``warm_up`` runs when the app starts.
    """

    collections: Mapping[str, ServedCollection]
    shard_statuses: Callable[[], Awaitable[Statuses]]
    unavailable: Mapping[str, str] = field(default_factory=dict)
    warm_up: WarmUp = field(default_factory=WarmUp)

    def collection(self, name: str) -> ServedCollection:
        """Find a collection by the name in a path.

        Raises
        ------
        UnknownCollectionError, CollectionUnavailableError
        """
        if name in self.unavailable:
            raise CollectionUnavailableError(name, self.unavailable[name])
        if name not in self.collections:
            raise UnknownCollectionError(name, sorted(self.collections))
        return self.collections[name]


def state_of(request: Request) -> ServerState:
    """The state of the app that answers a request."""
    return cast(ServerState, request.app.state.server)


async def _state(request: Request) -> ServerState:
    return state_of(request)


State = Annotated[ServerState, Depends(_state)]


async def _chosen(state: State, collection: str) -> ServedCollection:
    return state.collection(collection)


ChosenCollection = Annotated[ServedCollection, Depends(_chosen)]
"""The collection that the path names."""
