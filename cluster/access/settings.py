"""Settings of access, and what follows from them."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from lookalike.cluster.access.hosts import is_loopback, parse_allowed
from lookalike.cluster.access.key_ring import Caller, KeyRing
from lookalike.cluster.access.keys import ApiKey
from lookalike.cluster.access.rate import RateLimit, TokenBucket
from lookalike.cluster.access.roles import Role, role_of
from lookalike.errors import LookalikeError
from lookalike.storage import Location, private


class UnprotectedServer(LookalikeError):
    """Beyond loopback, without keys, and nobody said that this is meant. Argument: the host."""

    def __str__(self) -> str:
        return (
            "{} is reached from other machines, and there are no API keys: give --keys FILE (`lookalike keys add` "
            "makes one) or LOOKALIKE_API_KEYS, or say with --anonymous read, write or admin what everybody who reaches "
            "it may do"
        ).format(*self.args)


class AccessSettings(BaseModel):
    """Who may do what."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    keys: tuple[ApiKey, ...] = Field(default=(), description="Those of the environment.")
    keys_file: str | None = Field(
        default=None, description="A file of keys on this machine, which may change at any time."
    )
    anonymous: Literal["none", "read", "write", "admin"] | None = Field(
        default=None,
        description="The role of requests without a key; if not given, admin on loopback without keys, else none.",
    )
    anonymous_limit: RateLimit | None = Field(default=None, description="Of all requests without a key together.")
    allowed_hosts: tuple[str, ...] = Field(default=(), description="Names under which it is reached, beside its own.")
    audit_log: str | None = Field(
        default=None, description="A file on this machine to which a line is added for every write."
    )

    @field_validator("allowed_hosts")
    @classmethod
    def _parse_hosts(cls, hosts: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(map(parse_allowed, hosts))

    @property
    def audit_file(self) -> Location | None:
        """Where writes are recorded, beside the log."""
        return None if self.audit_log is None else Location.parse(self.audit_log)

    def key_ring(self, *, must_read: bool = True) -> KeyRing | None:
        """Read the keys, see ``KeyRing``; None: there are to be none."""
        if self.keys_file is None:
            return KeyRing(self.keys, None) if self.keys else None
        return KeyRing(self.keys, Location.parse(self.keys_file), must_read=must_read)

    def anonymous_caller(self, host: str) -> Caller:
        """What requests without a key may do, of a server that listens on ``host``.

        Raises
        ------
        UnprotectedServer
        """
        limit = self.anonymous_limit
        return Caller(None, self._anonymous_role(host), None if limit is None else TokenBucket(limit))

    def check(self, host: str) -> None:
        """Raise now what would keep a server from starting.

        Raises
        ------
        UnprotectedServer, NotFound, StorageUnavailable, BadKeys
        """
        self.key_ring()
        self._anonymous_role(host)
        if self.audit_file is not None:
            private.open_to_append(self.audit_file).close()

    def _anonymous_role(self, host: str) -> Role:
        if self.anonymous is not None:
            return role_of(self.anonymous)
        if self.keys or self.keys_file is not None:
            return Role.NONE
        if not is_loopback(host):
            raise UnprotectedServer(host)
        return Role.ADMIN
