"""Options of the commands that serve: who may do what."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lookalike.cluster.access.roles import ROLES
from lookalike.cluster.cli.options import PATH, parse_limit

if TYPE_CHECKING:
    from lookalike.cluster.access.rate import RateLimit

_OPTIONS = (
    click.option(
        "--keys",
        "keys_file",
        type=PATH,
        metavar="FILE",
        help="API keys, as `lookalike keys` writes them; read again when it changes. LOOKALIKE_API_KEYS in the "
        "environment, name:role:key,..., adds to them.",
    ),
    click.option(
        "--anonymous",
        type=click.Choice(["none", *ROLES]),
        help="What everybody who reaches the server may do without a key [default: admin on loopback if there are no "
        "keys, else none].",
    ),
    click.option(
        "--anonymous-limit",
        callback=parse_limit,
        metavar="RATE[:BURST]",
        help="Requests a second, and at once, of all without a key together.",
    ),
    click.option(
        "--allowed-host",
        "allowed_hosts",
        multiple=True,
        metavar="NAME",
        help="A name under which the server is reached, beside its own; *.NAME: all below it; *: any.",
    ),
    click.option("--audit-log", type=PATH, metavar="FILE", help="Add a line of JSON to it for every write."),
)


def access_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options to a command, which gets what they say as ``access``: values for ``AccessSettings``."""

    @functools.wraps(command)
    def with_access(
        keys_file: Path | None,
        anonymous: str | None,
        anonymous_limit: RateLimit | None,
        allowed_hosts: Sequence[str],
        audit_log: Path | None,
        **others: Any,
    ) -> None:
        from lookalike.cluster.access.keys import ENVIRONMENT, keys_from_environment

        access = {
            # Out of the environment: the processes that a server starts inherit it, and all they need is the hashes.
            "keys": keys_from_environment(os.environ.pop(ENVIRONMENT, "")),
            "keys_file": keys_file and str(keys_file.absolute()),
            "anonymous": anonymous,
            "anonymous_limit": anonymous_limit,
            "allowed_hosts": allowed_hosts,
            "audit_log": audit_log and str(audit_log.absolute()),
        }
        command(**others, access=access)

    for option in reversed(_OPTIONS):
        with_access = option(with_access)
    return with_access
