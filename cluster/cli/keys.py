"""Commands for the file of API keys."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from lookalike.cluster.access.roles import ROLES
from lookalike.cluster.cli.options import AS_JSON, PATH, parse_limit
from lookalike.storage import Location

if TYPE_CHECKING:
    from lookalike.cluster.access.rate import RateLimit

FILE = click.option("--file", required=True, type=PATH, help="The file of keys: `lookalike serve --keys FILE`.")


@click.group()
def keys() -> None:
    """Make and revoke API keys. Servers that read the file follow within a second."""


@keys.command()
@click.argument("name")
@FILE
@click.option(
    "--role", required=True, type=click.Choice(ROLES), help="read: search; write: put and delete, too; admin: all."
)
@click.option("--limit", callback=parse_limit, metavar="RATE[:BURST]", help="Requests a second, and at once.")
def add(name: str, file: Path, role: Literal["read", "write", "admin"], limit: RateLimit | None) -> None:
    """Make a key for NAME and print it. It is shown this once: the file has its hash alone."""
    from lookalike.cluster.access.keys import add_key

    click.echo(add_key(_location(file), name, role, limit))


@keys.command("list")
@FILE
@AS_JSON
def list_keys(file: Path, as_json: bool) -> None:
    """Show whose keys there are, their roles and limits."""
    from lookalike.cluster.access.keys import read_keys

    known, _ = read_keys(_location(file))
    for key in known:
        if not as_json:
            click.echo(f"{key.name}  {key.role}" + (f"  {key.limit}" if key.limit else ""))
    if as_json:
        shown = [key.model_dump(exclude={"sha256"}, exclude_none=True) for key in known]
        click.echo(json.dumps(shown))


@keys.command()
@click.argument("name")
@FILE
def remove(name: str, file: Path) -> None:
    """Revoke the key of NAME."""
    from lookalike.cluster.access.keys import remove_key

    remove_key(_location(file), name)


def _location(file: Path) -> Location:
    return Location.parse(file.absolute())
